"""The boundary: the four methods of the SDK's API client, where a body is still JSON and its model stands in the path.

Retries are inside it, and so are automatic rounds of function calls outside of it: one round is one call.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

from spanrelay.codecs.gemini_shapes import model_name
from spanrelay.codecs.narrowing import as_mapping
from spanrelay.errors import MiddlewareError
from spanrelay.instrumentation.apis.gemini import PLAIN, Place, asks_within, body_of, place_of, wire_of
from spanrelay.instrumentation.patching import Patch
from spanrelay.instrumentation.targets import Address, Route, Target, Targets, aask, ask, carried_by, outgoing_of
from spanrelay.pipeline.driver import arun, arun_looked_at, run, run_looked_at
from spanrelay.pipeline.identity import Identity, identity_of
from spanrelay.pipeline.model import ModelCall, text_of
from spanrelay.tracing import Tracing
from spanrelay_google_genai.streams import MODULE, Passing, amade, aread, atapped, made, read, tapped

_PARAMETERS = ("http_method", "path", "request_dict", "http_options")


class Given(NamedTuple):
    """The arguments of a request."""

    method: Any
    path: Any
    body: Any
    options: Any


def _given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Given | None:
    """Return what a request is given; None where it is not what the SDK's own callers give."""
    if len(args) == len(_PARAMETERS) and not kwargs:  # as the SDK's own callers do
        given = Given(*args)
        return given if type(given.path) is str and type(given.body) is dict else None
    try:
        told = dict(zip(_PARAMETERS, args, strict=False)) | kwargs
        given = Given(*(told.pop(name, None) for name in _PARAMETERS))
    except TypeError:
        return None
    known = type(given.path) is str and type(given.body) is dict and not told and len(args) <= len(_PARAMETERS)
    return given if known else None


class Asked(NamedTuple):
    """A model call that is about to be made; `wire` is what the codec is to know of it."""

    given: Given
    place: Place
    wire: Mapping[str, Any]
    target: Target
    own_model: Any
    """What the body calls `model` though the path names one."""
    unreadable: str | None
    """Why nobody can say which model the URL names."""


class GeminiAPI:
    """Wraps what the API client sends with; `tracing` opens the spans."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._targets = Targets()

    def request(self, wrapped: Any, client: Any, args: Any, kwargs: Any) -> Any:
        """Make a request."""
        asked = self._asked(client, args, kwargs, streamed=False)
        if asked is None:
            return run_looked_at(wrapped, args, kwargs)
        opened, boundary = asked.target.open(self._tracing), Boundary(wrapped, client, asked)
        return ask(opened, partial(self._call, asked, opened, boundary), wrapped, args, kwargs)

    async def arequest(self, wrapped: Any, client: Any, args: Any, kwargs: Any) -> Any:
        """Make a request as `request` does."""
        asked = self._asked(client, args, kwargs, streamed=False)
        if asked is None:
            return await arun_looked_at(wrapped, args, kwargs)
        opened, boundary = asked.target.open(self._tracing), AsyncBoundary(wrapped, client, asked)
        return await aask(opened, partial(self._call, asked, opened, boundary), wrapped, args, kwargs)

    def stream(self, wrapped: Any, client: Any, args: Any, kwargs: Any) -> Any:
        """Make a request whose answer is streamed; the SDK's generator sends it with its first step."""
        asked = self._asked(client, args, kwargs, streamed=True)
        if asked is None:
            return wrapped(*args, **kwargs)
        opened = asked.target.open(self._tracing)
        chunks = run(self._call(asked, opened, StreamBoundary(wrapped, client, asked)))
        return read(chunks) if type(chunks) is Passing else chunks

    async def astream(self, wrapped: Any, client: Any, args: Any, kwargs: Any) -> Any:
        """Make a request whose answer is streamed; it is sent before the generator is there."""
        asked = self._asked(client, args, kwargs, streamed=True)
        if asked is None:
            return await wrapped(*args, **kwargs)
        opened = asked.target.open(self._tracing)
        chunks = await arun(self._call(asked, opened, AsyncStreamBoundary(wrapped, client, asked)))
        return aread(chunks) if type(chunks) is Passing else chunks

    def _asked(self, client: Any, args: Any, kwargs: Any, *, streamed: bool) -> Asked | None:
        """Return what is asked of a model, or None for a request that is no model call."""
        given = _given(args, kwargs)
        if given is None or str(given.method).lower() in ("get", "delete"):
            return None
        body = _sent_body(client, given)
        place = place_of(given.path, body)
        wire = wire_of(place, body, streamed=streamed)
        if place.route is PLAIN and wire.get("model") is None and not asks_within(body):
            return None
        own = None if place.model is None else body.get("model")
        address = _address(_option(client, given.options, "base_url") or "")
        target = self._target(client, place.route, wire, address)
        return Asked(given, place, wire, target, own, _doubt_about(client, given.options))

    def _target(self, client: Any, route: Route, wire: Mapping[str, Any], address: Address) -> Target:
        provider = "gcp.vertex_ai" if client.vertexai else "gcp.gemini"
        model, stream = text_of(wire.get("model")), bool(wire.get("stream"))
        key = (id(route), model, stream, provider, address)
        return self._targets.known(key, lambda: Target(address, route, provider, model, stream=stream))

    def _call(self, asked: Asked, opened: Any, boundary: Any) -> ModelCall:
        call: ModelCall = asked.target.call(asked.wire, boundary, self._tracing, opened)
        call.model_kept = asked.place.route is PLAIN
        own = asked.own_model
        if own is not None:
            call.named_beside = (model_name(own) if isinstance(own, str) else own,)
        if own is not None or asked.unreadable is not None:
            call.unreadable = asked.unreadable
            call.distrust()
        return call


