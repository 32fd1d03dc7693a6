"""The managed door: calls that the application owns run through the same pipeline as those of patched SDKs."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, cast

from spanrelay import _json, codecs
from spanrelay._guard import holds
from spanrelay.codecs import Codec
from spanrelay.pipeline import typed
from spanrelay.pipeline.call import Call
from spanrelay.pipeline.driver import arun, run
from spanrelay.pipeline.function import FunctionCall, ToolExecution
from spanrelay.pipeline.model import ModelCall
from spanrelay.pipeline.stream import AsyncTap, SyncTap
from spanrelay.records import JSON, ModelRequest, ToolRequest
from spanrelay.tracing import Tracing, default_tracing


class FunctionBoundary:
    """The real call is a function of the application's, given the arguments by name.

    A generator's values reach its consumer one by one, and the call ends with the last of them.
    """

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def send(self, call: FunctionCall) -> Any:
        """Call the function."""
        result = self._called(call)
        if holds(inspect.isgenerator, result):
            call.tap = tap = SyncTap(call, result, result.close, form="events")
            return tap
        call.gave(result)
        return result

    def _called(self, call: FunctionCall) -> Any:
        arguments = call.outgoing()
        call.begin(arguments)
        return self._run(arguments)

    def _run(self, arguments: Any) -> Any:
        if arguments is None:
            return self._function()
        return self._function(**arguments) if holds(_is_mapping, arguments) else self._function(arguments)

    def answer(self, call: FunctionCall, body: Any) -> Any:
        """An answer of policy is the function's value, in the type it is annotated to return."""
        call.gave(body)
        if inspect.isgeneratorfunction(self._function):
            return iter(cast("list[Any]", body) if isinstance(body, list) else [body])
        return typed.build(typed.returned_by(self._function), body)


class AsyncFunctionBoundary(FunctionBoundary):
    """The same for a coroutine function or an async generator function."""

    __slots__ = ()

    async def send(self, call: FunctionCall) -> Any:
        """Call the function and await it."""
        result = self._called(call)
        if holds(inspect.isasyncgen, result):
            call.tap = tap = AsyncTap(call, result, result.aclose, form="events")
            return tap
        if holds(inspect.isawaitable, result):
            result = await result
        call.gave(result)
        return result

    async def answer(self, call: FunctionCall, body: Any) -> Any:
        """As `FunctionBoundary.answer`."""
        if inspect.isasyncgenfunction(self._function):
            call.gave(body)
            return _each(cast("list[Any]", body) if isinstance(body, list) else [body])
        return super().answer(call, body)


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


