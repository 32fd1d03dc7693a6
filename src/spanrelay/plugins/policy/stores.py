"""Where counts are kept: in this process, or where other processes find them too.

A change is made as one, whoever else changes the same. A store that cannot be reached raises `StoreError`.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from spanrelay.plugins.policy.limits import Count

MAX_KEPT = 10_000
"""Counts that are kept in memory; the one used longest ago is forgotten first."""


class StoreError(Exception):
    """Counts cannot be read or written; its text names the store, without what may be secret."""


@contextmanager
def turn(lock: Any, seconds: float) -> Generator[None]:
    """Hold `lock`, which threads of one process take one after another.

    It is a lock that its thread may take again: the collector of garbage may end an abandoned stream, whose tokens
    are then counted, within whatever is done with a store.

    Raises:
        TimeoutError: others have had it for longer than `seconds`.
    """
    if not lock.acquire(timeout=seconds):
        raise TimeoutError("other calls of this process wait for them too")
    try:
        yield
    finally:
        lock.release()


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


class Renewed(Protocol):
    """What has state that a forked child must not go on with."""

    def after_fork(self) -> None:
        """Begin anew."""
        ...


renewed: weakref.WeakSet[Renewed] = weakref.WeakSet()
"""What `after_fork` is called of in a forked child: a thread that does not live on there may have held a lock."""


def _renew() -> None:
    for each in list(renewed):
        each.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
