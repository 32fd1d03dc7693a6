"""The boundary: `_request`, which is given a path and JSON, and makes an object of each object that comes back.

Where a stream is asked for the client sends nothing before somebody reads it; policy has its say when it is asked for.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping
from typing import Any, cast

from spanrelay import _json
from spanrelay.codecs import ollama_chat, ollama_embed, ollama_generate
from spanrelay.errors import MiddlewareError
from spanrelay.instrumentation.patching import Patch
from spanrelay.instrumentation.requests import Place
from spanrelay.instrumentation.stainless import PLAIN, Route, Target
from spanrelay.pipeline.call import Opened
from spanrelay.pipeline.driver import arun, arun_looked_at, arun_unseen, is_unseen, run, run_looked_at, run_unseen
from spanrelay.pipeline.model import ModelCall, open_for, text_of
from spanrelay.pipeline.stream import AsyncTap, SyncTap
from spanrelay.propagation import trace_headers
from spanrelay.providers import provider_of_host
from spanrelay.tracing import Tracing, recording

ROUTES = {
    "/api/chat": Route(ollama_chat, ends_with_done=False),
    "/api/generate": Route(ollama_generate, ends_with_done=False),
    "/api/embed": Route(ollama_embed, "embedder", ends_with_done=False),
    "/api/embeddings": Route(ollama_embed, "embedder", ends_with_done=False),
}
"""The inference routes. What is posted elsewhere and names a model is a model call too."""
_KEEPING = frozenset(f"/api/{name}" for name in ("pull", "push", "create", "show", "copy", "delete"))
"""The routes that name a model to fetch, show, make, copy or delete it."""


class Requests:
    """The wrappers around both colours of `_request`."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._targets: dict[tuple[int, str, str | None, bool, str], Target] = {}

    def patches(self, module: str) -> tuple[Patch, ...]:
        """Return the patch table."""
        return (
            Patch(module, "Client._request", self._request),
            Patch(module, "AsyncClient._request", self._arequest),
        )

    def _request(self, wrapped: Any, client: Any, args: Any, kwargs: Any) -> Any:
        target = self._target(client, args, kwargs)
        if target is None:
            return run_looked_at(wrapped, args, kwargs)
        opened = open_for(self._tracing, target.start, target.stands_for)
        if is_unseen(opened) and not recording.propagate:
            return run_unseen(opened, wrapped, args, kwargs)
        return run(self._call(target, opened, Boundary(wrapped, args, kwargs), kwargs))

    async def _arequest(self, wrapped: Any, client: Any, args: Any, kwargs: Any) -> Any:
        target = self._target(client, args, kwargs)
        if target is None:
            return await arun_looked_at(wrapped, args, kwargs)
        opened = open_for(self._tracing, target.start, target.stands_for)
        if is_unseen(opened) and not recording.propagate:
            return await arun_unseen(opened, wrapped, args, kwargs)
        return await arun(self._call(target, opened, AsyncBoundary(wrapped, args, kwargs), kwargs))

    def _target(self, client: Any, args: Any, kwargs: Any) -> Target | None:
        """Return where a request goes, or None if it asks no model."""
        path, wire = args[2] if len(args) > 2 else None, kwargs.get("json")
        if not isinstance(path, str) or not isinstance(wire, Mapping):
            return None
        model, stream = text_of(cast("Mapping[str, Any]", wire).get("model")), bool(kwargs.get("stream"))
        if path not in ROUTES and (path in _KEEPING or not model):
            return None
        url = client._client.base_url
        key = (id(url), path, model, stream, recording.dialect)
        target = self._targets.get(key)
        if target is None or target.url is not url:
            place = Place(path, None, ())
            route = ROUTES.get(path, PLAIN)
            target = Target(url, route, place, provider_of_host(url.host) or "ollama", model, stream=stream)
            if len(self._targets) > 1000:
                self._targets.clear()
            self._targets[key] = target
        return target

    def _call(self, target: Target, opened: Opened, boundary: Any, kwargs: Any) -> ModelCall:
        call = ModelCall(
            target.route.codec,
            kwargs["json"],
            boundary,
            self._tracing,
            provider=target.provider,
            kind=target.route.kind,
            opened=opened,
        )
        call.record.server_address, call.record.server_port = target.address, target.port
        return call


