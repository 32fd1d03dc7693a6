"""Puts a span processor in front of all others of a provider, at once or when the first span starts.

The only file that touches the two private names of the SDK which that takes. Imports nothing heavy.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor


class Front(Protocol):
    """A span processor that hands on to the processors behind it."""

    @property
    def behind(self) -> tuple[SpanProcessor, ...]:
        """The processors that it hands on to."""
        ...

    @behind.setter
    def behind(self, processors: tuple[SpanProcessor, ...], /) -> None: ...

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        """Add a processor behind the others."""
        ...


def put_in_front(front: Front, provider: Any) -> Callable[[], None] | None:
    """Put `front` before all span processors of `provider`, present and future.

    Returns what takes it out again, or None where the provider is not built like the SDK's.
    """
    multi: Any = getattr(provider, "_active_span_processor", None)
    present: Any = getattr(multi, "_span_processors", None)
    if not isinstance(present, tuple):
        return None
    # A latch is replaced, not stood behind: what it waits for is this.
    front.behind = present[0].behind if present and isinstance(present[0], Latch) else present
    # In place: tracers that exist already hold this very object.
    multi._span_processors = (front,)
    multi.add_span_processor = front.add_span_processor

    def undo() -> None:
        if multi._span_processors == (front,):
            multi._span_processors = front.behind
            del multi.add_span_processor

    return undo


_waiting: list[Latch] = []


class Latch(SpanProcessor):
    """Stands in front until the first span starts, then opens: `build` puts the real front in its place.

    A process that boots with us and records nothing pays only for this class.
    """

    def __init__(self, build: Callable[[], SpanProcessor | None]) -> None:
        self.behind: tuple[SpanProcessor, ...] = ()
        self._build = build
        self._undo: Callable[[], None] | None = None
        self._lock = threading.RLock()
        self._opened: SpanProcessor | None = None

    def wait(self, provider: Any) -> None:
        """Stand in front of `provider`'s processors until something opens the latch.

        A provider that is not the SDK's, or not there yet, is looked for again when the latch is opened.
        """
        self._undo = put_in_front(self, provider)
        _waiting.append(self)

    def open(self) -> SpanProcessor | None:
        """Step aside, build what is to stand here, and return it."""
        with self._lock:
            if self in _waiting:
                _waiting.remove(self)
                # We stay until the real front stands: spans of other threads wait at the lock and miss nothing.
                self._opened = self._build()
                if self._undo is not None:
                    self._undo()
            return self._opened

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        """Add a processor behind the others."""
        self.behind = (*self.behind, span_processor)

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
        for processor in self.behind:
            processor.shutdown()


def open_latches() -> None:
    """Open every latch now: an instrumented package has been imported, so calls are coming."""
    for latch in list(_waiting):
        latch.open()
