"""Calls of the application's own functions: executions of tools and runs of agents.

What a function was given and what it gave is kept as JSON bytes at the call; its own objects pass untouched
unless policy changed them.
"""

from __future__ import annotations

from typing import Any, ClassVar, cast

from opentelemetry.context import Context

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay.errors import MiddlewareError
from spanrelay.pipeline import typed
from spanrelay.pipeline.call import CALL_KEY, Boundary, Call, Opened, Response
from spanrelay.pipeline.skills import SKILL_LOAD, skills_loaded
from spanrelay.records import JSON, AgentRequest, AgentResult, Kind, SpanRecord, ToolRequest, ToolResult
from spanrelay.scopes import Scope, mark_span, place_now
from spanrelay.semconv.names import OPERATION_OF_KIND, span_name
from spanrelay.tracing import SPAN_KEY, Tracing, is_read

_LET_GO: Any = object()
"""What a call was given that has ended: it is in the record."""


class FunctionCall(Call):
    """A call of a function with `given`, the application's own objects.

    `sent` and `body` are the JSON of what it was given and what it gave.
    """

    takes_any: ClassVar[bool] = True

    __slots__ = ("_judged", "_plain", "_request", "body", "given", "sent")

    def __init__(self, record: SpanRecord, given: Any, boundary: Boundary, tracing: Tracing) -> None:
        super().__init__(record, boundary, tracing)
        self.given = given
        self.sent: bytes | None = None
        self.body: bytes | None = None
        self._plain: bytes = b""
        self._request: Any = None
        self._judged: bytes | None = None

    def _first_request(self, plain: JSON) -> Any:
        """Return the request as policy sees it first; `plain` is the JSON of what was given."""
        raise NotImplementedError  # pragma: no cover - tools and agents have their own

    def _input_of(self, request: Any) -> JSON:
        """Return what `request` gives to the function."""
        raise NotImplementedError  # pragma: no cover - as above

    def _told(self) -> JSON:
        """Return the input that the record tells of."""
        raise NotImplementedError  # pragma: no cover - as above

    def _keep(self, given: JSON, gave: JSON) -> None:
        """Put both into the record."""
        raise NotImplementedError  # pragma: no cover - as above

    @property
    def request(self) -> Any:
        """The request as a record, a copy that policy may edit or replace.

        Of a call that has ended it is what has been kept of it.
        """
        if self.given is _LET_GO:
            sent = self.sent
            return self._first_request(_json.loads(sent) if sent else self._told())
        if self._request is None:
            self._plain = _json.dumps(self.given)
            self._request = self._first_request(_json.loads(self._plain))
        return self._request

    @request.setter
    def request(self, value: Any) -> None:
        before = self.request
        if not isinstance(value, type(before)):
            raise MiddlewareError(
                f"the request of a call of kind {self.kind!r} must be a {type(before).__name__}, "
                f"not {type(value).__name__!r}"
            )
        self._request = value

    def outgoing(self) -> Any:
        """Return what to call the function with: the application's own objects where policy left them.

        Where the application has changed them since policy read them, it is what policy has judged.
        """
        if self._request is None:
            return self.given
        wanted = self._input_of(self._request)
        if _json.dumps(wanted) != self._plain:
            return typed.like(self.given, wanted)
        if _json.dumps(self.given) == self._plain:
            return self.given
        return typed.as_it_was(self.given, _json.loads(self._plain))

    def hold(self) -> None:
        """Read what is given: it runs as it was read."""
        _ = self.request

    def changed(self) -> bool:
        """Whether the request differs from what guardrails judged last."""
        return self._judged is not None and _json.dumps(self.request) != self._judged

    def judge(self) -> None:
        """Remember the request as it is now."""
        self._judged = _json.dumps(self.request)

    def branch(self) -> FunctionCall:
        """Return a copy with a request of its own."""
        other = cast("FunctionCall", super().branch())
        other._request = other._first_request(typed.as_json(self._input_of(self.request)))
        other.sent = other.body = None
        return other

    def with_request(self, request: Any) -> FunctionCall:
        """Return a branch that runs `request`."""
        other = self.branch()
        other.request = request
        return other

    def begin(self, given: object) -> None:
        """Keep what the function is about to be given."""
        if self.observed:
            self.sent = _json.dumps(given)

    def gave(self, value: object) -> None:
        """Keep what the function gave."""
        if self.observed:
            self.body = _json.dumps(value)

    def decode_answer(self, response: Response) -> Any:
        """Return what the function gave as a record."""
        return self.answer_type(self._given_back(response))

    def _given_back(self, response: Response) -> JSON:
        if response.arrived is not None:
            return _joined(response.arrived.items())
        return typed.as_json(response.native)

    def encode_answer(self, record: Any) -> Any:
        """Return the value that stands for `record`."""
        return record.content

    def adopt(self, response: Response) -> None:
        """Record what `response` came of: this call, or a branch of it."""
        super().adopt(response)
        other = response.call
        if isinstance(other, FunctionCall):
            self.sent, self._request, self._plain = other.sent, other._request, other._plain
            self.body, self.tap, self.arrived = response.body, other.tap, response.arrived

    def finish(self, end: int | None = None) -> None:
        """End the span; what was never sent is kept now."""
        if self.sent is None and self.observed:
            with guarded("keeping what a function was given"):
                self.sent = _json.dumps(self.given if self._request is None else self._input_of(self._request))
        self._settle()
        super().finish(end)
        # What waits to be read is bounded by its bytes: the objects that they were written from are several times that.
        self.given, self._request, self._judged = _LET_GO, None, None
        self._plain = b""

    def _settle(self) -> None:
        """Put into the record what policy has made of the request beside the input."""

    @property
    def size(self) -> int:
        """Bytes of both that are kept."""
        return len(self.sent or b"") + (self.arrived.size if self.arrived is not None else len(self.body or b""))

    def complete(self) -> None:
        """Read both into the record, and let the bytes go."""
        with guarded("reading what a function was given and gave"):
            given = _json.loads(self.sent) if self.sent else None
            if self.arrived is not None:
                gave = _joined(self.arrived.items())
            else:
                gave = _json.loads(self.body) if self.body else None
            self._keep(given, gave)
        self.sent = self.body = self.arrived = None

    def forget_content(self) -> None:
        """Drop the bytes; name, times and error stay."""
        super().forget_content()
        self.sent, self.body, self.arrived = b"", None, None


