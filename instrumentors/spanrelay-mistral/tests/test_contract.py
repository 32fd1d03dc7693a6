"""The contract, for every way of asking that the Mistral SDK has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import isawaitable
from typing import Any, ClassVar

import mistralai.azure.client.basesdk
import mistralai.gcp.client.basesdk
from mistralai.client import Mistral
from mistralai.client.utils import BackoffStrategy, RetryConfig
from pydantic import BaseModel

from spanrelay_mistral import MistralInstrumentor
from spanrelay_testkit.contract import InstrumentorContract
from spanrelay_testkit.half import Form, Half, Outcome, StreamForm

MODEL = "mistral-large-latest"

TWINS = (mistralai.azure.client.basesdk, mistralai.gcp.client.basesdk)
"""Imported, so that they are patched too."""


class Colour(BaseModel):
    answer: str


class Client(Mistral):
    """A client that is closed and hooked as others are."""

    asynchronous = False

    @property
    def _client(self) -> Any:
        configuration = self.sdk_configuration
        return configuration.async_client if self.asynchronous else configuration.client

    def close(self) -> Any:
        return self.__aexit__(None, None, None) if self.asynchronous else self.__exit__(None, None, None)


def method(half: Half, resource: Any, name: str) -> Callable[..., Any]:
    return getattr(resource, f"{name}_async" if half.asynchronous else name)


def of(client: Client) -> Half:
    return Half(asynchronous=client.asynchronous)


def text_of(event: Any) -> str:
    return "".join(choice.delta.content or "" for choice in event.data.choices)


def whole(resource: str, name: str = "complete", **options: Any) -> Form:
    async def run(half: Half, client: Any, messages: Any) -> Outcome:
        ask = method(half, getattr(client, resource), name)
        answer = await half.settle(ask(messages=messages, **options))
        [choice] = answer.choices
        return Outcome(choice.message.content, (type(answer), type(choice.message)))

    return run


def streamed(resource: str, name: str = "stream", **options: Any) -> Form:
    async def run(half: Half, client: Any, messages: Any) -> Outcome:
        ask = method(half, getattr(client, resource), name)
        async with half.entered(await half.settle(ask(messages=messages, **options))) as stream:
            events = [event async for event in half.each(stream)]
        return Outcome("".join(map(text_of, events)), (type(stream), *{type(event) for event in events}))

    return run


def opened(client: Any, messages: Any) -> Any:
    stream = method(of(client), client.chat, "stream")(model=MODEL, messages=messages)
    return aopened(stream) if isawaitable(stream) else closed_by(stream, stream.response.close)


async def aopened(asked: Any) -> Any:
    stream = await asked
    return closed_by(stream, stream.response.aclose)


def closed_by(stream: Any, close: Any) -> Any:
    """Return a stream that older versions close by its response alone."""
    if not hasattr(stream, "close"):
        stream.close = close
    return stream


class TestMistral(InstrumentorContract):
    instrumentor = MistralInstrumentor
    leaves_failed_streams = True
    forms: ClassVar[dict[str, Any]] = {
        "chat": whole("chat", model=MODEL),
        "chat stream": streamed("chat", model=MODEL),
        "chat parsed": whole("chat", "parse", model=MODEL, response_format=Colour),
        "chat stream parsed": streamed("chat", "parse_stream", model=MODEL, response_format=Colour),
    }
    streams: ClassVar[dict[str, StreamForm]] = {"chat": StreamForm(opened, text_of)}

    def open_client(self, half: Half, url: str, *, timeout: float = 60, max_retries: int = 0, **options: Any) -> Any:
        client = Client(
            api_key="none",
            server_url=url.removesuffix("/v1"),
            timeout_ms=int(timeout * 1000),
            retry_config=RetryConfig("backoff", BackoffStrategy(1, 1, 1, 5000), False) if max_retries else None,
        )
        client.asynchronous = half.asynchronous
        return client

    def question(self, text: str) -> list[Any]:
        return [{"role": "user", "content": text}]

    def call(self, client: Any, messages: Any, **options: Any) -> Any:
        return method(of(client), client.chat, "complete")(model=MODEL, messages=messages, **options)

    def bound_call(self, client: Any) -> Callable[[Any], Any]:
        complete = method(of(client), client.chat, "complete")
        return lambda messages: complete(model=MODEL, messages=messages)

    def embed(self, client: Any, texts: Sequence[str]) -> Any:
        return method(of(client), client.embeddings, "create")(model="mistral-embed", inputs=texts)

    def list_models(self, client: Any) -> Any:
        return method(of(client), client.models, "list")()
