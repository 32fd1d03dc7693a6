"""`python -m benchmarks [--json FILE] [--quick] [--peers | --against REV] [row …]`: measure, and print the table.

`python -m benchmarks cache` measures no time: it prints what marks of prompt caches save; with `--peers`, what
NeMo Relay's own package does.

Nothing passes or fails here by its figures: times depend on the machine, and only ratios of one run mean something.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import against, builds, peers, rows
from benchmarks.measure import FULL, QUICK
from benchmarks.results import Result, table
from benchmarks.rows import ROWS
from benchmarks.sdks import SDKS


def main(argv: list[str] | None = None) -> int:
    """Run the rows that were asked for and print their table; return 1 where a row of this tree failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.split("\n")[0])
    parser.add_argument("rows", nargs="*", metavar="row", help=f"of {', '.join(ROWS)}; all by default")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the results there as well")
    parser.add_argument("--quick", action="store_true", help="only prove that every row runs")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--peers", action="store_true", help=f"other instrumentations at {', '.join(peers.ROWS)}")
    other.add_argument("--against", metavar="REV", help="this tree and a revision of it, as git names it, in turn")
    chosen = parser.parse_args(argv)
    if chosen.rows == ["cache"]:
        from benchmarks import saving  # a build without what it needs can be measured by the others

        print(saving.report_of_relay() if chosen.peers else saving.reports())
        return 0
    known = peers.ROWS if chosen.peers else tuple(ROWS)
    unknown = [row for row in chosen.rows if row not in known]
    if unknown:
        parser.error(f"no row {unknown[0]!r}; expected some of {', '.join(known)}, or cache alone")
    try:
        measured = _measured(chosen, chosen.rows or known)
    except builds.NoBuild as reason:
        parser.error(str(reason))
    if chosen.json is not None:
        machine = {"python": platform.python_version(), "machine": platform.machine()}
        document = {"measured_on": machine, **measured}
        chosen.json.write_text(json.dumps(document, indent=1, ensure_ascii=False))
    return 1 if measured.get("failures") else 0


def _measured(chosen: argparse.Namespace, asked: Sequence[str]) -> dict[str, Any]:
    if chosen.against is not None:
        return _against(chosen.against, asked, quick=chosen.quick)
    return (_peers if chosen.peers else _rows)(asked, quick=chosen.quick)


def _rows(asked: Sequence[str], *, quick: bool) -> dict[str, Any]:
    """Measure SpanRelay and print its table; return it as plain data."""
    results: list[Result] = []
    for row in asked:
        print(f"measuring {row} …", file=sys.stderr)
        here = row not in SDKS or SDKS[row].is_here
        results += rows.measure(row, QUICK if quick else FULL) if here else _beside_sdks(row, quick=quick)
    print(table(results))
    return {"results": [result.to_json() for result in results]}


def _beside_sdks(row: str, *, quick: bool) -> list[Result]:
    """Measure a row of an SDK that is not here in the environment in which peers are compared with us."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "results.json")
        options = (row, "--json", str(file), *(("--quick",) if quick else ()))
        peers.SPANRELAY.environment.run("benchmarks", *options, timeout=peers.TIMEOUT_S)
        return [Result.from_json(found) for found in json.loads(file.read_text())["results"]]


def _peers(asked: Sequence[str], *, quick: bool) -> dict[str, Any]:
    """Measure everybody and print their table; return it as plain data."""
    outcomes = peers.run_all(asked, quick=quick)
    print(peers.report(outcomes))
    return {"peers": [outcome.to_json() for outcome in outcomes]}


def _against(revision: str, asked: Sequence[str], *, quick: bool) -> dict[str, Any]:
    """Measure this tree and a revision and print their ratios; return them as plain data."""
    found = against.compare(builds.of_revision(revision), builds.this_tree(), asked, quick=quick)
    print(against.report(found))
    return found.to_json()


if __name__ == "__main__":
    sys.exit(main())
