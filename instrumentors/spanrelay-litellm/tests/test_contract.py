"""The contract, for the functions of LiteLLM: completions by OpenAI's SDK, responses by LiteLLM's own client."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import litellm
import openai
from opentelemetry.trace import StatusCode

from spanrelay_litellm import LiteLLMInstrumentor
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.contract import InstrumentorContract
from spanrelay_testkit.contract.checks import check_same_error
from spanrelay_testkit.contract.outcomes import failure_of
from spanrelay_testkit.contract.stainless import chat_text
from spanrelay_testkit.half import Form, Half, Outcome, StreamForm

MODEL = "openai/gpt-5-mini"


class Client:
    """What each call of a program passes to LiteLLM's functions, closed and hooked as clients are."""

    def __init__(self, half: Half, url: str, timeout: float, max_retries: int) -> None:
        self._asynchronous = half.asynchronous
        kind: Any = openai.AsyncOpenAI if half.asynchronous else openai.OpenAI
        self.sdk = kind(base_url=url, api_key="none", timeout=timeout, max_retries=max_retries)
        self.limits = {"timeout": timeout, "max_retries": max_retries}
        self.address = {"api_base": url, "api_key": "none", **self.limits}
        self._client = self.sdk._client

    def ask(self, name: str, **options: Any) -> Any:
        """Call the half of a function that this client is for."""
        return getattr(litellm, f"a{name}" if self._asynchronous else name)(**options)

    def close(self) -> Any:
        return self.sdk.close()


def complete(client: Client, messages: Any, **options: Any) -> Any:
    return client.ask("completion", model=MODEL, messages=messages, client=client.sdk, **client.limits, **options)


def respond(client: Client, messages: Any, **options: Any) -> Any:
    return client.ask("responses", model=MODEL, input=messages, **client.address, **options)


def event_text(event: Any) -> str:
    return event.delta if event.type == "response.output_text.delta" else ""


async def whole(half: Half, client: Client, messages: Any) -> Outcome:
    answer = await half.settle(complete(client, messages))
    return Outcome(answer.choices[0].message.content, (type(answer), type(answer.choices[0])))


async def response(half: Half, client: Client, messages: Any) -> Outcome:
    answer = await half.settle(respond(client, messages))
    [message] = [item for item in answer.output if item.type == "message"]
    return Outcome(message.content[0].text, (type(answer), type(message)))


def streamed(ask: Callable[..., Any], text_of: Callable[[Any], str]) -> Form:
    """A stream of one of the functions, read to its end."""

    async def read(half: Half, client: Client, messages: Any) -> Outcome:
        stream = await half.settle(ask(client, messages, stream=True))
        chunks = [chunk async for chunk in half.each(stream)]
        return Outcome("".join(map(text_of, chunks)), tuple({type(chunk): None for chunk in chunks}))

    return read


class Stream:
    """A stream of LiteLLM's, which is no context manager, closed and left as others are."""

    def __init__(self, chunks: Any) -> None:
        self.chunks = chunks

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Any:
        return next(self.chunks)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        self.chunks.close()


class AsyncStream:
    """The async twin of `Stream`; LiteLLM's own has `aclose`."""

    def __init__(self, chunks: Any) -> None:
        self.chunks = chunks

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> Any:
        return await self.chunks.__anext__()

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self.chunks.aclose()


def opening(ask: Callable[..., Any]) -> Callable[[Client, Any], Any]:
    """What opens a stream of one of the functions."""

    async def awaited(chunks: Any) -> AsyncStream:
        return AsyncStream(await chunks)

    def opened(client: Client, messages: Any) -> Any:
        chunks = ask(client, messages, stream=True)
        return awaited(chunks) if inspect.isawaitable(chunks) else Stream(chunks)

    return opened


class TestLiteLLM(InstrumentorContract):
    instrumentor = LiteLLMInstrumentor
    forms: ClassVar[dict[str, Form]] = {
        "completion": whole,
        "completion stream": streamed(complete, chat_text),
        "responses": response,
        "responses stream": streamed(respond, event_text),
    }
    streams: ClassVar[dict[str, StreamForm]] = {
        "completion": StreamForm(opening(complete), chat_text),
        "responses": StreamForm(opening(respond), event_text, cut=6),
    }

    async def test_a_generator_of_messages_reaches_the_provider_whole(self, half: Half, capture: Capture) -> None:
        """LiteLLM takes none, and says so as it does without us."""
        async with self.talking(half) as (server, client):

            def ask() -> Any:
                return self.call(client, (message for message in self.question("one")))

            bare = await failure_of(half, ask)
            with self.instrumenting(capture):
                ours = await failure_of(half, ask)
        check_same_error(ours, bare)
        assert server.requests == []
        assert capture.span.status.status_code is StatusCode.ERROR

    def open_client(self, half: Half, url: str, *, timeout: float = 60, max_retries: int = 0, **options: Any) -> Any:
        return Client(half, url, timeout, max_retries)

    def question(self, text: str) -> list[Any]:
        return [{"role": "user", "content": text}]

    def call(self, client: Any, messages: Any, **options: Any) -> Any:
        return complete(client, messages, **options)

    def bound_call(self, client: Any) -> Callable[[Any], Any]:
        ask = litellm.acompletion if client._asynchronous else litellm.completion
        return lambda messages: ask(model=MODEL, messages=messages, client=client.sdk, **client.limits)

    def embed(self, client: Any, texts: Sequence[str]) -> Any:
        return client.ask("embedding", model="openai/text-embedding-3-small", input=texts, client=client.sdk)

    def list_models(self, client: Any) -> Any:
        return client.sdk.models.list()
