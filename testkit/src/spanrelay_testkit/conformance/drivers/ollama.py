"""The `ollama` client."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from spanrelay_testkit.conformance.driver import Driver
from spanrelay_testkit.conformance.exchanges import Exchange
from spanrelay_testkit.exchange import Request
from spanrelay_testkit.half import Half

METHODS = {"/api/chat": "chat", "/api/generate": "generate", "/api/embed": "embed", "/api/embeddings": "embeddings"}
"""By path."""


class Ollama(Driver):
    """The client of Ollama, over its own API."""

    sdk = module = "ollama"
    instrumentors = ("spanrelay_ollama:OllamaInstrumentor",)
    serves = frozenset({("ollama", "native")})

    def why_not(self, exchange: Exchange) -> str | None:
        """What is no model call."""
        return None if exchange.path in METHODS else f"{exchange.path} asks no model"

    @asynccontextmanager
    async def opened(self, exchange: Exchange, address: str, half: Half) -> AsyncGenerator[Any]:
        """A client of the server."""
        kind = getattr(import_module("ollama"), "AsyncClient" if half.asynchronous else "Client")
        async with half.entered(kind(host=address)) as client:
            yield client

    def call(self, client: Any, exchange: Exchange) -> Any:
        """Ask with the arguments that the method knows."""
        method = getattr(client, METHODS[exchange.path])
        known = inspect.signature(method).parameters
        return method(**{name: value for name, value in exchange.body.items() if name in known})

    def errors(self) -> tuple[type[Exception], ...]:
        """What the client raises of an answer."""
        return (import_module("ollama").ResponseError,)

    def differing(self, exchange: Exchange, request: Request) -> list[str]:
        """As for others, but that the client leaves out what is empty, and the ids of tool calls."""
        recorded = {name: value for name, value in exchange.body.items() if value not in (None, "", [], {})}
        sent = request.body if isinstance(request.body, Mapping) else {}
        return [
            f"sends another {name!r}"
            for name, value in recorded.items()
            if name not in ("messages", "tools") and sent.get(name) != value
        ]

    def provider(self, exchange: Exchange) -> str:
        """The client's own."""
        return "ollama"


DRIVERS = (Ollama(),)
