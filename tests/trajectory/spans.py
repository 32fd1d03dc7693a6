"""Span dumps (`ReadableSpan.to_json()`) as spans again, and what stays of a document when `extra` is left out."""

import json
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags


def load(path: Path) -> list[ReadableSpan]:
    """Return the spans of a dump."""
    return [span_of(dump) for dump in json.loads(path.read_text())]


def span_of(dump: dict[str, Any]) -> ReadableSpan:
    trace_id = int(dump["context"]["trace_id"], 16)
    parent = dump.get("parent_id")
    return ReadableSpan(
        name=dump["name"],
        context=context(trace_id, int(dump["context"]["span_id"], 16)),
        parent=context(trace_id, int(parent, 16)) if parent else None,
        resource=Resource(dump["resource"]["attributes"]),
        attributes=MappingProxyType(dump["attributes"]),
        events=[
            Event(e["name"], e.get("attributes") or {}, timestamp=nanoseconds(e["timestamp"])) for e in dump["events"]
        ],
        kind=SpanKind[dump["kind"].removeprefix("SpanKind.")],
        status=Status(StatusCode[dump["status"]["status_code"]], dump["status"].get("description")),
        start_time=nanoseconds(dump["start_time"]),
        end_time=nanoseconds(dump["end_time"]),
        instrumentation_scope=InstrumentationScope(""),
    )


def context(trace_id: int, span_id: int) -> SpanContext:
    return SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(1))


def nanoseconds(text: str) -> int:
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000


def story(document: dict[str, Any]) -> list[str]:
    """Return each step as one line: what a reader of the document is told, ids and `extra` aside."""
    lines: list[str] = []
    for step in document["steps"]:
        metrics = {name: value for name, value in step.get("metrics", {}).items() if name != "extra"}
        calls = [(c["function_name"], c["arguments"]) for c in step.get("tool_calls", [])]
        results = [
            (r.get("content"), r.get("extra", {}).get("is_error", False), "subagent_trajectory_ref" in r)
            for r in step.get("observation", {}).get("results", [])
        ]
        failed = "error" in step.get("extra", {})
        told = [step["source"], step["message"], calls, results, metrics, "failed" if failed else ""]
        lines.append(" ".join(str(part) for part in told if part))
    return lines
