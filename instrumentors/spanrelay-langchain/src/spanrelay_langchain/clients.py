"""Which client a model sends its requests with: where that one is patched, policy is left to it.

A model that is not known here is never left to its client: policy then runs at the model itself, once.
"""

from __future__ import annotations

from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

from spanrelay.instrumentation.patching import is_patched

_GENERATING = ("_generate", "_agenerate", "_stream", "_astream")
_EMBEDDING = ("embed_documents", "aembed_documents", "embed_query", "aembed_query")


class _Sends(NamedTuple):
    """How the models of one package send: where they hold a client for each colour, and its patched method.

    `methods` are its names, by the version of the SDK. `overridable` is what a subclass may put its own sending into.
    """

    package: str
    sync: str
    asynchronous: str
    methods: tuple[str, ...]
    overridable: tuple[str, ...]


_OPENAI, _AWS, _GOOGLE = "langchain_openai.", "langchain_aws.", "langchain_google_genai."
_OLLAMA = ("langchain_ollama.", "_client", "_async_client", ("_request",))
_SENDER = "_client_wrapper.httpx_client"
_COHERE = ("langchain_cohere.", f"client.{_SENDER}", f"async_client.{_SENDER}", ("request",))
_GENAI = "client._api_client"
_CORE = "langchain_core."
"""Whose models send nothing themselves: what is inherited of it comes to the package's own methods."""
_SENDS = {
    "BaseChatOpenAI": _Sends(_OPENAI, "root_client", "root_async_client", ("request",), _GENERATING),
    "BaseOpenAI": _Sends(_OPENAI, "client._client", "async_client._client", ("request",), _GENERATING),
    "ChatAnthropic": _Sends("langchain_anthropic.", "_client", "_async_client", ("_request", "request"), _GENERATING),
    "ChatBedrock": _Sends(_AWS, "client", "client", ("_make_api_call",), _GENERATING),
    "ChatBedrockConverse": _Sends(_AWS, "client", "client", ("_make_api_call",), _GENERATING),
    "ChatCohere": _Sends(*_COHERE, _GENERATING),
    "CohereEmbeddings": _Sends(*_COHERE, _EMBEDDING),
    "ChatGoogleGenerativeAI": _Sends(_GOOGLE, _GENAI, _GENAI, ("request",), _GENERATING),
    "GoogleGenerativeAIEmbeddings": _Sends(_GOOGLE, _GENAI, _GENAI, ("request",), _EMBEDDING),
    "ChatGroq": _Sends("langchain_groq.", "client._client", "async_client._client", ("request",), _GENERATING),
    "ChatOllama": _Sends(*_OLLAMA, _GENERATING),
    "OllamaEmbeddings": _Sends(*_OLLAMA, _EMBEDDING),
    "OllamaLLM": _Sends(*_OLLAMA, _GENERATING),
    "OpenAIEmbeddings": _Sends(_OPENAI, "client._client", "async_client._client", ("request",), _EMBEDDING),
}
"""By the class that does the sending: the package it must come from, and how it sends."""


def leaves_policy_to_client(model: Any, *, asynchronous: bool) -> bool:
    """Whether what `model` sends goes through a client that is patched, so that policy sees it on the wire."""
    sends = _sends_of(type(model))
    if sends is None:
        return False
    try:
        client = attrgetter(sends.asynchronous if asynchronous else sends.sync)(model)
    except AttributeError:  # a client of the application's own making
        return False
    return client is not None and any(is_patched(type(client), method) for method in sends.methods)


@lru_cache(maxsize=256)
def _sends_of(kind: type) -> _Sends | None:
    for owner in kind.__mro__:
        sends = _SENDS.get(owner.__name__)
        if sends is not None and owner.__module__.startswith(sends.package):
            ours = all(getattr(kind, name).__module__.startswith((sends.package, _CORE)) for name in sends.overridable)
            return sends if ours else None
    return None
