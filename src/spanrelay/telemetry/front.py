"""Puts a span processor in front of all others of a provider, at once or when the first span starts.

Touches the private names of the SDK which that takes, and those of log records and metrics; `union` alone does the
like. Imports nothing heavy.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, SynchronousMultiSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, ParentBasedTraceIdRatio, StaticSampler, TraceIdRatioBased

from spanrelay._guard import losses


class Row:
    """Holds the processors that a front hands on to, as a provider does; a front has one of its own until it stands."""

    def __init__(self) -> None:
        self._span_processors: tuple[SpanProcessor, ...] = ()


class Front(Protocol):
    """A span processor that hands on to the processors of a row."""

    row: Any
    """What holds them: others may add to it, and take out of it, at any time."""

    @property
    def on_end(self) -> Callable[[ReadableSpan], None]:
        """What a provider calls."""
        ...


_CALLED = ("on_start", "_on_ending", "on_end", "shutdown", "force_flush")


def put_in_front(front: Front, provider: Any) -> Callable[[], None] | None:
    """Put `front` before all span processors of `provider`, present and future.

    Returns what takes it out again, or None where the provider is not built like the SDK's.
    """
    multi: Any = getattr(provider, "_active_span_processor", None)
    if not isinstance(getattr(multi, "_span_processors", None), tuple):
        return None
    _place(front, multi)

    def undo() -> None:
        if standing_at(multi) is front:
            for name in _CALLED:
                delattr(multi, name)

    return undo


def _place(front: Front, multi: Any) -> None:
    # In place: tracers that exist already hold this very object. The row stays true: vendors look at it and change it.
    front.row = multi
    for name in _CALLED:
        setattr(multi, name, getattr(front, name))


def standing_at(multi: Any) -> Any:
    """Return the front that stands before the processors of `multi`, if one does."""
    return getattr(multi.__dict__.get("on_end"), "__self__", None)


def move_processors(ours: Any, theirs: Any) -> None:
    """Put the processors of `ours` behind those of `theirs`, and what stands in front of the former before all."""
    front = standing_at(ours)
    theirs._span_processors += ours._span_processors
    if front is not None and standing_at(theirs) is None:
        _place(front, theirs)


_DEAF = (StaticSampler, TraceIdRatioBased)
"""Samplers that do not look at attributes."""

_MOST_AT_START = 64
"""More attributes than a span of ours starts with."""


def shows_no_start(tracer: Any) -> bool:
    """Whether nobody sees the attributes of a span's start before its processors, and no limit of the user's cuts them.

    Then a span may be started without them and filled in `on_start`, by `fill_start`.
    """
    limits: Any = getattr(tracer, "_span_limits", None)
    if limits is None or limits.max_span_attribute_length is not None:
        return False
    if type(tracer.span_processor) is not SynchronousMultiSpanProcessor:
        return False  # processors are told on other threads, or by somebody's own rules
    if limits.max_span_attributes is not None and limits.max_span_attributes < _MOST_AT_START:
        return False
    return _is_deaf(tracer.sampler)


def _is_deaf(sampler: Any) -> bool:
    """Whether a sampler is known not to look at attributes: the SDK's own, and of no class made from them."""
    if type(sampler) in (ParentBased, ParentBasedTraceIdRatio):
        return all(type(inner) in _DEAF for inner in vars(sampler).values())
    return type(sampler) in _DEAF


def fill_start(span: Span, attributes: Mapping[str, Any]) -> None:
    """Give a span that has just been started attributes that are clean and fit its limits."""
    into: Any = span._attributes
    into._dict.update(attributes)


_AT_ONCE = 1000
"""More threads than ever end a span in the same instant: with more room than that, nothing can be dropped."""


class _Queue(deque[Any]):
    """What waits in a batch processor, which loses the oldest in silence where there is no room: here it is counted.

    The lock may be taken again by a signal handler, and is made anew where a forked child clears the queue.
    """

    def __init__(self, waiting: deque[Any], what: str, batch: Any) -> None:
        super().__init__(waiting, waiting.maxlen)
        self._what = what
        self._batch = weakref.ref(batch)
        self._near_full = (waiting.maxlen or 0) - _AT_ONCE
        self._lock = threading.RLock()

    def appendleft(self, item: Any, /) -> None:
        if len(self) < self._near_full:
            super().appendleft(item)
            return
        with self._lock:
            if len(self) == self.maxlen:
                losses.add(f"{self._what} not exported because too many were waiting")
            super().appendleft(item)

    def pop(self) -> Any:
        if len(self) < self._near_full:
            return super().pop()
        with self._lock:
            return super().pop()

    def clear(self) -> None:
        self._lock = threading.RLock()
        super().clear()
        batch = self._batch()
        if batch is not None:  # which has just made its own lock anew, too
            batch._export_lock = _ExportLock(batch._export_lock)


