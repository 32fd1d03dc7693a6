"""Requests on their way, so that the same one is sent once, however many ask at the same time.

Whoever waits does so for no longer than it was told to, and never for what its own thread or task would have to do.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from concurrent.futures import Future
from typing import Any

from spanrelay.pipeline import loops


class Flight:
    """A request that is sent by one, and waited for by others."""

    __slots__ = ("_task", "_thread", "landed")

    def __init__(self) -> None:
        self.landed: Future[bytes | None] = Future()
        self._thread = threading.get_ident()
        task = _current_task()
        self._task = None if task is None else weakref.ref(task)

    def is_own(self) -> bool:
        """Whether who asks now has sent it: a stream that it has not read to its end would never come to it."""
        task = None if self._task is None else self._task()
        return self._thread == threading.get_ident() and task is _current_task()

    async def wait(self, thread: int, seconds: float) -> bytes | None:
        """Return what came of it, for who asks on `thread`; None where nothing has within `seconds`."""
        blocked = threading.get_ident() != thread  # it is a sync call, whose thread does nothing else meanwhile
        if not (blocked and thread == self._thread):
            await loops.settled(self.landed, seconds)
        return self.landed.result() if self.landed.done() else None


class Flights:
    """Those that are under way, by key."""

    def __init__(self) -> None:
        self.after_fork()

    def after_fork(self) -> None:
        """Wait for nobody: a forked child has none of its parent's threads."""
        self._lock = threading.Lock()
        self._flights: dict[bytes, Flight] = {}

    def board(self, key: bytes) -> tuple[Flight, bool]:
        """Return the flight of a key, and whether it is the caller's to land."""
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None:
                return flight, False
            flight = self._flights[key] = Flight()
            return flight, True

    def land(self, key: bytes, flight: Flight | None, data: bytes | None) -> None:
        """Tell all that wait what came of a flight, once."""
        if flight is None:
            return
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]
        if not flight.landed.done():
            flight.landed.set_result(data)


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs here
        return None
