"""The SDKs of providers that speak OpenAI's APIs, which Stainless generates as it does OpenAI's."""

from __future__ import annotations

from importlib import import_module
from typing import Any, ClassVar

from spanrelay_testkit.conformance.drivers.openai import RESOURCES, Stainless
from spanrelay_testkit.conformance.exchanges import Exchange


class Compatible(Stainless):
    """An SDK of the table: its client is `title`, and `prefix` is what its methods put before the path."""

    title: ClassVar[str]
    prefix: ClassVar[str] = "/v1"
    options: ClassVar[dict[str, Any]] = {}

    def base_of(self, exchange: Exchange) -> str:
        """The path of the client's base URL, before which the SDK puts a part of its own."""
        return super().base_of(exchange).removesuffix(self.prefix)

    def path_of(self, exchange: Exchange) -> str:
        """The path that the SDK asks for."""
        return self.base_of(exchange) + self.prefix + self.resources[exchange.api][1]

    def client(self, exchange: Exchange, address: str, *, asynchronous: bool) -> Any:
        """A client whose base URL has the recorded path, but for what the SDK puts before it."""
        kind = getattr(import_module(self.module), ("Async" if asynchronous else "") + self.title)
        return kind(base_url=address + self.base_of(exchange), api_key="none", max_retries=0, **self.options)

    def provider(self, exchange: Exchange) -> str:
        """The SDK's own."""
        return self.instrumentors[0].partition(":")[2].removesuffix("Instrumentor").lower()


class Groq(Compatible):
    """Groq."""

    sdk = module = "groq"
    title, prefix = "Groq", "/openai/v1"
    instrumentors = ("spanrelay_openai_compatible:GroqInstrumentor",)
    serves = frozenset({("groq", "chat_completions"), ("groq", "embeddings")})


class Together(Compatible):
    """Together."""

    sdk = module = "together"
    title = "Together"
    instrumentors = ("spanrelay_openai_compatible:TogetherInstrumentor",)
    serves = frozenset(("together", api) for api in ("chat_completions", "completions", "embeddings"))


class Cerebras(Compatible):
    """Cerebras, whose client otherwise sends a request as it is made."""

    sdk, module = "cerebras_cloud_sdk", "cerebras.cloud.sdk"
    title = "Cerebras"
    options: ClassVar[dict[str, Any]] = {"warm_tcp_connection": False}
    instrumentors = ("spanrelay_openai_compatible:CerebrasInstrumentor",)
    serves = frozenset(("cerebras", api) for api in ("chat_completions", "completions"))


class Fireworks(Compatible):
    """Fireworks."""

    sdk, module = "fireworks-ai", "fireworks"
    title = "Fireworks"
    instrumentors = ("spanrelay_openai_compatible:FireworksInstrumentor",)
    serves = frozenset(("fireworks", api) for api in ("chat_completions", "completions"))


class Perplexity(Compatible):
    """Perplexity."""

    sdk, module = "perplexityai", "perplexity"
    title, prefix = "Perplexity", ""
    instrumentors = ("spanrelay_openai_compatible:PerplexityInstrumentor",)
    serves = frozenset({("perplexity", "chat_completions")})


class SambaNova(Compatible):
    """SambaNova."""

    sdk = module = "sambanova"
    title, prefix = "SambaNova", ""
    instrumentors = ("spanrelay_openai_compatible:SambaNovaInstrumentor",)
    serves = frozenset(("sambanova", api) for api in ("chat_completions", "completions", "embeddings", "responses"))


class Writer(Compatible):
    """Writer, whose path for chat is its own."""

    sdk, module = "writer-sdk", "writerai"
    title = "Writer"
    resources: ClassVar[dict[str, tuple[str, str]]] = {**RESOURCES, "chat_completions": ("chat.chat", "/chat")}
    instrumentors = ("spanrelay_openai_compatible:WriterInstrumentor",)
    serves = frozenset({("writer", "chat_completions")})


DRIVERS = (Cerebras(), Fireworks(), Groq(), Perplexity(), SambaNova(), Together(), Writer())
