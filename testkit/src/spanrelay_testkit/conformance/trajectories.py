"""Spans, as a collector gets them, to the steps of the trajectory that is made of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

from spanrelay.assembly.atif import violations
from spanrelay.assembly.exporter import TrajectoryKeeper
from spanrelay.semconv.spans import record_of


def documents_of(spans: Sequence[ReadableSpan]) -> list[dict[str, Any]]:
    """Return the trajectories of spans that have all ended."""
    keeper = TrajectoryKeeper()
    records = [record_of(span) for span in spans]
    moments = [(record.start, 0, keeper.start, record) for record in records]
    moments += [(record.end or record.start, 1, keeper.end, record) for record in records]
    for _, _, take_in, record in sorted(moments, key=lambda moment: moment[:2]):
        take_in(record)
    documents = list[dict[str, Any]](keeper.documents(None, None))
    keeper.shutdown()
    return documents


def complaints_of(documents: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield in what documents are not as the strictest of ATIF's readers wants them."""
    for document in documents:
        yield from (f"trajectory: {wrong}" for wrong in violations(document))


def steps_of(documents: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return the steps of model calls, those of embedded documents too, in order, by the id of the span."""
    found: dict[str, Mapping[str, Any]] = {}
    for document in documents:
        for step in document["steps"]:
            if step.get("llm_call_count") and not step.get("is_copied_context"):
                found[step["extra"]["otel"]["span_id"]] = step
        found |= steps_of(document.get("subagent_trajectories") or ())
    return found


def id_of(span: ReadableSpan) -> str:
    """The id of a span, as documents spell it."""
    return f"{cast('SpanContext', span.get_span_context()).span_id:016x}"
