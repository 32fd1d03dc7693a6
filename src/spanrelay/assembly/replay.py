"""Complete spans as the starts and ends that they were, in the order in which those happened.

The order depends on nothing but the spans.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from spanrelay.records import SpanRecord

_EARLIER_END, _START, _END = range(3)
_NOBODY = (0, 0)


class Moment(NamedTuple):
    """A start or an end of a span; moments compare by when they happened."""

    time: int
    phase: int
    depth: int
    trace_id: int
    span_id: int
    record: SpanRecord

    @property
    def is_end(self) -> bool:
        """Whether the span ended."""
        return self.phase != _START


def in_order(records: Sequence[SpanRecord]) -> Iterator[tuple[bool, SpanRecord]]:
    """Yield the starts (False) and ends (True) of spans."""
    for moment in moments(records):
        yield moment.is_end, moment.record


def moments(records: Sequence[SpanRecord]) -> Iterator[Moment]:
    """Yield starts and ends with the order they happened in; at equal times, parents stand around children.

    No span starts before its parent: where it seems so, it ran on another machine, or its clock was put right.
    """
    return iter(sorted(_moments(records), key=_place))


def _place(moment: Moment) -> tuple[int, int, int, int, int]:
    return moment[:5]


def _moments(records: Sequence[SpanRecord]) -> Iterator[Moment]:
    known = {(r.trace_id, r.span_id): r for r in records}
    for record in records:
        start, depth, above = record.start, 0, known.get(record.parent_key or _NOBODY)
        while above is not None and depth < len(known):
            start, depth = max(start, above.start), depth + 1
            above = known.get(above.parent_key or _NOBODY)
        end = max(record.end or start, start)
        yield Moment(start, _START, depth, record.trace_id, record.span_id, record)
        yield Moment(end, _EARLIER_END if end > start else _END, -depth, record.trace_id, record.span_id, record)
