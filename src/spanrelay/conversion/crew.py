"""Who does the work of a conversion: this process, or several beside each other.

Each has a file of the store to append to, and what it is given it does alone, so that who does it changes nothing.
"""

from __future__ import annotations

import gc
import itertools
import multiprocessing
from collections.abc import Callable, Generator, Iterable, Iterator, Set
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from spanrelay import _json
from spanrelay._guard import losses
from spanrelay.conversion.dialects import rewritten
from spanrelay.conversion.documents import Documents, Folder, Written
from spanrelay.conversion.gathering import Gathered, Gathering
from spanrelay.conversion.grouping import Group
from spanrelay.conversion.store import Reader, Writer
from spanrelay.conversion.traces import events_of, traces_of
from spanrelay.errors import SpanRelayError
from spanrelay.otlp_in import files
from spanrelay.otlp_in.files import Finding, Piece
from spanrelay.otlp_in.telemetry import LogRecord, Span, Telemetry, TranscriptLine
from spanrelay.otlp_in.writing import request_of

T = TypeVar("T")
R = TypeVar("R")

ATIF = ("1.7", "1.8")
"""The forms that are versions of ATIF."""

_AHEAD = 3
"""Tasks that are given out for each process before the first of them is done."""


class Read(NamedTuple):
    """What was in some pieces."""

    gathered: list[Gathered]
    spans: int
    logs: int
    lines: int
    size: int
    findings: list[Finding]


class Worker:
    """Does tasks in one process: its store is the file with `number` in `scratch`.

    `form` is what it writes: a version of ATIF, or a dialect; `alone` says whether nobody else reads its store.
    """

    def __init__(self, scratch: Path, number: int, folder: Folder, form: str, *, alone: bool = False) -> None:
        held = dict[int, Telemetry]() if alone else None
        self._writer = Writer(scratch, number, held)
        self._reader = Reader(scratch, held)
        self._folder, self._form = folder, form
        self._gathering = Gathering(self._writer)

    def read(self, pieces: list[Piece]) -> Read:
        """Read pieces into the store."""
        counts = {Span: 0, LogRecord: 0, TranscriptLine: 0}
        findings: list[Finding] = []
        for piece in pieces:
            self._writer.expect(len(piece.data))
            for item in files.read(piece, findings.append):
                self._gathering.add(item)
                counts[type(item)] += 1
        size = sum(len(piece.data) for piece in pieces)
        read = counts[Span], counts[LogRecord], counts[TranscriptLine]
        return Read(self._gathering.hand_over(), *read, size, findings)

    def write(self, group: Group, taken: Set[str] = frozenset()) -> Written:
        """Assemble a group and write its documents, under names that are not among `taken`, which have no suffix."""
        with losses.apart() as lost:  # a collector's other threads lose what is of no group
            written = self._written(group, taken)
        written.faults += [f"{count} {what}" for what, count in sorted(lost.items())]
        return written

    def _written(self, group: Group, taken: Set[str]) -> Written:
        if self._form in ATIF:
            documents = Documents(self._folder, self._form, taken, group.called)
            return documents.add(events_of(group, self._reader, self._folder.finish))
        written = Written()
        traces = (rewritten(pairs, self._form) for pairs in traces_of(group, self._reader))
        lines = (_json.dumps(request_of(spans)) + b"\n" for spans in traces)
        self._folder.write_lines(group.name, lines, written)
        return written

    def close(self) -> None:
        """Let the store go."""
        self._writer.close()
        self._reader.close()


class Crew:
    """One worker or several; tasks go to whoever is free."""

    def __init__(self, worker: Worker | None, pool: ProcessPoolExecutor | None, jobs: int) -> None:
        self._worker, self._pool, self._jobs = worker, pool, jobs

    def read(self, batches: Iterable[list[Piece]]) -> Iterator[Read]:
        """Read batches of pieces; what comes back is in their order, which decides where nothing else does."""
        return self._each(batches, Worker.read, in_order=True)

    def write(self, groups: Iterable[Group]) -> Iterator[tuple[Group, Written]]:
        """Write the documents of groups; what comes back is in no order."""
        return self._each(groups, _write, in_order=False)

    def _each(self, given: Iterable[T], work: Callable[[Worker, T], R], *, in_order: bool) -> Iterator[R]:
        if self._worker is not None:
            for each in given:
                yield work(self._worker, each)
            return
        assert self._pool is not None
        waiting: list[Future[R]] = []
        tasks = iter(given)
        try:
            while True:
                for each in itertools.islice(tasks, max(0, _AHEAD * self._jobs - len(waiting))):
                    waiting.append(self._pool.submit(_do, work, each))
                if not waiting:
                    return
                done = waiting[:1] if in_order else wait(waiting, return_when=FIRST_COMPLETED).done
                waiting = [future for future in waiting if future not in done]
                for future in done:
                    yield future.result()
        except BrokenProcessPool as error:
            raise SpanRelayError(
                "a process of the conversion was killed, for want of memory as a rule; "
                "the same command goes on where this one ended"
            ) from error


def _write(worker: Worker, group: Group) -> tuple[Group, Written]:
    return group, worker.write(group)


@contextmanager
def crew(jobs: int, scratch: Path, folder: Folder, form: str) -> Generator[Crew]:
    """Work in this process, or in as many as `jobs` says beside it."""
    if jobs <= 1:
        worker = Worker(scratch, 0, folder, form, alone=True)
        try:
            yield Crew(worker, None, 1)
        finally:
            worker.close()
        return
    context = multiprocessing.get_context("spawn")
    numbers = context.Value("i", 0)
    with ProcessPoolExecutor(jobs, context, _begin, (numbers, scratch, folder, form)) as pool:
        try:
            yield Crew(None, pool, jobs)
        finally:
            pool.shutdown(cancel_futures=True)


def collect_seldom() -> None:
    """Let this process, which does nothing else, look for garbage seldom: what it makes lives as long as its group."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


_workers: list[Worker] = []
"""The worker of this process, if it is one of several."""


def _begin(numbers: Any, scratch: Path, folder: Folder, form: str) -> None:
    collect_seldom()
    with numbers.get_lock():
        number = numbers.value
        numbers.value += 1
    _workers.append(Worker(scratch, number, folder, form))


def _do(work: Callable[[Worker, T], R], each: T) -> R:
    return work(_workers[0], each)
