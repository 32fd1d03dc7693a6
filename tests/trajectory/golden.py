"""Golden documents turned into the spans that a program would have made, so that they can be told again."""

import json
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Status, StatusCode
from tests.trajectory.program import DAWN, SECOND
from tests.trajectory.spans import context

from spanrelay import semconv
from spanrelay.records import (
    AgentInfo,
    Media,
    Message,
    ModelRequest,
    ModelResponse,
    Part,
    Reasoning,
    SpanRecord,
    Text,
    ToolCall,
    ToolCallResponse,
    ToolDefinition,
    ToolRequest,
    ToolResult,
    Usage,
)


class Retelling:
    """The spans of a document: an agent, its model calls with the whole history each, and its tools."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.records: list[SpanRecord] = []
        self._now = DAWN
        self._session = document["session_id"]
        self._tell(document, None)

    def _span(self, kind: Any, above: SpanRecord | None, **known: Any) -> SpanRecord:
        self._now += SECOND
        record = SpanRecord(
            0xFEED,
            len(self.records) + 1,
            above.span_id if above else None,
            kind=kind,
            start=self._now,
            session_id=self._session,
            name=f"{kind}",
            **known,
        )
        self.records.append(record)
        return record

    def _end(self, record: SpanRecord) -> None:
        self._now += SECOND
        record.end = self._now

    def _tell(self, document: dict[str, Any], above: SpanRecord | None) -> None:
        agent = document["agent"]
        children = {child["trajectory_id"]: child for child in document.get("subagent_trajectories", [])}
        root = self._span("agent", above, agent=AgentInfo(agent["name"], version=agent["version"]))
        history: list[Message] = []
        for step in document["steps"]:
            answer = Message("assistant" if step["source"] == "agent" else step["source"], parts_of(step))
            if step.get("llm_call_count", 1) and step["source"] == "agent" and not step.get("is_copied_context"):
                self._call(root, agent, step, history, answer)
            if step.get("llm_call_count", 1) or step["source"] != "agent":
                history.append(answer)
            for result in step.get("observation", {}).get("results", []) if step["source"] == "agent" else []:
                self._use(root, step, result, children, history)
        self._end(root)

    def _call(self, root: SpanRecord, agent: Any, step: Any, history: list[Message], answer: Message) -> None:
        tools = [
            ToolDefinition(d["function"]["name"], d["function"].get("description"), d["function"].get("parameters"))
            for d in agent.get("tool_definitions", [])
        ]
        model = step.get("model_name", agent.get("model_name"))
        metrics = step.get("metrics")
        usage = (
            Usage(
                metrics.get("prompt_tokens"),
                metrics.get("completion_tokens"),
                cache_read_tokens=metrics.get("cached_tokens"),
                cost_usd=metrics.get("cost_usd"),
            )
            if metrics
            else None
        )
        self._end(
            replace_into(
                self._span("llm", root),
                request=ModelRequest(model, list(history), tools=tools),
                response=ModelResponse(None, model, [answer], ["stop"], usage),
            )
        )

    def _use(self, root: SpanRecord, step: Any, result: Any, children: Any, history: list[Message]) -> None:
        name = result.get("source_call_id") or step["tool_calls"][0]["tool_call_id"]
        content = result.get("content")
        shown = content if isinstance(content, str) else [part_of(part) for part in content]
        history.append(Message("tool", [ToolCallResponse(name, shown)]))
        if step.get("is_copied_context"):
            return
        asked = next(c for c in step["tool_calls"] if c["tool_call_id"] == name)
        record = self._span("tool", root)
        for ref in result.get("subagent_trajectory_ref") or []:
            self._tell(children[ref["trajectory_id"]], record)
        record.tool = ToolRequest(asked["function_name"], asked["arguments"], name)
        if isinstance(content, str):
            record.result = ToolResult(content)
        self._end(record)


def replace_into(record: SpanRecord, **found: Any) -> SpanRecord:
    for name, value in found.items():
        setattr(record, name, value)
    return record


def part_of(part: dict[str, Any]) -> Part:
    if part["type"] == "text":
        return Text(part["text"])
    return Media(part["type"], part["source"]["media_type"], uri=part["source"]["path"])


def parts_of(step: dict[str, Any]) -> list[Part]:
    message = step["message"]
    parts: list[Part] = [Reasoning(step["reasoning_content"])] if step.get("reasoning_content") else []
    parts += [Text(message)] if isinstance(message, str) and message else []
    parts += [part_of(part) for part in message] if isinstance(message, list) else []
    for asked in step.get("tool_calls") or []:
        parts.append(ToolCall(asked["tool_call_id"], asked["function_name"], asked["arguments"]))
    return parts


def written(record: SpanRecord, dialect: str) -> ReadableSpan:
    """Return a record as the span that an instrumentation of a dialect would have exported."""
    attributes = {
        **semconv.write_start(replace(record), dialect),
        **semconv.write(record, dialect, content=True),
    }
    parent = context(record.trace_id, record.parent_id) if record.parent_id else None
    return ReadableSpan(
        name=record.name,
        context=context(record.trace_id, record.span_id),
        parent=parent,
        resource=Resource({}),
        attributes=MappingProxyType(attributes),
        status=Status(StatusCode.OK),
        start_time=record.start,
        end_time=record.end,
        instrumentation_scope=InstrumentationScope("test"),
    )


def told(step: dict[str, Any], agent: dict[str, Any]) -> dict[str, Any]:
    """Return what a step must still say after it was spans: not its times, token ids and `extra`.

    Results without a call's id cannot survive as spans; they count as those of the step's first call.
    """
    calls = [{k: v for k, v in call.items() if k != "extra"} for call in step.get("tool_calls") or []]
    first = calls[0]["tool_call_id"] if calls else None
    results = [
        (result.get("source_call_id") or first, result.get("content"))
        for result in (step.get("observation") or {}).get("results", [])
    ]
    metrics = step.get("metrics") or {}
    named = step.get("model_name", agent.get("model_name"))
    called = step["source"] == "agent" and step.get("llm_call_count") != 0 and not step.get("is_copied_context")
    return {
        "source": step["source"],
        "message": step["message"],
        "model": named if called else None,
        "reasoning": step.get("reasoning_content"),
        "calls": calls,
        "results": results,
        "copied": bool(step.get("is_copied_context")) and step["source"] == "agent",
        "metrics": {
            name: metrics[name]
            for name in ("prompt_tokens", "completion_tokens", "cached_tokens", "cost_usd")
            if name in metrics
        },
    }


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())
