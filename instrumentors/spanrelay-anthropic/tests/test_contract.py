"""The contract, for every way of asking that Anthropic's SDK has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import anthropic
from pydantic import BaseModel

from spanrelay_anthropic import AnthropicInstrumentor
from spanrelay_testkit.contract import InstrumentorContract
from spanrelay_testkit.contract.caching import CacheContract
from spanrelay_testkit.half import Form, Half, Outcome, StreamForm

MODEL = "claude-sonnet-5"


class Colour(BaseModel):
    answer: str


def asking(messages: Any) -> dict[str, Any]:
    """The question as the API takes it."""
    return {"model": MODEL, "max_tokens": 100, "messages": messages}


def event_text(event: Any) -> str:
    if event.type != "content_block_delta":
        return ""
    return event.delta.text if event.delta.type == "text_delta" else ""


def text_of(answer: Any) -> str:
    return "".join(block.text for block in answer.content if block.type == "text")


async def joined(half: Half, stream: Any) -> Outcome:
    events = [event async for event in half.each(stream)]
    return Outcome("".join(map(event_text, events)), (type(stream), *{type(event) for event in events}))


def whole(create: Callable[[Any], Any]) -> Form:
    """`create(...)` and its answer."""

    async def run(half: Half, client: Any, messages: Any) -> Outcome:
        answer = await half.settle(create(client)(**asking(messages)))
        return Outcome(text_of(answer), (type(answer),))

    return run


def streamed(create: Callable[[Any], Any]) -> Form:
    """`create(stream=True)`, read to its end."""

    async def run(half: Half, client: Any, messages: Any) -> Outcome:
        return await joined(half, await half.settle(create(client)(**asking(messages), stream=True)))

    return run


def raw(create: Callable[[Any], Any]) -> Form:
    """`with_raw_response.create(...)`, then `parse()`."""

    async def run(half: Half, client: Any, messages: Any) -> Outcome:
        response = await half.settle(create(client)(**asking(messages)))
        answer = await half.settle(response.parse())
        return Outcome(text_of(answer), (type(response), type(answer)))

    return run


def raw_stream(create: Callable[[Any], Any]) -> Form:
    """`with_raw_response.create(stream=True)`, then `parse()` and the stream it gives."""

    async def run(half: Half, client: Any, messages: Any) -> Outcome:
        response = await half.settle(create(client)(**asking(messages), stream=True))
        return await joined(half, await half.settle(response.parse()))

    return run


def streaming_response(create: Callable[[Any], Any]) -> Form:
    """`with_streaming_response.create(...)`, whose body is read inside the block."""

    async def run(half: Half, client: Any, messages: Any) -> Outcome:
        async with half.entered(create(client)(**asking(messages))) as response:
            answer = await half.settle(response.parse())
        return Outcome(text_of(answer), (type(response), type(answer)))

    return run


def helper(stream_of: Callable[[Any], Any]) -> Form:
    """`stream(...)`, its events and its final message."""

    async def run(half: Half, client: Any, messages: Any) -> Outcome:
        async with half.entered(stream_of(client)(**asking(messages))) as stream:
            events = [event async for event in half.each(stream)]
            final = await half.settle(stream.get_final_message())
        assert {"text", "content_block_stop", "message_stop"} <= {event.type for event in events}
        return Outcome(text_of(final), (type(stream), type(final)))

    return run


async def text_helper(half: Half, client: Any, messages: Any) -> Outcome:
    async with half.entered(client.messages.stream(**asking(messages))) as stream:
        text = "".join([piece async for piece in half.each(stream.text_stream)])
    return Outcome(text, (type(stream),))


async def parsed(half: Half, client: Any, messages: Any) -> Outcome:
    answer = await half.settle(client.messages.parse(**asking(messages), output_format=Colour))
    return Outcome(text_of(answer), (type(answer), type(answer.parsed_output)))


async def beta_helper_parsed(half: Half, client: Any, messages: Any) -> Outcome:
    async with half.entered(client.beta.messages.stream(**asking(messages), output_format=Colour)) as stream:
        final = await half.settle(stream.get_final_message())
    return Outcome(text_of(final), (type(final), type(final.parsed_output)))


class TestAnthropic(InstrumentorContract, CacheContract):
    instrumentor = AnthropicInstrumentor
    forms: ClassVar[dict[str, Any]] = {
        "messages": whole(lambda client: client.messages.create),
        "messages stream": streamed(lambda client: client.messages.create),
        "messages raw": raw(lambda client: client.messages.with_raw_response.create),
        "messages raw stream": raw_stream(lambda client: client.messages.with_raw_response.create),
        "messages streaming response": streaming_response(
            lambda client: client.messages.with_streaming_response.create
        ),
        "stream helper": helper(lambda client: client.messages.stream),
        "text stream helper": text_helper,
        "parsed": parsed,
        "beta": whole(lambda client: client.beta.messages.create),
        "beta stream": streamed(lambda client: client.beta.messages.create),
        "beta raw": raw(lambda client: client.beta.messages.with_raw_response.create),
        "beta stream helper": helper(lambda client: client.beta.messages.stream),
        "beta stream helper parsed": beta_helper_parsed,
    }
    streams: ClassVar[dict[str, StreamForm]] = {
        "messages": StreamForm(
            lambda client, messages: client.messages.create(**asking(messages), stream=True), event_text, cut=4
        ),
        "beta": StreamForm(
            lambda client, messages: client.beta.messages.create(**asking(messages), stream=True), event_text, cut=4
        ),
    }
    test_embeddings_are_one_span_of_their_own_kind = None  # the API has none

    def open_client(self, half: Half, url: str, **options: Any) -> Any:
        kind: Any = anthropic.AsyncAnthropic if half.asynchronous else anthropic.Anthropic
        return kind(base_url=url.removesuffix("/v1"), api_key="none", **{"max_retries": 0, **options})

    def question(self, text: str) -> list[Any]:
        return [{"role": "user", "content": text}]

    def call(self, client: Any, messages: Any, **options: Any) -> Any:
        return client.messages.create(**asking(messages), **options)

    def bound_call(self, client: Any) -> Callable[[Any], Any]:
        create = client.messages.with_raw_response.create
        return lambda messages: create(**asking(messages))

    def list_models(self, client: Any) -> Any:
        return client.models.list()
