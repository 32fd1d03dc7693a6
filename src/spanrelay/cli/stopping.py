"""How a command that goes on until it is stopped finds out that it is to stop."""

from __future__ import annotations

import contextlib
import queue
import signal
import threading


class Stop(threading.Event):
    """An event that a signal sets, at whatever it interrupts.

    A handler that sets a plain event waits for a lock, which the thread that it interrupts has for a moment whenever it
    waits for that event: then neither goes on, and the command can only be killed. A `SimpleQueue` may be put to there.
    """

    def __init__(self) -> None:
        super().__init__()
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.times = 0
        """How often it was asked for."""

    def is_set(self) -> bool:
        """Whether it was asked for."""
        return self.times > 0

    def set(self) -> None:
        """Ask for it."""
        self.times += 1
        self._bell.put(None)

    def wait(self, timeout: float | None = None) -> bool:
        """Return whether it is asked for within so many seconds."""
        if not self.is_set():
            with contextlib.suppress(queue.Empty):
                self._bell.get(timeout=timeout)
                self._bell.put(None)  # for whoever else waits
        return self.is_set()

    def wait_until_set(self) -> None:
        """Wait for as long as it takes; a wait without end would keep signals from being handled on Windows."""
        while not self.wait(0.5):
            pass


def stop_on_signals() -> Stop:
    """Return an event that SIGTERM and SIGINT set from now on, in place of what they did."""
    stop = Stop()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda _number, _frame: stop.set())
    return stop
