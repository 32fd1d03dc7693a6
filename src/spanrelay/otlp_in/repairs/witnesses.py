"""Runs of tools that alone tell what a model asked for: the calls of the model call before them.

A call is taken for one only where its answer tells of no call itself, and either of nothing or that it asks for tools.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator

from spanrelay.otlp_in.telemetry import Span
from spanrelay.records import Message, ModelResponse, SpanRecord, ToolCall
from spanrelay.semconv.names import FINISH_REASON_NAMES

_CLOCK = 1_000_000
"""Nanoseconds by which clocks that count milliseconds put a start too early."""


def repair(_spans: list[Span], records: list[SpanRecord]) -> None:
    """Give calls to the answers that asked for the tools that ran and whose calls nobody tells."""
    runs = _untold(records)
    if not runs:
        return
    known = {record.span_id: record for record in records}
    silent = [r for r in records if r.kind == "llm" and r.end is not None and _is_silent(r)]
    asked: dict[int, list[SpanRecord]] = defaultdict(list)
    for call in sorted(silent, key=lambda record: (record.end or 0, record.span_id)):
        for place in _around(call, known):
            asked[place].append(call)
    for run in sorted(runs, key=lambda record: (record.start, record.span_id)):
        call = next((c for place in _around(run, known) if (c := _last(asked[place], run)) is not None), None)
        if call is not None:
            _add(call, run)


def _untold(records: list[SpanRecord]) -> list[SpanRecord]:
    """Return the runs of tools whose calls no model call tells; one without an id may be any that is of its name."""
    runs = [(record, record.tool) for record in records if record.kind == "tool"]
    if not runs:
        return []
    messages = [m for r in records if r.request is not None for m in r.request.messages]
    messages += [m for r in records if r.response is not None for m in r.response.messages]
    calls = [call for message in messages for call in message.tool_calls]
    ids, tools = {call.id for call in calls}, {call.name for call in calls}
    return [
        run
        for run, tool in runs
        if tool is not None and (tool.call_id not in ids if tool.call_id else tool.name not in tools)
    ]


def _is_silent(call: SpanRecord) -> bool:
    response = call.response or ModelResponse()
    if call.error is not None or any(message.tool_calls for message in response.messages):
        return False
    asks = any(FINISH_REASON_NAMES.get(reason, reason) == "tool_call" for reason in response.finish_reasons)
    return asks or not any(message.text for message in response.messages)


def _around(record: SpanRecord, known: dict[int, SpanRecord]) -> Iterator[int]:
    """Yield the spans around one, nearest first, as far as the agent or tool that runs it."""
    seen: set[int] = set()
    place = record.parent_id
    while place is not None and place not in seen:
        seen.add(place)
        yield place
        above = known.get(place)
        if above is None or above.kind in ("agent", "tool"):
            return
        place = above.parent_id


def _last(calls: list[SpanRecord], run: SpanRecord) -> SpanRecord | None:
    """Return the last of `calls`, which are in the order of their ends, that had ended when `run` began."""
    at = bisect_right(calls, run.start + _CLOCK, key=lambda call: call.end or 0)
    return calls[at - 1] if at else None


def _add(call: SpanRecord, run: SpanRecord) -> None:
    response = call.response = call.response or ModelResponse()
    if not response.messages:
        response.messages = [Message("assistant")]
    tool = run.tool
    if tool is not None:
        tool.call_id = tool.call_id or f"{run.span_id:016x}"
        response.messages[0].parts.append(ToolCall(tool.call_id, tool.name, tool.arguments))
