"""Mastra's model calls: their span tells neither what was asked nor the tools that were, which the spans around it do.

A model's `generation` has steps, each a call and the tools that it asked for. What the first step was sent is whole on
the generation; what a later one was sent is abridged, and made of what the steps before it told.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from spanrelay.otlp_in.telemetry import Span
from spanrelay.records import (
    Message,
    ModelRequest,
    ModelResponse,
    Part,
    SpanRecord,
    Text,
    ToolCall,
    ToolCallResponse,
)
from spanrelay.semconv import vercel_ai
from spanrelay.semconv.messages import read_messages
from spanrelay.semconv.values import as_list, as_object, decode, text

_TYPE = "mastra.span.type"
_STEP_INPUT = "mastra.model_step.input"
_STEP_OUTPUT = "mastra.model_step.output"
_GENERATION_INPUT = "mastra.model_generation.input"
_AGENT_INPUT = "mastra.agent_run.input"


def repair(spans: list[Span], records: list[SpanRecord]) -> None:
    """Give model calls what was asked and what they asked for."""
    if not any(_TYPE in span.attributes for span in spans):
        return
    trace = _Trace(spans, records)
    steps: dict[int | None, list[tuple[Span, SpanRecord]]] = defaultdict(list)
    for span, record in zip(spans, records, strict=True):
        if span.attributes.get(_TYPE) == "model_step":
            steps[span.parent_id].append((span, record))
    for generation, own in steps.items():
        sent = trace.beginning(generation)
        for span, record in sorted(own, key=lambda each: (each[0].start, each[0].span_id)):
            sent = trace.tell(span, record, sent)


class _Trace:
    """The spans of a trace and their records, by the spans' ids."""

    def __init__(self, spans: list[Span], records: list[SpanRecord]) -> None:
        self._spans = {span.span_id: span for span in spans}
        self._records = {record.span_id: record for record in records}
        self._beneath: dict[int | None, list[SpanRecord]] = defaultdict(list)
        for record in records:
            self._beneath[record.parent_id].append(record)

    def beginning(self, generation: int | None) -> list[Message]:
        """Return what the first step of a generation was sent."""
        span = self._spans.get(generation or 0)
        messages = _messages(span.attributes.get(_GENERATION_INPUT)) if span is not None else []
        agent = self._agent_of(span)
        if messages or agent is None:
            return messages
        record = self._records[agent.span_id]
        system = record.request.system if record.request is not None else []
        given = _messages(agent.attributes.get(_AGENT_INPUT))
        return [Message("system", list(system)), *given] if system else given

    def tell(self, step: Span, record: SpanRecord, sent: list[Message]) -> list[Message]:
        """Give a step's model call what it was sent and what it answered; return what the next step is sent."""
        beneath = self._beneath[record.span_id]
        given = _messages(step.attributes.get(_STEP_INPUT))
        if given and len(given) != len(sent):
            sent = given  # somebody changed the conversation between two steps
        answer = _answer(as_object(decode(step.attributes.get(_STEP_OUTPUT))))
        for call in beneath:
            if call.kind == "llm":
                self._complete(call, step, sent, answer)
        results = [_result(tool) for tool in beneath if tool.kind == "tool"]
        return [*sent, *([answer] if answer.parts else []), *([Message("tool", results)] if results else [])]

    def _complete(self, call: SpanRecord, step: Span, sent: list[Message], answer: Message) -> None:
        request = call.request = call.request or ModelRequest()
        response = call.response = call.response or ModelResponse()
        request.messages = request.messages or sent
        agent = self._agent_of(step)
        known = self._records[agent.span_id].request if agent is not None else None
        request.tools = request.tools or (known.tools if known is not None else [])
        if answer.parts:
            response.messages = [answer]
        call.content = call.content or bool(request.messages or response.messages)

    def _agent_of(self, span: Span | None) -> Span | None:
        seen: set[int] = set()
        while span is not None and span.span_id not in seen and _AGENT_INPUT not in span.attributes:
            seen.add(span.span_id)
            span = self._spans.get(span.parent_id or 0)
        return span if span is not None and span.span_id not in seen else None


def _messages(value: Any) -> list[Message]:
    return read_messages(value, SpanRecord(0, 0), vercel_ai.read_message) if value is not None else []


def _answer(output: dict[str, Any]) -> Message:
    said = text(output.get("text"))
    parts: list[Part] = [Text(said)] if said is not None else []
    for call in map(as_object, as_list(output.get("toolCalls"))):
        parts.append(ToolCall(text(call.get("toolCallId")), text(call.get("toolName")) or "", call.get("args")))
    return Message("assistant", parts)


def _result(run: SpanRecord) -> Part:
    """Return what a model is sent of a tool's run."""
    failed = run.error.message if run.error is not None else None
    content = run.result.content if run.result is not None else failed
    return ToolCallResponse(run.tool.call_id if run.tool is not None else None, content, is_error=failed is not None)
