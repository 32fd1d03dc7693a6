"""Rows of tables of spans, as JSON objects: those of the Collector's ClickHouse exporter, and those of Unity Catalog.

The first names its columns `TraceId`, `SpanName`, `SpanAttributes`, …, and makes a text of every value; the second as
OTLP's protobuf does, `trace_id`, `start_time_unix_nano`, with attributes in a map or, from a VARIANT, in an object.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import zip_longest
from typing import Any, cast

from spanrelay.otlp_in import otlp_json
from spanrelay.otlp_in.sdk_json import nanoseconds
from spanrelay.otlp_in.telemetry import Event, Origin, Span
from spanrelay.otlp_in.texts import untexted
from spanrelay.records import JSON
from spanrelay.semconv.values import as_list, as_object, decode, text

MARKS = (b'"SpanId"', b'"start_time_unix_nano"')

_CLICKHOUSE = {"TraceId", "SpanId", "SpanName", "Timestamp"}
_EVENT = ("Timestamp", "Name", "Attributes")
_CATALOG = {"trace_id", "span_id", "name", "start_time_unix_nano"}


def is_row(value: JSON) -> bool:
    """Whether a JSON value is a row of such a table."""
    return isinstance(value, dict) and (value.keys() >= _CLICKHOUSE or value.keys() >= _CATALOG)


def span_of(row: dict[str, JSON]) -> Span:
    """Return the span that a row is.

    Raises:
        Unreadable: its ids or times are none.
    """
    return _of_clickhouse(row) if "TraceId" in row else _of_catalog(row)


def _of_clickhouse(row: dict[str, JSON]) -> Span:
    start = _time(row["Timestamp"])
    events = [Event(str(name or ""), _time(at), _attributes(held)) for at, name, held in _told(row)]
    failed = row.get("StatusCode") in otlp_json.FAILED
    resource = _attributes(row.get("ResourceAttributes"))
    if service := text(row.get("ServiceName")):
        resource.setdefault("service.name", service)
    return Span(
        otlp_json.identity(row["TraceId"], 16, "'TraceId'"),
        otlp_json.identity(row["SpanId"], 8, "'SpanId'"),
        otlp_json.parent_of(row.get("ParentSpanId")),
        False,
        str(row["SpanName"] or ""),
        start,
        start + otlp_json.integer(row.get("Duration"), "Duration"),
        _attributes(row.get("SpanAttributes")),
        events,
        (text(row.get("StatusMessage")) or "") if failed else None,
        Origin(resource, text(row.get("ScopeName")), text(row.get("ScopeVersion"))),
    )


def _told(row: dict[str, JSON]) -> Iterable[tuple[JSON, JSON, JSON]]:
    """Return the time, name and attributes of each event: a column of each, or one of structs."""
    if "Events" in row:
        return (tuple(map(as_object(event).get, _EVENT)) for event in as_list(row["Events"]))
    return zip_longest(*(as_list(row.get(f"Events.{name}")) for name in _EVENT))


def _of_catalog(row: dict[str, JSON]) -> Span:
    resource, scope = as_object(row.get("resource")), as_object(row.get("instrumentation_scope"))
    events = [
        {**as_object(event), "attributes": _attributes(as_object(event).get("attributes"))}
        for event in as_list(row.get("events"))
    ]
    origin = Origin(_attributes(resource.get("attributes")), text(scope.get("name")), text(scope.get("version")))
    return otlp_json.span_of(
        {**row, "attributes": _attributes(row.get("attributes")), "events": cast("JSON", events)}, origin
    )


def _attributes(value: JSON) -> dict[str, Any]:
    """Return attributes: those of an object, of the text of one, or of a list of keys and values."""
    found: Mapping[str, Any] = otlp_json.attributes_of(decode(value))
    return {key: untexted(key, item) for key, item in found.items()}


def _time(value: JSON) -> int:
    """Return nanoseconds since the epoch of a time, which ClickHouse writes with a blank and nine digits behind it."""
    if isinstance(value, (int, float)):
        return otlp_json.integer(value, "Timestamp")
    whole, _, fraction = str(value or "").partition(".")
    digits = fraction.rstrip("Z")
    if digits.isdecimal() and len(digits) > 6:
        return nanoseconds(whole) + int(digits[:9].ljust(9, "0"))
    return nanoseconds(value)
