"""The boundary: `_inner_post`, which takes a URL and JSON, and returns an answer as bytes or a stream as lines.

The URL names the model of most tasks: such a model is judged, and policy cannot put another there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, cast
from urllib.parse import unquote, urlsplit

from spanrelay import _json
from spanrelay.codecs import openai_completions, openai_embeddings, plain, sse
from spanrelay.codecs.chat_dialects import capped_chat
from spanrelay.errors import MiddlewareError
from spanrelay.instrumentation.patching import Patch
from spanrelay.instrumentation.requests import normal
from spanrelay.instrumentation.targets import (
    PLAIN,
    Address,
    Route,
    Target,
    Targets,
    aask,
    ask,
    carried_by,
    outgoing_of,
)
from spanrelay.pipeline.model import ModelCall, text_of
from spanrelay.pipeline.stream import AsyncTap, SyncTap
from spanrelay.providers import provider_of_host
from spanrelay.tracing import Tracing

ROUTES = {
    "/chat/completions": Route(capped_chat),
    "/completions": Route(openai_completions),
    "/embeddings": Route(openai_embeddings, "embedder"),
}
"""The routes of which more than the model is read, by how their paths end."""


class Asked(NamedTuple):
    """What a request asks for.

    Attributes:
        wire: Its JSON, and the model of it where the URL alone names one.
        in_url: The model that the URL names.
        beside: What names the model outside of the JSON: that, or the address of an endpoint that is asked for none.
        unreadable: Why policy cannot tell what it asks for.
    """

    wire: Mapping[str, Any]
    in_url: str | None
    beside: str | None
    unreadable: str | None


class Requests:
    """The wrappers around both colours of `_inner_post`."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._targets = Targets()

    def patches(self, module: str, async_module: str) -> tuple[Patch, ...]:
        """Return the patch table."""
        tasks = ("chat_completion", "text_generation")
        return (
            Patch(module, "InferenceClient._inner_post", self._post),
            Patch(async_module, "AsyncInferenceClient._inner_post", self._apost),
            *(Patch(module, f"_stream_{task}_response", _read, required=False) for task in tasks),
            *(Patch(async_module, f"_async_stream_{task}_response", _aread, required=False) for task in tasks),
        )

    def _post(self, wrapped: Any, client: Any, args: Any, kwargs: Any) -> Any:
        asked, target = self._asked(args, kwargs)
        opened, boundary = target.open(self._tracing), Boundary(wrapped, args, kwargs, asked)
        return ask(opened, partial(self._call, asked, target, opened, boundary), wrapped, args, kwargs)

    async def _apost(self, wrapped: Any, client: Any, args: Any, kwargs: Any) -> Any:
        asked, target = self._asked(args, kwargs)
        opened, boundary = target.open(self._tracing), AsyncBoundary(wrapped, args, kwargs, asked)
        return await aask(opened, partial(self._call, asked, target, opened, boundary), wrapped, args, kwargs)

    def _asked(self, args: Any, kwargs: Any) -> tuple[Asked, Target]:
        parameters = _parameters_in(args, kwargs)
        asked = _asked_by(parameters)
        model, stream = text_of(asked.wire.get("model")), bool(asked.wire.get("stream"))
        key = (parameters.url, model, stream)
        return asked, self._targets.known(key, partial(_target, parameters.url, model, stream=stream))

    def _call(self, asked: Asked, target: Target, opened: Any, boundary: Any) -> ModelCall:
        call = target.call(asked.wire, boundary, self._tracing, opened)
        if asked.unreadable or asked.beside:
            call.unreadable = asked.unreadable
            call.named_beside = () if asked.beside is None else (asked.beside,)
            call.distrust()
        return call


def _parameters_in(args: Any, kwargs: Any) -> Any:
    return args[0] if args else kwargs["request_parameters"]


def _asked_by(parameters: Any) -> Asked:
    wire, model = parameters.json, text_of(parameters.model)
    unreadable = None
    if wire is None:  # a picture, or a sound
        wire = {}
    elif not isinstance(wire, Mapping):
        wire, unreadable = {}, "its body is not a JSON object"
    in_url = model if model and f"/{model}/" in f"{unquote(urlsplit(parameters.url).path)}/" else None
    beside = in_url if in_url or "model" in wire or model is None else unquote(model)
    if in_url and "model" not in wire:
        wire = {"model": in_url, **cast("Mapping[str, Any]", wire)}
    return Asked(cast("Mapping[str, Any]", wire), in_url, beside, unreadable)


def _target(url: str, model: str | None, *, stream: bool) -> Target:
    parts = urlsplit(url)
    path = normal(parts.path).casefold()
    route = next((route for suffix, route in ROUTES.items() if path.endswith(suffix)), PLAIN)
    host = parts.hostname or ""
    provider = provider_of_host(host) or "hugging_face"
    return Target(Address(host, parts.port), route, provider, model, stream=stream)


