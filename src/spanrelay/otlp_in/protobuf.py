"""OTLP's protobuf: export requests of traces and logs, one, or many behind each other with their lengths before them.

No generic dicts are made of messages: each span's attributes are read straight into the mapping that a dialect reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanrelay.otlp_in.otlp_json import Fault
from spanrelay.otlp_in.telemetry import Event, LogRecord, Origin, Span, Telemetry, Unreadable, taken_uid

_REMOTE = 0x200
_FAILED = 2


def read(data: bytes, fault: Fault) -> Iterator[Telemetry]:
    """Yield the spans and log records of one export request; metrics are passed over.

    Raises:
        Unreadable: this is no export request.
    """
    request = parsed(data)
    yield from (_logs if isinstance(request, ExportLogsServiceRequest) else _spans)(request, fault)


def parsed(data: bytes) -> Any:
    """Return the `ExportTraceServiceRequest` or `ExportLogsServiceRequest` that some bytes are.

    Raises:
        Unreadable: they are neither.
    """
    request = _parsed(ExportTraceServiceRequest, data)
    if request is None or _is_of_logs(request):
        request = _parsed(ExportLogsServiceRequest, data)
    if request is None:
        raise Unreadable(f"these {len(data)} bytes are no OTLP protobuf: expected an export request")
    return request


def _parsed(kind: Any, data: bytes) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError:
        return None


def _is_of_logs(request: Any) -> bool:
    """Whether what was read as spans are log records, whose requests differ only in what stands in their fields.

    Where a span has its trace's id a log record has a time, of another wire type, which leaves the id empty.
    """
    spans = (span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans)
    first = list(islice(spans, 16))
    return bool(first) and not any(len(span.trace_id) == 16 and len(span.span_id) == 8 for span in first)


def _spans(request: Any, fault: Fault) -> Iterator[Span]:
    for resource in request.resource_spans:
        about = attributes_of(resource.resource.attributes)
        for scope in resource.scope_spans:
            origin = Origin(about, scope.scope.name or None, scope.scope.version or None)
            for span in scope.spans:
                if len(span.trace_id) != 16 or len(span.span_id) != 8:
                    fault(
                        f"the ids of span {span.name[:40]!r} have {len(span.trace_id)} and {len(span.span_id)} bytes: "
                        "expected 16 and 8"
                    )
                    continue
                yield _span(span, origin)


def _span(span: Any, origin: Origin) -> Span:
    start = span.start_time_unix_nano
    failed = span.HasField("status") and span.status.code == _FAILED
    return Span(
        int.from_bytes(span.trace_id, "big"),
        int.from_bytes(span.span_id, "big"),
        int.from_bytes(span.parent_span_id, "big") or None,
        bool(span.flags & _REMOTE),
        span.name,
        start,
        max(span.end_time_unix_nano, start),
        attributes_of(span.attributes),
        [Event(event.name, event.time_unix_nano, attributes_of(event.attributes)) for event in span.events],
        span.status.message if failed else None,
        origin,
        span.dropped_attributes_count > 0,
    )


def _logs(request: Any, fault: Fault) -> Iterator[LogRecord]:
    for resource in request.resource_logs:
        about = attributes_of(resource.resource.attributes)
        for scope in resource.scope_logs:
            origin = Origin(about, scope.scope.name or None, scope.scope.version or None)
            for record in scope.log_records:
                if len(record.trace_id) not in (0, 16) or len(record.span_id) not in (0, 8):
                    fault(
                        f"the ids of a log record have {len(record.trace_id)} and {len(record.span_id)} bytes: "
                        "expected 16 and 8, or none"
                    )
                    continue
                attributes = attributes_of(record.attributes)
                uid = taken_uid(attributes)
                yield LogRecord(
                    int.from_bytes(record.trace_id, "big") or None,
                    int.from_bytes(record.span_id, "big") or None,
                    record.time_unix_nano or record.observed_time_unix_nano,
                    record.event_name or None,
                    value_of(record.body),
                    attributes,
                    origin,
                    uid,
                )


def attributes_of(pairs: Any) -> dict[str, Any]:
    """Return the attributes that repeated `KeyValue` messages say; of one that stands twice, the last."""
    found: dict[str, Any] = {}
    for pair in pairs:
        value = pair.value  # most say a text, which asking for costs less than asking what is said
        found[pair.key] = value.string_value or _value(value, value.WhichOneof("value"))
    return found


def value_of(value: Any) -> Any:
    """Return what an `AnyValue` message holds; None where it holds nothing."""
    return _value(value, value.WhichOneof("value"))


def _value(value: Any, kind: str | None) -> Any:
    if kind is None:
        return None
    inner = getattr(value, kind)
    if kind == "array_value":
        return [value_of(each) for each in inner.values]
    if kind == "kvlist_value":
        return attributes_of(inner.values)
    return inner if not isinstance(inner, Message) else None
