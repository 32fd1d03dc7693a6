"""The boundary: the HTTP client's `request` and `stream`, which are given a path and JSON.

What becomes of a response is decided in the method that asked, and for a stream in the block that the response is open
for: the span says which exception the application got.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any, cast
from urllib.parse import urlsplit

from opentelemetry.context import attach, detach, set_value

from spanrelay import _json
from spanrelay.codecs import cohere_embed, cohere_rerank, cohere_v1, cohere_v2, plain, sse
from spanrelay.codecs.narrowing import as_mapping
from spanrelay.errors import MiddlewareError
from spanrelay.instrumentation.operations import OPERATION_KEY, Operation, OperationCall, Refused, aoperate, operate
from spanrelay.instrumentation.patching import Patch
from spanrelay.instrumentation.requests import named_in_query, normal
from spanrelay.instrumentation.responses import EVENTS, received
from spanrelay.instrumentation.targets import (
    PLAIN,
    Address,
    Route,
    Target,
    Targets,
    asks_within,
    carried_by,
    outgoing_of,
)
from spanrelay.pipeline.driver import arun, arun_looked_at, is_unseen, run, run_looked_at
from spanrelay.pipeline.model import ModelCall, text_of
from spanrelay.providers import provider_of_host
from spanrelay.tracing import Tracing
from spanrelay_cohere.lines import by_lines

_ASKING_NOTHING = frozenset({"", "GET", "HEAD", "DELETE", "OPTIONS"})
_RANK = Route(cohere_rerank, "reranker", answers=False)
ROUTES = {
    "/v2/chat": Route(cohere_v2),
    "/v1/chat": Route(cohere_v1, ends_with_done=False),
    "/v2/embed": Route(cohere_embed, "embedder"),
    "/v1/embed": Route(cohere_embed, "embedder"),
    "/v2/rerank": _RANK,
    "/v1/rerank": _RANK,
    **dict.fromkeys(("/v1/generate", "/v1/classify", "/v1/summarize"), Route(plain, answers=False)),
}
"""The inference routes, by how their paths end. What is posted elsewhere and names a model is a model call too."""

_METHODS = {
    ("cohere.v2.raw_client", "RawV2Client"): ("chat", "embed", "rerank"),
    ("cohere.raw_base_client", "RawBaseCohere"): ("chat", "classify", "embed", "generate", "rerank", "summarize"),
}
"""The methods that ask for a whole answer."""


class Requests:
    """The wrappers around both colours of `request` and `stream`."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._targets = Targets()

    def patches(self) -> tuple[Patch, ...]:
        """Return the patch table."""
        module = "cohere.core.http_client"
        return (
            Patch(module, "HttpClient.request", self._request),
            Patch(module, "AsyncHttpClient.request", self._arequest),
            Patch(module, "HttpClient.stream", self._stream),
            Patch(module, "AsyncHttpClient.stream", self._astream),
            *(
                Patch(where, f"{colour}{owner}.{method}", wrapper, required=False, newer=True)
                for (where, owner), methods in _METHODS.items()
                for method in methods
                for colour, wrapper in (("", operate), ("Async", aoperate))
            ),
        )

    def _request(self, wrapped: Any, client: Any, args: Any, kwargs: Any) -> Any:
        wire, kwargs = _read(args, kwargs)
        call = None if wire is None else self._asked(client, args, kwargs, wire)
        if call is None:
            return run_looked_at(wrapped, args, kwargs)
        call.boundary = Boundary(wrapped, client, args, kwargs)
        try:
            return run(call)
        except Refused as refused:
            return refused.response

    async def _arequest(self, wrapped: Any, client: Any, args: Any, kwargs: Any) -> Any:
        wire, kwargs = _read(args, kwargs)
        call = None if wire is None else self._asked(client, args, kwargs, wire)
        if call is None:
            return await arun_looked_at(wrapped, args, kwargs)
        call.boundary = AsyncBoundary(wrapped, client, args, kwargs)
        try:
            return await arun(call)
        except Refused as refused:
            return refused.response

    def _stream(self, wrapped: Any, client: Any, args: Any, kwargs: Any) -> Any:
        wire, kwargs = _read(args, kwargs)
        operation, call = self._held(client, args, kwargs, wire)
        if call is None:
            return wrapped(*args, **kwargs)
        return _streamed(operation, call, StreamBoundary(wrapped, client, args, kwargs))

    def _astream(self, wrapped: Any, client: Any, args: Any, kwargs: Any) -> Any:
        wire, kwargs = _read(args, kwargs)
        operation, call = self._held(client, args, kwargs, wire)
        if call is None:
            return wrapped(*args, **kwargs)
        return _astreamed(operation, call, AsyncStreamBoundary(wrapped, client, args, kwargs))

    def _held(self, client: Any, args: Any, kwargs: Any, wire: Any) -> tuple[Operation, OperationCall | None]:
        """Return the call of a stream, and what holds it while its response is open."""
        operation = Operation()
        token = attach(set_value(OPERATION_KEY, operation))
        try:
            return operation, None if wire is None else self._asked(client, args, kwargs, wire)
        finally:
            detach(token)

    def _asked(self, client: Any, args: Any, kwargs: Any, wire: Mapping[str, Any]) -> OperationCall | None:
        """Return the model call that is about to be made, or None where none is."""
        path: str = args[0] if args else kwargs["path"]
        base = _base_of(client, kwargs)
        model, stream = text_of(wire.get("model")), bool(wire.get("stream"))
        target = self._targets.known((base, path, model, stream), partial(_target, base, path, model, stream=stream))
        named = named_in_query({**(kwargs.get("params") or {}), **_options(kwargs, "additional_query_parameters")})
        if target.route is PLAIN and not (model or named or asks_within(wire)):
            return None
        opened = target.open(self._tracing)
        call = target.call(wire, None, self._tracing, opened, OperationCall)
        call.observed = not is_unseen(opened)
        call.model_kept = target.route is PLAIN
        if named:
            call.named_beside = named
            call.distrust()
        return call


