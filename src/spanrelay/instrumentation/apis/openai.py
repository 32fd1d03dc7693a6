"""The inference routes of OpenAI's API, by the end of their paths."""

from __future__ import annotations

from spanrelay.codecs import (
    Codec,
    openai_chat,
    openai_compaction,
    openai_completions,
    openai_embeddings,
    openai_responses,
    plain,
)
from spanrelay.codecs.chat_dialects import chat_of
from spanrelay.instrumentation.targets import Route
from spanrelay.providers import provider_of_host


def dialect_of(provider: str, host: str, model: str | None) -> Codec:
    """Return the codec for a conversation at a host, which is OpenAI's API as whoever answers there knows it."""
    return chat_of(provider if provider != "openai" or provider_of_host(host) else None, model)


ROUTES = {
    "/chat/completions": Route(openai_chat, dialect=dialect_of),
    "/responses": Route(openai_responses, ends_with_done=False),
    "/responses/compact": Route(openai_compaction, ends_with_done=False, answers=False),
    "/embeddings": Route(openai_embeddings, "embedder"),
    "/completions": Route(openai_completions),
    **dict.fromkeys(
        ("/images/generations", "/images/edits", "/images/variations", "/moderations", "/videos"),
        Route(plain, answers=False),
    ),
}
"""The inference routes, the last where a request without a model is answered by one of the provider's choice.

A longer path that ends like a shorter one stands before it.

What is posted elsewhere and names a model is a model call too, of which no more than that is read.
"""
