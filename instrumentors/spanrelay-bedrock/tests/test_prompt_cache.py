"""The plugin `prompt_cache` at Bedrock: points of Converse, and Anthropic's bodies, against a provider that caches."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from spanrelay.plugins.plugin import Context
from spanrelay.plugins.prompt_cache import PromptCacheConfig, PromptCachePlugin
from spanrelay.semconv import names
from spanrelay_bedrock import BedrockInstrumentor
from spanrelay_testkit.capture import Capture, at_work
from spanrelay_testkit.exchange import Request, raw, reply
from spanrelay_testkit.half import Half
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.prompt_caching import CachingProvider

from .clients import Events, open_client

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA = "amazon.nova-lite-v1:0"
SYSTEM = "You answer briefly. " * 400
TOOLS = {"tools": [{"toolSpec": {"name": "tide", "inputSchema": {"json": {"type": "object"}}}}]}
halves = pytest.mark.parametrize("half", [Half(asynchronous=False), Half(asynchronous=True)], ids=["sync", "async"])


class Provider:
    """Answers `ok` and charges by the rules, five seconds later each time."""

    def __init__(self) -> None:
        self.now, self.cache = 0.0, CachingProvider()

    def __call__(self, request: Request) -> Any:
        self.now += 5.0
        charged = self.cache.ask(request.body, self.now)
        if request.api == "invoke":
            said = {"content": [{"type": "text", "text": "ok"}], "role": "assistant", "stop_reason": "end_turn"}
            return raw(json.dumps({**said, "usage": charged.usage()}).encode())
        return reply("ok", usage=charged.converse_usage())


@contextmanager
def in_force(**config: Any) -> Iterator[None]:
    context = Context(PromptCacheConfig(**config), "prompt_cache")
    PromptCachePlugin().register(context)
    try:
        yield
    finally:
        context.close()


@pytest.fixture
def instrumented(capture: Capture) -> Iterator[Capture]:
    with at_work(capture, BedrockInstrumentor):
        yield capture


def turns(number: int) -> list[Any]:
    said: list[Any] = [{"role": "user", "content": [{"text": "hello"}]}]
    for at in range(number):
        said.append({"role": "assistant", "content": [{"text": f"answer {at}"}]})
        said.append({"role": "user", "content": [{"text": f"question {at}"}]})
    return said


def told(span: Any, what: str) -> Any:
    return span.attributes.get(names.PROMPT_CACHE_DECISION.replace("decision", what))


@halves
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("model", [CLAUDE, NOVA], ids=["claude", "nova"])
async def test_a_conversation_is_read_from_the_cache_from_its_second_call_on(
    half: Half, stream: bool, model: str, instrumented: Capture
) -> None:
    asked = {"modelId": model, "system": [{"text": SYSTEM}], "toolConfig": TOOLS}
    with ModelServer(Provider()) as server, in_force(mode="apply"):
        client = open_client(half, server.url)
        for number in range(3):
            if stream:
                answer = await half.settle(client.converse_stream(**asked, messages=turns(number)))
                assert [event async for event in half.each(Events(answer["stream"]))]
            else:
                await half.settle(client.converse(**asked, messages=turns(number)))
        await half.close(client)
    assert [told(span, "decision") for span in instrumented.spans] == ["marked"] * 3
    assert [told(span, "hit_ratio") > 0.9 for span in instrumented.spans] == [False, True, True]
    point = {"cachePoint": {"type": "default"}}
    assert [request.body["system"] for request in server.requests] == [[{"text": SYSTEM}, point]] * 3
    assert server.requests[2].body["messages"][-1]["content"] == [{"text": "question 1"}, point]
    assert server.requests[2].body["toolConfig"] == TOOLS


@halves
async def test_a_body_of_anthropics_is_marked_in_its_own_way(half: Half, instrumented: Capture) -> None:
    body = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "system": SYSTEM}
    with ModelServer(Provider()) as server, in_force(mode="apply"):
        client = open_client(half, server.url)
        for number in range(2):
            messages = [{**message, "content": message["content"][0]["text"]} for message in turns(number)]
            text = json.dumps({**body, "messages": messages})
            await half.settle((await half.settle(client.invoke_model(modelId=CLAUDE, body=text)))["body"].read())
        await half.close(client)
    control = {"type": "ephemeral"}
    assert server.requests[0].body["system"] == [{"type": "text", "text": SYSTEM, "cache_control": control}]
    assert [told(span, "hit_ratio") > 0.9 for span in instrumented.spans] == [False, True]


@halves
async def test_a_point_of_the_callers_is_left_alone(half: Half, instrumented: Capture) -> None:
    system = [{"text": SYSTEM}, {"cachePoint": {"type": "default"}}]
    with ModelServer(Provider()) as server, in_force(mode="apply"):
        client = open_client(half, server.url)
        await half.settle(client.converse(modelId=CLAUDE, system=system, messages=turns(1)))
        await half.close(client)
    assert json.dumps(server.requests[0].body).count("cachePoint") == 1
    assert told(instrumented.spans[0], "skipped") == "callers_own"
