"""Say how two trajectories, or the trajectories of two folders, differ."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from spanrelay import _json
from spanrelay._voice import say
from spanrelay.assembly.atif import Step, Trajectory
from spanrelay.cli import files
from spanrelay.cli.outline import Branch, Piece
from spanrelay.cli.printing import print_outline
from spanrelay.errors import SpanRelayError
from spanrelay.evaluation.comparison import Absent, Comparison, Difference, StepDifference, compare
from spanrelay.records import JSON
from spanrelay.semconv.histories import agreement
from spanrelay.view.facts import begun_by, plural, visible

_MARGIN = 24
"""Columns of a terminal that are left to the tree around a value."""
_LEAST = 40
"""Characters of a value that are shown however narrow the terminal is."""

EXAMPLES = (
    "spanrelay diff 2 1                # the run before the newest, and the newest",
    "spanrelay diff expected/ runs/    # two folders, by session",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser what `diff` takes."""
    what = "a trajectory, as `spanrelay show` takes it, or a folder of them, compared by session"
    parser.add_argument("left", metavar="A", help=what)
    parser.add_argument("right", metavar="B", help="what to compare it with")
    parser.add_argument(
        "--all", action="store_true", help="compare versions, how tools are described, and what is in `extra` too"
    )
    parser.add_argument("--full", action="store_true", help="show whole values, however long")
    parser.epilog = (
        "Ids and times do not count, and calls are known by their places. Exit status: 0 where nothing "
        "differs, 1 where something does, 2 where that cannot be told."
    )


def run(options: argparse.Namespace) -> int:
    """Print what differs; returns 0 where nothing does, 1 where something does, 2 where there is nothing to compare."""
    try:
        folders = [Path(place).is_dir() for place in (options.left, options.right)]
        if folders[0] != folders[1]:
            raise SpanRelayError("one of the two is a folder and one is not; name two files or two folders")
        return _folders(options) if folders[0] else _files(options)
    except SpanRelayError as error:
        say(str(error))
        return 2


def _files(options: argparse.Namespace) -> int:
    found = [files.find(place) for place in (options.left, options.right)]
    return 1 if _print([options.left, options.right], found[0], found[1], options) else 0


def _folders(options: argparse.Namespace) -> int:
    left, right = Path(options.left), Path(options.right)
    counts = {"equal": 0, "different": 0, f"only in {left}": 0, f"only in {right}": 0}
    for mine, other in _by_session(files.oldest_first(left), files.oldest_first(right)):
        if mine is None or other is None:
            only = mine or other
            counts[f"only in {left if mine else right}"] += 1
            print(f"only in {left if mine else right}: {only.name if only else ''}")
        else:
            names = [str(mine), str(other)]
            counts["different" if _print(names, mine, other, options, quiet=True) else "equal"] += 1
    print(", ".join(f"{count} {what}" for what, count in counts.items() if count))
    return 1 if sum(counts.values()) != counts["equal"] else 0


def _by_session(left: list[Path], right: list[Path]) -> Iterator[tuple[Path | None, Path | None]]:
    """Yield the documents of each session in pairs, the first run of it with the first.

    A session that nobody named has the id of its trace, another in each run of a program: those that remain are
    paired in the order in which they began.
    """
    mine, yours = _sessions(left), _sessions(right)
    nameless: tuple[list[Path], list[Path]] = ([], [])
    for session in {**mine, **yours}:
        runs = mine.get(session, []), yours.get(session, [])
        if _is_trace_id(session) and not all(runs):
            nameless[0].extend(runs[0])
            nameless[1].extend(runs[1])
        else:
            yield from zip_longest(*runs)
    yield from zip_longest(*nameless)


