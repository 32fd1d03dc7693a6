"""What the spans of tools add to a document: what ran, beside the call that asked for it.

Never guesses: a run that fits several calls waits until as many runs as calls have come.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from spanrelay.assembly import steps
from spanrelay.assembly.calls import Call
from spanrelay.assembly.document import Document
from spanrelay.assembly.transcript import result_key
from spanrelay.records import JSON, SpanRecord

Run: TypeAlias = tuple[SpanRecord, Call]
"""A tool's span and the call that it ran."""


def add_run(document: Document, record: SpanRecord, *, may_wait: bool) -> list[Run]:
    """Write what a tool's span says beside its call; return the runs that have found their calls by it.

    Never guesses: a run that fits several calls waits until as many runs as calls have come. A run that
    fits none becomes a step of its own, but waits where `may_wait` (its model call may not have ended).
    """
    found = document.calls.fitting(record)
    if len(found) == 1:
        _write_run(document, found[0], record)
        return [(record, found[0])]
    if len(found) > 1:
        return _pair(document, record, found)
    if may_wait:
        document.waiting.append((record, []))
        return []
    return [(record, _add_orphan(document, record))]


def settle(document: Document, *, final: bool) -> list[Run]:
    """Try the waiting runs again; with `final`, those that still fit nothing get steps of their own."""
    waiting, document.waiting = document.waiting, []
    settled: list[Run] = []
    for record, _ in waiting:
        settled += add_run(document, record, may_wait=not final)
    return settled + settle_ambiguous(document) if final else settled


def settle_ambiguous(document: Document) -> list[Run]:
    """Give steps of their own to runs that fit several calls: no more runs come once a model goes on."""
    ambiguous = [record for record, candidates in document.waiting if candidates]
    document.waiting = [entry for entry in document.waiting if not entry[1]]
    return [(record, _add_orphan(document, record)) for record in ambiguous]


def _pair(document: Document, record: SpanRecord, candidates: list[Call]) -> list[Run]:
    """Hold back a run that fits several calls; pair all in order once there are as many runs as calls."""
    ids = [call.id for call in candidates]
    alike = [run for run, others in document.waiting if [call.id for call in others] == ids] + [record]
    if len(alike) < len(candidates):
        document.waiting.append((record, candidates))
        return []
    document.waiting = [entry for entry in document.waiting if not any(entry[0] is run for run in alike)]
    paired = list(zip(sorted(alike, key=_start), candidates, strict=True))
    for run, call in paired:
        _write_run(document, call, run)
    return paired


def _write_run(document: Document, call: Call, record: SpanRecord) -> None:
    extra: dict[str, JSON] = {
        **steps.duration_of(record),
        "otel": {**steps.origin_of(record, document.trace_id), "start": steps.timestamp(record.start)},
        **document.differing(record),
        **steps.tool_error(record),
        **steps.annotation_of(record),
        **steps.trial_of(record),
    }
    if record.incomplete:
        extra["incomplete"] = record.incomplete
    if record.answered_by is not None:
        extra["answered_by"] = str(record.answered_by)
    content = steps.executed_content(record, document.media)
    key = result_key(record.result.content if record.result else content)
    if call.told and call.shown != key:
        content = None
        extra["otel"]["span_result_differs"] = True
    elif content is not None:
        call.shown = key
    call.executed = True
    document.write_result(call, content, extra)


def _add_orphan(document: Document, record: SpanRecord) -> Call:
    """Write a tool that ran without a model asking for it."""
    tool = record.tool
    given = str((tool and tool.call_id) or f"{record.span_id:016x}")
    step = document.dispatch_step(given, (tool and tool.name) or record.name, tool and tool.arguments, record)
    call = document.own_call(step, given)
    document.add(step, record.start)
    _write_run(document, call, record)
    document.note("tool_span_without_llm_call")
    document.line.ran += beginnings([record])
    del document.line.ran[:-MAX_RAN]
    return call


MAX_RAN = 32
"""Runs that no answer asked for whose results are remembered until the next call."""
_BEGINNING = 256


def beginnings(records: Iterable[SpanRecord]) -> list[str]:
    """Return how the results of tools begin that are texts."""
    contents = [record.result.content for record in records if record.result is not None]
    return [content[:_BEGINNING] for content in contents if isinstance(content, str) and content]


def add_unfinished(document: Document, record: SpanRecord) -> None:
    """Write that a tool had not ended when the document was closed."""
    found = document.calls.fitting(record)
    extra: dict[str, JSON] = {"incomplete": "unfinished", "otel": steps.origin_of(record, document.trace_id)}
    if len(found) == 1 and not found[0].executed:
        document.write_result(found[0], None, extra)
    elif not found and record.tool is not None:
        step = document.dispatch_step(f"{record.span_id:016x}", record.tool.name, record.tool.arguments, record)
        call = document.own_call(step, f"{record.span_id:016x}")
        document.add(step, record.start)
        document.write_result(call, None, extra)
    document.note("tool_unfinished")
    document.patch_head({"extra": {"status": "partial"}})


def _start(record: SpanRecord) -> int:
    return record.start
