"""Models that do not send through a patched client: a span for each call of one, and policy around it.

Models of the OpenAI SDK whose client is patched are left to it: one model call, one span, policy once.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, cast

import wrapt

from spanrelay import _json
from spanrelay.codecs import openai_responses
from spanrelay.instrumentation.patching import Patch, is_patched
from spanrelay.pipeline.driver import arun
from spanrelay.pipeline.model import ModelCall
from spanrelay.pipeline.stream import AsyncTap
from spanrelay.providers import provider_of_openai_host
from spanrelay.semconv.names import provider_name
from spanrelay.tracing import Tracing
from spanrelay_openai_agents import wire
from spanrelay_openai_agents.runs import current_run

_WEBSOCKETS = "OpenAIResponsesWSModel"


def is_left_to_client(model: Any) -> bool:
    """Whether what `model` sends goes through a client that is patched."""
    kinds = {kind.__name__ for kind in type(model).__mro__ if kind.__module__.startswith("agents.models.")}
    if _WEBSOCKETS in kinds or not kinds & {"OpenAIResponsesModel", "OpenAIChatCompletionsModel"}:
        return False
    return is_patched(type(model._get_client()), "request")


class ModelBoundary:
    """The real call: the model's own method.

    Args:
        method: That method.
        asked: Its arguments by name.
        ordered: How many of them the SDK passes without their names.
        request: The request that they stand for.
    """

    __slots__ = ("_asked", "_method", "_ordered", "_request")

    def __init__(self, method: Any, asked: Mapping[str, Any], ordered: int, request: Mapping[str, Any]) -> None:
        self._method = method
        self._asked = asked
        self._ordered = ordered
        self._request = request

    def _ask(self, call: ModelCall) -> Any:
        outgoing = call.outgoing()
        asked = dict(self._asked)
        if outgoing is not call.original:
            asked = wire.changed(asked, self._request, outgoing)
        if call.observed:
            call.sent = _json.dumps(outgoing)
        ordered = [asked.pop(name) for name in wire.ARGUMENTS[: self._ordered]]
        return self._method(*ordered, **asked)

    async def send(self, call: ModelCall) -> Any:
        """Ask the model."""
        response = await self._ask(call)
        if call.observed:
            call.body = _json.dumps(wire.response_of(response, self._request["model"]))
        return response

    async def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """An answer of policy is what the model says."""
        return wire.model_response(body)


class StreamBoundary(ModelBoundary):
    """The real call of a stream. Its events are JSON while stream intercepts look at them."""

    __slots__ = ()

    async def send(self, call: ModelCall) -> Any:
        """Begin to ask the model."""
        events = self._ask(call)
        source = events if call.rewriting is None else _as_json(events)
        call.tap = tap = AsyncTap(call, aiter(source), events.aclose, form="events")
        return tap

    async def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """An answer of policy is the events that say it."""
        return _each(list(call.codec.stream_events(body)))


async def _as_json(events: Any) -> AsyncGenerator[Any, None]:
    async for each in events:
        yield each.model_dump(mode="json", exclude_unset=True)


async def _each(events: list[Any]) -> AsyncGenerator[Any, None]:
    for each in events:
        yield each


class SeenModel(wrapt.ObjectProxy):  # pyright: ignore[reportMissingTypeArgument] - wrapt has no types here
    """A model as a run sees it: the application's own, but that each call of it is one of ours."""

    def __init__(self, model: Any, tracing: Tracing) -> None:
        super().__init__(model)
        self._self_tracing = tracing

    def _self_call(self, boundary: type[ModelBoundary], name: str, args: Any, kwargs: Any) -> ModelCall:
        asked = {**dict(zip(wire.ARGUMENTS, args, strict=False)), **kwargs}
        model = self.__wrapped__
        request = wire.request_of(model, asked, stream=boundary is StreamBoundary)
        made = boundary(getattr(model, name), asked, len(args), request)
        call = ModelCall(openai_responses, request, made, self._self_tracing, provider=_provider_of(model, request))
        # A provider that is patched and is reached anyway fills the span.
        call.lends = True
        return call

    async def get_response(self, *args: Any, **kwargs: Any) -> Any:
        """Ask the model."""
        return await arun(self._self_call(ModelBoundary, "get_response", args, kwargs))

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        """Ask the model for a stream."""
        events = await arun(self._self_call(StreamBoundary, "stream_response", args, kwargs))
        try:
            async for each in events:
                yield wire.event(cast("dict[str, Any]", each)) if isinstance(each, dict) else each
        finally:
            await events.aclose()


def _provider_of(model: Any, request: Mapping[str, Any]) -> str:
    """Return the `gen_ai.provider.name`: by the prefix of the model's name, its client's host, or its class."""
    prefix, slash, _ = request["model"].partition("/")
    if slash:
        return provider_name(prefix)
    if not type(model).__module__.startswith("agents.models.openai"):
        return "openai_agents"
    host = getattr(getattr(getattr(model, "_client", None), "base_url", None), "host", "")
    return provider_of_openai_host(host)


class Models:
    """Wraps the choice of a turn's model; `tracing` opens the spans."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def get(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        """Return the model of a turn, as the run is to see it."""
        model, run = wrapped(*args, **kwargs), current_run()
        if run is None or is_left_to_client(model):
            return model
        # The SDK counts the models of a run by identity.
        _, seen = run.models.setdefault(id(model), (model, SeenModel(model, self._tracing)))
        return seen


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """Where a turn gets its model."""
    return (Patch("agents.run_internal.run_loop", "get_model", Models(tracing).get),)
