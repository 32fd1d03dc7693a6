"""Requests that wait to be read while many do: of each is kept what the one before it has not said.

What is kept reads as the request that was sent, byte for byte; where none before is alike it is kept as it is.
"""

from __future__ import annotations

import os
import threading
from collections import deque

from spanrelay.semconv.histories import agreement

_LEAST_BYTES = 2000
"""Requests that are shorter take little more than what is kept for them beside."""
_LATEST = 16
"""Conversations that may go on at once."""
_BYTES_KEPT = 16 << 20
_NEARLY = 0.9
"""A request that has so much of another goes on from that one."""


class Remainder:
    """A request as what it has in common with one before, and the rest."""

    __slots__ = ("_said",)

    def __init__(self, before: Remainder | None, shared: int, rest: bytes) -> None:
        self._said = before, shared, rest  # in one piece: threads may read it while one replaces it

    def __len__(self) -> int:
        """How many bytes are kept for it."""
        return len(self._said[2])

    def whole(self) -> bytes:
        """Return the request. What it shares is then its own, so that those before can go."""
        before, shared, rest = self._said
        pieces = [rest]
        while before is not None:
            above, above_shared, said = before._said
            if shared > above_shared:
                pieces.append(said[: shared - above_shared])
                shared = above_shared
            before = above
        whole = b"".join(reversed(pieces))
        self._said = None, 0, whole
        return whole


class Backlog:
    """The requests that were put last, each beside what is kept for it, the latest last."""

    def __init__(self) -> None:
        self.latest: deque[tuple[bytes, Remainder]] = deque()
        self._size = 0
        self.free()

    def free(self) -> None:
        """Take a lock that nobody holds: a forked child has none of its parent's threads."""
        self._lock = threading.Lock()

    def put(self, sent: bytes) -> Remainder | None:
        """Return what is to be kept of a request; None where that is all of it."""
        # Who cannot have the lock at once keeps all of it: no application waits for another's comparison.
        if len(sent) < _LEAST_BYTES or not self._lock.acquire(blocking=False):
            return None
        try:
            return self._put(sent)
        finally:
            self._lock.release()

    def _put(self, sent: bytes) -> Remainder:
        place, shared = self._likest(sent)
        if not shared:
            kept = Remainder(None, 0, sent)
        else:
            _, before = self.latest[place]
            kept = Remainder(before, shared, sent[shared:])
            self._forget(place)
        self.latest.append((sent, kept))
        self._size += len(sent)
        while self._size > _BYTES_KEPT or len(self.latest) > _LATEST:
            self._forget(0)
        return kept

    def _likest(self, sent: bytes) -> tuple[int, int]:
        """Return which of the latest begins most like a request, and how many bytes both share; 0 if less than half."""
        best = 0, 0
        for place in range(len(self.latest) - 1, -1, -1):
            other, _ = self.latest[place]
            half = max(len(other), len(sent)) // 2
            if sent.startswith(other[:half]):
                shared = agreement(other, sent)
                if shared > max(best[1], half):
                    best = place, shared
                if shared > len(other) * _NEARLY:
                    break
        return best

    def _forget(self, place: int) -> None:
        self._size -= len(self.latest[place][0])
        del self.latest[place]

    def clear(self) -> None:
        """Let go of what was put: nothing waits any more."""
        with self._lock:
            self.latest.clear()
            self._size = 0


backlog = Backlog()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=backlog.free)
