"""The contract, for the ways of asking that the Cohere SDK has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import cohere

from spanrelay.semconv import names
from spanrelay_cohere import CohereInstrumentor
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.contract import InstrumentorContract
from spanrelay_testkit.contract.streams import settle_garbage
from spanrelay_testkit.half import Form, Half, Outcome, StreamForm

MODEL = "command-a-03-2025"


def text_of(event: Any) -> str:
    if event is None or event.type != "content-delta":
        return ""
    return event.delta.message.content.text or ""


def text_in(answer: Any) -> str:
    return "".join(part.text for part in answer.message.content if part.type == "text")


async def whole(half: Half, client: Any, messages: Any) -> Outcome:
    answer = await half.settle(client.chat(model=MODEL, messages=messages))
    return Outcome(text_in(answer), (type(answer), type(answer.message)))


async def raw(half: Half, client: Any, messages: Any) -> Outcome:
    response = await half.settle(client.with_raw_response.chat(model=MODEL, messages=messages))
    return Outcome(text_in(response.data), (type(response), type(response.data)))


async def streamed(half: Half, client: Any, messages: Any) -> Outcome:
    stream = client.chat_stream(model=MODEL, messages=messages)
    events = [event async for event in half.each(stream)]
    return Outcome("".join(map(text_of, events)), (type(stream), *{type(event) for event in events}))


async def raw_stream(half: Half, client: Any, messages: Any) -> Outcome:
    async with half.entered(client.with_raw_response.chat_stream(model=MODEL, messages=messages)) as response:
        events = [event async for event in half.each(response.data)]
    return Outcome("".join(map(text_of, events)), (type(response), *{type(event) for event in events}))


class Stream:
    """A stream whose first event has been asked for, since the SDK sends nothing before: closed as others are."""

    def __init__(self, events: Any) -> None:
        self.events = events
        self.first = [next(events)]

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Any:
        return self.first.pop() if self.first else next(self.events)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        self.events.close()


class AsyncStream:
    """The async twin of `Stream`."""

    def __init__(self, events: Any, first: Any) -> None:
        self.events = events
        self.first = [first]

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> Any:
        return self.first.pop() if self.first else await self.events.__anext__()

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self.events.aclose()


def opened(client: Any, messages: Any) -> Any:
    events = client.chat_stream(model=MODEL, messages=messages)
    return Stream(events) if hasattr(events, "__next__") else aopened(events)


async def aopened(events: Any) -> AsyncStream:
    return AsyncStream(events, await events.__anext__())


class Client:
    """A client that is closed and hooked as others are."""

    def __init__(self, client: Any) -> None:
        self.chat, self.chat_stream = client.chat, client.chat_stream
        self.with_raw_response, self.embed, self.models = client.with_raw_response, client.embed, client.models
        self._client = client._client_wrapper.httpx_client.httpx_client

    def close(self) -> Any:
        return self._client.aclose() if hasattr(self._client, "aclose") else self._client.close()


class TestCohere(InstrumentorContract):
    instrumentor = CohereInstrumentor
    leaves_failed_streams = True
    forms: ClassVar[dict[str, Form]] = {
        "chat": whole,
        "chat raw": raw,
        "chat stream": streamed,
        "chat raw stream": raw_stream,
    }
    streams: ClassVar[dict[str, StreamForm]] = {"chat": StreamForm(opened, text_of, cut=6)}

    async def test_a_stream_that_was_never_read_ends_its_span(
        self, half: Half, streaming: StreamForm, instrumented: Capture
    ) -> None:
        """The SDK sends nothing before the first event is asked for, and what comes then may be the whole answer."""
        async with self.talking(half) as (_, client):
            stream = await half.settle(streaming.open(client, self.question("hi")))
            del stream
            await settle_garbage()
        assert (instrumented.span.attributes or {}).get(names.INCOMPLETE) in ("closed", "abandoned", None)

    def open_client(self, half: Half, url: str, *, timeout: float = 60, max_retries: int = 0, **options: Any) -> Any:
        kind: Any = cohere.AsyncClientV2 if half.asynchronous else cohere.ClientV2
        client = kind(api_key="none", base_url=url.removesuffix("/v1"), timeout=timeout)
        sender = client._client_wrapper.httpx_client
        if not hasattr(sender, "base_max_retries"):  # older versions are told with each request
            client.chat = partial(client.chat, request_options={"max_retries": max_retries})
        sender.base_max_retries = max_retries
        return Client(client)

    def question(self, text: str) -> list[Any]:
        return [{"role": "user", "content": text}]

    def call(self, client: Any, messages: Any, **options: Any) -> Any:
        return client.chat(model=MODEL, messages=messages, **options)

    def bound_call(self, client: Any) -> Callable[[Any], Any]:
        chat = client.chat
        return lambda messages: chat(model=MODEL, messages=messages)

    def embed(self, client: Any, texts: Sequence[str]) -> Any:
        return client.embed(model="embed-v4.0", texts=texts, input_type="search_query", embedding_types=["float"])

    def list_models(self, client: Any) -> Any:
        return client.models.list()
