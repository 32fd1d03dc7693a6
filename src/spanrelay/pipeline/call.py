"""A call in flight: its request, its span, its way to the real thing, and what came back.

What the application passed in is never changed: policy edits copies, and payloads are kept as the bytes that
went over the wire.
"""

from __future__ import annotations

import copy
import time
import weakref
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, cast

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, get_current_span

from spanrelay.pipeline.stream import Arrived, Tap, is_cancellation
from spanrelay.records import Kind, SpanRecord
from spanrelay.scopes import SCOPE_KEY, Scope, current_scope, inherit, place_now
from spanrelay.tracing import SPAN_KEY, Start, Tracing, describe_error, fill, is_read

CALL_KEY = otel_context.create_key("spanrelay.call")
LOOKED_AT_KEY = otel_context.create_key("spanrelay.looked_at")
"""Set where a request of an SDK of ours is sent without a `Call`: it asks no model, or nobody wants to see it."""
NO_CONTEXT = Context()
_ENDED: Any = None
"""The boundary of a call that has ended."""


def call_in_flight(context: Context | None = None) -> Call | None:
    """Return the call that is being sent in `context`, or in the current context."""
    call: Any = (otel_context.get_current() if context is None else context).get(CALL_KEY)
    return call


class Opened:
    """The span of a call and where it stands, before there is a `Call`: most calls that are not sampled need none.

    Args:
        tracing: Opens the span.
        start: What the span starts with; what the scope around hands down is added.
        time_: When it started, in nanoseconds since the epoch; now by default.
        outer: What it is opened under, as `place_now` gives it; the current context by default.
    """

    __slots__ = ("above", "lender", "observed", "outer", "scope", "span", "started")

    foreign = False
    """Whether other instrumentation opened the span, and ends it."""

    def __init__(self, tracing: Tracing, start: Start, time_: int | None = None, outer: Context | None = None) -> None:
        self.lender: Call | None = None
        """The call of a framework whose span this is; that call ends it."""
        self.above: Call | None = None
        """The call of a framework that this one is made for."""
        self.outer = place_now() if outer is None else outer
        self.scope: Scope | None = self.outer.get(SCOPE_KEY)  # pyright: ignore[reportAttributeAccessIssue] - nothing else stands there
        self.started = time.perf_counter_ns()
        if self.scope is not None:
            start = start.within(self.scope.handed)
        self.span = tracing.begin(start, self.outer, time_)
        self.observed = is_read(self.span)
        """Whether anybody reads what is recorded of the call."""


class Taken(Opened):
    """The span that other instrumentation opened for the very call that begins: its owner ends it."""

    foreign = True

    def __init__(self, span: Span, start: Start, outer: Context) -> None:
        span.set_attributes(start.attributes)
        self.lender = self.above = None
        self.outer, self.scope, self.span = outer, current_scope(outer), span
        self.observed = is_read(span)
        self.started = time.perf_counter_ns()


class Lent(Opened):
    """The span of a framework's call, for the first provider call beneath it: one model call, one span."""

    def __init__(self, lender: Call) -> None:
        self.lender = self.above = lender
        self.outer = place_now()
        self.scope, self.span = lender.scope, lender.span
        self.observed = is_read(self.span)
        self.started = time.perf_counter_ns()


