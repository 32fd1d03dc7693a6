"""Where counts are kept: in this process, or where other processes find them too.

A change is made as one, whoever else changes the same. A store that cannot be reached raises `StoreError`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

from spanrelay.plugins.keeping import renewed
from spanrelay.plugins.policy.limits import Count

MAX_KEPT = 10_000
"""Counts that are kept in memory; the one used longest ago is forgotten first."""


class Store(Protocol):
    """Keeps counts by key."""

    shared: bool
    """Whether other processes use the same."""

    def read(self, keys: Sequence[str]) -> list[Count]:
        """Return the counts of `keys`; one that is not there is zero."""
        ...

    def update(self, keys: Sequence[str], change: Callable[[list[Count]], bool], once: str) -> None:
        """Change the counts of `keys` in place and keep them, if `change` returns true.

        Nobody else changes them meanwhile; where somebody has, `change` is called again with what they are now.
        `once` names the change: it is made once, though it is asked for again where its answer was lost.
        """
        ...

    def close(self) -> None:
        """Let go of files and connections; they are opened again if they are needed."""
        ...


class MemoryStore:
    """Keeps counts in this process."""

    shared = False

    def __init__(self, most: int = MAX_KEPT) -> None:
        self._most = most
        self._counts: OrderedDict[str, Count] = OrderedDict()
        self.after_fork()
        renewed.add(self)

    def __len__(self) -> int:
        return len(self._counts)

    def after_fork(self) -> None:
        """Take a lock that nobody holds."""
        self._lock = threading.RLock()

    def read(self, keys: Sequence[str]) -> list[Count]:
        """Return the counts of `keys`."""
        with self._lock:
            return [self._count(key) for key in keys]

    def update(self, keys: Sequence[str], change: Callable[[list[Count]], bool], once: str) -> None:
        """Let `change` change the counts of `keys`."""
        with self._lock:
            change([self._count(key) for key in keys])

    def close(self) -> None:
        """Nothing is open, and what is counted stays."""

    def _count(self, key: str) -> Count:
        count = self._counts.get(key)
        if count is None:
            count = self._counts[key] = Count()
            if len(self._counts) > self._most:
                self._counts.popitem(last=False)
        self._counts.move_to_end(key)
        return count
