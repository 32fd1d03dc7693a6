"""Decorators for functions that the application owns: `@tool` and `@agent` run each call through the pipeline."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast, overload

from spanrelay.pipeline.driver import arun, run
from spanrelay.pipeline.function import AgentRun, FunctionCall, ToolExecution
from spanrelay.pipeline.managed import AsyncFunctionBoundary, FunctionBoundary
from spanrelay.records import JSON, AgentInfo, ToolRequest
from spanrelay.scopes import scope
from spanrelay.tracing import default_tracing

F = TypeVar("F", bound=Callable[..., Any])


@overload
def tool(function: F, /) -> F: ...
@overload
def tool(*, name: str | None = None, description: str | None = None) -> Callable[[F], F]: ...
def tool(function: Any = None, /, *, name: str | None = None, description: str | None = None) -> Any:
    """Decorate a function, coroutine function or (async) generator function: each call is a managed tool call.

    Policy and the record see its arguments by name, as JSON, without `self`. The function gets the very objects
    it was called with, or where policy changed them the same types built from what it left.

    Args:
        function: What is decorated, where the decorator is used bare.
        name: The tool's name; by default the function's.
        description: What the tool does; by default the first line of its docstring.
    """

    def decorate(function: F) -> F:
        _check(function, "tool")
        title = name or _name_of(function)
        about = description or (inspect.getdoc(function) or "").partition("\n")[0] or None

        def call(given: dict[str, Any], boundary: FunctionBoundary) -> FunctionCall:
            return ToolExecution(ToolRequest(title, given, None, about), boundary, default_tracing())

        return _wrapped(function, call)

    return decorate if function is None else decorate(function)


@overload
def agent(function: F, /) -> F: ...
@overload
def agent(
    *,
    name: str | None = None,
    session: str | None = None,
    user: str | None = None,
    metadata: Mapping[str, JSON] | None = None,
    info: AgentInfo | None = None,
) -> Callable[[F], F]: ...
def agent(function: Any = None, /, *, name: str | None = None, info: AgentInfo | None = None, **identity: Any) -> Any:
    """Decorate a function, coroutine function or (async) generator function: each call is one run of an agent.

    The run is a scope of kind `agent`, and a call: guardrails and execution intercepts with `kinds=["agent"]`
    stand around it.

    Args:
        function: What is decorated, where the decorator is used bare.
        name: The agent's name; by default the function's.
        info: More about the agent than its name.
        identity: `session`, `user` and `metadata`, as `scope` takes them.
    """

    def decorate(function: F) -> F:
        _check(function, "agent")
        place = scope(name or _name_of(function), "agent", agent=info, **identity)

        def call(given: dict[str, Any], boundary: FunctionBoundary) -> FunctionCall:
            return AgentRun(place.make(), given, boundary, default_tracing())

        return _wrapped(function, call)

    return decorate if function is None else decorate(function)


def _check(function: Any, decorator: str) -> None:
    if not callable(function):
        raise TypeError(f"@{decorator} decorates a function, not {function!r}; a name is given as name={function!r}")


def _name_of(function: Any) -> str:
    """Return the name of a function, of the function beneath a partial one, or of the class of any other object."""
    while isinstance(function, functools.partial):
        function = cast("Any", function).func
    return getattr(function, "__name__", None) or type(function).__name__


class _BoundBoundary(FunctionBoundary):
    """Calls the function as the application called it, or with what policy left of its arguments."""

    __slots__ = ("_bound", "_given", "_itself", "_rest")

    def __init__(self, function: Callable[..., Any], bound: inspect.BoundArguments) -> None:
        super().__init__(function)
        self._bound = bound
        given = dict(bound.arguments)
        first = next(iter(given), None)
        self._itself = {first: given.pop(first)} if first in ("self", "cls") else {}
        self._rest = _rest_of(bound.signature, given)
        rest: dict[str, Any] = {} if self._rest is None else given.pop(self._rest)
        self._given = {**given, **rest}

    @property
    def given(self) -> dict[str, Any]:
        """The arguments by name, without `self`."""
        return self._given

    def _run(self, arguments: Any) -> Any:
        bound = self._bound
        if arguments is not self._given:
            bound = inspect.BoundArguments(bound.signature, cast("Any", {**self._itself, **self._by_name(arguments)}))
        return self._function(*bound.args, **bound.kwargs)

    def _by_name(self, arguments: Any) -> dict[str, Any]:
        """Return arguments with those in one mapping that the function takes in one."""
        if self._rest is None:
            return arguments
        named = {name: value for name, value in arguments.items() if name in self._bound.signature.parameters}
        return {**named, self._rest: {name: value for name, value in arguments.items() if name not in named}}


def _rest_of(signature: inspect.Signature, given: Mapping[str, Any]) -> str | None:
    """Return the parameter that takes arguments of any name, where none of them is called like another parameter."""
    kinds = signature.parameters.items()
    name = next((name for name, each in kinds if each.kind is inspect.Parameter.VAR_KEYWORD and name in given), None)
    return name if name is not None and given[name].keys().isdisjoint(signature.parameters) else None


class _AsyncBoundBoundary(_BoundBoundary, AsyncFunctionBoundary):
    __slots__ = ()


def _wrapped(function: F, call: Callable[[dict[str, Any], FunctionBoundary], FunctionCall]) -> F:
    signature = inspect.signature(function)
    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def stream(*args: Any, **kwargs: Any) -> Any:
            boundary = _AsyncBoundBoundary(function, signature.bind(*args, **kwargs))
            values = await arun(call(boundary.given, boundary))
            try:
                async for value in values:
                    yield value
            finally:
                await values.aclose()

        return cast("F", stream)
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            boundary = _AsyncBoundBoundary(function, signature.bind(*args, **kwargs))
            return await arun(call(boundary.given, boundary))

        return cast("F", awaited)

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        boundary = _BoundBoundary(function, signature.bind(*args, **kwargs))
        return run(call(boundary.given, boundary))

    return cast("F", called)
