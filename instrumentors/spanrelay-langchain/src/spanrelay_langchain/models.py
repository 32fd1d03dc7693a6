"""Chat models: one LLM span for each model call, which the provider's call beneath fills.

Policy runs at the provider where its client is patched, on what goes over the wire; elsewhere it runs here.
"""

from __future__ import annotations

import collections
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, cast

from opentelemetry.context import attach, detach

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay.codecs import langchain
from spanrelay.errors import MiddlewareError
from spanrelay.instrumentation.patching import Patch
from spanrelay.pipeline.call import call_in_flight
from spanrelay.pipeline.driver import arun, run
from spanrelay.pipeline.middleware import chain_for
from spanrelay.pipeline.model import ModelCall, open_for
from spanrelay.pipeline.stream import AsyncTap, SyncTap
from spanrelay.tracing import Tracing
from spanrelay_langchain.clients import leaves_policy_to_client
from spanrelay_langchain.messages import Asked, chunks_of, plain, result_json, result_json_from_cache, result_of
from spanrelay_langchain.starts import Starts, told_provider
from spanrelay_langchain.templates import template_of

_MODULE = "langchain_core.language_models.chat_models"
CACHE = "langchain cache"
"""Who answered where LangChain's cache did."""


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """Every way into a chat model: whole answers, streams of chunks, and streams of protocol events."""
    models = ChatModels(tracing)
    return (
        Patch(_MODULE, "BaseChatModel._generate_with_cache", models.generate),
        Patch(_MODULE, "BaseChatModel._agenerate_with_cache", models.agenerate),
        Patch(_MODULE, "BaseChatModel.stream", models.stream),
        Patch(_MODULE, "BaseChatModel.astream", models.astream),
        Patch(_MODULE, "BaseChatModel._iter_v2_events", models.events),
        Patch(_MODULE, "BaseChatModel._aiter_v2_events", models.aevents),
        Patch(_MODULE, "BaseChatModel._convert_cached_generations", _answered_from_cache, required=False),
    )


