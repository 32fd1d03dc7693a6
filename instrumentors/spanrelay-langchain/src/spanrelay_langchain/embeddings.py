"""Embedding models: each call is one EMBEDDING span, which the provider's call beneath fills.

They share no method: whatever class has one of the four is patched, those that are there and those that are yet to
be defined. A method that asks another of the same model makes no second call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay.codecs import openai_embeddings
from spanrelay.errors import MiddlewareError
from spanrelay.instrumentation.patching import Patch
from spanrelay.pipeline.call import Response, call_in_flight
from spanrelay.pipeline.driver import arun, run
from spanrelay.pipeline.model import ModelCall, open_for
from spanrelay.records import ModelResponse
from spanrelay.tracing import Tracing
from spanrelay_langchain.clients import leaves_policy_to_client
from spanrelay_langchain.messages import name_of
from spanrelay_langchain.models import insist_on_policy
from spanrelay_langchain.starts import Starts, packaged_provider

_MODULE = "langchain_core.embeddings.embeddings"


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """The four methods in every class that has one, and what the class above all has: async that asks sync."""
    models = EmbeddingModels(tracing)
    sync, awaited = ("embed_documents", "embed_query"), ("aembed_documents", "aembed_query")
    return (
        *(Patch(_MODULE, f"Embeddings.{name}", models.embed, derived=True) for name in sync),
        *(Patch(_MODULE, f"Embeddings.{name}", models.aembed, derived=True) for name in awaited),
        *(Patch(_MODULE, f"Embeddings.{name}", models.aembed) for name in awaited),
    )


class EmbeddingModels:
    """The wrappers around the methods of embedding models."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._starts = Starts("embedder", openai_embeddings.operation, packaged_provider)

    def embed(self, wrapped: Any, model: Any, args: Any, kwargs: Any) -> Any:
        """Ask for vectors."""
        if _is_within(model):
            return wrapped(*args, **kwargs)
        return run(self._call(EmbeddingBoundary(wrapped, model, args, kwargs)))

    async def aembed(self, wrapped: Any, model: Any, args: Any, kwargs: Any) -> Any:
        """Ask for vectors and await them."""
        if _is_within(model):
            return await wrapped(*args, **kwargs)
        return await arun(self._call(AsyncEmbeddingBoundary(wrapped, model, args, kwargs)))

    def _call(self, boundary: EmbeddingBoundary) -> ModelCall:
        model = boundary.model
        name = name_of(model, {})
        start, provider = self._starts.of(model, name)
        wire = {"input": boundary.texts} if name is None else {"model": name, "input": boundary.texts}
        opened = open_for(self._tracing, start, "embedder")
        call = EmbeddingCall(boundary, wire, self._tracing, provider=provider, opened=opened)
        call.exempt = call.exempt or leaves_policy_to_client(model, asynchronous=boundary.asynchronous)
        return call


def _is_within(model: Any) -> bool:
    """Whether this very model is being asked: a query may be one document of it, and async may be sync in a thread."""
    call = call_in_flight()
    return call is not None and isinstance(call.boundary, EmbeddingBoundary) and call.boundary.model is model


class EmbeddingCall(ModelCall):
    """A call of an embedding model. Of the vectors only number and length are kept."""

    __slots__ = ()

    def __init__(
        self, boundary: EmbeddingBoundary, wire: Mapping[str, Any], tracing: Tracing, *, provider: str, opened: Any
    ) -> None:
        super().__init__(
            openai_embeddings,
            wire,
            cast("Any", boundary),
            tracing,
            provider=provider,
            kind="embedder",
            opened=opened,
        )
        self.lends = True

    def gave(self, vectors: Any) -> None:
        """Keep what the model gave."""
        if not _is_empty(vectors):
            insist_on_policy(self)
        if self.observed and not self.delegated:
            with guarded("keeping a model's answer"):
                self.record.response = _described(vectors)

    def decode_answer(self, response: Response) -> ModelResponse:
        """Return what is told of an answer."""
        return _described(response.native)

    def adopt(self, response: Response) -> None:
        """Record what `response` came of: this call, or a branch of it."""
        super().adopt(response)
        self.record.response = response.call.record.response


def _is_empty(vectors: Any) -> bool:
    """Whether no client was needed; an array says nothing of that by itself, and a generator has no length."""
    return vectors is None or (hasattr(vectors, "__len__") and len(vectors) == 0)


def _described(vectors: Any) -> ModelResponse:
    """Return how many vectors there are and how long they are; a query's is one alone."""
    if _is_empty(vectors):
        return ModelResponse()
    several = hasattr(vectors[0], "__len__")
    first = vectors[0] if several else vectors
    count = len(vectors) if several else 1
    return ModelResponse(parameters={"embedding_count": count, "embedding_dimensions": len(first)})


class EmbeddingBoundary:
    """The way of one call through a method of an embedding model.

    Args:
        wrapped: The method, bound to `model`.
        model: The embedding model.
        args: What it was called with; the first is the text or the texts.
        kwargs: The same by name.
    """

    __slots__ = ("_args", "_kwargs", "_name", "model", "texts", "wrapped")

    asynchronous = False

    def __init__(self, wrapped: Any, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.wrapped = wrapped
        self.model = model
        self._args = args
        self._kwargs = kwargs
        self._name = next((name for name in ("texts", "text") if name in kwargs), None)
        self.texts = args[0] if args else kwargs.get(self._name or "")

    def sent(self, call: ModelCall) -> Any:
        """Call the method with what policy left of the texts."""
        wire = call.outgoing()
        if call.observed and not call.exempt:
            call.sent = _json.dumps(wire)
        if wire is call.original:
            return self.wrapped(*self._args, **self._kwargs)
        if wire.get("model") != call.original.get("model"):
            raise MiddlewareError(
                f"policy cannot replace the model of {type(self.model).__name__!r}, which is one model"
            )
        texts = wire.get("input")
        if self._args:
            return self.wrapped(texts, *self._args[1:], **self._kwargs)
        return self.wrapped(**{**self._kwargs, self._name or "texts": texts})

    def send(self, call: EmbeddingCall) -> Any:
        """Ask the model."""
        vectors = self.sent(call)
        call.gave(vectors)
        return vectors

    def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """Refuse: no record holds vectors."""
        raise MiddlewareError("policy cannot answer for an embedding model: a record holds no vectors")


class AsyncEmbeddingBoundary(EmbeddingBoundary):
    """The way of one call through an async method."""

    __slots__ = ()

    asynchronous = True

    async def send(self, call: EmbeddingCall) -> Any:
        """Ask the model and await it."""
        vectors = await self.sent(call)
        call.gave(vectors)
        return vectors

    async def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """As `EmbeddingBoundary.answer`."""
        return super().answer(call, body)
