"""The `cohere` SDK: its clients of both versions."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from spanrelay_testkit.conformance.driver import Driver
from spanrelay_testkit.conformance.exchanges import Exchange
from spanrelay_testkit.exchange import Request
from spanrelay_testkit.half import Half

METHODS = {"chat_v1": "chat", "chat_v2": "chat", "embeddings": "embed", "rerank": "rerank"}
"""By API."""


class Cohere(Driver):
    """The clients of Cohere, by the version in the path."""

    sdk = module = "cohere"
    instrumentors = ("spanrelay_cohere:CohereInstrumentor",)
    serves = frozenset(("cohere", api) for api in METHODS)

    @asynccontextmanager
    async def opened(self, exchange: Exchange, address: str, half: Half) -> AsyncGenerator[Any]:
        """A client of the server."""
        name = ("Async" if half.asynchronous else "") + ("Client" if "/v1/" in exchange.path else "ClientV2")
        client = getattr(import_module("cohere"), name)(api_key="none", base_url=address)
        client._client_wrapper.httpx_client.base_max_retries = 0
        http = client._client_wrapper.httpx_client.httpx_client
        async with half.entered(http):
            yield client

    def call(self, client: Any, exchange: Exchange) -> Any:
        """Ask with the recorded body as arguments."""
        method = getattr(client, METHODS[exchange.api] + ("_stream" if exchange.streamed else ""))
        left_out = ("stream", "max_chunks_per_doc")  # said by the method, and gone from the SDK
        return method(**{name: value for name, value in exchange.body.items() if name not in left_out})

    def errors(self) -> tuple[type[Exception], ...]:
        """The SDK's error, of which its others are."""
        return (import_module("cohere.core.api_error").ApiError,)

    def differing(self, exchange: Exchange, request: Request) -> list[str]:
        """As for others, but for what this version of the SDK has no argument for any more."""
        gone = "max_chunks_per_doc"
        return [each for each in super().differing(exchange, request) if gone not in each]

    def provider(self, exchange: Exchange) -> str:
        """The SDK's own."""
        return "cohere"


DRIVERS = (Cohere(),)
