"""Show a trajectory, or a folder of them, as a page in the browser."""

from __future__ import annotations

import argparse
import os
import shlex
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
    "spanrelay view --session trip-7 # every run of a session",
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
        "--session",
        metavar="ID",
        help="the trajectory of a session, or an index of its runs where it has several, in the folder named after it "
        "(default: where a program started here would write)",
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
    session: str | None = options.session
    places: list[str] = options.paths or ["latest"]
    name = ", ".join(places)
    if session is not None:
        places, name = _runs_of(session, options.paths), f"session {session}"
    if len(places) == 1 and not Path(places[0]).is_dir():
        path = files.find(places[0])
        _put(_document(path), options.output, f"{path.stem}.html")
        return 0
    return _several(places, name, options.output)


def _runs_of(session: str, places: list[str]) -> list[str]:
    """Return the trajectories of a session, the oldest first."""
    if len(places) > 1:
        raise SpanRelayError(f"--session looks in one folder, not in {len(places)}; name the one that has its runs")
    folder = Path(places[0]) if places else files.default_directory()
    files.newest_first(folder)  # says what is wrong where there is no folder, or nothing in it
    found = files.runs_of(session, folder)
    if not found:
        raise files.NoTrajectory(
            f"no trajectory of session {session!r} in {str(folder)!r}; `spanrelay list {shlex.quote(str(folder))}` "
            "names the sessions that are there"
        )
    return [str(path) for path in reversed(found)]


def _document(path: Path) -> Iterable[bytes]:
    shown = document.read(files.trajectory(path), path, Beside(path, files.trajectory))
    return page.render("document.html", page=shown)


def _several(places: list[str], name: str, output: str | None) -> int:
    """Write the index of several documents, and the pages of the newest of them where there is a place for them."""
    newest_first = list(files.each(places))[::-1]
    folder, index = Folder(), _folder_for(output)
    with files.Entries(places) as entries:
        for path in newest_first:
            file = f"{len(folder.lines) + 1}.html" if index is not None and len(folder.lines) < PAGES else ""
            try:
                if index is not None and file:
                    _write(index / file, _document(path))
                folder.add(entries.of(path), path.name, file)
            except SpanRelayError as error:
                say(str(error))
                folder.add_fault(path.name, str(error))
    pieces = page.render("folder.html", page=folder.page(name))
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
        write_whole(path, pieces, sync=False)
    except OSError as error:
        raise SpanRelayError(f"{str(path)!r} cannot be written to: {error.strerror or error}") from error
