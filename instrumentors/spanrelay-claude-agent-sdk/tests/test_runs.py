"""Runs of the real CLI: one trace each, with a span for each call, whatever way they are asked for."""

from __future__ import annotations

import asyncio
from typing import Any

import claude_agent_sdk
import pytest
from claude_agent_sdk import tool
from opentelemetry import trace

from spanrelay_testkit.capture import Capture

from .provider import Provider, text
from .ways import QUESTION, Way, each_way, named, of, queried, result_of, skies, traces, tree, weather_model

RUN = [
    "invoke_agent claude",
    "  chat claude-opus-5-5",
    "  execute_tool mcp__skies__get_weather",
    "  chat claude-opus-5-5",
]


@each_way
@pytest.mark.proves("claude-agent-sdk", "one trace", "streaming")
def test_a_run_is_one_trace_with_a_span_for_each_call(instrumented: Capture, options: Any, run: Way) -> None:
    with Provider(weather_model) as provider:
        messages = run(QUESTION, options(provider, mcp_servers=skies(), model="claude-opus-5-5"))
    assert result_of(messages) == "I was told: sunny in Rome"
    assert tree(instrumented) == RUN
    assert traces(instrumented) == 1


@each_way
def test_the_tools_span_is_current_in_a_function_of_this_process(instrumented: Capture, options: Any, run: Way) -> None:
    @tool("get_weather", "The weather of a city.", {"city": str})
    async def looked_up(given: dict[str, Any]) -> dict[str, Any]:
        with instrumented.tracer().start_as_current_span("look up"):
            await asyncio.sleep(0)
        return {"content": [{"type": "text", "text": trace.get_current_span().name}]}  # type: ignore[attr-defined]

    with Provider(weather_model) as provider:
        messages = run(QUESTION, options(provider, mcp_servers=skies(looked_up), model="claude-opus-5-5"))
    assert result_of(messages) == "I was told: execute_tool mcp__skies__get_weather"
    assert tree(instrumented) == [*RUN[:3], "    look up", RUN[3]]


def test_a_tool_of_this_process_that_raises_is_an_error_that_the_model_is_told(
    instrumented: Capture, options: Any
) -> None:
    @tool("get_weather", "The weather of a city.", {"city": str})
    async def broken(given: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("no such city")

    with Provider(weather_model) as provider:
        assert "no such city" in result_of(queried(QUESTION, options(provider, mcp_servers=skies(broken))))
    span = named(instrumented, "execute_tool mcp__skies__get_weather")
    assert of(span)["error.type"] == "tool_error"
    assert "no such city" in str(span.status.description)


def test_a_run_below_a_tool_of_another_is_below_it_and_in_its_conversation(instrumented: Capture, options: Any) -> None:
    @tool("get_weather", "The weather of a city.", {"city": str})
    async def asking(given: dict[str, Any]) -> dict[str, Any]:
        mine = options(provider, model="claude-opus-5-5", env={"CLAUDE_CONFIG_DIR": str(mine_too)})
        said = [message async for message in claude_agent_sdk.query(prompt="Inner.", options=mine)]
        return {"content": [{"type": "text", "text": result_of(said)}]}

    with Provider(lambda asked: [text("Sunny.")] if asked.says("Inner.") else weather_model(asked)) as provider:
        outer = options(provider, mcp_servers=skies(asking), model="claude-opus-5-5")
        mine_too = f"{outer.cwd}/inner"
        assert result_of(queried(QUESTION, outer)) == "I was told: Sunny."
    assert tree(instrumented) == [*RUN[:3], "    invoke_agent claude", "      chat claude-opus-5-5", RUN[3]]
    assert len({of(span)["gen_ai.conversation.id"] for span in instrumented.spans}) == 1
