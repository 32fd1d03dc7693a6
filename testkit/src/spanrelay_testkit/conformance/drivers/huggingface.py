"""The inference clients of `huggingface_hub`."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from spanrelay_testkit.conformance.driver import Driver
from spanrelay_testkit.conformance.exchanges import Exchange
from spanrelay_testkit.half import Half

_ROUTE = "/v1/chat/completions"


class HuggingFace(Driver):
    """The clients of Hugging Face, at the address of the provider behind its router."""

    sdk = module = "huggingface_hub"
    instrumentors = ("spanrelay_huggingface:HuggingFaceInstrumentor",)
    serves = frozenset({("huggingface", "chat_completions")})

    @asynccontextmanager
    async def opened(self, exchange: Exchange, address: str, half: Half) -> AsyncGenerator[Any]:
        """A client of the server."""
        hub = import_module("huggingface_hub")
        kind = hub.AsyncInferenceClient if half.asynchronous else hub.InferenceClient
        base = address + exchange.path.removesuffix(_ROUTE)
        async with half.entered(kind(base_url=base, api_key="none")) as client:
            yield client

    def call(self, client: Any, exchange: Exchange) -> Any:
        """Ask with the arguments that the method knows."""
        known = inspect.signature(client.chat_completion).parameters
        return client.chat_completion(**{name: value for name, value in exchange.body.items() if name in known})

    def errors(self) -> tuple[type[Exception], ...]:
        """What the clients raise of an answer, whole or within a stream."""
        errors = import_module("huggingface_hub.errors")
        return (errors.HfHubHTTPError, errors.TextGenerationError)

    def provider(self, exchange: Exchange) -> str:
        """The clients' own."""
        return "hugging_face"


DRIVERS = (HuggingFace(),)
