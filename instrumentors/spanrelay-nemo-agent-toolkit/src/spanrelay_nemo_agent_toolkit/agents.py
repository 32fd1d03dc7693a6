"""A run of an agent: a workflow, or a function that is an agent, in a scope that everything below belongs to.

A stream's context is attached while the toolkit works and never while the stream's consumer does.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, ClassVar

from opentelemetry.context import Context, attach, detach

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay.pipeline.call import Response
from spanrelay.pipeline.driver import arun
from spanrelay.pipeline.function import AgentRun, FunctionCall
from spanrelay.pipeline.stream import AsyncTap
from spanrelay.records import AgentInfo, AgentResult, SpanRecord
from spanrelay.scopes import Scope, current_scope, inherit
from spanrelay.semconv.names import OPERATION_OF_KIND, span_name
from spanrelay.tracing import Tracing
from spanrelay_nemo_agent_toolkit import content


class AgentScope(Scope):
    """The scope of a run of an agent."""

    __slots__ = ()

    holds_graphs: ClassVar[bool] = True
    """An agent of the toolkit may be made of a graph of LangGraph, which is a part of it and no agent of its own."""


def agent_scope(name: str, description: str | None) -> AgentScope:
    """Return a scope below the current one that has not been opened."""
    parent, operation = current_scope(), OPERATION_OF_KIND["agent"]
    record = inherit(SpanRecord(0, 0, name=span_name("agent", operation, name), kind="agent"), parent)
    record.operation, record.agent = operation, AgentInfo(name, description=description)
    return AgentScope(record, parent, name)


class Run(AgentRun):
    """One run of an agent of the toolkit. `entry` is the function that it calls first, which is the run itself."""

    __slots__ = ("_entry", "awaits")

    def __init__(self, scope: AgentScope, given: Any, boundary: Any, tracing: Tracing, entry: Any = None) -> None:
        super().__init__(scope, given, boundary, tracing)
        self._entry = entry
        self.awaits: Any = None
        """The function that is to be called, where that call is no other than the run."""

    def decode_answer(self, response: Response) -> AgentResult:
        """Return what the run gave as a record."""
        answer = super().decode_answer(response) if response.arrived is not None else None
        return answer or AgentResult(_json.loads(_json.dumps(content.gave(response.native))))

    def sending(self, given: Any) -> None:
        """Keep what the agent is given now."""
        self.awaits = self._entry
        if self.observed:
            with guarded("reading what an agent is given"):
                self.sent = _json.dumps(content.given(given))

    def finish(self, end: int | None = None) -> None:
        """End the span; what was never sent is kept now."""
        if self.sent is None:
            self.sending(self.outgoing())
        super().finish(end)


class CallBoundary:
    """The real call: a method of the toolkit, given the input.

    Args:
        call: Calls it.
        answer: Makes of a value what the method would have given.
    """

    __slots__ = ("_answer", "_call")

    def __init__(self, call: Callable[[Any], Any], answer: Callable[[Any], Any]) -> None:
        self._call = call
        self._answer = answer

    async def send(self, call: FunctionCall) -> Any:
        """Call the method with what policy left of its input."""
        result = await self._call(begin(call))
        call.gave(content.gave(result))
        return result

    async def answer(self, call: FunctionCall, body: Any) -> Any:
        """An answer of policy is the value, in the type that the caller asked for."""
        call.gave(body)
        return self._answer(body)


class StreamBoundary(CallBoundary):
    """The same for an async generator."""

    __slots__ = ()

    async def send(self, call: FunctionCall) -> Any:
        """Begin the stream."""
        chunks = self._call(begin(call))

        async def close() -> None:
            token = attach(call.context)
            try:
                await chunks.aclose()
            finally:
                detach(token)

        call.tap = tap = TextTap(call, chunks, close, form="events")
        return tap

    async def answer(self, call: FunctionCall, body: Any) -> Any:
        """An answer of policy comes as one chunk."""
        call.gave(body)
        return _each([self._answer(body)])


class TextTap(AsyncTap):
    """A stream whose chunks are kept as the text in them."""

    __slots__ = ()

    def _take(self, chunk: Any) -> Any:
        taken = super()._take(chunk)
        if taken is chunk:
            with guarded("reading a chunk"):
                self.arrived.chunks[-1] = _json.dumps(content.gave(chunk))
        return taken


def begin(call: FunctionCall) -> Any:
    """Return what policy left of the input of `call`, and keep it."""
    given = call.outgoing()
    if isinstance(call, Run):
        call.sending(given)
    elif call.observed:
        call.sent = _json.dumps(given)
    return given


async def _each(chunks: list[Any]) -> AsyncGenerator[Any, None]:
    for chunk in chunks:
        yield chunk


async def passed(make: Callable[[], FunctionCall], outer: Context) -> AsyncIterator[Any]:
    """Pass on the stream of the call that `make` makes, begun below `outer` with its first chunk."""
    token = attach(outer)
    try:
        chunks = await arun(make())
    finally:
        detach(token)
    try:
        async for chunk in chunks:
            yield chunk
    finally:
        await chunks.aclose()
