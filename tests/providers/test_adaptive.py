"""What one `spanrelay.toml` says of caches holds for every SDK, streamed or not, in process and through the gateway."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, cast

import pytest
from tests.providers.conversation import Speaker, talking
from tests.providers.speakers import HERE, Anthropic, Bedrock, GoogleGenAI, OpenAI, instrumentor_of
from tests.providers.test_same_policy import HALVES, WAYS

import spanrelay
from spanrelay import gateway
from spanrelay.plugins.prompt_cache.marking import unmarked
from spanrelay.semconv import names
from spanrelay_testkit.capture import Capture, at_work
from spanrelay_testkit.exchange import Answer, Request, ToolCall, reply
from spanrelay_testkit.half import Half
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.policy import in_force

PROMPT = "plugins.prompt_cache.mode = 'apply'\n"
ANSWERS = """
[plugins.response_cache]
mode = "apply"
namespace = "{namespace}"
nondeterministic = true
path = "{folder}/answers.sqlite3"
"""
TOOLS = """
[plugins.tool_cache]
mode = "apply"
namespace = "{namespace}"
path = "{folder}/results.sqlite3"
tools.get_weather.ttl_seconds = 60
"""
LONG = "You answer briefly. " * 2000
MARKS: dict[type[Speaker], str | None] = {
    OpenAI: "prompt_cache_key",
    Anthropic: "cache_control",
    Bedrock: "cachePoint",
    GoogleGenAI: None,
}
"""What a request gets; Gemini caches by itself and takes no hint."""


@dataclass(frozen=True)
class Row:
    """An SDK, one of its halves, how it asks, and whether the gateway stands between."""

    kind: type[Speaker]
    half: str
    way: str
    door: str

    def __str__(self) -> str:
        return f"{self.kind.__name__} {self.half} {self.way} | {self.door}"

    @property
    def is_missing(self) -> bool:
        """Whether there is nothing to test: requests to Bedrock are signed for its own host, and pass no gateway."""
        return self.kind not in HERE or (self.kind is Bedrock and self.door == "gateway")

    @contextmanager
    def recorded(self, server: ModelServer, capture: Capture, log: Any) -> Iterator[str]:
        """Record what is asked of the address that is yielded."""
        if self.door == "in process":
            with at_work(capture, instrumentor_of(self.kind), log=log):
                yield server.address
            return
        upstreams = {"openai": server.url, "anthropic": server.address, "gemini": server.address}
        standing = gateway.start(upstreams=upstreams, tracer_provider=capture.provider)
        try:
            yield standing.base_url()
        finally:
            assert standing.stop()

    @asynccontextmanager
    async def speaker(self, address: str) -> AsyncIterator[Speaker]:
        half: Half = HALVES[self.half]
        async with talking(self.kind(half), address) as speaker:
            yield speaker

    async def ask(self, address: str, question: str) -> Any:
        """Ask once, in a conversation of its own; instructions are of the length that caches take."""
        async with self.speaker(address) as speaker:
            if self.kind is OpenAI:
                speaker.messages.append({"role": "system", "content": LONG})
                speaker.say(question)
            else:
                speaker.say(LONG + question)
            return await WAYS[self.way](speaker)


TABLE = [Row(*each) for each in product(MARKS, HALVES, WAYS, ("in process", "gateway"))]
each_row = pytest.mark.parametrize("row", [row for row in TABLE if not row.is_missing], ids=str)
each_whole_row = pytest.mark.parametrize(
    "row", [row for row in TABLE if not row.is_missing and row.way == "whole"], ids=str
)


def numbered() -> Callable[[Request], Answer]:
    """A model that answers otherwise each time."""
    numbers = iter(range(1, 100))
    return lambda request: reply(f"answer {next(numbers)}")


def bare(value: Any) -> Any:
    """A body without what is put in for a cache, each text as the one block that its API takes for the same."""
    if isinstance(value, dict):
        members = {key: bare(item) for key, item in cast("dict[str, Any]", unmarked(value)).items()}
        members.pop("prompt_cache_key", None)
        if isinstance(members.get("content"), str):
            members["content"] = [{"type": "text", "text": members["content"]}]
        return members
    return [bare(item) for item in cast("list[Any]", value)] if isinstance(value, list) else value


def told(capture: Capture, name: str) -> list[Any]:
    return [(span.attributes or {}).get(name) for span in capture.spans]


@each_row
async def test_a_request_is_marked_and_is_otherwise_the_programs(
    row: Row, capture: Capture, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with ModelServer(numbered()) as server, row.recorded(server, capture, caplog) as address:
        await row.ask(address, "hi")
        with in_force(tmp_path, PROMPT):
            await row.ask(address, "hi")
        before, after = server.requests
    mark = MARKS[row.kind]
    if mark is None:
        assert after.raw == before.raw
    else:
        assert mark in json.dumps(after.body)
        assert mark not in json.dumps(before.body)
        assert json.dumps(bare(after.body)) == json.dumps(bare(before.body))
    assert told(capture, names.PROMPT_CACHE_DECISION) == [None, "marked" if mark else "unmarked"]


@each_row
async def test_an_answer_is_given_again_and_never_to_another_namespace(
    row: Row, capture: Capture, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    answers: list[Any] = []
    with ModelServer(numbered()) as server, row.recorded(server, capture, caplog) as address:
        for namespace, times in (("one agent", 2), ("another agent", 1), ("one agent", 1)):
            with in_force(tmp_path, ANSWERS.format(namespace=namespace, folder=tmp_path)):
                answers += [await row.ask(address, "hi") for _ in range(times)]
        sent = len(server.requests)
    assert told(capture, names.RESPONSE_CACHE_DECISION) == ["miss", "hit", "miss", "hit"]
    assert sent == 2
    if row.way == "stream":
        assert answers == ["answer 1", "answer 1", "answer 2", "answer 1"]


@each_whole_row
async def test_a_tool_that_a_model_asks_for_runs_once_in_each_namespace(
    row: Row, capture: Capture, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    ran: list[str] = []

    @spanrelay.tool
    def get_weather(city: str) -> str:
        ran.append(city)
        return f"{len(ran)} degrees"

    wanted = reply(None, tool_calls=[ToolCall("get_weather", {"city": "Oslo"})])
    results: list[str] = []
    with ModelServer(lambda request: wanted) as server, row.recorded(server, capture, caplog) as address:
        for namespace in ("one agent", "one agent", "another agent"):
            with in_force(tmp_path, TOOLS.format(namespace=namespace, folder=tmp_path)):
                async with row.speaker(address) as speaker:
                    speaker.say("How is Oslo?")
                    [call] = await speaker.ask()
                    results.append(get_weather(**call.arguments))
    assert (ran, results) == (["Oslo"] * 2, ["1 degrees", "1 degrees", "2 degrees"])
