"""Responses over a WebSocket: every `response.create` is a model call, as a request over HTTP is.

A connection may carry several at a time, each in a lane of its own; in a lane they are answered one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from spanrelay._guard import guarded
from spanrelay.instrumentation.apis.openai import ROUTES
from spanrelay.instrumentation.patching import Patch
from spanrelay.instrumentation.targets import Address, Target, Targets
from spanrelay.instrumentation.websockets import AsyncWire, Wire
from spanrelay.providers import provider_of_openai_host
from spanrelay.tracing import Tracing

_MODULES = ("openai.resources.responses.responses", "openai.resources.beta.responses.responses")
_ROUTE = ROUTES["/responses"]
_ENVELOPE = ("type", "event_id", "stream_id")
"""Members of a client's event that are no part of the request."""
_LAST = ("response.completed", "response.failed", "response.incomplete", "error")


class ResponsesSpeech:
    """How the Responses API speaks to one server."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._targets = Targets()

    def asked(self, event: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return the request of a `response.create`, whose members stand in the event itself."""
        if event.get("type") != "response.create":
            return None
        return {key: value for key, value in event.items() if key not in _ENVELOPE}

    def event(self, event: Mapping[str, Any], wire: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the event with another request."""
        return {**{key: event[key] for key in _ENVELOPE if key in event}, **wire}

    def lane(self, event: Mapping[str, Any]) -> Any:
        """Return the lane that an event names, if it does; one that is no text is none."""
        lane = event.get("stream_id")
        return lane if isinstance(lane, str) else None

    def is_last(self, event: Mapping[str, Any]) -> bool:
        """Whether a response is over."""
        return event.get("type") in _LAST

    def target(self, model: str | None) -> Target:
        """Return the target of a model at this server; an answer always comes as a stream."""
        provider = provider_of_openai_host(self._address.host or "")
        return self._targets.known((model,), lambda: Target(self._address, _ROUTE, provider, model, stream=True))


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """Both colours of each connection, from when it is made; older SDKs have none."""
    kinds: tuple[tuple[str, Any], ...] = (("", _wrap), ("Async", _awrap))
    return tuple(
        Patch(module, f"{colour}ResponsesConnection.__init__", partial(wrap, tracing), newer=True)
        for module in _MODULES
        for colour, wrap in kinds
    )


def _wrap(tracing: Tracing, wrapped: Any, connection: Any, args: Any, kwargs: Any) -> None:
    wrapped(*args, **kwargs)
    make = connection._make_ws

    def made(*args: Any, **kwargs: Any) -> Any:
        return _looked_at(make(*args, **kwargs), Wire, tracing)

    connection._connection = _looked_at(connection._connection, Wire, tracing)
    if make is not None:  # where it connects again
        connection._make_ws = made


def _awrap(tracing: Tracing, wrapped: Any, connection: Any, args: Any, kwargs: Any) -> None:
    wrapped(*args, **kwargs)
    make = connection._make_ws

    async def made(*args: Any, **kwargs: Any) -> Any:
        return _looked_at(await make(*args, **kwargs), AsyncWire, tracing)

    connection._connection = _looked_at(connection._connection, AsyncWire, tracing)
    if make is not None:
        connection._make_ws = made


def _looked_at(connection: Any, wire: Any, tracing: Tracing) -> Any:
    address = Address(None, None)
    with guarded("asking a connection for its address"):
        uri = connection.protocol.uri
        address = Address(uri.host, uri.port)
    return wire(connection, ResponsesSpeech(address), tracing)
