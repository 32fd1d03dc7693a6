"""Spans as OTLP JSON: one export request a group, as the Collector's file exporter writes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from spanrelay.otlp_in.telemetry import Event, Origin, Span
from spanrelay.records import JSON

_REMOTE, _KNOWN = 0x200, 0x100


def request_of(spans: Iterable[Span]) -> dict[str, JSON]:
    """Return an export request, the spans by their resources and scopes in the order in which these come first."""
    resources: dict[int, tuple[Origin, dict[tuple[str | None, str | None], list[Span]]]] = {}
    for span in spans:
        origin = span.origin
        _, scopes = resources.setdefault(id(origin.resource), (origin, {}))
        scopes.setdefault((origin.scope, origin.version), []).append(span)
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": _pairs(origin.resource)},
                "scopeSpans": [
                    {"scope": _named(*scope), "spans": [_span(span) for span in held]} for scope, held in scopes.items()
                ],
            }
            for origin, scopes in resources.values()
        ]
    }


def _named(name: str | None, version: str | None) -> dict[str, JSON]:
    return {key: value for key, value in (("name", name), ("version", version)) if value}


def _span(span: Span) -> dict[str, JSON]:
    found: dict[str, JSON] = {
        "traceId": f"{span.trace_id:032x}",
        "spanId": f"{span.span_id:016x}",
        "flags": 1 | (_KNOWN | _REMOTE if span.remote_parent else 0),
        "name": span.name,
        "kind": 1,
        "startTimeUnixNano": str(span.start),
        "endTimeUnixNano": str(span.end),
        "attributes": _pairs(span.attributes),
    }
    if span.parent_id is not None:
        found["parentSpanId"] = f"{span.parent_id:016x}"
    if span.events:
        found["events"] = [_event(event) for event in span.events]
    found["status"] = {"code": 2, "message": span.error} if span.error is not None else {}
    if span.truncated:
        found["droppedAttributesCount"] = 1
    return found


def _event(event: Event) -> dict[str, JSON]:
    return {"timeUnixNano": str(event.time), "name": event.name, "attributes": _pairs(event.attributes)}


def _pairs(attributes: Mapping[str, Any]) -> list[JSON]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: Any) -> dict[str, JSON]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, bytes):
        return {"bytesValue": value}
    if isinstance(value, (list, tuple)):
        return {"arrayValue": {"values": [_value(each) for each in cast("list[Any]", value)]}}
    if isinstance(value, Mapping):
        return {"kvlistValue": {"values": _pairs(cast("Mapping[str, Any]", value))}}
    return {}
