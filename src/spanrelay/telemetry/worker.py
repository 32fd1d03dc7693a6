"""The one thread that reads finished spans for metrics and trajectories, off the caller's thread.

It takes spans in the order in which they start and end, and never blocks the thread that ended them. What waits is
bounded in bytes: a span whose start finds no room is lost as a whole, and counted.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from opentelemetry.sdk.trace import Span

from spanrelay._guard import failed, guarded, has_begun, losses
from spanrelay.observation.mailbox import ITEM_BYTES
from spanrelay.observation.observers import observation, watching
from spanrelay.observation.sanitizing import finished
from spanrelay.records import JSON, SpanRecord
from spanrelay.telemetry.overheard import overheard
from spanrelay.telemetry.projection import Ended, Pending, Started, record_of_start
from spanrelay.tracing import Recorded, complete

_IDLE_SECONDS = 0.2
_LATE_SECONDS = 0.2
"""How long a model call that nobody told the answer of waits for log records that may come after it."""

_MOST_QUIET = 256
"""Starts that may wait until something else wakes the thread: nothing can be said of a span that goes on."""

_SYNC_SECONDS = 30.0
"""How long an application waits, at most, for a disk that hangs."""

_STUCK = "any more: recording has ended, and the thread that writes them hangs"

T = TypeVar("T")


class Sink(Protocol):
    """What is fed with spans: the trajectory writer."""

    def start(self, record: SpanRecord) -> None:
        """A span has started."""
        ...

    def end(self, record: SpanRecord) -> None:
        """A span has ended."""
        ...

    @property
    def dirty(self) -> bool:
        """Whether `idle` has something to do."""
        ...

    def idle(self) -> None:
        """Nothing has come for a while."""
        ...

    def flush(self, timeout: float, /) -> bool:
        """Write everything out, within `timeout` seconds; False where not everything is written."""
        ...

    def documents(self, session: str | None, span: tuple[int, int] | None, /) -> list[dict[str, JSON]]:
        """The documents of a session, or of a span by its trace and its own id, as they would be written now.

        None where nothing is known of it; of everything where neither is named.
        """
        ...

    def sessions(self) -> list[str]:
        """The sessions that there are documents of, the latest last."""
        ...

    def shutdown(self) -> None:
        """Write everything out and finish."""
        ...


class Errand(Generic[T]):
    """Work for the sink, done on the worker's thread once all that was put before it has been handled.

    Args:
        work: What is done.
        without: The answer where there is no sink, or nothing has ever come to it.
        failed: The answer where the work fails, or is not done in time.
    """

    def __init__(self, work: Callable[[Sink], T], without: T, failed: T) -> None:
        self._work, self._answer, self._failed = work, without, failed
        self._done = threading.Event()
        self.fault = ""
        """Why it has failed, where that is not for want of time: the end of a sentence."""

    def __call__(self, sink: Sink) -> None:
        """Do the work."""
        self._answer, self.fault = self._failed, "for an error of ours, which the log has"  # until there is an answer
        self._answer, self.fault = self._work(sink), ""

    def end(self, fault: str = "") -> None:
        """Let go whoever waits, failed where there is a `fault`."""
        if fault:
            self._answer, self.fault = self._failed, fault
        self._done.set()

    def wait(self, timeout: float) -> T:
        """Return the answer, `failed` where it has not come within `timeout` seconds."""
        return self._answer if self._done.wait(timeout) else self._failed


class Worker:
    """Feeds `sink` and `measure` from a queue. Starts its thread with the first span; a fork starts anew.

    Args:
        make_sink: Makes the sink, on the thread; None for none.
        measure: Called with the record of each span that has ended.
        tell: Called with the record of each span that has ended and is sampled.
        sync: Whether a span's end is told only once the sink has taken it in: it is the operating system's then.
        unsampled: Whether the sink gets spans that are not sampled.
        pending_limit: Bytes that may wait to be read; `pending` counts them.
    """

    def __init__(
        self,
        make_sink: Callable[[], Sink | None],
        measure: Callable[[SpanRecord], None] | None,
        *,
        tell: Callable[[SpanRecord], None] | None = None,
        unsampled: bool = False,
        sync: bool = False,
        pending_limit: int = 64 << 20,
    ) -> None:
        self._pending_limit = pending_limit
        self._make_sink = make_sink
        self.measure = measure
        self._tell = tell
        self._unsampled = unsampled
        self._sync = sync
        self._begin()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self.pending = Pending(self._pending_limit)  # a child reads nothing of what waits in its parent
        self._items: deque[tuple[Any, int] | None] = deque()
        self._ends: dict[int, Ended] = {}
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._refused: set[int] = set()
        self._hurried = 0.0
        self._thread: threading.Thread | None = None
        self._lock = threading.RLock()  # a signal handler may flush while its thread holds it
        self._closed = self._ended = self._stuck = False
        self._late: list[Errand[Any]] = []
        self._sink: Sink | None = None

    @property
    def begun(self) -> bool:
        """Whether anything has come in this process, and it has not ended."""
        return self._has_work()

    def _has_work(self) -> bool:
        """Whether there is a thread, or what waits for one: it could not be started so far."""
        return self._thread is not None or (bool(self._items) and not self._closed)

    def started(self, span: Span | Started) -> None:
        """A span has started; it is read on the worker's thread, together with what comes next."""
        if self._closed:
            return
        if self.pending.admit(ITEM_BYTES):
            self._put(span, ITEM_BYTES, rings=len(self._items) > _MOST_QUIET)
        else:
            self._refused.add(_id_of(span))

    def ended(self, ended: Ended) -> None:
        """A span has ended. One that was there when it started has room, so that none is thought to go on for ever."""
        identity = ended.span.context
        if self._closed:
            return  # counted where it came in
        if self._refused and identity is not None and identity.span_id in self._refused:
            self._refused.discard(identity.span_id)
            losses.add("spans not recorded because too many were waiting")
        else:
            self.pending.add(ended.weight)
            if identity is not None:
                self._ends[identity.span_id] = ended
            self._put(ended, ended.weight)
            if self._sync and threading.current_thread() is not self._thread is not None:
                self._wait()

    def _wait(self) -> None:
        """Return when all that was put so far has been handled."""
        taken = threading.Event()
        self._hurry()
        self._put(taken, 0)
        taken.wait(_SYNC_SECONDS)

    def _hurry(self) -> None:
        """Let nothing that was put so far wait for what log records may tell of it."""
        self._hurried = time.monotonic()

    def unrecorded(self, recorded: Recorded) -> None:
        """A call has ended whose span was not recorded: it counts in metrics."""
        if self.measure is None:
            return
        if self._closed:
            losses.add("spans ended after shutdown")
        elif self.pending.admit(ITEM_BYTES):
            self._put(_Unrecorded(recorded), ITEM_BYTES)
        else:
            losses.add("calls not measured because too many were waiting")

    def _put(self, item: Any, size: int, *, rings: bool = True) -> None:
        if self._thread is None:
            self._start()
        self._items.append((item, size))
        if rings:
            self.wake()

    def wake(self) -> None:
        """Wake the thread, which handles all that waits then; once is enough."""
        if self._bell.empty():
            self._bell.put(None)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                # Of the same make as the thread: gevent may have patched both since `_begin`.
                self._bell = queue.SimpleQueue()
                thread = threading.Thread(target=self._run, name="spanrelay-recorder", daemon=True)
                self._thread = thread
                if not has_begun(thread):  # what comes waits, and whatever comes next tries again
                    self._thread = None

    def _run(self) -> None:
        with guarded("opening the trajectory writer"):
            self._sink = self._make_sink()
        while self._handle_all():
            late = self._lateness()
            try:
                # Without work waiting on idleness there is nothing to wake up for.
                self._bell.get(timeout=late or (_IDLE_SECONDS if self._is_dirty() else None))
            except queue.Empty:
                if late:
                    continue
                if not self._handle_all():  # spans that have started meanwhile are no idleness
                    break
                self._feed("bringing trajectories up to date", lambda sink: sink.idle())
        # Here, so that whoever ends the process waits for no longer than it wants to.
        self._feed("finishing trajectories", lambda sink: sink.shutdown())
        self._do_what_came_late()

    def _lateness(self) -> float:
        """Return for how many seconds what is next waits for what log records may still tell of it."""
        if not overheard.comes:
            return 0.0
        try:
            ended = (self._items[0] or (None,))[0]
        except IndexError:
            return 0.0
        if not isinstance(ended, Ended) or ended.time <= self._hurried:  # as all of ours, whose time is 0
            return 0.0
        with guarded("looking for what may still be told of a call"):
            left = ended.time + _LATE_SECONDS - time.monotonic()
            return left if left > 0 and ended.is_unanswered else 0.0
        return 0.0

    def _handle_all(self) -> bool:
        """Handle what waits; False where the end is among it."""
        while not self._lateness():
            try:
                item = self._items.popleft()
            except IndexError:  # all is handled, or was thrown away by who waits no longer
                return True
            if item is None:
                return False
            self._handle(item[0])
            self.pending.give_back(item[1])
            item = None  # what has been read takes no room while nothing comes
        return True

    def _is_dirty(self) -> bool:
        try:
            return self._sink is not None and self._sink.dirty
        except Exception as error:
            failed("asking for idle work", error)
        return False

    def _handle(self, item: Any) -> None:
        if isinstance(item, Ended):
            self._end(item)
        elif isinstance(item, threading.Event):
            item.set()
        elif isinstance(item, Errand):
            self._do(item)
        elif isinstance(item, _Unrecorded):
            with guarded("reading a call that is not sampled"):
                self._count(item.read())
        else:
            self._feed("reading the start of a span", lambda sink: sink.start(self._started(item)))

    def _started(self, span: Span | Started) -> SpanRecord:
        """Return what is known of a span that has started: all, where it has ended by now; else little of a call."""
        ended = self._ends.get(_id_of(span))
        if ended is not None and (self._unsampled or _is_sampled(ended)):
            return ended.record
        if isinstance(span, Started):
            return span.record
        return record_of_start(span, span.name, span.attributes or {}, span.resource)

    def _end(self, ended: Ended) -> None:
        identity = ended.span.context
        if identity is not None:
            self._ends.pop(identity.span_id, None)
            if overheard.waiting:
                ended.hear(overheard.take((identity.trace_id, identity.span_id)))
        try:
            record = ended.record
            self._count(record)
            sampled = _is_sampled(ended)
            if self._tell is not None and sampled:
                with guarded("writing the event of a call"):
                    self._tell(record)
            if self._unsampled or sampled:
                self._feed("writing a trajectory", lambda sink: sink.end(record))
        except Exception as error:
            failed("recording a span", error)

    def _count(self, record: SpanRecord) -> None:
        if self.measure is not None:
            with guarded("recording metrics"):
                self.measure(record)

    def _feed(self, work: str, feed: Callable[[Sink], object]) -> None:
        if self._sink is not None:
            try:
                feed(self._sink)
            except Exception as error:
                failed(work, error)

    def _do(self, errand: Errand[Any]) -> None:
        self._feed("flushing or reading trajectories", errand)
        errand.end()

    def send(self, errand: Errand[T]) -> Errand[T]:
        """Let an errand be done; `errand.wait()` has the answer. Does not wait.

        What comes once the end has begun is done behind it, and what comes after the end on the caller's thread.
        """
        with self._lock:
            if self._thread is threading.current_thread():
                errand.end("on the thread that writes them, which would wait for itself")
            elif self._closed and not self._ended:
                self._late.append(errand)
            elif self._has_work() and not self._ended:
                self._hurry()
                self._put(errand, 0)
            elif self._stuck:
                errand.end(_STUCK)
            else:
                self._do(errand)
        return errand

    def _do_what_came_late(self) -> None:
        """Do it here and now: a subscriber that asks is one that the end of recording waits for."""
        while True:
            with self._lock:
                late, self._late = self._late, []
                if not late:
                    self._ended = True
                    return
            for errand in late:
                self._do(errand)

    def flushing(self, timeout: float) -> Errand[bool]:
        """Begin to write out everything queued so far; the answer is whether it has been written."""
        return self.send(Errand(lambda sink: sink.flush(timeout), without=True, failed=False))

    def flush(self, timeout: float) -> bool:
        """Handle everything queued so far and write it out; False where that failed or takes over `timeout` seconds."""
        return self.flushing(timeout).wait(timeout)

    def close(self) -> None:
        """Take nothing more, and end once everything that waits is written. Does not wait."""
        with self._lock:
            if not self._closed:
                if self._has_work() and self._thread is None:
                    self._start()
                self._closed, self._ended = True, self._thread is None and not self._items
                self._hurried = math.inf
                self._items.append(None)
                self.wake()

    def shutdown(self, timeout: float) -> None:
        """Write everything that waits, for `timeout` seconds at most, and finish the sink; count the rest as lost."""
        self.close()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(timeout)
            self._stuck = thread.is_alive()
            if self._stuck:
                self._count_unwritten()
        elif not self._ended:
            self._run()  # no thread could be had all the time
        with self._lock:
            self._ended, late, self._late = True, self._late, []
        for errand in late:
            self.send(errand)

    def _count_unwritten(self) -> None:
        spans = self._drain()
        losses.add("spans not written before exit", spans)
        if not spans:  # what is left has been handed over, and the next process can finish it
            losses.add("waits for trajectories to be finished that took too long")

    def _drain(self) -> int:
        """Throw away what waits, and return how many spans have ended among it."""
        spans = 0
        with contextlib.suppress(IndexError):
            while True:
                item = self._items.popleft()
                spans += item is not None and isinstance(item[0], Ended)
                if item is not None and isinstance(item[0], threading.Event):
                    item[0].set()
                elif item is not None and isinstance(item[0], Errand):
                    item[0].end(_STUCK)
        self._items.append(None)
        self.wake()
        return spans


def _id_of(span: Span | Started) -> int:
    return (span.span if isinstance(span, Started) else span).get_span_context().span_id


def _is_sampled(ended: Ended) -> bool:
    identity = ended.span.context
    return identity is not None and identity.trace_flags.sampled


class _Unrecorded:
    """A call without a span."""

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded
        watchers = watching(recorded.scope) if observation.active else None
        self._frozen = watchers.freeze() if watchers is not None and watchers.changes else None
        if watchers is not None and watchers.shows:
            recorded.show()

    def read(self) -> SpanRecord:
        """Return its record as observers leave it."""
        complete(self._recorded)
        if self._frozen is None:
            return self._recorded.record
        return self._frozen.run(finished, self._recorded.record, self._frozen.watchers)
