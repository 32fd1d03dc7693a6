"""The boundary of SDKs that Speakeasy generates: `do_request`, which is given a request that is ready to send.

What becomes of the response, an answer or an error, is decided in the method that asked, with which the call ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

from spanrelay import _json
from spanrelay.codecs import sse
from spanrelay.errors import MiddlewareError
from spanrelay.instrumentation import batches
from spanrelay.instrumentation.operations import OperationCall, Refused
from spanrelay.instrumentation.patching import Patch
from spanrelay.instrumentation.requests import Body, models_of, normal, object_in
from spanrelay.instrumentation.responses import EVENTS, http_module, received
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
from spanrelay.pipeline.middleware import is_covered
from spanrelay.pipeline.model import ModelCall, text_of
from spanrelay.providers import provider_of_host
from spanrelay.scopes import current_scope
from spanrelay.tracing import Tracing

_ASKING_NOTHING = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
_FORM = "application/x-www-form-urlencoded"


class SpeakeasyRequests:
    """The wrappers around both colours of `do_request`.

    Args:
        tracing: Opens the spans.
        sdk: The package of the SDK.
        provider: Who answers where the host is nobody's that is known.
        route_of: The route of a path, decoded, normal and in lower case; `PLAIN` for one that is not known.
        keeps_model: Whether policy leaves the model of a request alone, by its route and body.
        blank: What the SDK insists on in an answer, and what policy's answer may leave out.
    """

    def __init__(
        self,
        tracing: Tracing,
        sdk: str,
        provider: str,
        route_of: Callable[[str], Route],
        keeps_model: Callable[[Route, Mapping[str, Any]], bool],
        blank: Mapping[str, Any] | None = None,
    ) -> None:
        self._tracing, self._sdk, self._provider = tracing, sdk, provider
        self._route_of, self._keeps_model, self._blank = route_of, keeps_model, blank or {}
        self._targets = Targets()

    def patches(self, module: str, asynchronous: str = "BaseSDK", *, newer: bool = False) -> tuple[Patch, ...]:
        """Return the patch table for the base class in `module`, whose async half is a class of its own or the same."""
        return (
            Patch(module, "BaseSDK.do_request", self._request, newer=newer),
            Patch(module, f"{asynchronous}.do_request_async", self._arequest, newer=newer),
        )

    def _request(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        asked = self._asked(args, kwargs)
        if asked is None:
            return run_looked_at(wrapped, args, kwargs)
        target, body = asked
        opened = target.open(self._tracing)
        boundary = Boundary(self._sdk, self._blank, wrapped, args, kwargs)
        try:
            return ask(opened, partial(self._call, target, body, opened, boundary), wrapped, args, kwargs)
        except Refused as refused:
            return refused.response

    async def _arequest(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        asked = self._asked(args, kwargs)
        if asked is None:
            return await arun_looked_at(wrapped, args, kwargs)
        target, body = asked
        opened = target.open(self._tracing)
        boundary = AsyncBoundary(self._sdk, self._blank, wrapped, args, kwargs)
        try:
            made = partial(self._call, target, body, opened, boundary)
            return await aask(opened, made, wrapped, args, kwargs)
        except Refused as refused:
            return refused.response

    def _asked(self, args: Any, kwargs: Any) -> tuple[Target, Body] | None:
        """Return where a request goes and what its body says; None if it asks no model."""
        request = _request_in(args, kwargs)
        if request is None or request.method in _ASKING_NOTHING:
            return None
        body = _body_of(request)
        wire = body.wire
        url, model, stream = request.url, text_of(wire.get("model")), bool(wire.get("stream"))

        def make() -> Target:
            provider = provider_of_host(url.host) or self._provider
            return Target(url, self._route_of(normal(url.path).casefold()), provider, model, stream=stream)

        target = self._targets.known((url.host, url.port, url.path, model, stream), make)
        named = models_of(url.params.multi_items()) or body.beside or body.offers or body.names_model
        if target.route is PLAIN and (body.unreadable or not (model or asks_within(wire))) and not named:
            return None
        return target, body

    def _call(
        self,
        target: Target,
        body: Body,
        opened: Any,
        boundary: Boundary,
    ) -> ModelCall:
        call = target.call(body.wire, boundary, self._tracing, opened, OperationCall)
        call.model_kept = self._keeps_model(target.route, body.wire)
        call.offered_beside = body.offers
        named = models_of(boundary.request.url.params.multi_items()) + body.beside
        if body.unreadable or named:
            call.unreadable, call.named_beside = body.unreadable, named
            call.distrust()
        return call


def _body_of(request: Any) -> Body:
    """Return what is in the body of a request, or the fields of its form, with those of its files of a batch."""
    if _is_form(request):
        told = dict(_fields_of(request))
        body = Body(told | {"stream": told.get("stream") == "true"} if told else told)
        if batches.is_batch(told) and is_covered(current_scope()):
            return batches.with_files(body, _files_of(request))
        return body
    read = object_in(request.content) if request.content else {}
    return Body({}, read.unreadable) if isinstance(read, Body) else Body(read)


def _is_form(request: Any) -> bool:
    """Whether the body of a request is a form, with files or without."""
    return _content_of(request) is None or request.headers.get("content-type", "").startswith(_FORM)


def _fields_of(request: Any) -> list[tuple[str, str]]:
    content = _content_of(request)
    if content is not None:
        return parse_qsl(content.decode("utf-8", "replace"), keep_blank_values=True)
    fields = getattr(request.stream, "fields", ())
    return [(field.name, _text_of(field.value)) for field in fields if not hasattr(field, "file")]


def _files_of(request: Any) -> list[Any]:
    """Return the files of a form, as the HTTP client is given them."""
    return [field.file for field in getattr(request.stream, "fields", ()) if hasattr(field, "file")]


def _content_of(request: Any) -> bytes | None:
    """Return the body of a request; None of a form with files, which is written as it is sent."""
    try:
        return request.content
    except RuntimeError:
        return None


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "replace")


def _request_in(args: Any, kwargs: Any) -> Any:
    return kwargs["request"] if "request" in kwargs else args[1] if len(args) > 1 else None


def _headers_of(request: Any, *, counted: bool) -> list[tuple[str, str]]:
    return [(name, value) for name, value in request.headers.multi_items() if counted or name != "content-length"]


class Boundary:
    """The way of one call through `do_request`."""

    __slots__ = ("_args", "_blank", "_kwargs", "_sdk", "_wrapped", "request")

    def __init__(self, sdk: str, blank: Mapping[str, Any], wrapped: Any, args: Any, kwargs: Any) -> None:
        self._sdk, self._blank = sdk, blank
        self._wrapped, self._args, self._kwargs = wrapped, args, kwargs
        self.request = _request_in(args, kwargs)

    def send(self, call: ModelCall) -> Any:
        """Send what policy left of the request; the SDK retries inside."""
        args, kwargs = self._outgoing(call)
        return self._observed(call, self._wrapped(*args, **kwargs))

    def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """Return `body` as the response of the provider; the method that asked reads it."""
        content, kind = _json.dumps({**self._blank, **body}), "application/json"
        if call.original.get("stream"):
            content = b"".join((*map(sse.frame, call.codec.stream_events(body)), sse.DONE))
            kind = EVENTS
        response = http_module(type(self.request)).Response
        return response(200, headers={"content-type": kind}, content=content, request=self.request)

    def _outgoing(self, call: ModelCall) -> tuple[Any, Any]:
        request, wire = self.request, outgoing_of(call)
        content = _content_of(request)
        if wire is not call.original:
            if _is_form(request):
                raise MiddlewareError("policy may refuse a request that is a form, and not change it: it is refused")
            content = _json.dumps(wire)
        carried = carried_by(call)
        if wire is call.original and carried is None:
            return self._args, self._kwargs
        headers = [] if carried is None else [("traceparent", carried)]
        made = type(request)(
            request.method,
            request.url,
            headers=[*_headers_of(request, counted=content is None), *headers],
            extensions=request.extensions,
            **({"stream": request.stream} if content is None else {"content": content}),
        )
        if "request" in self._kwargs:
            return self._args, {**self._kwargs, "request": made}
        return (self._args[0], made, *self._args[2:]), self._kwargs

    def _observed(self, call: ModelCall, response: Any) -> Any:
        """Keep the bytes of a response, or tap its stream, and return what the SDK is to get of it."""
        call.http_status = response.status_code
        call.sent = _content_of(response.request)
        if response.status_code < 400:
            return received(call, response, self._sdk, streams=call.streams, leaves=True)
        call.body = response.content if response.is_stream_consumed else None  # the SDK reads it into its error
        raise Refused(response)


class AsyncBoundary(Boundary):
    """The way of one call through `do_request_async`."""

    __slots__ = ()

    async def send(self, call: ModelCall) -> Any:
        """Send what policy left of the request."""
        args, kwargs = self._outgoing(call)
        return self._observed(call, await self._wrapped(*args, **kwargs))

    async def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """Return `body` as the response of the provider."""
        return super().answer(call, body)
