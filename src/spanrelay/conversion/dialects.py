"""The same spans in another dialect: what a span says of models, tools and agents is written anew, the rest stays."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from spanrelay import semconv
from spanrelay.conversion.traces import Pair
from spanrelay.otlp_in.telemetry import Event, Origin, Span
from spanrelay.records import SpanRecord
from spanrelay.semconv import names

_OWN = (
    *("gen_ai.", "llm.", "openinference.", "input.", "output.", "tool.", "traceloop.", "ai.", "genkit:", "mastra."),
    *("spring.ai.", "langsmith.", "langfuse.", "embedding.", "retrieval.", "reranker.", "metadata", "session.id"),
    *("user.id", "agent.", "graph.node.", "logfire.", "model_request_parameters", "all_messages_events"),
)
"""How attributes begin that a dialect reads, or has a name of its own for: those of a span that is written anew go."""


def rewritten(pairs: Iterable[Pair], dialect: str) -> list[Span]:
    """Return the spans of a trace in `dialect`: `genai` or `openinference`."""
    return [_rewritten(span, record, dialect) for span, record in pairs]


def _rewritten(span: Span | None, record: SpanRecord, dialect: str) -> Span:
    span = span or _span_of(record)
    if record.kind is None:
        return span
    kept = {key: value for key, value in span.attributes.items() if not key.startswith(_OWN)}
    written: dict[str, Any] = {
        **semconv.write_start(record, dialect),
        **semconv.write(record, dialect, content=True),
    }
    return Span(
        *(span.trace_id, span.span_id, span.parent_id, span.remote_parent, span.name, span.start, span.end),
        attributes={**kept, **written},
        events=span.events,
        error=span.error,
        origin=span.origin,
        truncated=span.truncated,
    )


def _span_of(record: SpanRecord) -> Span:
    """Return the span of a record that was put together from log records, a transcript or a trajectory."""
    resource = {
        "service.name": record.service_name,
        "service.version": record.service_version,
        "deployment.environment.name": record.environment,
    }
    told_by = {names.TOLD_BY: record.dialect} if record.dialect else {}
    events = [Event(mark.name, mark.time, dict(mark.attributes)) for mark in record.marks]
    error = record.error
    if error is not None and not any(event.name == names.EXCEPTION_EVENT for event in events):
        said = {names.EXCEPTION_TYPE: error.type, names.EXCEPTION_MESSAGE: error.message}
        events.append(Event(names.EXCEPTION_EVENT, record.end or record.start, said))
    return Span(
        *(record.trace_id, record.span_id, record.parent_id, record.remote_parent, record.name),
        *(record.start, record.end or record.start, told_by, events, error.message if error is not None else None),
        Origin({key: value for key, value in resource.items() if value}, record.scope_name, record.scope_version),
        record.truncated,
    )
