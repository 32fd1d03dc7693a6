"""The inference routes of OpenAI's API, and who answers behind a base URL."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, cast

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
from spanrelay.providers import provider_of_host, provider_of_openai_host


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


def provider_of(client: Any, host: str) -> str:
    """Return the `gen_ai.provider.name` of a client: by its host, else by its class, else `openai`."""
    found = provider_of_openai_host(host)
    return "azure.ai.openai" if found == "openai" and type(client).__name__.endswith("AzureOpenAI") else found


def deployment_of(client: Any, url: str, body: Any) -> str | None:
    """Return the model that an Azure client makes a part of the URL, where its base URL names none; else None."""
    azure = sys.modules.get("openai.lib.azure")
    if azure is None or not isinstance(client, azure.BaseAzureClient) or not isinstance(body, Mapping):
        return None
    model = cast("Mapping[str, Any]", body).get("model")
    if model is None or url not in azure._deployments_endpoints or "/deployments" in str(client.base_url.path):
        return None
    return str(model)
