"""The way of one call through a function of LiteLLM's, whose answers are objects of its own.

A stream stays LiteLLM's own object; the chunks come by ours.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, NamedTuple, cast

import wrapt

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay.codecs import plain, sse
from spanrelay.errors import MiddlewareError
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
        whole: Makes an answer of its JSON, where that can be done.
        chunk: Makes one of a stream's chunks.
        frames: Whether a stream is the bytes of a provider's.
    """

    whole: Callable[[dict[str, Any]], Any] | None
    chunk: Callable[[dict[str, Any]], Any] | None = None
    frames: bool = False

    @property
    def streams(self) -> bool:
        """Whether a stream is known how to be read."""
        return self.frames or self.chunk is not None

    def given(self, chunk: Any) -> Any:
        """Return a chunk as LiteLLM hands it out."""
        if not isinstance(chunk, dict):
            return chunk
        if self.frames:
            return sse.frame(cast("dict[str, Any]", chunk))
        return self.chunk(cast("dict[str, Any]", chunk)) if self.chunk is not None else chunk


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
        if call.streams and call.rewriting is not None and not self.form.streams:
            raise MiddlewareError("policy cannot look at this stream of LiteLLM's, so the call is refused")
        outgoing = outgoing_of(call)
        if call.observed:
            call.sent = _json.dumps(outgoing)
        return self._wrapped(
            **(self._asked if outgoing is call.original else changed(self._asked, call.original, outgoing))
        )

    def _keep_whole(self, call: ModelCall, response: Any) -> Any:
        """Keep an answer that is whole, though a stream was asked for."""
        if call.rewriting is not None:
            raise MiddlewareError("LiteLLM has answered whole, so policy cannot look at it as the stream asked for")
        return self._keep(call, response)

    def _keep(self, call: ModelCall, response: Any) -> Any:
        if call.observed:
            with guarded("reading an answer of LiteLLM's"):
                call.body = _json.dumps(_body_of(call, response))
        return response

    def send(self, call: ModelCall) -> Any:
        """Ask the model."""
        return self._keep(call, self._ask(call))

    def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """An answer of policy is the response that LiteLLM would have made of it."""
        if self.form.whole is None:
            raise MiddlewareError("policy cannot answer this call of LiteLLM's: its answers are not made of JSON")
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
        if isinstance(stream, dict):
            return self._keep_whole(call, stream)
        raw = self.form.frames or call.rewriting is None
        source = iter(stream) if raw else _as_json(stream)
        kind: Any = "frames" if self.form.frames else "events"
        call.tap = tap = SyncTap(call, source, getattr(stream, "close", _nothing), form=kind)
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
        if isinstance(stream, dict):
            return self._keep_whole(call, stream)
        raw = self.form.frames or call.rewriting is None
        source = aiter(stream) if raw else _aas_json(stream)
        kind: Any = "frames" if self.form.frames else "events"
        call.tap = tap = AsyncTap(call, source, getattr(stream, "aclose", _anothing), form=kind)
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


def _body_of(call: ModelCall, response: Any) -> dict[str, Any]:
    """Return a response as JSON. Counts that are all zero are LiteLLM's word for none.

    Of images, sound and the like only what is read of them: they are large.
    """
    body: dict[str, Any] = response if isinstance(response, dict) else _dumped(response)
    usage = body.get("usage")
    if isinstance(usage, dict) and not any(usage.get(name) for name in _COUNTED):
        body = {name: value for name, value in body.items() if name != "usage"}
    return {name: body[name] for name in _READ if name in body} if call.codec is plain else body


_COUNTED = (
    "prompt_tokens",
    "completion_tokens",
    "input_tokens",
    "output_tokens",
    "total_input_tokens",
    "total_output_tokens",
)
_READ = ("id", "model", "usage", "error")
"""What is read of an answer on a route that no codec is for."""


def _dumped(response: Any) -> dict[str, Any]:
    dump = getattr(response, "model_dump", None)
    return {} if dump is None else dump(exclude_none=True)


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