def _option(client: Any, options: Any, name: str) -> Any:
    """Return an option of a request, which is the client's where the request has none of its own."""
    own = options.get(name) if isinstance(options, Mapping) else getattr(options, name, None)
    return getattr(client._http_options, name, None) if own is None else own


def _doubt_about(client: Any, options: Any) -> str | None:
    """Return why the path is not what is asked for, or None: what stands before it in the URL may hide it."""
    for name in ("base_url", "api_version"):
        if not {"?", "#"}.isdisjoint(str(_option(client, options, name) or "")):
            return f"its {name!r} has a '?' or a '#', behind which the model's path is not read"
    return None


def _sent_body(client: Any, given: Given) -> dict[str, Any]:
    """Return the JSON that the SDK will send: without what it keeps beside it, with `extra_body` in it."""
    body: dict[str, Any] = {key: value for key, value in given.body.items() if not key.startswith("_")}
    extra = _option(client, given.options, "extra_body")
    if extra:
        body = copy.deepcopy(body)
        sys.modules["google.genai._common"].recursive_dict_update(body, extra)
    return body


@lru_cache(maxsize=64)
def _address(url: str) -> Address:
    try:
        parts = urlsplit(url)
        return Address(parts.hostname, parts.port)
    except ValueError:  # the SDK refuses it
        return Address(None, None)


