"""The contract, for every way of asking that the OpenAI SDK has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import openai
import pytest
from pydantic import BaseModel

from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.contract import InstrumentorContract
from spanrelay_testkit.half import Form, Half, Outcome, StreamForm

MODEL = "gpt-5"


class Colour(BaseModel):
    answer: str


def chat_text(chunk: Any) -> str:
    return "".join(choice.delta.content or "" for choice in chunk.choices)


def completion_text(chunk: Any) -> str:
    return "".join(choice.text for choice in chunk.choices)


def event_text(event: Any) -> str:
    return event.delta if event.type == "response.output_text.delta" else ""


def text_of(answer: Any) -> str:
    """The text of a whole answer of any of the APIs."""
    if hasattr(answer, "output_text"):
        return answer.output_text
    [choice] = answer.choices
    return choice.message.content if hasattr(choice, "message") else choice.text


async def joined(half: Half, stream: Any, text: Callable[[Any], str]) -> Outcome:
    chunks = [chunk async for chunk in half.each(stream)]
    return Outcome("".join(map(text, chunks)), (type(stream), *{type(chunk) for chunk in chunks}))


def whole(create: Callable[[Any], Any], **options: Any) -> Form:
    """`create(...)` and its answer."""

    async def run(half: Half, client: Any, messages: Any) -> Outcome:
        answer = await half.settle(create(client)(**asking(create, messages), **options))
        return Outcome(text_of(answer), (type(answer),))

    return run


def streamed(create: Callable[[Any], Any], text: Callable[[Any], str]) -> Form:
    """`create(stream=True)`, read to its end."""

    async def run(half: Half, client: Any, messages: Any) -> Outcome:
        stream = await half.settle(create(client)(**asking(create, messages), stream=True))
        return await joined(half, stream, text)

    return run


def raw(create: Callable[[Any], Any], **options: Any) -> Form:
    """`with_raw_response.create(...)`, then `parse()`."""

    async def run(half: Half, client: Any, messages: Any) -> Outcome:
        response = await half.settle(create(client)(**asking(create, messages), **options))
        answer = await half.settle(response.parse())
        return Outcome(text_of(answer), (type(response), type(answer)))

    return run


def raw_stream(create: Callable[[Any], Any], text: Callable[[Any], str]) -> Form:
    """`with_raw_response.create(stream=True)`, then `parse()` and the stream it gives."""

    async def run(half: Half, client: Any, messages: Any) -> Outcome:
        response = await half.settle(create(client)(**asking(create, messages), stream=True))
        return await joined(half, response.parse(), text)

    return run


def streaming_response(create: Callable[[Any], Any], **options: Any) -> Form:
    """`with_streaming_response.create(...)`, whose body is read inside the block."""

    async def run(half: Half, client: Any, messages: Any) -> Outcome:
        async with half.entered(create(client)(**asking(create, messages), **options)) as response:
            answer = await half.settle(response.parse())
        return Outcome(text_of(answer), (type(response), type(answer)))

    return run


def streaming_response_stream(create: Callable[[Any], Any], text: Callable[[Any], str]) -> Form:
    """`with_streaming_response.create(stream=True)`."""

    async def run(half: Half, client: Any, messages: Any) -> Outcome:
        async with half.entered(create(client)(**asking(create, messages), stream=True)) as response:
            return await joined(half, await half.settle(response.parse()), text)

    return run


async def chat_helper(half: Half, client: Any, messages: Any) -> Outcome:
    async with half.entered(client.chat.completions.stream(model=MODEL, messages=messages)) as stream:
        events = [event async for event in half.each(stream)]
        final = await half.settle(stream.get_final_completion())
    assert {"chunk", "content.delta"} <= {event.type for event in events}
    return Outcome(text_of(final), (type(stream), type(final)))


async def chat_helper_parsed(half: Half, client: Any, messages: Any) -> Outcome:
    helper = client.chat.completions.stream(model=MODEL, messages=messages, response_format=Colour)
    async with half.entered(helper) as stream:
        final = await half.settle(stream.get_final_completion())
    [choice] = final.choices
    return Outcome(choice.message.content, (type(final), type(choice.message.parsed)))


async def responses_helper(half: Half, client: Any, messages: Any) -> Outcome:
    async with half.entered(client.responses.stream(model=MODEL, input=messages)) as stream:
        async for _ in half.each(stream):
            pass
        final = await half.settle(stream.get_final_response())
    return Outcome(final.output_text, (type(stream), type(final)))


async def chat_parsed(half: Half, client: Any, messages: Any) -> Outcome:
    answer = await half.settle(client.chat.completions.parse(model=MODEL, messages=messages, response_format=Colour))
    [choice] = answer.choices
    return Outcome(choice.message.content, (type(answer), type(choice.message.parsed)))


async def responses_parsed(half: Half, client: Any, messages: Any) -> Outcome:
    answer = await half.settle(client.responses.parse(model=MODEL, input=messages, text_format=Colour))
    return Outcome(answer.output_text, (type(answer), type(answer.output_parsed)))


CREATE: dict[str, Callable[[Any], Any]] = {
    "chat": lambda client: client.chat.completions.create,
    "raw chat": lambda client: client.chat.completions.with_raw_response.create,
    "streaming chat": lambda client: client.chat.completions.with_streaming_response.create,
    "responses": lambda client: client.responses.create,
    "raw responses": lambda client: client.responses.with_raw_response.create,
    "streaming responses": lambda client: client.responses.with_streaming_response.create,
    "completions": lambda client: client.completions.create,
}
PARAMETER = {id(create): name.split()[-1] for name, create in CREATE.items()}


def asking(create: Callable[[Any], Any], messages: Any) -> dict[str, Any]:
    """The question as the API takes it."""
    api = PARAMETER[id(create)]
    if api == "chat":
        return {"model": MODEL, "messages": messages}
    if api == "responses":
        return {"model": MODEL, "input": messages}
    return {"model": MODEL, "prompt": messages[0]["content"]}


@pytest.mark.proves("openai", "one trace", "streaming", "policy")
class TestOpenAI(InstrumentorContract):
    instrumentor = OpenAIInstrumentor
    forms: ClassVar[dict[str, Any]] = {
        "chat": whole(CREATE["chat"]),
        "chat stream": streamed(CREATE["chat"], chat_text),
        "chat raw": raw(CREATE["raw chat"]),
        "chat raw stream": raw_stream(CREATE["raw chat"], chat_text),
        "chat streaming response": streaming_response(CREATE["streaming chat"]),
        "chat streaming response stream": streaming_response_stream(CREATE["streaming chat"], chat_text),
        "chat stream helper": chat_helper,
        "chat stream helper parsed": chat_helper_parsed,
        "chat parsed": chat_parsed,
        "responses": whole(CREATE["responses"]),
        "responses stream": streamed(CREATE["responses"], event_text),
        "responses raw": raw(CREATE["raw responses"]),
        "responses raw stream": raw_stream(CREATE["raw responses"], event_text),
        "responses streaming response": streaming_response(CREATE["streaming responses"]),
        "responses stream helper": responses_helper,
        "responses parsed": responses_parsed,
        "completions": whole(CREATE["completions"]),
        "completions stream": streamed(CREATE["completions"], completion_text),
    }
    streams: ClassVar[dict[str, StreamForm]] = {
        "chat": StreamForm(
            lambda client, messages: client.chat.completions.create(model=MODEL, messages=messages, stream=True),
            chat_text,
        ),
        "responses": StreamForm(
            lambda client, messages: client.responses.create(model=MODEL, input=messages, stream=True),
            event_text,
            cut=6,
        ),
    }

    def open_client(self, half: Half, url: str, **options: Any) -> Any:
        kind: Any = openai.AsyncOpenAI if half.asynchronous else openai.OpenAI
        return kind(base_url=url, api_key="none", **{"max_retries": 0, **options})

    def question(self, text: str) -> list[Any]:
        return [{"role": "user", "content": text}]

    def call(self, client: Any, messages: Any, **options: Any) -> Any:
        return client.chat.completions.create(model=MODEL, messages=messages, **options)

    def bound_call(self, client: Any) -> Callable[[Any], Any]:
        create = client.chat.completions.with_raw_response.create
        return lambda messages: create(model=MODEL, messages=messages)

    def embed(self, client: Any, texts: Sequence[str]) -> Any:
        return client.embeddings.create(model="text-embedding-3-small", input=texts)

    def list_models(self, client: Any) -> Any:
        return client.models.list()


class TestAzureOpenAI(TestOpenAI):
    """The same through the Azure client, whose routes hold the deployment."""

    def open_client(self, half: Half, url: str, **options: Any) -> Any:
        kind: Any = openai.AsyncAzureOpenAI if half.asynchronous else openai.AzureOpenAI
        endpoint = url.removesuffix("/v1")
        return kind(azure_endpoint=endpoint, api_key="none", api_version="2025-04-01", **{"max_retries": 0, **options})
