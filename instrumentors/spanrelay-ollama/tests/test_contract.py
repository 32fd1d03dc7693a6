"""The contract, for every way of asking that the Ollama client has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, ClassVar

import ollama
import pytest
from opentelemetry.trace import StatusCode

from spanrelay import execution_intercept, use
from spanrelay_ollama import OllamaInstrumentor
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.contract import InstrumentorContract
from spanrelay_testkit.contract.policies import retry_once
from spanrelay_testkit.contract.subject import ANSWER
from spanrelay_testkit.exchange import error, reply
from spanrelay_testkit.half import Form, Half, Outcome, StreamForm

MODEL = "llama3.2"


def text_of(part: Any) -> str:
    return (part.message.content if hasattr(part, "message") else part.response) or ""


def asking(method: str, messages: Any) -> dict[str, Any]:
    """The question as the method takes it."""
    if method == "chat":
        return {"model": MODEL, "messages": messages}
    return {"model": MODEL, "prompt": messages[0]["content"]}


def whole(method: str) -> Form:
    async def run(half: Half, client: Any, messages: Any) -> Outcome:
        answer = await half.settle(getattr(client, method)(**asking(method, messages)))
        return Outcome(text_of(answer), (type(answer),))

    return run


def streamed(method: str) -> Form:
    async def run(half: Half, client: Any, messages: Any) -> Outcome:
        stream = await half.settle(getattr(client, method)(**asking(method, messages), stream=True))
        parts = [part async for part in half.each(stream)]
        return Outcome("".join(map(text_of, parts)), (type(stream), *{type(part) for part in parts}))

    return run


class Stream:
    """A stream whose first part has been asked for, since the client sends nothing before: closed as others are."""

    def __init__(self, parts: Iterator[Any]) -> None:
        self.parts = parts
        self.first = [next(parts)]

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Any:
        return self.first.pop() if self.first else next(self.parts)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        self.parts.close()  # type: ignore[attr-defined]  # it is a generator


class AsyncStream:
    """The async twin of `Stream`."""

    def __init__(self, parts: AsyncIterator[Any], first: Any) -> None:
        self.parts = parts
        self.first = [first]

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> Any:
        return self.first.pop() if self.first else await self.parts.__anext__()

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self.parts.aclose()  # type: ignore[attr-defined]  # it is a generator


def opened(client: Any, messages: Any) -> Any:
    stream = client.chat(model=MODEL, messages=messages, stream=True)
    return Stream(stream) if isinstance(client, ollama.Client) else aopened(stream)


async def aopened(asking: Any) -> AsyncStream:
    parts = await asking
    return AsyncStream(parts, await parts.__anext__())


class TestOllama(InstrumentorContract):
    instrumentor = OllamaInstrumentor
    leaves_failed_streams = True
    forms: ClassVar[dict[str, Any]] = {
        "chat": whole("chat"),
        "chat stream": streamed("chat"),
        "generate": whole("generate"),
        "generate stream": streamed("generate"),
    }
    streams: ClassVar[dict[str, StreamForm]] = {"chat": StreamForm(opened, text_of)}

    async def test_a_policy_may_send_a_failed_call_again(self, half: Half, form: Form, instrumented: Capture) -> None:
        if form.__qualname__.startswith("whole"):
            await super().test_a_policy_may_send_a_failed_call_again(half, form, instrumented)
            return
        # A stream is sent when it is read, and what has been handed out is not sent again.
        async with self.talking(half, error(500), reply(ANSWER)) as (server, client):
            with use(execution_intercept(name="retry")(retry_once)), pytest.raises(Exception, match="scripted failure"):
                await form(half, client, self.question("hi"))
        assert len(server.requests) == 1
        assert instrumented.span.status.status_code is StatusCode.ERROR

    async def test_retries_inside_the_client_are_one_span(self, half: Half, instrumented: Capture) -> None:
        """The client has none."""
        async with self.talking(half, error(503), reply(ANSWER)) as (server, client):
            with pytest.raises(ollama.ResponseError):
                await half.settle(self.call(client, self.question("hi")))
        assert len(server.requests) == 1
        assert instrumented.span.status.status_code is StatusCode.ERROR

    def open_client(self, half: Half, url: str, *, timeout: float | None = None, **options: Any) -> Any:
        kind: Any = ollama.AsyncClient if half.asynchronous else ollama.Client
        client = kind(host=url.removesuffix("/v1"), timeout=timeout)
        if not hasattr(client, "close"):  # older versions are closed by what they send with
            client.close = client._client.aclose if half.asynchronous else client._client.close
        return client

    def question(self, text: str) -> list[Any]:
        return [{"role": "user", "content": text}]

    def call(self, client: Any, messages: Any, **options: Any) -> Any:
        return client.chat(model=MODEL, messages=messages, **options)

    def bound_call(self, client: Any) -> Callable[[Any], Any]:
        chat = client.chat
        return lambda messages: chat(model=MODEL, messages=messages)

    def embed(self, client: Any, texts: Sequence[str]) -> Any:
        return client.embed(model="nomic-embed-text", input=texts)

    def list_models(self, client: Any) -> Any:
        return client.list()
