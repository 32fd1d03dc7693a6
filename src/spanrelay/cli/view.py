"""Show a trajectory, or a folder of them, as a page in the browser."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import webbrowser
from collections.abc import Iterable
from pathlib import Path

from spanrelay._voice import say
from spanrelay.assembly.sinks import write_whole
from spanrelay.cli import files
from spanrelay.errors import SpanRelayError
from spanrelay.view import document, page
from spanrelay.view.beside import Beside
from spanrelay.view.folder import Folder

INDEX = "index.html"
PAGES = 500
"""Documents that have pages of their own beside an index."""

EXAMPLES = (
    "spanrelay view                  # the newest trajectory, in the browser",
    "spanrelay view 2 -o run.html    # the one before, as a file",
    "spanrelay view runs -o pages/   # of a folder: an index, and a page for each",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser what `view` takes."""
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="WHICH",
        help="a trajectory, as `spanrelay show` takes it (default: the newest written here); of several, or of a "
        "folder, an index",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="WHERE",
        help="write to a file such as page.html, a folder (an index, and a page for each of the newest "
        f"{PAGES} beside it), or - for stdout, and open no browser",
    )


def run(options: argparse.Namespace) -> int:
    """Write the page and open it, or say where it is; returns 1 where a document of several cannot be read."""
    places: list[str] = options.paths or ["latest"]
    if len(places) == 1 and not Path(places[0]).is_dir():
        path = files.find(places[0])
        _put(_document(path), options.output, f"{path.stem}.html")
        return 0
    return _several(places, options.output)


def _document(path: Path) -> Iterable[bytes]:
    shown = document.read(files.trajectory(path), path, Beside(path, files.trajectory))
    return page.render("document.html", page=shown)


def _several(places: list[str], output: str | None) -> int:
    """Write the index of several documents, and the pages of the newest of them where there is a place for them."""
    newest_first = list(files.each(places))[::-1]
    folder, index = Folder(), _folder_for(output)
    for path in newest_first:
        name = f"{len(folder.lines) + 1}.html" if index is not None and len(folder.lines) < PAGES else ""
        try:
            read = files.trajectory(path)
            if index is not None and name:
                shown = document.read(read, path, Beside(path, files.trajectory))
                _write(index / name, page.render("document.html", page=shown))
            folder.add(read, path, path.name, name)
        except SpanRelayError as error:
            say(str(error))
            folder.add_fault(path.name, str(error))
    pieces = page.render("folder.html", page=folder.page(", ".join(places)))
    if index is None or output is not None:
        _put(pieces, output if index is None else str(index / INDEX), INDEX)
    else:
        _show(index / INDEX, pieces)
    return 1 if folder.unreadable else 0


def _folder_for(output: str | None) -> Path | None:
    """Return the folder that an index and its pages go to; None where one file is all that is asked for."""
    if output is None:
        return Path(tempfile.mkdtemp(prefix="spanrelay-"))  # readable by its owner alone
    path = Path(output)
    named = path.is_dir() or (not path.exists() and (output.endswith(("/", os.sep)) or not path.suffix))
    return path if output != "-" and named else None


def _put(pieces: Iterable[bytes], output: str | None, name: str) -> None:
    """Write a page where it was asked for; else show it."""
    if output == "-":
        sys.stdout.buffer.writelines(pieces)
    elif output is None:
        _show(Path(tempfile.mkdtemp(prefix="spanrelay-")) / name, pieces)
    else:
        path = Path(output) / name if Path(output).is_dir() else Path(output)
        _write(path, pieces)
        print(path)


def _show(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a page and show it in the browser of this desktop."""
    _write(path, pieces)
    print(path)
    sys.stdout.flush()
    if not webbrowser.open(path.as_uri()):
        say("no browser could be opened here; open the file, or write it to another place with `-o page.html`")


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a page, whole or not at all, readable by its owner alone: it says what was recorded."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, b"".join(pieces), sync=False)
    except OSError as error:
        raise SpanRelayError(f"{str(path)!r} cannot be written to: {error.strerror or error}") from error
