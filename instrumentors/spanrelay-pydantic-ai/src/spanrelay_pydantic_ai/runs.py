"""The boundary of a run: one AGENT span and one call for each, however the run is driven and read.

The framework itself makes the run's context current where the run is, and takes it back: it does so for whatever
wraps a run. Nothing here stands between the application and its run.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any, cast

import wrapt

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay.errors import MiddlewareError
from spanrelay.instrumentation.patching import Patch
from spanrelay.pipeline.call import Response, call_in_flight
from spanrelay.pipeline.driver import arun
from spanrelay.pipeline.function import AgentRun
from spanrelay.records import AgentInfo, AgentResult, ModelRequest, SpanRecord, Text, ToolDefinition
from spanrelay.scopes import Scope, current_scope, inherit
from spanrelay.semconv.names import OPERATION_OF_KIND, span_name
from spanrelay.tracing import Tracing
from spanrelay_pydantic_ai.marks import mark_interrupt, mark_resume


class RunCall(AgentRun):
    """One run of an agent."""

    __slots__ = ()

    def finish(self, end: int | None = None) -> None:
        """End the span, which says what the agent is told and which tools it has."""
        if self.observed:
            with guarded("reading what an agent is told"):
                self.record.request = cast("RunBoundary", self.boundary).brief()
        super().finish(end)

    def decode_answer(self, response: Response) -> AgentResult:
        """Return what the run ended with as a record."""
        return AgentResult(_json.loads(_json.dumps(response.native.output)))

    def fail(self, error: BaseException) -> None:
        """End the span. A run that the application did not read to its end has not failed."""
        if cast("RunBoundary", self.boundary).is_left(error):
            self.record.incomplete = "closed"
            self.finish()
        else:
            super().fail(error)


class RunBoundary:
    """The real call: the framework's way through the run's capabilities, and through the run itself.

    Args:
        prepared: The run, about to begin.
        capability: What the application composed for it.
        context: The framework's own context of the run.
        handler: Lets the run begin, and returns its result.
    """

    __slots__ = ("_capability", "_context", "_handler", "_prepared", "begun", "failed")

    def __init__(self, prepared: Any, capability: Any, context: Any, handler: Any) -> None:
        self._prepared = prepared
        self._capability = capability
        self._context = context
        self._handler = handler
        self.begun = self.failed = False
        """Whether the run itself has begun, and whether the framework has said that it raised something."""

    def brief(self) -> ModelRequest | None:
        """Return instructions, prompts and tools as the run's last request to a model had them, if it made one."""
        state = self._prepared.state
        parameters = state.last_model_request_parameters
        if parameters is None:
            return None
        prompts = [part for message in state.message_history for part in message.parts]
        told = [part.content for part in parameters.instruction_parts or ()]
        told += [part.content for part in prompts if part.part_kind == "system-prompt"]
        tools = [
            ToolDefinition(tool.name, tool.description, tool.parameters_json_schema)
            for tool in (*parameters.function_tools, *parameters.output_tools)
        ]
        return ModelRequest(system=[Text(text) for text in told], tools=tools) if told or tools else None

    def is_left(self, error: BaseException) -> bool:
        """Whether `error` only says that nobody reads on: the framework cancels what wraps such a run."""
        return isinstance(error, asyncio.CancelledError) and self.begun and not self.failed

    async def send(self, call: RunCall) -> Any:
        """Run to the end."""
        if self.begun:
            raise MiddlewareError("a run of an agent happens once: policy cannot send it again; run the agent again")
        given, node = call.outgoing(), self._prepared.user_prompt_node
        if given is not call.given:
            if node.deferred_tool_results is not None:
                raise MiddlewareError("a resumed run has its input already; policy cannot change it")
            node.user_prompt = self._prepared.graph_deps.prompt = given
        if node.deferred_tool_results is not None:
            mark_resume(call._inner, node.deferred_tool_results)
        call.begin(_shown(given))
        result = await self._capability.wrap_run(self._context, handler=self._handler)
        if _is_deferred(result.output):
            mark_interrupt(call._inner, result.output)
        else:
            call.gave(result.output)
        return result

    async def answer(self, call: RunCall, body: Any) -> Any:
        """An answer of policy is what the run ends with."""
        from pydantic_ai.run import AgentRunResult

        call.gave(body)
        prepared = self._prepared
        return AgentRunResult(body, None, prepared.state, prepared.graph_deps.new_message_index)


