"""The inference routes of the SDKs, by the end of their paths, and who answers behind a base URL."""

from __future__ import annotations

from typing import Any

from spanrelay.codecs import openai_chat, openai_completions, openai_embeddings, openai_responses
from spanrelay.codecs.chat_dialects import capped_chat, mistral_chat
from spanrelay.instrumentation.targets import Route
from spanrelay.providers import provider_of_host

_ROUTES = {
    "/chat/completions": Route(openai_chat),
    "/responses": Route(openai_responses, ends_with_done=False),
    "/embeddings": Route(openai_embeddings, "embedder"),
    "/completions": Route(openai_completions),
}
"""What is posted elsewhere and names a model is a model call too, of which no more than that is read."""
_PRINTED = {
    "/chat/completions": Route(openai_chat, filling={"system_fingerprint": ""}),
    "/completions": Route(openai_completions, filling={"system_fingerprint": ""}),
}
"""For SDKs that take a chunk without a fingerprint for something else, and hand out dicts in it."""
_OWN = {
    "cerebras.cloud.sdk": _PRINTED,
    "sambanova": _PRINTED,
    "perplexity": {"/chat/completions": Route(capped_chat)},
    "together": {"/chat/completions": Route(capped_chat)},
    "writerai": {"/v1/chat": Route(mistral_chat), "/chat/completions": Route(mistral_chat)},
}
"""By module: routes that are others there."""


def routes_of(module: str) -> dict[str, Route]:
    """Return the routes of an SDK; a longer path that ends like a shorter one stands before it."""
    own = _OWN.get(module, {})
    return {**own, **{path: route for path, route in _ROUTES.items() if path not in own}}


def provider_of(provider: str, client: Any, host: str) -> str:
    """Return the `gen_ai.provider.name` of a client: by its host, else the one of its SDK."""
    return provider_of_host(host) or provider
