"""Connections by WebSocket to sessions: judged by the model that they are opened for, once, where they name one.

What passes over the others is not seen. Where it may name any model, that is said once while policy is in force.
Those of the Responses API are looked into by `dialogues`, and those of the Realtime API by `realtime`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from inspect import signature
from typing import Any

from spanrelay._guard import losses
from spanrelay.codecs import plain
from spanrelay.errors import MiddlewareError
from spanrelay.instrumentation.patching import Patch
from spanrelay.instrumentation.requests import named_in_query
from spanrelay.instrumentation.sessions import ConnectionCall, LeftCall, Opening
from spanrelay.instrumentation.websockets import AsyncWire, Wire
from spanrelay.pipeline.call import call_in_flight
from spanrelay.pipeline.driver import run
from spanrelay.pipeline.middleware import is_covered
from spanrelay.pipeline.model import ModelCall, text_of
from spanrelay.scopes import current_scope
from spanrelay.tracing import Tracing

_log = logging.getLogger("spanrelay")
_told: set[str] = set()

_NAMING = (
    ("openai.resources.realtime.realtime", "Realtime"),
    ("openai.resources.beta.realtime.realtime", "Realtime"),
    ("openai.resources.realtime.translations.translations", "Translations"),
)
_SILENT = (("openai.resources.live.live", "Live"),)


class ConnectionBoundary:
    """The way of one connection through `connect`."""

    def __init__(self, wrapped: Any, kwargs: dict[str, Any]) -> None:
        self._wrapped = wrapped
        self._kwargs = kwargs

    def send(self, call: ModelCall) -> Any:
        """Make what the application opens the connection with."""
        wire = call.outgoing()
        if wire is call.original:
            return self._wrapped(**self._kwargs)
        if set(wire) != {"model"} or call.named_beside:
            raise MiddlewareError("policy can change only the argument `model` of a connection")
        return self._wrapped(**{**self._kwargs, "model": wire["model"]})

    def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """Refuse: nobody can answer in the place of a connection."""
        raise MiddlewareError("policy cannot answer instead of a connection; let it pass, or refuse it")


class Sockets:
    """The wrappers around `connect`, which is the same function for both colours."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def connect(self, wrapped: Any, resource: Any, args: Any, kwargs: Any) -> Any:
        """Judge the model of a connection."""
        if not is_covered(current_scope()):
            return wrapped(*args, **kwargs)
        try:
            kwargs = signature(wrapped).bind(*args, **kwargs).arguments
        except TypeError:  # the SDK raises it again
            return wrapped(*args, **kwargs)
        model, client = text_of(kwargs.get("model")), getattr(resource, "_client", None)
        queries = getattr(client, "default_query", None), kwargs.get("extra_query")
        named = tuple(name for query in queries for name in named_in_query(query))
        looked_at = type(resource).__name__.endswith("Realtime")
        if model is None and not named:
            if not looked_at:
                _tell(resource)
            return wrapped(**kwargs)
        wire = {} if model is None else {"model": model}
        boundary: Any = ConnectionBoundary(wrapped, kwargs)
        kind = LeftCall if looked_at else ConnectionCall  # of what is looked at, the responses are counted
        call = kind(plain, wire, boundary, self._tracing, provider="openai", opened=Opening())
        call.named_beside = named
        return run(call)

    def connect_to_any(self, wrapped: Any, resource: Any, args: Any, kwargs: Any) -> Any:
        """Say that the models of a connection are not judged, unless a framework's call above was."""
        if is_covered(current_scope()) and not isinstance(call_in_flight(), ModelCall):
            _tell(resource)
        return wrapped(*args, **kwargs)


def _tell(resource: Any) -> None:
    kind = type(resource).__name__.removeprefix("Async")
    if kind not in _told:
        _told.add(kind)
        losses.add("kinds of connection that policy does not see into")
        _log.warning(
            "%s.connect opens a WebSocket whose messages may name any model, and policy does not see them; "
            "ask over HTTP where policy must hold",
            kind.lower(),
        )


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """Both colours of each `connect`; older SDKs have fewer."""
    sockets = Sockets(tracing)
    places = [(*place, sockets.connect) for place in _NAMING] + [(*place, sockets.connect_to_any) for place in _SILENT]
    return tuple(
        Patch(module, f"{colour}{owner}.connect", wrapper, newer=True)
        for module, owner, wrapper in places
        for colour in ("", "Async")
    )


def looked_into(modules: Iterable[str], owner: str, look: Callable[[Any, Any], Any]) -> tuple[Patch, ...]:
    """Return the patches by which `look` is given each connection of an SDK's class, and what stands around it."""
    ways: tuple[tuple[str, Any], ...] = (("", _wrap), ("Async", _awrap))
    return tuple(
        Patch(module, f"{colour}{owner}Connection.__init__", partial(wrap, look), newer=True)
        for module in modules
        for colour, wrap in ways
    )


def _wrap(look: Callable[[Any, Any], Any], wrapped: Any, connection: Any, args: Any, kwargs: Any) -> None:
    wrapped(*args, **kwargs)
    make: Any = getattr(connection, "_make_ws", None)

    def made(*args: Any, **kwargs: Any) -> Any:
        return look(make(*args, **kwargs), Wire)

    connection._connection = look(connection._connection, Wire)
    if make is not None:  # where it connects again
        connection._make_ws = made


def _awrap(look: Callable[[Any, Any], Any], wrapped: Any, connection: Any, args: Any, kwargs: Any) -> None:
    wrapped(*args, **kwargs)
    make: Any = getattr(connection, "_make_ws", None)

    async def made(*args: Any, **kwargs: Any) -> Any:
        return look(await make(*args, **kwargs), AsyncWire)

    connection._connection = look(connection._connection, AsyncWire)
    if make is not None:
        connection._make_ws = made
