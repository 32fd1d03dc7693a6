"""Agents of Strands, for which there is no package of ours: its own telemetry, and our provider boundary.

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

UNPINNED = (
    "mcp",
    "openai",
    "opentelemetry-api",
    "opentelemetry-exporter-http-transport",
    "opentelemetry-exporter-otlp",
    "opentelemetry-exporter-otlp-common",
    "opentelemetry-exporter-otlp-proto-common",
    "opentelemetry-exporter-otlp-proto-grpc",
    "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry-instrumentation",
    "opentelemetry-proto",
    "opentelemetry-sdk",
    "opentelemetry-semantic-conventions",
)
"""Packages of which Strands takes others than the newest."""

TOOLS = '''
from strands import Agent, tool
from strands.models.openai import OpenAIModel

@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"

@tool
def get_time(city: str) -> str:
    """The time in a city."""
    return f"noon in {city}"

model = OpenAIModel(model_id="m", params={"temperature": 0.5})
told = {"session.id": "s-1"}
agent = Agent(
    name="weather", model=model, tools=[get_weather, get_time], callback_handler=None, trace_attributes=told
)
'''
WHOLE = f"""{TOOLS}
agent("How is Oslo?")
"""
STREAMED = f"""{TOOLS}
import asyncio

async def main():
    async for event in agent.stream_async("How is Oslo?"):
        pass

asyncio.run(main())
"""
TURNS = f"""{TOOLS}
agent("How is Oslo?")
agent("And now?")
"""
BELOW = f'''{TOOLS}
@tool
def get_advice(city: str) -> str:
    """The advice of one who knows the weather."""
    return str(agent("How is Oslo?"))

Agent(name="boss", model=model, tools=[get_advice], callback_handler=None)("Should I go?")
'''


def answers(request: Request) -> Answer:
    """Calls what it is offered, and then answers with what it was told."""
    if request.body["messages"][-1]["role"] == "tool":
        return reply("Rain at noon.")
    offered = sorted((each["function"]["name"] for each in request.body.get("tools", [])), reverse=True)
    return reply(tool_calls=[tool_call(name, city="Oslo", id=name) for name in offered])


@pytest.fixture(scope="module")
def programs() -> Path:
    return programs_of("strands", ["openai"], ["strands-agents[openai]>=1"], unpinned=UNPINNED)


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(answers) as server:
        yield server


LOOKED = (
    "agent [('get_weather', {'city': 'Oslo'}), ('get_time', {'city': 'Oslo'})] "
    "[('rain in Oslo', False, False), ('noon in Oslo', False, False)]"
)
CONVERSATION = ["user How is Oslo?", LOOKED, "agent Rain at noon."]


@pytest.mark.proves("strands", "one trace")
def test_an_agent_with_tools_is_one_trace_and_reads_like_the_conversation(
    programs: Path, tmp_path: Path, server: ModelServer
) -> None:
    ran = launch(programs, WHOLE, tmp_path, server)
    asked, tools = ["LLM chat", []], [["None execute_tool get_weather", []], ["None execute_tool get_time", []]]
    cycles = [["None execute_event_loop_cycle", [asked, *tools]], ["None execute_event_loop_cycle", [asked]]]
    assert ran.tree() == [["None invoke_agent weather", cycles]]
    assert [call["gen_ai.response.id"] for call in ran.of("LLM")] == ["chatcmpl-1", "chatcmpl-2"]
    assert ran.story == CONVERSATION
    assert ran.trajectories[0]["agent"]["name"] == "weather"


@pytest.mark.proves("strands", "streaming")
def test_a_streamed_run_is_one_trace_and_tells_the_same(programs: Path, tmp_path: Path, server: ModelServer) -> None:
    ran = launch(programs, STREAMED, tmp_path, server)
    assert [bool(request.body.get("stream")) for request in server.requests] == [True, True]
    assert [call["gen_ai.response.id"] for call in ran.of("LLM")] == ["chatcmpl-1", "chatcmpl-2"]
    assert len({span["context"]["trace_id"] for span in ran.spans}) == 1
    assert ran.story == CONVERSATION


@pytest.mark.proves("strands", "policy")
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


@pytest.mark.proves("strands", "sub-agents")
def test_an_agent_that_is_a_tool_is_below_it_and_embedded(programs: Path, tmp_path: Path, server: ModelServer) -> None:
    ran = launch(programs, BELOW, tmp_path, server)
    [[boss, _]] = ran.tree()
    assert boss == "None invoke_agent boss"
    [document] = ran.trajectories
    [below] = document["subagent_trajectories"]
    assert (document["agent"]["name"], below["agent"]["name"]) == ("boss", "weather")
    assert len(ran.of("LLM")) == len(server.requests) == 4


@pytest.mark.proves("strands", "sessions")
def test_runs_that_are_told_a_session_carry_its_id_and_are_one_trajectory(
    programs: Path, tmp_path: Path, server: ModelServer
) -> None:
    ran = launch(programs, TURNS, tmp_path, server)
    assert {span["attributes"]["session.id"] for span in ran.spans} == {"s-1"}
    assert ran.story == [*CONVERSATION, "user And now?", LOOKED, "agent Rain at noon."]
    assert ran.trajectories[0]["session_id"] == "s-1"
