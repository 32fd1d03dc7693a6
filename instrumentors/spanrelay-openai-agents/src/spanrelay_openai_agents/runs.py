"""The boundary of a run: one AGENT span and one call for each, whether it is awaited, synchronous or streamed.

The run's context is attached in the task that runs the SDK's loop, and never in that of a stream's consumer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from opentelemetry.context import Context, get_current

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay.errors import MiddlewareError, SpanRelayError
from spanrelay.instrumentation.patching import Patch
from spanrelay.pipeline.call import Response, call_in_flight
from spanrelay.pipeline.driver import arun
from spanrelay.pipeline.function import AgentRun
from spanrelay.records import AgentInfo, AgentResult, SpanRecord
from spanrelay.scopes import Scope, current_scope, inherit
from spanrelay.semconv.names import OPERATION_OF_KIND, span_name
from spanrelay.tracing import Tracing
from spanrelay_openai_agents import content
from spanrelay_openai_agents.marks import mark_interrupt, mark_resume


def agent_scope(agent: Any, parent: Scope | None) -> Scope:
    """Return the scope of an agent, not opened yet."""
    operation = OPERATION_OF_KIND["agent"]
    name = description = None
    with guarded("reading what an agent is called"):  # what is no agent is the SDK's to refuse
        name, description = getattr(agent, "name", None), getattr(agent, "handoff_description", None)
    record = inherit(SpanRecord(0, 0, name=span_name("agent", operation, name), kind="agent"), parent)
    record.operation = operation
    record.agent = AgentInfo(name, description=description)
    return Scope(record, parent, name)


class RunCall(AgentRun):
    """One run. The agent it begins with is its span; each agent that takes over has one beneath it.

    Args:
        agent: The agent that the run begins with.
        given: The application's input; None where a run is resumed.
        boundary: The way through the SDK.
        session: The conversation that the run belongs to, if that is known.
        tracing: Opens the spans.
    """

    __slots__ = ("_acting", "_agent", "_first", "_within", "models", "root_scope")

    def __init__(self, agent: Any, given: Any, boundary: RunBoundary, session: str | None, tracing: Tracing) -> None:
        above = call_in_flight()
        parent = current_scope()
        self.root_scope = scope = agent_scope(agent, parent)
        if session is not None and not (isinstance(above, RunCall) or _is_in_tool(above)):
            scope.record.session_id = session
        super().__init__(scope, given, boundary, tracing)
        self._first = self._agent = agent
        self._acting: Scope | None = None
        self._within: Context | None = None
        self.models: dict[int, tuple[Any, Any]] = {}
        """The models of the run that are seen here, by id: each itself, and what the run is given for it."""

    def within(self, agent: Any) -> Context:
        """Return the context in which a turn of `agent` is to run, opening its span where it takes over."""
        if agent is not self._agent:
            self._take_over(agent)
        return self.context if self._within is None else self._within

    def _take_over(self, agent: Any) -> None:
        self._leave()
        self._agent = agent
        if agent is not self._first:
            self._acting = agent_scope(agent, self.root_scope)
            self._within = self._acting.open(self.tracing, self.context)

    def _leave(self, error: BaseException | None = None, output: Any = None) -> None:
        """End the span of the agent that took over, if one did."""
        acting, self._acting, self._within = self._acting, None, None
        if acting is not None:
            if output is not None:
                acting.record.output = _json.loads(_json.dumps(output))
            acting.close(error)

    def ended(self, result: Any) -> None:
        """Keep what the run ended with."""
        mark_interrupt(self.root_scope, result)
        output = content.gave(result)
        self._leave(output=output if self.observed else None)
        if output is not None:
            self.gave(output)

    def decode_answer(self, response: Response) -> AgentResult:
        """Return what the run ended with as a record."""
        return AgentResult(_json.loads(_json.dumps(content.gave(response.native))))

    def fail(self, error: BaseException) -> None:
        """End the spans of a run that raised `error`."""
        self._leave(error)
        super().fail(error)

    def finish(self, end: int | None = None) -> None:
        """End the span with what the user said and what the run ended with."""
        self._leave()
        if self.observed:
            with guarded("reading what a run is given"):
                given = self.given if self._request is None else self._input_of(self._request)
                self.sent = _json.dumps(content.given(given))
        super().finish(end)


def _is_in_tool(call: Any) -> bool:
    return call is not None and call.kind == "tool"


class RunBoundary:
    """The real call: the SDK's `AgentRunner.run`.

    Args:
        wrapped: That method.
        agent: The agent that it was called with.
        given: What it was called with as input, a `RunState` where a run is resumed.
        options: Its other arguments.
    """

    __slots__ = ("_agent", "_given", "_options", "_result", "_wrapped")

    def __init__(self, wrapped: Any, agent: Any, given: Any, options: Mapping[str, Any]) -> None:
        self._wrapped = wrapped
        self._agent = agent
        self._given = given
        self._options = options
        self._result: Any = None

    async def send(self, call: RunCall) -> Any:
        """Run the loop to its end."""
        given = call.outgoing()
        if is_state(self._given):
            if given is not None:
                raise MiddlewareError("a resumed run has its input already; policy cannot change it")
            mark_resume(call.root_scope, self._given)
            given = self._given
        refusal: SpanRelayError | None = None
        try:
            self._result = await self._run(given)
        except Exception as error:
            refusal = _refusal_behind(error)
            if refusal is None:
                raise
        if refusal is not None:
            raise refusal
        call.ended(self._result)
        return self._result

    async def _run(self, given: Any) -> Any:
        return await self._wrapped(self._agent, given, **self._options)

    async def answer(self, call: RunCall, body: Any) -> Any:
        """An answer of policy is what the run ends with."""
        call.gave(body)
        if self._result is None:
            self._result = self._made()
        self._result.final_output = body
        return self._result

    def _made(self) -> Any:
        from agents import RunContextWrapper, RunResult

        return RunResult(
            input=[] if is_state(self._given) else self._given,
            new_items=[],
            raw_responses=[],
            final_output=None,
            input_guardrail_results=[],
            output_guardrail_results=[],
            tool_input_guardrail_results=[],
            tool_output_guardrail_results=[],
            context_wrapper=RunContextWrapper(self._options.get("context")),
            _last_agent=self._agent,
        )


class StreamedBoundary(RunBoundary):
    """The real call of a streamed run: the SDK's loop, in a task of its own, which fills a result that is known."""

    __slots__ = ()

    async def _run(self, given: Any) -> Any:
        options = dict(self._options)
        result = options["streamed_result"]
        if not is_state(self._given) and given is not self._given:
            _change_input(options, given)
        await self._wrapped(**options)
        return result

    def _made(self) -> Any:
        return self._options["streamed_result"]

    async def answer(self, call: RunCall, body: Any) -> Any:
        """As `RunBoundary.answer`, and the stream of events ends."""
        result = await super().answer(call, body)
        end_stream(result)
        return result


