"""Where Mistral's SDK asks: routes of its API, and methods with which a call ends.

The span of a call that is no stream ends with the method, so that it says which exception the application got.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from spanrelay.codecs import mistral_conversations, mistral_fim, openai_embeddings, openai_responses, plain
from spanrelay.codecs.chat_dialects import mistral_chat
from spanrelay.instrumentation.operations import aoperate, operate
from spanrelay.instrumentation.patching import Patch
from spanrelay.instrumentation.speakeasy import SpeakeasyRequests
from spanrelay.instrumentation.targets import PLAIN, Route
from spanrelay.tracing import Tracing

ROUTES = {
    "/chat/completions": Route(mistral_chat),
    "/agents/completions": Route(mistral_chat),
    "/fim/completions": Route(mistral_fim),
    "/responses": Route(openai_responses, ends_with_done=False),
    "/embeddings": Route(openai_embeddings, "embedder"),
    **dict.fromkeys(("/moderations", "/ocr"), Route(plain, answers=False)),
}
"""The inference routes, by how their paths end. What is posted elsewhere and names a model is a model call too."""
_IN_CONVERSATION = re.compile(r"/conversations(?:/[^/]+(?:/restart)?)?$")
_CONVERSATION = Route(mistral_conversations, ends_with_done=False, answers=False)

_METHODS = {
    "agents": ("Agents", ("complete", "stream")),
    "chat": ("Chat", ("complete", "stream")),
    "classifiers": ("Classifiers", ("classify", "classify_chat", "moderate", "moderate_chat")),
    "conversations": (
        "Conversations",
        ("append", "append_stream", "restart", "restart_stream", "start", "start_stream"),
    ),
    "embeddings": ("Embeddings", ("create",)),
    "fim": ("Fim", ("complete", "stream")),
    "ocr": ("Ocr", ("process",)),
}
"""The methods that ask, by module and class; the twins have some of them."""


_NO_USAGE = {"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}}
"""What the SDK insists on in an answer that nobody was paid for."""


def patches(tracing: Tracing, clients: tuple[str, ...]) -> tuple[Patch, ...]:
    """Return the patch table for the SDK and for its twins on Azure and Google Cloud."""
    requests = SpeakeasyRequests(tracing, "mistralai", "mistral_ai", _route_of, _keeps_model, _NO_USAGE)
    boundary = (patch for client in clients for patch in requests.patches(f"{client}.basesdk"))
    methods = (
        Patch(f"{client}.{module}", f"{owner}.{method}{suffix}", wrapper, required=False, newer=True)
        for client in clients
        for module, (owner, methods) in _METHODS.items()
        for method in methods
        for suffix, wrapper in (("", operate), ("_async", aoperate))
    )
    return (*boundary, *methods)


def _route_of(path: str) -> Route:
    if _IN_CONVERSATION.search(path):
        return _CONVERSATION
    return next((route for suffix, route in ROUTES.items() if path.endswith(suffix)), PLAIN)


def _keeps_model(route: Route, wire: Mapping[str, Any]) -> bool:
    return route.codec is not openai_embeddings  # an agent has one
