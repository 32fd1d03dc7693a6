"""Requests to models: one LLM span for each, which the provider's call beneath fills.

Policy runs at the provider where its client is patched, on what goes over the wire; elsewhere it runs here. Models
that only pass a request on to others (fallbacks, wrappers) are left alone: each request that they send is one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from functools import lru_cache
from operator import attrgetter
from typing import Any, cast
from urllib.parse import urlsplit

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay.codecs import openai_chat
from spanrelay.errors import MiddlewareError
from spanrelay.instrumentation.patching import Patch, is_patched
from spanrelay.pipeline.call import Call, call_in_flight
from spanrelay.pipeline.driver import arun
from spanrelay.pipeline.middleware import chain_for
from spanrelay.pipeline.model import ModelCall, open_for
from spanrelay.pipeline.stream import AsyncTap
from spanrelay.providers import provider_of_host
from spanrelay.records import ModelRequest, SpanRecord
from spanrelay.semconv.names import provider_name, span_name
from spanrelay.tracing import Start, Tracing, recording
from spanrelay_pydantic_ai import streams, wire

_ARGUMENTS = ("messages", "model_settings", "model_request_parameters")


_MODELS = "pydantic_ai.models."
_SENDS = {
    "anthropic": ("client", ("_request", "request")),
    "bedrock": ("client", ("_make_api_call",)),
    "cohere": ("client._client_wrapper.httpx_client", ("request",)),
    "google": ("client._api_client", ("async_request",)),
    "huggingface": ("client", ("_inner_post",)),
    "mistral": ("client.chat", ("do_request_async",)),
}
"""How models send, by the module of the framework that does it: where the client is that is patched, and which method
of it, by the version of the SDK."""
_AS_OPENAI = ("client", ("request",))


def is_left_to_client(model: Any, settings: Mapping[str, Any] | None) -> bool:
    """Whether what `model` sends goes through a client that is patched, so that policy sees it on the wire."""
    kind = type(model)
    modules = {getattr(kind, name).__module__ for name in ("request", "request_stream")}
    if not all(module.startswith(_MODELS) for module in modules):
        return False
    if {**(model.settings or {}), **(settings or {})}.get("openai_transport") == "websocket":
        return False
    sends = {_SENDS.get(module.removeprefix(_MODELS).partition(".")[0], _AS_OPENAI) for module in modules}
    try:
        clients = [(attrgetter(where)(model), methods) for where, methods in sends]
    except AttributeError:  # a client of the application's own making
        return False
    return all(any(is_patched(type(client), method) for method in methods) for client, methods in clients)


def _insist_on_policy(call: ModelCall) -> None:
    """Refuse an answer for which policy was left to a client that then was not asked.

    Raises:
        MiddlewareError: the answer came another way, and policy that is registered for it has not run.
    """
    if call.reached or call.governed or call.record.answered_by is not None or chain_for(call) is None:
        return
    boundary = cast("ModelBoundary", call.boundary)
    if boundary.asks_after_earlier:
        return
    raise MiddlewareError(
        f"{type(boundary.model).__name__!r} answered without its client, so policy has not "
        "run; ask a subclass with a `request` of its own, for which policy runs at the model"
    )


class ModelBoundary:
    """The real call: `Model.request`.

    Args:
        method: That method, bound to `model`.
        model: The model.
        asked: What it is asked.
        parameters: The `ModelRequestParameters` of it.
        rest: The method's other arguments: those in order, and those by name.
    """

    __slots__ = ("_asked", "_method", "_parameters", "_rest", "model")

    def __init__(
        self, method: Any, model: Any, asked: wire.Asked, parameters: Any, rest: tuple[Any, dict[str, Any]]
    ) -> None:
        self._method = method
        self.model = model
        self._asked = asked
        self._parameters = parameters
        self._rest = rest

    @property
    def asks_after_earlier(self) -> bool:
        """Whether the model is only asked what has become of an earlier request, for which policy has run."""
        messages = self._asked.messages
        return bool(messages) and getattr(messages[-1], "state", None) == "suspended"

    def _ask(self, call: ModelCall) -> Any:
        """Call the method with what policy left of the request: the framework's own objects where it left them."""
        asked = self._asked
        outgoing = call.outgoing()
        given = (asked.messages, asked.settings, self._parameters)
        if outgoing is not asked:
            given = asked.edited(outgoing)
        if call.observed and not call.exempt:
            with guarded("keeping what a model is asked"):
                call.sent = _json.dumps(outgoing)
        ordered, named = self._rest
        return self._method(*given, *ordered, **named)

    async def send(self, call: ModelCall) -> Any:
        """Ask the model."""
        response = await self._ask(call)
        _insist_on_policy(call)
        if call.observed and not call.delegated:
            with guarded("keeping a model's answer"):
                call.body = _json.dumps(wire.body_of(response))
        return response

    async def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """An answer of policy is what the model says."""
        return wire.response_of(body)


