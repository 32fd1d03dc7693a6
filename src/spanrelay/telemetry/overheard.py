"""What log records of other instrumentation tell of model calls, kept until the spans of these calls have ended.

A record may come before its span ends or shortly after; which span it is of, its ids say. What no span takes in time
is lost for trajectories, and counted.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from weakref import WeakSet

from spanrelay._guard import losses
from spanrelay._masking import masked_mapping
from spanrelay.observation.observers import NOBODY, Frozen, Watchers
from spanrelay.records import Kind
from spanrelay.semconv.events import Event, attributes_of
from spanrelay.telemetry.attributes import sanitized_attributes

_SLOT_BYTES = 64
"""What a value takes beside its text, about."""

Identity = tuple[int, int]
"""A trace's id, and a span's."""


class Heard(NamedTuple):
    """What an event told, before any sanitizer, and who was watching where it was made."""

    event: Event
    watchers: Watchers | None


class Overheard:
    """Keeps what was told of spans that have not taken it. Thread-safe; bounded, and the oldest is forgotten first.

    Args:
        most_bytes: How much may wait, about.
        most_records: How many records may wait.
    """

    def __init__(self, most_bytes: int = 16 << 20, most_records: int = 8192) -> None:
        self._most = (most_bytes, most_records)
        self.listeners: WeakSet[Any] = WeakSet()
        """Who takes what is kept."""
        self.comes = False
        """Whether log records pass by us at all."""
        self.begin()

    def begin(self) -> None:
        """Know of nothing: a child begins so."""
        self.waiting: dict[Identity, tuple[list[Heard], list[int]]] = {}
        """What was told of each span, with the sizes; whoever asks only whether there is any needs no lock."""
        self._size = self._count = 0
        self._lock = threading.RLock()  # a signal handler may log while we keep

    def keep(self, identity: Identity, heard: Heard) -> None:
        """Keep what was told of a span, where anybody listens."""
        if not self.listeners:
            return
        size = _size_of(heard.event.body) + _size_of(heard.event.attributes)
        with self._lock:
            told, sizes = self.waiting.setdefault(identity, ([], []))
            told.append(heard)
            sizes.append(size)
            self._size, self._count = self._size + size, self._count + 1
            while self._size > self._most[0] or self._count > self._most[1]:
                forgotten = self.take(next(iter(self.waiting)))
                losses.add("log records not in trajectories because too many were waiting", len(forgotten))

    def take(self, identity: Identity) -> Sequence[Heard]:
        """Return what was told of a span so far, in order, and keep it no longer."""
        with self._lock:
            told, sizes = self.waiting.pop(identity, ((), ()))
            self._size, self._count = self._size - sum(sizes), self._count - len(sizes)
        return told

    def leave(self, listener: object) -> None:
        """Listen no longer; with the last listener what is left is lost."""
        with self._lock:
            self.listeners.discard(listener)
            if not self.listeners:
                losses.add("log records not in trajectories because they came too late for their spans", self._count)
                self.begin()


def _size_of(value: object) -> int:
    """Return about how many bytes a value takes."""
    if isinstance(value, (str, bytes)):
        return _SLOT_BYTES + len(value)
    if isinstance(value, Mapping):
        return _SLOT_BYTES + sum(_size_of(key) + _size_of(item) for key, item in value.items())
    if isinstance(value, Sequence):
        return _SLOT_BYTES + sum(map(_size_of, value))
    return _SLOT_BYTES


def told_by(heard: Sequence[Heard], name: str, kind: Kind | None, frozen: Frozen | None) -> dict[str, Any]:
    """Return what events told of a span in the names of its attributes, as all leave it who were watching.

    Args:
        heard: What the events told.
        name: The name of the span.
        kind: Its kind.
        frozen: Who was watching as it ended.
    """
    attributes = attributes_of(each.event for each in heard)
    watchers = frozen.watchers if frozen is not None else NOBODY
    for each in heard:
        watchers = watchers.holding_on_to(each.watchers)
    if watchers.sanitizers:
        moment = frozen.again() if frozen is not None else watchers.still
        attributes = moment.run(sanitized_attributes, attributes, watchers, name, {}, kind)
    return dict(masked_mapping(attributes))


overheard = Overheard()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=overheard.begin)
