"""What every span says by itself, whatever its attributes: identity, times, status, resource, events.

Duck-typed on the SDK's `ReadableSpan`; no SDK is imported here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from spanrelay import semconv
from spanrelay.records import ErrorInfo, Mark, SpanRecord
from spanrelay.semconv import names


def record_of(span: Any) -> SpanRecord:
    """Return the record of a finished `ReadableSpan`, its attributes read by whichever dialect knows them."""
    record = SpanRecord(0, 0)
    describe_span(span, record)
    semconv.read(span.attributes or {}, record)
    return record


def describe_span(span: Any, record: SpanRecord) -> None:
    """Fill `record` with what the span says apart from its attributes; an error already there stays."""
    identity, parent = span.context, span.parent
    record.trace_id, record.span_id = identity.trace_id, identity.span_id
    record.parent_id = parent.span_id if parent is not None else None
    record.remote_parent = parent is not None and parent.is_remote
    record.name = span.name
    record.start, record.end = span.start_time or 0, span.end_time
    scope = span.instrumentation_scope
    if scope is not None:
        record.scope_name, record.scope_version = scope.name, scope.version or None
    describe_resource(span.resource.attributes, record)
    record.truncated = record.truncated or span.dropped_attributes > 0 if _is_plain(span) else record.truncated
    events = span.events
    if events:
        record.marks = marks_of(events)
    if record.error is None and not span.status.is_ok:
        record.error = error_of(span, record.marks)


def marks_of(events: Iterable[Any]) -> list[Mark]:
    """Return the events of a span as marks."""
    return [Mark(event.name, event.timestamp, dict(event.attributes or {})) for event in events]


def describe_resource(attributes: Mapping[str, Any], record: SpanRecord) -> None:
    """Fill `record` with what runs, and where: `service.*`, and `deployment.environment.name` by either name."""
    known = _places.get(id(attributes))
    if known is None or known[0] is not attributes:
        if len(_places) >= _MAX_PLACES:
            _places.clear()
        known = _places[id(attributes)] = (attributes, _place_of(attributes))
    record.service_name, record.service_version, record.environment = known[1]


_MAX_PLACES = 64

_places: dict[int, tuple[Mapping[str, Any], tuple[str | None, str | None, str | None]]] = {}
"""What the last resources say; nobody changes one, and all spans of a process have the same."""


def _place_of(attributes: Mapping[str, Any]) -> tuple[str | None, str | None, str | None]:
    environment = attributes.get("deployment.environment.name") or attributes.get("deployment.environment")
    told = attributes.get("service.name"), attributes.get("service.version"), environment
    name, version, environment = (str(each) if each else None for each in told)
    return name, version, environment


def _is_plain(span: Any) -> bool:
    # Attributes that are read lazily would be read by asking how many were dropped.
    return not hasattr(span._attributes, "_ended")


def error_of(span: Any, marks: list[Mark]) -> ErrorInfo:
    """Return the error of a failed span: its exception event, else its status text."""
    for mark in reversed(marks):
        if mark.name == names.EXCEPTION_EVENT:
            kind = str(mark.attributes.get(names.EXCEPTION_TYPE) or "error")
            return ErrorInfo(kind, str(mark.attributes.get(names.EXCEPTION_MESSAGE) or span.status.description or ""))
    return ErrorInfo("error", span.status.description or "")
