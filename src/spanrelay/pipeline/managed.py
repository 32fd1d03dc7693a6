"""The managed door: calls that the application owns run through the same pipeline as those of patched SDKs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from spanrelay.pipeline.call import ToolExecution
from spanrelay.pipeline.driver import arun, run
from spanrelay.records import JSON, ToolRequest, ToolResult
from spanrelay.tracing import Tracing, default_tracing


class _FunctionBoundary:
    """The real call is a function of the application's, given the arguments by name."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def send(self, call: ToolExecution) -> Any:
        """Call the function."""
        result = self._called(call)
        call.record.result = ToolResult(result)
        return result

    def _called(self, call: ToolExecution) -> Any:
        arguments = call.outgoing().arguments
        if arguments is None:
            return self._function()
        return self._function(**arguments) if isinstance(arguments, Mapping) else self._function(arguments)

    def answer(self, call: ToolExecution, body: Any) -> Any:
        """An answer of policy is the tool's value as it stands."""
        call.record.result = ToolResult(body)
        return body


class _AsyncFunctionBoundary(_FunctionBoundary):
    __slots__ = ()

    async def send(self, call: ToolExecution) -> Any:
        """Call the coroutine function and await it."""
        result = await self._called(call)
        call.record.result = ToolResult(result)
        return result

    async def answer(self, call: ToolExecution, body: Any) -> Any:
        """As `_FunctionBoundary.answer`."""
        return super().answer(call, body)


def run_tool(
    name: str,
    function: Callable[..., Any],
    arguments: JSON = None,
    *,
    call_id: str | None = None,
    description: str | None = None,
    tracing: Tracing | None = None,
) -> Any:
    """Run a tool of the application under policy and a TOOL span, and return what it returns.

    Args:
        name: The tool's name.
        function: Called with `arguments` by name, with `arguments` itself where they are not a mapping, or with
            nothing where they are None.
        arguments: What the model asked for, as policy and the record see it.
        call_id: The model's id of the call, which ties the result to it in the trajectory.
        description: What the tool does.
        tracing: Opens the span; by default SpanRelay's own tracer.

    Raises:
        GuardrailRejected: a guardrail refused; the function was not called.
        BaseException: whatever the function raised, unchanged.
    """
    request = ToolRequest(name, arguments, call_id, description)
    return run(ToolExecution(request, _FunctionBoundary(function), tracing or default_tracing()))


async def arun_tool(
    name: str,
    function: Callable[..., Awaitable[Any]],
    arguments: JSON = None,
    *,
    call_id: str | None = None,
    description: str | None = None,
    tracing: Tracing | None = None,
) -> Any:
    """Run a tool that is a coroutine function, as `run_tool` does."""
    request = ToolRequest(name, arguments, call_id, description)
    return await arun(ToolExecution(request, _AsyncFunctionBoundary(function), tracing or default_tracing()))