def _shown(prompt: Any) -> Any:
    """Return what is recorded of a prompt: of what is no text its kind and where it is, and never its bytes."""
    if prompt is None or isinstance(prompt, str):
        return prompt
    items = cast("Sequence[Any]", prompt) if isinstance(prompt, Sequence) else [prompt]  # which the framework refuses
    return [item if isinstance(item, str) else _named(item) for item in items]


def _named(item: Any) -> Any:
    fields = {name: getattr(item, name, None) for name in ("kind", "content", "url", "media_type")}
    return {name: value for name, value in fields.items() if isinstance(value, str)}


def _is_deferred(output: Any) -> bool:
    from pydantic_ai.tools import DeferredToolRequests

    return isinstance(output, DeferredToolRequests)


class SeenRun(wrapt.ObjectProxy):  # pyright: ignore[reportMissingTypeArgument] - wrapt has no types here
    """What the application composed for a run, but that ours is outside all of it."""

    def __init__(self, capability: Any, prepared: Any, tracing: Tracing) -> None:
        super().__init__(capability)
        self._self_prepared = prepared
        self._self_tracing = tracing
        self._self_boundary: RunBoundary | None = None

    async def wrap_run(self, ctx: Any, *, handler: Any) -> Any:
        """Wrap a run."""
        prepared = self._self_prepared
        self._self_boundary = boundary = RunBoundary(prepared, self.__wrapped__, ctx, handler)
        scope = _scope_of(prepared, ctx)
        return await arun(RunCall(scope, prepared.user_prompt_node.user_prompt, boundary, self._self_tracing))

    async def before_run(self, ctx: Any) -> None:
        """The run is about to begin."""
        await self.__wrapped__.before_run(ctx)
        if self._self_boundary is not None:
            self._self_boundary.begun = True

    async def on_run_error(self, ctx: Any, *, error: BaseException) -> Any:
        """The run has raised `error`."""
        if self._self_boundary is not None:
            self._self_boundary.failed = True
        return await self.__wrapped__.on_run_error(ctx, error=error)


def _scope_of(prepared: Any, context: Any) -> Scope:
    """Return the scope of a run, not opened yet."""
    parent, name, operation = current_scope(), prepared.agent_name, OPERATION_OF_KIND["agent"]
    record = inherit(SpanRecord(0, 0, name=span_name("agent", operation, name), kind="agent"), parent)
    record.operation = operation
    record.agent = AgentInfo(name)
    with guarded("reading an agent's description"):
        record.agent.description = context.agent.render_description(context.deps) or None
    if record.session_id is None:
        with guarded("reading a run's conversation"):
            record.session_id = _session_of(prepared.state, beneath=parent is not None or call_in_flight() is not None)
    return Scope(record, parent, name)


def _session_of(state: Any, *, beneath: bool) -> str | None:
    """Return the conversation of a run. One that the framework made up for it says nothing where work is around it."""
    conversation: str = state.conversation_id
    if beneath and not any(message.conversation_id == conversation for message in state.message_history):
        try:
            made_up = uuid.UUID(conversation).version == 7
        except ValueError:
            made_up = False
        return None if made_up else conversation
    return conversation


class Runs:
    """Wraps the beginning of runs; `tracing` opens the spans."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def open(self, wrapped: Any, prepared: Any, args: Any, kwargs: Any) -> Any:
        """Open a run that has been prepared."""
        prepared.run_capability = SeenRun(prepared.run_capability, prepared, self._tracing)
        return wrapped(*args, **kwargs)


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """The one way that every run begins: awaited, synchronous, streamed, or step by step."""
    return (Patch("pydantic_ai.agent", "_PreparedAgentRun.open", Runs(tracing).open),)