def _joined(items: list[JSON]) -> JSON:
    """Return what a generator gave: one text where it gave texts, else the list."""
    return "".join(items) if items and all(isinstance(item, str) for item in items) else items


class ToolExecution(FunctionCall):
    """One execution of a tool, by the managed API or a framework's instrumentor."""

    kind: ClassVar[Kind] = "tool"
    answer_type: ClassVar[type] = ToolResult

    __slots__ = ("_is_error", "annotation", "answered_below")

    def __init__(self, request: ToolRequest, boundary: Boundary, tracing: Tracing) -> None:
        operation = OPERATION_OF_KIND["tool"]
        record = SpanRecord(0, 0, name=span_name("tool", operation, request.name), kind="tool")
        record.operation = operation
        record.tool = ToolRequest(request.name, None, request.call_id, request.description, request.type)
        super().__init__(record, request.arguments, boundary, tracing)
        self._is_error = False
        self.annotation: JSON = None
        self.answered_below = False
        """Whether this is a framework's, and a connection such as MCP's has answered for the very tool beneath it."""

    def begin(self, given: object) -> None:
        """Keep what the tool is about to be given, and mark the skills that it loads."""
        super().begin(given)
        if self.observed:
            name = cast("ToolRequest", self.record.tool).name
            for skill, source in skills_loaded(name, given):
                marked = {"skill_name": skill, "skill_load_source": source, "tool_name": name}
                mark_span(self.span, self.scope, SKILL_LOAD, marked)

    def _first_request(self, plain: JSON) -> ToolRequest:
        known = cast("ToolRequest", self.record.tool)
        return ToolRequest(known.name, plain, known.call_id, known.description, known.type)

    def _input_of(self, request: ToolRequest) -> JSON:
        return request.arguments

    def _told(self) -> JSON:
        return cast("ToolRequest", self.record.tool).arguments

    def _settle(self) -> None:
        asked = self._request
        if asked is not None:
            self.record.tool = ToolRequest(asked.name, None, asked.call_id, asked.description, asked.type)

    def _keep(self, given: JSON, gave: JSON) -> None:
        known = cast("ToolRequest", self.record.tool)
        self.record.tool = ToolRequest(known.name, given, known.call_id, known.description, known.type)
        if gave is not None or (self.body is not None and self.record.error is None):
            self.record.result = ToolResult(gave, self._is_error, self.annotation)

    def encode_answer(self, record: ToolResult) -> Any:
        """Return the value that stands for `record`; a result that is an error says so in the record."""
        self._is_error = record.is_error
        return record.content


class AgentRun(FunctionCall):
    """One run of an agent that is a function. Its scope is current in it, so everything below belongs to it."""

    kind: ClassVar[Kind] = "agent"
    answer_type: ClassVar[type] = AgentResult

    __slots__ = ("_inner",)

    def __init__(self, scope: Scope, given: Any, boundary: Boundary, tracing: Tracing) -> None:
        super().__init__(scope.record, given, boundary, tracing)
        self._inner = scope

    def open(self, opened: Opened | None = None) -> Context:
        """Open the span and the scope, and return the context in which the agent is to run."""
        outer = place_now()
        inner = self._inner.open(self.tracing, outer)
        self.scope, self.span = self._inner, cast("Any", self._inner.span)
        self.started = self._inner.started
        self.observed = is_read(self.span)
        self.context = Context({**inner, SPAN_KEY: self.span, CALL_KEY: self})
        return self.context

    def finish(self, end: int | None = None) -> None:
        """End the span, and take back what the scope's registrations were."""
        super().finish(end)
        self._inner.release()

    def _first_request(self, plain: JSON) -> AgentRequest:
        return AgentRequest(self._inner.agent_name, plain)

    def _input_of(self, request: AgentRequest) -> JSON:
        return request.input

    def _told(self) -> JSON:
        return self.record.input

    def _keep(self, given: JSON, gave: JSON) -> None:
        self.record.input, self.record.output = given, gave
