"""Real frameworks over a real server: each call of a tool is one span in the process that asks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from spanrelay import GuardrailRejected, guardrail, use
from spanrelay_mcp import MCPInstrumentor
from spanrelay_testkit.capture import Capture, at_work
from spanrelay_testkit.exchange import Answer, Request, reply, tool_call
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.outline import named, tree

from .ways import FIRST

PROGRAM = f"""
from mcp.server.{"fastmcp import FastMCP" if FIRST else "mcpserver import MCPServer"} as Server

server = Server("weather")


@server.tool()
def weather(city: str) -> str:
    "Say how the weather is."
    return f"sunny in {{city}}"


server.run("stdio")
"""
openai: Any = pytest.importorskip("openai")
QUESTION = "How is the weather in Rome?"


def where(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package!r} is not here")


@pytest.fixture
def program(tmp_path: Path) -> str:
    path = tmp_path / "server.py"
    path.write_text(PROGRAM)
    return str(path)


def answers(request: Request) -> Answer:
    """Asks for the weather, and then says what it was told."""
    told = [message["content"] for message in request.body["messages"] if message["role"] == "tool"]
    if told:
        return reply(f"I was told: {told[-1]}")
    [offered] = request.body["tools"]
    return reply(tool_calls=[tool_call(offered["function"]["name"], {"city": "Rome"}, id="call_1")])


@pytest.fixture
def model() -> Iterator[ModelServer]:
    with ModelServer(answers) as running:
        yield running


@guardrail(kinds=["tool"])
def no_weather(call: Any) -> str | None:
    return "not today" if call.request.name == "weather" else None


@where("langchain_mcp_adapters")
@pytest.mark.parametrize("prefix", [False, True])
async def test_a_tool_of_langchains_adapters_is_one_span(capture: Capture, program: str, prefix: bool) -> None:
    from langchain_mcp_adapters.client import MultiServerMCPClient

    from spanrelay_langchain import LangChainInstrumentor

    connection: Any = {"command": sys.executable, "args": [program], "transport": "stdio"}
    with at_work(capture, LangChainInstrumentor, MCPInstrumentor):
        client = MultiServerMCPClient({"there": connection}, tool_name_prefix=prefix)
        [tool] = await client.get_tools()
        asked = {"name": tool.name, "args": {"city": "Rome"}, "id": "call_1", "type": "tool_call"}
        message = await tool.ainvoke(asked)
        assert message.content[0]["text"] == "sunny in Rome"
        assert tree(capture) == [f"execute_tool {'there_weather' if prefix else 'weather'}"]
        assert capture.span.attributes["mcp.method.name"] == "tools/call"
        with use(no_weather), pytest.raises(GuardrailRejected, match="not today"):
            await tool.ainvoke(asked)


@where("agents")
async def test_a_tool_of_the_openai_agents_sdk_is_one_span(capture: Capture, program: str, model: ModelServer) -> None:
    from agents import Agent, OpenAIChatCompletionsModel, Runner
    from agents.mcp import MCPServerStdio

    from spanrelay_openai import OpenAIInstrumentor
    from spanrelay_openai_agents import OpenAIAgentsInstrumentor

    with at_work(capture, OpenAIInstrumentor, OpenAIAgentsInstrumentor, MCPInstrumentor):
        async with (
            MCPServerStdio({"command": sys.executable, "args": [program]}) as server,
            openai.AsyncOpenAI(base_url=model.url, api_key="none", max_retries=0) as client,
        ):
            asked = OpenAIChatCompletionsModel("gpt-5", client)
            agent = Agent("weatherman", model=asked, mcp_servers=[server])
            result = await Runner.run(agent, QUESTION)
            with use(no_weather), pytest.raises(GuardrailRejected, match="not today"):
                await Runner.run(agent, QUESTION)
    assert "sunny in Rome" in result.final_output
    whole = tree(capture)
    assert whole[:4] == [
        "invoke_agent weatherman",
        "  chat gpt-5",
        "  execute_tool weather",
        "  chat gpt-5",
    ]
    assert not any("tools/call" in line for line in whole)


@where("fastmcp")  # which comes with Pydantic AI's extra for MCP
async def test_a_tool_of_pydantic_ai_is_one_span(capture: Capture, program: str, model: ModelServer) -> None:
    from fastmcp.client.transports import StdioTransport
    from pydantic_ai import Agent
    from pydantic_ai.mcp import MCPToolset
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    from spanrelay_openai import OpenAIInstrumentor
    from spanrelay_pydantic_ai import PydanticAIInstrumentor

    with at_work(capture, OpenAIInstrumentor, PydanticAIInstrumentor, MCPInstrumentor):
        async with openai.AsyncOpenAI(base_url=model.url, api_key="none", max_retries=0) as client:
            toolset = MCPToolset(StdioTransport(sys.executable, [program]))
            asked = OpenAIChatModel("gpt-5", provider=OpenAIProvider(openai_client=client))
            agent = Agent(asked, name="weatherman", toolsets=[toolset])
            async with agent:
                result = await agent.run(QUESTION)
    assert "sunny in Rome" in result.output
    assert tree(capture) == ["invoke_agent weatherman", "  chat gpt-5", "  execute_tool weather", "  chat gpt-5"]
    assert named(capture, "execute_tool weather").attributes["mcp.method.name"] == "tools/call"
