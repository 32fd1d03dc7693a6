"""A call in flight: its request, its span, its way to the provider, and what came back.

What the application passed in is never changed: policy edits copies, and payloads are kept as the bytes that
went over the wire.
"""

from __future__ import annotations

import asyncio
import copy
import time
import weakref
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, set_span_in_context

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay.codecs import Codec
from spanrelay.errors import MiddlewareError
from spanrelay.records import Kind, ModelRequest, ModelResponse, SpanRecord, ToolRequest, ToolResult
from spanrelay.scopes import Scope, current_scope, inherit
from spanrelay.semconv.names import OPERATION_OF_KIND, span_name
from spanrelay.tracing import Start, Tracing, describe_error

if TYPE_CHECKING:
    from spanrelay.pipeline.stream import Arrived, Tap

CANCELLATIONS = (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt)
"""What ends a call from outside; no failure of the provider's."""

_CALL_KEY = otel_context.create_key("spanrelay.call")
_NO_CONTEXT = Context()


def call_in_flight(context: Context | None = None) -> Call | None:
    """Return the call that is being sent in `context`, or in the current context."""
    return cast("Call | None", otel_context.get_value(_CALL_KEY, context))


class Opened:
    """The span of a call and where it stands, before there is a `Call`: most calls that are not sampled need none.

    Args:
        tracing: Opens the span.
        start: What the span starts with; what the scope around hands down is added.
    """

    __slots__ = ("outer", "scope", "span", "started")

    def __init__(self, tracing: Tracing, start: Start) -> None:
        self.outer = otel_context.get_current()
        self.scope = current_scope(self.outer)
        self.started = time.perf_counter_ns()
        if self.scope is not None:
            start = start.within(inherit(SpanRecord(0, 0), self.scope))
        self.span = tracing.begin(start, self.outer)


class Boundary(Protocol):
    """How an instrumentor or the managed API reaches the real call.

    Under `arun` both methods return awaitables of what is said here.
    """

    def send(self, call: Any, /) -> Any:
        """Make the real call with `call.outgoing()` and return what the SDK returns.

        Puts what went over the wire into `call.sent` and `call.body`, or a `Tap` into `call.tap`.
        """
        ...

    def answer(self, call: Any, body: Any, /) -> Any:
        """Return what the SDK would have returned, had the provider answered `body`."""
        ...


class Response:
    """What a `yield call` gives to middleware: `.record`, decoded on first use, and `.native`.

    For a stream this is the whole answer after its end; `incomplete` says why it is only a part.
    """

    __slots__ = ("_record", "call", "native")

    def __init__(self, call: Call, native: Any) -> None:
        self.call = call
        self.native = native
        self._record: Any = None

    @property
    def record(self) -> Any:
        """The answer as a `ModelResponse` or a `ToolResult`."""
        if self._record is None:
            self._record = self.call.decode_answer(self)
        return self._record

    @property
    def incomplete(self) -> str | None:
        """Why the answer is partial: `closed`, `cancelled`, `abandoned`, `error`; None when it is whole."""
        return self.call.record.incomplete


