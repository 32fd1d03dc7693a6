"""OTLP's JSON, as Node, Java, Rust, Python and the Collector write it: they differ in what the format leaves open.

Ids are hex, or base64 where a general writer of protobuf as JSON was used; 64-bit integers are text or numbers; enums
are numbers or names; what is empty is absent, null, an empty object or an empty text. Keys are in camel case, or as in
the protobuf.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from spanrelay.otlp_in.telemetry import Event, LogRecord, Origin, Span, Telemetry, Unreadable, taken_uid
from spanrelay.records import JSON

_REMOTE = 0x200
"""The flag of a span that says that its parent is another process's."""

Fault = Callable[[str], None]


def is_request(value: JSON) -> bool:
    """Whether a JSON value is an export request, or one resource of it."""
    return isinstance(value, dict) and not _MARKS.isdisjoint(cast("dict[str, JSON]", value))


_MARKS = frozenset(
    (
        *("resourceSpans", "resource_spans", "scopeSpans", "scope_spans", "instrumentationLibrarySpans"),
        *("resourceLogs", "resource_logs", "scopeLogs", "scope_logs"),
        *("resourceMetrics", "resource_metrics", "scopeMetrics", "scope_metrics"),
    )
)


def read(request: dict[str, JSON], fault: Fault) -> Iterator[Telemetry]:
    """Yield the spans and log records of an export request, or of one resource of it; metrics are passed over.

    `fault` is told of each that cannot be read, and the rest is read.
    """
    for resource in _list(request, "resourceSpans", "resource_spans", fault) or _itself(request, _SPANS):
        yield from _of_resource(resource, _SPANS, ("spans",), span_of, fault)
    for resource in _list(request, "resourceLogs", "resource_logs", fault) or _itself(request, _LOGS):
        yield from _of_resource(resource, _LOGS, ("logRecords", "log_records"), _log, fault)


_SPANS = ("scopeSpans", "scope_spans", "instrumentationLibrarySpans")
_LOGS = ("scopeLogs", "scope_logs")


def _itself(request: dict[str, JSON], keys: tuple[str, ...]) -> list[dict[str, JSON]]:
    return [request] if any(key in request for key in keys) else []


def _list(place: dict[str, JSON], name: str, other: str, fault: Fault) -> list[dict[str, JSON]]:
    found = place.get(name) or place.get(other) or []
    if not isinstance(found, list):
        fault(f"{name!r} is {type(found).__name__}: expected a list")
        return []
    whole = [item for item in cast("list[JSON]", found) if isinstance(item, dict)]
    if len(whole) != len(found):
        fault(f"{len(found) - len(whole)} items of {name!r} are no objects")
    return whole


def _of_resource(
    resource: dict[str, JSON],
    scopes: tuple[str, ...],
    items: tuple[str, ...],
    make: Callable[[dict[str, JSON], Origin], Telemetry],
    fault: Fault,
) -> Iterator[Telemetry]:
    about = resource.get("resource")
    attributes = attributes_of(about.get("attributes")) if isinstance(about, dict) else {}
    for scope_items in _first_list(resource, scopes, fault):
        scope = scope_items.get("scope") or scope_items.get("instrumentationLibrary")
        named: Mapping[str, JSON] = cast("dict[str, JSON]", scope) if isinstance(scope, dict) else {}
        origin = Origin(attributes, _text(named.get("name")), _text(named.get("version")))
        for item in _first_list(scope_items, items, fault):
            try:
                yield make(item, origin)
            except Unreadable as error:
                fault(str(error))
            except RecursionError:
                fault(f"one of {items[0]!r} is nested too deep to be read")


def _first_list(place: dict[str, JSON], names: tuple[str, ...], fault: Fault) -> list[dict[str, JSON]]:
    for name in names:
        if name in place:
            return _list(place, name, name, fault)
    return []


def span_of(span: dict[str, JSON], origin: Origin) -> Span:
    """Return a span; its attributes may be a mapping, as some write them.

    Raises:
        Unreadable: its ids or times are none.
    """
    get = span.get
    status = get("status")
    said: Mapping[str, JSON] = cast("dict[str, JSON]", status) if isinstance(status, dict) else {}
    start = integer(_either(span, "startTimeUnixNano", "start_time_unix_nano"), "startTimeUnixNano")
    end = integer(_either(span, "endTimeUnixNano", "end_time_unix_nano"), "endTimeUnixNano")
    dropped = _either(span, "droppedAttributesCount", "dropped_attributes_count")
    events = get("events")
    return Span(
        identity(_either(span, "traceId", "trace_id"), 16, "a span's 'traceId'"),
        identity(_either(span, "spanId", "span_id"), 8, "a span's 'spanId'"),
        parent_of(_either(span, "parentSpanId", "parent_span_id")),
        bool(integer(get("flags"), "flags") & _REMOTE),
        _text(get("name")) or "",
        start,
        max(end, start),
        attributes_of(get("attributes")),
        [_event(event) for event in cast("list[JSON]", events) if isinstance(event, dict)]
        if isinstance(events, list)
        else [],
        (_text(said.get("message")) or "") if said.get("code") in FAILED else None,
        origin,
        dropped not in (None, 0, "0", ""),
    )