class Boundary:
    """The way of one call through `_inner_post`."""

    __slots__ = ("_args", "_asked", "_kwargs", "_parameters", "_wrapped")

    def __init__(self, wrapped: Any, args: Any, kwargs: Any, asked: Asked) -> None:
        self._wrapped, self._asked = wrapped, asked
        self._parameters = _parameters_in(args, kwargs)
        self._args, self._kwargs = args[1:], {name: kwargs[name] for name in kwargs if name != "request_parameters"}

    def send(self, call: ModelCall) -> Any:
        """Send what policy left of the request."""
        answer = self._wrapped(self._outgoing(call), *self._args, **self._kwargs)
        if isinstance(answer, bytes):
            return _kept(call, answer)
        call.tap = tap = SyncTap(call, _as_bytes(answer), answer.close, form="frames")
        return Lines(tap)

    def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """Return `body` as the provider would have sent it."""
        return Lines(iter((_frames(call, body),))) if call.streams else _json.dumps(body)

    def _outgoing(self, call: ModelCall) -> Any:
        parameters, wire = self._parameters, outgoing_of(call)
        if wire is not call.original:
            parameters = replace(parameters, json=self._changed(call, wire))
        carried = carried_by(call)
        if carried is not None:
            parameters = replace(parameters, headers={**parameters.headers, "traceparent": carried})
        return parameters

    def _changed(self, call: ModelCall, wire: Mapping[str, Any]) -> dict[str, Any]:
        """Return the body that policy made of the application's."""
        given = self._parameters.json
        if not isinstance(given, Mapping):
            raise MiddlewareError("policy may not change this request: its body is not a JSON object")
        if self._asked.in_url and wire.get("model") != call.original.get("model"):
            raise MiddlewareError(
                f"policy may not change the model {self._asked.in_url!r}: the URL names it; refuse it"
            )
        return {name: value for name, value in wire.items() if name != "model" or name in given}


class AsyncBoundary(Boundary):
    """The way of one call through the async client's `_inner_post`."""

    __slots__ = ()

    async def send(self, call: ModelCall) -> Any:
        """Send what policy left of the request."""
        answer = await self._wrapped(self._outgoing(call), *self._args, **self._kwargs)
        if isinstance(answer, bytes):
            return _kept(call, answer)
        call.tap = tap = AsyncTap(call, _aas_bytes(answer), answer.aclose, form="frames")
        return AsyncLines(tap)

    async def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """Return `body` as the provider would have sent it."""
        return AsyncLines(_Told(_frames(call, body))) if call.streams else _json.dumps(body)


def _kept(call: ModelCall, answer: bytes) -> bytes:
    """Keep an answer that can be read: pictures and sounds are large, and nobody reads them."""
    if call.codec is not plain or answer[:1] == b"{":
        call.body = answer
    return answer


def _frames(call: ModelCall, body: dict[str, Any]) -> bytes:
    return b"".join((*map(sse.frame, call.codec.stream_events(body)), sse.DONE))


def _as_bytes(lines: Iterator[str]) -> Generator[bytes]:
    for line in lines:
        yield f"{line}\n".encode()


async def _aas_bytes(lines: AsyncIterator[str]) -> AsyncGenerator[bytes]:
    async for line in lines:
        yield f"{line}\n".encode()


class Lines:
    """The lines of a stream, as the SDK reads them, of the bytes that pass through a tap."""

    __slots__ = ("_ready", "source")

    def __init__(self, source: Any) -> None:
        self.source = source
        self._ready: deque[str] = deque()

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        if not self._ready:
            self._take(next(self.source))
        return self._ready.popleft()

    def _take(self, data: bytes) -> None:
        self._ready.extend(data.decode().removesuffix("\n").split("\n"))


class AsyncLines(Lines):
    """The async twin of `Lines`."""

    __slots__ = ()

    def __aiter__(self) -> AsyncLines:
        return self

    async def __anext__(self) -> str:
        if not self._ready:
            self._take(await self.source.__anext__())
        return self._ready.popleft()


class _Told:
    """The bytes of an answer that is not the provider's."""

    def __init__(self, data: bytes) -> None:
        self._left = [data]

    async def __anext__(self) -> bytes:
        if self._left:
            return self._left.pop()
        raise StopAsyncIteration


def _read(wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
    """Read a stream; the call ends with that, and by what the SDK raises of what it has read."""
    tap = getattr(args[0] if args else None, "source", None)
    return _reading(wrapped(*args, **kwargs), tap) if isinstance(tap, SyncTap) else wrapped(*args, **kwargs)


def _reading(chunks: Any, tap: SyncTap) -> Generator[Any]:
    try:
        yield from chunks
    except Exception as error:
        tap.read_failed(error)
        raise
    finally:
        tap.close()


def _aread(wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
    tap = getattr(args[0] if args else None, "source", None)
    return _areading(wrapped(*args, **kwargs), tap) if isinstance(tap, AsyncTap) else wrapped(*args, **kwargs)


async def _areading(chunks: Any, tap: AsyncTap) -> AsyncGenerator[Any]:
    try:
        async for chunk in chunks:
            yield chunk
    except Exception as error:
        await tap.read_failed(error)
        raise
    finally:
        await tap.aclose()