def _answered_from_cache(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    call = call_in_flight()
    if call is not None and isinstance(call.boundary, ChatBoundary):
        call.record.answered_by = CACHE
    return wrapped(*args, **kwargs)


class ChatModels:
    """The wrappers around `BaseChatModel`. Nothing happens before a generator is asked for its first value."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._starts = Starts("llm", langchain.operation, told_provider)

    def _call(self, boundary: ChatBoundary, asked: Asked) -> ModelCall:
        model = boundary.model
        start, provider = self._starts.of(model, asked.name, stream=asked.stream)
        opened = open_for(self._tracing, start, "llm")
        call = ModelCall(langchain, asked, cast("Any", boundary), self._tracing, provider=provider, opened=opened)
        call.lends = True
        call.made_of = template_of(asked.given)
        # Policy has run where the span comes from a call above, unless that left it to somebody beneath.
        call.exempt = call.exempt or leaves_policy_to_client(model, asynchronous=boundary.asynchronous)
        return call

    def generate(self, wrapped: Any, model: Any, args: Any, kwargs: Any) -> Any:
        """Ask for a whole answer."""
        messages, stop, manager, options = _generate_arguments(*args, **kwargs)
        asked = Asked(model, messages, stop, options, stream=False)
        return run(self._call(GenerateBoundary(wrapped, model, {"run_manager": manager}), asked))

    async def agenerate(self, wrapped: Any, model: Any, args: Any, kwargs: Any) -> Any:
        """Ask for a whole answer and await it."""
        messages, stop, manager, options = _generate_arguments(*args, **kwargs)
        asked = Asked(model, messages, stop, options, stream=False)
        return await arun(self._call(AsyncGenerateBoundary(wrapped, model, {"run_manager": manager}), asked))

    def stream(self, wrapped: Any, model: Any, args: Any, kwargs: Any) -> Iterator[Any]:
        """Ask for a stream of chunks."""
        given, config, stop, options = _stream_arguments(*args, **kwargs)
        asked = Asked(model, given, stop, options, stream=True)
        yield from passed(run(self._call(StreamBoundary(wrapped, model, {"config": config}), asked)))

    async def astream(self, wrapped: Any, model: Any, args: Any, kwargs: Any) -> AsyncIterator[Any]:
        """Ask for an async stream of chunks."""
        given, config, stop, options = _stream_arguments(*args, **kwargs)
        asked = Asked(model, given, stop, options, stream=True)
        chunks = await arun(self._call(AsyncStreamBoundary(wrapped, model, {"config": config}), asked))
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            await chunks.aclose()

    def events(self, wrapped: Any, model: Any, args: Any, kwargs: Any) -> Iterator[Any]:
        """Ask for a stream of protocol events, which are dispatched as they pass."""
        messages, manager, stream, stop, options = _events_arguments(*args, **kwargs)
        context = {"run_manager": _Silenced(manager), "stream": _Undispatched(stream)}
        asked = Asked(model, messages, stop, options, stream=True)
        events = passed(run(self._call(EventsBoundary(wrapped, model, context), asked)))
        for event in events:
            if event["event"] == "message-finish":
                # LangChain reads no further than this, and the call ends with its stream.
                collections.deque(events, 0)
            stream.dispatch(event)
            manager.on_stream_event(event)
            yield event

    async def aevents(self, wrapped: Any, model: Any, args: Any, kwargs: Any) -> AsyncIterator[Any]:
        """The same in async."""
        messages, manager, stream, stop, options = _events_arguments(*args, **kwargs)
        context = {"run_manager": _AsyncSilenced(manager), "stream": _Undispatched(stream)}
        asked = Asked(model, messages, stop, options, stream=True)
        events = await arun(self._call(AsyncEventsBoundary(wrapped, model, context), asked))
        try:
            async for event in events:
                stream.dispatch(event)
                await manager.on_stream_event(event)
                yield event
        finally:
            await events.aclose()


def _generate_arguments(messages: Any, stop: Any = None, run_manager: Any = None, **options: Any) -> Any:
    return messages, stop, run_manager, options


def _stream_arguments(input: Any, config: Any = None, *, stop: Any = None, **options: Any) -> Any:
    return input, config, stop, options


def _events_arguments(messages: Any, *, run_manager: Any, stream: Any, stop: Any = None, **options: Any) -> Any:
    return messages, run_manager, stream, stop, options


def passed(chunks: Any) -> Iterator[Any]:
    """Pass on what comes, and end the call when nobody reads on."""
    try:
        yield from chunks
    finally:
        chunks.close()


# --- what stands in for LangChain's own objects --------------------------------------------------------------


class _StandIn:
    """Is in all but one method what it stands in for."""

    def __init__(self, original: Any) -> None:
        self._original = original

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


class _Undispatched(_StandIn):
    """A stream that is told nothing: what policy left of an event is dispatched later."""

    def dispatch(self, event: Any) -> None:
        """Leave it to who passes the event on."""


class _Silenced(_StandIn):
    """The same for the callbacks of a run."""

    def on_stream_event(self, event: Any, **kwargs: Any) -> None:
        """Leave it to who passes the event on."""


class _AsyncSilenced(_StandIn):
    """The same for async callbacks."""

    async def on_stream_event(self, event: Any, **kwargs: Any) -> None:
        """Leave it to who passes the event on."""


# --- boundaries ----------------------------------------------------------------------------------------------


class ChatBoundary:
    """The way of one call through a method of a chat model.

    Args:
        wrapped: The method, bound to `model`.
        model: The chat model.
        context: Arguments of the method that say nothing to the model.
    """

    __slots__ = ("context", "model", "wrapped")

    asynchronous = False

    def __init__(self, wrapped: Any, model: Any, context: dict[str, Any]) -> None:
        self.wrapped = wrapped
        self.model = model
        self.context = context

    def _sent(self, call: ModelCall) -> Any:
        """Call the method with what policy left of the request: the application's own objects where it left them."""
        asked = cast("Asked", call.original)
        wire = call.outgoing()
        given, stop, options = (asked.given, asked.stop, asked.options) if wire is asked else asked.edited(wire)
        if call.observed and not call.exempt:
            call.sent = _json.dumps(wire)
        return self.wrapped(given, stop=stop, **self.context, **options)


def _keep(call: ModelCall, result: Any) -> None:
    insist_on_policy(call)
    if call.observed and not call.delegated:
        read = result_json_from_cache if call.record.answered_by == CACHE else result_json
        with guarded("keeping a model's answer"):
            call.body = _json.dumps(read(result))


def insist_on_policy(call: ModelCall) -> None:
    """Refuse an answer for which policy was left to a client that then was not asked.

    Raises:
        MiddlewareError: the answer came another way, and policy that is registered for it has not run.
    """
    if call.reached or call.governed or call.record.answered_by is not None or chain_for(call) is None:
        return
    raise MiddlewareError(
        f"{type(cast('Any', call.boundary).model).__name__!r} answered without its client, so policy has not "
        "run; ask a subclass that sends in a way of its own, for which policy runs at the model"
    )


class GenerateBoundary(ChatBoundary):
    """`_generate_with_cache`."""

    __slots__ = ()

    def send(self, call: ModelCall) -> Any:
        """Ask the model."""
        result = self._sent(call)
        _keep(call, result)
        return result

    def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """An answer of policy is LangChain's result."""
        return result_of(body, getattr(self.context["run_manager"], "run_id", None))


class AsyncGenerateBoundary(GenerateBoundary):
    """`_agenerate_with_cache`."""

    __slots__ = ()

    asynchronous = True

    async def send(self, call: ModelCall) -> Any:
        """Ask the model and await it."""
        result = await self._sent(call)
        _keep(call, result)
        return result

    async def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """As `GenerateBoundary.answer`."""
        return super().answer(call, body)


class StreamBoundary(ChatBoundary):
    """`stream`."""

    __slots__ = ()

    def send(self, call: ModelCall) -> Any:
        """Ask the model for a stream."""
        source = self._sent(call)
        call.tap = tap = ChunkTap(call, source, closing(call, source), form="events")
        return tap

    def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """An answer of policy is a stream of chunks."""
        return _each(self._events(body))

    def _events(self, body: dict[str, Any]) -> list[Any]:
        return list(chunks_of(body))


class AsyncStreamBoundary(StreamBoundary):
    """`astream`."""

    __slots__ = ()

    asynchronous = True

    async def send(self, call: ModelCall) -> Any:
        """Ask the model for an async stream."""
        source = self._sent(call)
        call.tap = tap = AsyncChunkTap(call, source, aclosing(call, source), form="events")
        return tap

    async def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """As `StreamBoundary.answer`."""
        return _aeach(self._events(body))


class EventsBoundary(StreamBoundary):
    """`_iter_v2_events`."""

    __slots__ = ()

    def _events(self, body: dict[str, Any]) -> list[Any]:
        from langchain_core.language_models._compat_bridge import message_to_events

        message = cast("Any", result_of(body, None).generations[0].message)
        return list(message_to_events(message, message_id=self.context["stream"].message_id))


class AsyncEventsBoundary(EventsBoundary, AsyncStreamBoundary):
    """`_aiter_v2_events`."""

    __slots__ = ()


def closing(call: ModelCall, source: Any) -> Callable[[], None]:
    """Return what closes the source, whose callbacks run in the context of the call."""
    context = call.context

    def close() -> None:
        token = attach(context)
        try:
            source.close()
        finally:
            detach(token)

    return close


def aclosing(call: ModelCall, source: Any) -> Callable[[], Awaitable[None]]:
    """Return the same for an async source."""
    context = call.context

    async def close() -> None:
        token = attach(context)
        try:
            await source.aclose()
        finally:
            detach(token)

    return close


def _each(items: list[Any]) -> Iterator[Any]:
    yield from items


async def _aeach(items: list[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


class _Chunks:
    """Passes chunks on, and keeps them only where no provider's call beneath tells what they say."""

    __slots__ = ()

    def _take(self, chunk: Any) -> Any:
        this = cast("Any", self)
        if this._rewriter is not None:
            return cast("Any", super())._take(chunk)
        call: ModelCall = this.call
        insist_on_policy(call)
        if call.record.time_to_first_chunk is None:
            call.record.time_to_first_chunk = (time.perf_counter_ns() - call.started) / 1e9
        if call.observed and not call.delegated:
            this.arrived.chunks.append(_json.dumps(plain(chunk)))
        return chunk


class ChunkTap(_Chunks, SyncTap):
    """A stream of a chat model on its way to its consumer."""

    __slots__ = ()


class AsyncChunkTap(_Chunks, AsyncTap):
    """The async twin of `ChunkTap`."""

    __slots__ = ()
