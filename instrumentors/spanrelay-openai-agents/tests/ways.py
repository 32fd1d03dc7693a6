"""Agents of the real SDK against the model server, every way there is to run them, and what is seen of that."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import agents
import openai
import pytest

from spanrelay_testkit.exchange import Answer, Request, reply, tool_call
from spanrelay_testkit.model_server import ModelServer

Way = Callable[..., Any]
QUESTION = "How is the weather in Rome?"


def weather_model(request: Request) -> Answer:
    """Hands over where it can, else asks a specialist or for the weather, and then says what it was told."""
    offered = {tool.get("name") or tool["function"]["name"] for tool in request.body.get("tools", ())}
    told = results(request)
    if "transfer_to_weatherman" in offered:
        return reply(tool_calls=[tool_call("transfer_to_weatherman", id="call_over")])
    if told and "transfer" not in told[-1] and '"assistant"' not in told[-1]:
        return reply(f"I was told: {told[-1]}")
    for name in ("ask_weatherman", "get_weather"):
        if name in offered:
            arguments = {"input": "Rome?"} if name == "ask_weatherman" else {"city": "Rome"}
            return reply(tool_calls=[tool_call(name, arguments, id=f"call_{name}")])
    return reply("Hello.")


def results(request: Request) -> list[str]:
    """What tools gave so far, as the model is told: in a request of Responses, or of chat completions."""
    found: list[str] = []
    for item in request.body.get("input") or request.body.get("messages") or ():
        if isinstance(item, dict) and (item.get("type") == "function_call_output" or item.get("role") == "tool"):
            told = item.get("output", item.get("content"))
            found.append(told if isinstance(told, str) else json.dumps(told))
    return found


def at_work(server: ModelServer, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Do `work` on a loop of its own, with a client of its own as the SDK's default."""

    async def with_client() -> Any:
        async with openai.AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
            agents.set_default_openai_client(client, use_for_tracing=False)
            return await work()

    return asyncio.run(with_client())


def awaited(server: ModelServer, agent: Any, given: Any, **options: Any) -> Any:
    """`await Runner.run(...)`."""
    return at_work(server, lambda: agents.Runner.run(agent, given, **options))


def streamed(server: ModelServer, agent: Any, given: Any, **options: Any) -> Any:
    """`Runner.run_streamed(...)`, read to the end."""

    async def read() -> Any:
        result = agents.Runner.run_streamed(agent, given, **options)
        async for _ in result.stream_events():
            pass
        return result

    return at_work(server, read)


def synchronous(server: ModelServer, agent: Any, given: Any, **options: Any) -> Any:
    """`Runner.run_sync(...)`, on the loop that the SDK finds."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    client = openai.AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0)
    agents.set_default_openai_client(client, use_for_tracing=False)
    try:
        return agents.Runner.run_sync(agent, given, **options)
    finally:
        loop.run_until_complete(client.close())
        loop.close()
        asyncio.set_event_loop(None)


each_way = pytest.mark.parametrize("run", [synchronous, awaited, streamed])
asynchronous_ways = pytest.mark.parametrize("run", [awaited, streamed])
