"""Calls of tools that a framework has answered itself, or by way of people, in place of an execution.

What it answers with reads like a result, and none of the tool's has gone into it.
"""

from __future__ import annotations

from collections import OrderedDict

MAX_KNOWN = 4096
"""Calls that are remembered."""

_answered: OrderedDict[str, None] = OrderedDict()


def note_answered(call_id: object) -> None:
    """Remember that the call of a tool has its answer from elsewhere, or from an execution that we judge."""
    if isinstance(call_id, str) and call_id:
        _answered[call_id] = None
        while len(_answered) > MAX_KNOWN:
            _answered.popitem(last=False)


def is_answered(call_id: str | None) -> bool:
    """Whether the call has been noted."""
    return call_id in _answered
