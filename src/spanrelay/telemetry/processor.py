"""RelaySpanProcessor: stands in front of a provider's span processors and hands each span on as a view.

Nothing readable passes it unsanitized, and an exception of a processor behind it stops here.
"""

from __future__ import annotations

import copy
import logging
import operator
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from threading import get_ident
from typing import Any, TypeVar

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.trace import INVALID_SPAN_CONTEXT, Link, SpanContext, Status

from spanrelay import _json
from spanrelay._guard import guarded, losses, pass_on, swallow, traced
from spanrelay._masking import mask_cut, mask_text, mask_values, masked_mapping
from spanrelay.observation import mailbox
from spanrelay.observation.bounds import bounded
from spanrelay.observation.events import TOLD, SpanEnd, SpanStart, Watch, tell
from spanrelay.observation.halves import are_cut, mend_span, without_last_word
from spanrelay.observation.observers import NOBODY, Frozen, Watchers, observation, watching
from spanrelay.observation.sanitizing import sanitized_context
from spanrelay.observation.surroundings import masked_context, masked_origin
from spanrelay.records import JSON
from spanrelay.scopes import Scope, current_scope
from spanrelay.semconv import names
from spanrelay.telemetry.attributes import LiveSpan, settle_identity
from spanrelay.telemetry.destinations import without_doubles
from spanrelay.telemetry.front import Row, count_lost_spans, fill_start
from spanrelay.telemetry.overheard import overheard
from spanrelay.telemetry.projection import Ended, LazyAttributes, Pending, SanitizedView, Started
from spanrelay.telemetry.worker import Worker
from spanrelay.tracing import hand_over_filling, handed_over, offer, starting

_OWN = "spanrelay"
_NO_STATE = INVALID_SPAN_CONTEXT.trace_state
"""The trace state of nearly all contexts."""
_STATE = 4
"""Where it stands in a `SpanContext`, which is a tuple."""
EXIT_SECONDS = 4.5
"""What the end of a process may take for all that waits, and what exporters and subscribers take of it."""

_PASSING_SECONDS = 0.5
"""What the end waits for a span that another thread is handing on: that may be what the end has interrupted."""

T = TypeVar("T")
_log = logging.getLogger("spanrelay")