def _as_it_came(kind: Any) -> Any:
    """Return what stands in for the class of an answer, so that the client hands out what came.

    It goes by the name of `kind`, by which Python says of what is no object that it cannot be one.
    """

    def keep(**fields: Any) -> dict[str, Any]:
        return fields

    keep.__module__, keep.__qualname__ = getattr(kind, "__module__", ""), getattr(kind, "__qualname__", "")
    return keep


class Boundary:
    """The way of one call through `_request`."""

    __slots__ = ("_args", "_class", "_kwargs", "_wrapped")

    def __init__(self, wrapped: Any, args: Any, kwargs: Any) -> None:
        self._wrapped, self._class, self._args, self._kwargs = wrapped, args[0], args[1:], kwargs

    def send(self, call: ModelCall) -> Any:
        """Send what policy left of the request, or be ready to when the stream is read."""
        answer = self._wrapped(_as_it_came(self._class), *self._args, **self._outgoing(call))
        if self._kwargs.get("stream"):
            call.tap = tap = SyncTap(call, answer, answer.close, form="events")
            return _objects(tap, self._class)
        call.body = _json.dumps(answer)
        return self._class(**answer)

    def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """Return `body` as the client would have."""
        if self._kwargs.get("stream"):
            return _objects(_Told(call.codec.stream_events(body)), self._class)
        return self._class(**body)

    def _outgoing(self, call: ModelCall) -> dict[str, Any]:
        kwargs, wire = self._kwargs, call.outgoing()
        if wire is not call.original:
            if bool(wire.get("stream")) != bool(call.original.get("stream")):
                raise MiddlewareError("policy may not turn `stream` on or off: the caller expects the other form")
            kwargs = {**kwargs, "json": wire}
        carried = trace_headers(call.context).get("traceparent") if recording.propagate else None
        if carried is not None:
            kwargs = {**kwargs, "headers": {**(kwargs.get("headers") or {}), "traceparent": carried}}
        return kwargs


class AsyncBoundary(Boundary):
    """The way of one call through the async client's `_request`."""

    __slots__ = ()

    async def send(self, call: ModelCall) -> Any:
        """Send what policy left of the request, or be ready to when the stream is read."""
        answer = await self._wrapped(_as_it_came(self._class), *self._args, **self._outgoing(call))
        if self._kwargs.get("stream"):
            call.tap = tap = AsyncTap(call, answer, answer.aclose, form="events")
            return _aobjects(tap, self._class)
        call.body = _json.dumps(answer)
        return self._class(**answer)

    async def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """Return `body` as the client would have."""
        if self._kwargs.get("stream"):
            return _aobjects(_AsyncTold(call.codec.stream_events(body)), self._class)
        return self._class(**body)


def _objects(parts: Any, kind: Any) -> Generator[Any]:
    try:
        for part in parts:
            try:
                made = kind(**part)
            except Exception as error:
                parts.read_failed(error)
                raise
            yield made
    finally:
        parts.close()


async def _aobjects(parts: Any, kind: Any) -> AsyncGenerator[Any]:
    try:
        async for part in parts:
            try:
                made = kind(**part)
            except Exception as error:
                await parts.read_failed(error)
                raise
            yield made
    finally:
        await parts.aclose()


class _Told:
    """The parts of an answer that is not the provider's."""

    def __init__(self, parts: Any) -> None:
        self._parts = parts

    def __iter__(self) -> Any:
        return self._parts

    def close(self) -> None:
        """Close nothing."""

    def read_failed(self, error: Exception) -> Any:
        """Leave an answer of policy's, which is no object that the client knows, to who reads it."""


class _AsyncTold(_Told):
    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        for part in self._parts:
            return part
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Close nothing."""

    async def read_failed(self, error: Exception) -> None:
        """As `_Told`."""
