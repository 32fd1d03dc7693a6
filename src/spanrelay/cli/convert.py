"""Make trajectories of recorded telemetry, whoever recorded it.

Files of OTLP (JSON or protobuf, also gzip or zstd), of spans that Python's SDK printed, the transcripts that Claude
Code, Codex, Gemini CLI and Qwen Code keep of their sessions, trajectories that others wrote, and folders of such.
"""

from __future__ import annotations

import argparse
import glob
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from spanrelay import config
from spanrelay._masking import mask_bytes
from spanrelay._voice import say
from spanrelay.cli.printing import shown_progress
from spanrelay.conversion import work
from spanrelay.conversion.crew import collect_seldom
from spanrelay.conversion.documents import Folder
from spanrelay.conversion.work import Source, Summary
from spanrelay.errors import SpanRelayError
from spanrelay.otlp_in import files
from spanrelay.report import counted

_MOST_SHOWN = 20
"""Findings that are printed one by one, and scopes that are named."""

EXAMPLES = (
    "spanrelay convert otlp/ -o runs/",
    "spanrelay convert 'traces-*.json' --to openinference -o spans/",
    "spanrelay convert - -o runs/ < export.jsonl",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser what `convert` takes."""
    parser.add_argument(
        "sources", nargs="+", metavar="SRC", help="a file, a folder, a pattern such as 'otlp/*.json', or - for stdin"
    )
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="the folder to write trajectories into")
    parser.add_argument(
        "--to",
        choices=("atif", "genai", "openinference"),
        default="atif",
        help="trajectories (the default), or the same spans in another dialect, as OTLP JSON",
    )
    parser.add_argument(
        "--jobs", type=_count, metavar="N", help="how many processes work; by default one, and all cores above 64 MB"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace documents that are there and differ")


def run(options: argparse.Namespace) -> int:
    """Convert, and print what came of it; returns 1 where something could not be read or written."""
    settings = config.load()[0]
    skipped: list[Path] = []
    sources = list(_sources(options.sources, Path(options.output), skipped))
    folder = Folder(Path(options.output), overwrite=options.overwrite, mask=mask_bytes)
    jobs = options.jobs or _jobs_for(sources)
    collect_seldom()
    form = settings.atif_version if options.to == "atif" else options.to
    with shown_progress(sys.stderr) as tell:
        across = settings.sessions_across_services
        summary = work.convert(sources, folder, form=form, jobs=jobs, across_services=across, tell=tell)
    _print(summary, "trajectories" if options.to == "atif" else "files of spans", folder.path, len(skipped))
    return 1 if summary.findings else 0


_WORTH_JOBS = 64 << 20
"""Bytes of input from which several processes are done sooner than one."""


def _count(value: str) -> int:
    number = int(value)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number of processes from 1, not {value!r}")
    return number


def _jobs_for(sources: list[Source]) -> int:
    size = sum(source.stat().st_size for source in sources if isinstance(source, Path))
    return (os.cpu_count() or 1) if size > _WORTH_JOBS else 1


def _sources(given: list[str], output: Path, skipped: list[Path]) -> Iterator[Source]:
    """Yield the files meant; those in folders that are no telemetry are `skipped`, and those within `output` no source.

    Raises:
        SpanRelayError: there is none.
    """
    written = output.resolve()
    for place in given:
        path = Path(place)
        if place == "-":
            yield "stdin", sys.stdin.buffer
        elif path.is_dir():
            found = sorted(each for each in path.rglob("*") if each.is_file() and not _is_hidden(each, path))
            found = [each for each in found if not each.resolve().is_relative_to(written)]
            telemetry = [each for each in found if files.is_telemetry(each)]
            skipped += [each for each in found if each not in telemetry]
            if not telemetry:
                raise SpanRelayError(f"there is no telemetry in {place!r}; name a folder that it was written to")
            yield from telemetry
        elif path.exists():
            yield path
        else:
            matching = sorted(Path(each) for each in glob.glob(place, recursive=True))
            if not matching:
                raise SpanRelayError(f"there is no file {place!r}; name a file, a folder or a pattern")
            yield from (each for each in matching if each.is_file())


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _print(summary: Summary, made: str, folder: Path, skipped: int) -> None:
    for finding in summary.findings[:_MOST_SHOWN]:
        say(str(finding))
    if len(summary.findings) > _MOST_SHOWN:
        say(f"and {len(summary.findings) - _MOST_SHOWN} more findings")
    counts = {
        "spans": summary.spans,
        "log records": summary.logs,
        "lines of transcripts or trajectories": summary.lines,
    }
    read = " and ".join(counted(count, what) for what, count in counts.items() if count) or "0 spans"
    same = f" ({summary.unchanged} there already)" if summary.unchanged else ""
    total = summary.documents + summary.unchanged
    steps = f", {counted(summary.steps, 'steps')}" if summary.steps else ""
    sessions = counted(summary.sessions, "sessions")
    print(f"{read} read: {counted(total, made)}{same} of {sessions}{steps}, in {folder}")
    if skipped:
        say(f"passed over, since not telemetry: {counted(skipped, 'files')} in the folders")
    if summary.silent:
        scopes = ", ".join(f"{count} of {scope!r}" for scope, count in summary.unknown.most_common(_MOST_SHOWN))
        say(f"spans and log records that tell of no model and no tool that we know, so no trajectory: {scopes}")