class RelaySpanProcessor(SpanProcessor):
    """Projects our spans lazily, sanitizes foreign ones in place, and feeds the worker.

    Args:
        worker: Reads finished spans for metrics and trajectories; None where neither is on.
        dialect: Attribute dialect of what is handed on.
        content: Whether messages, arguments and results are part of it.
        pending_limit: Bytes of payload that may wait to be read; with a worker its own counts.
        told_content: Whether subscribers are told of messages, arguments and results.
    """

    def __init__(
        self,
        worker: Worker | None = None,
        *,
        dialect: str = "genai",
        content: bool = False,
        pending_limit: int = 64 * 1024 * 1024,
        told_content: bool = True,
    ) -> None:
        self.worker = worker
        self.dialect = dialect
        self.content = content
        self._pending = Pending(pending_limit)
        self.told_content = told_content
        self._ending: dict[int, tuple[Frozen, Watch | None]] = {}
        self._left_out: set[int] = set()
        self._handed_on: dict[int, ReadableSpan] = {}
        """The span that each thread is just now handing on."""
        self.closed = False
        """Whether it has been shut down."""
        self._end: float | None = None
        self.used_by: int | None = None
        """The process whose spans came here, where there is no worker that knows."""
        self.row = Row()

    @property
    def row(self) -> Any:
        """What holds the processors behind."""
        return self._row

    @row.setter
    def row(self, row: Any) -> None:
        self._row = row
        self._look()

    @property
    def behind(self) -> tuple[SpanProcessor, ...]:
        """The processors that are told of what this one has made of spans."""
        return self._row._span_processors

    @behind.setter
    def behind(self, processors: tuple[SpanProcessor, ...]) -> None:
        self._row._span_processors = processors

    def _look(self) -> None:
        """Look at the processors behind, which are others than they were."""
        processors = self.behind
        counted = [count_lost_spans(processor) for processor in processors]
        self._seen = processors if all(counted) else None  # else they are looked at again
        self._told_of_starts = tuple(each for each in processors if _listens(each, "on_start"))
        self._told_of_endings = tuple(each for each in processors if _listens(each, "_on_ending"))
        self._told_of_ends = without_doubles(processors)

    @property
    def pending(self) -> Pending:
        """What counts the bytes that wait to be read: the worker's, which a forked child has anew."""
        return self._pending if self.worker is None else self.worker.pending

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Give a foreign span its scope's session, user and metadata, and tell the others."""
        ours = _is_ours(span)
        if starting and ours and (start := starting.pop(get_ident(), None)) is not None:
            fill_start(span, start.attributes)
        # Where looking fails, nobody is shown what may not have been sanitized.
        told = observation.active
        if told or not ours:
            with guarded("looking for who observes a span"):
                if not ours:
                    offer(span, parent_context)
                told = self._begin(span, ours, parent_context)
        if self._seen is not self._row._span_processors:
            self._look()
        if self._told_of_starts:
            _each(self._told_of_starts, "on_start", span, parent_context)
        if self.worker is not None and not told:
            self.worker.started(span)

    def _begin(self, span: Span, ours: bool, parent_context: Context | None) -> bool:
        """Make what others may read of `span` fit for it, and tell observers; False where there are none."""
        scope = current_scope(parent_context)
        watchers = watching(scope) if observation.active else None
        if scope is not None and not ours:
            _inherit(span, scope)
        if watchers is None:
            if scope is not None and not ours:
                Watch.of(span, scope, NOBODY)
            return False
        watch = Watch.of(span, scope, watchers)
        if watchers.sanitizers and are_cut(span):
            mend_span(span, without_last_word)
        if watchers.sanitizers:
            watch.settled = settle_identity(span, watchers)
        if self.worker is not None or watchers.subscribers:
            self._tell_start(Started(span, watchers.freeze(), watch.settled), watchers)
        return True

    def _tell_start(self, started: Started, watchers: Watchers) -> None:
        if self.worker is not None:
            self.worker.started(started)
        tell(watchers, SpanStart, started, self.told_content)

    def _on_ending(self, span: Span) -> None:
        ours = _is_ours(span)
        if not ours:
            with guarded("looking for the call that fills a span"):
                if not hand_over_filling(span):
                    self._left_out.add(span.get_span_context().span_id)
        if observation.active:
            with guarded("fixing who observes a span"):
                self._freeze(span, ours)
        if are_cut(span):
            with guarded("masking a span"):
                mend_span(span, mask_cut)
        # Of a call of ours the attributes are made when they are read; our guardrails are spans like any other.
        identity: Any = span._context
        if not ours or identity[1] not in handed_over:
            with guarded("masking a span"):
                _mask_in_place(span)
        if self._seen is not self._row._span_processors:
            self._look()
        if self._told_of_endings:
            _each(self._told_of_endings, "_on_ending", span)

    def _freeze(self, span: Span, ours: bool) -> None:
        """Fix who sees the end of `span`, and finish in place what others recorded of it."""
        span_id = span.get_span_context().span_id
        watch, recorded = Watch.at(span), handed_over.get(span_id)
        scope = recorded.scope if recorded is not None else watch.scope if watch is not None else None
        watchers = (watching(scope) or NOBODY).holding_on_to(watch.watchers if watch is not None else None)
        if watchers.sanitizers and are_cut(span):
            mend_span(span, without_last_word)
        if (recorded is None or not ours) and watchers.changes:
            LiveSpan(span, watchers, watch.settled if watch is not None else {}).finish()
        if watchers is not NOBODY:
            self._ending[span_id] = (watchers.freeze(), watch)

    def on_end(self, span: ReadableSpan) -> None:
        """Hand the span on as a view."""
        thread = get_ident()
        self._handed_on[thread] = span
        try:
            self._hand_on(span)
        finally:
            self._handed_on.pop(thread, None)

    def _hand_on(self, span: ReadableSpan) -> None:
        closed = self.closed
        try:
            _mask_around(span)
            span_id = 0 if span._context is None else span._context[1]  # the SDK's properties are a call each
            if closed:
                losses.add("spans ended after shutdown")
            if self.worker is None:
                self.used_by = os.getpid()
            frozen, watch = self._ending.pop(span_id, (None, None)) if self._ending else (None, None)
            recorded = handed_over.pop(span_id, None)
            heard = overheard.take((span._context[0], span_id)) if overheard.waiting and span._context else ()
            watchers = frozen.watchers if frozen is not None else NOBODY
            if watchers.sanitizers:
                _sanitize_contexts(span, watchers)
            if recorded is not None or self.worker is not None or watchers.subscribers:
                pending = self._pending if self.worker is None else self.worker.pending  # a property is a call
                ended = Ended(span, recorded, pending, frozen, heard)
                if recorded is not None:
                    span = self._view(ended)
                if self.worker is not None and not closed:
                    self.worker.ended(ended)
                if watchers.subscribers:
                    self._tell_end(span, ended, watchers, watch)
            if span_id in self._left_out:
                self._left_out.discard(span_id)
                span = _unsampled(span)
        except Exception as error:
            swallow("making the view of a span", error)
        if self._seen is not self._row._span_processors:
            self._look()
        _each(self._told_of_ends if not closed else tuple(filter(_takes_all, self._told_of_ends)), "on_end", span)

    def _view(self, ended: Ended) -> ReadableSpan:
        attributes = LazyAttributes(ended, self.dialect, content=self.content)
        if ended.changed:
            return SanitizedView(ended, attributes)
        ended.span._attributes = attributes
        return ended.span

    def _tell_end(self, span: ReadableSpan, ended: Ended, watchers: Watchers, watch: Watch | None) -> None:
        tell(watchers, SpanEnd, ended, watch.told if watch is not None else (), self.told_content)
        setattr(span, TOLD, watchers.subscribers)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Write and send what has been recorded so far; False where something is not written or sent in time.

        Inside a subscriber, a sanitizer or a metadata injector that is so at once: it would wait for itself.
        """
        if mailbox.inside.value:
            return False
        # At the same time, as at the end: a disk that hangs takes no time from exporters.
        deadline = time.monotonic() + timeout_millis / 1000
        writing = self.worker.flushing(timeout_millis / 1000) if self.worker is not None else None
        flushed = [mailbox.flush(_left(deadline))]
        flushed += [_flushed(processor, deadline) for processor in self.behind]
        if writing is not None:
            flushed.append(writing.wait(_left(deadline)))
        return all(flushed)

    def shutdown(self) -> None:
        """Finish the worker, tell subscribers what they have not heard, then finish the processors behind."""
        # All at the same time: the worker writes, and subscribers are told, while exporters wait for a collector.
        if self._end is None:
            self.close(time.monotonic() + EXIT_SECONDS)
        deadline, self._end = self._end or 0.0, None
        _each(self.behind, "shutdown")
        if not mailbox.flush(max(0.0, deadline - time.monotonic())) and not mailbox.abandon():
            losses.add("waits for subscribers that did not keep up")  # with the last that there was
        if self.worker is not None:
            self.worker.shutdown(max(0.0, deadline - time.monotonic()))
        overheard.leave(self)

    def close(self, end: float) -> None:
        """Begin to finish, which `shutdown` is to have done at `end`, on the monotonic clock. Does not wait for that.

        What ends from now on is counted. What other threads are handing on may pass: nobody would count it.
        """
        self.closed, self._end = True, end
        present = {thread.ident for thread in threading.enumerate()} - {get_ident()}
        under_way = [(thread, span) for thread, span in list(self._handed_on.items()) if thread in present]
        until = time.monotonic() + _PASSING_SECONDS
        while any(self._handed_on.get(thread) is span for thread, span in under_way) and time.monotonic() < until:
            time.sleep(0.001)
        if self.worker is not None:
            self.worker.close()


_SILENT = frozenset(
    getattr(kind, method)
    for kind in (SpanProcessor, BatchSpanProcessor, SimpleSpanProcessor)
    for method in ("on_start", "_on_ending")
)
"""Methods of the SDK's that do nothing."""


