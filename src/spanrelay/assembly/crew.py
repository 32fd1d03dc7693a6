"""A few threads that write documents beside each other, so that what each waits for the disk is waited for together.

Only `all_of` is called from outside, by one thread; where no thread can be started it does the work itself.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

THREADS = 16
"""A disk takes many requests to write through at about the time of one."""
WORTHWHILE = 4
"""Documents below which waiting for one after the other is as quick."""


class Crew:
    """Threads that are started with the first work that is worth it, and end with the process."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._work: queue.SimpleQueue[tuple[Callable[[], Any], list[Any], int, threading.Semaphore]] | None = None
        self._threads = 0

    def all_of(self, jobs: Sequence[Callable[[], bool]]) -> list[bool]:
        """Do each job, beside each other where they are many; returns what they return, in their order.

        Raises what the first of them raised that did.
        """
        work = self._hired(len(jobs)) if len(jobs) >= WORTHWHILE else None
        if work is None:
            return [job() for job in jobs]
        results: list[bool | BaseException] = [False] * len(jobs)
        done = threading.Semaphore(0)
        for at, job in enumerate(jobs):
            work.put((job, results, at, done))
        for _ in jobs:
            done.acquire()
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [result is True for result in results]

    def _hired(self, wanted: int) -> queue.SimpleQueue[Any] | None:
        """Return where threads wait for work; None where there are none."""
        if self._process != os.getpid():  # a forked child has none of its parent's threads
            self._begin()
        if self._work is None:  # of the same make as the threads: gevent may have patched both since
            self._work = queue.SimpleQueue()
        while self._threads < min(THREADS, wanted):
            try:
                threading.Thread(target=self._run, args=(self._work,), name="spanrelay-writer", daemon=True).start()
            except RuntimeError:  # the interpreter is ending, or there are too many
                break
            self._threads += 1
        return self._work if self._threads else None

    @staticmethod
    def _run(work: queue.SimpleQueue[Any]) -> None:
        while True:
            job, results, at, done = work.get()
            try:
                results[at] = job()
            except BaseException as error:  # raised again where the job was given
                results[at] = error
            done.release()
            del job, results  # what has been written takes no room while nothing comes
