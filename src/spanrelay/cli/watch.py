"""Watch the runs of a folder as they grow, in the terminal or in the browser."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO

from spanrelay.cli import files
from spanrelay.cli.stopping import Stop, stop_on_signals
from spanrelay.cli.told import Told
from spanrelay.errors import SpanRelayError
from spanrelay.view.live import Live

EXAMPLES = (
    "spanrelay watch                 # where a program started here would write",
    "spanrelay watch runs/ --web     # in the browser",
    "spanrelay watch > steps.log     # a line for each step",
)

INTERVAL_S = 0.5
"""Seconds between looks, at least."""
_IDLE = 9
"""Times that a folder is left alone for as long as looking took: in a large one that is a while."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser what `watch` takes."""
    parser.add_argument(
        "folder", nargs="?", metavar="FOLDER", help="where to look (default: where a program started here would write)"
    )
    parser.add_argument(
        "--web", action="store_true", help="show the pages of `spanrelay view` in the browser, as they grow"
    )
    parser.add_argument("--port", type=int, default=0, help="with --web, the port on 127.0.0.1 (default: a free one)")
    parser.add_argument("--no-browser", action="store_true", help="with --web, open none, and only print the address")


def run(options: argparse.Namespace) -> int:
    """Show the runs of a folder until SIGINT or SIGTERM.

    Raises:
        SpanRelayError: the folder is no folder or cannot be read, or nobody can listen at the port.
    """
    folder = Path(options.folder) if options.folder else files.default_directory()
    _check(folder)
    live = Live(folder, files.trajectory, files.looks_like_one)
    stopped = stop_on_signals()
    if options.web:
        from spanrelay.cli.website import show  # what the terminal does not need

        return show(live, options.port, stopped, browser=not options.no_browser)
    if _is_terminal(sys.stdout):
        from spanrelay.cli.board import shown_board

        with shown_board(live, sys.stdout) as show_now:
            _until(stopped, show_now)
        return 0
    told = Told(live, shutil.get_terminal_size().columns if sys.stdout.isatty() else None)
    _until(stopped, lambda: _print(told, sys.stdout))
    _print(told, sys.stdout)  # what was written while it rested
    return 0


def _check(folder: Path) -> None:
    """Say at once what will not become right: a folder that is not there yet may."""
    try:
        next(folder.iterdir(), None)
    except FileNotFoundError:
        return
    except OSError as error:
        raise SpanRelayError(f"the folder {str(folder)!r} cannot be read: {error.strerror or error}") from error


def _is_terminal(stream: TextIO) -> bool:
    """Whether what was written to a stream can be written over, and something is installed that does."""
    if not stream.isatty() or find_spec("rich") is None:
        return False
    from rich.console import Console

    return not Console(file=stream).is_dumb_terminal


def _until(stopped: Stop, look: Callable[[], object]) -> None:
    """Look again and again; the rests are finite, since one without end would keep signals waiting on Windows."""
    while True:
        begun = time.monotonic()
        look()
        if stopped.wait(max(INTERVAL_S, _IDLE * (time.monotonic() - begun))):
            return


def _print(told: Told, stream: TextIO) -> None:
    for line in told.news():
        print(line, file=stream)
    stream.flush()
