"""`python -m spanrelay_testkit.conformance [FOLDER]`: the last line says `N passed of M`; 1 where any failed."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from spanrelay_testkit.conformance import report
from spanrelay_testkit.conformance.drivers import all_drivers
from spanrelay_testkit.conformance.page import figures_of, page
from spanrelay_testkit.conformance.suite import plan, trials_of
from spanrelay_testkit.conformance.trial import Trial

BESIDE = Path(__file__).parents[5] / "shared" / "traffic"
"""The folder beside the repository; it is never part of it."""


def options_of(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="spanrelay_testkit.conformance", description=main.__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="exchanges, as *.jsonl; by default those beside the clone")
    parser.add_argument("--page", type=Path, help="a file to write what docs/providers.md says")
    parser.add_argument("--only", default="", help="exchanges whose id begins so, or of this SDK")
    return parser.parse_args(argv)


def folder_of(argv: Sequence[str] | None) -> Path:
    """Return where the exchanges are that a command line asks for."""
    return options_of(argv).folder or BESIDE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the suite and say what came of it."""
    options, folder = options_of(argv), folder_of(argv)
    if not any(folder.glob("*.jsonl")):
        print(f"conformance: no recorded exchanges in {str(folder)!r}; skipped")
        return 0 if options.folder is None else 2
    trials = asyncio.run(run(folder, options.only))
    if options.page:
        options.page.write_text(page(all_drivers(), figures_of(trials)))
    passed, total = report.passed_of(trials)
    print(f"{passed} passed of {total}")
    return 0 if passed == total else 1


async def run(folder: Path, only: str) -> list[Trial]:
    """Try everything, and print the table."""
    made = plan(folder)
    if only:
        made.pairs = [pair for pair in made.pairs if pair[0].sdk == only or pair[1].id.startswith(only)]
        made.runs = [pair for pair in made.runs if pair[0].sdk == only or pair[1][0].id.startswith(only)]
    trials: list[Trial] = []
    async for trial in trials_of(made):
        trials.append(trial)
        for line in report.failures([trial]):
            print(line, flush=True)
    for line in (*report.unserved(made.unserved), "", *report.table(trials), ""):
        print(line)
    return trials


if __name__ == "__main__":
    sys.exit(main())
