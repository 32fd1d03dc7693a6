"""The contract, for every way of asking for chat completions that the inference clients have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient, close_session, get_async_session, get_session
from opentelemetry.trace import StatusCode

from spanrelay.semconv import names
from spanrelay_huggingface import HuggingFaceInstrumentor
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.contract import InstrumentorContract
from spanrelay_testkit.contract.outcomes import failure_of
from spanrelay_testkit.contract.subject import ANSWER
from spanrelay_testkit.exchange import error, reply
from spanrelay_testkit.half import Half, Outcome, StreamForm

MODEL = "meta-llama/Llama-3.3-70B-Instruct"


class Client(InferenceClient):
    """A client that is closed and hooked as others are."""

    @property
    def _client(self) -> Any:
        return get_session()

    def close(self) -> None:
        super().close()
        close_session()


class AsyncClient(AsyncInferenceClient):
    """The async twin of `Client`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._client = self._async_client = get_async_session()

    async def close(self) -> None:
        await super().close()
        await self._client.aclose()


class Stream:
    """A stream, which is a generator, closed as others are."""

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
    """The async twin of `Stream`."""

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


def opened(client: Any, messages: Any) -> Any:
    stream = client.chat_completion(messages, model=MODEL, stream=True)
    return Stream(stream) if isinstance(client, InferenceClient) else aopened(stream)


async def aopened(asking: Any) -> AsyncStream:
    return AsyncStream(await asking)


def text_of(chunk: Any) -> str:
    return "".join(choice.delta.content or "" for choice in chunk.choices)


async def whole(half: Half, client: Any, messages: Any) -> Outcome:
    answer = await half.settle(client.chat_completion(messages, model=MODEL))
    [choice] = answer.choices
    return Outcome(choice.message.content, (type(answer), type(choice.message)))


async def as_openai(half: Half, client: Any, messages: Any) -> Outcome:
    answer = await half.settle(client.chat.completions.create(messages, model=MODEL))
    return Outcome(answer.choices[0].message.content, (type(answer),))


async def streamed(half: Half, client: Any, messages: Any) -> Outcome:
    stream = await half.settle(client.chat_completion(messages, model=MODEL, stream=True))
    chunks = [chunk async for chunk in half.each(stream)]
    return Outcome("".join(map(text_of, chunks)), (type(stream), *{type(chunk) for chunk in chunks}))


class TestHuggingFace(InstrumentorContract):
    instrumentor = HuggingFaceInstrumentor
    forms: ClassVar[dict[str, Any]] = {"chat": whole, "as OpenAI": as_openai, "chat stream": streamed}
    streams: ClassVar[dict[str, StreamForm]] = {"chat": StreamForm(opened, text_of)}

    def open_client(self, half: Half, url: str, *, timeout: float | None = None, **options: Any) -> Any:
        kind: Any = AsyncClient if half.asynchronous else Client
        return kind(base_url=url, provider="hf-inference", api_key="none", timeout=timeout)

    def question(self, text: str) -> list[Any]:
        return [{"role": "user", "content": text}]

    def call(self, client: Any, messages: Any, **options: Any) -> Any:
        return client.chat_completion(messages, model=MODEL, **options)

    def bound_call(self, client: Any) -> Callable[[Any], Any]:
        ask = client.chat_completion
        return lambda messages: ask(messages, model=MODEL)

    def embed(self, client: Any, texts: Sequence[str]) -> Any:
        raise NotImplementedError

    async def test_embeddings_are_one_span_of_their_own_kind(self, half: Half, instrumented: Capture) -> None:
        pytest.skip("an endpoint gives an array of numbers; what providers give is in test_tasks.py")

    async def test_a_request_that_is_no_inference_makes_no_span(self, half: Half, instrumented: Capture) -> None:
        async with self.talking(half) as (server, client):
            await failure_of(half, lambda: client.get_endpoint_info())
        assert [request.path for request in server.requests] == ["/v1/info"]
        assert instrumented.spans == ()

    async def test_retries_inside_the_client_are_one_span(self, half: Half, instrumented: Capture) -> None:
        """The client has none."""
        async with self.talking(half, error(503), reply(ANSWER)) as (server, client):
            await failure_of(half, lambda: self.call(client, self.question("hi")))
        assert len(server.requests) == 1
        assert instrumented.span.status.status_code is StatusCode.ERROR

    async def test_a_generator_of_messages_reaches_the_provider_whole(self, half: Half, instrumented: Capture) -> None:
        """The client sends lists alone: what it says of a generator is what the caller gets."""
        async with self.talking(half) as (server, client):
            ours = await failure_of(half, lambda: self.call(client, (each for each in self.question("one"))))
        assert type(ours) is TypeError
        assert server.requests == []
        assert (instrumented.span.attributes or {})[names.ERROR_TYPE] == "TypeError"