class Boundary(Protocol):
    """How an instrumentor or the managed API reaches the real call.

    Under `arun` both methods return awaitables of what is said here. One whose answer comes when the application
    listens has `pushes = True`: nobody can read ahead.
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

    __slots__ = ("_record", "arrived", "body", "call", "native")

    def __init__(self, call: Call, native: Any) -> None:
        self.call = call
        self.native = native
        # A call may be sent again: each response keeps what came for it.
        self.body: bytes | None = call.body
        self.arrived = call.arrived
        self._record: Any = None

    @property
    def record(self) -> Any:
        """The answer as a `ModelResponse` or a `ToolResult`."""
        if self._record is None:
            self._record = self.call.decode_answer(self)
        return self._record

    @property
    def incomplete(self) -> str | None:
        """Why the answer is partial: `closed`, `cancelled`, `abandoned`, `error`, `cut`; None when it is whole."""
        return self.call.record.incomplete


class Call:
    """One call in flight, as middleware is given it: it reads and replaces `request`."""

    kind: ClassVar[Kind]
    """What is called: `llm`, `tool`, `embedder`, `agent` …"""
    answer_type: ClassVar[type]
    sent_beneath: bool = False
    """Whether an exempt call is one that was checked at a framework's call above, and is sent here."""
    takes_any: ClassVar[bool] = False
    """Whether policy may answer with any value, not only with the record or the wire's JSON."""
    body: bytes | None
    """The JSON of the answer, where it is no stream."""

    __slots__ = (
        "__weakref__",
        "_around",
        "_opened",
        "_root",
        "_tap",
        "arrived",
        "begun",
        "beside",
        "boundary",
        "context",
        "exempt",
        "foreign",
        "observed",
        "record",
        "rewriting",
        "scope",
        "sends",
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
        self.context = self._around = NO_CONTEXT
        self._tap: weakref.ref[Tap] | None = None
        self.arrived: Arrived | None = None
        """What came of the answer where it is a stream."""
        self.begun: Callable[[], None] | None = None
        """Told when an answer has begun to come, of a stream too."""
        self.rewriting: Callable[..., Any] | None = None
        """Makes what stream intercepts put between the source of a stream and its consumer."""
        self.exempt = False
        """Whether policy has no say here: it has it at the other boundary of the same model call."""
        self._root: Call | None = None
        self.beside = False
        """Whether it is sent together with others."""
        self.sends = 0
        """How often the call, or a branch of it, was sent."""
        self.started = 0
        self.foreign = False
        """Whether the span is other instrumentation's, which ends it."""
        self.observed = True
        """Whether somebody will read what is sent and received; the boundary need not keep it otherwise."""

    @property
    def root(self) -> Call:
        """The call that this is a branch of, or this call."""
        return self._root or self

    @property
    def beneath(self) -> bool:
        """Whether a span stands above this call's own, here or in the process that this trace comes from."""
        if self.span.is_recording():
            return getattr(self.span, "parent", None) is not None
        return get_current_span(self._around).get_span_context().is_valid

    @property
    def streams(self) -> bool:
        """Whether the answer is known to come as a stream."""
        return False

    @property
    def tap(self) -> Tap | None:
        """The stream that is passing, held by its consumer alone."""
        return self._tap() if self._tap is not None else None

    @tap.setter
    def tap(self, tap: Tap | None) -> None:
        self._tap = weakref.ref(tap) if tap is not None else None
        self.arrived = tap.arrived if tap is not None else None

    def open(self, opened: Opened | None = None) -> Context:
        """Open the span, unless it is open, and return the context in which the real call is to run."""
        opened = opened or self._opened or Opened(self.tracing, Start(self.record))
        self._opened = None
        self.scope, self.span, self.started = opened.scope, opened.span, opened.started
        self.foreign = opened.foreign
        self._around = opened.outer if opened.lender is None else opened.lender._around
        if opened.scope is not None:
            inherit(self.record, opened.scope)
        self.observed = opened.observed
        self.context = Context({**opened.outer, SPAN_KEY: self.span, CALL_KEY: self})
        return self.context

    def policy_context(self) -> Context:
        """The context for middleware: under this call's span, with no call in flight."""
        return otel_context.set_value(CALL_KEY, None, self.context)

    def finish(self, end: int | None = None) -> None:
        """End the span with what was recorded, at `end` in nanoseconds since the epoch, or now."""
        if self.foreign:
            self._outlive()
        if self.foreign:
            fill(self.span, self)
        else:
            self.tracing.close(self.span, self, end)
        # It holds this call: the cycle would keep payloads until the garbage collector comes round.
        self.context = self._around = NO_CONTEXT
        # A client of the application's is not to live until somebody reads what its call was.
        self.boundary = _ENDED

    def _outlive(self) -> None:
        """Tell of a call in a span of its own where the owner of the span that it fills has ended that already."""
        if not self.span.is_recording():
            start = time.time_ns() - self.elapsed()
            self.span, self.foreign = self.tracing.open(self.record, self._around, start), False

    def fail(self, error: BaseException) -> None:
        """End the span of a call that raised `error`."""
        if self.tap is not None:
            self.tap.forget()
        if is_cancellation(error):
            self.record.incomplete = "cancelled"
        self.record.error = describe_error(error)
        self.finish()

    @property
    def request(self) -> Any:
        """The request as a record. Replace it to change what is sent."""
        raise NotImplementedError  # pragma: no cover - each kind of call has its own

    def insist_on_reading(self) -> None:
        """Refuse a call whose request policy cannot read.

        Raises:
            MiddlewareError: nobody could say what would be sent.
        """

    def edit(self, request: Any) -> None:
        """Take what a request intercept returned for the request.

        Raises:
            MiddlewareError: it is none.
        """
        cast("Any", self).request = request

    def check_whole(self) -> None:
        """Look whether policy left the request with what it must have.

        Raises:
            MiddlewareError: something is missing.
        """

    def check_sendable(self) -> None:
        """Raise what the real call would raise before it sends anything, whatever policy says of it."""

    def hold(self) -> None:
        """Keep the request as it is now: policy is about to be awaited, and the application goes on meanwhile."""

    def changed(self) -> bool:
        """Whether the request differs from what guardrails judged last."""
        return False

    def judge(self) -> None:
        """Take the request as it is now for judged."""

    def branch(self) -> Call:
        """Return a copy to be sent beside this call."""
        other = copy.copy(self)
        other._root = self.root
        # What comes of it is its own until the call adopts it.
        other.record = copy.copy(self.record)
        other.tap = None
        # What comes back on its way is the branch's, and the boundary keeps state of each sending.
        other.boundary = copy.copy(self.boundary)
        other.context = otel_context.set_value(CALL_KEY, other, self.context)
        return other

    def shown(self) -> Call:
        """Return a copy for policy on trial: what it does to it is lost, and what it counts is counted."""
        return self.branch()

    def decode_answer(self, response: Response) -> Any:
        """Return the record of an answer to this call."""
        raise NotImplementedError  # pragma: no cover - as above

    def read_answer(self, answer: Any) -> Any:
        """Return the record of an answer that middleware made, which may be one."""
        return answer

    def encode_answer(self, record: Any) -> Any:
        """Return the body for `Boundary.answer` that says `record`."""
        raise NotImplementedError  # pragma: no cover - as above

    def checked_answer(self, body: dict[str, Any], by: str) -> dict[str, Any]:
        """Return the wire's JSON that the execution intercept `by` answers with.

        Raises:
            MiddlewareError: it is no answer of this API.
        """
        return body

    def adopt(self, response: Response) -> None:
        """Record what `response` came of: this call, or a branch of it."""
        other = response.call
        if other is not self:
            theirs = other.record
            self.record.incomplete, self.record.error = theirs.incomplete, theirs.error
            self.record.time_to_first_chunk = theirs.time_to_first_chunk

    @property
    def size(self) -> int:
        """Bytes of payload kept."""
        return 0

    def show(self) -> None:
        """Share nothing of the record: code of the application's will see it."""

    def shorten(self) -> None:
        """Keep less payload for the same record, where that is possible."""

    def elapsed(self) -> int:
        """Nanoseconds since the call was opened."""
        return time.perf_counter_ns() - self.started

    def complete(self) -> None:
        """Read the kept payload into the record."""

    def forget_content(self) -> None:
        """Drop the payload."""
        self.record.content = False
