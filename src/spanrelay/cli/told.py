"""What has happened in the runs of a folder since the last look, a line for each step and each tool's answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from spanrelay.assembly.atif import Step, Trajectory, moment_of
from spanrelay.cli.outline import Branch, Limits, outline, steps_of
from spanrelay.cli.printing import wrap
from spanrelay.view.entries import Entry
from spanrelay.view.facts import begun_by, plural, text_of, visible
from spanrelay.view.live import Live, Run, State, counted, state_of

MOST = 200
"""Runs that are followed at once: those that changed last."""
LAST = 3
"""Lines that are told of a run which had begun before."""
_LIMITS = Limits(lines=1, characters=160)


@dataclass(slots=True)
class _Known:
    """What is known of a run: what was told of it, how far it was, and whether steps of it were left untold."""

    stamp: tuple[int, ...] = ()
    state: State | None = None
    late: bool = False
    told: set[Any] = field(default_factory=set[Any])


class Told:
    """Remembers what was told.

    Args:
        width: Columns that a line may have; None for as many as it has.
    """

    def __init__(self, live: Live, width: int | None) -> None:
        self._live = live
        self._width = width
        self._known: dict[str, _Known] | None = None

    def news(self) -> Iterator[str]:
        """Yield what is new, the oldest first; of what was there at the first look, the end of what still grows."""
        for line in self._news():
            yield line if self._width is None else wrap([(line, "")], self._width)[0]

    def _news(self) -> Iterator[str]:
        runs, count = self._live.newest(MOST)
        first, known = self._known is None, self._known or {}
        self._known = {run.place: known.get(run.place) or _Known() for run, _ in runs}
        if first:
            states = counted(state_of(run) for run, _ in runs)
            yield f"{visible(str(self._live.folder))}: {plural(count, 'run')}, {states}"
        for place in known.keys() - self._known.keys() if count < MOST else ():
            yield f"{visible(place)} was removed"
        for run, entry in reversed(runs):
            if self._known[run.place].stamp != run.stamp:
                yield from self._news_of(run, self._known[run.place], entry, first)

    def _news_of(self, run: Run, known: _Known, entry: Entry | str, first: bool) -> Iterator[str]:
        before, now = known.state, state_of(run)
        known.stamp, known.state, known.late = run.stamp, now, known.late or first
        document = self._live.document(run) if now == "growing" or not first else None
        if isinstance(entry, str) or not isinstance(document, Trajectory):
            return
        lines = [line for key, line in _lines(document, "") if not _is_in(known.told, key)]
        yield from lines[-LAST:] if known.late else lines
        known.late = False
        if not now and before != now:
            yield _ended(run, document)
        elif now == "left unfinished" != before:
            yield f"{visible(run.path.name)} is left unfinished: its program is gone; `spanrelay recover` finishes it"


def _is_in(known: set[Any], key: Any) -> bool:
    """Whether it was there; it is from now on."""
    there = key in known
    known.add(key)
    return there


def _lines(document: Trajectory, above: str) -> Iterator[tuple[Any, str]]:
    """Yield the lines of a document, each with what it is known by when its place has changed."""
    who = above + visible(document.agent.name)
    session = visible(document.session_id or "")
    children = list(document.subagent_trajectories or [])
    for step, branch in zip(document.steps, steps_of(document, _LIMITS), strict=True):
        head = "  ".join(each for each in (_clock(step), who, session if not above else "") if each)
        names = tuple(call.function_name for call in step.tool_calls or [])
        key = (who, step.source, step.timestamp, text_of(step.message), names)
        if not begun_by(step):
            yield key, f"{head}  {_joined(branch)}"
            for place, call in enumerate(branch.children):
                waits = call.lines[-1] == [("no result", "quiet")]
                yield (*key, place, waits), f"{head}  {step.step_id} {_joined(call, -1 if waits else None)}"
    for child in children:
        yield from _lines(child, f"{who} > ")


def _joined(branch: Branch, end: int | None = None) -> str:
    return "  ".join("".join(text for text, _ in line) for line in branch.lines[:end])


def _clock(step: Step) -> str:
    """When a step was, in the time of this place."""
    moment = moment_of(step.timestamp) if step.timestamp else None
    try:
        return "" if moment is None else f"{moment.astimezone():%H:%M:%S}"
    except (OverflowError, ValueError):  # a year that this place's zone moves out of all calendars
        return ""


def _ended(run: Run, document: Trajectory) -> str:
    [total] = outline(document, _LIMITS).children[-1].lines
    return f"{visible(run.path.name)} is finished: {''.join(text for text, _ in total)}"
