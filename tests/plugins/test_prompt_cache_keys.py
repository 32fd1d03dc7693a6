"""The plugin `prompt_cache` at OpenAI, which caches by itself: requests that begin alike get the same key."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from spanrelay import run_model
from spanrelay.plugins.plugin import Context
from spanrelay.plugins.prompt_cache import PromptCacheConfig, PromptCachePlugin
from spanrelay.plugins.prompt_cache.keys import PER_MINUTE
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.model_server import ModelServer

LONG = "You answer briefly. " * 300


@pytest.fixture
def in_force() -> Iterator[Callable[..., None]]:
    """Puts the plugin in force with a configuration and a clock."""
    contexts: list[Context] = []

    def put(clock: Callable[[], float] = lambda: 0.0, **config: Any) -> None:
        contexts.append(Context(PromptCacheConfig(**config), "prompt_cache"))
        PromptCachePlugin(clock).register(contexts[0])

    yield put
    for context in contexts:
        context.close()


def chat(client: Any, question: str, system: str = LONG, **more: Any) -> Any:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    return client.chat.completions.create(model="gpt-5", messages=messages, **more)


def keys(server: ModelServer) -> list[Any]:
    return [request.body.get("prompt_cache_key") for request in server.requests]


def test_requests_that_begin_alike_have_one_key_and_others_have_others(
    client: Any, server: ModelServer, capture: Capture, in_force: Any
) -> None:
    in_force(mode="apply")
    for question, system in (("a", LONG), ("b", LONG), ("a", f"Be kind. {LONG}"), ("a", "short")):
        chat(client, question, system)
    first, second, third, fourth = keys(server)
    assert first == second != third
    assert (len(first), fourth) == (16, None)
    told = [dict(span.attributes or {}) for span in capture.spans]
    assert told[0]["spanrelay.prompt_cache.marks"] == (f"prompt_cache_key {first}",)
    assert told[3]["spanrelay.prompt_cache.missed"] == "below_minimum"
    assert told[0]["spanrelay.prompt_cache.hit_ratio"] == 0


def test_all_but_the_key_is_byte_for_byte_the_same(client: Any, server: ModelServer, in_force: Any) -> None:
    chat(client, "é")
    in_force(mode="apply")
    chat(client, "é", stream=False)
    body = dict(server.requests[1].body)
    assert list(body)[-1] == "prompt_cache_key"
    del body["prompt_cache_key"], body["stream"]
    assert json.dumps(body) == json.dumps(server.requests[0].body)


async def test_both_colours_streams_and_both_apis_have_it(client: Any, server: ModelServer, in_force: Any) -> None:
    in_force(mode="apply")
    list(chat(client, "a", stream=True))
    client.responses.create(model="gpt-5", instructions=LONG, input="a")
    client.responses.create(model="gpt-5", instructions=LONG, input=[{"role": "user", "content": "b"}])
    async with openai.AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0) as other:
        await asyncio.gather(*(chat(other, str(at)) for at in range(3)))
    found = keys(server)
    assert len({found[0], *found[3:]}) == 1
    assert found[1] == found[2] not in (None, found[0])


@pytest.mark.parametrize(
    "own", [{"prompt_cache_key": "mine"}, {"extra_body": {"prompt_cache_options": {"mode": "explicit"}}}]
)
def test_a_callers_own_is_kept(client: Any, server: ModelServer, in_force: Any, own: dict[str, Any]) -> None:
    in_force(mode="apply")
    chat(client, "a", **own)
    assert keys(server) == [own.get("prompt_cache_key")]


def test_observing_changes_no_byte(client: Any, server: ModelServer, capture: Capture, in_force: Any) -> None:
    chat(client, "a")
    in_force()
    chat(client, "a")
    assert server.requests[0].raw == server.requests[1].raw
    assert (capture.spans[1].attributes or {})["spanrelay.prompt_cache.decision"] == "would_mark"


def test_a_key_that_is_used_much_is_shared_out_by_conversation(client: Any, server: ModelServer, in_force: Any) -> None:
    in_force(mode="apply")
    for at in range(4 * PER_MINUTE):
        chat(client, str(at % 8))
    found = keys(server)
    assert len(set(found)) > 2
    late = found[-8:]
    assert found[-16:-8] == late, "a conversation keeps its key while their number stays"
    assert all(key.startswith(found[0]) for key in found)


def test_another_provider_is_left_alone(server: ModelServer, capture: Capture, in_force: Any) -> None:
    in_force(mode="apply")
    request = {"model": "m", "messages": [{"role": "system", "content": LONG}, {"role": "user", "content": "a"}]}
    seen: list[Any] = []

    def send(wire: Any) -> Any:
        seen.append(wire)
        return {"choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}]}

    run_model(send, request, provider="deepseek")
    assert "prompt_cache_key" not in seen[0]
    assert not any(key.startswith("spanrelay.prompt_cache") for key in capture.spans[-1].attributes or {})


def test_of_google_it_is_told_what_was_read(capture: Capture, in_force: Any) -> None:
    in_force(mode="apply")
    asked = {"model": "gemini-3-pro", "contents": [{"role": "user", "parts": [{"text": "a"}]}]}
    seen: list[Any] = []

    def send(wire: Any) -> Any:
        seen.append(wire)
        said = {"content": {"role": "model", "parts": [{"text": "ok"}]}, "finishReason": "STOP"}
        usage = {"promptTokenCount": 100, "cachedContentTokenCount": 75, "candidatesTokenCount": 1}
        return {"candidates": [said], "usageMetadata": usage}

    run_model(send, asked, codec="gemini_generate_content", provider="gcp.gemini")
    assert seen == [asked]
    assert (capture.spans[0].attributes or {})["spanrelay.prompt_cache.hit_ratio"] == 0.75
