"""The functions that the SDK calls by itself where a model asks for them: each is a call of a tool, under policy.

What goes wrong in one the SDK tells the model. What policy refuses, and does not answer itself, ends the run.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from spanrelay.instrumentation.patching import Patch
from spanrelay.pipeline.driver import arun, run
from spanrelay.pipeline.function import ToolExecution
from spanrelay.records import ToolRequest
from spanrelay.tracing import Tracing

_MODULE = "google.genai._extra_utils"
_REFUSALS: ContextVar[list[BaseException] | None] = ContextVar("spanrelay_google_genai_refusals", default=None)
"""What policy has raised in the round of function calls that is being made."""


class FunctionRun(ToolExecution):
    """One call of a function."""

    __slots__ = ()

    def fail(self, error: BaseException) -> None:
        """End the span of a function that raised, with what the model is told of that."""
        if type(error).__name__ == "FunctionInvocationError" and error.__context__ is not None:
            self._is_error = True
            self.gave(str(error))
            error = error.__context__  # what the function itself has raised
        super().fail(error)


class FunctionBoundary:
    """The real call: the SDK converts the arguments and calls the function."""

    __slots__ = ("_function", "_wrapped", "raised")

    def __init__(self, wrapped: Any, function: Any) -> None:
        self._wrapped = wrapped
        self._function = function
        self.raised: list[BaseException] = []
        """What came out of the function, and not of policy; branches share it."""

    def send(self, call: FunctionRun) -> Any:
        """Call the function with what policy left of its arguments."""
        given = call.outgoing()
        call.begin(given)
        try:
            result = self._wrapped(given, self._function)
        except BaseException as error:
            self.raised.append(error)
            raise
        call.gave(result)
        return result

    def answer(self, call: FunctionRun, body: Any) -> Any:
        """An answer of policy is what the function returns."""
        call.gave(body)
        return body


class AsyncFunctionBoundary(FunctionBoundary):
    """The async twin of `FunctionBoundary`."""

    __slots__ = ()

    async def send(self, call: FunctionRun) -> Any:
        """Call the function with what policy left of its arguments."""
        given = call.outgoing()
        call.begin(given)
        try:
            result = await self._wrapped(given, self._function)
        except BaseException as error:
            self.raised.append(error)
            raise
        call.gave(result)
        return result

    async def answer(self, call: FunctionRun, body: Any) -> Any:
        """An answer of policy is what the function returns."""
        call.gave(body)
        return body


class Functions:
    """Wraps the calls of functions; `tracing` opens the spans."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def invoke(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        """Call one function, in whichever thread that is."""
        _go_on()
        given, function = _given(*args, **kwargs)
        boundary = FunctionBoundary(wrapped, function)
        try:
            return run(FunctionRun(_request(given, function), boundary, self._tracing))
        except BaseException as error:
            _note(error, boundary)
            raise

    async def ainvoke(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        """Call one coroutine function."""
        _go_on()
        given, function = _given(*args, **kwargs)
        boundary = AsyncFunctionBoundary(wrapped, function)
        try:
            return await arun(FunctionRun(_request(given, function), boundary, self._tracing))
        except BaseException as error:
            _note(error, boundary)
            raise


def _given(args: Any, function_to_invoke: Any) -> tuple[Any, Any]:
    return args, function_to_invoke


def _request(given: Any, function: Any) -> ToolRequest:
    return ToolRequest(function.__name__, given, None, getattr(function, "__doc__", None), "function")


def _go_on() -> None:
    """Call no more functions where policy has ended the run."""
    refusals = _REFUSALS.get()
    if refusals:
        raise refusals[0]


def _note(error: BaseException, boundary: FunctionBoundary) -> None:
    refusals = _REFUSALS.get()
    if refusals is not None and error not in boundary.raised:
        refusals.append(error)


def _round(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """Call the functions that one answer asks for; the SDK makes a result of whatever is raised there."""
    refusals: list[BaseException] = []
    token = _REFUSALS.set(refusals)
    try:
        results = wrapped(*args, **kwargs)
    finally:
        _REFUSALS.reset(token)
    if refusals:
        raise refusals[0]
    return results


async def _around(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    refusals: list[BaseException] = []
    token = _REFUSALS.set(refusals)
    try:
        results = await wrapped(*args, **kwargs)
    finally:
        _REFUSALS.reset(token)
    if refusals:
        raise refusals[0]
    return results


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """Each call of a function, and the rounds of them."""
    functions = Functions(tracing)
    return (
        Patch(_MODULE, "invoke_function_from_dict_args", functions.invoke),
        Patch(_MODULE, "invoke_function_from_dict_args_async", functions.ainvoke),
        Patch(_MODULE, "get_function_response_parts", _round),
        Patch(_MODULE, "get_function_response_parts_async", _around),
    )