class StreamBoundary(ModelBoundary):
    """The real call of a stream: `Model.request_stream`, entered into `stack`."""

    __slots__ = ("_stack", "tap")

    def __init__(self, *given: Any, stack: AsyncExitStack) -> None:
        super().__init__(*given)
        self._stack = stack
        self.tap: AsyncTap | None = None

    async def send(self, call: ModelCall) -> Any:
        """Begin to ask the model."""
        stream = await self._stack.enter_async_context(self._ask(call))
        if call.rewriting is None:
            call.tap = self.tap = tap = streams.EventTap(call, stream, _insist_on_policy)
            # The stream adds up the events that it is asked for here, whoever asks.
            stream._get_event_iterator = lambda: tap
            return stream
        chunks = streams.chunks_of(stream, self.model.model_name)
        call.tap = self.tap = tap = AsyncTap(call, chunks, streams.left_open, form="events")
        return streams.said(tap, self.model, self._parameters)

    async def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """An answer of policy is a stream that says it."""
        return streams.said(_each(list(call.codec.stream_events(body))), self.model, self._parameters)


async def _each(chunks: list[Any]) -> AsyncIterator[Any]:
    for chunk in chunks:
        yield chunk


class Opening:
    """A stream that is about to be asked for: what the framework enters to get it, and leaves to close it."""

    def __init__(self, models: Models, method: Any, model: Any, args: Any, kwargs: Any) -> None:
        self._models = models
        self._asked = (method, model, args, kwargs)
        self._stack = AsyncExitStack()
        self._boundary: StreamBoundary | None = None

    async def __aenter__(self) -> Any:
        boundary, call = self._models.call(*self._asked, stack=self._stack)
        self._boundary = cast("StreamBoundary", boundary)
        try:
            return await arun(call)
        except BaseException:
            await self._stack.aclose()
            raise

    async def __aexit__(self, *raised: Any) -> bool | None:
        tap = self._boundary.tap if self._boundary is not None else None
        try:
            return await self._stack.__aexit__(*raised)
        finally:
            if tap is not None:
                await tap.aclose()


class Models:
    """Wraps the two ways to ask a model; `tracing` opens the spans."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    async def request(self, wrapped: Any, model: Any, args: Any, kwargs: Any) -> Any:
        """Ask a model."""
        if _is_passed_on(model):
            return await wrapped(*args, **kwargs)
        return await arun(self.call(wrapped, model, args, kwargs)[1])

    def request_stream(self, wrapped: Any, model: Any, args: Any, kwargs: Any) -> Any:
        """Ask a model for a stream."""
        if _is_passed_on(model):
            return wrapped(*args, **kwargs)
        return Opening(self, wrapped, model, args, kwargs)

    def call(
        self, method: Any, model: Any, args: Any, kwargs: Any, stack: AsyncExitStack | None = None
    ) -> tuple[ModelBoundary, ModelCall]:
        """Return the way to the model, and the call."""
        named = dict(zip(_ARGUMENTS, args, strict=False)) | kwargs
        messages, settings, parameters = (named.pop(name) for name in _ARGUMENTS)
        asked = wire.Asked(model, messages, settings, parameters, stream=stack is not None)
        given = (method, model, asked, parameters, (args[len(_ARGUMENTS) :], named))
        boundary = ModelBoundary(*given) if stack is None else StreamBoundary(*given, stack=stack)
        start, begun = _start(asked["model"], str(model.system), model.base_url, asked.stream, recording.dialect)
        opened = open_for(self._tracing, start, "llm")
        call = ModelCall(openai_chat, asked, boundary, self._tracing, provider=begun.provider or "", opened=opened)
        call.record.server_address, call.record.server_port = begun.server_address, begun.server_port
        call.lends = True
        # Policy has run where the span comes from a call above, unless that left it to somebody beneath.
        call.exempt = call.exempt or is_left_to_client(model, settings)
        return boundary, call


@lru_cache(maxsize=256)
def _start(name: str, system: str, url: str | None, stream: bool, dialect: str) -> tuple[Start, SpanRecord]:
    """Return what the span of a call starts with, in `dialect`: made once for each model, provider and server."""
    record = SpanRecord(0, 0, name=span_name("llm", "chat", name), kind="llm", operation="chat")
    record.provider = "gcp.gemini" if system == "google" else provider_name(system)
    record.request = ModelRequest(name, stream=stream)
    with guarded("reading a model's server"):
        where = urlsplit(url or "")
        record.server_address, record.server_port = where.hostname, where.port
        record.provider = provider_of_host(where.hostname or "") or record.provider
    return Start(record), record


def _is_passed_on(model: Any) -> bool:
    """Whether `model` answers with what others say, or is asked by itself: a method of a class it derives from."""
    if not model._answers_requests_itself:
        return True
    above: Call | None = call_in_flight()
    return isinstance(above, ModelCall) and getattr(above.boundary, "model", None) is model


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """Both ways to ask a model, in every class of models: the framework's and the application's."""
    models = Models(tracing)
    return (
        Patch("pydantic_ai.models", "Model.request", models.request, derived=True),
        Patch("pydantic_ai.models", "Model.request_stream", models.request_stream, derived=True),
    )
