"""One boundary for every SDK that Stainless generates: a method of the base client, where the body is still JSON.

What is recorded is what went over the wire: bytes of the HTTP request and response, read by nobody until later.
Raw responses, stream helpers, `parse` and platform subclasses all run through here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from spanrelay._guard import swallow
from spanrelay.codecs import plain
from spanrelay.errors import MiddlewareError
from spanrelay.instrumentation import batches
from spanrelay.instrumentation.patching import Patch
from spanrelay.instrumentation.requests import (
    Body,
    Place,
    body_of,
    files_with,
    is_absent,
    is_writable,
    named_in_query,
    place_of,
)
from spanrelay.instrumentation.responses import http_module, is_of_http, is_readable, received
from spanrelay.instrumentation.targets import PLAIN, Route, Target, asks_within, outgoing_of, written
from spanrelay.pipeline.call import CALL_KEY, Opened
from spanrelay.pipeline.driver import arun, arun_looked_at, arun_unseen, is_unseen, run, run_looked_at, run_unseen
from spanrelay.pipeline.identity import Identity, identity_of
from spanrelay.pipeline.middleware import is_covered
from spanrelay.pipeline.model import ModelCall, open_for, text_of
from spanrelay.pipeline.stream import AsyncTap, SyncTap
from spanrelay.propagation import trace_headers
from spanrelay.scopes import current_scope
from spanrelay.tracing import Tracing, current_context, recording

_PLAINLY = Body({})
"""What a body that is a dict says beside its JSON: nothing."""
Asked: TypeAlias = tuple[Target, Mapping[str, Any], Body, tuple[str, ...]]
"""A model call that is about to be made: where it goes, its JSON, what its body says beside, models in its query."""


class StainlessAPI:
    """The routes of one SDK, and who its clients talk to.

    Args:
        routes: By the end of the path that a request goes to, from its first slash.
        provider: `(client, host) -> gen_ai.provider.name`.
        tracing: Opens the spans.
        deployment: `(client, url, body) ->` the model that the client will put into the URL, or None.
        propagates: `(client, options) ->` whether the SDK itself would tell the server of the call's span.
        reads_aws: `client ->` whether it reads streams as AWS frames them.
    """

    def __init__(
        self,
        routes: Mapping[str, Route],
        provider: Callable[[Any, str], str],
        tracing: Tracing,
        deployment: Callable[[Any, str, Any], str | None] | None = None,
        propagates: Callable[[Any, Any], bool] | None = None,
        reads_aws: Callable[[Any], bool] | None = None,
    ) -> None:
        self._routes = dict(routes)
        self._provider = provider
        self._tracing = tracing
        self._deployment = deployment
        self._propagates = propagates
        self._reads_aws = reads_aws
        self._targets: dict[tuple[int, str, str | None, bool, str], Target] = {}

    def patches(self, module: str, method: str = "request") -> tuple[Patch, ...]:
        """Return the patch table for the SDK's base client module.

        Args:
            module: The module of the base clients.
            method: Their method that is given a request whose body is plain JSON, and sends it again where need be.
        """
        return (
            Patch(module, f"SyncAPIClient.{method}", self._request),
            Patch(module, f"AsyncAPIClient.{method}", self._arequest),
            Patch(module, "SyncAPIClient._process_response", self._process_response),
            Patch(module, "AsyncAPIClient._process_response", self._process_response),
        )

    def stream_patches(self, module: str) -> tuple[Patch, ...]:
        """Return those for the module of the SDK's streams, where an error in a stream does not close it."""
        return (
            Patch(module, "Stream.__stream__", _read, required=False),
            Patch(module, "AsyncStream.__stream__", _aread, required=False),
        )

    def _request(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        asked = self._asked(instance, _options_in(args, kwargs))
        if asked is None:
            return run_looked_at(wrapped, args, kwargs)
        opened = open_for(self._tracing, asked[0].start, asked[0].stands_for)
        propagates = self._propagates
        tells = recording.propagate or (propagates is not None and propagates(instance, _options_in(args, kwargs)))
        if is_unseen(opened) and not tells:
            return run_unseen(opened, wrapped, args, kwargs)
        return run(self._call(asked, opened, wrapped, instance, args, kwargs, tells=tells))

    async def _arequest(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        asked = self._asked(instance, _options_in(args, kwargs))
        if asked is None:
            return await arun_looked_at(wrapped, args, kwargs)
        opened = open_for(self._tracing, asked[0].start, asked[0].stands_for)
        propagates = self._propagates
        tells = recording.propagate or (propagates is not None and propagates(instance, _options_in(args, kwargs)))
        if is_unseen(opened) and not tells:
            return await arun_unseen(opened, wrapped, args, kwargs)
        return await arun(self._call(asked, opened, wrapped, instance, args, kwargs, tells=tells))

    def _process_response(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        call: Any = current_context().get(CALL_KEY)
        if call is not None and call.observed and isinstance(call.boundary, StainlessBoundary):
            try:
                shown = call.boundary.observe(call, kwargs["response"], kwargs["options"])
                kwargs = kwargs if shown is kwargs["response"] else {**kwargs, "response": shown}
            except Exception as error:
                if call.rewriting is not None:
                    raise  # stream intercepts are policy: where they cannot stand in the stream, the call is refused
                swallow("reading a response", error)
        return wrapped(*args, **kwargs)

    def _asked(self, client: Any, options: Any) -> Asked | None:
        """Return what is asked of a model, or None for a request that is no model call."""
        url = getattr(options, "url", None)  # of what is no options at all, which the SDK refuses
        if type(url) is not str:
            url = text_of(url)
        if url is None:
            return None
        method, wire = options.method, options.json_data
        if type(method) is not str:
            method = text_of(method)
        if method != "post" and not _is_asking(options):
            return None
        body = _PLAINLY
        # An object may refuse to be true or false, and is no plain word on whether a stream is asked for.
        stream = wire.get("stream") if type(wire) is dict else wire
        is_told = stream is None or stream is True or stream is False
        if type(wire) is not dict or not is_told or options.extra_json is not None or options.files is not None:
            body = body_of(options)
            wire = body.wire
            stream = wire.get("stream")
        model = wire.get("model")
        if type(model) is not str:
            model = text_of(model)
        base = client._base_url
        key = (id(base), url, model, bool(stream), recording.dialect)
        target = self._targets.get(key)
        if target is None or target.url is not base:
            target = self._made(client, base, url, model, stream=bool(stream))
            if len(self._targets) > 1000:
                self._targets.clear()
            self._targets[key] = target
        place = target.place
        named = place.named
        if queries := client.default_query:  # not kept with the place: a copy of a client has the same URL
            named += named_in_query(queries)
        if options.params != {}:  # an object of the application's may refuse to be true or false
            named += named_in_query(options.params)
        if target.route is PLAIN and batches.is_batch(wire):
            body = _of_batch(body._replace(wire=wire), options, place)
            named += body.beside
        names_one = model is not None or place.deployment or named or body.names_model or body.offers
        if target.route is PLAIN and not (names_one or asks_within(wire)):
            return None
        return target, wire, body, named

    def _made(self, client: Any, base: Any, url: str, model: str | None, *, stream: bool) -> Target:
        place, find = place_of(client, url), self._deployment
        if find is not None and find(client, url, {"model": "any"}) is not None:
            place = place._replace(follows=True)
        found = (route for suffix, route in self._routes.items() if place.path.endswith(suffix))
        route, provider = next(found, PLAIN), self._provider(client, base.host)
        if route.dialect is not None:
            route = replace(route, codec=route.dialect(provider, base.host, place.deployment or model))
        return Target(base, route, provider, model, stream=stream, place=place)

    def _call(
        self,
        asked: Asked,
        opened: Opened,
        wrapped: Any,
        client: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        tells: bool,
    ) -> ModelCall:
        options = _options_in(args, kwargs)
        target, wire, body, named = asked
        route = target.route
        boundary = StainlessBoundary(wrapped, client, args, kwargs, route, body.parts, tells=tells)
        boundary.reads_aws = self._reads_aws is not None and self._reads_aws(client)
        call = target.call(wire, boundary, self._tracing, opened)
        call.model_kept = route is PLAIN
        call.offered_beside = body.offers
        if named or body.unreadable or target.place.deployment or target.place.follows:
            call.named_beside, call.unreadable = named, body.unreadable
            self._doubt(call, target.place, client, options)
        return call

    def _doubt(self, call: ModelCall, place: Place, client: Any, options: Any) -> None:
        """Tell policy which model the URL names, and let it judge what the request says beside its body."""
        deployment, find = place.deployment, self._deployment
        if place.follows and find is not None:
            # The client makes the URL from the body, and not from what `extra_body` puts over it.
            call.url_model = lambda call: find(client, options.url, _own_json(call, options))
        elif deployment is not None:
            call.url_model = lambda _: deployment
        call.distrust()


def _of_batch(body: Body, options: Any, place: Place) -> Body:
    """Return what an upload for a batch says, with its file: hours later nobody sees what a batch asks for."""
    if not is_covered(current_scope()):
        return body
    if options.files:
        files = options.files
        return batches.with_files(body, files.values() if isinstance(files, Mapping) else (file for _, file in files))
    return batches.in_parts(body, place.path)


def _read(wrapped: Any, stream: Any, args: Any, kwargs: Any) -> Iterator[Any]:
    """Read a stream, and end its call where the SDK raises of what it has read."""
    try:
        yield from wrapped(*args, **kwargs)
    except Exception as error:
        tap = getattr(stream.response, "stream", None)
        if isinstance(tap, SyncTap):
            tap.read_failed(error)
        raise


def _aread(wrapped: Any, stream: Any, args: Any, kwargs: Any) -> AsyncIterator[Any]:
    return _Reading(wrapped(*args, **kwargs), stream)


class _Reading:
    """As `_read`. No generator: one around another would have to be closed for the other to be."""

    __slots__ = ("_events", "_stream")

    def __init__(self, events: Any, stream: Any) -> None:
        self._events = events
        self._stream = stream

    def __aiter__(self) -> _Reading:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._events.__anext__()
        except StopAsyncIteration:
            raise
        except Exception as error:
            tap = getattr(self._stream.response, "stream", None)
            if isinstance(tap, AsyncTap):
                await tap.read_failed(error)
            raise


def _is_asking(options: Any) -> bool:
    """Whether a request may ask a model: a POST, and whatever else has a body."""
    if isinstance(options.method, str) and options.method.lower() == "post":
        return True
    parts = ("json_data", "extra_json", "content", "files")
    return any(getattr(options, part, None) is not None for part in parts)


def _own_json(call: ModelCall, options: Any) -> Any:
    outgoing = call.outgoing()
    return options.json_data if outgoing is call.original else outgoing


_ARGUMENTS = ("cast_to", "options")
"""What `request` takes by place or by name; whatever else it is given is passed on as it is."""


def _options_in(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the options among the arguments of `request`; None of those that it refuses for want of one."""
    if len(args) > 1:
        return args[1]
    return kwargs.get("options") if args or "cast_to" in kwargs else None


_ASKED_ANEW = ("_api_key_provider", "_azure_ad_token_provider", "_provider", "_workload_identity_auth", "credentials")
"""What clients have that ask for a credential when they send."""
_SECRETS = ("api_key", "auth_token", "_azure_ad_token", "aws_access_key", "aws_secret_key", "access_token")


class StainlessBoundary:
    """The way of one call through the client's method."""

    __slots__ = (
        "_answering",
        "_cast_to",
        "_client",
        "_kwargs",
        "_more",
        "_options",
        "_parts",
        "_route",
        "_sending",
        "_tells",
        "_wrapped",
        "reads_aws",
    )

    def __init__(
        self,
        wrapped: Any,
        client: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        route: Route,
        parts: frozenset[str],
        *,
        tells: bool = False,
    ) -> None:
        self._wrapped = wrapped
        self._client = client
        if named := _ARGUMENTS[len(args) :]:
            args += tuple(kwargs[name] for name in named)
            kwargs = {name: value for name, value in kwargs.items() if name not in named}
        self._cast_to, self._options, *self._more = args
        self._kwargs = kwargs
        self._route = route
        self._parts = parts
        self._tells = tells
        self.reads_aws = False
        self._sending: Any = None
        self._answering = False

    def send(self, call: ModelCall) -> Any:
        """Send what policy left of the request; the SDK retries inside."""
        options, edited = self._options, call.edited
        if call.edited and not call.only_marked and not is_writable(call.original):
            self.check_sendable()  # a copy may have a form for what the SDK has none for
        wire = outgoing_of(call) if edited else call.original
        if wire is not call.original:
            given: dict[str, Any] = (
                {} if getattr(options, "content", None) is None else {"content": None}
            )  # older SDKs have none
            if self._parts:
                given["files"] = files_with(options.files, {name: wire.get(name) for name in self._parts})
                wire = {name: value for name, value in wire.items() if name not in self._parts}
            options = options.model_copy(update={"json_data": wire, "extra_json": None, **given})
        if call.carried is not None:
            options = _with_headers(options, call.carried)
        if self._tells:
            options = _with_traceparent(options, call)
        self._sending = options
        return self._wrapped(self._cast_to, options, *self._more, **self._kwargs)

    def check_sendable(self) -> None:
        """Raise what the SDK raises where it cannot make a request of what the application asked for."""
        self._expected()
        given = self._options.headers
        given = {} if is_absent(given) else given
        # Where keys are asked for when a request is sent, there is none yet.
        headers = {"Authorization": "none", **given} if isinstance(given, Mapping) else given
        self._client._build_request(self._options.model_copy(update={"headers": headers}), retries_taken=0)

    def identity(self) -> Identity | None:
        """Return who asks where; None where the client asks anew for a credential with each request."""
        client, options = self._client, self._options
        if any(getattr(client, name, None) is not None for name in _ASKED_ANEW):
            return None
        given = options.headers if isinstance(options.headers, Mapping) else {}
        headers = {**client.auth_headers, **client.default_headers, **given}
        query = {**client.default_query, **(options.params if isinstance(options.params, Mapping) else {})}
        secrets = [getattr(client, name, None) for name in _SECRETS]
        return identity_of((str(client.base_url), options.method, options.url, query), headers, *secrets)

    def _expected(self) -> Any:
        """Return what the SDK makes of an answer."""
        override = getattr(self._client, "_maybe_override_cast_to", None)
        return self._cast_to if override is None else override(self._cast_to, self._options.model_copy())

    def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """Let the SDK read `body` as if the provider had sent it: parsed, raw or streamed."""
        self._answering = True
        return self._client._process_response(
            cast_to=self._expected(),
            options=self._options,
            response=self._made(call, body),
            stream=self._kwargs.get("stream", False),
            stream_cls=self._kwargs.get("stream_cls"),
            retries_taken=0,
        )

    def _made(self, call: ModelCall, body: dict[str, Any]) -> Any:
        # Some clients change the options when they build a request.
        request = self._client._build_request(self._options.model_copy(), retries_taken=0)
        route = self._route
        full = {**route.filling, **body}
        content, kind = written(call, full, ends_with_done=route.ends_with_done, as_aws=self.reads_aws)
        response = http_module(type(request)).Response
        return response(200, headers={"content-type": kind}, content=content, request=request)

    def observe(self, call: ModelCall, response: Any, options: Any) -> Any:
        """Keep the bytes of a response, or tap its stream, and return what the SDK is to get of it.

        Others' requests inside ours are left alone.
        """
        if self._answering or not _is_same_request(options, self._sending):
            return response
        if not is_of_http(type(response)):
            if call.rewriting is not None:
                raise MiddlewareError(f"stream intercepts cannot work on an answer of type {type(response).__name__!r}")
            return response  # a test's stand-in, which has everything and says nothing
        call.http_status = response.status_code
        # Of a stream the SDK reads events, whatever the provider calls it.
        streams = call.streams or bool(self._kwargs.get("stream"))
        if self._route.codec is plain and not streams and not is_readable(response):
            return response  # sound, images, films: nobody reads them, and they are large
        try:  # noqa: SIM105 - `suppress` costs three calls, for every answer
            call.sent = response.request.content
        except RuntimeError:
            pass  # a body that was streamed has not been kept, and `content` refuses
        return received(call, response, self._wrapped.__module__, streams=streams)


def _is_same_request(options: Any, sending: Any) -> bool:
    """Whether options are those that were given to the SDK, of which it makes copies.

    Clients of clouds copy the body too; then the key by which the SDK sends a request again is the same.
    """
    key = getattr(sending, "idempotency_key", None)
    if key is not None and options.idempotency_key == key:
        return True
    if sending.json_data is not None:
        return options.json_data is sending.json_data
    parts = ("json_data", "extra_json", "content")
    if any(getattr(options, part, None) is not getattr(sending, part, None) for part in parts):
        return False
    return any(getattr(sending, part, None) is not None for part in parts) or options.url == sending.url


def _with_headers(options: Any, carried: Mapping[str, str]) -> Any:
    """Return options with more headers, where the application has not set them."""
    given = options.headers if isinstance(options.headers, Mapping) else {}
    return options.model_copy(update={"headers": {**carried, **given}})


def _with_traceparent(options: Any, call: ModelCall) -> Any:
    """Return options that tell the provider's server which span its work belongs to, and nothing else."""
    given = options.headers if isinstance(options.headers, Mapping) else {}
    carried = trace_headers(call.context).get("traceparent")
    return options.model_copy(update={"headers": {**given, "traceparent": carried}}) if carried else options
