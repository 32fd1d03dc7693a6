"""Any number of durations in little memory, and below which of them a share of them lies.

As many as a program of an afternoon makes are kept as they are; beyond, each counts in a bucket half a percent wide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

KEPT = 4096
"""Durations that are kept as they are."""

_WIDTH = math.log(1.005)


class Durations:
    """Durations in seconds; none is negative."""

    def __init__(self) -> None:
        self._values: list[float] = []
        self._buckets: dict[float, int] = {}
        self.count = 0

    def add(self, seconds: float, times: int = 1) -> None:
        """Take in one, or as many alike; what is no duration is left out."""
        if not (math.isfinite(seconds) and seconds >= 0):
            return
        self.count += times
        if self.count <= KEPT:
            self._values += [seconds] * times
            return
        for value in self._values:
            self._put(value, 1)
        self._values.clear()
        self._put(seconds, times)

    def _put(self, seconds: float, times: int) -> None:
        bucket = _bucket(seconds)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + times

    def items(self) -> Iterator[tuple[float, int]]:
        """Yield what was taken in, as far as it is told apart, and how many of each there are."""
        yield from ((value, 1) for value in self._values)
        yield from self._buckets.items()

    def at(self, share: float) -> float | None:
        """Return the shortest duration that at least `share` of them do not exceed; None where there are none."""
        rank = max(math.ceil(share * self.count), 1)
        if not self._buckets:
            return sorted(self._values)[rank - 1] if self._values else None
        for value in sorted(self._buckets):
            rank -= self._buckets[value]
            if rank <= 0:
                return value
        return None


def _bucket(seconds: float) -> float:
    """What stands for a duration, and for all that are nearly as long."""
    return math.exp(round(math.log(seconds) / _WIDTH) * _WIDTH) if seconds else 0.0
