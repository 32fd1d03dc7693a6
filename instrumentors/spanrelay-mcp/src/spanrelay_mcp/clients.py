"""The client's side: requests that a session sends, and those that a server sends back to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry import propagate
from opentelemetry.context import attach, detach
from opentelemetry.trace import SpanKind

from spanrelay._guard import guarded
from spanrelay.codecs.mcp_tool import METHOD, encode_result
from spanrelay.instrumentation.patching import Patch
from spanrelay.pipeline.driver import arun
from spanrelay.pipeline.typed import as_json
from spanrelay.semconv import names
from spanrelay.tracing import Tracing
from spanrelay_mcp.calls import RemoteCall, carried
from spanrelay_mcp.native import is_first_generation


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """Where sessions send requests, and where requests of the server arrive; SDK 1 sends both in one class."""
    if is_first_generation():
        sessions = FirstSessions(tracing)
        return (
            Patch("mcp.shared.session", "BaseSession.send_request", sessions.send),
            Patch("mcp.client.session", "ClientSession._received_request", sessions.received, required=False),
        )
    sessions = Sessions(tracing)
    return (
        Patch("mcp.client.session", "ClientSession.send_request", sessions.send),
        Patch("mcp.client.session", "ClientSession._on_request", sessions.received, required=False),
    )


class Sessions:
    """The wrappers around a session's requests."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    async def send(self, wrapped: Any, session: Any, args: Any, kwargs: Any) -> Any:
        """Send a request; one that calls a tool is a call of ours."""
        request, *rest = args or (kwargs.pop("request"),)
        if self._method_of(request) != METHOD:
            return await wrapped(self._carrying(request), *rest, **kwargs)
        boundary = ClientBoundary(self, wrapped, request, rest, kwargs)
        params = self._params_of(request).model_dump(by_alias=True, mode="json", exclude_none=True)
        return await arun(RemoteCall(params, boundary, self._tracing, SpanKind.CLIENT, self._facts_of(session)))

    async def received(self, wrapped: Any, session: Any, args: Any, kwargs: Any) -> Any:
        """Handle a request of the server, such as for a model's answer, beneath what the server does."""
        context, _ = carried(self._meta_of(*args))
        token = attach(context)
        try:
            return await wrapped(*args, **kwargs)
        finally:
            detach(token)

    def with_params(self, request: Any, params: Any) -> Any:
        """Return the request with other parameters."""
        return request.model_copy(update={"params": params})

    def prepared(self, request: Any, given: Any, *, changed: bool) -> Any:
        """Return the request with what policy left of its arguments: the SDK puts the trace into it."""
        if not changed:
            return request
        return self.with_params(request, self._params_of(request).model_copy(update={"arguments": given}))

    def _carrying(self, request: Any) -> Any:
        return request

    def _method_of(self, request: Any) -> Any:
        return getattr(request, "method", None)

    def _params_of(self, request: Any) -> Any:
        return request.params

    def _facts_of(self, session: Any) -> Mapping[str, str | None]:
        return {names.MCP_PROTOCOL: session.protocol_version}

    def _meta_of(self, *given: Any) -> Any:
        _, _, params = given
        return (params or {}).get("_meta")


class FirstSessions(Sessions):
    """The same in SDK 1, whose requests stand in an object that holds any of them, and carry no trace by themselves."""

    def with_params(self, request: Any, params: Any) -> Any:
        """Return the request with other parameters."""
        return type(request)(request.root.model_copy(update={"params": params}))

    def prepared(self, request: Any, given: Any, *, changed: bool) -> Any:
        """Return the request with what policy left of its arguments, and the trace."""
        return self._carrying(super().prepared(request, given, changed=changed))

    def _carrying(self, request: Any) -> Any:
        with guarded("putting the trace into a request of MCP"):
            params = self._params_of(request)
            carrier: dict[str, str] = {}
            propagate.inject(carrier)
            if carrier and "meta" in getattr(type(params), "model_fields", ()):
                meta = {} if params.meta is None else params.meta.model_dump(exclude_none=True)
                carrying = type(params).Meta(**{**meta, **carrier})
                return self.with_params(request, params.model_copy(update={"meta": carrying}))
        return request

    def _method_of(self, request: Any) -> Any:
        return getattr(getattr(request, "root", None), "method", None)

    def _params_of(self, request: Any) -> Any:
        return request.root.params

    def _facts_of(self, session: Any) -> Mapping[str, str | None]:
        return {names.RPC_REQUEST_ID: str(session._request_id)}

    def _meta_of(self, *given: Any) -> Any:
        meta = given[0].request_meta
        return None if meta is None else meta.model_dump()


class ClientBoundary:
    """The way of one call of a tool to its server.

    Args:
        sessions: Knows the requests of the SDK's generation.
        wrapped: The session's method.
        request: What it was called with first.
        args: The rest: the type of the result first.
        kwargs: The same by name.
    """

    __slots__ = ("_args", "_kwargs", "_request", "_sessions", "_wrapped")

    def __init__(self, sessions: Sessions, wrapped: Any, request: Any, args: Any, kwargs: Any) -> None:
        self._sessions, self._wrapped, self._request = sessions, wrapped, request
        self._args, self._kwargs = args, kwargs

    async def send(self, call: RemoteCall) -> Any:
        """Send the request with what policy left of its arguments."""
        given = call.outgoing()
        call.begin(given)
        request = self._sessions.prepared(self._request, given, changed=given is not call.given)
        result = await self._wrapped(request, *self._args, **self._kwargs)
        call.take(result)
        return result

    async def answer(self, call: RemoteCall, body: Any) -> Any:
        """An answer of policy is the result that the session would have read."""
        kind = self._args[0] if self._args else self._kwargs["result_type"]
        if not (isinstance(kind, type) and isinstance(body, kind)):
            wire = {"resultType": "complete", **encode_result(as_json(body), is_error=call._is_error)}
            read = getattr(kind, "validate_python", None) or kind.model_validate
            body = read(wire)
        call.take(body)
        return body
