"""What a test sees of captured spans at a glance: their outline, how many traces they are, and single ones by name."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from spanrelay_testkit.capture import Capture


def tree(capture: Capture) -> list[str]:
    """Return the names of the spans, indented by depth, in the order in which they started."""
    spans = {span.context.span_id: span for span in capture.spans if span.context}

    def depth(span: ReadableSpan) -> int:
        return 0 if span.parent is None else 1 + depth(spans[span.parent.span_id])

    ordered = sorted(spans.values(), key=lambda span: span.context.span_id if span.context else 0)
    return [f"{'  ' * depth(span)}{span.name}" for span in ordered]


def traces(capture: Capture) -> int:
    """Return how many traces there are."""
    return len({span.context.trace_id for span in capture.spans if span.context})


def named(capture: Capture, name: str) -> ReadableSpan:
    """Return the one span of this name."""
    [span] = [span for span in capture.spans if span.name == name]
    return span


def marks(span: ReadableSpan) -> dict[str, dict[str, Any]]:
    """Return the attributes of a span's marks by name."""
    return {event.name: dict(event.attributes or {}) for event in span.events}
