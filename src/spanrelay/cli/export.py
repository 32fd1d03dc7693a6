"""Write trajectories as rows that trainers read: JSON lines, sub-agents as rows of their own, secrets masked."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

from spanrelay._masking import mask_value
from spanrelay._voice import say
from spanrelay.assembly.atif import AtifError
from spanrelay.cli import files
from spanrelay.errors import SpanRelayError
from spanrelay.evaluation.export import CHARACTERS_OF_A_TOKEN, FORMATS, Export, Wish
from spanrelay.view.facts import plural

EXAMPLES = (
    "spanrelay export runs/ --to trl -o train.jsonl --only-successful",
    "spanrelay export latest --to openai-messages -o -",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser what `export` takes."""
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="WHICH",
        help="trajectories, as `spanrelay show` takes them, and folders: all in them",
    )
    parser.add_argument("--to", required=True, choices=FORMATS, metavar="FORMAT", help=f"one of {', '.join(FORMATS)}")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="WHERE",
        help="a file such as train.jsonl, a folder (a file for each trajectory), or - for stdout",
    )
    parser.add_argument("--only-successful", action="store_true", help="leave out runs that failed")
    parser.add_argument("--max-tokens", type=_count, metavar="N", help="leave out rows that are longer")
    parser.add_argument("--agent", metavar="NAME", help="only conversations of this agent, sub-agents too")
    parser.add_argument("--no-reasoning", action="store_true", help="leave out what models thought")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of tokens: expected a whole number from 1")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """Write, and say what was left out and why; returns 1 where a document cannot be read, or no row is left."""
    wish = Wish(options.to, options.only_successful, options.max_tokens, options.agent, not options.no_reasoning)
    export, unreadable = Export(wish, mask_value), 0
    paths = list(files.each(options.paths))
    try:
        with _place(options.output) as place:
            for path in paths:
                try:
                    place.write(path, export.lines(files.read(path), path))
                except AtifError as error:
                    say(f"{str(path)!r} is not an ATIF trajectory: {error}; see `spanrelay validate`")
                    unreadable += 1
                except files.NoTrajectory as error:
                    say(str(error))
                    unreadable += 1
    except BrokenPipeError:
        raise
    except OSError as error:
        raise SpanRelayError(f"{options.output!r} cannot be written to: {error.strerror or error}") from error
    _print_summary(export, options.output)
    return 1 if unreadable or not export.rows else 0


def _print_summary(export: Export, output: str) -> None:
    stream = sys.stderr if output == "-" else sys.stdout
    documents = plural(export.documents, "trajectory").replace("ys", "ies")
    print(f"{plural(export.rows, 'row')} of {documents} in {output}", file=stream)
    for why, count in export.left_out.most_common():
        print(f"left out {count}: {why}", file=stream)
    if export.masked:
        print(f"credentials masked in {export.masked} of {documents}", file=stream)
    if export.estimated:
        words = f"estimated at {CHARACTERS_OF_A_TOKEN} characters a token, since no model has counted"
        print(f"length of {plural(export.estimated, 'row')} {words}", file=stream)


# ── where rows go


class _Place(Protocol):
    def write(self, path: Path, lines: Iterator[bytes]) -> None:
        """Write the rows of one document."""
        ...


class _File:
    """One file for all rows."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, path: Path, lines: Iterator[bytes]) -> None:
        self._stream.writelines(lines)


class _Folder:
    """A file for each document that has rows, by its name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: set[str] = set()

    def write(self, path: Path, lines: Iterator[bytes]) -> None:
        content = b"".join(lines)
        if not content:
            return
        name, number = path.stem, 2
        while name in self._names:
            name, number = f"{path.stem}-{number}", number + 1
        self._names.add(name)
        with _written(self._folder / f"{name}.jsonl") as stream:
            stream.write(content)


@contextlib.contextmanager
def _place(output: str) -> Generator[_Place, None, None]:
    path = Path(output)
    if output == "-":
        yield _File(sys.stdout.buffer)
    elif path.is_dir() or (not path.exists() and (output.endswith(("/", os.sep)) or not path.suffix)):
        path.mkdir(parents=True, exist_ok=True)
        yield _Folder(path)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _written(path) as stream:
            yield _File(stream)


def _written(path: Path) -> AbstractContextManager[BinaryIO]:
    """Open a file that is readable by its owner alone: rows are what was recorded."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
