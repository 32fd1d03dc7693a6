"""Models that are no chat models: each call is one LLM span, be it of one prompt or of several that go together.

Policy runs once a call, or at the provider where its client is patched; LangChain's own way from a stream to a whole
answer within one model is no second call.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, cast

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay.codecs import openai_completions
from spanrelay.codecs.narrowing import as_list
from spanrelay.errors import MiddlewareError
from spanrelay.instrumentation.patching import Patch
from spanrelay.pipeline.call import call_in_flight
from spanrelay.pipeline.driver import arun, run
from spanrelay.pipeline.model import ModelCall, open_for
from spanrelay.tracing import Tracing
from spanrelay_langchain.clients import leaves_policy_to_client
from spanrelay_langchain.messages import name_of, settings_of
from spanrelay_langchain.models import (
    CACHE,
    AsyncChunkTap,
    ChunkTap,
    aclosing,
    closing,
    insist_on_policy,
    passed,
)
from spanrelay_langchain.starts import Starts, told_provider

_MODULE = "langchain_core.language_models.llms"
_FOR_LANGCHAIN = frozenset({"callbacks", "tags", "metadata", "run_name", "run_id"})
"""Arguments of `generate` that say nothing to the model."""


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """Every way into a completion model, and where LangChain looks into its cache."""
    models = CompletionModels(tracing)
    return (
        Patch(_MODULE, "BaseLLM.generate", models.generate),
        Patch(_MODULE, "BaseLLM.agenerate", models.agenerate),
        Patch(_MODULE, "BaseLLM.stream", models.stream),
        Patch(_MODULE, "BaseLLM.astream", models.astream),
        Patch(_MODULE, "get_prompts", _looked_up, required=False),
        Patch(_MODULE, "aget_prompts", _alooked_up, required=False),
    )


def _looked_up(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    found = wrapped(*args, **kwargs)
    _note_cache(found)
    return found


async def _alooked_up(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    found = await wrapped(*args, **kwargs)
    _note_cache(found)
    return found


def _note_cache(found: Any) -> None:
    """Say that the cache answers where it knows every prompt."""
    call = call_in_flight()
    if call is not None and isinstance(call.boundary, CompletionBoundary):
        with guarded("reading what a cache knows"):
            known, _, _, missing = found
            if known and not missing:
                call.record.answered_by = CACHE


class CompletionModels:
    """The wrappers around `BaseLLM`. Nothing happens before a generator is asked for its first value."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._starts = Starts("llm", openai_completions.operation, told_provider)

    def _call(self, boundary: CompletionBoundary, wire: dict[str, Any]) -> ModelCall:
        model = boundary.model
        start, provider = self._starts.of(model, wire.get("model"), stream="stream" in wire)
        opened = open_for(self._tracing, start, "llm")
        call = ModelCall(
            openai_completions, wire, cast("Any", boundary), self._tracing, provider=provider, opened=opened
        )
        call.lends = True
        call.exempt = call.exempt or leaves_policy_to_client(model, asynchronous=boundary.asynchronous)
        return call

    def generate(self, wrapped: Any, model: Any, args: Any, kwargs: Any) -> Any:
        """Ask for whole answers."""
        prompts, stop, context, options = _generate_arguments(*args, **kwargs)
        if not isinstance(prompts, list) or _is_within(model):  # LangChain refuses what is no list
            return wrapped(*args, **kwargs)
        wire = _wire(model, prompts, stop, options)
        return run(self._call(CompletionBoundary(wrapped, model, prompts, stop, options, context), wire))

    async def agenerate(self, wrapped: Any, model: Any, args: Any, kwargs: Any) -> Any:
        """Ask for whole answers and await them."""
        prompts, stop, context, options = _generate_arguments(*args, **kwargs)
        if not isinstance(prompts, list) or _is_within(model):
            return await wrapped(*args, **kwargs)
        wire = _wire(model, prompts, stop, options)
        return await arun(self._call(AsyncCompletionBoundary(wrapped, model, prompts, stop, options, context), wire))

    def stream(self, wrapped: Any, model: Any, args: Any, kwargs: Any) -> Iterator[str]:
        """Ask for a stream of texts."""
        given, config, stop, options = _stream_arguments(*args, **kwargs)
        wire = {**_wire(model, [_text_of(model, given)], stop, options), "stream": True}
        boundary = TextStreamBoundary(wrapped, model, given, stop, options, {"config": config})
        for event in passed(run(self._call(boundary, wire))):
            yield _text_in(event)

    async def astream(self, wrapped: Any, model: Any, args: Any, kwargs: Any) -> AsyncIterator[str]:
        """Ask for an async stream of texts."""
        given, config, stop, options = _stream_arguments(*args, **kwargs)
        wire = {**_wire(model, [_text_of(model, given)], stop, options), "stream": True}
        boundary = AsyncTextStreamBoundary(wrapped, model, given, stop, options, {"config": config})
        events = await arun(self._call(boundary, wire))
        try:
            async for event in events:
                yield _text_in(event)
        finally:
            await events.aclose()


