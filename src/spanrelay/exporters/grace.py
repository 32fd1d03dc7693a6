"""The seconds that the end of a process may spend on exporters, whatever they send and to whom.

One object is shared by all that wait, so that each that finds nobody makes the end no longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager


class Grace:
    """Seconds of waiting, shared by all that wait at the end.

    Only time really waited is charged, so exporters that find a collector alive leave the whole for the others. Where
    nobody has waited for as long again the process has gone on, and the next end has all of it.

    Args:
        seconds: All of it. What a batch processor waits before it closes its exporter, `Pace.patience`, is on top.
        clock: Monotonic seconds.
    """

    def __init__(self, seconds: float = 4.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = self._left = seconds
        self._clock = clock
        self._waited: float | None = None

    @contextmanager
    def spend(self, at_most: float) -> Generator[float]:
        """Yield the seconds that the body may wait, and charge what it took."""
        start = self._clock()
        if self._waited is not None and start - self._waited > self.seconds:
            self._left = self.seconds
        try:
            yield max(0.0, min(self._left, at_most))
        finally:
            self._waited = self._clock()
            self._left -= self._waited - start


grace = Grace()
"""What all exporters of this process share."""
