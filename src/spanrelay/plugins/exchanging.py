"""How what one process has learned is kept and shared: on a thread of its own, so that no call waits for it."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from typing import Protocol

from spanrelay._guard import guarded
from spanrelay.plugins.keeping import renewed

EVERY_S = 5.0
"""Seconds between two exchanges with others."""


class Place(Protocol):
    """Holds one document that processes share."""

    def change(self, change: Callable[[bytes | None], bytes]) -> None:
        """Put what `change` makes of the document there, in one step.

        Raises:
            StoreError: it cannot be read or written.
        """
        ...

    def read(self) -> bytes | None:
        """Return the document; raises as `change`."""
        ...

    def forget(self) -> None:
        """Remove it; raises as `change`."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


class Exchange:
    """Adds what is new here to what all know, and takes that over, every few seconds while there is something new.

    Args:
        place: Where it is kept.
        what: What is kept, as people read it.
    """

    def __init__(self, place: Place, what: str) -> None:
        self._place, self._what = place, what
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        renewed.add(self)

    def after_fork(self) -> None:
        """Begin a thread of its own when there is something to keep."""
        self._thread, self._ended = None, threading.Event()

    def begin(self) -> None:
        """Take over what is known."""
        with guarded(f"reading what was learned of {self._what}"):
            self._take_over(self._place.read())
        atexit.register(self.close)

    def change(self) -> None:
        """Note that there is something new."""
        if self._thread is None and not self._ended.is_set():
            name = f"spanrelay-{self._what.replace(' ', '-')}"
            self._thread = threading.Thread(target=self._exchange_for_ever, name=name, daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Keep what is new, and exchange no more."""
        atexit.unregister(self.close)
        self._ended.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(EVERY_S)
            self.exchange()
        self._place.close()

    def exchange(self) -> None:
        """Add what is new here to what all know, and take that over."""
        with guarded(f"keeping what was learned of {self._what}"):
            self._swap()

    def _exchange_for_ever(self) -> None:
        while not self._ended.wait(EVERY_S):
            self.exchange()

    def _take_over(self, data: bytes | None) -> None:
        """Know what the document in `data` says."""
        raise NotImplementedError  # pragma: no cover - each kind has its own

    def _swap(self) -> None:
        """Change the document at the place, and take it over."""
        raise NotImplementedError  # pragma: no cover - as above
