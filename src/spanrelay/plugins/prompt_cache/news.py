"""Events of a call's span for what a governor decides otherwise than before, and why. What stays is no news."""

from __future__ import annotations

from typing import Any, NamedTuple

from spanrelay.plugins.prompt_cache.memory import Bounded
from spanrelay.plugins.prompt_cache.planning import Plan
from spanrelay.records import PromptCache
from spanrelay.scopes import mark_span
from spanrelay.semconv import names


class Decision(NamedTuple):
    """What is decided of a scaffold, or of requests of a model of which nothing else can be said."""

    decision: str
    reason: str
    marks: tuple[str, ...] = ()
    """The parts of the request that marks stand in, and for how long; where in a conversation, each turn changes."""


class News:
    """The last decisions, by what they are about. Not thread-safe: whoever asks holds a lock."""

    def __init__(self) -> None:
        self._last: Bounded[Decision] = Bounded()

    def has(self, key: int, decision: Decision) -> bool:
        """Whether it is another decision than the last one of `key`, which it is from now on.

        That a request is left as it is, is none where nothing like it was ever marked: the attributes say so.
        """
        last = self._last.get(key)
        if last == decision:
            return False
        self._last.put(key, decision)
        return last is not None or decision.decision != "unmarked"


def decided(told: PromptCache, plan: Plan) -> Decision:
    """Return what a plan comes to, and why."""
    if plan.marks:
        marks = dict.fromkeys(f"{mark.place[0]} {mark.ttl}" for mark in plan.marks)
        return Decision(told.decision, "pays" if plan.stake else "held", tuple(marks))
    reason = "below_minimum" if plan.short else "uncovered" if plan.uncovered else "rarely_reused"
    return Decision(told.decision, reason)


def tell(call: Any, told: PromptCache, decision: Decision) -> None:
    """Mark a decision on the span of `call`."""
    said = {
        names.PROMPT_CACHE_DECISION: decision.decision,
        names.PROMPT_CACHE_REASON: decision.reason,
        names.PROMPT_CACHE_SCAFFOLD: told.scaffold,
        names.PROMPT_CACHE_MARKS: list(decision.marks),
    }
    _mark(call, names.PROMPT_CACHE_DECIDED, {name: value for name, value in said.items() if value})


def tell_of_waiting(call: Any, seconds: float) -> None:
    """Mark on the span of `call` that it was held back until another had written what both begin with."""
    _mark(call, names.PROMPT_CACHE_WAITED, {names.PROMPT_CACHE_WAITED_S: round(seconds, 6)})


def _mark(call: Any, name: str, attributes: dict[str, Any]) -> None:
    root = call.root
    mark_span(root.span, root.scope, name, attributes)
