"""The boundary of every call of a model: the client's `_make_api_call`, with the events that botocore has around it.

What policy left alone is sent as the very parameters that the application gave. Other services are never looked at.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any, cast
from urllib.parse import urlsplit

from opentelemetry.context import attach, detach

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay.codecs import Codec, aws_events
from spanrelay.errors import MiddlewareError
from spanrelay.instrumentation.requests import Body
from spanrelay.instrumentation.targets import Address, Route, Target, Targets, aask, ask, carried_by, outgoing_of
from spanrelay.pipeline.call import CALL_KEY, Opened
from spanrelay.pipeline.identity import Identity, identity_of
from spanrelay.pipeline.middleware import is_covered
from spanrelay.pipeline.model import ModelCall, text_of
from spanrelay.tracing import Tracing, current_context, describe_error
from spanrelay_bedrock.answers import async_made, made
from spanrelay_bedrock.counts import KEY, with_counts
from spanrelay_bedrock.operations import (
    KEEPING,
    OPERATIONS,
    Operation,
    as_given,
    as_json,
    codec_of,
    doubt_about,
    models_in,
    read_body,
    with_head,
)
from spanrelay_bedrock.streams import Reading, aread_whole, read_whole, tap_aio_events, tap_events

PROVIDER = "aws.bedrock"


class Asked:
    """What is asked of a model: the operation, its JSON as policy sees it, and where it goes."""

    def __init__(self, client: Any, name: str, operation: Operation, params: Any) -> None:
        self.client, self.name, self.operation, self.params = client, name, operation, params
        self.given: Mapping[str, Any] = cast("Mapping[str, Any]", params) if isinstance(params, Mapping) else {}
        named = list(models_in(self.given)) if operation.codec is not None and not operation.answers else []
        self.named = self.given["modelId"] if "modelId" in self.given else next(iter(named), None)
        body = read_body(self.given.get("body")) if operation.body else Body({})
        beside = (*named[1:], *((body.wire.get("model"),) if self.named is not None else ()))
        self.beside = tuple(text for each in beside if (text := text_of(each)) is not None)
        self.unreadable = body.unreadable or doubt_about(body.wire)
        self.codec: Codec = operation.codec or codec_of(body.wire, text_of(self.named))
        self.body = body.wire
        url = urlsplit(client.meta.endpoint_url)
        self.address = Address(url.hostname, url.port or {"http": 80, "https": 443}.get(url.scheme))

    @property
    def head(self) -> dict[str, Any]:
        """What stands before the body: the model, which the wire has in its path, and whether a stream is asked for."""
        model: dict[str, Any] = {} if self.named is None else {"model": self.named}
        return {**model, "stream": True} if self.operation.stream else model

    def wire(self) -> dict[str, Any]:
        """Return the JSON that policy judges; nothing of it is the application's but what is no JSON."""
        if self.operation.body:
            rest: Mapping[str, Any] = self.body
        else:
            shape = self.client.meta.service_model.operation_model(self.name).input_shape
            rest = as_json(shape, self.given)
        head = self.head
        return {**head, **{key: value for key, value in rest.items() if key not in head and key != "modelId"}}

    def sent(self, wire: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters that say `wire`.

        Raises:
            MiddlewareError: they cannot.
        """
        rest = {key: value for key, value in wire.items() if key not in self.head}
        model = {key: wire.get("model") for key in ("modelId",) if key in self.given}
        if self.operation.body:
            hidden = {key: self.body[key] for key in self.head if key in self.body}
            return {**self.given, **model, "body": _json.dumps({**rest, **hidden})}
        if not model and wire.get("model") != self.named:
            raise MiddlewareError(f"policy cannot change the model of {self.name!r}; let it pass, or refuse it")
        shape = self.client.meta.service_model.operation_model(self.name).input_shape
        return {**model, **as_given(shape, rest)}


class Boundary:
    """The way of one call through the client."""

    def __init__(self, wrapped: Any, asked: Asked, covered: bool) -> None:
        self.asked = asked
        self._wrapped = wrapped
        self._covered = covered
        self.made: Callable[[Any], Any] | None = None
        """Makes the HTTP response that policy answers with."""

    def send(self, call: ModelCall) -> Any:
        """Send what policy left of the request; the client retries inside."""
        native = self._wrapped(self.asked.name, self._params(call))
        if not call.observed or not isinstance(native, dict):
            return native
        answer = cast("dict[str, Any]", native)
        self._note(call, answer)
        operation = self.asked.operation
        if operation.stream:
            tap_events(call, answer[operation.stream], self._reading())
        elif operation.body:
            self._keep(call, answer, *read_whole(answer["body"]))
        return answer

    def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """Let the client read `body` as if the provider had sent it."""
        self.made = lambda request: made(request.url, self._kind(), self._content(call, body))
        token = attach(call.context)
        try:
            return self._wrapped(self.asked.name, self.asked.params)
        finally:
            detach(token)

    def identity(self) -> Identity:
        """Return who asks where, and what is asked for beside the body."""
        asked, signer = self.asked, self.asked.client._request_signer
        beside = {key: value for key, value in asked.given.items() if key != "body"} if asked.operation.body else {}
        # Not by their property: credentials that end would be asked for anew here.
        held, token = _members(signer._credentials), _members(getattr(signer, "_auth_token", None))
        secrets = (held.get("access_key"), held.get("_access_key"), token.get("token"))
        return identity_of((asked.client.meta.endpoint_url, asked.name, beside), {}, *secrets)

    def check_sendable(self) -> None:
        """Raise what the client raises of parameters that are none of the operation's."""
        client = self.asked.client
        client._serializer.serialize_to_request(
            self.asked.params, client.meta.service_model.operation_model(self.asked.name)
        )

    def before_send(self, call: ModelCall, request: Any) -> Any:
        """Look at the signed request: keep its body, say whose work it is; return a response to send nothing."""
        if self.made is not None:
            return self.made(request)
        with guarded("reading a request"):
            if call.observed and isinstance(request.body, (bytes, bytearray)):
                head = (
                    self.asked.head
                    if call.outgoing() is call.original
                    else {**self.asked.head, "model": call.outgoing().get("model")}
                )
                call.sent = with_head(head, bytes(request.body))
            # Behind the signature, which does not cover it: what stands between may change it.
            carried = carried_by(call)
            if carried:
                request.headers["traceparent"] = carried
        return None

    def _params(self, call: ModelCall) -> Any:
        wire = outgoing_of(call)
        return self.asked.params if wire is call.original else self.asked.sent(wire)

    def _note(self, call: ModelCall, answer: dict[str, Any]) -> None:
        call.http_status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")

    def _keep(self, call: ModelCall, answer: dict[str, Any], data: bytes, failure: Exception | None) -> None:
        """Keep the body of an answer.

        Raises:
            Exception: it could not be read, and policy that is in force would not see what the application does.
        """
        call.body = with_counts(data, answer["ResponseMetadata"].get("HTTPHeaders", {}))
        if failure is not None:
            if self._covered:
                raise failure
            call.record.error, call.record.incomplete = describe_error(failure), "error"

    def _reading(self) -> Reading:
        asked = self.asked
        shape = asked.client.meta.service_model.operation_model(asked.name).output_shape
        return Reading(shape.members[asked.operation.stream], chunks=asked.operation.body)

    def _kind(self) -> str:
        return aws_events.CONTENT_TYPE if self.asked.operation.stream else "application/json"

    def _content(self, call: ModelCall, body: dict[str, Any]) -> bytes:
        events = call.stream_events(body)  # an answer that is given again has AWS's counts where it had them
        body.pop(KEY, None)
        if not self.asked.operation.stream:
            return _json.dumps(body)
        if self.asked.operation.body:
            return b"".join(map(aws_events.chunk, events))
        return b"".join(aws_events.frame(kind, told) for event in events for kind, told in event.items())


def _members(value: Any) -> Mapping[str, Any]:
    return getattr(value, "__dict__", {})


class AsyncBoundary(Boundary):
    """The way of one call through a client of aiobotocore's."""

    async def send(self, call: ModelCall) -> Any:
        """Send what policy left of the request."""
        native = await self._wrapped(self.asked.name, self._params(call))
        if not call.observed or not isinstance(native, dict):
            return native
        answer = cast("dict[str, Any]", native)
        self._note(call, answer)
        operation = self.asked.operation
        if operation.stream:
            tap_aio_events(call, answer[operation.stream], self._reading())
        elif operation.body:
            self._keep(call, answer, *await aread_whole(answer["body"]))
        return answer

    async def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """Let the client read `body` as if the provider had sent it."""
        self.made = lambda request: async_made(request.url, self._kind(), self._content(call, body))
        token = attach(call.context)
        try:
            return await self._wrapped(self.asked.name, self.asked.params)
        finally:
            detach(token)


class BedrockAPI:
    """The wrappers around the two colours of `_make_api_call`."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._targets = Targets()

    def call(self, wrapped: Any, client: Any, args: Any, kwargs: Any) -> Any:
        """Make a call of any service."""
        operations = OPERATIONS.get(client.meta.service_model.service_name)
        asked = None if operations is None else _asked(operations, client, args, kwargs)
        if asked is None:
            return wrapped(*args, **kwargs)
        target = self._target(asked)
        opened = target.open(self._tracing)
        return ask(opened, partial(self._made, asked, target, opened, wrapped, Boundary), wrapped, args, kwargs)

    async def acall(self, wrapped: Any, client: Any, args: Any, kwargs: Any) -> Any:
        """Make a call of any service with aiobotocore."""
        operations = OPERATIONS.get(client.meta.service_model.service_name)
        asked = None if operations is None else _asked(operations, client, args, kwargs)
        if asked is None:
            return await wrapped(*args, **kwargs)
        target = self._target(asked)
        opened = target.open(self._tracing)
        made = partial(self._made, asked, target, opened, wrapped, AsyncBoundary)
        return await aask(opened, made, wrapped, args, kwargs)

    def _target(self, asked: Asked) -> Target:
        model, stream, answers = text_of(asked.named), bool(asked.operation.stream), asked.operation.answers

        def make() -> Target:
            return Target(asked.address, Route(asked.codec, answers=answers), PROVIDER, model, stream=stream)

        return self._targets.known((asked.address, id(asked.codec), answers, model, stream), make)

    def _made(self, asked: Asked, target: Target, opened: Opened, wrapped: Any, kind: type[Boundary]) -> ModelCall:
        _listen(asked.client)
        covered = is_covered(opened.scope)
        boundary: Any = kind(wrapped, asked, covered)
        wire = asked.wire() if covered or asked.operation.body else {**asked.head, **asked.given}
        call: ModelCall = target.call(wire, boundary, self._tracing, opened)
        call.model_kept = not asked.operation.answers
        call.named_beside, call.unreadable = asked.beside, asked.unreadable
        if asked.beside or asked.unreadable:
            call.distrust()
        return call


def _asked(operations: Mapping[str, Operation], client: Any, args: Any, kwargs: Any) -> Asked | None:
    """Return what a call of Bedrock asks of a model, or None."""
    name, params = (*args, kwargs.get("operation_name"), kwargs.get("api_params"))[:2] if len(args) < 2 else args[:2]
    operation = operations.get(name)
    if operation is None:
        if client.meta.service_model.service_name in KEEPING or not any(True for _ in models_in(params)):
            return None
        operation = Operation()
    return Asked(client, name, operation, params)


# --- botocore's events -------------------------------------------------------------------------------------

_listening: weakref.WeakSet[Any] = weakref.WeakSet()


def _listen(client: Any) -> None:
    """Have the client say when it sends, and what comes back; once."""
    if client in _listening:
        return
    service = client.meta.service_model.service_id.hyphenize()
    aio = getattr(import_module("aiobotocore.client"), "AioBaseClient", ()) if _is_aio(client) else ()
    events = client.meta.events
    events.register_first(f"before-send.{service}", _before_send, unique_id="spanrelay-before-send")
    after = _after_acall if aio and isinstance(client, aio) else _after_call
    events.register(f"after-call.{service}", after, unique_id="spanrelay-after-call")
    _listening.add(client)


def _is_aio(client: Any) -> bool:
    return any(kind.__module__.partition(".")[0] == "aiobotocore" for kind in type(client).__mro__)


def _in_flight() -> tuple[ModelCall, Boundary] | None:
    call: Any = current_context().get(CALL_KEY)
    boundary = getattr(call, "boundary", None)
    return (call, boundary) if isinstance(boundary, Boundary) else None


def _before_send(request: Any, **_: Any) -> Any:
    found = _in_flight()
    return None if found is None else found[1].before_send(found[0], request)


def _after_call(http_response: Any, **_: Any) -> None:
    found = _reads_body(http_response)
    if found is not None:
        with guarded("reading a response"):
            found.body = http_response.content


async def _after_acall(http_response: Any, **_: Any) -> None:
    found = _reads_body(http_response)
    if found is not None:
        with guarded("reading a response"):
            found.body = await http_response.content


def _reads_body(http_response: Any) -> ModelCall | None:
    """Return the call whose answer has come whole, where somebody wants to know it."""
    found = _in_flight()
    if found is None:
        return None
    call, boundary = found
    operation = boundary.asked.operation
    whole = not (operation.stream or operation.body) and boundary.made is None
    return call if whole and call.observed and http_response.status_code < 300 else None
