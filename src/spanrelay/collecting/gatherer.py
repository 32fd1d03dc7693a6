"""Gathers what the intake has accepted: a thread that gives requests to the sessions and has them write what is due."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable

from spanrelay._guard import swallow
from spanrelay.collecting.intake import Request
from spanrelay.collecting.sessions import Sessions

_TICK_S = 0.25
_IDLE = 20
"""Times as long as it took that looking is left alone, where nothing was due: with many sessions it takes a while."""


class Pace:
    """When to look for sessions that are due."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = clock() + _TICK_S

    def look(self, sessions: Iterable[Sessions]) -> None:
        """Let sessions write what is due, if it is time."""
        if (begun := self._clock()) >= self._next:
            has_written = [each.write_due() for each in sessions]
            took = self._clock() - begun
            self._next = self._clock() + max(_TICK_S, took if any(has_written) else _IDLE * took)


class Gatherer:
    """The thread.

    Args:
        sessions: What gathers; nobody else uses it meanwhile.
    """

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._queue: queue.SimpleQueue[list[Request] | None] = queue.SimpleQueue()
        self._size = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="spanrelay-sessions", daemon=True)

    @property
    def behind(self) -> int:
        """Bytes of requests that are on disk and have not been gathered yet."""
        return self._size

    def start(self, kept: Iterable[Request]) -> None:
        """Read what was kept before, then begin to gather."""
        for request in kept:
            self._sessions.gather([request])
        self._sessions.resume()
        self._thread.start()

    def take(self, requests: list[Request]) -> None:
        """Take in requests that are on disk, in one file."""
        with self._lock:
            self._size += sum(len(request.data) for request in requests)
        self._queue.put(requests)

    def close(self) -> None:
        """Gather what waits, write every session, and end."""
        self._queue.put(None)
        self._thread.join()
        self._sessions.close()

    def _run(self) -> None:
        pace, ends = Pace(), False
        while not ends:
            try:
                taken = self._queue.get(timeout=_TICK_S)
            except queue.Empty:
                taken = []
            try:
                if taken is None:
                    ends = True
                    self._sessions.write_due(everything=True)
                elif taken:
                    self._sessions.gather(taken)
                    with self._lock:
                        self._size -= sum(len(request.data) for request in taken)
                if not ends:
                    pace.look([self._sessions])
            except Exception as error:
                swallow("assembling what was collected", error)
