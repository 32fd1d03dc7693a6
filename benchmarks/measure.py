"""How work is timed: the alternatives interleaved in small blocks, and medians of many rounds.

Nothing is compared across processes or minutes: every ratio comes from rounds that ran side by side.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

_WARM_UP = 3


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Way:
    """One way of doing the same work: `enter` puts it in force, `flush` finishes what it left for later."""

    call: Callable[[], object]
    enter: Callable[[], object] = _nothing
    flush: Callable[[], object] = _nothing


@dataclass(frozen=True)
class Effort:
    """How long one row is measured: `seconds`, but at least `rounds` rounds of `calls` calls each way."""

    seconds: float
    rounds: int
    calls: int


FULL = Effort(seconds=8.0, rounds=30, calls=20)
QUICK = Effort(seconds=0.0, rounds=2, calls=3)


@dataclass(frozen=True)
class Cost:
    """Microseconds for one call.

    `wall`: on the calling thread. `thread`: CPU of the calling thread, the flush left out. `cpu`: of the whole
    process up to the end of the flush.
    """

    wall: float
    thread: float
    cpu: float

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.wall - other.wall, self.thread - other.thread, self.cpu - other.cpu)


def run_block(way: Way, calls: int, warm_up: int = _WARM_UP) -> Cost:
    """Do the work `calls` times and return the cost of one: the median for wall time, the mean for CPU."""
    way.enter()
    for _ in range(warm_up):
        way.call()
    way.flush()
    call, clock = way.call, time.perf_counter_ns
    times: list[int] = []
    gc.collect()
    cpu, thread = time.process_time_ns(), time.thread_time_ns()
    for _ in range(calls):
        start = clock()
        call()
        times.append(clock() - start)
    thread = time.thread_time_ns() - thread
    way.flush()
    cpu = time.process_time_ns() - cpu
    return Cost(statistics.median(times) / 1e3, thread / calls / 1e3, cpu / calls / 1e3)


def interleave(ways: Sequence[Way], effort: Effort) -> list[list[Cost]]:
    """Return, for each way, its cost in every round. Garbage collection runs between blocks only."""
    costs: list[list[Cost]] = [[] for _ in ways]
    with uncollected():
        deadline = time.monotonic() + effort.seconds
        done = 0
        while done < effort.rounds or time.monotonic() < deadline:
            # Each round starts with another way, so that none always follows the same one.
            for index in range(len(ways)):
                at = (index + done) % len(ways)
                costs[at].append(run_block(ways[at], effort.calls))
            done += 1
    return costs


@contextmanager
def uncollected() -> Generator[None]:
    """Let garbage be collected only where that is asked for, and what is there already never."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


@dataclass(frozen=True)
class Figure:
    """A median over rounds, and its standard error, in microseconds."""

    value: float
    error: float


def median(values: Sequence[float]) -> Figure:
    """Return the median of `values`; its error is estimated from the middle half, which outliers leave alone."""
    if len(values) < 2:
        return Figure(values[0], math.inf)
    low, _, high = statistics.quantiles(values, n=4)
    return Figure(statistics.median(values), 1.2533 * (high - low) / 1.349 / math.sqrt(len(values)))


def mean(values: Sequence[float]) -> Figure:
    """Return the mean of values that grow; its error is estimated from neighbours, whose difference is no growth."""
    steps = [(b - a) ** 2 / 2 for a, b in pairwise(values)]
    error = math.sqrt(statistics.fmean(steps) / len(values)) if steps else math.inf
    return Figure(statistics.fmean(values), error)


def cpu_of(pid: int) -> float:
    """Return the seconds of CPU that another process has used, on all its threads; Linux only."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e9


def differences(more: Sequence[Cost], less: Sequence[Cost]) -> list[Cost]:
    """Return what `more` costs over `less`, round by round, so that slow minutes cancel out."""
    return [a - b for a, b in zip(more, less, strict=True)]
