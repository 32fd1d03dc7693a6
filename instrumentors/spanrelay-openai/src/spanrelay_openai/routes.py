"""The inference routes of OpenAI's API, and who answers behind a base URL."""

from __future__ import annotations

from typing import Any

from spanrelay.codecs import openai_chat, openai_completions, openai_embeddings, openai_responses
from spanrelay.instrumentation.stainless import Route
from spanrelay.providers import provider_of_host

ROUTES = {
    "/chat/completions": Route(openai_chat),
    "/responses": Route(openai_responses, ends_with_done=False),
    "/embeddings": Route(openai_embeddings, "embedder"),
    "/completions": Route(openai_completions),
}
"""The inference routes. A longer path that ends like a shorter one stands before it."""


def provider_of(client: Any, host: str) -> str:
    """Return the `gen_ai.provider.name` of a client: by its host, else by its class, else `openai`."""
    found = provider_of_host(host)
    if found is not None:
        return found
    azure = type(client).__name__.endswith("AzureOpenAI") or host.endswith(".azure-api.net")
    return "azure.ai.openai" if azure else "openai"
