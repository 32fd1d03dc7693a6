"""Named, ordered entries: what is registered globally, and what a scope owns.

Reading is a lock-free look at an immutable snapshot; only registering and removing takes the lock.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, Generic, Protocol, TypeVar, cast, get_args

from spanrelay.errors import ConfigurationError
from spanrelay.records import Kind


class Entry(Protocol):
    """What a registry holds."""

    @property
    def name(self) -> str:
        """Unique in one registry."""
        ...

    @property
    def place(self) -> int:
        """Lower stands further out, whatever the priority is; 0 is where applications register."""
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


_CACHED = 64


class _Changing:
    """Whose turn it is to register: registering is rare, and so all registries have one lock."""

    def __init__(self) -> None:
        self.free()

    def free(self) -> None:
        """Take a lock that nobody holds: a forked child has none of its parent's threads."""
        self.lock = threading.Lock()


_changing = _Changing()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_changing.free)


class _Change:
    """What a thread has added to one registry and taken out of it, and nobody sees yet."""

    __slots__ = ("added", "removed")

    def __init__(self) -> None:
        self.added: list[Any] = []
        self.removed: list[Any] = []

    def discard(self, entry: Any) -> None:
        self.added = [other for other in self.added if other is not entry]
        self.removed.append(entry)

    def over(self, entries: Iterable[Any]) -> tuple[Any, ...]:
        """Return `entries` with the change made."""
        kept = (entry for entry in entries if not any(entry is gone for gone in self.removed))
        return _in_order((*kept, *self.added))


class _Held(threading.local):
    changes: dict[Any, _Change] | None = None


_held = _Held()


def _held_change(registry: Registry[Any]) -> _Change | None:
    return None if _held.changes is None else _held.changes.setdefault(registry, _Change())


@contextmanager
def together() -> Generator[None]:
    """Let what this thread registers and removes in the block be seen at once at its end; after an error, none of it.

    So no call is ever made between an old policy and a new one.
    """
    if _held.changes is not None:
        yield
        return
    changes: dict[Any, _Change] = {}
    _held.changes = changes
    try:
        yield
    finally:
        _held.changes = None
    for registry, change in changes.items():
        registry._publish(change)


class Registry(Generic[E]):
    """Entries of one owner, in order: by place, ascending priority, then name."""

    __slots__ = ("_cache", "entries")

    def __init__(self) -> None:
        self.entries: tuple[E, ...] = ()
        self._cache: dict[object, tuple[object, object]] = {}

    def add(self, entry: E) -> Handle:
        """Register `entry`.

        Raises:
            ConfigurationError: an entry of that name is there already.
        """
        change = _held_change(self)
        with _changing.lock:
            entries = self.entries if change is None else change.over(self.entries)
            if any(other.name == entry.name for other in entries):
                raise ConfigurationError(f"{entry.name!r} is already registered; remove it first or pass another name=")
            if change is None:
                self._set(_in_order((*entries, entry)))
            else:
                change.added.append(entry)
        return Handle(lambda: self._discard(entry))

    def _discard(self, entry: E) -> None:
        change = _held_change(self)
        with _changing.lock:
            if change is None:
                self._set(tuple(other for other in self.entries if other is not entry))
            else:
                change.discard(entry)

    def _publish(self, change: _Change) -> None:
        with _changing.lock:
            self._set(change.over(self.entries))

    def clear(self) -> None:
        """Take everything out; calls that have started keep what they saw."""
        with _changing.lock:
            self._set(())

    def restore(self, entries: tuple[E, ...]) -> None:
        """Have the entries again that there were before, and no others."""
        with _changing.lock:
            self._set(entries)

    def _set(self, entries: tuple[E, ...]) -> None:
        # What was derived holds entries that may be gone; who derives now checks which entries it saw.
        self.entries, self._cache = entries, {}

    def derived(self, key: object, build: Callable[[tuple[E, ...]], T]) -> T:
        """Return `build(entries)`, kept under `key` until the entries change."""
        entries = self.entries
        cached = self._cache.get(key)
        if cached is not None and cached[0] is entries:
            return cached[1]  # pyright: ignore[reportReturnType] - the key names the type
        value = build(entries)
        if len(self._cache) >= _CACHED:
            # Keys hold middleware that may be long gone.
            self._cache = {}
        self._cache[key] = (entries, value)
        return value


def _in_order(entries: Iterable[E]) -> tuple[E, ...]:
    return tuple(sorted(entries, key=lambda entry: (entry.place, entry.priority, entry.name)))


def visible(registries: tuple[Registry[E], ...]) -> tuple[E, ...]:
    """Return the entries of several registries, global first, then outer to inner scope, in running order.

    By place, then ascending priority; at equal priority the global ones come by name, then each scope's by name.
    """
    merged = [entry for registry in registries for entry in registry.entries]
    return tuple(sorted(merged, key=lambda entry: (entry.place, entry.priority)))


# --- what every declaration reads alike --------------------------------------------------------------------


def name_of(function: Callable[..., Any]) -> str:
    """Return what a function is called where it is defined: `Class.method`, without the functions around it."""
    return getattr(function, "__qualname__", type(function).__qualname__).rpartition("<locals>.")[2]


def kinds_of(kinds: Iterable[str] | str | None) -> frozenset[Kind] | None:
    """Return the kinds that a declaration names, one alone or several; None, which means no limit, stays None.

    Raises:
        TypeError: it is neither text nor several of them.
        ValueError: one of them is no `Kind`: what is declared for it would never run, and nobody would notice.
    """
    return cast(
        "frozenset[Kind] | None",
        named_of("kinds", kinds, get_args(Kind), "a kind or several: kinds='llm' or kinds=['llm', 'tool']"),
    )


def named_of(
    option: str, given: Iterable[str] | str | None, choices: tuple[str, ...], expected: str
) -> frozenset[str] | None:
    """Return what an option of a declaration names of `choices`, one alone or several; None stays None.

    Raises:
        TypeError: it is neither text nor several of them; the message says what is `expected`.
        ValueError: one of them is no choice.
    """
    if given is None:
        return None
    if not isinstance(given, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] - users pass anything
        raise TypeError(f"{option}={given!r} must be {expected}")
    named = (given,) if isinstance(given, str) else tuple(given)
    unknown = [name for name in named if name not in choices]
    if unknown:
        raise ValueError(f"{option}= names {', '.join(map(repr, unknown))}; use some of {', '.join(choices)}")
    return frozenset(named)


def check_options(what: str, options: Mapping[str, Any], known: Mapping[str, tuple[Any, str]]) -> None:
    """Check the options of the declaration `what`; `known` says of each what `isinstance` takes, and in words.

    Raises:
        TypeError: an option is unknown, or not such a value. None, which leaves the default, always is.
    """
    for option, value in options.items():
        if option not in known:
            raise TypeError(f"{what}() has no option {option!r}; {_meant(option, known)}")
        accepted, words = known[option]
        if value is not None and not isinstance(value, accepted):
            raise TypeError(f"{what}({option}={value!r}): {option} must be {words}")


def _meant(option: str, known: Mapping[str, Any]) -> str:
    from difflib import get_close_matches  # only where something is wrong

    near = get_close_matches(option, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(known)}"
