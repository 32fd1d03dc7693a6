"""Agents of Microsoft's Agent Framework, for which there is no package of ours: its own telemetry, and our boundary.

The programs know nothing of ours, and run in an environment of their own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.own_environment import COOL, launch, programs_of

from spanrelay_testkit.exchange import Answer, Request, reply, tool_call
from spanrelay_testkit.model_server import ModelServer

pytestmark = pytest.mark.skipif(
    os.environ.get("SPANRELAY_TEST_FOREIGN_FRAMEWORKS") != "1",
    reason="set SPANRELAY_TEST_FOREIGN_FRAMEWORKS=1 to install frameworks without a package of ours apart",
)

TOOLS = '''
import asyncio
from agent_framework import Agent
from agent_framework.observability import enable_instrumentation
from agent_framework.openai import OpenAIChatCompletionClient

enable_instrumentation()

def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"

def get_time(city: str) -> str:
    """The time in a city."""
    return f"noon in {city}"

client = OpenAIChatCompletionClient(model="m")
agent = Agent(client, name="weather", tools=[get_weather, get_time], default_options={"temperature": 0.5})
'''
WHOLE = f"""{TOOLS}
asyncio.run(agent.run("How is Oslo?"))
"""
STREAMED = f"""{TOOLS}
async def main():
    async for update in agent.run("How is Oslo?", stream=True):
        pass

asyncio.run(main())
"""
BELOW = f"""{TOOLS}
boss = Agent(client, name="boss", tools=[agent.as_tool(name="get_advice", arg_name="city")])
asyncio.run(boss.run("Should I go?"))
"""


def answers(request: Request) -> Answer:
    """Calls what it is offered, and then answers with what it was told."""
    if request.body["messages"][-1]["role"] == "tool":
        return reply("Rain at noon.")
    offered = sorted((each["function"]["name"] for each in request.body.get("tools", [])), reverse=True)
    return reply(tool_calls=[tool_call(name, city="Oslo", id=name) for name in offered])


@pytest.fixture(scope="module")
def programs() -> Path:
    return programs_of("agent-framework", ["openai"], ["agent-framework-core", "agent-framework-openai"])


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(answers) as server:
        yield server


LOOKED = (
    "agent [('get_weather', {'city': 'Oslo'}), ('get_time', {'city': 'Oslo'})] "
    "[('rain in Oslo', False, False), ('noon in Oslo', False, False)]"
)
CONVERSATION = ["user How is Oslo?", LOOKED, "agent Rain at noon."]


@pytest.mark.proves("agent-framework", "one trace")
def test_an_agent_with_tools_is_one_trace_and_reads_like_the_conversation(
    programs: Path, tmp_path: Path, server: ModelServer
) -> None:
    ran = launch(programs, WHOLE, tmp_path, server)
    asked, tools = ["LLM chat m", []], [["None execute_tool get_weather", []], ["None execute_tool get_time", []]]
    assert ran.tree() == [["None invoke_agent weather", [asked, *tools, asked]]]
    assert [call["gen_ai.response.id"] for call in ran.of("LLM")] == ["chatcmpl-1", "chatcmpl-2"]
    assert ran.story == CONVERSATION
    assert ran.trajectories[0]["agent"]["name"] == "weather"


@pytest.mark.proves("agent-framework", "streaming")
def test_a_streamed_run_is_one_trace_and_tells_the_same(programs: Path, tmp_path: Path, server: ModelServer) -> None:
    ran = launch(programs, STREAMED, tmp_path, server)
    assert [bool(request.body.get("stream")) for request in server.requests] == [True, True]
    assert [call["gen_ai.response.id"] for call in ran.of("LLM")] == ["chatcmpl-1", "chatcmpl-2"]
    assert len({span["context"]["trace_id"] for span in ran.spans}) == 1
    assert ran.story == CONVERSATION


@pytest.mark.proves("agent-framework", "policy")
def test_a_file_rewrites_a_parameter_takes_a_tool_away_and_refuses_a_model_call(
    programs: Path, tmp_path: Path, server: ModelServer
) -> None:
    policy = "[plugins.policy]\ntools.deny = ['get_time']\ntools.offered = 'remove'\nsession.max_calls = 1\n"
    (tmp_path / "spanrelay.toml").write_text(f"{policy}{COOL}")
    ran = launch(programs, WHOLE, tmp_path, server, fails=True)
    [request] = server.requests
    assert request.body["temperature"] == 0.25
    assert [tool["function"]["name"] for tool in request.body["tools"]] == ["get_weather"]
    sent, refused = ran.of("LLM")
    assert sent["gen_ai.request.temperature"] == 0.25
    assert refused["error.type"] == "spanrelay.errors.GuardrailRejected"
    assert ran.story[-1] == "agent failed"


@pytest.mark.proves("agent-framework", "sub-agents")
def test_an_agent_that_is_a_tool_is_below_it_and_embedded(programs: Path, tmp_path: Path, server: ModelServer) -> None:
    ran = launch(programs, BELOW, tmp_path, server)
    [[boss, _]] = ran.tree()
    assert boss == "None invoke_agent boss"
    [document] = ran.trajectories
    [below] = document["subagent_trajectories"]
    assert (document["agent"]["name"], below["agent"]["name"]) == ("boss", "weather")
    assert len(ran.of("LLM")) == len(server.requests) == 4
