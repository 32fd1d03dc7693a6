"""List the trajectories of a folder, newest first."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from spanrelay.assembly import newer
from spanrelay.assembly.atif import AtifError
from spanrelay.cli import files
from spanrelay.cli.printing import print_table
from spanrelay.errors import SpanRelayError
from spanrelay.view.facts import dollars, visible
from spanrelay.view.summary import summary

HEADINGS = ("", "started", "agent", "session", "first words", "steps", "tokens", "cost", "errors")
RIGHT = frozenset({0, 5, 6, 7, 8})
"""The columns of numbers."""
TEXTS = frozenset({2, 3, 4})
"""The columns of texts, which may be narrower than what stands in them."""
WORDS = 40
"""Characters of what was said first."""

EXAMPLES = (
    "spanrelay list",
    "spanrelay list -n 100 runs/",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser what `list` takes."""
    parser.add_argument(
        "folder", nargs="?", metavar="FOLDER", help="where to look (default: where a program started here would write)"
    )
    parser.add_argument("-n", "--number", type=int, default=20, metavar="N", help="how many at most (default: 20)")


def run(options: argparse.Namespace) -> int:
    """Print a row for each trajectory, with the number that `spanrelay show` takes."""
    folder = Path(options.folder) if options.folder else files.default_directory()
    found = files.newest_first(folder)
    shown = found[: max(options.number, 0)]
    runs = numbered_runs(found)
    rows = [row(number, path, runs[path]) for number, path in enumerate(shown, 1)]
    print_table(HEADINGS, rows, sys.stdout, right=RIGHT, elastic=TEXTS)
    more = len(found) - len(shown)
    print(f"{len(found)} in {folder}" + (f", {more} of them not shown; use -n {len(found)}" if more else ""))
    return 0


def numbered_runs(newest_first: list[Path]) -> dict[Path, str]:
    """Return the session of each document, with ` (2 of 3)` where several are runs of it, the oldest the first."""
    sessions = {path: files.session_of(path) for path in newest_first}
    count, seen = Counter(sessions.values()), Counter[str]()
    told: dict[Path, str] = {}
    for path in reversed(newest_first):
        session = sessions[path]
        seen[session] += 1
        several = session and count[session] > 1
        told[path] = f"{session} ({seen[session]} of {count[session]})" if several else session
    return told


def row(number: int, path: Path, session: str) -> list[str]:
    """What is told of one document; of one that cannot be read, why."""
    try:
        found = summary(newer.read(files.read(path)), path)
    except AtifError:
        return fault(number, f"{path.name} is not a trajectory")
    except SpanRelayError as error:
        return fault(number, str(error))
    return [
        str(number),
        f"{found.begun:%Y-%m-%d %H:%M:%S}",
        visible(found.agent),
        visible(session),
        found.first_words(WORDS),
        str(found.steps),
        f"{found.tokens:,}" if found.tokens is not None else "",
        dollars(found.cost) if found.cost is not None else "",
        str(found.errors or ""),
    ]


def fault(number: int, words: str) -> list[str]:
    """The row of a file that is not a trajectory."""
    return [str(number), *[""] * 3, visible(words), *[""] * 4]
