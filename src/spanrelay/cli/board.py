"""The runs of a folder on a terminal: a line for each, and beneath them what the one that changed last does.

It is drawn over itself, never wider or higher than the terminal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import TextIO

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live as Screen
from rich.segment import Segment

from spanrelay.assembly.atif import Trajectory
from spanrelay.cli.outline import Limits, Piece, Span, outline
from spanrelay.cli.printing import (
    ASCII,
    NARROWEST_COLUMN,
    columns,
    has_our_characters,
    padded,
    rich_lines,
    rich_tree,
    shrink,
)
from spanrelay.view.entries import Entry
from spanrelay.view.facts import dollars, plural, visible
from spanrelay.view.live import Live, Run, State, counted, state_of

HEADINGS = (" ", "agent", "session", "first words", "steps", "tokens", "cost", "errors", "last")
_RIGHT = frozenset({4, 5, 6, 7, 8})
_ELASTIC = frozenset({1, 2, 3})
_DROPPED = (6, 5, 2, 7, 1)
"""The columns that a narrow terminal goes without, one after the other."""
_WORDS = 80
_STEPS = 20
"""Steps beneath the lines, at most."""
_LIMITS = Limits(lines=3, characters=240)
_MARKS: dict[State, tuple[str, str]] = {"": ("", ""), "growing": ("●", "agent"), "left unfinished": ("✗", "error")}


@contextmanager
def shown_board(live: Live, stream: TextIO, now: Callable[[], float] = time.time) -> Generator[Callable[[], None]]:
    """Show a board until the end of the block; what is given draws it anew."""
    console = Console(file=stream, highlight=False)
    plain = not has_our_characters(stream)
    with Screen(console=console, auto_refresh=False, vertical_overflow="crop") as screen:
        yield lambda: screen.update(board(live, console.width, console.height, now(), plain=plain), refresh=True)


def board(live: Live, width: int, height: int, now: float, *, plain: bool = False) -> RenderableType:
    """Return what the runs of a folder look like in so many columns and lines."""
    most = max(height // 2 - 3, 1)
    runs, count = live.newest(most)
    states = counted(state_of(run) for run, _ in runs)
    what = f"{plural(count, 'run')}, {states}" if count else "no run yet; what is written here appears"
    head: list[list[Piece]] = [[(_cut(visible(str(live.folder)), width), "title")], [(_cut(what, width), "quiet")], []]
    lines = head + list(_table([_row(run, entry, now) for run, entry in runs], width)) if runs else head[:2]
    if plain:
        lines = [[(text.translate(ASCII), style) for text, style in line] for line in lines]
    shown: list[RenderableType] = [rich_lines(lines)]
    newest = next((run for run, entry in runs if isinstance(entry, Entry)), None)
    document = live.document(newest) if newest is not None else None
    left = height - len(lines) - 2
    if isinstance(document, Trajectory) and left > 2:
        shown += [rich_lines([[]]), _End(rich_tree(outline(document, _LIMITS, Span(-_STEPS, -1))), left)]
    return Group(*shown)


def _row(run: Run, entry: Entry | str, now: float) -> tuple[list[str], str]:
    """The cells of a run, and how its mark is styled."""
    mark, style = _MARKS[state_of(run)]
    last = _age(now - run.changed / 1e9)
    if isinstance(entry, str):
        return [mark, "", "", visible(entry), *[""] * 4, last], style or "quiet"
    line = entry.line
    return [
        mark,
        visible(line.agent),
        visible(line.session),
        visible(line.first_words(_WORDS)),
        f"{line.steps:,}",
        "" if line.tokens is None else f"{line.tokens:,}",
        "" if line.cost is None else dollars(line.cost),
        str(line.errors or ""),
        last,
    ], style


def _age(seconds: float) -> str:
    """How long ago something was: `3 s`, `5 min`, `2 h` or `4 d`."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _table(rows: Sequence[tuple[list[str], str]], width: int) -> Iterator[list[Piece]]:
    """The lines of a table, each as wide as the terminal at most: what does not fit is cut."""
    cells: list[list[str]] = [list(HEADINGS), *(row for row, _ in rows)]
    shown = [at for at in range(len(HEADINGS)) if not at or any(row[at] for row in cells[1:])]
    for dropped in (None, *_DROPPED):
        shown = [at for at in shown if at != dropped]
        if _least(cells, shown) <= width:
            break
    widths = [max(columns(row[at]) for row in cells) for at in shown]
    shrink(widths, [place for place, at in enumerate(shown) if at in _ELASTIC], width)
    for row, style in zip(cells, ("quiet", *(style for _, style in rows)), strict=True):
        fitting = [padded(_cut(row[at], size), size, at in _RIGHT) for at, size in zip(shown, widths, strict=True)]
        text = _cut("  ".join(fitting).rstrip(), width)
        yield [(text[:1], style), (text[1:], "quiet" if style == "quiet" else "")]


def _least(cells: list[list[str]], shown: list[int]) -> int:
    """How wide a table is whose texts are as narrow as they get."""
    widths = [NARROWEST_COLUMN if at in _ELASTIC else max(columns(row[at]) for row in cells) for at in shown]
    return sum(widths) + 2 * (len(shown) - 1) + NARROWEST_COLUMN  # a text that is no longer one tells nothing


def _cut(text: str, width: int) -> str:
    """Return as much of a text as fits, with a mark where there is more."""
    if columns(text) <= width:
        return text
    sizes = accumulate(map(columns, text))
    return "".join(letter for letter, size in zip(text, sizes, strict=True) if size < width).rstrip() + "…"


class _End:
    """The last lines of something that may have more than there is room for."""

    def __init__(self, what: RenderableType, height: int) -> None:
        self._what = what
        self._height = height

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for line in console.render_lines(self._what, options.update(height=None), pad=False)[-self._height :]:
            yield from line
            yield Segment.line()
