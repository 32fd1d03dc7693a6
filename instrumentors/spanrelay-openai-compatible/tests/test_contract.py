"""The contract, for each SDK of the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import cerebras.cloud.sdk
import fireworks
import groq
import httpx
import perplexity
import sambanova
import together
import writerai

import spanrelay_openai_compatible as ours
from spanrelay_testkit.contract import InstrumentorContract
from spanrelay_testkit.contract.stainless import (
    Ask,
    chat_text,
    raw,
    raw_stream,
    streamed,
    streaming_response,
    streaming_response_stream,
    whole,
)
from spanrelay_testkit.half import Half, StreamForm

MODEL = "llama-4"


def chat(kind: str = "") -> Ask:
    """`chat.completions.create`, or its raw kind."""

    def ask(client: Any) -> Callable[..., Any]:
        completions = getattr(client.chat.completions, kind) if kind else client.chat.completions
        return lambda messages, **options: completions.create(model=MODEL, messages=messages, **options)

    return ask


def forms_of(ask: Callable[[str], Ask]) -> dict[str, Any]:
    """Every way of asking that these SDKs have."""
    return {
        "chat": whole(ask("")),
        "chat stream": streamed(ask(""), chat_text),
        "chat raw": raw(ask("with_raw_response")),
        "chat raw stream": raw_stream(ask("with_raw_response"), chat_text),
        "chat streaming response": streaming_response(ask("with_streaming_response")),
        "chat streaming response stream": streaming_response_stream(ask("with_streaming_response"), chat_text),
    }


class Compatible(InstrumentorContract):
    """What the SDKs of the table have in common; `ask` is how chat is asked for."""

    sdk: ClassVar[Any]
    title: ClassVar[str]
    prefix: ClassVar[str] = ""
    """What of the server's base URL the SDK adds itself."""
    ask: ClassVar[Callable[[str], Ask]] = staticmethod(chat)
    forms: ClassVar[dict[str, Any]] = forms_of(chat)
    streams: ClassVar[dict[str, StreamForm]] = {
        "chat": StreamForm(lambda client, messages: chat()(client)(messages, stream=True), chat_text)
    }

    def open_client(self, half: Half, url: str, **options: Any) -> Any:
        kind: Any = getattr(self.sdk, f"{'Async' if half.asynchronous else ''}{self.title}")
        return kind(base_url=url.removesuffix(self.prefix), api_key="none", **{"max_retries": 0, **options})

    def question(self, text: str) -> list[Any]:
        return [{"role": "user", "content": text}]

    def call(self, client: Any, messages: Any, **options: Any) -> Any:
        return self.ask("")(client)(messages, **options)

    def bound_call(self, client: Any) -> Callable[[Any], Any]:
        return self.ask("with_raw_response")(client)

    def embed(self, client: Any, texts: Sequence[str]) -> Any:
        path = f"{self.prefix}/embeddings"
        return client.post(path, body={"model": "embedder", "input": texts}, cast_to=object)

    def list_models(self, client: Any) -> Any:
        return client.get(f"{self.prefix}/models", cast_to=object)


class TestGroq(Compatible):
    instrumentor = ours.GroqInstrumentor
    sdk, title = groq, "Groq"

    def open_client(self, half: Half, url: str, **options: Any) -> Any:
        return super().open_client(half, url.removesuffix("/v1"), **options)

    prefix = "/openai/v1"


class TestTogether(Compatible):
    instrumentor = ours.TogetherInstrumentor
    sdk, title, prefix = together, "Together", "/v1"


class TestCerebras(Compatible):
    instrumentor = ours.CerebrasInstrumentor
    sdk, title, prefix = cerebras.cloud.sdk, "Cerebras", "/v1"

    def open_client(self, half: Half, url: str, **options: Any) -> Any:
        return super().open_client(half, url, warm_tcp_connection=False, **options)


class TestFireworks(Compatible):
    instrumentor = ours.FireworksInstrumentor
    sdk, title, prefix = fireworks, "Fireworks", "/v1"


class TestPerplexity(Compatible):
    instrumentor = ours.PerplexityInstrumentor
    sdk, title = perplexity, "Perplexity"


class TestSambaNova(Compatible):
    instrumentor = ours.SambaNovaInstrumentor
    sdk, title = sambanova, "SambaNova"


def writer_chat(kind: str = "") -> Ask:
    """`chat.chat`, or its raw kind."""

    def ask(client: Any) -> Callable[..., Any]:
        resource = getattr(client.chat, kind) if kind else client.chat
        return lambda messages, **options: resource.chat(model=MODEL, messages=messages, **options)

    return ask


def to_openais_path(request: httpx.Request) -> httpx.Request:
    """Send to the server's route what Writer has another path for."""
    if request.url.path == "/v1/chat":
        request.url = request.url.copy_with(path="/v1/chat/completions")
    return request


class ToOpenAIsPath(httpx.HTTPTransport):
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return super().handle_request(to_openais_path(request))


class AsyncToOpenAIsPath(httpx.AsyncHTTPTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await super().handle_async_request(to_openais_path(request))


class TestWriter(Compatible):
    instrumentor = ours.WriterInstrumentor
    sdk, title, prefix = writerai, "Writer", "/v1"
    ask = staticmethod(writer_chat)
    forms: ClassVar[dict[str, Any]] = forms_of(writer_chat)
    streams: ClassVar[dict[str, StreamForm]] = {
        "chat": StreamForm(lambda client, messages: writer_chat()(client)(messages, stream=True), chat_text)
    }

    def open_client(self, half: Half, url: str, **options: Any) -> Any:
        if half.asynchronous:
            http: Any = writerai.DefaultAsyncHttpxClient(transport=AsyncToOpenAIsPath())
        else:
            http = writerai.DefaultHttpxClient(transport=ToOpenAIsPath())
        return super().open_client(half, url, http_client=http, **options)
