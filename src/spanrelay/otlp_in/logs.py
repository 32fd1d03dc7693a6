"""Log records that carry conversation become attributes of the spans they belong to, as if they had stood there.

What a span says itself stays. A record belongs to the span whose ids it has; what has none, or whose span is not here,
tells nothing.
"""

from __future__ import annotations

from collections import Counter
from math import gcd
from typing import Any

from spanrelay._json import dumps_sorted
from spanrelay.otlp_in.repairs import spring_ai
from spanrelay.otlp_in.telemetry import LogRecord, Span
from spanrelay.semconv import events


def join(spans: list[Span], logs: list[LogRecord]) -> None:
    """Give spans what the log records of theirs say; those of one moment stay in the order in which they are given."""
    told: dict[tuple[int, int], list[LogRecord]] = {}
    for record in logs:
        if record.trace_id and record.span_id and tells(record):
            told.setdefault((record.trace_id, record.span_id), []).append(record)
    for span in spans if told else ():
        for name, value in _attributes_of(_once(told.get((span.trace_id, span.span_id), []))).items():
            span.attributes.setdefault(name, value)


def tells(record: LogRecord) -> bool:
    """Whether a record carries conversation."""
    return name_of(record) in events.TELLING or spring_ai.tells(record)


def name_of(record: LogRecord) -> str | None:
    """Return the name of a record's event."""
    return events.name_of(record.name, record.attributes)


def _once(records: list[LogRecord]) -> list[LogRecord]:
    """Return records that came several times, all of them, once; one message may be there twice by itself."""
    keys = [dumps_sorted((record.time, name_of(record), record.body, record.attributes)) for record in records]
    times = gcd(*Counter(keys).values())
    if times < 2:
        return records
    left = {key: count // times for key, count in Counter(keys).items()}
    kept: list[LogRecord] = []
    for key, record in zip(keys, records, strict=True):
        if left[key]:
            left[key] -= 1
            kept.append(record)
    return kept


def _attributes_of(records: list[LogRecord]) -> dict[str, Any]:
    """Return what the records of one span say in the names of a span's attributes."""
    found: dict[str, Any] = {}
    for record in records:
        if name_of(record) not in events.TELLING:
            found.update(spring_ai.attributes_of(record))
    return {**found, **events.attributes_of(map(_event, records))}


def _event(record: LogRecord) -> events.Event:
    return events.Event(name_of(record) or "", record.body, record.attributes)
