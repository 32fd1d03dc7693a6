"""Traces as Jaeger's UI and its query service give them: `{"data": [{"traceID", "spans", "processes"}]}`.

Jaeger has no attributes that are lists or objects, but their JSON as text. What the status of a span is, and who
recorded it, stands among its tags.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from spanrelay.otlp_in.telemetry import Event, Origin, Span, Unreadable
from spanrelay.records import JSON
from spanrelay.semconv import names
from spanrelay.semconv.values import decode

MARKS = (b'"traceID"',)

_STATUS, _DESCRIPTION = "otel.status_code", "otel.status_description"
_SCOPE = ("otel.scope.name", "otel.library.name")
_VERSION = ("otel.scope.version", "otel.library.version")
_NO_ATTRIBUTES = frozenset(
    (*_SCOPE, *_VERSION, _STATUS, _DESCRIPTION, "error", "span.kind", "internal.span.format", "w3c.tracestate")
)
"""Tags that stand for what a span of OpenTelemetry has a place of its own for."""
_LISTS = frozenset(
    (
        *(name for parameter, name in names.PARAMETER_NAMES.items() if parameter in names.LIST_PARAMETERS),
        *(names.FINISH_REASONS, names.WOULD_REFUSE, names.WOULD_CHANGE, names.HISTORY_CARRIERS),
        names.PROMPT_CACHE_MARKS,
    )
)
"""Attributes that are lists of texts by their conventions, so that their text is known for JSON."""
_EVENT_NAMES = ("event", "message")
"""Fields of a log that name an event; the second is that of old versions."""


def is_traces(value: JSON) -> bool:
    """Whether a JSON value is a trace of Jaeger's, or an answer with some."""
    return isinstance(value, dict) and bool(_traces(value))


def read(value: dict[str, JSON], fault: Callable[[str], None]) -> Iterator[Span]:
    """Yield the spans of traces; `fault` is told of each that cannot be read, and the rest is read."""
    for trace in _traces(value):
        resources = {key: _resource_of(_object(process)) for key, process in _object(trace["processes"]).items()}
        for span in _objects(trace["spans"]):
            try:
                yield _span(span, resources.get(str(span.get("processID"))) or {})
            except Unreadable as error:
                fault(str(error))


def _traces(value: dict[str, JSON]) -> list[dict[str, JSON]]:
    return [
        trace for trace in _objects(value.get("data")) or [value] if {"traceID", "spans", "processes"} <= trace.keys()
    ]


def _resource_of(process: Mapping[str, JSON]) -> dict[str, Any]:
    return {"service.name": process.get("serviceName"), **_values(process.get("tags"))}


def _span(span: dict[str, JSON], resource: dict[str, Any]) -> Span:
    tags = _values(span.get("tags"))
    start = _nanoseconds(span.get("startTime"), "startTime")
    trace = _identity(span.get("traceID"), "traceID")
    return Span(
        *(trace, _identity(span.get("spanID"), "spanID"), _parent_of(span, trace), False),
        name=str(span.get("operationName") or ""),
        start=start,
        end=start + _nanoseconds(span.get("duration"), "duration"),
        attributes={
            key: _list(value) if key in _LISTS else value for key, value in tags.items() if key not in _NO_ATTRIBUTES
        },
        events=[_event(log) for log in _objects(span.get("logs"))],
        error=_error_of(tags),
        origin=Origin(resource, _first(tags, _SCOPE), _first(tags, _VERSION)),
    )


def _parent_of(span: dict[str, JSON], trace: int) -> int | None:
    """Return the parent: the first reference to a span of the same trace of which this one is a child."""
    for reference in _objects(span.get("references")):
        if reference.get("refType") == "CHILD_OF" and _identity(reference.get("traceID"), "traceID") == trace:
            return _identity(reference.get("spanID"), "spanID")
    return None


def _event(log: dict[str, JSON]) -> Event:
    fields = _values(log.get("fields"))
    name = next((key for key in _EVENT_NAMES if isinstance(fields.get(key), str)), "")
    return Event(str(fields.pop(name, "")), _nanoseconds(log.get("timestamp"), "timestamp"), fields)


def _error_of(tags: dict[str, Any]) -> str | None:
    failed = tags.get(_STATUS) == "ERROR" or (_STATUS not in tags and tags.get("error") in (True, "true"))
    return str(tags.get(_DESCRIPTION) or "") if failed else None


def _first(tags: dict[str, Any], keys: tuple[str, ...]) -> str | None:
    return next((str(tags[key]) for key in keys if tags.get(key)), None)


def _values(tags: JSON) -> dict[str, Any]:
    return {str(tag["key"]): _value(tag.get("value"), tag.get("type")) for tag in _objects(tags) if "key" in tag}


def _value(value: JSON, kind: JSON) -> Any:
    """Return the value of a tag: an integer that JavaScript cannot hold is text, as are lists."""
    try:
        if kind == "int64":
            return int(value)
        if kind == "float64":
            return float(value)
        if kind == "binary":
            return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, OverflowError):
        return value
    return value


def _list(value: Any) -> Any:
    decoded = decode(value)
    return decoded if isinstance(decoded, list) else value


def _identity(value: JSON, name: str) -> int:
    """Return an id; leading zeros may be left out."""
    try:
        return int(value, 16)
    except (TypeError, ValueError) as error:
        raise Unreadable(f"{name!r} is {str(value)[:40]!r}: expected hex digits") from error


def _nanoseconds(value: JSON, name: str) -> int:
    if isinstance(value, int) and 0 <= value < 1 << 54:
        return value * 1000
    raise Unreadable(f"{name!r} is {str(value)[:40]!r}: expected microseconds")


def _object(value: JSON) -> dict[str, JSON]:
    return cast("dict[str, JSON]", value) if isinstance(value, dict) else {}


def _objects(value: JSON) -> list[dict[str, JSON]]:
    return [item for item in cast("list[JSON]", value) if isinstance(item, dict)] if isinstance(value, list) else []
