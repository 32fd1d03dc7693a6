"""List the trajectories of a folder, newest first."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from spanrelay.assembly.atif import AtifError, Step, Trajectory
from spanrelay.cli import files
from spanrelay.cli.outline import count_errors, dollars, moment_of, text_of, visible
from spanrelay.cli.printing import print_table
from spanrelay.errors import SpanRelayError

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
        trajectory = Trajectory.from_json(files.read(path))
    except AtifError:
        return fault(number, f"{path.name} is not a trajectory")
    except SpanRelayError as error:
        return fault(number, str(error))
    final = trajectory.final_metrics
    counts = [final and final.total_prompt_tokens, final and final.total_completion_tokens]
    known = [count for count in counts if count is not None]
    cost = final.total_cost_usd if final else None
    return [
        str(number),
        begun(trajectory.steps, path),
        visible(trajectory.agent.name),
        visible(session),
        first_words(trajectory),
        str(len(trajectory.steps)),
        f"{sum(known):,}" if known else "",
        dollars(cost) if cost is not None else "",
        str(count_errors(trajectory) or ""),
    ]


def fault(number: int, words: str) -> list[str]:
    """The row of a file that is not a trajectory."""
    return [str(number), *[""] * 3, visible(words), *[""] * 4]


def begun(steps: list[Step], path: Path) -> str:
    """When the first step was, in the time of this place; else when the file was written."""
    moments = (moment_of(step.timestamp) for step in steps if step.timestamp)
    moment = next((each for each in moments if each is not None), None)
    moment = moment.astimezone() if moment else datetime.fromtimestamp(path.stat().st_mtime).astimezone()
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def first_words(trajectory: Trajectory) -> str:
    """What the user said first, here or else in a conversation beneath, else what anybody did, on one line."""
    said = [step for step in _all_steps(trajectory) if text_of(step.message).strip()]
    first = next((step for step in said if step.source == "user"), said[0] if said else None)
    words = "" if first is None else " ".join(visible(text_of(first.message)).split())
    return words if len(words) <= WORDS else f"{words[: WORDS - 2]} …"


def _all_steps(trajectory: Trajectory) -> Iterator[Step]:
    yield from trajectory.steps
    for child in trajectory.subagent_trajectories or []:
        yield from _all_steps(child)
