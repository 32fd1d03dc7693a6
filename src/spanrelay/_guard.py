"""The only place where our own errors are swallowed: counted, logged once, never shown to the user.

Observation fails open: what reads, projects or writes a record does so under `guarded`. Policy never does.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from types import TracebackType

_log = logging.getLogger("spanrelay")


class Losses:
    """Counts what was lost and why, so that the end of the process can say so. Thread-safe."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, reason: str, count: int = 1) -> None:
        """Count `count` losses for `reason`, a phrase in the plural such as `open spans forgotten`.

        Its noun is the first word that ends in -s, so that one loss can be told in the singular.
        """
        with self._lock:
            self._counts[reason] += count

    def counted(self) -> bool:
        """Whether anything is lost so far."""
        return bool(self._counts)

    def take(self) -> dict[str, int]:
        """Return the counts so far by reason, and start again from nothing."""
        with self._lock:
            counts = dict(self._counts)
            self._counts.clear()
        return counts


losses = Losses()
"""The losses of this process."""

strict = False
"""Tests set this: a swallowed error is then raised, so that swallowing can never hide a fault of ours."""

_seen: set[str] = set()


class guarded:
    """Swallow and count an `Exception` of ours: `with guarded("decoding a response"): ...`.

    The first failure of each kind of work is logged with its traceback, later ones only counted.
    """

    __slots__ = ("_work",)

    def __init__(self, work: str) -> None:
        self._work = work

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None or not isinstance(error, Exception):
            return False
        if strict:
            return False
        swallow(self._work, error)
        return True


def swallow(work: str, error: BaseException) -> None:
    """Count `error` as a failure of `work`, and log the first of its kind."""
    losses.add(f"failures while {work}")
    if work not in _seen:
        _seen.add(work)
        _log.warning("SpanRelay failed while %s; the application is not affected", work, exc_info=error)