FAILED = (2, "2", "STATUS_CODE_ERROR", "ERROR", "Error")


def _event(event: dict[str, JSON]) -> Event:
    time = integer(_either(event, "timeUnixNano", "time_unix_nano"), "timeUnixNano")
    return Event(_text(event.get("name")) or "", time, attributes_of(event.get("attributes")))


def _log(record: dict[str, JSON], origin: Origin) -> LogRecord:
    attributes = attributes_of(record.get("attributes"))
    time = integer(_either(record, "timeUnixNano", "time_unix_nano"), "timeUnixNano")
    observed = integer(_either(record, "observedTimeUnixNano", "observed_time_unix_nano"), "observedTimeUnixNano")
    body, uid = record.get("body"), taken_uid(attributes)
    return LogRecord(
        _known(_either(record, "traceId", "trace_id"), 16, "a log record's 'traceId'"),
        _known(_either(record, "spanId", "span_id"), 8, "a log record's 'spanId'"),
        time or observed,
        _text(_either(record, "eventName", "event_name")),
        value_of(cast("dict[str, JSON]", body)) if isinstance(body, dict) else body,
        attributes,
        origin,
        uid,
    )


def _either(place: Mapping[str, JSON], name: str, other: str) -> JSON:
    found = place.get(name)
    return place.get(other) if found is None else found


def _text(value: JSON) -> str | None:
    return value if isinstance(value, str) and value else None


def integer(value: JSON, name: str) -> int:
    """Return an integer of 64 bits without a sign, as the protobuf has it; 0 for none.

    Raises:
        Unreadable: it is none.
    """
    if not value:
        return 0
    try:
        number = int(value)
        if 0 <= number < 1 << 64:
            return number
    except (TypeError, ValueError, OverflowError):
        pass
    raise Unreadable(f"{name!r} is {str(value)[:40]!r}: expected an integer of 64 bits")


def _known(value: JSON, size: int, what: str) -> int | None:
    return identity(value, size, what) or None if value else None


def parent_of(value: JSON) -> int | None:
    """Return the id of a span's parent; None where it has none, or what stands there is no id."""
    try:
        return _known(value, 8, "'parentSpanId'")
    except Unreadable:
        return None


def identity(value: JSON, size: int, what: str) -> int:
    """Return an id of `size` bytes.

    Raises:
        Unreadable: it is none.
    """
    if isinstance(value, str):
        try:
            if len(value) == 2 * size:
                return int(value, 16)
            if len(value) == 2 * size + 2 and value[:2] in ("0x", "0X"):
                return int(value, 16)
            decoded = base64.b64decode(value, validate=True)
            if len(decoded) == size:
                return int.from_bytes(decoded, "big")
        except (ValueError, binascii.Error):
            pass
    raise Unreadable(f"{what} is {str(value)[:40]!r}: expected {2 * size} hex digits")


def attributes_of(pairs: JSON) -> dict[str, Any]:
    """Return the attributes that a list of keys and values says, or the mapping that some write in its place."""
    if type(pairs) is not list:
        return cast("dict[str, Any]", pairs) if isinstance(pairs, dict) else {}
    found: dict[str, Any] = {}
    for pair in cast("list[JSON]", pairs):
        if isinstance(pair, dict) and isinstance(key := pair.get("key"), str):
            value = pair.get("value")
            if type(value) is dict and len(value) == 1:
                text = value.get("stringValue")
                found[key] = text if text is not None else value_of(cast("dict[str, JSON]", value))
            else:
                found[key] = value_of(cast("dict[str, JSON]", value)) if isinstance(value, dict) else value
    return found


def value_of(value: dict[str, JSON]) -> Any:
    """Return what an `AnyValue` holds; None where it holds nothing."""
    for kind, inner in value.items():
        read_it = _VALUES.get(kind)
        if read_it is not None and inner is not None:
            return read_it(inner)
    return None


def _same(value: JSON) -> Any:
    return value


def _whole(value: JSON) -> Any:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return value


def _fraction(value: JSON) -> Any:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return value


def _items(value: JSON) -> list[Any]:
    items = value.get("values") if isinstance(value, dict) else value
    if not isinstance(items, list):
        return []
    return [value_of(item) if isinstance(item, dict) else item for item in cast("list[JSON]", items)]


def _pairs(value: JSON) -> dict[str, Any]:
    return attributes_of(value.get("values") or [] if isinstance(value, dict) else value)


def _bytes(value: JSON) -> Any:
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError):
        return value


_VALUES: dict[str, Callable[[JSON], Any]] = {
    "stringValue": _same,
    "intValue": _whole,
    "boolValue": _same,
    "doubleValue": _fraction,
    "arrayValue": _items,
    "kvlistValue": _pairs,
    "bytesValue": _bytes,
    "string_value": _same,
    "int_value": _whole,
    "bool_value": _same,
    "double_value": _fraction,
    "array_value": _items,
    "kvlist_value": _pairs,
    "bytes_value": _bytes,
}