def _sessions(paths: list[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in paths:
        found.setdefault(files.session_of(path), []).append(path)
    return found


def _is_trace_id(session: str) -> bool:
    plain = session.replace("-", "")
    return not plain or (len(plain) == 32 and all(letter in "0123456789abcdef" for letter in plain.lower()))


# ── what is printed


def _print(names: list[str], left: Path, right: Path, options: argparse.Namespace, *, quiet: bool = False) -> bool:
    """Print how two files differ, and return whether they do."""
    mine, other = files.trajectory(left), files.trajectory(right)
    found = compare(mine, other, everything=options.all)
    if found:
        width = sys.maxsize if options.full else max(shutil.get_terminal_size().columns - _MARGIN, _LEAST)
        title: list[Piece] = [(f"- {names[0]}", "left")]
        other_title: list[Piece] = [(f"+ {names[1]}", "right")]
        print_outline(Branch([title, other_title, *_summary(found)], list(_branches(found, width))), sys.stdout)
    elif not quiet:
        print(f"equal: {plural(len(mine.steps), 'step')}")
    return bool(found)


def _summary(found: Comparison) -> list[list[Piece]]:
    counts = [(len(found.steps), "step"), (len(found.unplaced), "sub-agent")]
    parts = [*(plural(count, noun) for count, noun in counts if count), *(["the head"] if found.head else [])]
    verb = "differs" if len(parts) == 1 and (found.head or len(found.steps) + len(found.unplaced) == 1) else "differ"
    return [[(f"{' and '.join(parts)} {verb}", "title")]]


def _branches(found: Comparison, width: int) -> Iterator[Branch]:
    if found.head:
        yield Branch([[("head", "title")]], [_field(each, width) for each in found.head])
    for step in found.steps:
        yield _step(step, width)
    for child in found.unplaced:
        yield _child(child, width)


def _step(found: StepDifference, width: int) -> Branch:
    shown = found.left or found.right
    if shown is None:
        return Branch([])
    number = _number(found)
    heading: list[Piece] = [(f"{number} {begun_by(shown) or shown.source}", shown.source)]
    if found.left is None or found.right is None:
        style = "right" if found.left is None else "left"
        said = _cut(_words(shown), 0, width)
        lines = [[*heading, (f"  only in {'B' if style == 'right' else 'A'}", style)]]
        lines += [[(f"{'+' if style == 'right' else '-'} {said}", style)]] if said else []
        return Branch(lines)
    children = [_child(child, width) for child in found.children]
    return Branch([heading], [*(_field(each, width) for each in found.fields), *children])


def _number(found: StepDifference) -> str:
    numbers = [step.step_id for step in (found.left, found.right) if step is not None]
    return f"step {numbers[0]}" if len(set(numbers)) == 1 else f"step {numbers[0]} (in B {numbers[1]})"


def _child(found: Comparison, width: int) -> Branch:
    document: Trajectory | None = found.left or found.right
    name = visible(document.agent.name) if document is not None else ""
    title: list[Piece] = [(name, "title")]
    if found.left is None or found.right is None:
        style = "right" if found.left is None else "left"
        return Branch([[*title, (f"  sub-agent only in {'B' if style == 'right' else 'A'}", style)]])
    return Branch([title], list(_branches(found, width)))


def _words(step: Step) -> str:
    """What a step says, and calls, on one line."""
    calls = ", ".join(call.function_name for call in step.tool_calls or [])
    message = step.message if isinstance(step.message, str) else _written([part.to_json() for part in step.message])
    return visible(" ".join(f"{message} {f'[{calls}]' if calls else ''}".split()))


def _field(found: Difference, width: int) -> Branch:
    left, right = _written(found.left), _written(found.right)
    start = agreement(left, right)
    lines: list[list[Piece]] = [[(visible(found.path), "tool")]]
    for sign, style, value, text in (("-", "left", found.left, left), ("+", "right", found.right, right)):
        lines.append([(f"{sign} {'(nothing)' if isinstance(value, Absent) else _cut(text, start, width)}", style)])
    return Branch(lines)


def _written(value: JSON | Absent) -> str:
    return "" if isinstance(value, Absent) else visible(_json.dumps_text(value))


def _cut(text: str, start: int, width: int) -> str:
    """As much of `text` as fits, with where it begins to differ, at `start`, in it."""
    if len(text) <= width:
        return text
    begin = max(0, min(start - width // 3, len(text) - width + 2))
    head = "…" if begin else ""
    shown = text[begin : begin + width - 2]
    return f"{head}{shown}{'…' if begin + len(shown) < len(text) else ''}"
