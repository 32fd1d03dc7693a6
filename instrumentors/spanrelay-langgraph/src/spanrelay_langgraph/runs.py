"""The boundary of a graph: one span for each run, from its first step to the end of its stream.

The run's context is attached while LangGraph works and never while the consumer of the stream does.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

from langgraph.errors import GraphBubbleUp, GraphInterrupt
from opentelemetry.context import Context, attach, detach, get_current

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay.codecs.langchain.config import labels_of, session_of
from spanrelay.instrumentation.patching import Patch
from spanrelay.pipeline.call import Response, call_in_flight
from spanrelay.pipeline.driver import arun, run
from spanrelay.pipeline.function import AgentRun
from spanrelay.pipeline.stream import AsyncTap, SyncTap
from spanrelay.records import AgentInfo, AgentResult, SpanRecord
from spanrelay.scopes import Scope, current_scope, inherit
from spanrelay.semconv.names import OPERATION_OF_KIND, span_name
from spanrelay.tracing import Tracing
from spanrelay_langgraph import content
from spanrelay_langgraph.agents import agent_of, brief_of, name_of
from spanrelay_langgraph.answers import chunks_of
from spanrelay_langgraph.marks import mark_interrupts, mark_resume
from spanrelay_langgraph.scopes import NOT_YET, NodeScope, RunScope


class GraphRun(AgentRun):
    """One run of a graph. One that is no agent, but a part of another graph, is no matter of policy."""

    __slots__ = ("_graph", "_run")

    def __init__(self, graph: Any, scope: RunScope, given: Any, boundary: GraphBoundary, tracing: Tracing) -> None:
        super().__init__(scope, given, boundary, tracing)
        self._graph = graph
        self._run = scope
        self.exempt = scope.record.kind != "agent"

    @property
    def streams(self) -> bool:
        """A graph answers with a stream, whichever way it is run."""
        return True

    def sending(self, given: Any) -> None:
        """Keep what the graph is given now."""
        self._run.output = NOT_YET
        mark_resume(self._run, given)
        if self.observed:
            with guarded("reading what a graph is given"):
                self.sent = _json.dumps(content.given(given))

    def decode_answer(self, response: Response) -> AgentResult:
        """Return what the graph gave as a record: the whole of its state."""
        if self._run.output is NOT_YET:
            return super().decode_answer(response)
        return AgentResult(_json.loads(_json.dumps(self._run.output)))

    def finish(self, end: int | None = None) -> None:
        """End the span; what LangGraph raised to steer a graph around this one is no error."""
        if self.tap is not None and isinstance(self.tap.failure, GraphBubbleUp):
            self.record.error = self.record.incomplete = None
        if self.observed:
            with guarded("reading what a graph gave"):
                if self.sent is None:
                    self.sent = _json.dumps(content.given(self.given))
                if self._run.output is not NOT_YET:
                    self.body = _json.dumps(content.gave(self._run.output))
            with guarded("reading what an agent is told"):
                self.record.request = brief_of(self._graph)
        self._graph = None
        super().finish(end)
        self._run.output = NOT_YET

    @property
    def size(self) -> int:
        """Bytes of both that are kept."""
        return len(self.sent or b"") + len(self.body or b"")

    def forget_content(self) -> None:
        """Drop both, and what the agent is told."""
        super().forget_content()
        self.record.request = None

    def complete(self) -> None:
        """Read both into the record; the chunks of the stream are not part of it."""
        self.arrived = None
        super().complete()


class GraphBoundary:
    """The real call: LangGraph's own generator, which has been made with the application's arguments already.

    Args:
        make: Makes it again, with the input it is given, where policy changed that or sends it again.
        steps: The generator that was made.
        answer: Makes the chunks of a stream that ends in a given state.
    """

    __slots__ = ("_answer", "_make", "_steps")

    def __init__(self, make: Callable[[Any], Any], steps: Any, answer: Callable[[Any], list[Any]]) -> None:
        self._make = make
        self._steps = steps
        self._answer = answer

    def _begun(self, call: GraphRun) -> Any:
        given = call.outgoing()
        call.sending(given)
        steps, self._steps = self._steps, None
        return steps if steps is not None and given is call.given else self._make(given)

    def send(self, call: GraphRun) -> Any:
        """Begin the run."""
        steps = self._begun(call)

        def close() -> None:
            token = attach(call.context)
            try:
                steps.close()
            finally:
                detach(token)

        call.tap = tap = SyncTap(call, steps, close, form="unkept")
        return tap

    def answer(self, call: GraphRun, body: Any) -> Any:
        """An answer of policy is the state in which the run ends."""
        call.gave(body)
        return (chunk for chunk in self._answer(body))


class AsyncGraphBoundary(GraphBoundary):
    """The same for an async generator."""

    __slots__ = ()

    async def send(self, call: GraphRun) -> Any:
        """Begin the run."""
        steps = self._begun(call)

        async def close() -> None:
            token = attach(call.context)
            try:
                await steps.aclose()
            finally:
                detach(token)

        call.tap = tap = AsyncTap(call, steps, close, form="unkept")
        return tap

    async def answer(self, call: GraphRun, body: Any) -> Any:
        """As `GraphBoundary.answer`."""
        call.gave(body)
        return _each(self._answer(body))


async def _each(chunks: list[Any]) -> AsyncGenerator[Any, None]:
    for chunk in chunks:
        yield chunk


class Graphs:
    """Wraps the two streams that every run of a graph goes through; `tracing` opens the spans."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def stream(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        """Return the stream of a run that begins with its first step."""
        steps = wrapped(*args, **kwargs)
        return self._passed(get_current(), GraphBoundary, steps, wrapped, instance, args, kwargs)

    def astream(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        """The async twin of `stream`."""
        steps = wrapped(*args, **kwargs)
        return self._apassed(get_current(), AsyncGraphBoundary, steps, wrapped, instance, args, kwargs)

    def _passed(self, outer: Context, *made: Any) -> Generator[Any, None, None]:
        token = attach(outer)
        try:
            chunks = run(self._run(outer, *made))
        finally:
            detach(token)
        try:
            yield from chunks
        finally:
            chunks.close()

    async def _apassed(self, outer: Context, *made: Any) -> AsyncGenerator[Any, None]:
        token = attach(outer)
        try:
            chunks = await arun(self._run(outer, *made))
        finally:
            detach(token)
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            await chunks.aclose()

    def _run(
        self, outer: Context, kind: type[GraphBoundary], steps: Any, wrapped: Any, graph: Any, args: Any, kwargs: Any
    ) -> GraphRun:
        given, rest = (args[0], args[1:]) if args else (kwargs.get("input"), ())
        others = {name: value for name, value in kwargs.items() if name != "input"}
        config = rest[0] if rest else others.get("config")
        boundary = kind(
            lambda changed: wrapped(changed, *rest, **others), steps, lambda state: chunks_of(state, graph, others)
        )
        return GraphRun(graph, _scope_of(graph, config, outer), given, boundary, self._tracing)


def _scope_of(graph: Any, config: Any, outer: Context) -> RunScope:
    """Return the scope of a run: an agent's where the graph is one or nothing of it runs yet."""
    parent, info, name = current_scope(outer), agent_of(graph), name_of(graph)
    if info is None and not _is_below_a_node(parent, outer):
        info = AgentInfo(name)
    kind = "chain" if info is None else "agent"
    target = name if info is None else info.name or name
    operation = OPERATION_OF_KIND.get(kind)
    record = inherit(SpanRecord(0, 0, name=span_name(kind, operation, target), kind=kind), parent)
    record.operation, record.agent = operation, info
    record.session_id = session_of(config) or session_of(graph.config) or record.session_id
    if not isinstance(parent, (RunScope, NodeScope)):
        # Within a run LangGraph hands down what the outermost was told.
        with guarded("reading a run's labels"):
            record.metadata = {**record.metadata, **labels_of(graph.config), **labels_of(config)}
    return RunScope(record, parent, target)


