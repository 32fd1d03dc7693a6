"""Requests that failed and were sent again: one call, and no step each."""

from __future__ import annotations

from collections.abc import Iterable

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
