"""Policy on trial: it judges every call, what it would have done is told, and nothing comes of it.

What it is shown is a copy of the call, so that whatever it does there is lost.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from spanrelay.tracing import describe_error

if TYPE_CHECKING:
    from spanrelay.pipeline.call import Call
    from spanrelay.pipeline.middleware import Middleware

_calls: dict[str, int] = {}
_lock = threading.RLock()  # the collector of garbage may end an abandoned stream while we count


def _begin() -> None:
    """Know of nothing: what was judged before a fork is the parent's to tell."""
    global _lock
    _lock = threading.RLock()
    _calls.update(refused=0, changed=0)


_begin()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin)


def would_refuse(call: Call, entry: Middleware, reason: str) -> None:
    """Note that `entry` would have refused `call`."""
    record, told = call.root.record, f"{entry.name}: {reason or 'no reason given'}"
    if not record.would_refuse:
        _count("refused")
    if told not in record.would_refuse:
        record.would_refuse += (told,)


def would_fail(call: Call, entry: Middleware, error: BaseException) -> None:
    """Note that `call` would have failed by what `entry` raised."""
    told = describe_error(error)
    reason = getattr(error, "reason", None)
    would_refuse(call, entry, reason if isinstance(reason, str) else told.message or told.type)


def would_change(call: Call, entry: Middleware, what: str) -> None:
    """Note that `entry` would have changed `what` of `call`."""
    record, told = call.root.record, f"{entry.name}: {what}"
    if not record.would_change:
        _count("changed")
    if told not in record.would_change:
        record.would_change += (told,)


def _count(outcome: str) -> None:
    with _lock:
        _calls[outcome] += 1


def take_report() -> str | None:
    """Return what policy on trial would have done since the last report, or None where that is nothing."""
    with _lock:
        found = [f"{outcome} {count} call{'' if count == 1 else 's'}" for outcome, count in _calls.items() if count]
        _calls.update(refused=0, changed=0)
    return f"policy on trial would have {' and '.join(found)}" if found else None
