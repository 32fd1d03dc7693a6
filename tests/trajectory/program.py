"""A program that runs agents, models and tools on a clock of its own, told to a writer span by span."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from spanrelay.assembly.atif import violations
from spanrelay.assembly.exporter import TrajectoryWriter
from spanrelay.records import (
    AgentInfo,
    ErrorInfo,
    Kind,
    Message,
    ModelRequest,
    ModelResponse,
    Part,
    SpanRecord,
    Text,
    ToolCall,
    ToolCallResponse,
    ToolDefinition,
    ToolRequest,
    ToolResult,
    Usage,
)

try:
    from atif import Trajectory as OtherTrajectory
except ImportError:  # that package needs a newer Python than we do
    OtherTrajectory = None

SECOND = 1_000_000_000
DAWN = 1_790_000_000 * SECOND


class Program:
    """Every act takes a second. `documents` ends the program and returns what it left, each judged strictly."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.directory = directory
        self.writer = TrajectoryWriter(directory, **options)
        self.now = DAWN
        self.ended: list[SpanRecord] = []
        self._ids = 0

    def begin(self, kind: Kind | None, above: SpanRecord | None = None, **known: Any) -> SpanRecord:
        """Start a span; without one above it begins a trace."""
        self._ids += 1
        self.now += SECOND
        trace_id = above.trace_id if above else 0xABC0 + self._ids
        parent_id = known.pop("parent_id", above.span_id if above else None)
        name = known.pop("name", f"{kind} {self._ids}")
        record = SpanRecord(
            trace_id, self._ids, parent_id, name=name, kind=kind, start=self.now, scope_name="test", **known
        )
        self.writer.start(replace(record))
        return record

    def end(self, record: SpanRecord, **found: Any) -> SpanRecord:
        """End a span with what was found."""
        self.now += SECOND
        whole = replace(record, end=self.now, **found)
        for field in fields(whole):
            setattr(record, field.name, getattr(whole, field.name))
        self.ended.append(record)
        self.writer.end(record)
        return record

    def agent(self, name: str = "bot", above: SpanRecord | None = None, **known: Any) -> SpanRecord:
        return self.begin("agent", above, agent=AgentInfo(name), **known)

    def ask(self, above: SpanRecord | None, messages: list[Message], answer: Message | None, **more: Any) -> SpanRecord:
        """Call a model from start to end."""
        record = self.begin("llm", above, **more.pop("known", {}))
        return self.end(record, **call(messages, answer, **more))

    def use(
        self,
        above: SpanRecord | None,
        name: str,
        arguments: Any,
        result: Any,
        call_id: str | None = None,
        error: ErrorInfo | None = None,
    ) -> SpanRecord:
        """Run a tool from start to end."""
        return self.end(self.begin("tool", above), **run(name, arguments, result, call_id, error))

    def documents(self) -> dict[str, dict[str, Any]]:
        self.writer.shutdown()
        return read(self.directory)

    def document(self) -> dict[str, Any]:
        """Return the one document that the program left."""
        found = self.documents()
        assert len(found) == 1, sorted(found)
        return next(iter(found.values()))


def read(directory: Path) -> dict[str, dict[str, Any]]:
    """Return the documents of a directory by name; every one meets the profile and the other package's models."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))}
    for document in found.values():
        assert violations(document) == []
        assert_exact_totals(document)
        accept(document)
    return found


def assert_exact_totals(document: dict[str, Any]) -> None:
    """Check what the profile leaves to producers: our totals are the sums over a document and what it embeds."""

    def family(each: dict[str, Any]) -> list[dict[str, Any]]:
        return [each, *(inner for child in each.get("subagent_trajectories", []) for inner in family(child))]

    metrics = [step.get("metrics", {}) for each in family(document) for step in each["steps"]]
    for name in ("prompt_tokens", "completion_tokens", "cached_tokens", "cost_usd"):
        values = [each[name] for each in metrics if name in each]
        assert document["final_metrics"].get(f"total_{name}") == (pytest.approx(sum(values)) if values else None)


def accept(document: dict[str, Any]) -> None:
    """Let the models of the package `atif` judge a document, where it is installed."""
    if OtherTrajectory is not None:
        OtherTrajectory.model_validate(document)


def call(
    messages: list[Message],
    answer: Message | None,
    *,
    id: str | None = None,
    usage: Usage | None = None,
    tools: list[ToolDefinition] | None = None,
    system: list[Part] | None = None,
    parameters: dict[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return the fields of a model call."""
    request = ModelRequest("m-1", list(messages), system or [], tools or [], parameters or {})
    response = ModelResponse(id, "m-1-2026", [answer], ["stop"], usage or Usage(10, 5)) if answer else None
    return {"request": request, "response": response, **more}


def run(name: str, arguments: Any, result: Any, call_id: str | None, error: ErrorInfo | None) -> dict[str, Any]:
    """Return the fields of a tool run."""
    given = ToolResult(result) if result is not None else None
    return {"tool": ToolRequest(name, arguments, call_id), "result": given, "error": error}


def system(text: str) -> Message:
    return Message("system", [Text(text)])


def user(text: str) -> Message:
    return Message("user", [Text(text)])


def says(text: str) -> Message:
    return Message("assistant", [Text(text)])


def calls(*wanted: tuple[str | None, str, Any], text: str = "") -> Message:
    parts: list[Part] = [Text(text)] if text else []
    return Message("assistant", parts + [ToolCall(*each) for each in wanted])


def answers(call_id: str | None, content: Any, name: str | None = None, is_error: bool = False) -> Message:
    return Message("tool", [ToolCallResponse(call_id, content, name, is_error)])


def tool(name: str) -> ToolDefinition:
    return ToolDefinition(name, f"Does {name}.", {"type": "object", "properties": {}})


def outline(document: dict[str, Any]) -> list[str]:
    """Return who says what, one line a step."""
    return [f"{step['source']}: {step['message']}" for step in document["steps"]]


def results(step: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(r["source_call_id"], r.get("content")) for r in step.get("observation", {}).get("results", [])]
