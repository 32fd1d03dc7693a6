"""Where answers are kept: in this process, or where other processes find them too.

A store holds bytes by key and knows nothing of what they are. One that cannot be reached raises `StoreError`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Protocol

from spanrelay.plugins.keeping import StoreError, renewed

__all__ = ["MemoryStore", "Store", "StoreError"]


class Store(Protocol):
    """Keeps bytes by key."""

    shared: bool
    """Whether it takes a question to something outside of this process, for which no event loop is to wait."""

    def get(self, key: bytes) -> bytes | None:
        """Return what is kept by a key."""
        ...

    def put(self, key: bytes, data: bytes, ttl_seconds: float) -> None:
        """Keep `data` for so long, unless there is no room."""
        ...

    def close(self) -> None:
        """Let go of files and connections; they are opened again if they are needed."""
        ...


class MemoryStore:
    """Keeps so many bytes in this process; what was used longest ago is forgotten first."""

    shared = False

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._size = 0
        self.after_fork()
        renewed.add(self)

    def after_fork(self) -> None:
        """Take a lock that nobody holds."""
        self._lock = threading.RLock()

    def get(self, key: bytes) -> bytes | None:
        """Return what is kept by a key, which is used now."""
        with self._lock:
            data = self._kept.get(key)
            if data is not None:
                self._kept.move_to_end(key)
            return data

    def put(self, key: bytes, data: bytes, ttl_seconds: float) -> None:
        """Keep `data`; how old it may be is for its reader to say."""
        with self._lock:
            self._drop(key)
            self._kept[key] = data
            self._size += _size(key, data)
            while self._size > self._max_bytes:
                self._drop(next(iter(self._kept)))

    def close(self) -> None:
        """Nothing is open, and what is kept stays."""

    def _drop(self, key: bytes) -> None:
        data = self._kept.pop(key, None)
        if data is not None:
            self._size -= _size(key, data)


_OVERHEAD = 200
"""About how many bytes Python takes to keep an entry beside what is in it."""


def _size(key: bytes, data: bytes) -> int:
    return len(key) + len(data) + _OVERHEAD