def _change_input(options: dict[str, Any], given: Any) -> None:
    """Put another input where the SDK has noted the first one."""
    from agents import ItemHelpers

    result, state = options["streamed_result"], options.get("run_state")
    options["starting_input"] = given
    for holder, name in ((result, "input"), (result, "_original_input"), (state, "_original_input")):
        if holder is not None:
            setattr(holder, name, given if isinstance(given, str) else ItemHelpers.input_to_new_input_list(given))


def end_stream(result: Any) -> None:
    """Wake whoever waits for events of `result`: there are no more."""
    from agents.run_internal.run_steps import QueueCompleteSentinel

    result.is_complete = True
    result._event_queue.put_nowait(QueueCompleteSentinel())


def is_state(value: Any) -> bool:
    """Whether a run is resumed with `value`."""
    return hasattr(type(value), "get_interruptions")  # objects may raise whatever they like


def _refusal_behind(error: BaseException) -> SpanRelayError | None:
    """Return the refusal of policy that the SDK wrapped into an error of its own."""
    cause = error.__cause__
    return cause if isinstance(cause, SpanRelayError) and type(error).__name__ == "UserError" else None


def _session_of(options: Mapping[str, Any], state: Any) -> str | None:
    """Return the conversation of a run: the provider's, else the session's, else the group of its trace."""
    conversation = options.get("conversation_id") or getattr(state, "_conversation_id", None)
    session = getattr(options.get("session"), "session_id", None)
    config = options.get("run_config")
    group = cast("Mapping[str, Any]", config).get("group_id") if isinstance(config, Mapping) else None
    group = group or getattr(config, "group_id", None) or getattr(_trace_of(state), "group_id", None)
    for known in (conversation, session, group):
        if isinstance(known, str) and known.strip():
            return known.strip()
    return None


def _trace_of(state: Any) -> Any:
    """Return the SDK's trace that a run is part of: that of its state, or the current one."""
    kept = getattr(state, "_trace_state", None)
    if kept is not None:
        return kept
    from agents import get_current_trace

    return get_current_trace()


class Runs:
    """Wraps the two ways of a run; `tracing` opens the spans."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    async def run(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        """Run an agent: `run_sync` comes through here too."""
        bound = dict(zip(("starting_agent", "input"), args, strict=False))
        options = {**bound, **kwargs}
        agent, given = options.pop("starting_agent"), options.pop("input")
        boundary = RunBoundary(wrapped, agent, given, options)
        return await arun(self._call(agent, given, given if is_state(given) else None, boundary, options))

    async def stream(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        """Run an agent in the task that feeds a stream of events."""
        given = kwargs["run_state"] if kwargs.get("is_resumed_state") else kwargs["starting_input"]
        boundary = StreamedBoundary(wrapped, kwargs["starting_agent"], given, kwargs)
        try:
            await arun(self._call(kwargs["starting_agent"], given, kwargs.get("run_state"), boundary, kwargs))
        except SpanRelayError:
            end_stream(kwargs["streamed_result"])
            raise

    def _call(self, agent: Any, given: Any, state: Any, boundary: RunBoundary, options: Mapping[str, Any]) -> RunCall:
        resumed = is_state(given)
        acting = (getattr(state, "_current_agent", None) or agent) if resumed else agent
        session = None
        with guarded("reading what conversation a run belongs to"):
            session = _session_of(options, state)
        return RunCall(acting, None if resumed else given, boundary, session, self._tracing)


def current_run() -> RunCall | None:
    """Return the run that is in flight."""
    call = call_in_flight(get_current())
    return call if isinstance(call, RunCall) else None


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """The runner's own method, and the loop behind its stream."""
    runs = Runs(tracing)
    return (
        Patch("agents.run", "AgentRunner.run", runs.run),
        Patch("agents.run", "start_streaming", runs.stream),
    )
