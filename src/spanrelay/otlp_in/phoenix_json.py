"""Spans as Phoenix's REST API gives them: those that Python's SDK prints, but for their kind and their status.

Who recorded a span, the resource and the scope, Phoenix does not keep.
"""

from __future__ import annotations

from typing import Any, cast

from spanrelay.otlp_in import sdk_json
from spanrelay.otlp_in.telemetry import Span
from spanrelay.records import JSON
from spanrelay.semconv import names

_NO_KIND = "UNKNOWN"


def is_span(value: JSON) -> bool:
    """Whether a JSON value is a span of Phoenix's."""
    return sdk_json.is_span(value) and "span_kind" in value and "status_code" in value


def page_of(value: JSON) -> list[JSON] | None:
    """Return the spans of an answer, which are a page of a project's; None where a JSON value is no such answer."""
    spans = value.get("data") if isinstance(value, dict) else None
    return spans if isinstance(spans, list) and spans and is_span(cast("list[JSON]", spans)[0]) else None


def span_of(span: dict[str, JSON]) -> Span:
    """Return what Phoenix tells of a span.

    Raises:
        Unreadable: its ids or times are none.
    """
    attributes: dict[str, Any] = dict(span["attributes"]) if isinstance(span.get("attributes"), dict) else {}
    if span["span_kind"] not in (None, _NO_KIND):
        attributes.setdefault(names.OI_KIND, span["span_kind"])
    status = {"status_code": span["status_code"], "description": span.get("status_message")}
    return sdk_json.span_of({**span, "attributes": attributes, "status": status})
