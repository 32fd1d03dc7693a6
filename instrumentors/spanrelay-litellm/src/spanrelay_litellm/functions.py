"""The functions that ask a model, as a table, and what a call of one is made of.

The async function of each asks the other in a thread, and says so in a flag: that half only sends.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from spanrelay.codecs import Codec, cohere_rerank, openai_compaction, openai_embeddings, openai_responses, plain
from spanrelay.codecs.chat_dialects import capped_chat
from spanrelay.instrumentation.patching import Patch
from spanrelay.pipeline.driver import arun, run
from spanrelay.pipeline.model import ModelCall, open_for
from spanrelay.records import Kind, ModelRequest, SpanRecord
from spanrelay.semconv.names import provider_name, span_name
from spanrelay.tracing import Start, Tracing
from spanrelay_litellm.arguments import doubt_about, named_beside, resolved, running, wire_of
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
        name: Of its sync half; the other's has an `a` before it, and so has the flag by which that one calls this one.
        module: Where it is at home; the package has it too, and so its Router.
        codec: The API whose words its arguments are.
        form: How answers are made that are not the provider's.
        kind: What kind of call it makes.
        names: Its parameters in order, where its signature does not say them.
    """

    name: str
    module: str
    codec: Codec
    form: Form
    kind: Kind = "llm"
    names: tuple[str, ...] = ()

    @property
    def twin(self) -> str:
        """Its async half, and the flag."""
        return f"a{self.name}"


FUNCTIONS = (
    # LiteLLM knows for which models `max_tokens` has another name, and leaves out what it has no name for.
    Function("completion", "litellm.main", capped_chat, Form(named("ModelResponse"), completion_chunk)),
    Function(
        "responses", "litellm.responses.main", openai_responses, Form(named("ResponsesAPIResponse"), response_event)
    ),
    Function("embedding", "litellm.main", openai_embeddings, Form(named("EmbeddingResponse")), "embedder"),
    Function("rerank", "litellm.rerank_api.main", cohere_rerank, Form(named("RerankResponse")), "reranker"),
    Function("compact_responses", "litellm.responses.main", openai_compaction, Form(named("ResponsesAPIResponse"))),
    # Sent by native code, past every HTTP client.
    Function(
        "ocr",
        "litellm.ocr.dispatch",
        plain,
        Form(named("OCRResponse", "litellm.llms.base_llm.ocr.transformation")),
        names=("model", "document"),
    ),
)


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """Each function in the module that has it, and in the package, which the Router asks."""
    rows: list[Patch] = []
    for function in FUNCTIONS:
        wrappers = Wrappers(function, tracing)
        for module in (function.module, "litellm"):
            rows.append(Patch(module, function.name, wrappers.ask))
            rows.append(Patch(module, function.twin, wrappers.aask))
    return tuple(rows)


class Wrappers:
    """The wrappers around both halves of a function."""

    def __init__(self, function: Function, tracing: Tracing) -> None:
        self._function, self._tracing = function, tracing

    def ask(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        """Ask a model, or be the half of the async function that sends."""
        asked = self._by_name(args, kwargs)
        if asked is None or asked.get(self._function.twin):
            return wrapped(*args, **kwargs)
        call, boundary = self._call(wrapped, asked, asynchronous=False)
        return shown(boundary, run(call))

    async def aask(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        """Ask a model and await it."""
        asked = self._by_name(args, kwargs)
        if asked is None:
            return await wrapped(*args, **kwargs)
        call, boundary = self._call(wrapped, asked, asynchronous=True)
        return shown(boundary, await arun(call))

    def _by_name(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the arguments by name; None for those that the function refuses."""
        # The async half may take anything, and passes it on in this order.
        names = _ordered(self._function)
        placed = dict(zip(names, args, strict=False))
        return None if len(args) > len(names) or placed.keys() & kwargs.keys() else {**placed, **kwargs}

    def _call(self, wrapped: Any, asked: dict[str, Any], *, asynchronous: bool) -> tuple[ModelCall, Any]:
        codec, kind = self._function.codec, self._function.kind
        model, found = resolved(asked)
        wire, provider = wire_of({**asked, "model": model}), provider_name(found)
        stream = bool(wire.get("stream"))
        boundaries = (AsyncBoundary, AsyncStreamBoundary) if asynchronous else (Boundary, StreamBoundary)
        record = SpanRecord(0, 0, name=span_name(kind, codec.operation, wire.get("model")), kind=kind)
        record.operation, record.provider = codec.operation, provider
        record.request = ModelRequest(wire.get("model"), stream=stream)
        opened = open_for(self._tracing, Start(record), kind)
        boundary = boundaries[stream](wrapped, asked, self._function.form)
        call = ModelCall(codec, wire, boundary, self._tracing, provider=provider, kind=kind, opened=opened)
        # A patched SDK beneath, such as OpenAI's, fills the span with what was on the wire.
        call.lends = True
        name = model if running(asked) == asked.get("model") else asked.get("model")
        beside: tuple[Any, ...] = tuple(each for each in (model, name) if each != wire.get("model"))
        call.named_beside = beside + named_beside(asked)
        call.unreadable = doubt_about(codec, asked)
        if call.named_beside or call.unreadable:
            call.distrust()
        return call, boundary


@lru_cache
def _ordered(function: Function) -> tuple[str, ...]:
    """Return the parameters of a function, in their order."""
    if function.names:
        return function.names
    home = sys.modules[function.module]
    return tuple(inspect.signature(inspect.unwrap(getattr(home, function.name))).parameters)
