"""Workflows of the real toolkit against the model server, every way there is to run them, and what is seen of that."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spanrelay_testkit.capture import Capture
from spanrelay_testkit.exchange import Answer, Request, reply, tool_call
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.outline import named

QUESTION = "How is the weather in Rome?"
MODEL = '{{_type: openai, model_name: gpt-5, base_url: "{url}", api_key: none, max_retries: 0}}'
CALLER = """
llms:
  model: {model}
functions:
  get_weather: {{_type: test_weather}}
workflow: {{_type: tool_calling_agent, llm_name: model, tool_names: [get_weather]}}
"""
"""An agent that calls tools."""
REACT = CALLER.replace("tool_calling_agent", "react_agent")
"""An agent that reasons in text."""
TEAM = """
llms:
  model: {model}
functions:
  get_weather: {{_type: test_weather}}
  weatherman: {{_type: tool_calling_agent, llm_name: model, tool_names: [get_weather], description: Knows weather}}
workflow: {{_type: tool_calling_agent, llm_name: model, tool_names: [weatherman]}}
"""
"""An agent whose tool is an agent."""
PLAIN = """
functions:
  get_weather: {{_type: test_weather}}
workflow: {{_type: test_report, function: get_weather, name: report}}
"""
"""A function that calls a function, without any framework."""


def weather_model(request: Request) -> Answer:
    """Asks whoever knows the weather, as a call or in the text of ReAct, and then says what it was told."""
    messages = request.get("messages")
    offered = {tool["function"]["name"] for tool in request.get("tools", [])}
    told = [message["content"] for message in messages if message["role"] == "tool"]
    if not offered and len(messages) == 2:
        return reply('Thought: I must look\nAction: get_weather\nAction Input: {"city": "Rome"}')
    if not offered:
        return reply("Thought: I now know the final answer\nFinal Answer: sunny in Rome")
    if told:
        return reply(f"I was told: {told[-1]}")
    if "weatherman" in offered:
        return reply(tool_calls=[tool_call("weatherman", input_message="Rome?", id="call_man")])
    return reply(tool_calls=[tool_call("get_weather", city="Rome", id="call_weather")])


def asked() -> list[str]:
    """Which cities the application's function was asked about; importing it registers it with the toolkit."""
    from . import application

    return application.asked


def written(folder: Path, workflow: str, server: ModelServer | None) -> Path:
    """Write the configuration of a workflow."""
    path = folder / "workflow.yml"
    path.write_text(workflow.format(model=MODEL.format(url=server.url if server else "")))
    return path


def working(path: Path, work: Callable[[Any], Any], **session: Any) -> Any:
    """Load a workflow and do `work` with its runner."""

    async def load() -> Any:
        from nat.runtime.loader import load_workflow

        async with load_workflow(path) as manager, manager.session(user_id="user-1", **session) as opened:
            return await work(opened)

    asked()
    return asyncio.run(load())


def awaited(path: Path, question: Any = QUESTION, **session: Any) -> Any:
    """`await runner.result(...)`."""

    async def work(session: Any) -> Any:
        async with session.run(question) as runner:
            return await runner.result(to_type=str)

    return working(path, work, **session)


def streamed(path: Path, question: Any = QUESTION, **session: Any) -> Any:
    """`runner.result_stream(...)`, read to the end."""

    async def work(session: Any) -> Any:
        async with session.run(question) as runner:
            chunks = [chunk async for chunk in runner.result_stream()]
        texts = [chunk if isinstance(chunk, str) else chunk.choices[0].delta.content or "" for chunk in chunks]
        return "".join(texts)

    return working(path, work, **session)


Way = Callable[..., Any]


def attributes(capture: Capture, name: str) -> dict[str, Any]:
    """The attributes of the one span of this name."""
    return dict(named(capture, name).attributes or {})


os.environ.setdefault("LANGSMITH_TRACING", "false")
