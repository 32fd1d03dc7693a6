"""The contract, for every way of asking that the OpenAI SDK has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import openai
import pytest
from pydantic import BaseModel

from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.contract import InstrumentorContract
from spanrelay_testkit.contract.caching import CacheContract
from spanrelay_testkit.contract.stainless import (
    Ask,
    chat_text,
    raw,
    raw_stream,
    streamed,
    streaming_response,
    streaming_response_stream,
    text_of,
    whole,
)
from spanrelay_testkit.half import Half, Outcome, StreamForm

MODEL = "gpt-5"


class Colour(BaseModel):
    answer: str


def completion_text(chunk: Any) -> str:
    return "".join(choice.text for choice in chunk.choices)


def event_text(event: Any) -> str:
    return event.delta if event.type == "response.output_text.delta" else ""


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


def asking(method: Callable[[Any], Any], parameter: str) -> Ask:
    """A method of the SDK, which takes the question as `parameter`."""

    def ask(client: Any) -> Callable[..., Any]:
        def create(messages: Any, **options: Any) -> Any:
            question = messages[0]["content"] if parameter == "prompt" else messages
            return method(client)(model=MODEL, **{parameter: question}, **options)

        return create

    return ask


CHAT = asking(lambda client: client.chat.completions.create, "messages")
RAW_CHAT = asking(lambda client: client.chat.completions.with_raw_response.create, "messages")
STREAMING_CHAT = asking(lambda client: client.chat.completions.with_streaming_response.create, "messages")
RESPONSES = asking(lambda client: client.responses.create, "input")
RAW_RESPONSES = asking(lambda client: client.responses.with_raw_response.create, "input")
STREAMING_RESPONSES = asking(lambda client: client.responses.with_streaming_response.create, "input")
COMPLETIONS = asking(lambda client: client.completions.create, "prompt")


@pytest.mark.proves("openai", "one trace", "streaming", "policy")
class TestOpenAI(InstrumentorContract, CacheContract):
    instrumentor = OpenAIInstrumentor
    forms: ClassVar[dict[str, Any]] = {
        "chat": whole(CHAT),
        "chat stream": streamed(CHAT, chat_text),
        "chat raw": raw(RAW_CHAT),
        "chat raw stream": raw_stream(RAW_CHAT, chat_text),
        "chat streaming response": streaming_response(STREAMING_CHAT),
        "chat streaming response stream": streaming_response_stream(STREAMING_CHAT, chat_text),
        "chat stream helper": chat_helper,
        "chat stream helper parsed": chat_helper_parsed,
        "chat parsed": chat_parsed,
        "responses": whole(RESPONSES),
        "responses stream": streamed(RESPONSES, event_text),
        "responses raw": raw(RAW_RESPONSES),
        "responses raw stream": raw_stream(RAW_RESPONSES, event_text),
        "responses streaming response": streaming_response(STREAMING_RESPONSES),
        "responses stream helper": responses_helper,
        "responses parsed": responses_parsed,
        "completions": whole(COMPLETIONS),
        "completions stream": streamed(COMPLETIONS, completion_text),
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

    def make_cacheable(self, call: Any) -> None:
        if "input" in call.wire:
            call.wire["store"] = False

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
