"""The boundary: `_request`, which is given a path and JSON, and makes an object of each object that comes back.

Where a stream is asked for the client sends nothing before somebody reads it; policy has its say when it is asked for.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping
from functools import partial
from typing import Any, cast

from spanrelay import _json
from spanrelay.codecs import ollama_chat, ollama_embed, ollama_generate
from spanrelay.instrumentation.patching import Patch
from spanrelay.instrumentation.targets import (
    PLAIN,
    Route,
    Target,
    Targets,
    aask,
    ask,
    asks_within,
    carried_by,
    outgoing_of,
)
from spanrelay.pipeline.driver import arun_looked_at, run_looked_at
from spanrelay.pipeline.model import ModelCall, text_of
from spanrelay.pipeline.stream import AsyncTap, SyncTap
from spanrelay.providers import provider_of_host
from spanrelay.tracing import Tracing

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
        self._targets = Targets()

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
        opened, boundary = target.open(self._tracing), Boundary(wrapped, args, kwargs)
        made = partial(target.call, kwargs["json"], boundary, self._tracing, opened)
        return ask(opened, made, wrapped, args, kwargs)

    async def _arequest(self, wrapped: Any, client: Any, args: Any, kwargs: Any) -> Any:
        target = self._target(client, args, kwargs)
        if target is None:
            return await arun_looked_at(wrapped, args, kwargs)
        opened, boundary = target.open(self._tracing), AsyncBoundary(wrapped, args, kwargs)
        made = partial(target.call, kwargs["json"], boundary, self._tracing, opened)
        return await aask(opened, made, wrapped, args, kwargs)

    def _target(self, client: Any, args: Any, kwargs: Any) -> Target | None:
        """Return where a request goes, or None if it asks no model."""
        path, wire = args[2] if len(args) > 2 else None, kwargs.get("json")
        if not isinstance(path, str) or not isinstance(wire, Mapping):
            return None
        model, stream = text_of(cast("Mapping[str, Any]", wire).get("model")), bool(kwargs.get("stream"))
        if path not in ROUTES and (path in _KEEPING or not asks_within(cast("Mapping[str, Any]", wire))):
            return None
        url = client._client.base_url

        def make() -> Target:
            provider = provider_of_host(url.host) or "ollama"
            return Target(url, ROUTES.get(path, PLAIN), provider, model, stream=stream)

        return self._targets.known((url.host, url.port, path, model, stream), make)


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
        kwargs, wire = self._kwargs, outgoing_of(call)
        if wire is not call.original:
            kwargs = {**kwargs, "json": wire}
        carried = carried_by(call)
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
