"""Complete spans as the starts and ends that they were, in the order in which those happened.

The order depends on nothing but the spans.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from spanrelay.records import SpanRecord

_EARLIER_END, _START, _END = range(3)
_NOBODY = (0, 0)


Moment: TypeAlias = tuple[int, int, int, int, int, int, SpanRecord]
"""When a span starts or ends, which of the two it does and how far below others, whose span it is, and its record.

Moments compare by when they happened, and those of one list never by their records.
"""


def is_end(moment: Moment) -> bool:
    """Whether the span ended."""
    return moment[1] != _START


def in_order(records: Sequence[SpanRecord]) -> Iterator[tuple[bool, SpanRecord]]:
    """Yield the starts (False) and ends (True) of spans."""
    for moment in moments(records):
        yield is_end(moment), moment[-1]


def moments(records: Sequence[SpanRecord]) -> Iterator[Moment]:
    """Yield starts and ends with the order they happened in; at equal times, parents stand around children.

    No span starts before its parent: where it seems so, it ran on another machine, or its clock was put right.
    """
    return iter(sorted(_moments(records)))


def _moments(records: Sequence[SpanRecord]) -> list[Moment]:
    known = {(r.trace_id, r.span_id): r for r in records}
    found: list[Moment] = []
    for record in records:
        start, depth, above = record.start, 0, known.get(record.parent_key or _NOBODY)
        while above is not None and depth < len(known):
            start, depth = max(start, above.start), depth + 1
            above = known.get(above.parent_key or _NOBODY)
        end = max(record.end or start, start)
        ids = record.trace_id, record.span_id, len(found)
        found.append((start, _START, depth, *ids, record))
        found.append((end, _EARLIER_END if end > start else _END, -depth, *ids, record))
    return found
