"""List the trajectories of a folder, newest first."""

from __future__ import annotations

import argparse
import sys
from datetime import datetime
from pathlib import Path

from spanrelay.cli import files
from spanrelay.cli.outline import Limits, count_errors, dollars, moment_of, text_of, visible
from spanrelay.cli.printing import print_table
from spanrelay.errors import SpanRelayError
from spanrelay.trajectory.atif import AtifError, Step, Trajectory

HEADINGS = ("", "begun", "agent", "first words", "steps", "tokens", "cost", "errors")
RIGHT = frozenset({0, 4, 5, 6, 7})
"""The columns of numbers."""
WORDS = Limits(lines=1, characters=40)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser what `list` takes."""
    parser.add_argument(
        "folder", nargs="?", metavar="FOLDER", help="where to look (default: where a program started here would write)"
    )
    parser.add_argument("-n", "--number", type=int, default=20, metavar="N", help="how many at the most (default: 20)")


def run(options: argparse.Namespace) -> int:
    """Print a row for each trajectory, with the number that `spanrelay show` takes."""
    folder = Path(options.folder) if options.folder else files.default_directory()
    found = files.newest_first(folder)
    shown = found[: max(options.number, 0)]
    print_table(HEADINGS, [row(number, path) for number, path in enumerate(shown, 1)], RIGHT, sys.stdout)
    more = len(found) - len(shown)
    print(f"{len(found)} in {folder}" + (f", {more} of them not shown; use -n {len(found)}" if more else ""))
    return 0


def row(number: int, path: Path) -> list[str]:
    """What is told of one document; of one that cannot be read, why."""
    try:
        trajectory = Trajectory.from_json(files.read(path))
    except AtifError:
        return [str(number), "", "", f"{path.name} is not a trajectory", "", "", "", ""]
    except SpanRelayError as error:
        return [str(number), "", "", visible(str(error)), "", "", "", ""]
    final = trajectory.final_metrics
    counts = [final and final.total_prompt_tokens, final and final.total_completion_tokens]
    known = [count for count in counts if count is not None]
    cost = final.total_cost_usd if final else None
    return [
        str(number),
        begun(trajectory.steps, path),
        visible(trajectory.agent.name),
        first_words(trajectory.steps),
        str(len(trajectory.steps)),
        f"{sum(known):,}" if known else "",
        dollars(cost) if cost is not None else "",
        str(count_errors(trajectory) or ""),
    ]


def begun(steps: list[Step], path: Path) -> str:
    """When the first step was, in the time of this place; else when the file was written."""
    moments = (moment_of(step.timestamp) for step in steps if step.timestamp)
    moment = next((each for each in moments if each is not None), None)
    moment = moment.astimezone() if moment else datetime.fromtimestamp(path.stat().st_mtime).astimezone()
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def first_words(steps: list[Step]) -> str:
    """What the user said first, else what anybody said first, on one line."""
    said = [step for step in steps if text_of(step.message).strip()]
    first = next((step for step in said if step.source == "user"), said[0] if said else None)
    return "" if first is None else WORDS.cut(" ".join(visible(text_of(first.message)).split()))
