"""How much may be used, what has been, and why no more is allowed.

A reason is worded here and nowhere else.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias, cast

from spanrelay.pipeline.middleware import Mode

OnRefusal: TypeAlias = Literal["refuse", "ask"]
"""What becomes of what is refused: that, or an approver decides."""
AMOUNTS = ("max_calls", "max_tool_calls", "max_calls_per_minute", "max_tokens", "max_cost_usd")
"""The limits of a table, beside what becomes of what they refuse."""
MINUTE = 60.0


@dataclass(slots=True)
class Limits:
    """How much one session, one user, or the process may use; None is without limit.

    `max_calls` and `max_calls_per_minute` are of models, `max_tool_calls` of tools. Each sending counts.
    `mode`: `observe` puts them on trial, whatever the plugin is. `on_refusal`: `ask` lets an approver decide.
    """

    max_calls: int | None = None
    max_tool_calls: int | None = None
    max_calls_per_minute: int | None = None
    max_tokens: int | None = None
    max_cost_usd: float | None = None
    mode: Mode | None = None
    on_refusal: OnRefusal | None = None

    def are_set(self) -> bool:
        """Whether there is any."""
        return any(getattr(self, name) is not None for name in AMOUNTS)

    def limit_models(self) -> bool:
        """Whether any is of models."""
        return any(getattr(self, name) is not None for name in AMOUNTS if name != "max_tool_calls")

    def need_usage(self) -> bool:
        """Whether answers must be read to count."""
        return self.max_tokens is not None or self.max_cost_usd is not None


class Spent(NamedTuple):
    """What a call has taken, or is taken to take; a cost that nobody knows is None."""

    tokens: int = 0
    cost_usd: float | None = 0.0


NOTHING = Spent()


@dataclass(slots=True)
class Count:
    """What one of them has used. `unpriced` is a model that was used and whose cost nobody knows."""

    calls: int = 0
    tool_calls: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    unpriced: str | None = None
    times: deque[float] = field(default_factory=lambda: deque[float]())

    def refusal(self, limits: Limits, whose: str, tool: bool, now: float) -> str | None:
        """Return why another call is not allowed, or None."""
        if tool:
            allowed = limits.max_tool_calls
            return (
                None if allowed is None or self.tool_calls < allowed else _told(whose, self.tool_calls, allowed, "tool")
            )
        allowed = limits.max_calls
        if allowed is not None and self.calls >= allowed:
            return _told(whose, self.calls, allowed, "model")
        allowed = limits.max_tokens
        if allowed is not None and self.tokens >= allowed:
            return f"{whose} has used {self.tokens} of the {allowed} tokens allowed"
        if limits.max_cost_usd is not None and (self.unpriced is not None or self.cost_usd >= limits.max_cost_usd):
            return self._cost_refusal(limits.max_cost_usd, whose)
        allowed = limits.max_calls_per_minute
        if allowed is not None and self._calls_within_a_minute(now) >= allowed:
            return f"{whose} has made the {allowed} model calls allowed within a minute"
        return None

    def _cost_refusal(self, allowed: float, whose: str) -> str:
        if self.unpriced is not None:
            return f"{whose} has a limit for its cost and has used model {self.unpriced!r}, whose price is not known"
        return f"{whose} has cost {self.cost_usd:.4g} of the {allowed:.4g} US dollars allowed"

    def _calls_within_a_minute(self, now: float) -> int:
        if self.is_ahead(now):
            self.put_back(now)
        while self.times and now - self.times[0] >= MINUTE:
            self.times.popleft()
        return len(self.times)

    def is_ahead(self, now: float) -> bool:
        """Whether the clock was put back: what seems to be to come would count until then."""
        return bool(self.times) and self.times[-1] - now > MINUTE

    def put_back(self, now: float) -> None:
        """Take calls that seem to be to come for calls of now."""
        self.times = deque(min(time, now) for time in self.times)

    def add(self, tool: bool, estimate: Spent, now: float | None) -> None:
        """Count a call that is being sent, with what it takes at the least; `now` where the rate is limited."""
        if tool:
            self.tool_calls += 1
            return
        self.calls += 1
        self.tokens += estimate.tokens
        self.cost_usd += estimate.cost_usd or 0.0
        if now is not None:
            self.times.append(now)

    def correct(self, estimate: Spent, spent: Spent, model: str) -> None:
        """Put what a call of `model` has taken in the place of what it was taken to take."""
        self.tokens += spent.tokens - estimate.tokens
        self.cost_usd += (spent.cost_usd or 0.0) - (estimate.cost_usd or 0.0)
        if spent.cost_usd is None:
            self.unpriced = model

    def to_json(self) -> dict[str, Any]:
        """Return the count as JSON."""
        return {**asdict(self), "times": list(self.times)}

    @classmethod
    def from_json(cls, known: Mapping[str, Any]) -> Count:
        """Return the count that `to_json` wrote.

        Raises:
            ValueError, TypeError, KeyError: it is something else.
        """
        count = cls(**known)
        whole = {type(known[name]) for name in ("calls", "tool_calls", "tokens")} == {int}
        named = isinstance(known["unpriced"], (str, type(None)))
        if not (whole and named and _is_number(known["cost_usd"]) and _are_numbers(known["times"])):
            raise ValueError(f"{sorted(known)} do not have the types of a count")
        count.times = deque(known["times"])
        return count


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(cast("float", value))


def _are_numbers(values: object) -> bool:
    return isinstance(values, list) and all(map(_is_number, cast("list[object]", values)))


def _told(whose: str, used: int, allowed: int, what: str) -> str:
    return f"{whose} has made {used} of the {allowed} {what} calls allowed"
