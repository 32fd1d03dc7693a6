"""The boundary of SDKs that Speakeasy generates: `do_request`, which is given a request that is ready to send.

What becomes of the response, an answer or an error, is decided in the method that asked, with which the call ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from spanrelay import _json
from spanrelay.codecs import sse
from spanrelay.errors import MiddlewareError
from spanrelay.instrumentation.operations import OperationCall, Refused
from spanrelay.instrumentation.patching import Patch
from spanrelay.instrumentation.requests import Place, normal, object_in
from spanrelay.instrumentation.responses import EVENTS, http_module, received
from spanrelay.instrumentation.stainless import PLAIN, Route, Target, asks_within
from spanrelay.pipeline.driver import arun, arun_looked_at, arun_unseen, is_unseen, run, run_looked_at, run_unseen
from spanrelay.pipeline.model import ModelCall, open_for, text_of
from spanrelay.propagation import trace_headers
from spanrelay.providers import provider_of_host
from spanrelay.tracing import Tracing, recording


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
        self._targets: dict[tuple[str, int | None, str, str | None, bool, str], Target] = {}

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
        target, wire, unreadable = asked
        opened = open_for(self._tracing, target.start, target.stands_for)
        if is_unseen(opened) and not recording.propagate:
            return run_unseen(opened, wrapped, args, kwargs)
        try:
            return run(self._call(target, wire, unreadable, opened, wrapped, args, kwargs))
        except Refused as refused:
            return refused.response

    async def _arequest(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        asked = self._asked(args, kwargs)
        if asked is None:
            return await arun_looked_at(wrapped, args, kwargs)
        target, wire, unreadable = asked
        opened = open_for(self._tracing, target.start, target.stands_for)
        if is_unseen(opened) and not recording.propagate:
            return await arun_unseen(opened, wrapped, args, kwargs)
        try:
            return await arun(self._call(target, wire, unreadable, opened, wrapped, args, kwargs, AsyncBoundary))
        except Refused as refused:
            return refused.response

    def _asked(self, args: Any, kwargs: Any) -> tuple[Target, Mapping[str, Any], str | None] | None:
        """Return where a request goes, what its body says, and why that is not known; None if it asks no model."""
        request = _request_in(args, kwargs)
        if request is None or request.method != "POST":
            return None
        wire, unreadable = _body_of(request)
        url, model, stream = request.url, text_of(wire.get("model")), bool(wire.get("stream"))
        key = (url.host, url.port, url.path, model, stream, recording.dialect)
        target = self._targets.get(key)
        if target is None:
            path = normal(url.path).casefold()
            provider = provider_of_host(url.host) or self._provider
            target = Target(url, self._route_of(path), Place(path, None, ()), provider, model, stream=stream)
            if len(self._targets) > 1000:
                self._targets.clear()
            self._targets[key] = target
        if target.route is PLAIN and (unreadable or not (model or asks_within(wire))):
            return None
        return target, wire, unreadable

    def _call(
        self,
        target: Target,
        wire: Mapping[str, Any],
        unreadable: str | None,
        opened: Any,
        wrapped: Any,
        args: Any,
        kwargs: Any,
        boundary: type[Boundary] | None = None,
    ) -> ModelCall:
        call = OperationCall(
            target.route.codec,
            wire,
            (boundary or Boundary)(self._sdk, self._blank, wrapped, args, kwargs),
            self._tracing,
            provider=target.provider,
            kind=target.route.kind,
            opened=opened,
        )
        call.record.server_address, call.record.server_port = target.address, target.port
        call.model_kept = self._keeps_model(target.route, wire)
        if unreadable:
            call.unreadable = unreadable
            call.distrust()
        return call


def _body_of(request: Any) -> tuple[Mapping[str, Any], str | None]:
    """Return what is in the body of a request, or the fields of its form, and why that is not known."""
    content = _content_of(request)
    if content is None:
        fields = getattr(request.stream, "fields", ())
        told = {field.name: _text_of(field.value) for field in fields if not hasattr(field, "file")}
        return told | {"stream": told.get("stream") == "true"} if told else told, None
    read = object_in(content) if content else {}
    return (read, None) if isinstance(read, Mapping) else ({}, read.unreadable)


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

    __slots__ = ("_args", "_blank", "_kwargs", "_request", "_sdk", "_wrapped")

    def __init__(self, sdk: str, blank: Mapping[str, Any], wrapped: Any, args: Any, kwargs: Any) -> None:
        self._sdk, self._blank = sdk, blank
        self._wrapped, self._args, self._kwargs = wrapped, args, kwargs
        self._request = _request_in(args, kwargs)

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
        response = http_module(type(self._request)).Response
        return response(200, headers={"content-type": kind}, content=content, request=self._request)

    def _outgoing(self, call: ModelCall) -> tuple[Any, Any]:
        request, wire = self._request, call.outgoing()
        content = _content_of(request)
        if wire is not call.original:
            if content is None:
                raise MiddlewareError("policy may refuse a request that is a form, and not change it: it is refused")
            if bool(wire.get("stream")) != bool(call.original.get("stream")):
                raise MiddlewareError("policy may not turn `stream` on or off: the caller expects the other form")
            content = _json.dumps(wire)
        carried = trace_headers(call.context).get("traceparent") if recording.propagate else None
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
