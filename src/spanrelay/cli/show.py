"""Print a trajectory as a tree."""

from __future__ import annotations

import argparse
import re
import shlex
import sys

from spanrelay._voice import say
from spanrelay.cli import files
from spanrelay.cli.outline import ALL, Limits, Span, outline, outline_of_session
from spanrelay.cli.printing import print_outline
from spanrelay.errors import SpanRelayError
from spanrelay.view.facts import plural

EXAMPLES = (
    "spanrelay show                       # the newest trajectory",
    "spanrelay show 2 --steps -5          # the last five steps of the one before",
    "spanrelay show --session checkout-17 # every run of a session",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser what `show` takes."""
    parser.add_argument(
        "path",
        nargs="?",
        default="latest",
        metavar="WHICH",
        help="a file, a folder (its newest trajectory), a number from `spanrelay list`, a session id or file name or "
        "the beginning of one, or `latest` (the default): the newest written here",
    )
    parser.add_argument(
        "--session", action="store_true", help="show every run of the same session, the oldest first, as one tree"
    )
    parser.add_argument("--full", action="store_true", help="show whole texts, however long")
    parser.add_argument(
        "--steps", type=_span, default=ALL, metavar="WHICH", help="only some steps: 12, 3-7, 3- or -5, the last five"
    )


_NUMBERS = re.compile(r"(?P<last>-[0-9]+)|(?P<from>[0-9]+)(?P<dash>-)?(?P<to>(?<=-)[0-9]+)?")


def _span(text: str) -> Span:
    """Read which steps are meant. Raises `ArgumentTypeError`."""
    found = _NUMBERS.fullmatch(text.strip())
    if found and found["last"]:
        first, last = int(found["last"]), -1
    elif found:
        first = int(found["from"])
        last = int(found["to"]) if found["to"] else -1 if found["dash"] else first
    else:
        first, last = 0, 0
    if first == 0 or last == 0 or 0 < last < first:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range of steps; they count from 1: 12, 3-7, 3- or -5")
    return Span(first, last)


def run(options: argparse.Namespace) -> int:
    """Print the tree to stdout and, last, the path of the file, or of each."""
    path = files.find(options.path)
    session = files.session_of(path)
    runs = files.runs_of(session, path.parent) or [path]
    shown = runs[::-1] if options.session else [path]
    trajectories = [files.trajectory(each) for each in shown]
    limits = Limits(lines=sys.maxsize, characters=sys.maxsize) if options.full else Limits()
    joined = len(shown) > 1
    if not any(options.steps.of(len(each.steps)) for each in trajectories):
        count = max(len(each.steps) for each in trajectories)
        raise SpanRelayError(f"there are no such steps: {str(path)!r} has {plural(count, 'step')}")
    span = options.steps
    tree = outline_of_session(session, trajectories, limits, span) if joined else outline(trajectories[0], limits, span)
    print_outline(tree, sys.stdout)
    print(*shown, sep="\n")
    sys.stdout.flush()
    if len(runs) > len(shown):
        which = len(runs) - runs.index(path)
        again = f"spanrelay show --session {shlex.quote(str(path))}"
        say(f"run {which} of {len(runs)} of session {session!r}; `{again}` shows them as one")
    more = len(list(path.parent.glob("*.json"))) - len(shown)
    if more and options.path == "latest":
        say(f"{more} more in this folder: `spanrelay list`")
    return 0
