"""Make trajectories of recorded telemetry, whoever recorded it.

Files of OTLP (JSON or protobuf, also gzip or zstd), of spans that Python's SDK printed, and folders of such.
"""

from __future__ import annotations

import argparse
import glob
import sys
from collections.abc import Iterator
from pathlib import Path

from spanrelay import config
from spanrelay._voice import say
from spanrelay.conversion import work
from spanrelay.conversion.documents import Folder
from spanrelay.conversion.work import Source, Summary
from spanrelay.errors import SpanRelayError
from spanrelay.observation.masking import mask_bytes

_MOST_SHOWN = 20
"""Findings that are printed one by one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser what `convert` takes."""
    parser.add_argument(
        "sources", nargs="+", metavar="SRC", help="a file, a folder, a pattern such as 'otlp/*.json', or - for stdin"
    )
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="the folder to write trajectories into")
    parser.add_argument("--overwrite", action="store_true", help="replace documents that are there and differ")


def run(options: argparse.Namespace) -> int:
    """Convert, and print what came of it; returns 1 where something could not be read or written."""
    settings = config.load()[0]
    sources = list(_sources(options.sources))
    folder = Folder(Path(options.output), overwrite=options.overwrite, mask=mask_bytes)
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpanRelayError(f"{options.output!r} cannot be written to: {error.strerror or error}") from error
    summary = work.convert(sources, folder, version=settings.atif_version)
    _print(summary, folder.path)
    return 1 if summary.findings else 0


def _sources(given: list[str]) -> Iterator[Source]:
    """Yield the files meant. Raises `SpanRelayError` where there is none."""
    for place in given:
        path = Path(place)
        if place == "-":
            yield "stdin", sys.stdin.buffer
        elif path.is_dir():
            found = sorted(each for each in path.rglob("*") if each.is_file() and not _is_hidden(each, path))
            if not found:
                raise SpanRelayError(f"there is no file in {place!r}; name a folder that telemetry was written to")
            yield from found
        elif path.exists():
            yield path
        else:
            matching = sorted(Path(each) for each in glob.glob(place, recursive=True))
            if not matching:
                raise SpanRelayError(f"there is no file {place!r}; name a file, a folder or a pattern")
            yield from (each for each in matching if each.is_file())


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _print(summary: Summary, folder: Path) -> None:
    for finding in summary.findings[:_MOST_SHOWN]:
        say(str(finding))
    if len(summary.findings) > _MOST_SHOWN:
        say(f"and {len(summary.findings) - _MOST_SHOWN} more findings")
    read = f"{summary.spans} spans" + (f" and {summary.logs} log records" if summary.logs else "")
    same = f" ({summary.unchanged} were there already)" if summary.unchanged else ""
    total = summary.documents + summary.unchanged
    print(f"{read} read: {total} trajectories{same} of {summary.sessions} sessions, {summary.steps} steps, in {folder}")
    if summary.silent:
        say(f"{summary.silent} spans and log records tell of no model and no tool that we know: no trajectory of them")
