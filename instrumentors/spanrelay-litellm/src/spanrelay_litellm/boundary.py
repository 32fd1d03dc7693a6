"""The way of one call through a function of LiteLLM's, whose answers are objects of its own.

A stream stays LiteLLM's own object; the chunks come by ours.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, NamedTuple

import wrapt

from spanrelay import _json
from spanrelay.instrumentation.targets import outgoing_of
from spanrelay.pipeline.model import ModelCall
from spanrelay.pipeline.stream import AsyncTap, SyncTap, Tap
from spanrelay_litellm.arguments import changed


def named(name: str, module: str = "litellm") -> Callable[[dict[str, Any]], Any]:
    """Return what makes an answer of JSON: the class of the package's that has this name."""
    return lambda body: getattr(sys.modules[module], name)(**body)


def completion_chunk(event: dict[str, Any]) -> Any:
    """Return a chunk of a completion."""
    return sys.modules["litellm"].ModelResponseStream(**event)


def response_event(event: dict[str, Any]) -> Any:
    """Return an event of a response's stream, of the class that LiteLLM has for its type."""
    config: Any = sys.modules["litellm"].OpenAIResponsesAPIConfig
    return config.get_event_model_class(event["type"])(**event)


class Form(NamedTuple):
    """How answers that are not the provider's become LiteLLM's objects.

    Attributes:
        whole: Makes an answer of its JSON.
        chunk: Makes one of a stream's chunks.
    """

    whole: Callable[[dict[str, Any]], Any]
    chunk: Callable[[dict[str, Any]], Any] | None = None

    def given(self, chunk: Any) -> Any:
        """Return a chunk as LiteLLM hands it out."""
        return self.chunk(chunk) if self.chunk is not None and isinstance(chunk, dict) else chunk


class Boundary:
    """The real call: LiteLLM's function.

    Args:
        wrapped: The function.
        asked: What it was called with, by name.
        form: How answers of policy are made.
    """

    __slots__ = ("_asked", "_wrapped", "form")

    def __init__(self, wrapped: Any, asked: dict[str, Any], form: Form) -> None:
        self._wrapped, self._asked, self.form = wrapped, asked, form

    def _ask(self, call: ModelCall) -> Any:
        outgoing = outgoing_of(call)
        if call.observed:
            call.sent = _json.dumps(outgoing)
        return self._wrapped(
            **(self._asked if outgoing is call.original else changed(self._asked, call.original, outgoing))
        )

    def _keep(self, call: ModelCall, response: Any) -> Any:
        if call.observed:
            call.body = _json.dumps(_body_of(response))
        return response

    def send(self, call: ModelCall) -> Any:
        """Ask the model."""
        return self._keep(call, self._ask(call))

    def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """An answer of policy is the response that LiteLLM would have made of it."""
        return self.form.whole(body)


class AsyncBoundary(Boundary):
    """The same, awaited."""

    __slots__ = ()

    async def send(self, call: ModelCall) -> Any:
        """Ask the model."""
        return self._keep(call, await self._ask(call))

    async def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """As `Boundary.answer`."""
        return super().answer(call, body)


class StreamBoundary(Boundary):
    """The same for a stream, whose chunks are JSON while stream intercepts look at them."""

    __slots__ = ("stream",)

    def send(self, call: ModelCall) -> Any:
        """Begin to ask the model."""
        self.stream = stream = self._ask(call)
        source = iter(stream) if call.rewriting is None else _as_json(stream)
        call.tap = tap = SyncTap(call, source, getattr(stream, "close", _nothing), form="events")
        return tap

    def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """An answer of policy is the chunks that say it."""
        return (self.form.given(event) for event in list(call.codec.stream_events(body)))


class AsyncStreamBoundary(Boundary):
    """The same, awaited."""

    __slots__ = ("stream",)

    async def send(self, call: ModelCall) -> Any:
        """Begin to ask the model."""
        self.stream = stream = await self._ask(call)
        source = aiter(stream) if call.rewriting is None else _aas_json(stream)
        call.tap = tap = AsyncTap(call, source, getattr(stream, "aclose", _anothing), form="events")
        return tap

    async def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """As `StreamBoundary.answer`."""
        return _each([self.form.given(event) for event in call.codec.stream_events(body)])


def _nothing() -> None: ...


async def _anothing() -> None: ...


def _as_json(stream: Any) -> Generator[Any, None, None]:
    for chunk in stream:
        yield _json.plain(chunk.model_dump(exclude_none=True))


async def _aas_json(stream: Any) -> AsyncGenerator[Any, None]:
    async for chunk in stream:
        yield _json.plain(chunk.model_dump(exclude_none=True))


async def _each(chunks: list[Any]) -> AsyncGenerator[Any, None]:
    for chunk in chunks:
        yield chunk


def _body_of(response: Any) -> dict[str, Any]:
    """Return a response as JSON. Counts that are all zero are LiteLLM's word for none."""
    body: dict[str, Any] = response.model_dump(exclude_none=True)
    usage = body.get("usage")
    counted = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens")
    if isinstance(usage, dict) and not any(usage.get(name) for name in counted):
        del body["usage"]
    return body


def shown(boundary: Any, native: Any) -> Any:
    """Return a stream as LiteLLM's own object, whose chunks come by ours."""
    return Shown(boundary.stream, native, boundary.form) if isinstance(native, Tap) else native


class Shown(wrapt.ObjectProxy):  # pyright: ignore[reportMissingTypeArgument] - wrapt has none here
    """LiteLLM's stream, read by way of the call's."""

    def __init__(self, stream: Any, tap: Any, form: Form) -> None:
        super().__init__(stream)
        self._self_tap, self._self_form = tap, form

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return self._self_form.given(next(self._self_tap))

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        return self._self_form.given(await anext(self._self_tap))

    def close(self) -> None:
        """Close the stream."""
        self._self_tap.close()

    async def aclose(self) -> None:
        """Close the stream."""
        await self._self_tap.aclose()
