"""What a subscriber is sent and has not yet seen: a bounded queue and a thread of its own.

Putting something in never waits: a subscriber that hangs delays nobody and loses the oldest of what it was sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from opentelemetry import context as otel_context
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY

from spanrelay._guard import has_begun, losses, swallow, traced

LIMIT = 10_000
"""Occasions that may wait for one subscriber."""

LIMIT_BYTES = 64 << 20
"""What they may take in memory, about."""

ITEM_BYTES = 4096
"""What the start or the end of a span takes in memory while it waits, about, without its payload."""

GATHER_SECONDS = 0.001
"""A subscriber's thread that was idle lets so much time pass before it works: waking it for each event would cost
the thread that makes the call more than the event does."""

IDLE_SECONDS = 5.0
"""A subscriber's thread ends after so long without work, and starts again with the next."""

_log = logging.getLogger("spanrelay")


class Occasion(Protocol):
    """Something that happened, told as one event or several; `weight` is about how many bytes it takes."""

    weight: int

    def events(self) -> Iterable[Any]:
        """The events, read when they are asked for."""
        ...


def size_of_texts(attributes: Mapping[str, Any]) -> int:
    """Return about how many bytes the texts among `attributes` take."""
    return sum(len(value) for value in attributes.values() if type(value) is str)


class _Inside:
    """Two marks of a thread; or of a greenlet, which a `threading.local` of before gevent's patches does not know."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Have no marks: a child begins so."""
        self._marked: tuple[set[int], set[int]] = set(), set()

    @property
    def value(self) -> bool:
        return threading.get_ident() in self._marked[0]

    @value.setter
    def value(self, value: bool) -> None:
        self._mark(self._marked[0], value)

    @property
    def record(self) -> bool:
        return threading.get_ident() in self._marked[1]

    @record.setter
    def record(self, value: bool) -> None:
        self._mark(self._marked[1], value)

    @staticmethod
    def _mark(marked: set[int], value: bool) -> None:
        (marked.add if value else marked.discard)(threading.get_ident())


inside = _Inside()
"""`value` is true on a thread that is running an observer: waiting for delivery there could last for ever.

`record` is true where that makes a record, a sanitizer as a rule: whoever reads records may wait for it.
"""


