"""The `anthropic` SDK."""

from __future__ import annotations

from importlib import import_module
from typing import Any, ClassVar

from spanrelay_testkit.conformance.drivers.openai import Stainless
from spanrelay_testkit.conformance.exchanges import Exchange


class Anthropic(Stainless):
    """The client of Anthropic; what was asked with `beta=true` is asked of the SDK's beta methods."""

    sdk = module = "anthropic"
    instrumentors = ("spanrelay_anthropic:AnthropicInstrumentor",)
    serves = frozenset({("anthropic", "messages"), ("anthropic", "count_tokens")})
    resources: ClassVar = {
        "messages": ("messages.create", "/v1/messages"),
        "count_tokens": ("messages.count_tokens", "/v1/messages/count_tokens"),
    }

    def client(self, exchange: Exchange, address: str, *, asynchronous: bool) -> Any:
        """A client whose base URL has what the recorded path begins with."""
        kind = getattr(import_module("anthropic"), "AsyncAnthropic" if asynchronous else "Anthropic")
        return kind(base_url=address + self.base_of(exchange), api_key="none", max_retries=0)

    def create(self, client: Any, exchange: Exchange, *, raw: bool = False) -> Any:
        """The method of the API, or its beta."""
        return super().create(client.beta if "beta" in exchange.query else client, exchange, raw=raw)

    def provider(self, exchange: Exchange) -> str:
        """Nobody's host that is known."""
        return "anthropic"


DRIVERS = (Anthropic(),)
