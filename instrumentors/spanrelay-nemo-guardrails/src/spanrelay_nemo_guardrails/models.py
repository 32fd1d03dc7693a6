"""The boundary of model calls of the toolkit's own HTTP client, where the request is still JSON.

Models that LangChain or an SDK asks have their boundary there; nothing of theirs passes through this client.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any
from urllib.parse import urlsplit

from spanrelay import _json
from spanrelay.codecs import openai_chat
from spanrelay.instrumentation.patching import Patch
from spanrelay.instrumentation.targets import outgoing_of
from spanrelay.pipeline.driver import arun
from spanrelay.pipeline.model import ModelCall
from spanrelay.pipeline.stream import AsyncTap
from spanrelay.providers import provider_of_openai_host
from spanrelay.tracing import Tracing

_CLIENTS = "nemoguardrails.llm.clients.base"
_ROUTE = "/chat/completions"


class ClientBoundary:
    """The real call: the client's POST, with its retries.

    Args:
        wrapped: That method, bound to the client.
        path: Where it posts to, below the base URL.
    """

    __slots__ = ("_path", "_wrapped", "headers")

    def __init__(self, wrapped: Any, path: str) -> None:
        self._wrapped = wrapped
        self._path = path
        self.headers: Any = {}
        """The headers of the answer, which stay with it whatever policy makes of it."""

    async def send(self, call: ModelCall) -> Any:
        """Post what policy left of the request."""
        response = await self._wrapped(self._path, self._outgoing(call))
        self.headers = response.headers
        if call.observed:
            call.body = _json.dumps(response.body)
        return response

    def _outgoing(self, call: ModelCall) -> Any:
        wire = outgoing_of(call)
        if call.observed:
            call.sent = _json.dumps(wire)
        return wire

    async def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """An answer of policy is the response that the client would have made of it."""
        return _response(body, self.headers)


class StreamBoundary(ClientBoundary):
    """The same for a stream: its chunks pass as the JSON that they are."""

    __slots__ = ()

    async def send(self, call: ModelCall) -> Any:
        """Post what policy left of the request, with the first chunk that is asked for."""
        bodies = self._bodies(self._wrapped(self._path, self._outgoing(call)))
        call.tap = tap = AsyncTap(call, bodies, bodies.aclose, form="events")
        return tap

    async def _bodies(self, responses: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
        try:
            async for response in responses:
                self.headers = response.headers
                yield response.body
        finally:
            await responses.aclose()

    async def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """An answer of policy comes as the chunks of a stream."""
        return _each(list(call.codec.stream_events(body)))


async def _each(bodies: list[Any]) -> AsyncGenerator[Any, None]:
    for body in bodies:
        yield body


def _response(body: Any, headers: Any) -> Any:
    return sys.modules[_CLIENTS].HTTPResponse(body=body, headers=headers)


class Client:
    """Wraps both forms of a POST; `tracing` opens the spans."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    async def post(self, wrapped: Any, client: Any, args: Any, kwargs: Any) -> Any:
        """Ask a model."""
        path, payload = _posted(*args, **kwargs)
        if path != _ROUTE:
            return await wrapped(path, payload)
        return await arun(self._call(client, payload, ClientBoundary(wrapped, path)))

    def post_stream(self, wrapped: Any, client: Any, args: Any, kwargs: Any) -> Any:
        """Ask a model for a stream."""
        path, payload = _posted(*args, **kwargs)
        return self._passed(wrapped, client, path, payload) if path == _ROUTE else wrapped(path, payload)

    async def _passed(self, wrapped: Any, client: Any, path: str, payload: Any) -> AsyncIterator[Any]:
        boundary = StreamBoundary(wrapped, path)
        bodies = await arun(self._call(client, payload, boundary))
        try:
            async for body in bodies:
                yield _response(body, boundary.headers)
        finally:
            await bodies.aclose()

    def _call(self, client: Any, payload: Any, boundary: ClientBoundary) -> ModelCall:
        url = urlsplit(client._base_url)
        host = url.hostname or ""
        call = ModelCall(openai_chat, payload, boundary, self._tracing, provider=provider_of_openai_host(host))
        call.record.server_address, call.record.server_port = host or None, url.port
        return call


def _posted(path: str, payload: Any) -> tuple[str, Any]:
    return path, payload


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """The client's two forms of a POST, below which it retries."""
    client = Client(tracing)
    return (
        Patch(_CLIENTS, "BaseClient._apost", client.post),
        Patch(_CLIENTS, "BaseClient._apost_stream", client.post_stream),
    )