class Boundary:
    """The way of one call through the API client."""

    __slots__ = ("_asked", "_client", "_wrapped")

    def __init__(self, wrapped: Any, client: Any, asked: Asked) -> None:
        self._wrapped = wrapped
        self._client = client
        self._asked = asked

    def _arguments(self, call: ModelCall) -> Given:
        """Return what to give to the SDK: what the application gave, unless policy changed something."""
        wire, given = outgoing_of(call), self._asked.given
        path, options = given.path, given.options
        if wire is call.original:
            # A copy: the SDK takes out of it what is not for the wire, and branches are sent at the same time.
            body = dict(given.body)
        else:
            body = body_of(wire)
            path = self._rename(path, body, wire.get("model"), call.original.get("model"))
            if _option(self._client, options, "extra_body"):
                options = _with(options, extra_body={})  # which is in the body by now
        if carried := carried_by(call):
            options = _with(options, headers={**as_mapping(_headers(options)), "traceparent": carried})
        return Given(given.method, path, body, options)

    def _rename(self, path: str, body: dict[str, Any], model: Any, before: Any) -> str:
        """Return the path for another model, or put that into the body where it stands there."""
        place = self._asked.place
        changed = model != before
        resource = model
        if changed:
            if not isinstance(model, str) or not model:
                raise MiddlewareError(f"the model of a request is in its path and must be a string, not {model!r}")
            resource = sys.modules["google.genai._transformers"].t_model(self._client, model)
        if place.model is None:
            given = self._asked.given.body
            key = "model" if "model" in given or "baseModel" not in given else "baseModel"
            if model is not None:
                body[key] = resource if changed else given.get(key)
            return path
        if self._asked.own_model is not None:
            body["model"] = self._asked.own_model
        return f"{resource}:{path.rpartition(':')[2]}" if changed else path

    def identity(self) -> Identity:
        """Return who asks where: by a key, or for a project of Google's cloud."""
        client, (method, path, _, options) = self._client, self._asked.given
        at = [_option(client, options, name) for name in ("base_url", "api_version")]
        headers = {**as_mapping(client._http_options.headers), **as_mapping(_headers(options))}
        place = (*at, method, path, client.vertexai, client.location)
        return identity_of(place, headers, client.api_key, client.project)

    def send(self, call: ModelCall) -> Any:
        """Send what policy left of the request; the SDK retries inside."""
        return _kept(call, self._wrapped(*self._arguments(call)))

    def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """Return what the SDK's API client would have returned, had the provider answered `body`."""
        return made(body, {})


class AsyncBoundary(Boundary):
    """The async twin of `Boundary`."""

    __slots__ = ()

    async def send(self, call: ModelCall) -> Any:
        """Send what policy left of the request."""
        return _kept(call, await self._wrapped(*self._arguments(call)))

    async def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """Return the answer."""
        return made(body, {})


class StreamBoundary(Boundary):
    """The way of one streamed call."""

    __slots__ = ()

    def send(self, call: ModelCall) -> Any:
        """Send what policy left of the request, and wait for the first event, as the SDK does."""
        chunks = self._wrapped(*self._arguments(call))
        first = next(chunks, None)
        call.http_status = 200
        return tapped(call, chunks, [] if first is None else [first])

    def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """Return a stream of the answer."""
        return (made(event, {}) for event in call.stream_events(body))


class AsyncStreamBoundary(Boundary):
    """The async twin of `StreamBoundary`; its generator comes after the request has been sent."""

    __slots__ = ()

    async def send(self, call: ModelCall) -> Any:
        """Send what policy left of the request."""
        chunks = await self._wrapped(*self._arguments(call))
        call.http_status = 200
        return atapped(call, chunks)

    async def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """Return a stream of the answer."""
        return amade(call.stream_events(body))


def _headers(options: Any) -> Any:
    return options.get("headers") if isinstance(options, Mapping) else getattr(options, "headers", None)


def _with(options: Any, **fields: Any) -> Any:
    """Return the options of a request with other values of `fields`."""
    if options is None:
        return sys.modules["google.genai.types"].HttpOptions(**fields)
    return {**options, **fields} if isinstance(options, Mapping) else options.model_copy(update=fields)


def _kept(call: ModelCall, response: Any) -> Any:
    """Keep the bytes of an answer."""
    call.http_status = 200
    if call.observed and isinstance(response.body, str):
        call.body = response.body.encode("utf-8", "surrogatepass")
    return response


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """The four ways to send."""
    api = GeminiAPI(tracing)
    wrappers = {
        "request": api.request,
        "request_streamed": api.stream,
        "async_request": api.arequest,
        "async_request_streamed": api.astream,
    }
    return tuple(Patch(MODULE, f"BaseApiClient.{name}", cast("Any", wrapper)) for name, wrapper in wrappers.items())