def _takes_all(processor: SpanProcessor) -> bool:
    """Whether a processor may take what ends during its shutdown: the SDK's that gather spans drop it then or soon."""
    return not hasattr(processor, "_batch_processor")


def _listens(processor: SpanProcessor, method: str) -> bool:
    return getattr(getattr(processor, method, None), "__func__", None) not in _SILENT


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _flushed(processor: SpanProcessor, deadline: float) -> bool:
    """Flush a processor, and what it exports to: the SDK's leave that out, so that what waits there seems written."""
    for each in (processor, getattr(processor, "span_exporter", None)):
        left = int(_left(deadline) * 1000)
        if each is not None and (not left or not _is_flushed(each, left)):
            return False
    return True


def _is_flushed(flushable: Any, timeout_millis: int) -> bool:
    try:
        return flushable.force_flush(timeout_millis) is not False
    except Exception as error:
        _report(flushable, "force_flush", error)
        return False


def _each(processors: tuple[SpanProcessor, ...], method: str, *args: Any) -> None:
    for processor in processors:
        try:
            getattr(processor, method)(*args)
        except Exception as error:
            _report(processor, method, error)


_reported: set[tuple[str, str]] = set()


def _report(processor: Any, method: str, error: Exception) -> None:
    """A foreign processor's failure is counted and logged once; the application never sees it."""
    pass_on(error)
    name = type(processor).__qualname__
    losses.add(f"failures of the span processor {name}")
    if (name, method) not in _reported:
        _reported.add((name, method))
        _log.warning("span processor %r failed in %s\n%s", name, method, traced(error))


