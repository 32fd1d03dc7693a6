"""Every way of asking a chat model, each driven to its end: the text that the application gets."""

from __future__ import annotations

import asyncio
import itertools
import warnings
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_openai import ChatOpenAI
from pydantic import Field

from spanrelay_testkit.model_server import ModelServer


def by_events(model: Any, given: Any) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LangChain calls this protocol beta
        stream = model.stream_events(given, version="v3")
        list(stream)
        return stream.output_message.text


async def by_aevents(model: Any, given: Any) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stream = await model.astream_events(given, version="v3")
        async for _ in stream:
            pass
        return stream.output_message.text


async def by_astream(model: Any, given: Any) -> str:
    return "".join([chunk.text async for chunk in model.astream(given)])


async def by_ainvoke(model: Any, given: Any) -> str:
    return (await model.ainvoke(given)).text


WHOLE: dict[str, Callable[[Any, Any], str]] = {
    "invoke": lambda model, given: model.invoke(given).text,
    "ainvoke": lambda model, given: asyncio.run(by_ainvoke(model, given)),
    "batch": lambda model, given: model.batch([given])[0].text,
    "generate": lambda model, given: model.generate([model._convert_input(given).to_messages()]).generations[0][0].text,
}
STREAMS: dict[str, Callable[[Any, Any], str]] = {
    "stream": lambda model, given: "".join(chunk.text for chunk in model.stream(given)),
    "astream": lambda model, given: asyncio.run(by_astream(model, given)),
    "events": by_events,
    "aevents": lambda model, given: asyncio.run(by_aevents(model, given)),
}
WAYS = {**WHOLE, **STREAMS}
each_way = pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
CHAINS = {name: WAYS[name] for name in ("invoke", "ainvoke", "batch", "stream", "astream")}
each_way_of_a_chain = pytest.mark.parametrize("ask", CHAINS.values(), ids=CHAINS)
each_whole = pytest.mark.parametrize("ask", WHOLE.values(), ids=WHOLE)
each_stream = pytest.mark.parametrize("ask", STREAMS.values(), ids=STREAMS)


OPENED: list[Any] = []
"""Models whose async client is to be closed in the loop that used it."""


def through(answer: Coroutine[Any, Any, Any]) -> Any:
    """Run `answer` in a loop of its own, and close what it opened there."""

    async def go() -> Any:
        try:
            return await answer
        finally:
            while OPENED:
                await OPENED.pop().async_client._client.close()

    return asyncio.run(go())


_seconds = itertools.count(60)
_kept: list[Any] = []
"""Clients whose loop is over. LangChain lets go of them when there are many, and Python would complain of that."""


def chat(server: ModelServer, **options: Any) -> ChatOpenAI:
    # LangChain shares HTTP clients of one timeout, and an async one belongs to the loop of its first call.
    options = {"max_retries": 0, "timeout": next(_seconds), **options}
    model = ChatOpenAI(model="gpt-5", base_url=server.url, api_key="none", **options)
    _kept.append(model.root_async_client)
    return model


class Fake(BaseChatModel):
    """A model that nobody patches: it says `Blue like the sea.`, or fails, and keeps what it was asked."""

    model: str = "fake-1"
    says: str = "Blue like the sea."
    fails: bool = False
    asked: list[Any] = Field(default_factory=list)
    options: list[Any] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "fake"

    def _note(self, messages: Any, stop: Any, options: Any) -> None:
        self.asked.append(messages)
        self.options.append({"stop": stop, **options})
        if self.fails:
            raise ConnectionError("nobody there")

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        self._note(messages, stop, kwargs)
        usage: Any = {"input_tokens": 7, "output_tokens": 4, "total_tokens": 11}
        message = AIMessage(self.says, usage_metadata=usage, response_metadata={"model_name": "fake-1-2026"})
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        self._note(messages, stop, kwargs)
        for word in self.says.split(" "):
            gap = " " if word != self.says.split(" ")[0] else ""
            yield ChatGenerationChunk(message=AIMessageChunk(gap + word))


def fake(**options: Any) -> Fake:
    return Fake(**options)