def _is_below_a_node(scope: Scope | None, outer: Context) -> bool:
    """Whether a graph is a part of the one whose node runs; a tool or an agent between them makes it its own.

    A scope of another framework's says with `holds_graphs` that its agent is made of the graph below it.
    """
    while scope is not None and not isinstance(scope, NodeScope) and not getattr(scope, "holds_graphs", False):
        if scope.record.kind in ("agent", "tool"):
            return False
        scope = scope.parent
    call = call_in_flight(outer)
    return scope is not None and (call is None or call.kind != "tool")


def _left(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """LangGraph's loop ends, and knows the state it leaves, whatever the stream shows of it."""
    suppressed = wrapped(*args, **kwargs)
    _note_end(instance, args[1])
    return suppressed


async def _aleft(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """The async twin of `_left`."""
    suppressed = await wrapped(*args, **kwargs)
    _note_end(instance, args[1])
    return suppressed


def _note_end(loop: Any, error: BaseException | None) -> None:
    scope = current_scope()
    if isinstance(scope, RunScope):
        with guarded("reading how a run ends"):
            if isinstance(error, GraphInterrupt):
                mark_interrupts(scope, error.args[0] if error.args else ())
            elif error is None:
                scope.output = loop.output


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """The two colours of a run, and the end of LangGraph's loop."""
    graphs = Graphs(tracing)
    return (
        Patch("langgraph.pregel.main", "Pregel.stream", graphs.stream),
        Patch("langgraph.pregel.main", "Pregel.astream", graphs.astream),
        Patch("langgraph.pregel._loop", "SyncPregelLoop.__exit__", _left, required=False),
        Patch("langgraph.pregel._loop", "AsyncPregelLoop.__aexit__", _aleft, required=False),
    )