def _is_ours(span: ReadableSpan) -> bool:
    scope = span._instrumentation_scope
    return scope is not None and scope._name.startswith(_OWN)


def _unsampled(span: ReadableSpan) -> ReadableSpan:
    """Return `span` as one that exporters leave out and that other processors still see the end of."""
    other, context = copy.copy(span), span.context
    if context is not None:
        other._context = SpanContext(context.trace_id, context.span_id, context.is_remote)
    return other


def _inherit(span: Span, scope: Scope) -> None:
    present = span.attributes or {}
    wanted: dict[str, JSON] = {
        names.OI_SESSION: scope.session_id,
        names.CONVERSATION_ID: scope.session_id,
        names.USER_ID: scope.user_id,
        names.OI_METADATA: _json.dumps_text(scope.metadata) if scope.metadata else None,
    }
    for name, value in wanted.items():
        if value is not None and name not in present:
            span.set_attribute(name, value)


def _mask_in_place(span: Span) -> None:
    # The SDK has frozen the attributes by now; its own dict is the only place that every processor will read.
    attributes: Any = span._attributes
    items: dict[str, Any] = attributes._dict
    masked = masked_mapping(items)
    if masked is not items:
        items.clear()
        items.update(masked)


# Spans have few names.
_masked_name = lru_cache(maxsize=1024)(mask_text)


def _mask_around(span: ReadableSpan) -> None:
    """Mask what stands beside the attributes: name, status text, events, links, and what it comes from."""
    span._resource, span._instrumentation_scope = masked_origin(span._resource, span._instrumentation_scope)
    context: Any = span._context
    # Its property is a call; asking any state whether it is empty is another.
    if context is not None and context[_STATE] is not _NO_STATE:
        span._context = masked_context(context)
    context = span._parent
    if context is not None and context[_STATE] is not _NO_STATE:
        span._parent = masked_context(context)
    span._name = _masked_name(span._name)
    status = span._status
    if status._description:
        masked = mask_text(status._description)
        if masked is not status._description:
            span._status = Status(status.status_code, masked)
    if span._events:
        span._events = _masked(span._events, _masked_event)
    if span._links:
        span._links = _masked(span._links, _masked_link)


def _masked(items: Sequence[T], mask: Callable[[T], T]) -> Sequence[T]:
    """Return events or links with each as `mask` leaves it, and the count of those that the SDK has dropped."""
    masked = [mask(item) for item in items]
    return items if all(map(operator.is_, masked, items)) else bounded(items, masked)


def _masked_event(event: Event) -> Event:
    attributes, name = event.attributes or {}, mask_text(event.name)
    masked = mask_values(attributes)
    return event if name is event.name and masked == attributes else Event(name, masked, event.timestamp)


def _masked_link(link: Link) -> Link:
    attributes, context = link.attributes or {}, masked_context(link.context)
    masked = mask_values(attributes)
    return link if masked == attributes and context is link.context else Link(context, masked)


def _sanitize_contexts(span: ReadableSpan, watchers: Watchers) -> None:
    """Leave out of trace states what sanitizers would change."""
    if span._context is not None and span._context.trace_state:
        span._context = sanitized_context(span._context, watchers)
    if span._parent is not None and span._parent.trace_state:
        span._parent = sanitized_context(span._parent, watchers)
