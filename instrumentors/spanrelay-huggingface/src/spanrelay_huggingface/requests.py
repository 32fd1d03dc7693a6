"""The boundary: `_inner_post`, which takes a URL and JSON, and returns an answer as bytes or a stream as lines.

The URL names the model of most tasks: such a model is judged, and policy cannot put another there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, cast
from urllib.parse import unquote, urlsplit

from spanrelay import _json
from spanrelay.codecs import openai_chat, openai_completions, openai_embeddings, plain, sse
from spanrelay.errors import MiddlewareError
from spanrelay.instrumentation.patching import Patch
from spanrelay.instrumentation.requests import Place, normal
from spanrelay.instrumentation.stainless import PLAIN, Route, Target
from spanrelay.pipeline.driver import arun, arun_unseen, is_unseen, run, run_unseen
from spanrelay.pipeline.model import ModelCall, open_for, text_of
from spanrelay.pipeline.stream import AsyncTap, SyncTap
from spanrelay.propagation import trace_headers
from spanrelay.providers import provider_of_host
from spanrelay.tracing import Tracing, recording

ROUTES = {
    "/chat/completions": Route(openai_chat),
    "/completions": Route(openai_completions),
    "/embeddings": Route(openai_embeddings, "embedder"),
}
"""The routes of which more than the model is read, by how their paths end."""


class Address(NamedTuple):
    """Where a request goes."""

    host: str
    port: int | None


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
        self._targets: dict[tuple[str, str | None, bool, str], Target] = {}

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
        opened = open_for(self._tracing, target.start, target.stands_for)
        if is_unseen(opened) and not recording.propagate:
            return run_unseen(opened, wrapped, args, kwargs)
        return run(self._call(asked, target, opened, Boundary(wrapped, args, kwargs, asked)))

    async def _apost(self, wrapped: Any, client: Any, args: Any, kwargs: Any) -> Any:
        asked, target = self._asked(args, kwargs)
        opened = open_for(self._tracing, target.start, target.stands_for)
        if is_unseen(opened) and not recording.propagate:
            return await arun_unseen(opened, wrapped, args, kwargs)
        return await arun(self._call(asked, target, opened, AsyncBoundary(wrapped, args, kwargs, asked)))

    def _asked(self, args: Any, kwargs: Any) -> tuple[Asked, Target]:
        parameters = _parameters_in(args, kwargs)
        asked = _asked_by(parameters)
        model, stream = text_of(asked.wire.get("model")), bool(asked.wire.get("stream"))
        key = (parameters.url, model, stream, recording.dialect)
        target = self._targets.get(key)
        if target is None:
            if len(self._targets) > 1000:
                self._targets.clear()
            self._targets[key] = target = _target(parameters.url, model, stream=stream)
        return asked, target

    def _call(self, asked: Asked, target: Target, opened: Any, boundary: Any) -> ModelCall:
        call = ModelCall(
            target.route.codec,
            asked.wire,
            boundary,
            self._tracing,
            provider=target.provider,
            kind=target.route.kind,
            opened=opened,
        )
        call.record.server_address, call.record.server_port = target.address, target.port
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
    beside = in_url if in_url or "model" in wire else model
    if in_url and "model" not in wire:
        wire = {"model": in_url, **cast("Mapping[str, Any]", wire)}
    return Asked(cast("Mapping[str, Any]", wire), in_url, beside, unreadable)


def _target(url: str, model: str | None, *, stream: bool) -> Target:
    parts = urlsplit(url)
    place = Place(normal(parts.path).casefold(), None, ())
    route = next((route for suffix, route in ROUTES.items() if place.path.endswith(suffix)), PLAIN)
    host = parts.hostname or ""
    provider = provider_of_host(host) or "hugging_face"
    return Target(Address(host, parts.port), route, place, provider, model, stream=stream)


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
        parameters, wire = self._parameters, call.outgoing()
        if wire is not call.original:
            parameters = replace(parameters, json=self._changed(call, wire))
        carried = trace_headers(call.context).get("traceparent") if recording.propagate else None
        if carried is not None:
            parameters = replace(parameters, headers={**parameters.headers, "traceparent": carried})
        return parameters

    def _changed(self, call: ModelCall, wire: Mapping[str, Any]) -> dict[str, Any]:
        """Return the body that policy made of the application's."""
        given = self._parameters.json
        if bool(wire.get("stream")) != call.streams:
            raise MiddlewareError("policy may not turn `stream` on or off: the caller expects the other form")
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
