"""Agents of the real framework against the model server, every way there is to run them, and what is seen of that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from spanrelay_testkit.capture import Capture
from spanrelay_testkit.exchange import Answer, Request, reply, tool_call
from spanrelay_testkit.model_server import ModelServer

Way = Callable[..., Any]
QUESTION = "How is the weather in Rome?"
RUN = ["invoke_agent weatherman", "  chat gpt-5", "  execute_tool get_weather", "  chat gpt-5"]


def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


def weatherman(*tools: Any, **options: Any) -> Agent[Any, Any]:
    """An agent with a tool; its model is that of the run."""
    given = {"name": "weatherman", "instructions": "Tell the weather.", **options}
    return Agent(tools=list(tools or (get_weather,)), **given)


def weather_model(request: Request) -> Answer:
    """Asks a specialist or for the weather, and then says what it was told."""
    told = results(request)
    if told:
        return reply(f"I was told: {told[-1]}")
    offered = {tool.get("name") or tool["function"]["name"] for tool in request.body.get("tools", ())}
    for name, arguments in (("ask_weatherman", {"question": "Rome?"}), ("get_weather", {"city": "Rome"})):
        if name in offered:
            return reply(tool_calls=[tool_call(name, arguments, id=f"call_{name}")])
    return reply("Hello.")


def results(request: Request) -> list[str]:
    """What tools gave since the user spoke last, as the model is told."""
    found: list[str] = []
    for item in request.body.get("input") or request.body.get("messages") or ():
        if item.get("role") == "user":
            found.clear()
        elif item.get("type") == "function_call_output" or item.get("role") == "tool":
            found.append(str(item.get("output", item.get("content"))))
    return found


def at_work(server: ModelServer, work: Callable[[Any], Awaitable[Any]], kind: Any = OpenAIChatModel) -> Any:
    """Do `work` with a model that sends to `server`, on a loop of its own."""

    async def with_model() -> Any:
        async with openai.AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
            return await work(kind("gpt-5", provider=OpenAIProvider(openai_client=client)))

    return asyncio.run(with_model())


def awaited(server: ModelServer, agent: Any, given: Any, **options: Any) -> Any:
    """`await agent.run(...)`."""
    return at_work(server, lambda model: agent.run(given, model=model, **options))


def responses(server: ModelServer, agent: Any, given: Any, **options: Any) -> Any:
    """The same over the Responses API."""
    return at_work(server, lambda model: agent.run(given, model=model, **options), OpenAIResponsesModel)


def streamed(server: ModelServer, agent: Any, given: Any, **options: Any) -> Any:
    """`agent.run_stream_events(...)`, read to the end."""

    async def read(model: Any) -> Any:
        async with agent.run_stream_events(given, model=model, **options) as events:
            async for event in events:
                last = event
        return last.result

    return at_work(server, read)


def read(server: ModelServer, agent: Any, given: Any, **options: Any) -> Any:
    """`agent.run_stream(...)`, whose output is read; the result has it as `output`."""

    async def read(model: Any) -> Any:
        async with agent.run_stream(given, model=model, **options) as result:
            result.output = await result.get_output()
        return result

    return at_work(server, read)


def stepped(server: ModelServer, agent: Any, given: Any, **options: Any) -> Any:
    """`agent.iter(...)`, step by step."""

    async def step(model: Any) -> Any:
        async with agent.iter(given, model=model, **options) as run:
            async for _ in run:
                pass
        return run.result

    return at_work(server, step)


def synchronous(server: ModelServer, agent: Any, given: Any, **options: Any) -> Any:
    """`agent.run_sync(...)`, on the loop that the framework finds."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    client = openai.AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0)
    try:
        model = OpenAIChatModel("gpt-5", provider=OpenAIProvider(openai_client=client))
        return agent.run_sync(given, model=model, **options)
    finally:
        loop.run_until_complete(client.close())
        loop.close()
        asyncio.set_event_loop(None)


WAYS = (awaited, responses, synchronous, streamed, read, stepped)
each_way = pytest.mark.parametrize("run", WAYS)
some_ways = pytest.mark.parametrize("run", [awaited, streamed])


def conversations(capture: Capture) -> set[Any]:
    """The conversations that spans say they belong to."""
    return {(span.attributes or {}).get("gen_ai.conversation.id") for span in capture.spans}
