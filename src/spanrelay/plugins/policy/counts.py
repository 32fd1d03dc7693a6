"""What sessions have used so far: calls, tokens, cost, and when their last calls were.

Memory is bounded: the sessions used longest ago are forgotten above a number. Every method is safe among threads.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

MINUTE = 60.0
MAX_SESSIONS = 10_000


@dataclass(slots=True)
class Limits:
    """How much one session, or the process, may use; None is without limit.

    `max_calls` and `max_calls_per_minute` are of models, `max_tool_calls` of tools. Each sending counts.
    """

    max_calls: int | None = None
    max_tool_calls: int | None = None
    max_calls_per_minute: int | None = None
    max_tokens: int | None = None
    max_cost_usd: float | None = None

    def are_set(self) -> bool:
        """Whether there is any."""
        return any(getattr(self, name) is not None for name in Limits.__slots__)

    def need_usage(self) -> bool:
        """Whether answers must be read to count."""
        return self.max_tokens is not None or self.max_cost_usd is not None


@dataclass(slots=True)
class Count:
    """What one session has used. `unpriced` is a model that was used and whose cost nobody knows."""

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
        while self.times and now - self.times[0] >= MINUTE:
            self.times.popleft()
        return len(self.times)

    def add(self, tool: bool, tokens: int, now: float | None) -> None:
        """Count a call that is being sent; `now` where the rate is limited."""
        if tool:
            self.tool_calls += 1
            return
        self.calls += 1
        self.tokens += tokens
        if now is not None:
            self.times.append(now)


def _told(whose: str, used: int, allowed: int, what: str) -> str:
    return f"{whose} has made {used} of the {allowed} {what} calls allowed"


Share: TypeAlias = tuple[object, Limits, str]
"""A key of the counts, the limits for it, and how a reason calls it."""


class Counts:
    """The counts of all sessions, by key.

    Args:
        clock: Seconds that only grow.
        max_sessions: How many sessions are remembered.
    """

    def __init__(self, clock: Callable[[], float], max_sessions: int = MAX_SESSIONS) -> None:
        self._clock = clock
        self._max = max_sessions
        self._counts: OrderedDict[object, Count] = OrderedDict()
        self._lock = threading.Lock()
        _all.add(self)

    def __len__(self) -> int:
        return len(self._counts)

    def refusal(self, shares: Sequence[Share], *, tool: bool) -> str | None:
        """Return why a call is not allowed now, or None; nothing is counted."""
        with self._lock:
            return self._refusal(shares, tool)

    def admit(self, shares: Sequence[Share], *, tool: bool, tokens: int) -> str | None:
        """Count a call that is about to be sent, with `tokens` as a first estimate; or return why it may not be."""
        with self._lock:
            reason = self._refusal(shares, tool)
            if reason is None:
                for key, limits, _ in shares:
                    now = self._clock() if limits.max_calls_per_minute is not None else None
                    self._count(key).add(tool, tokens, now)
            return reason

    def correct(self, shares: Sequence[Share], tokens: int, cost_usd: float | None, model: str) -> None:
        """Add what an answer has cost; `tokens` is the difference to the estimate, an unknown cost is None."""
        with self._lock:
            for key, _, _ in shares:
                count = self._count(key)
                count.tokens += tokens
                if cost_usd is None:
                    count.unpriced = model
                else:
                    count.cost_usd += cost_usd

    def _refusal(self, shares: Sequence[Share], tool: bool) -> str | None:
        now = self._clock()
        for key, limits, whose in shares:
            reason = self._count(key).refusal(limits, whose, tool, now)
            if reason is not None:
                return reason
        return None

    def _count(self, key: object) -> Count:
        count = self._counts.get(key)
        if count is None:
            count = self._counts[key] = Count()
            if len(self._counts) > self._max:
                self._counts.popitem(last=False)
        self._counts.move_to_end(key)
        return count


_all: weakref.WeakSet[Counts] = weakref.WeakSet()


def _renew_locks() -> None:
    for counts in list(_all):
        counts._lock = threading.Lock()


# A thread that does not live on in the child may hold a lock while the process forks.
os.register_at_fork(after_in_child=_renew_locks)
