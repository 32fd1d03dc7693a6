"""The `mistralai` SDK."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from spanrelay_testkit.conformance.driver import Driver
from spanrelay_testkit.conformance.exchanges import Exchange
from spanrelay_testkit.exchange import Request
from spanrelay_testkit.half import Half


class Mistral(Driver):
    """The client of Mistral."""

    sdk = "mistralai"
    module = "mistralai.client"
    instrumentors = ("spanrelay_mistral:MistralInstrumentor",)
    serves = frozenset({("mistral", "chat_completions"), ("mistral", "embeddings")})

    @asynccontextmanager
    async def opened(self, exchange: Exchange, address: str, half: Half) -> AsyncGenerator[Any]:
        """A client of the server, which knows of itself whether it is asked for awaitables."""
        async with half.entered(import_module(self.module).Mistral(api_key="none", server_url=address)) as client:
            yield client, half

    def call(self, client: Any, exchange: Exchange) -> Any:
        """Ask with the arguments that the method knows."""
        mistral, half = client
        suffix = "_async" if half.asynchronous else ""
        if exchange.api == "embeddings":
            body = {"inputs" if name == "input" else name: value for name, value in exchange.body.items()}
            return getattr(mistral.embeddings, f"create{suffix}")(**body)
        method = getattr(mistral.chat, ("stream" if exchange.streamed else "complete") + suffix)
        known = inspect.signature(method).parameters
        return method(**{name: value for name, value in exchange.body.items() if name in known})

    def differing(self, exchange: Exchange, request: Request) -> list[str]:
        """As for others; the SDK writes more into the definition of a tool."""
        tools = exchange.body.get("tools") or []
        told = [
            {**offered, "function": {**offered["function"], **recorded["function"]}} == offered
            for recorded, offered in zip(tools, request.get("tools", []), strict=False)
        ]
        found = super().differing(exchange, request)
        return [each for each in found if "'tools'" not in each or len(told) != len(tools) or not all(told)]

    def errors(self) -> tuple[type[Exception], ...]:
        """The SDK's error, of which its others are."""
        errors = import_module(f"{self.module}.errors")
        return (errors.MistralError, errors.NoResponseError)

    def provider(self, exchange: Exchange) -> str:
        """The SDK's own."""
        return "mistral_ai"


DRIVERS = (Mistral(),)