async def _each(items: list[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


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
            nothing where they are None. A generator function's values pass one by one.
        arguments: What the model asked for. Policy and the record see them as JSON; the function gets the very
            objects, or where policy changed them the same types built from what it left.
        call_id: The model's id of the call, which ties the result to it in the trajectory.
        description: What the tool does.
        tracing: Opens the span; by default SpanRelay's own tracer.

    Raises:
        TypeError: `name` is not a string, or `function` is not a plain function.
        GuardrailRejected: a guardrail refused; the function was not called.
        BaseException: whatever the function raised, unchanged.
    """
    if _is_async(function):
        raise TypeError(f"tool {name!r} is a coroutine function; run it with `await spanrelay.arun_tool(...)`")
    return run(_tool(FunctionBoundary, name, function, arguments, call_id, description, tracing))


async def arun_tool(
    name: str,
    function: Callable[..., Awaitable[Any] | AsyncIterator[Any]],
    arguments: JSON = None,
    *,
    call_id: str | None = None,
    description: str | None = None,
    tracing: Tracing | None = None,
) -> Any:
    """Run a tool that is a coroutine function or an async generator function, as `run_tool` does."""
    return await arun(_tool(AsyncFunctionBoundary, name, function, arguments, call_id, description, tracing))


def _tool(
    boundary: type[FunctionBoundary],
    name: str,
    function: Callable[..., Any],
    arguments: JSON,
    call_id: str | None,
    description: str | None,
    tracing: Tracing | None,
) -> ToolExecution:
    check_tool(name)
    if not callable(function):
        raise TypeError(f"tool {name!r} needs a function, not {function!r}: run_tool(name, function, arguments)")
    request = ToolRequest(name, arguments, call_id, description)
    return ToolExecution(request, boundary(function), tracing or default_tracing())


def check_tool(name: object) -> None:
    """Refuse what is no name of a tool.

    Raises:
        TypeError: it is no text.
    """
    if not isinstance(name, str):
        raise TypeError(f"a tool's name must be a string, not {name!r}; the name is the first argument")


def _is_async(function: object) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


class ModelBoundary:
    """The real call is a function of the application's that sends the provider's JSON.

    What it returns is the provider's answer: JSON, an object of its SDK, or with `stream` an iterator of events.
    """

    __slots__ = ("_function", "_stream")

    def __init__(self, function: Callable[[dict[str, Any]], Any], *, stream: bool) -> None:
        if not callable(function):
            raise TypeError(
                "a model call needs the function that sends the request, not a "
                f"{type(function).__name__!r}; the function is the first argument, the request the second"
            )
        self._function = function
        self._stream = stream

    def send(self, call: ModelCall) -> Any:
        """Call the function with what policy left of the request."""
        answer = self._asked(call)
        if self._stream:
            _check_events(answer, "__iter__", "an iterator")
            call.tap = tap = SyncTap(call, iter(answer), getattr(answer, "close", _nothing), form="events")
            return tap
        call.body = _json.dumps(answer)
        return answer

    def _asked(self, call: ModelCall) -> Any:
        wire = dict(call.outgoing())
        call.sent = _json.dumps(wire)
        return self._function(wire)

    def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """An answer of policy is the provider's JSON, or its events."""
        return call.codec.stream_events(body) if self._stream else body


class AsyncModelBoundary(ModelBoundary):
    """The same for a coroutine function or an async generator function."""

    __slots__ = ()

    async def send(self, call: ModelCall) -> Any:
        """Call the function, await it, and with `stream` pass its events on."""
        answer = self._asked(call)
        if holds(inspect.isawaitable, answer):
            answer = await answer
        if self._stream:
            _check_events(answer, "__aiter__", "an async iterator")
            close = getattr(answer, "aclose", None) or getattr(answer, "close", None) or _anothing
            call.tap = tap = AsyncTap(call, aiter(answer), close, form="events")
            return tap
        call.body = _json.dumps(answer)
        return answer

    async def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """As `ModelBoundary.answer`."""
        return _each(list(call.codec.stream_events(body))) if self._stream else body


def _check_events(answer: Any, method: str, words: str) -> None:
    # Dicts, text and records can be iterated too, but over keys, characters and fields.
    if isinstance(answer, (Mapping, str, bytes)) or hasattr(answer, "model_dump") or not hasattr(answer, method):
        raise TypeError(
            f"a streamed model call needs {words} of the provider's events, and its function returned a "
            f"{type(answer).__name__!r}; ask the provider for a stream, or use run_model or arun_model"
        )


def _nothing() -> None:
    return None


async def _anothing() -> None:
    return None


def run_model(
    function: Callable[[dict[str, Any]], Any],
    request: Mapping[str, Any] | ModelRequest,
    *,
    codec: str | Codec = "openai_chat",
    provider: str = "openai",
    tracing: Tracing | None = None,
) -> Any:
    """Make a model call that the application owns, under policy and an LLM span; return what `function` returns.

    Args:
        function: Sends the request it is given, the provider's JSON as policy left it, and returns the answer:
            JSON, or an object that has a JSON form.
        request: The provider's JSON, or a record that the codec writes as such.
        codec: The wire API that request and answer speak, by the name of its module in `spanrelay.codecs`.
        provider: `gen_ai.provider.name`, as `openai` or `anthropic`.
        tracing: Opens the span; by default SpanRelay's own tracer.

    Raises:
        TypeError: `function` is not a plain function, or `request` is not a request.
        ConfigurationError: there is no such codec.
        GuardrailRejected: a guardrail refused; `function` was not called.
        BaseException: whatever `function` raised, unchanged.
    """
    if _is_async(function):
        raise TypeError(f"{function!r} is a coroutine function; call it with `await spanrelay.arun_model(...)`")
    return run(_model(ModelBoundary(function, stream=False), request, codec, provider, tracing))


async def arun_model(
    function: Callable[[dict[str, Any]], Awaitable[Any]],
    request: Mapping[str, Any] | ModelRequest,
    *,
    codec: str | Codec = "openai_chat",
    provider: str = "openai",
    tracing: Tracing | None = None,
) -> Any:
    """Make a model call with a coroutine function, as `run_model` does."""
    return await arun(_model(AsyncModelBoundary(function, stream=False), request, codec, provider, tracing))


def stream_model(
    function: Callable[[dict[str, Any]], Any],
    request: Mapping[str, Any] | ModelRequest,
    *,
    codec: str | Codec = "openai_chat",
    provider: str = "openai",
    tracing: Tracing | None = None,
) -> Iterator[Any]:
    """Make a streamed model call: `function` returns an iterator of the provider's events, and so does this.

    The span ends once, with the last event, with `close()`, or when the iterator is dropped. Otherwise as
    `run_model`.
    """
    if _is_async(function):
        raise TypeError(f"{function!r} is a coroutine function; call it with `await spanrelay.astream_model(...)`")
    return run(_model(ModelBoundary(function, stream=True), request, codec, provider, tracing))


async def astream_model(
    function: Callable[[dict[str, Any]], Any],
    request: Mapping[str, Any] | ModelRequest,
    *,
    codec: str | Codec = "openai_chat",
    provider: str = "openai",
    tracing: Tracing | None = None,
) -> AsyncIterator[Any]:
    """Make a streamed model call with a function that returns an async iterator, as `stream_model` does.

    Await it for the iterator: policy runs first.
    """
    return await arun(_model(AsyncModelBoundary(function, stream=True), request, codec, provider, tracing))


def _model(
    boundary: ModelBoundary,
    request: Mapping[str, Any] | ModelRequest,
    codec: str | Codec,
    provider: str,
    tracing: Tracing | None,
) -> Call:
    wire_api = codecs.load(codec) if isinstance(codec, str) else codec
    wire = wire_api.encode_request(request, {}) if isinstance(request, ModelRequest) else request
    check_wire(wire, "the provider's JSON as a dict, or a ModelRequest")
    call = ModelCall(wire_api, wire, boundary, tracing or default_tracing(), provider=provider)
    call.count_once()
    return call


def check_wire(request: object, expected: str) -> None:
    """Refuse what is no request body.

    Raises:
        TypeError: it is no mapping; the message says what is `expected`.
    """
    if not isinstance(request, Mapping):
        raise TypeError(
            f"the request of a model call must be {expected}, not a {type(request).__name__!r}: "
            "{'model': …, 'messages': [{'role': 'user', 'content': …}]}"
        )
