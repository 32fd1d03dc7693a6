"""The event of a model call, `gen_ai.client.inference.operation.details`, as ours is written.

On the worker's thread, from the finished record, so that it says nothing that was not sanitized.
"""

from __future__ import annotations

from typing import Any

from opentelemetry import _logs
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk._logs import ReadWriteLogRecord
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from spanrelay._masking import masked_mapping
from spanrelay.records import SpanRecord
from spanrelay.semconv import genai, names
from spanrelay.semconv.fields import counts_of
from spanrelay.semconv.values import decode
from spanrelay.tracing import recording

_STRUCTURED = (names.INPUT_MESSAGES, names.OUTPUT_MESSAGES, names.SYSTEM_INSTRUCTIONS, names.TOOL_DEFINITIONS)
"""On an event these are no JSON text: log records carry structure."""


class CallDetails(LogRecord):
    """The event of one model call. Its attributes have been sanitized."""


class DetailsWriter:
    """Tells the global logger provider of model calls, by a version of OpenTelemetry's GenAI conventions."""

    def __init__(self, convention: str = names.CONVENTION) -> None:
        self._usage = counts_of(
            tuple(row for row in names.USAGE_NAMES_OF[convention] if row[1][0].startswith("gen_ai."))
        )
        self._schema_url = names.SCHEMA_URLS[convention]

    def write(self, record: SpanRecord) -> None:
        """Write the event of a finished call of ours; other work has none, and other instrumentation writes its own."""
        scope = record.scope_name or ""
        if record.kind != "llm" or not scope.startswith("spanrelay"):
            return
        event = CallDetails(
            timestamp=record.end,
            context=_context_of(record),
            severity_number=SeverityNumber.DEBUG,
            event_name=names.OPERATION_DETAILS,
            attributes=self._attributes(record),
        )
        _logs.get_logger(scope, record.scope_version or "", schema_url=self._schema_url).emit(event)

    def _attributes(self, record: SpanRecord) -> dict[str, Any]:
        attributes: dict[str, Any] = genai.start_attributes(record)
        attributes.update(genai.to_attributes(record, content=True, usage=self._usage))
        if record.server_address is not None:
            attributes[names.SERVER_ADDRESS] = record.server_address
            if record.server_port is not None:
                attributes[names.SERVER_PORT] = record.server_port
        for name in _STRUCTURED:
            if name in attributes:
                attributes[name] = decode(attributes[name])
        return dict(masked_mapping(attributes))


def _context_of(record: SpanRecord) -> Context:
    context = SpanContext(record.trace_id, record.span_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(context), Context())


def is_told_by_ours(event: ReadWriteLogRecord) -> bool:
    """Whether ours writes an event of the same call, whose other span is left out."""
    scope = event.instrumentation_scope
    return recording.stands_down is not None and scope is not None and recording.stands_down(scope.name)
