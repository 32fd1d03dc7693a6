"""The boundary of a tool: function tools, tools of MCP servers, and agents as tools, each call under policy.

What the model asked for stays in the run's items; a tool gets what policy left of it.
"""

from __future__ import annotations

from typing import Any

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay.instrumentation.patching import Patch
from spanrelay.pipeline.answered import note_answered
from spanrelay.pipeline.call import Response, call_in_flight
from spanrelay.pipeline.driver import arun
from spanrelay.pipeline.function import ToolExecution
from spanrelay.pipeline.typed import as_json
from spanrelay.records import JSON, ToolRequest
from spanrelay.tracing import Tracing, describe_error


class ToolBoundary:
    """The real call: the SDK's invocation of a tool, its time limit and its handling of errors included."""

    __slots__ = ("_context", "_text", "_tool", "_wrapped")

    def __init__(self, wrapped: Any, tool: Any, context: Any, text: str) -> None:
        self._wrapped = wrapped
        self._tool = tool
        self._context = context
        self._text = text

    async def send(self, call: ToolExecution) -> Any:
        """Invoke the tool with what policy left of its arguments."""
        given, text = call.outgoing(), self._text
        if given is not call.given:
            text = given if isinstance(given, str) else _json.dumps_text(given)
            self._context.tool_arguments = text
            # Arguments that were parsed to ask for approval are those of the model.
            self._context._function_tool_arguments = None
        if call.observed:
            call.sent = _json.dumps(given)
        result = await self._wrapped(function_tool=self._tool, context=self._context, arguments=text)
        call._is_error = call._is_error or bool(result.is_sdk_generated_error)
        call.gave(result.output)
        return result

    async def answer(self, call: ToolExecution, body: Any) -> Any:
        """An answer of policy is the tool's output; a refusal is no instance of its schema."""
        from agents.tool import _FunctionToolInvocationResult

        call.gave(body)
        return _FunctionToolInvocationResult(body, is_sdk_generated_error=call._is_error)


class ToolRun(ToolExecution):
    """The call of a tool, whose native answer is what the SDK makes of what the tool gave."""

    __slots__ = ()

    def _given_back(self, response: Response) -> JSON:
        from agents.tool import _FunctionToolInvocationResult

        native = response.native
        return as_json(native.output if isinstance(native, _FunctionToolInvocationResult) else native)


class Tools:
    """Wraps the invocation of tools; `tracing` opens the spans."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    async def invoke(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        """Invoke a tool."""
        tool, context, text = kwargs["function_tool"], kwargs["context"], kwargs["arguments"]
        request = ToolRequest(
            tool.name,
            _json.loads_or_text(text) if text else {},
            context.tool_call_id,
            tool.description or None,
            "function",
        )
        return await arun(ToolRun(request, ToolBoundary(wrapped, tool, context, text), self._tracing))


async def _put_into_words(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """The SDK puts into words what a tool raised: the model is told them, and nobody the error."""
    told = await wrapped(*args, **kwargs)
    call = call_in_flight()
    if told is not None and isinstance(call, ToolExecution):
        with guarded("reading what a tool raised"):
            call.record.error = describe_error(kwargs["error"])
            call._is_error = True
    return told


async def _guarded(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """A guardrail of the application's may answer in the place of a tool, which then does not run."""
    told = await wrapped(*args, **kwargs)
    if told is not None:
        with guarded("noting which call a guardrail has answered"):
            note_answered(kwargs["tool_context"].tool_call_id, kwargs["tool_context"].tool_name)
    return told


def _rejected(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """What the model is told of a call that people reject."""
    item = wrapped(*args, **kwargs)
    _note(item)
    return item


async def _not_found(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """What the model is told of calls of tools that there are not."""
    items = await wrapped(*args, **kwargs)
    for item in items:
        _note(item)
    return items


def _note(item: Any) -> None:
    with guarded("noting which call the SDK has answered"):
        note_answered(item.raw_item["call_id"], None)


def _not_approved(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """What the model is told of a call that waited for people and cannot be made any more."""
    with guarded("noting which call the SDK has answered"):
        note_answered(kwargs["call_id"], None)
    return wrapped(*args, **kwargs)


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """What invokes tools, by both its names: runs have bound it, realtime sessions have not; and what answers instead.

    Where the SDK tells a model something in the place of a tool, no result of it is sent on.
    """
    tools = Tools(tracing)
    execution, resolution = "agents.run_internal.tool_execution", "agents.run_internal.turn_resolution"
    invoke, words = "_invoke_function_tool_with_metadata", "maybe_invoke_function_tool_failure_error_function"
    return (
        Patch(execution, invoke, tools.invoke),
        Patch("agents.tool", invoke, tools.invoke),
        Patch("agents.tool", words, _put_into_words, required=False),
        Patch(execution, "_execute_tool_input_guardrails", _guarded, required=False),
        Patch(execution, "function_rejection_item", _rejected, required=False),
        Patch(resolution, "function_rejection_item", _rejected, required=False),
        Patch(execution, "append_approval_error_output", _not_approved, required=False),
        Patch(resolution, "_build_tool_not_found_output_items", _not_found, required=False, newer=True),
    )