class _ExportLock:
    """The lock that a batch processor holds while it exports: whoever holds it may export within that.

    A signal handler, or what Python collects, may flush on the very thread that exports or flushes, and would wait for
    itself for ever.
    """

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._owner: int | None = None
        self._depth = 0

    def __enter__(self) -> None:
        if self._owner != threading.get_ident():
            self._lock.acquire()
            self._owner = threading.get_ident()
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = None
            self._lock.release()


def count_overflow(processor: Any, what: str = "spans") -> bool:
    """Count what a batch processor of the SDK, of spans or of log records, drops before it comes to an exporter.

    Returns False where it is exporting just now, which may take long: ask again.
    """
    batch: Any = getattr(processor, "_batch_processor", None)
    waiting: Any = getattr(batch, "_queue", None)
    if type(waiting) is deque:
        lock: Any = batch._export_lock  # while it is held, nothing is taken out
        if not lock.acquire(blocking=False):
            return False
        try:
            batch._queue = _Queue(waiting, what, batch)
            batch._export_lock = _ExportLock(lock)
        finally:
            lock.release()
    return True


def count_lost_spans(processor: Any) -> bool:
    """Count the spans that a processor of the SDK drops, and those that an exporter of others does not deliver.

    Returns False where what it drops cannot be counted yet: ask again.
    """
    _count_failures(processor, "spans")
    return count_overflow(processor)


def count_lost_logs(processor: Any) -> None:
    """Count the log records that a processor of the SDK drops, and those that its exporter does not deliver."""
    count_overflow(processor, "log records")
    _count_failures(processor, "log records")


def _count_failures(processor: Any, what: str) -> None:
    inner: Any = getattr(processor, "_batch_processor", processor)
    exporter: Any = getattr(inner, "_exporter", None) or getattr(inner, "span_exporter", None)
    export: Any = getattr(exporter, "export", None)
    if export is None or isinstance(export, _Counted) or type(exporter).__module__.startswith("spanrelay."):
        return  # ours count for themselves
    with suppress(AttributeError):  # an exporter that takes no attributes counts for itself
        exporter.export = _Counted(export, what)


