"""A model call that the CLI made, put together of what it says of it: one span for each message of the model.

The CLI says a message in pieces; they belong together by its id, and its usage counts once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from opentelemetry.context import Context

from spanrelay.records import ErrorInfo, Message, ModelRequest, ModelResponse, Part, SpanRecord, Text
from spanrelay.scopes import Scope, inherit
from spanrelay.semconv.names import span_name
from spanrelay.tracing import Tracing
from spanrelay_claude_agent_sdk import content

_OPERATION = "chat"
_PROVIDER = "anthropic"


class Exchange:
    """One message of the model, while it arrives.

    Args:
        message_id: The model's id of it.
        model: The model that says it.
        history: The conversation of its agent; all that is in it so far is what the model was asked.
        system: What the agent was told to be.
        started: When the CLI asked, in nanoseconds since the epoch.
    """

    def __init__(
        self,
        message_id: str | None,
        model: str | None,
        history: list[Message],
        system: Sequence[Part],
        started: int,
    ) -> None:
        self.id = message_id
        self.message = Message("assistant")
        self.scope: Scope | None = None
        self.record = SpanRecord(0, 0, name=span_name("llm", _OPERATION, model), kind="llm", operation=_OPERATION)
        self.record.provider = _PROVIDER
        self.record.request = ModelRequest(model)
        self._history, self._asked, self._system = history, len(history), system
        self._started, self._latest = started, started
        self._usage: dict[str, Any] = {}
        self._stop: str | None = None
        self._coming: list[str] = []
        self._size = 0
        history.append(self.message)

    def open(self, tracing: Tracing, scope: Scope, context: Context) -> None:
        """Start the span, below the agent whose scope this is."""
        self.scope = scope
        inherit(self.record, scope)
        self._tracing = tracing
        self.span = tracing.open(self.record, context, self._started)

    def began(self, message: Mapping[str, Any]) -> None:
        """The model has begun to answer, with what it says of its message first."""
        self._count(message.get("usage"))
        self._latest = time.time_ns()
        self.record.time_to_first_chunk = (self._latest - self._started) / 1e9
        if self.record.request is not None:
            self.record.request.stream = True

    def add(self, message: Mapping[str, Any]) -> None:
        """Take a piece of the message, as JSON of Anthropic's `message` with some of its blocks."""
        blocks = content.blocks_of(message.get("content"))
        self._coming.clear()
        self.message.parts.extend(content.parts_of(blocks))
        self._latest = time.time_ns()
        self._size += sum(len(str(block)) for block in blocks)
        self._count(message.get("usage"))
        self._stop = message.get("stop_reason") or self._stop

    def delta(self, event: Mapping[str, Any]) -> None:
        """Take an event of the provider's stream."""
        kind, change = event.get("type"), event.get("delta")
        if not isinstance(change, Mapping):
            return
        if kind == "content_block_delta" and change.get("type") == "text_delta":
            self._coming.append(str(change.get("text", "")))
        elif kind == "message_delta":
            self._stop = change.get("stop_reason") or self._stop
            self._count(event.get("usage"))
            self._latest = time.time_ns()

    def _count(self, usage: Any) -> None:
        if isinstance(usage, Mapping):
            self._usage.update({name: count for name, count in usage.items() if count is not None})

    def close(self, incomplete: str | None = None, error: ErrorInfo | None = None) -> None:
        """End the span at the moment of the last piece; `incomplete` says why, where the model did not say its end."""
        if self._coming:
            self.message.parts.append(Text("".join(self._coming)))
        if self._stop is None and incomplete is not None:
            self.record.incomplete = incomplete
        self.record.error = error
        self.message.finish_reason = self._stop
        self._tracing.close(self.span, self, self._latest)

    @property
    def size(self) -> int:
        """About as many bytes as its blocks have."""
        return self._size

    def show(self) -> None:
        """Its history is the session's, as it is."""

    def shorten(self) -> None:
        """Its history is shared as it is."""

    def elapsed(self) -> int:
        """Nanoseconds from the asking to the last piece."""
        return self._latest - self._started

    def complete(self) -> None:
        """Put what was asked and said into the record."""
        request, record = self.record.request, self.record
        if request is None or self._history is _FORGOTTEN:
            return
        request.messages, request.system = list(islice(self._history, self._asked)), list(self._system)
        if record.error is None:
            usage = content.usage_of(self._usage, whole=self._stop is not None)
            stop = [] if self._stop is None else [self._stop]
            record.response = ModelResponse(self.id, request.model, [self.message], stop, usage)
        self._history = _FORGOTTEN

    def forget_content(self) -> None:
        """Drop what was said; the model, times and counts stay."""
        self.record.content = False
        self._history, self._asked, self.message = [], 0, Message("assistant")


_FORGOTTEN: list[Message] = []
