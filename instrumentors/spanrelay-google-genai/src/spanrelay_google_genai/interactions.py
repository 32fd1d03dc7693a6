"""The boundary of interactions, which the SDK sends in another way: `do_request`, given a request ready to send.

What becomes of the response, an answer or an error, is decided in the method that asked, with which the call ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanrelay import _json
from spanrelay.codecs import gemini_interactions, plain, sse
from spanrelay.errors import MiddlewareError
from spanrelay.instrumentation.operations import OperationCall, Refused, aoperate, operate
from spanrelay.instrumentation.patching import Patch
from spanrelay.instrumentation.requests import Place, normal, object_in
from spanrelay.instrumentation.responses import EVENTS, http_module, received
from spanrelay.instrumentation.stainless import PLAIN, Route, Target, asks_within
from spanrelay.pipeline.driver import arun, run
from spanrelay.pipeline.model import ModelCall, open_for, text_of
from spanrelay.propagation import trace_headers
from spanrelay.providers import provider_of_host
from spanrelay.tracing import Tracing, recording

_PACKAGE = "google.genai._gaos"
_INTERACTIONS = Route(gemini_interactions)


class Interactions:
    """Wraps both colours of `do_request`; `tracing` opens the spans."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def request(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        """Make a request."""
        call = self._call(wrapped, args, kwargs, Boundary)
        if call is None:
            return wrapped(*args, **kwargs)
        try:
            return run(call)
        except Refused as refused:
            return refused.response

    async def arequest(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        """Make a request as `request` does."""
        call = self._call(wrapped, args, kwargs, AsyncBoundary)
        if call is None:
            return await wrapped(*args, **kwargs)
        try:
            return await arun(call)
        except Refused as refused:
            return refused.response

    def _call(self, wrapped: Any, args: Any, kwargs: Any, boundary: type[Boundary]) -> ModelCall | None:
        """Return the model call that a request is; None where it asks no model."""
        request = kwargs.get("request")
        if request is None or request.method != "POST":
            return None
        try:
            content = request.content
        except RuntimeError:  # a form with files, which is streamed
            return None
        read = object_in(content) if content else {}
        wire, unreadable = (read, None) if isinstance(read, Mapping) else ({}, read.unreadable)
        url, path = request.url, normal(request.url.path)
        route = _INTERACTIONS if path.endswith("/interactions") else PLAIN
        model = text_of(wire.get("model"))
        if route is PLAIN and not (model or asks_within(wire)):
            return None
        provider = provider_of_host(url.host) or "gcp.gemini"
        target = Target(url, route, Place(path, None, ()), provider, model, stream=bool(wire.get("stream")))
        opened = open_for(self._tracing, target.start, target.stands_for)
        call = OperationCall(
            route.codec, wire, boundary(wrapped, args, kwargs), self._tracing, provider=provider, opened=opened
        )
        call.record.server_address, call.record.server_port = target.address, target.port
        call.model_kept = route.codec is plain or wire.get("agent") is not None  # an agent has one
        if unreadable:
            call.unreadable = unreadable
            call.distrust()
        return call


class Boundary:
    """The way of one call through `do_request`."""

    __slots__ = ("_args", "_kwargs", "_request", "_wrapped")

    def __init__(self, wrapped: Any, args: Any, kwargs: Any) -> None:
        self._wrapped, self._args, self._kwargs = wrapped, args, kwargs
        self._request = kwargs["request"]

    def send(self, call: ModelCall) -> Any:
        """Send what policy left of the request; the SDK retries inside."""
        return self._observed(call, self._wrapped(*self._args, **self._outgoing(call)))

    def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """Return `body` as the response of the provider; the method that asked reads it."""
        content, kind = _json.dumps(body), "application/json"
        if call.original.get("stream"):
            content = b"".join((*map(sse.frame, call.codec.stream_events(body)), sse.DONE))
            kind = EVENTS
        response = http_module(type(self._request)).Response
        return response(200, headers={"content-type": kind}, content=content, request=self._request)

    def _outgoing(self, call: ModelCall) -> dict[str, Any]:
        request, wire = self._request, call.outgoing()
        content, headers = request.content, request.headers
        if wire is not call.original:
            if bool(wire.get("stream")) != bool(call.original.get("stream")):
                raise MiddlewareError("policy may not turn `stream` on or off: the caller expects the other form")
            content = _json.dumps(wire)
        carried = trace_headers(call.context).get("traceparent") if recording.propagate else None
        if content is request.content and carried is None:
            return self._kwargs
        headers = [(name, value) for name, value in headers.multi_items() if name != "content-length"]
        headers += [] if carried is None else [("traceparent", carried)]
        made = type(request)(
            request.method, request.url, headers=headers, content=content, extensions=request.extensions
        )
        return {**self._kwargs, "request": made}

    def _observed(self, call: ModelCall, response: Any) -> Any:
        """Keep the bytes of a response, or tap its stream, and return what the SDK is to get of it."""
        call.http_status = response.status_code
        call.sent = response.request.content
        if response.status_code < 400:
            return received(call, response, "google", streams=call.streams, leaves=True)
        call.body = response.content if response.is_stream_consumed else None  # the SDK reads it into its error
        raise Refused(response)


class AsyncBoundary(Boundary):
    """The async twin of `Boundary`."""

    __slots__ = ()

    async def send(self, call: ModelCall) -> Any:
        """Send what policy left of the request."""
        return self._observed(call, await self._wrapped(*self._args, **self._outgoing(call)))

    async def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """Return `body` as the response of the provider."""
        return super().answer(call, body)


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """Both colours of `do_request`, and the methods that ask by it; older SDKs have neither."""
    wrapped = Interactions(tracing)
    return (
        Patch(f"{_PACKAGE}.basesdk", "BaseSDK.do_request", wrapped.request, newer=True),
        Patch(f"{_PACKAGE}.basesdk", "AsyncBaseSDK.do_request_async", wrapped.arequest, newer=True),
        Patch(f"{_PACKAGE}.interactions", "Interactions.create", operate, required=False, newer=True),
        Patch(f"{_PACKAGE}.interactions", "AsyncInteractions.create", aoperate, required=False, newer=True),
    )