class _Counted:
    """The `export` of an exporter; what does not come through is counted, and the answer stays as it is."""

    def __init__(self, export: Callable[[Sequence[Any]], Any], what: str) -> None:
        self._export = export
        self._what = what

    def __call__(self, batch: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        delivered = False
        try:
            result = self._export(batch, *args, **kwargs)
            delivered = getattr(result, "name", "SUCCESS") == "SUCCESS"
        finally:
            if not delivered:
                losses.add(f"{self._what} not exported", len(batch))
        return result


def is_shut_down(provider: Any) -> bool:
    """Whether a tracer provider has a processor of the SDK's that takes no spans any more."""
    behind: Any = getattr(getattr(provider, "_active_span_processor", None), "_span_processors", ())
    return any(getattr(getattr(each, "_batch_processor", None), "_shutdown", False) is True for each in behind)


def is_of_sdk(provider: Any) -> bool:
    """Whether a logger or meter provider is built like the SDK's."""
    return hasattr(provider, "_multi_log_record_processor") or hasattr(provider, "_measurement_consumer")


def put_in_front_of_logs(front: Any, provider: Any) -> Callable[[], None] | None:
    """Put `front` before all log record processors of `provider`, present and future; see `put_in_front`."""
    multi: Any = getattr(provider, "_multi_log_record_processor", None)
    present: Any = getattr(multi, "_log_record_processors", None)
    if not isinstance(present, tuple):
        return None
    front.behind = present
    for processor in present:
        count_lost_logs(processor)
    multi._log_record_processors = (front,)
    multi.add_log_record_processor = front.add_log_record_processor

    def undo() -> None:
        if multi._log_record_processors == (front,):
            multi._log_record_processors = front.behind
            del multi.add_log_record_processor

    return undo


def put_in_front_of_metrics(
    hide: Callable[[Any], bool], shown: Callable[[Any], Any], provider: Any
) -> Callable[[], None] | None:
    """Let `hide` see each measurement before it is added up, and hand on what `shown` makes of what was collected.

    Returns what takes them out again, or None where the provider is not built like the SDK's.
    """
    consumer: Any = getattr(provider, "_measurement_consumer", None)
    if not hasattr(consumer, "_reader_storages") or not hasattr(consumer, "add_metric_reader"):
        return None
    add, collect = consumer.add_metric_reader, consumer.collect
    storages: list[Any] = []

    def guard_storages() -> None:
        for storage in consumer._reader_storages.values():
            if storage not in storages:
                storages.append(storage)
                storage.consume_measurement = _hiding(hide, storage.consume_measurement)

    def collect_shown(*args: Any, **kwargs: Any) -> Any:
        return shown(collect(*args, **kwargs))

    def add_guarded(reader: Any) -> None:
        add(reader)
        guard_storages()

    def undo() -> None:
        for storage in storages:
            del storage.consume_measurement
        for name in ("add_metric_reader", "collect"):
            consumer.__dict__.pop(name, None)  # of two that are one, the other has done so
        for reader in consumer._reader_storages:
            reader._set_collect_callback(consumer.collect)

    guard_storages()
    consumer.add_metric_reader, consumer.collect = add_guarded, collect_shown
    for reader in consumer._reader_storages:
        reader._set_collect_callback(collect_shown)
    return undo


def _hiding(hide: Callable[[Any], bool], consume: Callable[..., None]) -> Callable[..., None]:
    def consume_hidden(measurement: Any, *args: Any, **kwargs: Any) -> None:
        if hide(measurement):
            consume(measurement, *args, **kwargs)

    return consume_hidden


def count_anew(provider: Any, scope: str) -> None:
    """Let the instruments of a scope have measured nothing: in a forked child what they have is its parent's.

    Their locks are made anew, which a thread of the parent's may have held.
    """
    consumer: Any = getattr(provider, "_measurement_consumer", None)
    for storage in getattr(consumer, "_reader_storages", {}).values():
        for instrument, matches in list(storage._instrument_view_instrument_matches.items()):
            if instrument.instrumentation_scope.name == scope:
                for match in matches:
                    match._lock = threading.Lock()
                    match._attributes_aggregation.clear()


def hear_of(
    module: Any, setter: str, then: Callable[[], object], instead: Callable[[Any], bool] = lambda provider: False
) -> Callable[[], None]:
    """Call `then` whenever a provider has been set; return what ends that.

    `instead` is given the provider first; where it returns true it has set it itself.
    """
    original: Any = getattr(module, setter, None)
    if original is None:
        return lambda: None

    def set_and_tell(provider: Any, *args: Any, **kwargs: Any) -> None:
        if not instead(provider):
            original(provider, *args, **kwargs)
        then()

    setattr(module, setter, set_and_tell)

    def undo() -> None:
        if getattr(module, setter) is set_and_tell:
            setattr(module, setter, original)

    return undo


_waiting: list[Latch] = []

_LONGEST_OPENING = 10.0
"""Seconds that a fork waits, at most, for another thread that opens a latch; that may wait for the one that forks."""


class Latch(SpanProcessor):
    """Stands in front until the first span starts, then opens: `build` puts the real front in its place.

    A process that boots with us and records nothing pays only for this class.
    """

    def __init__(self, build: Callable[[], SpanProcessor | None]) -> None:
        self.row: Any = Row()
        self._build = build
        self._undo: Callable[[], None] | None = None
        self._lock = threading.RLock()
        self._opened: SpanProcessor | None = None
        self._closed = False

    def wait(self, provider: Any) -> None:
        """Stand in front of `provider`'s processors until something opens the latch.

        A provider that is not the SDK's, or not there yet, is looked for again when the latch is opened.
        """
        self.stand(provider)
        _waiting.append(self)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self._in_child
            )

    def _before_fork(self) -> None:
        # A child that is forked while another thread opens this would wait for ever: for the thread, and for what it
        # was importing.
        self._lock.acquire(timeout=_LONGEST_OPENING)

    def _after_fork(self) -> None:
        with suppress(RuntimeError):  # it is another thread's still
            self._lock.release()

    def _in_child(self) -> None:
        self._lock = threading.RLock()

    def stand(self, provider: Any) -> None:
        """Stand in front of `provider`'s processors, unless this stands somewhere already."""
        self._undo = self._undo or put_in_front(self, provider)

    def open(self) -> SpanProcessor | None:
        """Step aside, build what is to stand here, and return it."""
        with self._lock:
            if self in _waiting:
                _waiting.remove(self)
                # We stay until the real front stands: spans of other threads wait at the lock and miss nothing.
                self._opened = self._build()
                if self._undo is not None:
                    self._undo()
                if self._closed and self._opened is not None and getattr(self._opened, "row", None) is self.row:
                    self._opened.shutdown()  # so that it counts what comes too late
            return self._opened

    @property
    def behind(self) -> tuple[SpanProcessor, ...]:
        """The processors that stand behind this."""
        return self.row._span_processors

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Open, and let the first span through."""
        for processor in self._now():
            processor.on_start(span, parent_context)

    def _on_ending(self, span: Span) -> None:
        for processor in self._now():
            processor._on_ending(span)

    def on_end(self, span: ReadableSpan) -> None:
        """A span that started before we stood here."""
        for processor in self._now():
            processor.on_end(span)

    def _now(self) -> tuple[SpanProcessor, ...]:
        opened = self.open()
        return self.behind if opened is None else (opened,)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flush the processors behind; nothing of ours is waiting."""
        flushed = True
        for processor in self.behind:
            flushed = processor.force_flush(timeout_millis) and flushed
        return flushed

    def shutdown(self) -> None:
        """Shut the processors behind down."""
        self._closed = True
        for processor in self.behind:
            processor.shutdown()


def stand_before(provider: Any) -> None:
    """Let every latch that has found no provider stand in front of `provider`'s processors."""
    for latch in list(_waiting):
        latch.stand(provider)


def open_latches() -> None:
    """Open every latch now: an instrumented package has been imported, so calls are coming."""
    for latch in list(_waiting):
        latch.open()
