"""The functions that ask a model, as a table, and what a call of one is made of.

The async function of each asks the other in a thread, and says so in a flag: that half only sends.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from spanrelay.codecs import (
    Codec,
    anthropic_messages,
    cohere_rerank,
    gemini_interactions,
    openai_compaction,
    openai_completions,
    openai_embeddings,
    openai_responses,
    plain,
)
from spanrelay.codecs.chat_dialects import capped_chat
from spanrelay.instrumentation.patching import Patch
from spanrelay.pipeline.driver import arun, run
from spanrelay.pipeline.model import ModelCall, open_for
from spanrelay.records import Kind, ModelRequest, SpanRecord
from spanrelay.semconv.names import provider_name, span_name
from spanrelay.tracing import Start, Tracing
from spanrelay_litellm.arguments import doubt_about, named_beside, named_within, resolved, running, wire_of
from spanrelay_litellm.boundary import (
    AsyncBoundary,
    AsyncStreamBoundary,
    Boundary,
    Form,
    StreamBoundary,
    completion_chunk,
    named,
    response_event,
    shown,
)


class Function(NamedTuple):
    """What one of LiteLLM's functions asks for.

    Attributes:
        name: Of its sync half; none where it has an async one only.
        homes: The modules that have it.
        codec: The API whose words its arguments are.
        form: How answers are made that are not the provider's.
        kind: What kind of call it makes.
        flag: By what the async half asks the other; that half's name, where this says none.
        twin: The name of the async half, where it is not that of the other with an `a` before it.
        names: Its parameters in order, where its signature does not say them.
    """

    name: str
    homes: tuple[str, ...]
    codec: Codec
    form: Form
    kind: Kind = "llm"
    flag: str = ""
    twin: str = ""
    names: tuple[str, ...] = ()

    @property
    def async_name(self) -> str:
        """The name of its async half."""
        return self.twin or f"a{self.name}"


_ALL = "litellm"
"""The package, which has most of them too, and whose Router asks them there."""
_MAIN = "litellm.main"
_IMAGES = ("litellm.images.main", _ALL)
_REALTIME = ("litellm.realtime_api.main", _ALL)
_GOOGLE = ("litellm.google_genai.main", "litellm.google_genai")
_MESSAGES = Form(dict[str, Any], frames=True)
_TEXT = named("TextCompletionResponse")
_IMAGE = Form(named("ImageResponse"))
_INTERACTION = "litellm.types.interactions"
_NO_ANSWER = Form(None)
FUNCTIONS = (
    # LiteLLM knows for which models `max_tokens` has another name, and leaves out what it has no name for.
    Function(
        "completion",
        (_MAIN, "litellm.chat_completions.dispatch", "litellm.chat_completions", _ALL),
        capped_chat,
        Form(named("ModelResponse"), completion_chunk),
    ),
    Function(
        "responses",
        ("litellm.responses.main", "litellm.responses.dispatch", _ALL),
        openai_responses,
        Form(named("ResponsesAPIResponse"), response_event),
    ),
    Function(
        "embedding",
        (_MAIN, "litellm.embeddings.dispatch", _ALL),
        openai_embeddings,
        Form(named("EmbeddingResponse")),
        "embedder",
    ),
    Function("rerank", ("litellm.rerank_api.main", _ALL), cohere_rerank, Form(named("RerankResponse")), "reranker"),
    Function(
        "compact_responses",
        ("litellm.responses.main", _ALL),
        openai_compaction,
        Form(named("ResponsesAPIResponse")),
    ),
    # Sent by native code, past every HTTP client.
    Function(
        "ocr",
        ("litellm.ocr.dispatch", "litellm.ocr", _ALL),
        plain,
        Form(named("OCRResponse", "litellm.llms.base_llm.ocr.transformation")),
        names=("model", "document"),
    ),
    Function("text_completion", (_MAIN, _ALL), openai_completions, Form(_TEXT, _TEXT), flag="acompletion"),
    Function(
        "",
        ("litellm.messages.dispatch", "litellm.messages", _ALL),
        anthropic_messages,
        _MESSAGES,
        twin="anthropic_messages",
    ),
    Function("", ("litellm.anthropic_interface.messages",), anthropic_messages, _MESSAGES, twin="acreate"),
    Function("", ("litellm.anthropic_interface",), anthropic_messages, _MESSAGES, twin="acreate"),
    Function(
        "create",
        ("litellm.interactions.main", "litellm.interactions"),
        gemini_interactions,
        Form(
            named("InteractionsAPIResponse", _INTERACTION),
            named("InteractionsAPIStreamingResponse", _INTERACTION),
        ),
        flag="acreate_interaction",
    ),
    Function("image_generation", _IMAGES, plain, _IMAGE, flag="aimg_generation"),
    Function("image_edit", _IMAGES, plain, _IMAGE, flag="async_call"),
    Function("image_variation", _IMAGES, plain, _IMAGE, flag="async_call"),
    Function("speech", (_MAIN, _ALL), plain, _NO_ANSWER),
    Function("transcription", (_MAIN, _ALL), plain, _NO_ANSWER),
    Function("moderation", (_MAIN, _ALL), plain, _NO_ANSWER),
    Function("video_generation", ("litellm.videos.main", "litellm.videos", _ALL), plain, _NO_ANSWER, flag="async_call"),
    Function("decisions", ("litellm.decisions.main", "litellm.decisions", _ALL), plain, _NO_ANSWER),
    Function("systemone", ("litellm.systemone.main", "litellm.systemone", _ALL), plain, _NO_ANSWER),
    Function("extraction", ("litellm.extraction.main", "litellm.extraction", _ALL), plain, _NO_ANSWER),
    Function("create_eval", ("litellm.evals.main", "litellm.evals", _ALL), plain, _NO_ANSWER),
    Function("create_run", ("litellm.evals.main", _ALL), plain, _NO_ANSWER),
    Function(
        "create",
        ("litellm.interactions.agents.main", "litellm.interactions.agents"),
        plain,
        _NO_ANSWER,
        flag="acreate_agent",
    ),
    Function("create_agent", (_ALL,), plain, _NO_ANSWER),
    Function("generate_content", _GOOGLE, plain, _NO_ANSWER),
    Function("", (_ALL,), plain, _NO_ANSWER, twin="agenerate_content"),
    Function("generate_content_stream", _GOOGLE, plain, _NO_ANSWER),
    Function("", _REALTIME, plain, _NO_ANSWER, twin="acreate_realtime_client_secret"),
    Function("", _REALTIME, plain, _NO_ANSWER, twin="acreate_realtime_transcription_session"),
    Function("", _REALTIME, plain, _NO_ANSWER, twin="acreate_realtime_translation_client_secret"),
    Function("", _REALTIME, plain, _NO_ANSWER, twin="arealtime_calls"),
    Function("", _REALTIME, plain, _NO_ANSWER, twin="arealtime_translation_calls"),
)


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """Each function in each module that has it."""
    return tuple(
        Patch(home, name, wrapper)
        for function in FUNCTIONS
        for wrappers in (Wrappers(function, tracing),)
        for name, wrapper in ((function.name, wrappers.ask), (function.async_name, wrappers.aask))
        for home in function.homes
        if name
    )


class Wrappers:
    """The wrappers around both halves of a function."""

    def __init__(self, function: Function, tracing: Tracing) -> None:
        self._function, self._tracing = function, tracing
        self._flag = function.flag or function.async_name

    def ask(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        """Ask a model, or be the half of the async function that sends."""
        asked = self._by_name(wrapped, args, kwargs)
        if asked is None or asked.get(self._flag):
            return wrapped(*args, **kwargs)
        call, boundary = self._call(wrapped, asked, asynchronous=False)
        return shown(boundary, run(call))

    async def aask(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        """Ask a model and await it."""
        asked = self._by_name(wrapped, args, kwargs)
        if asked is None:
            return await wrapped(*args, **kwargs)
        call, boundary = self._call(wrapped, asked, asynchronous=True)
        return shown(boundary, await arun(call))

    def _by_name(self, wrapped: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the arguments by name; None for those that the function refuses."""
        names = _ordered(self._function, inspect.unwrap(wrapped)) if args else ()
        placed = dict(zip(names, args, strict=False))
        return None if len(args) > len(names) or placed.keys() & kwargs.keys() else {**placed, **kwargs}

    def _call(self, wrapped: Any, asked: dict[str, Any], *, asynchronous: bool) -> tuple[ModelCall, Any]:
        codec, kind, form = self._function.codec, self._function.kind, self._function.form
        model, found = resolved(asked)
        wire, provider = wire_of({**asked, "model": model}), provider_name(found)
        stream = bool(wire.get("stream"))
        boundaries = (AsyncBoundary, AsyncStreamBoundary) if asynchronous else (Boundary, StreamBoundary)
        record = SpanRecord(0, 0, name=span_name(kind, codec.operation, wire.get("model")), kind=kind)
        record.operation, record.provider = codec.operation, provider
        record.request = ModelRequest(wire.get("model"), stream=stream)
        opened = open_for(self._tracing, Start(record), kind)
        boundary = boundaries[stream and form.streams](wrapped, asked, form)
        call = ModelCall(codec, wire, boundary, self._tracing, provider=provider, kind=kind, opened=opened)
        # A patched SDK beneath, such as OpenAI's, fills the span with what was on the wire.
        call.lends, call.lends_plainly = True, codec is plain
        name = model if running(asked) == asked.get("model") else asked.get("model")
        beside: tuple[Any, ...] = tuple(each for each in (model, name) if each != wire.get("model"))
        call.named_beside = beside + named_beside(asked) + named_within(wire)
        call.unreadable = doubt_about(codec, asked)
        if call.named_beside or call.unreadable:
            call.distrust()
        return call, boundary


@lru_cache
def _ordered(function: Function, wrapped: Any) -> tuple[str, ...]:
    """Return the parameters of a function, in their order.

    An async half that may take anything passes it on in that of the other.
    """
    if function.names:
        return function.names
    own = tuple(inspect.signature(wrapped).parameters)
    if own != ("args", "kwargs"):
        return own
    home = sys.modules[function.homes[0]]
    return tuple(inspect.signature(inspect.unwrap(getattr(home, function.name))).parameters)
