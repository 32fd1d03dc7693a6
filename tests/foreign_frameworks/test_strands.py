"""Agents of Strands, for which there is no package of ours: its own telemetry, and our provider boundary.

The programs know nothing of ours, and run in an environment of their own.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.foreign_frameworks.environments import strands_and_adk
from tests.foreign_frameworks.weather import (
    ANSWERED,
    APART,
    CONVERSATION,
    LOOKED,
    TOOLS,
    is_embedded,
    is_the_conversation,
    streamed,
    under_policy,
)
from tests.own_environment import launch

from spanrelay_testkit.model_server import ModelServer

pytestmark = APART

AGENT = f"""{TOOLS}
from strands import Agent, tool
from strands.models.openai import OpenAIModel

model = OpenAIModel(model_id="m", params={{"temperature": 0.5}})
told = {{"session.id": "s-1"}}
tools = [tool(get_weather), tool(get_time)]
agent = Agent(name="weather", model=model, tools=tools, callback_handler=None, trace_attributes=told)
"""
WHOLE = f"""{AGENT}
agent("How is Oslo?")
"""
STREAMED = f"""{AGENT}
import asyncio

async def main():
    async for event in agent.stream_async("How is Oslo?"):
        pass

asyncio.run(main())
"""
TURNS = f"""{AGENT}
agent("How is Oslo?")
agent("And now?")
"""
BELOW = f'''{AGENT}
@tool
def get_advice(city: str) -> str:
    """The advice of one who knows the weather."""
    return str(agent("How is Oslo?"))

Agent(name="boss", model=model, tools=[get_advice], callback_handler=None)("Should I go?")
'''


@pytest.fixture(scope="module")
def programs() -> Path:
    return strands_and_adk()


@pytest.mark.proves("strands", "one trace")
def test_an_agent_with_tools_is_one_trace_and_reads_like_the_conversation(
    programs: Path, tmp_path: Path, server: ModelServer
) -> None:
    ran = launch(programs, WHOLE, tmp_path, server)
    asked, tools = ["LLM chat", []], [["None execute_tool get_weather", []], ["None execute_tool get_time", []]]
    cycles = [["None execute_event_loop_cycle", [asked, *tools]], ["None execute_event_loop_cycle", [asked]]]
    assert ran.tree() == [["None invoke_agent weather", cycles]]
    is_the_conversation(ran)


@pytest.mark.proves("strands", "streaming")
def test_a_streamed_run_is_one_trace_and_tells_the_same(programs: Path, tmp_path: Path, server: ModelServer) -> None:
    is_the_conversation(streamed(programs, STREAMED, tmp_path, server))


@pytest.mark.proves("strands", "policy")
def test_a_file_rewrites_a_parameter_takes_a_tool_away_and_refuses_a_model_call(
    programs: Path, tmp_path: Path, server: ModelServer
) -> None:
    under_policy(programs, WHOLE, tmp_path, server)


@pytest.mark.proves("strands", "sub-agents")
def test_an_agent_that_is_a_tool_is_below_it_and_embedded(programs: Path, tmp_path: Path, server: ModelServer) -> None:
    ran = launch(programs, BELOW, tmp_path, server)
    [[boss, _]] = ran.tree()
    assert boss == "None invoke_agent boss"
    is_embedded(ran, server)


@pytest.mark.proves("strands", "sessions")
def test_runs_that_are_told_a_session_carry_its_id_and_are_one_trajectory(
    programs: Path, tmp_path: Path, server: ModelServer
) -> None:
    ran = launch(programs, TURNS, tmp_path, server)
    assert {span["attributes"]["session.id"] for span in ran.spans} == {"s-1"}
    assert ran.story == [*CONVERSATION, "user And now?", LOOKED, ANSWERED]
    assert ran.trajectories[0]["session_id"] == "s-1"
