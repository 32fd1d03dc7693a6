"""Requests that failed and were sent again: one call, and no step each."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from spanrelay.otlp_in.accounts import Failure, Thread
from spanrelay.records import SpanRecord


def united(calls: Iterable[SpanRecord]) -> list[SpanRecord]:
    """Return the model calls of one conversation, in order; each tells of those before it that asked the same in vain.

    A call that failed for good, or of which nothing is known of what it asked, stays.
    """
    kept: list[SpanRecord] = []
    failed: list[SpanRecord] = []
    for call in calls:
        if failed and not _asks_the_same(failed[-1], call):
            kept += failed
            failed = []
        if call.error is not None and (call.response is None or not call.response.messages):
            failed.append(call)
            continue
        call.attempts = (*failed, *call.attempts)
        failed = []
        kept.append(call)
    return kept + failed


def _asks_the_same(one: SpanRecord, other: SpanRecord) -> bool:
    messages = one.request.messages if one.request is not None else []
    return bool(messages) and other.request is not None and messages == other.request.messages


def unite(thread: Thread) -> None:
    """Let a call of a thread tell of those before it that failed, where nothing was said or done in between."""
    happened = [prompt.time for prompt in thread.prompts.values()]
    happened += [time for run in thread.runs.values() for time in (run.start, run.end)]
    calls = thread.in_order()
    for call, after in pairwise(calls):
        given = call.parts is not None or call.usage is not None
        if call.error is None or given or any(call.start < time <= after.start for time in happened):
            continue
        after.failures = [*call.failures, Failure(call.end, call.error), *after.failures]
        after.start = call.start
        del thread.calls[call.key]
