"""Named, ordered entries: what is registered globally, and what a scope owns.

Reading is a lock-free look at an immutable snapshot; only registering and removing takes the lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from spanrelay.errors import ConfigurationError


class Entry(Protocol):
    """What a registry holds."""

    @property
    def name(self) -> str:
        """Unique in one registry."""
        ...

    @property
    def priority(self) -> int:
        """Lower runs first."""
        ...


E = TypeVar("E", bound=Entry)
T = TypeVar("T")


class Handle:
    """Removes one registration: `handle.remove()`, or leave `with handle:`. Removing twice is harmless."""

    __slots__ = ("_remove",)

    def __init__(self, remove: Callable[[], None]) -> None:
        self._remove = remove

    def remove(self) -> None:
        """Take the entry out; calls that have started keep it."""
        self._remove()

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


class Registry(Generic[E]):
    """Entries of one owner, in order: ascending priority, then name."""

    __slots__ = ("_cache", "_lock", "entries")

    def __init__(self) -> None:
        self.entries: tuple[E, ...] = ()
        self._lock = threading.Lock()
        self._cache: dict[object, tuple[object, object]] = {}

    def add(self, entry: E) -> Handle:
        """Register `entry`.

        Raises:
            ConfigurationError: an entry of that name is there already.
        """
        with self._lock:
            if any(other.name == entry.name for other in self.entries):
                raise ConfigurationError(f"{entry.name!r} is registered already; remove it first or pass another name=")
            self.entries = tuple(sorted((*self.entries, entry), key=lambda e: (e.priority, e.name)))
        return Handle(lambda: self._discard(entry))

    def _discard(self, entry: E) -> None:
        with self._lock:
            self.entries = tuple(other for other in self.entries if other is not entry)

    def clear(self) -> None:
        """Take everything out; calls that have started keep what they saw."""
        with self._lock:
            self.entries = ()

    def derived(self, key: object, build: Callable[[tuple[E, ...]], T]) -> T:
        """Return `build(entries)`, kept under `key` until the entries change."""
        entries = self.entries
        cached = self._cache.get(key)
        if cached is not None and cached[0] is entries:
            return cached[1]  # pyright: ignore[reportReturnType] - the key names the type
        value = build(entries)
        self._cache[key] = (entries, value)
        return value


def visible(registries: tuple[Registry[E], ...]) -> tuple[E, ...]:
    """Return the entries of several registries, global first, then outer to inner scope, in running order.

    Ascending priority; at equal priority the global ones come by name, then each scope's by name.
    """
    merged = [entry for registry in registries for entry in registry.entries]
    return tuple(sorted(merged, key=lambda entry: entry.priority))
