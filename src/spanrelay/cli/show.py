"""Print a trajectory as a tree."""

from __future__ import annotations

import argparse
import sys

from spanrelay._voice import say
from spanrelay.cli import files
from spanrelay.cli.outline import Limits, outline
from spanrelay.cli.printing import print_outline
from spanrelay.errors import SpanRelayError
from spanrelay.trajectory.atif import AtifError, Trajectory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser what `show` takes."""
    parser.add_argument(
        "path",
        nargs="?",
        default="latest",
        metavar="WHICH",
        help="a file, a folder whose newest is meant, a number of `spanrelay list`, a session or a name or how it "
        "begins, or `latest` (the default): the newest written here",
    )
    parser.add_argument("--full", action="store_true", help="show whole texts, however long")


def run(options: argparse.Namespace) -> int:
    """Print the tree to stdout and, last, the path of the file."""
    path = files.find(options.path)
    try:
        trajectory = Trajectory.from_json(files.read(path))
    except AtifError as error:
        raise SpanRelayError(f"{str(path)!r} is no ATIF trajectory: {error}; see `spanrelay validate`") from error
    limits = Limits(lines=sys.maxsize, characters=sys.maxsize) if options.full else Limits()
    print_outline(outline(trajectory, limits), sys.stdout)
    print(path)
    more = len(list(path.parent.glob("*.json"))) - 1
    if more and options.path == "latest":
        sys.stdout.flush()
        say(f"{more} more in this folder: `spanrelay list`")
    return 0