class Mailbox:
    """Feeds `function` with events in the order in which they were put in.

    Args:
        name: The subscriber's name, for what is logged.
        function: Called with each event; what it returns is awaited on the thread's own loop if it can be.
        settle: Called whenever nothing is waiting; only then is what came before it delivered. For sinks that
            write in batches.
    """

    def __init__(
        self,
        name: str,
        function: Callable[[Any], Any],
        settle: Callable[[], None] | None = None,
        *,
        limit: int = LIMIT,
        limit_bytes: int = LIMIT_BYTES,
    ) -> None:
        self._name, self._function, self._settle = name, function, settle
        self._limit, self._limit_bytes = limit, limit_bytes
        self._failed = False
        self._begin()
        _mailboxes.add(self)

    def _begin(self) -> None:
        self._queue: queue.SimpleQueue[tuple[int, Occasion]] = queue.SimpleQueue()
        self._lock = threading.RLock()  # a thread of gevent's is started by letting others run in between
        self._put = self._delivered = self._bytes = 0
        self._waiting: list[tuple[int, threading.Event]] = []
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None

    def put(self, occasion: Occasion) -> None:
        """Send `occasion`; where too much waits already, the oldest is lost."""
        with self._lock:
            if self._thread is None:
                self._start()
            waiting = self._queue
            self._put += 1
            self._bytes += occasion.weight
            waiting.put((self._put, occasion))
        while waiting.qsize() > self._limit or self._bytes > self._limit_bytes:
            try:
                oldest = waiting.get_nowait()[1]
            except queue.Empty:
                break  # what is being told is all there is
            self._lighten(oldest)
            self._lose(1)

    def _lose(self, count: int) -> None:
        losses.add(f"events that the subscriber {self._name!r} was too slow for", count)

    def _lighten(self, occasion: Occasion) -> None:
        with self._lock:
            self._bytes -= occasion.weight

    def _start(self) -> None:
        if self._queue.empty():
            self._queue = queue.SimpleQueue()  # of the same make as the thread: gevent may have patched both since
        thread = threading.Thread(target=self._run, name=f"spanrelay-{self._name}", daemon=True)
        self._thread = thread
        if not has_begun(thread):  # what comes next tries again
            self._thread = None

    def _run(self) -> None:
        inside.value = True
        # What a subscriber does is not recorded: it would be told of it, and do it again.
        otel_context.attach(otel_context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        loop: asyncio.AbstractEventLoop | None = None
        while (item := self._next()) is not None:
            number, occasion = item
            self._lighten(occasion)
            try:
                for event in occasion.events():
                    loop = self._tell(event, loop)
            except BaseException as error:
                swallow("making events for subscribers", error)
            self._settled(number)
        if loop is not None:
            loop.close()
        inside.value = False  # another thread may get this one's number

    def _next(self) -> tuple[int, Occasion] | None:
        """Return what comes next, or None to end the thread."""
        with contextlib.suppress(queue.Empty):
            return self._queue.get_nowait()
        try:
            item = self._queue.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            with self._lock:
                if self._queue.empty():
                    self._thread = None
                    return None
            return self._queue.get()
        self._hurry.wait(GATHER_SECONDS)
        return item

    def _tell(self, event: Any, loop: asyncio.AbstractEventLoop | None) -> asyncio.AbstractEventLoop | None:
        try:
            result = self._function(event)
            if inspect.isawaitable(result):
                loop = loop or asyncio.new_event_loop()
                loop.run_until_complete(_await(result))
        except BaseException as error:  # one that ends a program, such as SystemExit, would end this thread alone
            self._report(error)
        return loop

    def _settled(self, number: int) -> None:
        if self._settle is not None:
            if not self._queue.empty():
                return
            try:
                self._settle()
            except BaseException as error:
                self._report(error)
        with self._lock:
            self._delivered = max(self._delivered, number)
            for target, done in self._waiting:
                if target <= number:
                    done.set()
            self._waiting = [entry for entry in self._waiting if entry[0] > number]
            if not self._waiting:
                self._hurry.clear()

    def _report(self, error: BaseException) -> None:
        losses.add(f"failures of the subscriber {self._name!r}")
        if not self._failed:
            self._failed = True
            told = "subscriber %r failed; it still receives later events\n%s"
            _log.warning(told, self._name, traced(error))

    def flush(self, timeout: float) -> bool:
        """Wait until everything put in so far has been delivered; False when `timeout` seconds do not suffice."""
        done = threading.Event()
        with self._lock:
            if self._delivered >= self._put:
                return True
            self._waiting.append((self._put, done))
            self._hurry.set()
        return done.wait(timeout)

    def abandon(self) -> int:
        """Give up what waits, and return how much that is: nobody waits for it any more."""
        with self._lock:
            waiting = self._queue.qsize()
            with contextlib.suppress(queue.Empty):
                for _ in range(waiting):
                    self._lighten(self._queue.get_nowait()[1])
            self._delivered = self._put
            return waiting


async def _await(result: Any) -> Any:
    return await result


_mailboxes: weakref.WeakSet[Mailbox] = weakref.WeakSet()


def flush(timeout: float = 30.0) -> bool:
    """Wait until subscribers have been told of everything that has happened so far.

    Returns:
        False when that takes longer than `timeout` seconds, and at once from inside a subscriber, a sanitizer or
        a metadata injector, which would wait for itself.
    """
    if inside.value:
        return False
    deadline = time.monotonic() + timeout
    flushed = [mailbox.flush(max(0.0, deadline - time.monotonic())) for mailbox in list(_mailboxes)]
    return all(flushed)


def abandon() -> int:
    """Give up what subscribers have not been told, and count it; return how much that is."""
    given_up = [(mailbox, mailbox.abandon()) for mailbox in list(_mailboxes)]
    for mailbox, count in given_up:
        mailbox._lose(count)
    return sum(count for _, count in given_up)


def _begin_anew() -> None:
    """A forked child has none of its parent's threads, and what waited is its parent's to deliver."""
    inside.begin()
    for mailbox in list(_mailboxes):
        mailbox._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
