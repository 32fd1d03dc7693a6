"""Agents of Google's ADK, for which there is no package of ours: its own telemetry, and our boundary of Gemini's SDK.

The programs know nothing of ours, and run in an environment of their own.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.foreign_frameworks.environments import strands_and_adk
from tests.foreign_frameworks.weather import ANSWERED, APART, LOOKED, TOOLS, is_embedded, streamed, under_policy
from tests.own_environment import Traced, launch

from spanrelay_testkit.model_server import ModelServer

pytestmark = APART

AGENT = f"""{TOOLS}
import asyncio
from google.adk.agents import LlmAgent, RunConfig
from google.adk.agents.run_config import StreamingMode
from google.adk.runners import InMemoryRunner
from google.adk.tools.agent_tool import AgentTool
from google.genai import types

cool = types.GenerateContentConfig(temperature=0.5)
told = dict(name="weather", description="Knows.", model="gemini-3-flash", generate_content_config=cool)
agent = LlmAgent(tools=[get_weather, get_time], **told)

async def run(agent, *questions, mode=StreamingMode.NONE):
    runner = InMemoryRunner(agent, app_name="app")
    place = dict(user_id="u", session_id="s-1")
    await runner.session_service.create_session(app_name="app", **place)
    for question in questions:
        said = types.Content(role="user", parts=[types.Part(text=question)])
        config = RunConfig(streaming_mode=mode)
        async for event in runner.run_async(new_message=said, run_config=config, **place):
            pass
"""
TURNS = f"""{AGENT}
asyncio.run(run(agent, "How is Oslo?", "And now?"))
"""
STREAMED = f"""{AGENT}
asyncio.run(run(agent, "How is Oslo?", mode=StreamingMode.SSE))
"""
BELOW = f"""{AGENT}
asyncio.run(run(LlmAgent(name="boss", model="gemini-3-flash", tools=[AgentTool(agent)]), "Should I go?"))
"""
CONVERSATION = ["user How is Oslo?", LOOKED, ANSWERED]


@pytest.fixture(scope="module")
def programs() -> Path:
    return strands_and_adk()


def gemini(server: ModelServer) -> dict[str, str]:
    """Return the settings by which Gemini's SDK asks the server."""
    return {"GOOGLE_GEMINI_BASE_URL": server.address, "GOOGLE_API_KEY": "none"}


def told(ran: Traced) -> list[str]:
    """Return the story of the one document, without what ADK tells the model of its name."""
    first, *rest = ran.story
    assert first.startswith("system You are an agent.")
    return rest


@pytest.mark.proves("google-adk", "one trace", "sub-agents")
def test_an_agent_that_is_a_tool_is_below_it_and_embedded(programs: Path, tmp_path: Path, server: ModelServer) -> None:
    ran = launch(programs, BELOW, tmp_path, server, **gemini(server))
    asked = ["LLM generate_content gemini-3-flash", []]
    tools = [
        ["None execute_tool get_weather", []],
        ["None execute_tool get_time", []],
        ["None execute_tool (merged)", []],
    ]
    weather = ["None invoke_workflow weather", [["None invoke_agent weather", [asked, *tools, asked]]]]
    boss = ["None invoke_agent boss", [asked, ["None execute_tool weather", [weather]], asked]]
    assert ran.tree() == [["None invoke_workflow boss", [boss]]]
    is_embedded(ran, server)


@pytest.mark.proves("google-adk", "sessions")
def test_runs_of_a_session_carry_its_id_and_are_one_trajectory(
    programs: Path, tmp_path: Path, server: ModelServer
) -> None:
    ran = launch(programs, TURNS, tmp_path, server, **gemini(server))
    assert told(ran) == [*CONVERSATION, "user And now?", LOOKED, ANSWERED]
    assert (ran.trajectories[0]["session_id"], ran.trajectories[0]["agent"]["name"]) == ("s-1", "weather")


@pytest.mark.proves("google-adk", "streaming")
def test_a_streamed_run_is_one_trace_and_tells_the_same(programs: Path, tmp_path: Path, server: ModelServer) -> None:
    ran = streamed(programs, STREAMED, tmp_path, server, **gemini(server))
    assert [call["gen_ai.response.id"] for call in ran.of("LLM")] == ["response-1", "response-2"]
    assert len({span["context"]["trace_id"] for span in ran.spans}) == 1
    assert told(ran) == CONVERSATION


@pytest.mark.proves("google-adk", "policy")
def test_a_file_rewrites_a_parameter_takes_a_tool_away_and_refuses_a_model_call(
    programs: Path, tmp_path: Path, server: ModelServer
) -> None:
    under_policy(programs, TURNS, tmp_path, server, **gemini(server))
