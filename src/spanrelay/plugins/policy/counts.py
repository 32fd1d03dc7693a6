"""Counts what is used against what is allowed: calls, tokens, cost, and when the last calls were.

Every method is safe among threads, and where the store is shared among processes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import TypeAlias

from spanrelay._guard import losses
from spanrelay.plugins.keeping import StoreError, renewed
from spanrelay.plugins.policy.limits import NOTHING, Count, Limits, Spent
from spanrelay.plugins.policy.stores import MemoryStore, Store

Share: TypeAlias = tuple[str, Limits, str]
"""A key of the counts, the limits for it, and how a reason calls it."""


class Counts:
    """The counts of everybody, by key.

    Args:
        clock: Seconds; such that only grow, unless other processes count too: then those since the epoch.
        store: Where the counts are kept; in memory by default.
    """

    def __init__(self, clock: Callable[[], float], store: Store | None = None) -> None:
        self._clock = clock
        self.store: Store = MemoryStore() if store is None else store
        self._owed: list[tuple[list[str], Callable[[list[Count]], bool], str]] = []
        self.after_fork()
        renewed.add(self)

    def after_fork(self) -> None:
        """Take a lock that nobody holds; what the parent owes, the parent pays."""
        self._lock = threading.RLock()
        self._owed = []

    def refusal(self, shares: Sequence[Share], *, tool: bool) -> str | None:
        """Return why a call is not allowed now, or None; nothing is counted.

        Raises:
            StoreError: nobody can say.
        """
        counts, now = self.store.read(_keys(shares)), self._clock()
        if any(count.is_ahead(now) for count in counts):
            self._put_back(shares)
        return self._refusal(shares, counts, tool)

    def _put_back(self, shares: Sequence[Share]) -> None:
        """Keep that the clock was put back: who only reads counts would find them ahead, and refuse, until then."""

        def put_back(counts: list[Count]) -> bool:
            for count in counts:
                count.put_back(self._clock())
            return True

        self.store.update(_keys(shares), put_back, _name())

    def admit(
        self, shares: Sequence[Share], *, tool: bool, estimate: Spent = NOTHING, allowed: bool = False
    ) -> str | None:
        """Count a call that is about to be sent, with a first estimate; or return why it may not be.

        Args:
            shares: Whose counts.
            tool: Whether a tool is called, and no model.
            estimate: What it takes at the least.
            allowed: Whether somebody has allowed the call, whatever the counts are.

        Raises:
            StoreError: it cannot be counted.
        """
        reason: str | None = None

        def count(counts: list[Count]) -> bool:
            nonlocal reason
            reason = None if allowed else self._refusal(shares, counts, tool)
            if reason is None:
                for each, (_, limits, _) in zip(counts, shares, strict=True):
                    each.add(tool, estimate, self._clock() if limits.max_calls_per_minute is not None else None)
            return reason is None

        self._pay()
        self.store.update(_keys(shares), count, _name())
        return reason

    def correct(self, shares: Sequence[Share], estimate: Spent, spent: Spent, model: str) -> None:
        """Count what an answer has taken in the place of the estimate.

        Where that cannot be counted now it is owed, and the next call waits for it.
        """

        def add(counts: list[Count]) -> bool:
            for count in counts:
                count.correct(estimate, spent, model)
            return True

        change = _keys(shares), add, _name()
        try:
            self.store.update(*change)
        except StoreError:
            losses.add("answers whose tokens could not be counted when they came")
            with self._lock:
                self._owed.append(change)

    def _pay(self) -> None:
        while self._owed:
            with self._lock:
                owed = self._owed.pop() if self._owed else None
            if owed is None:
                return
            try:
                self.store.update(*owed)
            except StoreError:
                with self._lock:
                    self._owed.append(owed)
                raise

    def _refusal(self, shares: Sequence[Share], counts: Sequence[Count], tool: bool) -> str | None:
        now = self._clock()
        for count, (_, limits, whose) in zip(counts, shares, strict=True):
            reason = count.refusal(limits, whose, tool, now)
            if reason is not None:
                return reason
        return None


def _name() -> str:
    """Return a name for a change that no other has, in whatever process."""
    return os.urandom(12).hex()


def _keys(shares: Sequence[Share]) -> list[str]:
    return [key for key, _, _ in shares]
