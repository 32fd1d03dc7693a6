"""The one thread that reads finished spans for metrics and trajectories, off the caller's thread.

It takes spans in the order in which they start and end, and never blocks the thread that ended them.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from typing import Any, Protocol

from opentelemetry.sdk.trace import Span

from spanrelay._guard import guarded, losses
from spanrelay.records import SpanRecord
from spanrelay.telemetry.observers import observation, watching
from spanrelay.telemetry.projection import Ended, Started, record_of_start
from spanrelay.telemetry.sanitizing import finished
from spanrelay.tracing import Recorded, complete

_IDLE_SECONDS = 0.2

_SYNC_SECONDS = 30.0
"""How long an application waits, at most, for a disk that hangs."""


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

    def flush(self, timeout: float, /) -> object:
        """Write everything out, within `timeout` seconds."""
        ...

    def shutdown(self) -> None:
        """Write everything out and finish."""
        ...


class Worker:
    """Feeds `sink` and `measure` from a queue. Starts its thread with the first span; a fork starts anew.

    With `sync` a span's end is told only once the sink has taken it in: it is the operating system's then.
    """

    def __init__(
        self,
        make_sink: Callable[[], Sink | None],
        measure: Callable[[SpanRecord], None] | None,
        *,
        unsampled: bool = False,
        sync: bool = False,
    ) -> None:
        self._make_sink = make_sink
        self._measure = measure
        self._unsampled = unsampled
        self._sync = sync
        self._begin()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._sink: Sink | None = None

    def started(self, span: Span | Started) -> None:
        """A span has started; it is read on the worker's thread."""
        self._put(span)

    def ended(self, ended: Ended) -> None:
        """A span has ended."""
        self._put(ended)
        if self._sync and not self._closed and threading.current_thread() is not self._thread:
            taken = threading.Event()
            self._put(taken)
            taken.wait(_SYNC_SECONDS)

    def unrecorded(self, recorded: Recorded) -> None:
        """A call has ended whose span was not recorded: it counts in metrics."""
        if self._measure is not None:
            self._put(_Unrecorded(recorded))

    def _put(self, item: Any) -> None:
        if self._closed:
            if not isinstance(item, (Span, Started)):
                losses.add("spans ended after shutdown")
            return
        if self._thread is None:
            self._start()
        self._queue.put(item)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="spanrelay-recorder", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        with guarded("opening the trajectory writer"):
            self._sink = self._make_sink()
        while True:
            try:
                # Without work waiting on idleness there is nothing to wake up for.
                item = self._queue.get(timeout=_IDLE_SECONDS if self._is_dirty() else None)
            except queue.Empty:
                self._feed("bringing trajectories up to date", lambda sink: sink.idle())
                continue
            if item is None:
                return
            self._handle(item)

    def _is_dirty(self) -> bool:
        with guarded("asking for idle work"):
            return self._sink is not None and self._sink.dirty
        return False

    def _handle(self, item: Any) -> None:
        if isinstance(item, Ended):
            self._end(item)
        elif isinstance(item, threading.Event):
            item.set()
        elif isinstance(item, _Flush):
            self._feed("flushing trajectories", lambda sink: sink.flush(item.timeout))
            item.done.set()
        elif isinstance(item, _Unrecorded):
            with guarded("reading a call that is not sampled"):
                self._count(item.read())
        else:
            self._feed("reading the start of a span", lambda sink: sink.start(_started(item)))

    def _end(self, ended: Ended) -> None:
        with guarded("recording a span"):
            record = ended.record
            self._count(record)
            identity = ended.span.context
            if self._unsampled or (identity is not None and identity.trace_flags.sampled):
                self._feed("writing a trajectory", lambda sink: sink.end(record))

    def _count(self, record: SpanRecord) -> None:
        if self._measure is not None:
            with guarded("recording metrics"):
                self._measure(record)

    def _feed(self, work: str, feed: Callable[[Sink], object]) -> None:
        if self._sink is not None:
            with guarded(work):
                feed(self._sink)

    def flush(self, timeout: float) -> bool:
        """Handle everything queued so far and write it out; False when that takes over `timeout` seconds."""
        if self._thread is None:
            return True
        flush = _Flush(timeout)
        self._queue.put(flush)
        return flush.done.wait(timeout)

    def shutdown(self, timeout: float) -> None:
        """Flush, stop the thread and finish the sink."""
        if self._closed:
            return
        self._closed = True
        thread = self._thread
        if thread is None:
            return
        self._queue.put(None)
        thread.join(timeout)
        if thread.is_alive():
            losses.add("spans not written before exit", self._queue.qsize())
        else:
            self._feed("finishing trajectories", lambda sink: sink.shutdown())


class _Unrecorded:
    """A call without a span."""

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded
        watchers = watching(recorded.scope) if observation.active else None
        self._frozen = watchers.freeze() if watchers is not None and watchers.changes else None

    def read(self) -> SpanRecord:
        """Return its record as observers leave it."""
        complete(self._recorded)
        if self._frozen is None:
            return self._recorded.record
        return self._frozen.run(finished, self._recorded.record, self._frozen.watchers)


class _Flush:
    """Asks for everything before it to be written; `done` is set when it has been."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.done = threading.Event()


def _started(span: Span | Started) -> SpanRecord:
    """Return what is known of a span that has only started; of a model call that is little."""
    if isinstance(span, Started):
        return span.record
    return record_of_start(span, span.name, span.attributes or {}, span.resource)