def _target(base: str, path: str, model: str | None, *, stream: bool) -> Target:
    parts = urlsplit(base)
    whole = normal(f"{parts.path}/{path}").casefold()
    route = next((route for suffix, route in ROUTES.items() if whole.endswith(suffix)), PLAIN)
    provider = provider_of_host(parts.hostname or "") or "cohere"
    return Target(Address(parts.hostname, parts.port), route, provider, model, stream=stream)


def _base_of(client: Any, kwargs: Any) -> str:
    try:
        return str(client.get_base_url(kwargs.get("base_url")))
    except Exception:  # the SDK raises it again
        return ""


def _read(args: Any, kwargs: Any) -> tuple[Mapping[str, Any] | None, Any]:
    """Return the JSON object, or the fields of the form, that is sent, and arguments that send just that.

    What the application gave may be read once only, so what was read is sent. None where nothing is to be read.
    """
    path = args[0] if args else kwargs.get("path")
    if not isinstance(path, str) or str(kwargs.get("method", "")).upper() in _ASKING_NOTHING or kwargs.get("retries"):
        return None, kwargs
    if kwargs.get("content") is not None:
        return None, kwargs
    read: Any = sys.modules["cohere.core.http_client"]
    told = {name: kwargs.get(name) for name in ("json", "data", "request_options", "omit")}
    body, fields = read.get_request_body(**told)  # raises what the SDK raises a moment later
    if _is_form(kwargs):
        return (fields if isinstance(fields, Mapping) else None), kwargs
    if not isinstance(body, dict):
        return None, kwargs
    options = kwargs.get("request_options")
    if options is not None:
        options = {key: value for key, value in options.items() if key != "additional_body_parameters"}
    return cast("Mapping[str, Any]", body), {**kwargs, "json": body, "request_options": options}


def _is_form(kwargs: Any) -> bool:
    return bool(kwargs.get("files") or kwargs.get("data") is not None)


def _options(kwargs: Any, name: str) -> Mapping[str, Any]:
    return as_mapping(as_mapping(kwargs.get("request_options")).get(name))


