"""Calls of tools that were refused before they ran: the answer that asks for one says so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from spanrelay.records import Mark, SpanRecord
from spanrelay.semconv.names import REFUSED_TOOL_CALL


def note(records: Iterable[SpanRecord], refused: Mapping[str, str]) -> None:
    """Let model calls say which tools that they ask for were `refused`: there are the reasons, by the ids of calls."""
    for record in records:
        calls = record.response.tool_calls if refused and record.kind == "llm" and record.response is not None else ()
        for call in calls:
            if call.id is not None and call.id in refused:
                told = {"call_id": call.id, "tool_name": call.name, "reason": refused[call.id]}
                record.marks = [*record.marks, Mark(REFUSED_TOOL_CALL, record.end or record.start, told)]


def of_runs(records: Iterable[SpanRecord], kinds: frozenset[str]) -> dict[str, str]:
    """Return which calls were refused, and why: those whose runs failed with an error of `kinds`."""
    return {
        record.tool.call_id: record.error.type
        for record in records
        if record.tool is not None and record.tool.call_id and record.error is not None and record.error.type in kinds
    }