class Call:
    """One call in flight. Middleware reads and replaces `request`; everything else is for the pipeline."""

    kind: ClassVar[Kind]
    answer_type: ClassVar[type]

    __slots__ = (
        "_opened",
        "_tap",
        "arrived",
        "boundary",
        "context",
        "observed",
        "record",
        "scope",
        "span",
        "started",
        "tracing",
    )

    def __init__(self, record: SpanRecord, boundary: Boundary, tracing: Tracing, opened: Opened | None = None) -> None:
        self.record = record
        self.boundary = boundary
        self.tracing = tracing
        self._opened = opened
        self.scope: Scope | None = None
        self.span: Span = INVALID_SPAN
        self.context = _NO_CONTEXT
        self._tap: weakref.ref[Tap] | None = None
        self.arrived: Arrived | None = None
        """What came of the answer where it is a stream."""
        self.started = 0
        self.observed = True
        """Whether somebody will read what is sent and received; the boundary need not keep it otherwise."""

    @property
    def tap(self) -> Tap | None:
        """The stream that is passing, held by its consumer alone."""
        return self._tap() if self._tap is not None else None

    @tap.setter
    def tap(self, tap: Tap | None) -> None:
        self._tap = weakref.ref(tap) if tap is not None else None
        self.arrived = tap.arrived if tap is not None else None

    def open(self) -> Context:
        """Open the span, unless it is open, and return the context in which the real call is to run."""
        opened = self._opened or Opened(self.tracing, Start(self.record))
        self._opened = None
        self.scope, self.span, self.started = opened.scope, opened.span, opened.started
        inherit(self.record, opened.scope)
        self.observed = self.tracing.reads(self.span)
        self.context = otel_context.set_value(_CALL_KEY, self, set_span_in_context(self.span, opened.outer))
        return self.context

    def policy_context(self) -> Context:
        """The context for middleware: under this call's span, with no call in flight."""
        return otel_context.set_value(_CALL_KEY, None, self.context)

    def finish(self) -> None:
        """End the span with what was recorded."""
        self.tracing.close(self.span, self)
        # It holds this call: the cycle would keep payloads until the garbage collector comes round.
        self.context = _NO_CONTEXT

    def fail(self, error: BaseException) -> None:
        """End the span of a call that raised `error`."""
        if self.tap is not None:
            self.tap.forget()
        if isinstance(error, CANCELLATIONS):
            self.record.incomplete = "cancelled"
        self.record.error = describe_error(error)
        self.finish()

    @property
    def request(self) -> Any:
        """The request as a record. Replace it to change what is sent."""
        raise NotImplementedError  # pragma: no cover - each kind of call has its own

    def changed(self) -> bool:
        """Whether the request differs from what guardrails judged last."""
        return False

    def judge(self) -> None:
        """Take the request as it is now for judged."""

    def branch(self) -> Call:
        """Return a copy to be sent beside this call."""
        other = copy.copy(self)
        other.tap = None
        # What comes back on its way is the branch's, and the boundary keeps state of each sending.
        other.boundary = copy.copy(self.boundary)
        other.context = otel_context.set_value(_CALL_KEY, other, self.context)
        return other

    def decode_answer(self, response: Response) -> Any:
        """Return the record of an answer to this call."""
        raise NotImplementedError  # pragma: no cover - as above

    def encode_answer(self, record: Any) -> Any:
        """Return the body for `Boundary.answer` that says `record`."""
        raise NotImplementedError  # pragma: no cover - as above

    def adopt(self, other: Call) -> None:
        """Record what `other`, a branch of this call, sent and received."""

    @property
    def size(self) -> int:
        """Bytes of payload kept."""
        return 0

    def elapsed(self) -> int:
        """Nanoseconds since the call was opened."""
        return time.perf_counter_ns() - self.started

    def complete(self) -> None:
        """Read the kept payload into the record."""

    def forget_content(self) -> None:
        """Drop the payload."""
        self.record.content = False


class ModelCall(Call):
    """A request to a model as wire JSON.

    `sent` and `body` are the bytes of request and response; `body` of a stream is made from its chunks.
    """

    kind: ClassVar[Kind] = "llm"
    answer_type: ClassVar[type] = ModelResponse

    __slots__ = ("_judged", "_request", "_wire", "body", "codec", "original", "sent")

    def __init__(
        self,
        codec: Codec,
        wire: Mapping[str, Any],
        boundary: Boundary,
        tracing: Tracing,
        *,
        provider: str,
        kind: Kind = "llm",
        opened: Opened | None = None,
    ) -> None:
        model = wire.get("model")
        model = model if isinstance(model, str) else None
        operation = codec.operation
        record = SpanRecord(0, 0, name=span_name(kind, operation, model), kind=kind, operation=operation)
        record.provider = provider
        record.request = ModelRequest(model, stream=bool(wire.get("stream")))
        super().__init__(record, boundary, tracing, opened)
        self.codec = codec
        self.original = wire
        self.sent: bytes | None = None
        self.body: bytes | None = None
        self._wire: Mapping[str, Any] | None = None
        self._request: ModelRequest | None = None
        self._judged: Mapping[str, Any] = wire

    @property
    def request(self) -> ModelRequest:
        """The request as a record; edit it or replace it, and the codec patches the wire."""
        if self._request is None:
            self._request = self.codec.decode_request(self.wire)
        return self._request

    @request.setter
    def request(self, value: ModelRequest) -> None:
        if not isinstance(value, ModelRequest):  # pyright: ignore[reportUnnecessaryIsInstance] - policy is user code
            raise MiddlewareError(f"the request of a model call must be a ModelRequest, not {type(value).__name__!r}")
        self._request = value

    @property
    def wire(self) -> dict[str, Any]:
        """The provider's JSON, a copy that policy may edit. Edit this or `request`, not both."""
        if self._wire is None:
            self._wire = cast("dict[str, Any]", _json.loads(_json.dumps(self.original)))
        return cast("dict[str, Any]", self._wire)

    @wire.setter
    def wire(self, value: Mapping[str, Any]) -> None:
        self._wire = value
        self._request = None

    def outgoing(self) -> Mapping[str, Any]:
        """Return the JSON to send: the application's own object unless policy changed something."""
        if self._wire is None:
            return self.original
        wire = self._wire if self._request is None else self.codec.encode_request(self._request, self._wire)
        return self.original if wire == self.original else wire

    def changed(self) -> bool:
        """Whether the wire differs from what guardrails judged last."""
        return self._wire is not None and self.outgoing() != self._judged

    def judge(self) -> None:
        """Remember the wire that guardrails are about to judge."""
        self._judged = self.outgoing()

    def branch(self) -> ModelCall:
        """Return a copy with a request of its own, to be sent beside this call."""
        other = cast("ModelCall", super().branch())
        other._wire = cast("dict[str, Any]", _json.loads(_json.dumps(self.outgoing())))
        other._request = None
        other.sent = other.body = None
        return other

    def with_request(self, request: ModelRequest) -> ModelCall:
        """Return a branch that sends `request`."""
        other = self.branch()
        other.request = request
        return other

    def decode_answer(self, response: Response) -> ModelResponse:
        """Return the record of the answer that was received last."""
        return self.codec.decode_response(self._body_json())

    def encode_answer(self, record: ModelResponse) -> dict[str, Any]:
        """Return the response body that says `record`, patched onto the provider's own where there is one."""
        if record.model is None:
            record = replace(record, model=self.request.model)
        body = self.codec.encode_response(record, self._body_json() or None)
        self.tap, self.body = None, _json.dumps(body)
        return body

    def adopt(self, other: Call) -> None:
        """Record what `other`, a branch of this call, sent and received."""
        if other is not self and isinstance(other, ModelCall):
            self.sent, self.body, self.tap, self.arrived = other.sent, other.body, other.tap, other.arrived
            self.original, self._wire, self._request = other.original, other._wire, other._request

    def _body_json(self) -> Mapping[str, Any]:
        if self.arrived is not None:
            return self.arrived.body(self.codec)
        with guarded("reading a response body"):
            body = _json.loads(self.body) if self.body else {}
            return cast("Mapping[str, Any]", body) if isinstance(body, dict) else {}
        return {}

    def finish(self) -> None:
        """End the span; what was not seen on the wire is kept as bytes now, before anybody changes it."""
        if self.sent is None and self.span.is_recording():
            self.sent = _json.dumps(self.outgoing())
        super().finish()

    @property
    def size(self) -> int:
        """Bytes of request and response kept."""
        return len(self.sent or b"") + (self.arrived.size if self.arrived is not None else len(self.body or b""))

    def complete(self) -> None:
        """Decode request and response into the record, and let the bytes go."""
        record = self.record
        with guarded("decoding a request"):
            if self.sent:
                wire = _json.loads(self.sent)
                record.request = self.codec.decode_request(wire if isinstance(wire, dict) else {})
        with guarded("decoding a response"):
            body = self._body_json()
            if body:
                record.response = self.codec.decode_response(body)
        self.sent = self.body = self.arrived = None
        self.original = {}

    def forget_content(self) -> None:
        """Drop the bytes; model, times and error stay."""
        super().forget_content()
        self.sent, self.body, self.arrived = b"", None, None