class Boundary:
    """The way of one call through `request`."""

    __slots__ = ("_args", "_client", "_kwargs", "_wrapped")

    def __init__(self, wrapped: Any, client: Any, args: Any, kwargs: Any) -> None:
        self._wrapped, self._client, self._args, self._kwargs = wrapped, client, args, kwargs

    def send(self, call: ModelCall) -> Any:
        """Send what policy left of the request; the SDK retries inside."""
        return _observed(call, self._wrapped(*self._args, **self._outgoing(call)))

    def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """Return `body` as the response of the provider; the method that asked reads it."""
        content, kind = _json.dumps(body), "application/json"
        if call.original.get("stream") and call.codec is cohere_v1:
            content = b"".join(_json.dumps(event) + b"\n" for event in call.codec.stream_events(body))
            kind = "application/stream+json"
        elif call.original.get("stream"):
            content = b"".join((*map(sse.frame, call.codec.stream_events(body)), sse.DONE))
            kind = EVENTS
        httpx: Any = sys.modules["httpx"]  # the SDK has imported it
        request = httpx.Request("POST", "http://policy.invalid/")
        return httpx.Response(200, headers={"content-type": kind}, content=content, request=request)

    def _outgoing(self, call: ModelCall) -> dict[str, Any]:
        kwargs, wire = dict(self._kwargs), outgoing_of(call)
        if wire is not call.original:
            if _is_form(kwargs):
                raise MiddlewareError("policy may refuse a request that is a form, and not change it: it is refused")
            kwargs["json"] = wire
        carried = carried_by(call)
        if carried is not None:
            kwargs["headers"] = {**(kwargs.get("headers") or {}), "traceparent": carried}
        return kwargs


class AsyncBoundary(Boundary):
    """The way of one call through the async client's `request`."""

    __slots__ = ()

    async def send(self, call: ModelCall) -> Any:
        """Send what policy left of the request."""
        return _observed(call, await self._wrapped(*self._args, **self._outgoing(call)))

    async def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """Return `body` as the response of the provider."""
        return super().answer(call, body)


def _observed(call: ModelCall, response: Any) -> Any:
    """Keep the bytes of a response, or tap its stream, and return what the SDK is to get of it."""
    call.http_status = response.status_code
    with suppress(RuntimeError):  # of a form with files, which is written as it is sent
        call.sent = response.request.content
    if response.status_code >= 400:
        call.body = response.content if response.is_stream_consumed else None  # the SDK reads it into its error
        raise Refused(response)
    if call.streams and call.codec is cohere_v1:
        return by_lines(call, response)
    return received(call, response, "cohere", streams=call.streams)


class StreamBoundary(Boundary):
    """The way of one call through `stream`: `opened` is the block that the response is open for."""

    __slots__ = ("opened",)

    def send(self, call: ModelCall) -> Any:
        """Open the response to what policy left of the request."""
        self.close()
        self.opened: Any = self._wrapped(*self._args, **self._outgoing(call))
        return _observed(call, self.opened.__enter__())

    def close(self, *exc_info: Any) -> None:
        """Leave the block, where it was entered."""
        opened, self.opened = getattr(self, "opened", None), None
        if opened is not None:
            opened.__exit__(*(exc_info or (None, None, None)))


class AsyncStreamBoundary(StreamBoundary):
    """The way of one call through the async client's `stream`."""

    __slots__ = ()

    async def send(self, call: ModelCall) -> Any:
        """Open the response to what policy left of the request."""
        await self.aclose()
        self.opened = self._wrapped(*self._args, **self._outgoing(call))
        return _observed(call, await self.opened.__aenter__())

    async def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """Return `body` as the response of the provider."""
        return super().answer(call, body)

    async def aclose(self, *exc_info: Any) -> None:
        """Leave the block, where it was entered."""
        opened, self.opened = getattr(self, "opened", None), None
        if opened is not None:
            await opened.__aexit__(*(exc_info or (None, None, None)))


@contextmanager
def _streamed(operation: Operation, call: OperationCall, boundary: StreamBoundary) -> Generator[Any]:
    call.boundary = boundary
    try:
        try:
            response = run(call)
        except Refused as refused:
            response = refused.response
        yield response
    except BaseException as error:
        operation.end(error)
        boundary.close(type(error), error, error.__traceback__)
        raise
    operation.end()
    boundary.close()


@asynccontextmanager
async def _astreamed(operation: Operation, call: OperationCall, boundary: AsyncStreamBoundary) -> AsyncGenerator[Any]:
    call.boundary = boundary
    try:
        try:
            response = await arun(call)
        except Refused as refused:
            response = refused.response
        yield response
    except BaseException as error:
        operation.end(error)
        await boundary.aclose(type(error), error, error.__traceback__)
        raise
    operation.end()
    await boundary.aclose()
