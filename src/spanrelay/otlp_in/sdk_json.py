"""Spans as Python's SDK prints them: `ReadableSpan.to_json()`, which its console exporter writes as well."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, cast

from spanrelay.otlp_in.otlp_json import parent_of
from spanrelay.otlp_in.telemetry import Event, Origin, Span, Unreadable
from spanrelay.records import JSON


def is_span(value: JSON) -> bool:
    """Whether a JSON value is a span that the SDK has printed."""
    return isinstance(value, dict) and isinstance(value.get("context"), dict) and "span_id" in value["context"]


def span_of(span: dict[str, JSON]) -> Span:
    """Return what the SDK has printed of a span.

    Raises:
        Unreadable: its ids or times are none.
    """
    context = span["context"]
    scope = _object(span.get("instrumentation_scope"))
    status = _object(span.get("status"))
    start = nanoseconds(span.get("start_time"))
    events = span.get("events")
    return Span(
        _identity(context.get("trace_id"), "trace_id"),
        _identity(context.get("span_id"), "span_id"),
        parent_of(span.get("parent_id")),
        False,
        str(span.get("name") or ""),
        start,
        max(nanoseconds(span.get("end_time")), start),
        dict(_object(span.get("attributes"))),
        [_event(event) for event in cast("list[JSON]", events) if isinstance(event, dict)]
        if isinstance(events, list)
        else [],
        str(status.get("description") or "") if status.get("status_code") == "ERROR" else None,
        Origin(dict(_object(_object(span.get("resource")).get("attributes"))), scope.get("name"), scope.get("version")),
    )


def _event(event: dict[str, JSON]) -> Event:
    return Event(
        str(event.get("name") or ""), nanoseconds(event.get("timestamp")), dict(_object(event.get("attributes")))
    )


def _object(value: JSON) -> Mapping[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _identity(value: JSON, name: str) -> int:
    try:
        return int(value, 16)
    except (TypeError, ValueError) as error:
        raise Unreadable(f"a span's {name!r} is {str(value)[:40]!r}: expected hex digits") from error


_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def nanoseconds(value: JSON) -> int:
    """Return nanoseconds since the epoch of a time in ISO 8601; 0 for none.

    Raises:
        Unreadable: it is none.
    """
    if value is None:
        return 0
    try:
        moment = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
        since = (moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)) - _EPOCH
    except (ValueError, OverflowError) as error:
        raise Unreadable(f"the time of a span is {str(value)[:40]!r}: expected one in ISO 8601") from error
    return since // timedelta(microseconds=1) * 1000