def _generate_arguments(prompts: Any, stop: Any = None, callbacks: Any = None, **others: Any) -> Any:
    context = {key: others.pop(key) for key in _FOR_LANGCHAIN & others.keys()}
    return prompts, stop, {"callbacks": callbacks, **context}, others


def _stream_arguments(input: Any, config: Any = None, *, stop: Any = None, **options: Any) -> Any:
    return input, config, stop, options


def _is_within(model: Any) -> bool:
    """Whether this very model is being asked: one that does not stream asks itself for a whole answer."""
    call = call_in_flight()
    return call is not None and isinstance(call.boundary, CompletionBoundary) and call.boundary.model is model


def _wire(model: Any, prompts: list[Any], stop: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a model is asked as JSON."""
    wire = {"model": name_of(model, options), "prompt": prompts[0] if len(prompts) == 1 else prompts, "stop": stop}
    return {key: value for key, value in {**wire, **settings_of(model), **options}.items() if value is not None}


def _text_of(model: Any, given: Any) -> str:
    return given if isinstance(given, str) else model._convert_input(given).to_string()


def _text_in(event: Mapping[str, Any]) -> str:
    return "".join(choice.get("text") or "" for choice in as_list(event.get("choices")))


# --- boundaries ----------------------------------------------------------------------------------------------


class CompletionBoundary:
    """The way of one call through `generate`.

    Args:
        wrapped: The method, bound to `model`.
        model: The model.
        given: Its prompts, or the input of a stream.
        stop: Stop sequences.
        options: Arguments for the model.
        context: Arguments that say nothing to the model.
    """

    __slots__ = ("context", "given", "model", "options", "stop", "wrapped")

    asynchronous = False

    def __init__(self, wrapped: Any, model: Any, given: Any, stop: Any, options: Any, context: Any) -> None:
        self.wrapped = wrapped
        self.model = model
        self.given = given
        self.stop = stop
        self.options = options
        self.context = context

    def sent(self, call: ModelCall) -> Any:
        """Call the method with what policy left of the request: the application's own objects where it left them."""
        wire = call.outgoing()
        if call.observed and not call.exempt:
            call.sent = _json.dumps(wire)
        if wire is call.original:
            return self.wrapped(self.given, stop=self.stop, **self.context, **self.options)
        given, stop, options = self._edited(call.original, wire)
        return self.wrapped(given, stop=stop, **self.context, **options)

    def _edited(self, before: Mapping[str, Any], wire: Mapping[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
        if bool(wire.get("stream")) != bool(before.get("stream")):
            raise MiddlewareError("policy may not turn `stream` on or off: the caller expects the other form")
        options = dict(self.options)
        for key in {*before, *wire} - {"prompt", "stream", "stop"}:
            if key not in wire:
                options.pop(key, None)
            elif wire[key] != before.get(key):
                options[key] = wire[key]
        return self._prompts(wire.get("prompt")), wire.get("stop"), options

    def _prompts(self, prompt: Any) -> Any:
        """Return what stands for `prompt`: a list, as `generate` takes it."""
        return prompt if isinstance(prompt, list) else [prompt]

    def keep(self, call: ModelCall, result: Any) -> None:
        """Keep an answer as JSON.

        Raises:
            MiddlewareError: policy was left to a client that was not asked.
        """
        insist_on_policy(call)
        if call.observed and not call.delegated:
            with guarded("keeping a model's answer"):
                call.body = _json.dumps(_result_json(result, cached=call.record.answered_by == CACHE))

    def send(self, call: ModelCall) -> Any:
        """Ask the model."""
        result = self.sent(call)
        self.keep(call, result)
        return result

    def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """An answer of policy is LangChain's result: as many texts for each prompt."""
        from langchain_core.outputs import Generation, LLMResult

        texts = [Generation(text=choice.get("text") or "") for choice in as_list(body.get("choices"))]
        prompts = len(self.given)
        if not texts or len(texts) % prompts:
            raise MiddlewareError(f"policy answered {prompts} prompts with {len(texts)} texts; expected one for each")
        each = len(texts) // prompts
        return LLMResult(generations=[texts[start : start + each] for start in range(0, len(texts), each)])


class AsyncCompletionBoundary(CompletionBoundary):
    """The way of one call through `agenerate`."""

    __slots__ = ()

    asynchronous = True

    async def send(self, call: ModelCall) -> Any:
        """Ask the model and await it."""
        result = await self.sent(call)
        self.keep(call, result)
        return result

    async def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """As `CompletionBoundary.answer`."""
        return super().answer(call, body)


class TextStreamBoundary(CompletionBoundary):
    """The way of one call through `stream`, whose texts are events of the Completions API on their way."""

    __slots__ = ()

    def _prompts(self, prompt: Any) -> Any:
        if isinstance(prompt, list):
            raise MiddlewareError("policy made several prompts of one, which a stream cannot answer")
        return prompt

    def send(self, call: ModelCall) -> Any:
        """Ask the model for a stream."""
        source = _events(self.sent(call))
        call.tap = tap = ChunkTap(call, source, closing(call, source), form="events")
        return tap

    def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """An answer of policy is a stream."""
        return (event for event in openai_completions.stream_events(body))


class AsyncTextStreamBoundary(TextStreamBoundary):
    """The way of one call through `astream`."""

    __slots__ = ()

    asynchronous = True

    async def send(self, call: ModelCall) -> Any:
        """Ask the model for an async stream."""
        source = _aevents(self.sent(call))
        call.tap = tap = AsyncChunkTap(call, source, aclosing(call, source), form="events")
        return tap

    async def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """As `TextStreamBoundary.answer`."""
        return _aeach(openai_completions.stream_events(body))


def _event(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "text": text}]}


def _events(texts: Any) -> Iterator[dict[str, Any]]:
    try:
        for text in texts:
            yield _event(text)
    finally:
        texts.close()


async def _aevents(texts: Any) -> AsyncIterator[dict[str, Any]]:
    try:
        async for text in texts:
            yield _event(text)
    finally:
        await texts.aclose()


async def _aeach(events: Iterator[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    for event in events:
        yield event


def _result_json(result: Any, *, cached: bool) -> dict[str, Any]:
    """Return answers as JSON; what the cache knows was paid for by another call."""
    told = result.llm_output or {}
    generations = [generation for each in result.generations for generation in each]
    choices = [_choice(index, generation) for index, generation in enumerate(generations)]
    wire: dict[str, Any] = {"model": told.get("model_name"), "choices": choices}
    if told.get("token_usage") and not cached:
        wire["usage"] = told["token_usage"]
    return wire


def _choice(index: int, generation: Any) -> dict[str, Any]:
    info = generation.generation_info or {}
    return {"index": index, "text": generation.text, "finish_reason": info.get("finish_reason")}
