"""Responses over a WebSocket: every `response.create` is a model call, as a request over HTTP is.

So is what is added to a response while it runs, by `response.steer` and `response.inject`: it is asked with the
settings of that response, and what a steer says is answered by a response of its own.

A connection may carry several at a time, each in a lane of its own; in a lane they are answered one after the other.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from spanrelay._guard import guarded
from spanrelay.codecs.narrowing import as_list, as_mapping, as_str
from spanrelay.errors import MiddlewareError
from spanrelay.instrumentation.apis.openai import ROUTES
from spanrelay.instrumentation.patching import Patch
from spanrelay.instrumentation.targets import Address, Target, Targets
from spanrelay.instrumentation.websockets import Speech
from spanrelay.providers import provider_of_openai_host
from spanrelay.tracing import Tracing
from spanrelay_openai.sockets import looked_into

_MODULES = ("openai.resources.responses.responses", "openai.resources.beta.responses.responses")
_ROUTE = ROUTES["/responses"]
_ENVELOPE = ("type", "event_id", "stream_id")
"""Members of a client's event that are no part of the request."""
_ADDING = {"response.steer": "previous_response_id", "response.inject": "response_id"}
"""Events that add to a response, each with the member that names it."""
_ADDED = ("response.steer.pending", "response.inject.created")
"""Answers to them that have no response of their own: the input goes with a later request, or with the response."""
_NOT_ADDED = ("response.steer.failed", "response.inject.failed")
_LAST = ("response.completed", "response.failed", "response.incomplete", "error", *_ADDED, *_NOT_ADDED)
_OWN = ("input", "previous_response_id")
"""What an addition says of the request that it makes; all else is as of the response that it adds to."""
_MOST = 256
"""Responses of a connection that are remembered, for what may add to them."""


class _Response(NamedTuple):
    """A response that may be added to.

    Attributes:
        lane: Where it is answered.
        settings: What was asked for beside the input.
        calls: The calls of tools that it has made; their results may come before it is over.
    """

    lane: Any
    settings: Mapping[str, Any]
    calls: list[Any]


