"""The spans of a run by time: agents, model calls and tools, as bars between 0 and `WIDTH`.

Pure. A span is shown where its time is known. Pauses in which nothing ran are drawn short, and said.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any, Literal, cast

from spanrelay.assembly.atif import ObservationResult, Step, moment_of
from spanrelay.evaluation.figures import calls_model, measured, model_of, span_of
from spanrelay.view.facts import duration, visible
from spanrelay.view.marks import marks_of_call, marks_of_step
from spanrelay.view.threads import Thread, results_of

WIDTH = 1000
"""Units from the first moment of a run to its last."""
ROWS = 250
"""Bars of one page; of more the longest are shown."""
_PAUSE = 0.15
"""A pause longer than a second and than this share of the time in which something ran is drawn short,"""
_SHORT = 0.04
"""namely as long as this share of it."""
_ENDLESS = 1e9
"""Seconds that nothing takes."""
_LEAST = 3.0
"""Units that the shortest bar takes."""

Kind = Literal["thread", "model", "tool"]


@dataclass(slots=True)
class Span:
    """Something that took time, in seconds from the first moment of the run."""

    kind: Kind
    name: str
    anchor: str
    depth: int
    begun: float
    ended: float
    state: Literal["", "error", "refused"] = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """A span where it is drawn; `x` and `width` in units."""

    span: Span
    x: float
    width: float
    lasted: str


@dataclass(slots=True)
class Waterfall:
    """Bars from above to below, and what is to be said of them."""

    bars: list[Bar] = field(default_factory=list[Bar])
    lasted: str = ""
    pauses: list[float] = field(default_factory=list[float])
    """Where time is left out, in units."""
    notes: list[str] = field(default_factory=list[str])

    @property
    def kinds(self) -> set[str]:
        """The kinds and the states of what is drawn."""
        return {bar.span.state or bar.span.kind for bar in self.bars}


def waterfall(root: Thread) -> Waterfall:
    """Return the bars of a run; none where no time is known."""
    reader = _Reader()
    spans = list(reader.spans(root, 0))
    if not spans:
        return Waterfall()
    first = min([span.begun for span in spans] + [begun for begun in [_first_moment(root)] if begun is not None])
    for span in spans:
        span.begun, span.ended = span.begun - first, span.ended - first
    scale = _Scale(spans)
    notes = list(scale.notes())
    shown = spans
    if len(spans) > ROWS:
        longest = sorted(range(len(spans)), key=lambda at: spans[at].begun - spans[at].ended)[:ROWS]
        shown = [spans[at] for at in sorted(longest)]
        notes.append(f"the longest {ROWS} of {len(spans):,} spans")
    if reader.assumed:
        notes.append("tools without a recorded start are drawn after the call that asked for them")
    return Waterfall([scale.bar(span) for span in shown], duration(max(s.ended for s in spans)), scale.cuts, notes)


def _first_moment(root: Thread) -> float | None:
    """When a run began, as its steps say: somebody may have waited before a model was asked."""
    spans = (span_of(step) for step in root.document.steps)
    return next((span[0].timestamp() for span in spans if span is not None), None)


class _Reader:
    """Reads spans out of threads."""

    def __init__(self) -> None:
        self.assumed = False

    def spans(self, thread: Thread, depth: int) -> Iterator[Span]:
        """Yield the spans of a thread as they follow in the conversation."""
        for place, step in enumerate(thread.document.steps):
            anchor, span = thread.anchor_of(place), span_of(step)
            if span is not None and calls_model(step):
                begun = span[0].timestamp()
                ended = max(begun, span[1].timestamp())
                states = {mark.kind for mark in marks_of_step(step)}
                yield Span(
                    "model", visible(model_of(step, thread.document)), anchor, depth, begun, ended, _state(states)
                )
            yield from self._tools(thread, place, step, depth, None if span is None else span[1])
            for child in thread.begun_at(place):
                yield from self._within(child, depth)

    def _within(self, thread: Thread, depth: int) -> Iterator[Span]:
        """Yield a thread and its spans."""
        own = list(self.spans(thread, depth + 1))
        if own:
            begun, ended = min(span.begun for span in own), max(span.ended for span in own)
            yield Span("thread", visible(thread.document.agent.name), thread.anchor_of(0), depth, begun, ended)
        yield from own

    def _tools(self, thread: Thread, place: int, step: Step, depth: int, asked: datetime | None) -> Iterator[Span]:
        results = results_of(thread, place)
        for call in step.tool_calls or []:
            own = [result for result in results if result.source_call_id == call.tool_call_id]
            states = _state({mark.kind for mark in marks_of_call(call, own)})
            for result in own if not call.dispatch else []:
                seconds = measured(result.extra or {})
                if seconds is None or not 0 <= seconds < _ENDLESS:
                    continue
                known = _start(result)
                self.assumed |= known is None and asked is not None
                begun = known or asked
                if begun is not None:
                    at = begun.timestamp()
                    name = visible(call.function_name)
                    yield Span("tool", name, thread.anchor_of(place), depth, at, at + seconds, states)


def _start(result: ObservationResult) -> datetime | None:
    """When a tool began: `otel.start` of ours, `invocation.start_timestamp` of the NeMo Agent Toolkit."""
    extra: dict[str, Any] = result.extra or {}
    origin, timing = extra.get("otel"), extra.get("invocation")
    if isinstance(origin, dict) and isinstance(start := cast("dict[str, Any]", origin).get("start"), str):
        found = moment_of(start)
        return found if found is None or found.tzinfo is not None else found.replace(tzinfo=timezone.utc)
    begun = cast("dict[str, Any]", timing).get("start_timestamp") if isinstance(timing, dict) else None
    if isinstance(begun, (int, float)) and not isinstance(begun, bool):
        try:
            return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=begun)
        except (OverflowError, ValueError):
            return None
    return None


def _state(kinds: set[str]) -> Literal["", "error", "refused"]:
    return "refused" if "refused" in kinds else "error" if "error" in kinds else ""


class _Scale:
    """Where a moment is drawn, long pauses left out."""

    def __init__(self, spans: list[Span]) -> None:
        busy = list(_united(spans))
        worked = sum(ended - begun for begun, ended in busy) or math.inf
        self._from, self._to = [0.0], [0.0]
        self.cuts: list[float] = []
        self.left_out = 0.0
        at = 0.0
        for (_, ended), (begun, _) in pairwise(busy):
            at += ended - self._from[-1]
            gap = begun - ended
            shown = (
                gap if gap <= max(_PAUSE * worked, 1.0) else _SHORT * worked
            )  # where nothing took time, all is pause
            self._turn(ended, at)
            at += shown
            self._turn(begun, at)
            if shown < gap:
                self.cuts.append(at - shown / 2)
                self.left_out += gap
        end = max(span.ended for span in spans)
        self._turn(end, at + end - self._from[-1])
        self._unit = WIDTH / (self._to[-1] or 1.0)
        self.cuts = [cut * self._unit for cut in self.cuts]

    def _turn(self, moment: float, at: float) -> None:
        self._from.append(moment)
        self._to.append(at)

    def _at(self, moment: float) -> float:
        index = min(bisect_right(self._from, moment), len(self._from) - 1)
        before, after = self._from[index - 1], self._from[index]
        share = (moment - before) / (after - before) if after > before else 0.0
        return (self._to[index - 1] + share * (self._to[index] - self._to[index - 1])) * self._unit

    def bar(self, span: Span) -> Bar:
        """Where a span is drawn; the shortest is still seen."""
        x, end = self._at(span.begun), self._at(span.ended)
        width = max(end - x, _LEAST)
        lasted = duration(span.ended - span.begun) if span.ended > span.begun else ""
        return Bar(span, round(min(x, WIDTH - width), 1), round(width, 1), lasted)

    def notes(self) -> Iterator[str]:
        """What is not drawn as long as it was."""
        if self.cuts:
            pauses = "a pause" if len(self.cuts) == 1 else f"{len(self.cuts)} pauses"
            yield f"{pauses} of {duration(self.left_out)} drawn short"


def _united(spans: list[Span]) -> Iterator[tuple[float, float]]:
    """Yield when something ran, from when to when."""
    begun = ended = 0.0
    for span in sorted(spans, key=lambda span: span.begun):
        if span.begun > ended:
            yield begun, ended
            begun = span.begun
        ended = max(ended, span.ended)
    yield begun, ended
