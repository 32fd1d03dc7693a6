"""Agents of Microsoft's Agent Framework, for which there is no package of ours: its own telemetry, and our boundary.

The programs know nothing of ours, and run in an environment of their own.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.foreign_frameworks.weather import APART, TOOLS, is_embedded, is_the_conversation, streamed, under_policy
from tests.own_environment import launch, programs_of

from spanrelay_testkit.model_server import ModelServer

pytestmark = APART

AGENT = f"""{TOOLS}
import asyncio
from agent_framework import Agent
from agent_framework.observability import enable_instrumentation
from agent_framework.openai import OpenAIChatCompletionClient

enable_instrumentation()
client = OpenAIChatCompletionClient(model="m")
agent = Agent(client, name="weather", tools=[get_weather, get_time], default_options={{"temperature": 0.5}})
"""
WHOLE = f"""{AGENT}
asyncio.run(agent.run("How is Oslo?"))
"""
STREAMED = f"""{AGENT}
async def main():
    async for update in agent.run("How is Oslo?", stream=True):
        pass

asyncio.run(main())
"""
BELOW = f"""{AGENT}
boss = Agent(client, name="boss", tools=[agent.as_tool(name="get_advice", arg_name="city")])
asyncio.run(boss.run("Should I go?"))
"""


@pytest.fixture(scope="module")
def programs() -> Path:
    return programs_of("agent-framework", ["openai"], ["agent-framework-core", "agent-framework-openai"])


@pytest.mark.proves("agent-framework", "one trace")
def test_an_agent_with_tools_is_one_trace_and_reads_like_the_conversation(
    programs: Path, tmp_path: Path, server: ModelServer
) -> None:
    ran = launch(programs, WHOLE, tmp_path, server)
    asked, tools = ["LLM chat m", []], [["None execute_tool get_weather", []], ["None execute_tool get_time", []]]
    assert ran.tree() == [["None invoke_agent weather", [asked, *tools, asked]]]
    is_the_conversation(ran)


@pytest.mark.proves("agent-framework", "streaming")
def test_a_streamed_run_is_one_trace_and_tells_the_same(programs: Path, tmp_path: Path, server: ModelServer) -> None:
    is_the_conversation(streamed(programs, STREAMED, tmp_path, server))


@pytest.mark.proves("agent-framework", "policy")
def test_a_file_rewrites_a_parameter_takes_a_tool_away_and_refuses_a_model_call(
    programs: Path, tmp_path: Path, server: ModelServer
) -> None:
    under_policy(programs, WHOLE, tmp_path, server)


@pytest.mark.proves("agent-framework", "sub-agents")
def test_an_agent_that_is_a_tool_is_below_it_and_embedded(programs: Path, tmp_path: Path, server: ModelServer) -> None:
    ran = launch(programs, BELOW, tmp_path, server)
    [[boss, _]] = ran.tree()
    assert boss == "None invoke_agent boss"
    is_embedded(ran, server)
