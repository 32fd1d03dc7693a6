"""The Chat Completions API as those speak it who do not know every key of OpenAI's: what policy sets has their keys.

All else is `openai_chat`. A key that a request has already is the one that is changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from spanrelay.codecs import openai_chat
from spanrelay.codecs.parameters import Table
from spanrelay.records import ModelRequest


class ChatDialect:
    """The codec `openai_chat`, in which the keys `first` are those that a parameter is written under."""

    def __init__(self, *first: str) -> None:
        self._parameters: Table = {**{key: openai_chat.PARAMETERS[key] for key in first}, **openai_chat.PARAMETERS}

    def __getattr__(self, name: str) -> Any:
        value = self.__dict__[name] = getattr(openai_chat, name)
        return value

    def decode_request(self, wire: Mapping[str, Any]) -> ModelRequest:
        """Read a request; see `Codec.decode_request`."""
        return openai_chat.decode_request(wire, self._parameters)

    def encode_request(self, request: ModelRequest, wire: Mapping[str, Any]) -> dict[str, Any]:
        """Return `wire` changed where `request` differs; see `Codec.encode_request`.

        Raises:
            CodecError: as `openai_chat`.
        """
        return openai_chat.encode_request(request, wire, self._parameters)

    def single_parameters(self, wire: Mapping[str, Any], names: Iterable[str]) -> Mapping[str, Any]:
        """Return `wire` with each of `names` said once; see `Codec`."""
        return openai_chat.single_parameters(wire, names, self._parameters)


mistral_chat: Any = ChatDialect("max_tokens", "random_seed")
"""Mistral's and Writer's."""
capped_chat: Any = ChatDialect("max_tokens")
"""Together's and Perplexity's, and what everybody knows but some of OpenAI's own models."""

_OPENAI = frozenset({"openai", "azure.ai.openai"})
_OF_OPENAI = re.compile(r"(?:^|[/.:])(?:gpt-(?!oss)|chatgpt-|codex-|o[1-9](?![a-z0-9]))", re.IGNORECASE)
"""A name of a model that OpenAI has made and serves, also behind a gateway's or a geography's prefix."""


def chat_of(provider: str | None, model: str | None) -> Any:
    """Return the codec for what is chatted with a model at a provider, or None where nobody knows who answers.

    A key that is not known is passed over in silence by many who speak this API: policy would have set nothing.
    """
    if provider == "mistral_ai":
        return mistral_chat
    if provider in _OPENAI or (model is not None and _OF_OPENAI.search(model)):
        return openai_chat
    return capped_chat