class ToolExecution(Call):
    """One execution of a tool, by the managed API or a framework's instrumentor."""

    kind: ClassVar[Kind] = "tool"
    answer_type: ClassVar[type] = ToolResult

    __slots__ = ("_judged",)

    def __init__(self, request: ToolRequest, boundary: Boundary, tracing: Tracing) -> None:
        operation = OPERATION_OF_KIND["tool"]
        record = SpanRecord(0, 0, name=span_name("tool", operation, request.name), kind="tool")
        record.operation = operation
        record.tool = request
        super().__init__(record, boundary, tracing)
        self._judged: ToolRequest | None = None

    @property
    def request(self) -> ToolRequest:
        """The tool's name and arguments."""
        return cast("ToolRequest", self.record.tool)

    @request.setter
    def request(self, value: ToolRequest) -> None:
        if not isinstance(value, ToolRequest):  # pyright: ignore[reportUnnecessaryIsInstance] - policy is user code
            raise MiddlewareError(f"the request of a tool call must be a ToolRequest, not {type(value).__name__!r}")
        self.record.tool = value

    def outgoing(self) -> ToolRequest:
        """Return the request to execute."""
        return self.request

    def changed(self) -> bool:
        """Whether name or arguments differ from what guardrails judged last."""
        return self._judged is not None and self.request != self._judged

    def judge(self) -> None:
        """Remember name and arguments as they are now."""
        self._judged = copy.deepcopy(self.request)

    def branch(self) -> ToolExecution:
        """Return a copy with a request and a record of its own."""
        other = cast("ToolExecution", super().branch())
        other.record = copy.copy(self.record)
        other.record.tool = copy.copy(self.request)
        return other

    def with_request(self, request: ToolRequest) -> ToolExecution:
        """Return a branch that executes `request`."""
        other = self.branch()
        other.request = request
        return other

    def decode_answer(self, response: Response) -> ToolResult:
        """Return the tool's value as a record."""
        return ToolResult(response.native)

    def encode_answer(self, record: ToolResult) -> Any:
        """Return the value that stands for `record`."""
        self.record.result = record
        return record.content

    def adopt(self, other: Call) -> None:
        """Record what `other` executed."""
        if other is not self:
            self.record.tool, self.record.result = other.record.tool, other.record.result
