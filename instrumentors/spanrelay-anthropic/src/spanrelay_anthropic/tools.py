"""The boundary of a tool that the program runs itself: the one method by which runners, and programs, call it.

A runner tells the model of whatever a tool raises. A refusal is raised out of the runner, as of any other call.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from spanrelay.errors import GuardrailRejected, MiddlewareError
from spanrelay.instrumentation.foreign import stands_aside
from spanrelay.instrumentation.patching import Patch
from spanrelay.pipeline.driver import arun, run
from spanrelay.pipeline.function import ToolExecution
from spanrelay.records import ToolRequest
from spanrelay.tracing import Tracing

_FUNCTIONS, _RUNNER = "anthropic.lib.tools._beta_functions", "anthropic.lib.tools._beta_runner"
_SESSIONS = "anthropic.lib.tools._beta_session_runner"


@dataclass(slots=True)
class _Asked:
    """What the model asked for that a runner is about to run, and the refusals that kept it from that."""

    by: Any
    refusals: list[Exception] = field(default_factory=list[Exception])


_asked: ContextVar[_Asked | None] = ContextVar("spanrelay_anthropic_asked", default=None)


class ToolBoundary:
    """The way of one call of a tool."""

    __slots__ = ("_wrapped",)

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped

    def send(self, call: ToolExecution) -> Any:
        """Call the tool with what policy left of its arguments."""
        given = call.outgoing()
        call.begin(given)
        result = self._wrapped(given)
        call.gave(result)
        return result

    def answer(self, call: ToolExecution, body: Any) -> Any:
        """An answer of policy is what the tool gave."""
        call.gave(body)
        return body


class AsyncToolBoundary(ToolBoundary):
    """The way of one call of a tool that is awaited."""

    __slots__ = ()

    async def send(self, call: ToolExecution) -> Any:
        """Call the tool and await it."""
        given = call.outgoing()
        call.begin(given)
        result = await self._wrapped(given)
        call.gave(result)
        return result

    async def answer(self, call: ToolExecution, body: Any) -> Any:
        """As `ToolBoundary.answer`."""
        return super().answer(call, body)


class Tools:
    """The wrappers around calls of tools, and around what runs them."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def call(self, wrapped: Any, tool: Any, args: Any, kwargs: Any) -> Any:
        """Call a tool."""
        asked = _asked.get()
        try:
            return run(self._call(wrapped, tool, asked, ToolBoundary, *args, **kwargs))
        except (GuardrailRejected, MiddlewareError) as refusal:
            if asked is not None:
                asked.refusals.append(refusal)
            raise

    async def acall(self, wrapped: Any, tool: Any, args: Any, kwargs: Any) -> Any:
        """Call a tool and await it."""
        asked = _asked.get()
        try:
            return await arun(self._call(wrapped, tool, asked, AsyncToolBoundary, *args, **kwargs))
        except (GuardrailRejected, MiddlewareError) as refusal:
            if asked is not None:
                asked.refusals.append(refusal)
            raise

    def _call(
        self, wrapped: Any, tool: Any, asked: _Asked | None, boundary: type[ToolBoundary], input: Any
    ) -> ToolExecution:
        call_id = None if asked is None else getattr(asked.by, "id", None)
        request = ToolRequest(tool.name, input, call_id, getattr(tool, "description", None) or None, "function")
        return ToolExecution(request, boundary(wrapped), self._tracing)


def _run_tool(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """Run what the model asked for; a refusal is raised, and not told to the model as an error of the tool."""
    asked = _Asked(_use_in(args, kwargs))
    token = _asked.set(asked)
    try:
        result = wrapped(*args, **kwargs)
    finally:
        _asked.reset(token)
    if asked.refusals:
        raise asked.refusals[0]
    return result


async def _arun_tool(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    asked = _Asked(_use_in(args, kwargs))
    token = _asked.set(asked)
    try:
        result = await wrapped(*args, **kwargs)
    finally:
        _asked.reset(token)
    if asked.refusals:
        raise asked.refusals[0]
    return result


def _use_in(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[1] if len(args) > 1 else kwargs.get("tool_use")


async def _answer_session(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """Run what a session asked for: it is told of a refusal, since it waits for its answer."""
    token = _asked.set(_Asked(args[1] if len(args) > 1 else kwargs.get("ev")))
    try:
        return await wrapped(*args, **kwargs)
    finally:
        _asked.reset(token)


def _start_own_span(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """Start none where ours records the call of the tool; of a toolset's the SDK has the only one."""
    tool = args[1] if len(args) > 1 else kwargs.get("tool")
    if not stands_aside("anthropic") or not hasattr(tool, "call"):
        return wrapped(*args, **kwargs)
    own: Any = sys.modules["anthropic.lib._tracing"]  # in which this stands
    return nullcontext(own.ToolRun())


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """Both colours of the method, of function tools and of those that are classes of their own, and who calls it."""
    tools = Tools(tracing)
    return (
        Patch(_FUNCTIONS, "BetaFunctionTool.call", tools.call, newer=True),
        Patch(_FUNCTIONS, "BetaAsyncFunctionTool.call", tools.acall, newer=True),
        Patch(_FUNCTIONS, "BetaBuiltinFunctionTool.call", tools.call, derived=True, newer=True),
        Patch(_FUNCTIONS, "BetaAsyncBuiltinFunctionTool.call", tools.acall, derived=True, newer=True),
        Patch(_RUNNER, "BaseSyncToolRunner._run_tool", _run_tool, required=False, newer=True),
        Patch(_RUNNER, "BaseAsyncToolRunner._run_tool", _arun_tool, required=False, newer=True),
        Patch(_RUNNER, "tool_use_span", _start_own_span, required=False, newer=True),
        Patch(_SESSIONS, "SessionToolRunner._call_tool", _answer_session, required=False, newer=True),
        Patch(_SESSIONS, "tool_use_span", _start_own_span, required=False, newer=True),
    )
