"""The contract, for every way of asking that the Google Gen AI SDK has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import aiohttp
import httpx
import pytest
from google import genai
from google.genai import types

from spanrelay_google_genai import GoogleGenAIInstrumentor
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.contract import InstrumentorContract
from spanrelay_testkit.contract.caching import CacheContract
from spanrelay_testkit.contract.checks import check_same_error
from spanrelay_testkit.contract.outcomes import check_failed, deaf_address, failure_of
from spanrelay_testkit.exchange import error
from spanrelay_testkit.half import Form, Half, Outcome, StreamForm

MODEL = "gemini-3-flash"


class Talker:
    """A client, and its half; closing it closes both halves."""

    def __init__(self, half: Half, url: str, options: dict[str, Any]) -> None:
        self._half = half
        self.sdk = genai.Client(api_key="none", vertexai=False, http_options=types.HttpOptions(base_url=url, **options))
        self.asked: Any = self.sdk.aio if half.asynchronous else self.sdk
        api: Any = self.sdk._api_client
        self._client = api._async_httpx_client if half.asynchronous else api._httpx_client

    def close(self) -> Any:
        self.sdk.close()
        if self._half.asynchronous:
            return self._aclose()
        self._client.close()  # the SDK leaves a client alone that it was given
        return None

    async def _aclose(self) -> None:
        await self.sdk.aio.aclose()
        if self._client is not None:
            await self._client.aclose()


class Stream:
    """A generator of the SDK's as other SDKs have their streams: with `close()`, and as a context manager."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return next(self._generator)

    def close(self) -> None:
        self._generator.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class AsyncStream:
    """The async twin of `Stream`."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        return await anext(self._generator)

    async def close(self) -> None:
        await self._generator.aclose()
        for _ in range(10):  # the event loop ends the generators beneath one after the other
            await asyncio.sleep(0)

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()


def told_by(chunk: Any) -> str:
    """The text of an answer or a chunk, thoughts aside."""
    return chunk.text or ""


async def whole(half: Half, client: Talker, contents: Any) -> Outcome:
    answer = await half.settle(client.asked.models.generate_content(model=MODEL, contents=contents))
    return Outcome(told_by(answer), (type(answer),))


async def streamed(half: Half, client: Talker, contents: Any) -> Outcome:
    stream = await half.settle(client.asked.models.generate_content_stream(model=MODEL, contents=contents))
    chunks = [chunk async for chunk in half.each(stream)]
    return Outcome("".join(map(told_by, chunks)), (type(stream), *{type(chunk) for chunk in chunks}))


async def chat(half: Half, client: Talker, contents: Any) -> Outcome:
    answer = await half.settle(client.asked.chats.create(model=MODEL).send_message(contents[0].parts))
    return Outcome(told_by(answer), (type(answer),))


async def chat_stream(half: Half, client: Talker, contents: Any) -> Outcome:
    stream = await half.settle(client.asked.chats.create(model=MODEL).send_message_stream(contents[0].parts))
    chunks = [chunk async for chunk in half.each(stream)]
    return Outcome("".join(map(told_by, chunks)), (type(stream), *{type(chunk) for chunk in chunks}))


async def parsed(half: Half, client: Talker, contents: Any) -> Outcome:
    config = {"response_mime_type": "application/json", "response_schema": {"type": "OBJECT"}}
    answer = await half.settle(client.asked.models.generate_content(model=MODEL, contents=contents, config=config))
    return Outcome(told_by(answer), (type(answer), type(answer.parsed)))


def opened(client: Talker, contents: Any) -> Any:
    stream = client.asked.models.generate_content_stream(model=MODEL, contents=contents)
    return awaited(stream) if hasattr(stream, "__await__") else Stream(stream)


async def awaited(stream: Any) -> AsyncStream:
    return AsyncStream(await stream)


@pytest.mark.filterwarnings("ignore:.*outside of chats is not recommended")
class TestGoogleGenAI(InstrumentorContract, CacheContract):
    instrumentor = GoogleGenAIInstrumentor
    forms: ClassVar[dict[str, Form]] = {
        "whole": whole,
        "stream": streamed,
        "chat": chat,
        "chat stream": chat_stream,
        "parsed": parsed,
    }
    streams: ClassVar[dict[str, StreamForm]] = {"stream": StreamForm(opened, told_by)}

    def open_client(self, half: Half, url: str, **options: Any) -> Talker:
        retries = types.HttpRetryOptions(attempts=1 + options.get("max_retries", 0), initial_delay=0.001, jitter=0)
        given: dict[str, Any] = {"retry_options": retries, **self.transport()}
        if "timeout" in options:
            given["timeout"] = int(options["timeout"] * 1000)
        return Talker(half, url.removesuffix("/v1"), given)

    def transport(self) -> dict[str, Any]:
        return {"httpx_client": httpx.Client(verify=False), "httpx_async_client": httpx.AsyncClient(verify=False)}

    def question(self, text: str) -> list[Any]:
        return [types.UserContent(text)]

    def call(self, client: Any, messages: Any, **options: Any) -> Any:
        return client.asked.models.generate_content(model=MODEL, contents=list(messages), **options)

    def bound_call(self, client: Any) -> Callable[[Any], Any]:
        generate = client.asked.models.generate_content
        return lambda messages: generate(model=MODEL, contents=messages)

    def embed(self, client: Any, texts: Sequence[str]) -> Any:
        return client.asked.models.embed_content(model="gemini-embedding-001", contents=list(texts))

    def list_models(self, client: Any) -> Any:
        return client.asked.models.list()

    async def test_a_stream_that_was_never_read_ends_its_span(
        self, half: Half, streaming: StreamForm, instrumented: Capture
    ) -> None:
        """The SDK sends nothing for it."""
        async with self.talking(half) as (server, client):
            await half.settle(streaming.open(client, self.question("hi")))
        assert (server.requests, instrumented.spans) == ([], ())

    async def test_a_refused_stream_is_the_sdks_own_error(
        self, half: Half, streaming: StreamForm, capture: Capture
    ) -> None:
        """It comes with the first step."""

        async def first(client: Any) -> Any:
            return await half.following(await half.settle(streaming.open(client, self.question("hi"))))

        async with self.talking(half, error(429), error(429)) as (_, client):
            bare = await failure_of(half, lambda: first(client))
            with self.instrumenting(capture):
                ours = await failure_of(half, lambda: first(client))
        check_same_error(ours, bare)
        check_failed(capture.span, ours)


@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
class TestOverAiohttp(TestGoogleGenAI):
    """The same with the HTTP client that the SDK's async half takes where it can."""

    def transport(self) -> dict[str, Any]:
        return {}

    @pytest.fixture(autouse=True)
    def async_half_alone(self, request: pytest.FixtureRequest) -> None:
        half = request.node.callspec.params.get("half") if hasattr(request.node, "callspec") else None
        if half is not None and not half.asynchronous:
            pytest.skip("it is asked by the async half alone")

    async def test_the_real_call_runs_under_its_span(self, half: Half, instrumented: Capture) -> None:
        """It has no hooks in which the span could be looked at."""

    async def test_a_refused_connection_is_the_sdks_own_error(self, half: Half, capture: Capture) -> None:
        """No two errors of it are equal, as each holds another of the system's."""
        with deaf_address() as url, self.instrumenting(capture):
            client = self.open_client(half, url)
            ours = await failure_of(half, lambda: self.call(client, self.question("hi")))
            await half.close(client)
        assert isinstance(ours, aiohttp.ClientConnectorError)
        check_failed(capture.span, ours)
