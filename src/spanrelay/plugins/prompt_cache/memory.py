"""What is known of prompts that were sent: when each prefix was last used, and how often prefixes are used again.

It holds digests, times and counts, never what was said, and no more than so many of each.
"""

from __future__ import annotations

import os
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from spanrelay.plugins.prompt_cache.marking import TTL
from spanrelay.plugins.prompt_cache.rules import LATER_S, SOON_S

V = TypeVar("V")
KEPT = 4096
"""Prefixes, entries and scaffolds, of each at most."""
_WEIGHT = 1.0
"""How many uses what is known of a more general sort counts for, where little is known of one."""
REMEMBERED = 64
"""Uses of one sort after which half of them are forgotten, so that an agent may change its ways."""
TURNS = 12
"""Turns of a conversation that are told apart; all later ones are one sort."""
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
        if self.asked >= REMEMBERED:
            self.asked, self.soon, self.later = self.asked // 2, self.soon // 2, self.later // 2

    def of(self, ttl: TTL) -> int:
        """How many were used again while a mark of `ttl` would have held."""
        return self.soon if ttl == "5m" else self.later


@dataclass(slots=True)
class Use:
    """One use of a prefix: when, what of it is counted, and whether it is counted."""

    at: float
    odds: tuple[Odds, ...]
    depth: int = 0
    """Turns of its conversation before it."""
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
    staked: float = 0.0
    """What requests on their way pay for writing."""
    answers: int = 0
    tokens_per_character: float = 0.25
    refuses: bool = False
    """Whether the provider refused a mark: there will be no other."""


@dataclass(slots=True)
class Scaffold:
    """What is known of one model with its tools and its system prompt.

    Attributes:
        digest: Digits that stand for it in every process.
        api: Whose rules hold.
        model: Which is asked.
        reuse: How often it is used again.
        first: How often a conversation's first request is gone on from.
        further: The same of all others.
        turns: The same of each of the first turns, since conversations of one agent often end at the same.
    """

    digest: str
    api: str = ""
    model: str = ""
    reuse: Odds = field(default_factory=Odds)
    first: Odds = field(default_factory=Odds)
    further: Odds = field(default_factory=Odds)
    turns: list[Odds] = field(default_factory=lambda: [Odds() for _ in range(TURNS)])

    @property
    def name(self) -> str:
        """The first of its digits, as spans have them."""
        return self.digest[:8]

    def sorts(self) -> dict[str, Odds]:
        """Return all that is counted of it, by name."""
        turns = {f"turn {number}": odds for number, odds in enumerate(self.turns)}
        return {"reuse": self.reuse, "first": self.first, "further": self.further, **turns}


class Memory:
    """All of it. Not thread-safe: whoever asks holds a lock."""

    def __init__(self) -> None:
        self.scaffolds: Bounded[Scaffold] = Bounded()
        self.recalled: dict[str, Scaffold] = {}
        """Those by digest that are known from elsewhere, and were not asked here yet."""
        self.tools: Bounded[Odds] = Bounded()
        """How often sets of tools are used again, whatever system prompt stands behind them."""
        self.entries: Bounded[Entry] = Bounded()
        self._uses: Bounded[Use] = Bounded()
        self._open: deque[Use] = deque()
        self._gap = 0.0
        self.accounts: dict[tuple[str, str], Account] = {}
        self.reuse, self.of_tools, self.first, self.further = Odds(), Odds(), Odds(), Odds()

    def general(self) -> dict[str, Odds]:
        """Return what is counted of all scaffolds, by name."""
        return {"reuse": self.reuse, "tools": self.of_tools, "first": self.first, "further": self.further}

    def sorts(self, scaffold: Scaffold, depth: int) -> tuple[Odds, ...]:
        """Return of what sorts a request is, behind `depth` turns of its conversation, the most general first."""
        of_all, own = (self.further, scaffold.further) if depth else (self.first, scaffold.first)
        return (of_all, own, scaffold.turns[depth]) if depth < TURNS else (of_all, own)

    def account(self, api: str, model: str) -> Account:
        """The account of a model, of which there are few."""
        if len(self.accounts) > KEPT:
            self.accounts.clear()
        return self.accounts.setdefault((api, model), Account())

    def use(self, digest: int, now: float, *odds: Odds, depth: int = 0) -> None:
        """Note that a prefix is used, and counted among `odds` once it is used again, or is not for long."""
        use = Use(now, odds, depth)
        self._uses.put(digest, use)
        self._open.append(use)
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


def chance_of(sorts: Iterable[Odds], ttl: TTL, *, given: float = 0.5) -> float:
    """Return the chance that a prefix is used again, by sorts of it from the most general to its own.

    Where little is known of a sort, what is known of the more general one stands in, and for all of them `given`.
    """
    chance = given
    for odds in sorts:
        chance = (odds.of(ttl) + _WEIGHT * chance) / (odds.asked + _WEIGHT)
    return chance


def expected_reads(sorts: Iterable[Odds], onward: Iterable[Odds], ttl: TTL) -> float:
    """Return how often what is written now is read: once by the chance of `sorts`, and again by that of `onward`."""
    chance = chance_of(sorts, ttl)
    return chance / max(1 - chance_of(onward, ttl, given=min(chance, 0.5)), 0.02)