class ResponsesSpeech(Speech):
    """How the Responses API speaks to one server."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._targets = Targets()
        self._known: OrderedDict[Any, _Response] = OrderedDict()
        self._running: dict[Any, _Response] = {}
        """The response that a lane is at."""

    def asked(self, event: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return the request of a `response.create`, whose members stand in the event itself, or of an addition."""
        kind = _kind(event)
        if kind in _ADDING:
            target = {} if event.get(_ADDING[kind]) is None else {"previous_response_id": event[_ADDING[kind]]}
            return {**self._settings(event), "input": self._input(event), **target}
        return (
            {key: value for key, value in event.items() if key not in _ENVELOPE} if kind == "response.create" else None
        )

    def event(self, event: Mapping[str, Any], wire: Mapping[str, Any], was: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the event with another request.

        Raises:
            MiddlewareError: it adds to a response, and cannot say it.
        """
        kind = _kind(event)
        if kind not in _ADDING:
            return {**{key: event[key] for key in _ENVELOPE if key in event}, **wire}
        given, left, whole = event.get("input"), wire.get("input"), self._input(event)
        if whole is not given:
            before = len(whole) - len(as_list(given))
            left = left[before:] if isinstance(left, list) and left[:before] == whole[:before] else None
        settings = {key: value for key, value in wire.items() if key not in _OWN}
        if left is None or settings != self._settings(event):
            raise MiddlewareError(f"policy can change only the input of a {kind!r}, which adds to a response")
        return {**event, "input": left}

    def _input(self, event: Mapping[str, Any]) -> Any:
        """Return what an event adds, behind the calls that its results are of."""
        given = event.get("input")
        if not any(_kind(item).endswith(("_output", "_approval_response")) for item in as_list(given)):
            return given
        response = self._added_to(event)
        return given if response is None or not response.calls else [*response.calls, *as_list(given)]

    def _settings(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what a client's event asks for beside the input."""
        if _kind(event) in _ADDING:
            response = self._added_to(event)
            return {} if response is None else response.settings
        return {key: value for key, value in event.items() if key not in (*_ENVELOPE, *_OWN)}

    def _added_to(self, event: Mapping[str, Any]) -> _Response | None:
        target = event.get(_ADDING[_kind(event)])
        return self._known.get(target) if isinstance(target, str) else None

    def lane(self, event: Mapping[str, Any]) -> Any:
        """Return the lane of an event, if it has one; one that is no text is none."""
        if _kind(event) in _ADDING:
            response = self._added_to(event)
            return None if response is None else response.lane
        lane = event.get("stream_id")
        return lane if isinstance(lane, str) else None

    def answered(self, event: Mapping[str, Any], waiting: Sequence[Mapping[str, Any]]) -> int | None:
        """Return which request an event is of: they are answered in turn, but for additions without a response."""
        kind, lane = _kind(event), self.lane(event)
        if kind in _ADDED or kind in _NOT_ADDED:
            told = {**event, **as_mapping(event.get("steer"))}
            adding = kind.rpartition(".")[0]
            keys = (_ADDING[adding], *(("input",) if kind in _NOT_ADDED else ()))
            found = (number for number, each in enumerate(waiting) if _adds(each, adding, keys, told))
            return next(found, None)
        at = next((number for number, each in enumerate(waiting) if _kind(each) != "response.inject"), None)
        if at is None or kind == "response.steer.accepted":
            return None
        if kind == "response.created":
            self._running[lane] = _Response(lane, self._settings(waiting[at]), [])
            self._known[as_str(as_mapping(event.get("response")).get("id"))] = self._running[lane]
            if len(self._known) > _MOST:
                self._known.popitem(last=False)
        elif kind == "response.output_item.done" and lane in self._running:
            item = event.get("item")
            if _kind(item).endswith(("_call", "_approval_request")):
                self._running[lane].calls.append(item)
        return at

    def joins(self, event: Mapping[str, Any], first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
        """Whether a response answers two steers: those of one response are put together."""
        same = ("type", "previous_response_id")
        return _kind(event) == "response.created" and _adds(first, "response.steer", same, second)

    def told(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return an event as HTTP has it: what was not added has failed, and what was has no answer of its own."""
        kind = _kind(event)
        if kind in _NOT_ADDED:
            return {"type": "error", "error": event.get("error")}
        if kind in _ADDED:
            why = {"reason": event.get("reason", "injected")}
            response = {"object": "response", "status": "incomplete", "incomplete_details": why, "output": []}
            return {"type": "response.incomplete", "response": response}
        return event

    def is_last(self, event: Mapping[str, Any]) -> bool:
        """Whether a response is over."""
        return _kind(event) in _LAST

    def target(self, model: str | None) -> Target:
        """Return the target of a model at this server; an answer always comes as a stream."""
        provider = provider_of_openai_host(self._address.host or "")
        return self._targets.known((model,), lambda: Target(self._address, _ROUTE, provider, model, stream=True))


def _kind(event: Any) -> str:
    return as_str(as_mapping(event).get("type")) or ""


def _adds(event: Mapping[str, Any], adding: str, keys: Iterable[str], told: Mapping[str, Any]) -> bool:
    """Whether a client's event is an addition of a sort, and says the same as what is told under `keys`."""
    return _kind(event) == adding and all(event.get(key) == told.get(key) for key in keys)


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """Both colours of each connection, from when it is made; older SDKs have none."""
    return looked_into(_MODULES, "Responses", partial(_looked_at, tracing))


def _looked_at(tracing: Tracing, connection: Any, wire: Any) -> Any:
    address = Address(None, None)
    with guarded("asking a connection for its address"):
        uri = connection.protocol.uri
        address = Address(uri.host, uri.port)
    return wire(connection, ResponsesSpeech(address), tracing)
