"""RelaySpanProcessor: stands in front of a provider's span processors and hands each span on as a view.

Nothing readable passes it unsanitized, and an exception of a processor behind it stops here.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import Status

from spanrelay import _json
from spanrelay._guard import guarded, losses
from spanrelay.records import JSON
from spanrelay.scopes import Scope, current_scope
from spanrelay.semconv import names
from spanrelay.telemetry.masking import mask_text
from spanrelay.telemetry.projection import Ended, LazyAttributes, Pending
from spanrelay.telemetry.worker import Worker
from spanrelay.tracing import handed_over

_OWN = "spanrelay"
_log = logging.getLogger("spanrelay")


class RelaySpanProcessor(SpanProcessor):
    """Projects our spans lazily, sanitizes foreign ones in place, and feeds the worker.

    Args:
        worker: Reads finished spans for metrics and trajectories; None where neither is on.
        dialect: Attribute dialect of what is handed on.
        content: Whether messages, arguments and results are part of it.
        pending_limit: Bytes of payload that may wait to be read.
    """

    def __init__(
        self,
        worker: Worker | None = None,
        *,
        dialect: str = "genai",
        content: bool = False,
        pending_limit: int = 64 * 1024 * 1024,
    ) -> None:
        self.worker = worker
        self.dialect = dialect
        self.content = content
        self.pending = Pending(pending_limit)
        self.behind: tuple[SpanProcessor, ...] = ()

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        """Add a processor behind the others; a provider's `add_span_processor` comes here."""
        self.behind = (*self.behind, span_processor)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Give a foreign span its scope's session, user and metadata, and tell the others."""
        if not _is_ours(span):
            scope = current_scope(parent_context)
            if scope is not None:
                with guarded("handing a scope's identity to a span"):
                    _inherit(span, scope)
        self._each("on_start", span, parent_context)
        if self.worker is not None:
            self.worker.started(span)

    def _on_ending(self, span: Span) -> None:
        if not _is_ours(span):
            with guarded("sanitizing a span"):
                _mask_in_place(span)
        self._each("_on_ending", span)

    def on_end(self, span: ReadableSpan) -> None:
        """Hand the span on as a view."""
        with guarded("making the view of a span"):
            _mask_around(span)
            recorded = handed_over.pop(span.context.span_id, None) if span.context is not None else None
            if recorded is not None or self.worker is not None:
                ended = Ended(span, recorded, self.pending)
                if recorded is not None:
                    span._attributes = LazyAttributes(ended, self.dialect, content=self.content)
                if self.worker is not None:
                    self.worker.ended(ended)
        self._each("on_end", span)

    def _each(self, method: str, *args: Any) -> None:
        for processor in self.behind:
            try:
                getattr(processor, method)(*args)
            except Exception as error:
                _report(processor, method, error)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flush the worker, then the processors behind; False when the time ran out."""
        deadline = time.monotonic() + timeout_millis / 1000
        flushed = self.worker is None or self.worker.flush(timeout_millis / 1000)
        for processor in self.behind:
            left = int((deadline - time.monotonic()) * 1000)
            if left <= 0:
                return False
            flushed = processor.force_flush(left) and flushed
        return flushed

    def shutdown(self) -> None:
        """Finish the worker, then the processors behind."""
        if self.worker is not None:
            self.worker.shutdown(timeout=30.0)
        self._each("shutdown")


_reported: set[tuple[str, str]] = set()


def _report(processor: SpanProcessor, method: str, error: Exception) -> None:
    """A foreign processor's failure is counted and logged once; the application never sees it."""
    name = type(processor).__qualname__
    losses.add(f"failures of the span processor {name}")
    if (name, method) not in _reported:
        _reported.add((name, method))
        _log.warning("span processor %r failed in %s", name, method, exc_info=error)


def _is_ours(span: ReadableSpan) -> bool:
    scope = span.instrumentation_scope
    return scope is not None and scope.name.startswith(_OWN)


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
    for key, value in list(items.items()):
        if isinstance(value, str):
            masked = mask_text(value)
            if masked is not value:
                items[key] = masked


def _mask_around(span: ReadableSpan) -> None:
    """Mask what stands beside the attributes: name, status text and events."""
    span._name = mask_text(span._name)
    description = span._status.description
    if description:
        masked = mask_text(description)
        if masked is not description:
            span._status = Status(span._status.status_code, masked)
    if span._events:
        span._events = [_masked_event(event) for event in span._events]


def _masked_event(event: Event) -> Event:
    attributes = dict(event.attributes or {})
    masked = {key: mask_text(value) if isinstance(value, str) else value for key, value in attributes.items()}
    return event if masked == attributes else Event(mask_text(event.name), masked, event.timestamp)
