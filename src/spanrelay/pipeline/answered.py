"""Calls of tools that a framework has answered itself, or by way of people, in place of an execution.

What it answers with reads like a result, and none of the tool's has gone into it.
"""

from __future__ import annotations

from collections import OrderedDict

MAX_KNOWN = 4096
"""Calls that are remembered."""

_answered: OrderedDict[tuple[str, str | None], None] = OrderedDict()


def note_answered(call_id: object, name: object) -> None:
    """Remember that the call of a tool has its answer from elsewhere, or from an execution that we judge.

    With the tool's name, as some providers give calls of several answers the same id; None where nobody says it.
    """
    if isinstance(call_id, str) and call_id:
        known = call_id, name if isinstance(name, str) else None
        _answered[known] = None
        _answered.move_to_end(known)
        while len(_answered) > MAX_KNOWN:
            _answered.popitem(last=False)


def is_answered(call_id: str | None, name: str) -> bool:
    """Whether the call of a tool has been noted."""
    return call_id is not None and ((call_id, name) in _answered or (call_id, None) in _answered)
