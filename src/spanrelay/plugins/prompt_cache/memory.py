"""What is known of prompts that were sent: when each prefix was last used, and how often prefixes are used again.

It holds digests, times and counts, never what was said, and no more than so many of each.
"""

from __future__ import annotations

import os
import weakref
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from spanrelay.plugins.prompt_cache.marking import TTL
from spanrelay.plugins.prompt_cache.rules import LATER_S, SOON_S

V = TypeVar("V")
KEPT = 4096
"""Prefixes, entries and scaffolds, of each at most."""
_WEIGHT = 2.0
"""How many uses what is known of all prompts counts for, where little is known of one."""
_REMEMBERED = 64
"""Uses of one sort after which half of them are forgotten, so that an agent may change its ways."""
_SLOWEST_S = SOON_S
_SOONEST_S = 15.0
"""Seconds after which a prefix that was not used again counts as one that is not, at the least."""
_MARGIN = 0.97
"""The share of its time in which an entry is relied on: clocks differ, and requests take their time."""


class Bounded(OrderedDict[int, V], Generic[V]):
    """A dictionary that forgets what was put there first."""

    def put(self, key: int, value: V) -> None:
        """Put `value`, as the newest."""
        self[key] = value
        self.move_to_end(key)
        if len(self) > KEPT:
            self.popitem(last=False)


@dataclass(slots=True)
class Odds:
    """How often prefixes of one sort were used again, of how many: within five minutes, and within an hour."""

    asked: int = 0
    soon: int = 0
    later: int = 0

    def ask(self) -> None:
        """Count one more; what is long ago counts for less each time."""
        self.asked += 1
        if self.asked >= _REMEMBERED:
            self.asked, self.soon, self.later = self.asked // 2, self.soon // 2, self.later // 2

    def of(self, ttl: TTL) -> int:
        """How many were used again while a mark of `ttl` would have held."""
        return self.soon if ttl == "5m" else self.later


@dataclass(slots=True)
class Use:
    """One use of a prefix: when, what of it is counted, and whether it is counted."""

    at: float
    odds: tuple[Odds, ...]
    bet: bool = False
    """Whether it was written for use that nobody has seen yet."""
    counted: bool = False
    again: bool = False


@dataclass(slots=True)
class Entry:
    """What the provider holds, as far as is known: until when, and for how long from each use."""

    expires: float
    ttl: TTL


@dataclass(slots=True)
class Account:
    """What caching came to for one model, in tokens of plain input, by what the provider reported."""

    sent: float = 0.0
    net: float = 0.0
    answers: int = 0
    tokens_per_character: float = 0.25
    refuses: bool = False
    """Whether the provider refused a mark: there will be no other."""


@dataclass(slots=True)
class Scaffold:
    """What is known of one model with its tools and its system prompt."""

    name: str
    reuse: Odds = field(default_factory=Odds)
    first: Odds = field(default_factory=Odds)
    further: Odds = field(default_factory=Odds)


class Memory:
    """All of it. Not thread-safe: whoever asks holds a lock."""

    def __init__(self) -> None:
        self.scaffolds: Bounded[Scaffold] = Bounded()
        self.tools: Bounded[Odds] = Bounded()
        """How often sets of tools are used again, whatever system prompt stands behind them."""
        self.entries: Bounded[Entry] = Bounded()
        self._uses: Bounded[Use] = Bounded()
        self._open: deque[Use] = deque()
        self._gap = 0.0
        self.bets = 0
        """Prefixes that were written, and of which it is not known yet whether they are used again."""
        self.accounts: dict[tuple[str, str], Account] = {}
        self.reuse, self.of_tools, self.first, self.further = Odds(), Odds(), Odds(), Odds()

    def account(self, api: str, model: str) -> Account:
        """The account of a model, of which there are few."""
        if len(self.accounts) > KEPT:
            self.accounts.clear()
        return self.accounts.setdefault((api, model), Account())

    def use(self, digest: int, now: float, *odds: Odds, bet: bool = False) -> None:
        """Note that a prefix is used, and counted among `odds` once it is used again, or is not for long."""
        use = Use(now, odds, bet)
        self._uses.put(digest, use)
        self._open.append(use)
        self.bets += bet
        patience = min(_SLOWEST_S, max(_SOONEST_S, 4 * self._gap))
        while self._open and (now - self._open[0].at > patience or len(self._open) > KEPT):
            self._count(self._open.popleft())

    def used_before(self, digest: int) -> Use | None:
        """Return the last use of a prefix."""
        return self._uses.get(digest)

    def again(self, use: Use, now: float, *, in_turn: bool) -> None:
        """Note that what `use` used is used again; `in_turn`: by the request that goes on from it."""
        self._count(use)
        if use.again:
            return
        use.again = True
        gap = now - use.at
        if in_turn and gap <= SOON_S:
            self._gap = gap if not self._gap else self._gap + (gap - self._gap) / 8
        for odds in use.odds:
            odds.soon += gap <= SOON_S * _MARGIN
            odds.later += gap <= LATER_S * _MARGIN

    def _count(self, use: Use) -> None:
        """Count `use` as one of those that may be used again; once."""
        if not use.counted:
            use.counted = True
            self.bets -= use.bet
            for odds in use.odds:
                odds.ask()

    def is_live(self, digest: int, now: float) -> bool:
        """Whether the provider holds a prefix, as far as is known."""
        entry = self.entries.get(digest)
        return entry is not None and now < entry.expires


class Freed(Protocol):
    """What has a lock."""

    def free(self) -> None:
        """Take one that nobody holds."""
        ...


def free_in_children(holder: Freed) -> None:
    """Free `holder` in each process that is forked while it is there."""
    if hasattr(os, "register_at_fork"):
        method = weakref.WeakMethod(holder.free)
        os.register_at_fork(after_in_child=lambda: (free := method()) and free())


def expected_reads(odds: Odds, all_odds: Odds, ttl: TTL) -> float:
    """Return how often what is written now is read: what of one sort is known, and a little of all others.

    A prefix that is used again with the chance p, each time anew, is read p / (1 - p) times.
    """
    general = (all_odds.of(ttl) + 1) / (all_odds.asked + 2)
    chance = (odds.of(ttl) + _WEIGHT * general) / (odds.asked + _WEIGHT)
    return chance / max(1 - chance, 0.02)
