"""Spans of others to records, through whichever dialect each is in."""

from __future__ import annotations

from spanrelay import semconv
from spanrelay.otlp_in.telemetry import Span
from spanrelay.records import ErrorInfo, Mark, SpanRecord
from spanrelay.semconv import names
from spanrelay.semconv.spans import describe_resource


def record_of(span: Span) -> SpanRecord:
    """Return the record of a span."""
    record = bare_record_of(span)
    semconv.read(span.attributes, record)
    return record


def bare_record_of(span: Span) -> SpanRecord:
    """Return what a span says of itself apart from its attributes: ids, times, who recorded it, events and failure."""
    record = SpanRecord(span.trace_id, span.span_id)
    record.parent_id, record.remote_parent = span.parent_id, span.remote_parent
    record.name, record.start, record.end = span.name, span.start, span.end
    origin = span.origin
    record.scope_name, record.scope_version = origin.scope, origin.version
    describe_resource(origin.resource, record)
    record.truncated = span.truncated
    if span.events:
        record.marks = [Mark(event.name, event.time, event.attributes) for event in span.events]
    if span.error is not None:
        record.error = _error_of(span)
    return record


def _error_of(span: Span) -> ErrorInfo:
    """Return the error of a failed span: its exception event, else its status text."""
    for event in reversed(span.events):
        if event.name == names.EXCEPTION_EVENT:
            kind = str(event.attributes.get(names.EXCEPTION_TYPE) or "error")
            return ErrorInfo(kind, str(event.attributes.get(names.EXCEPTION_MESSAGE) or span.error or ""))
    return ErrorInfo("error", span.error or "")
