"""Connections that a model is talked to over: what is left with the server is judged before it is sent, as a call.

Such a call has no span of its own, and answers nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry.trace import get_current_span

from spanrelay._guard import guarded
from spanrelay.errors import MiddlewareError
from spanrelay.instrumentation.targets import Target
from spanrelay.pipeline.call import NO_CONTEXT, Opened
from spanrelay.pipeline.model import ModelCall
from spanrelay.scopes import Scope, current_scope, place_now, scope
from spanrelay.tracing import Tracing, is_read


class Opening(Opened):
    """Stands in the span around: a connection is no call, and has none of its own."""

    def __init__(self) -> None:
        self.lender = self.above = None
        self.outer = place_now()
        self.scope, self.span, self.started = current_scope(self.outer), get_current_span(self.outer), 0
        self.observed = is_read(self.span)


class ConnectionCall(ModelCall):
    """What policy is shown of a connection: the model that it is opened for."""

    __slots__ = ()

    def finish(self, end: int | None = None) -> None:
        """Leave the span alone, which is somebody else's."""
        self.context = NO_CONTEXT


class LeftCall(ConnectionCall):
    """What policy is shown of a message that leaves something for later requests: no limit counts it."""

    __slots__ = ()

    def is_paid(self, payer: object, *, take: bool = False) -> bool:
        """Say that it costs nothing: the responses that it is for are counted."""
        return True


class Leaving:
    """The way of one message that leaves something with the server, which does not answer it."""

    def __init__(self, message: Any, send: Callable[..., Any], changed: Callable[..., Any]) -> None:
        self._message, self._send, self._changed = message, send, changed
        self.tap: Any = None

    def send(self, call: ModelCall) -> Any:
        """Send what policy left of the message, the client's own where it changed nothing; sync or async."""
        return self._send(self._changed(self._message, call.outgoing(), call.original))

    def sent(self, *, failed: bool) -> list[Any]:
        """Return what may be answered now, which is nothing."""
        return []

    def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """Refuse: there is nothing to answer."""
        raise MiddlewareError("policy cannot answer a message that asks nothing; let it pass, or refuse it")


def left_call(target: Target, wire: Mapping[str, Any], boundary: Leaving, tracing: Tracing) -> ModelCall:
    """Return the call that policy is shown of a message that leaves `wire` with a server."""
    return LeftCall(target.route.codec, wire, boundary, tracing, provider=target.provider, opened=Opening())


class SessionSpan:
    """The span of a connection, around the calls that are made over it in the scope that it was opened in."""

    def __init__(self, name: str, tracing: Tracing) -> None:
        self._scope: Scope | None = None
        with guarded("opening the span of a connection"):
            made = scope(name, kind="chain").make()
            made.open(tracing, place_now())
            self._scope = made

    def open(self, target: Target, tracing: Tracing) -> Opened:
        """Open the span of a call."""
        around = self._scope
        if around is None or current_scope() is not around.parent:
            return target.open(tracing)
        token = otel_context.attach(around.within(place_now()))
        try:
            return target.open(tracing)
        finally:
            otel_context.detach(token)

    def end(self, error: BaseException | None = None) -> None:
        """End it, once; a connection that was closed in good order has not failed."""
        ended, self._scope = self._scope, None
        if ended is not None:
            ended.close(None if type(error).__name__ == "ConnectionClosedOK" else error)
