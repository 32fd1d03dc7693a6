"""Agents of Agno, for which there is no package of ours: OpenInference's instrumentor, and our provider boundary.

The programs know nothing of either, and run in an environment of their own.
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
import sys
from agno.agent import Agent
from agno.models.openai import OpenAIChat

def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"

def get_time(city: str) -> str:
    """The time in a city."""
    return f"noon in {city}"

model = OpenAIChat(id="m", temperature=0.5)
agent = Agent(name="weather", model=model, tools=[get_weather, get_time], telemetry=False)
'''
WHOLE = f"""{TOOLS}
print(agent.run("How is Oslo?").content, file=sys.stderr)
"""
STREAMED = f"""{TOOLS}
for event in agent.run("How is Oslo?", stream=True):
    pass
"""
TURNS = f"""{TOOLS}
from agno.db.in_memory import InMemoryDb
agent = Agent(name="weather", model=model, db=InMemoryDb(), add_history_to_context=True, telemetry=False)
for said in ("hello", "and now?"):
    agent.run(said, session_id="s-1")
"""
TEAM = f"""{TOOLS}
from agno.team import Team
Team(name="boss", model=OpenAIChat(id="m"), members=[agent], telemetry=False).run("Should I go?")
"""
PAUSED = f"""{TOOLS}
from agno.db.in_memory import InMemoryDb
from agno.tools import tool
asks = tool(requires_confirmation=True)(get_weather)
agent = Agent(name="weather", model=model, tools=[asks], db=InMemoryDb(), telemetry=False)
run = agent.run("How is Oslo?", session_id="s-1")
assert run.is_paused
for requirement in run.active_requirements:
    requirement.confirm()
agent.continue_run(run_id=run.run_id, requirements=run.requirements, session_id="s-1")
"""


def answers(request: Request) -> Answer:
    """Calls what it is offered, and then answers with what it was told."""
    if request.body["messages"][-1]["role"] == "tool":
        return reply("Rain at noon.")
    offered = sorted((each["function"]["name"] for each in request.body.get("tools", [])), reverse=True)
    if "delegate_task_to_member" in offered:
        task = tool_call("delegate_task_to_member", member_id="weather", task="How is Oslo?", id="b")
        return reply(tool_calls=[task])
    if not offered:
        return reply("Hello.")
    return reply(tool_calls=[tool_call(name, city="Oslo", id=name) for name in offered])


@pytest.fixture(scope="module")
def programs() -> Path:
    return programs_of("agno", ["openai"], ["agno", "openai", "openinference-instrumentation-agno"])


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(answers) as server:
        yield server


CONVERSATION = [
    "user How is Oslo?",
    "agent [('get_weather', {'city': 'Oslo'}), ('get_time', {'city': 'Oslo'})] "
    "[('rain in Oslo', False, False), ('noon in Oslo', False, False)]",
    "agent Rain at noon.",
]


@pytest.mark.proves("agno", "one trace")
def test_an_agent_with_tools_is_one_trace_and_reads_like_the_conversation(
    programs: Path, tmp_path: Path, server: ModelServer
) -> None:
    ran = launch(programs, WHOLE, tmp_path, server)
    asked = ["LLM OpenAIChat.invoke", []]
    assert ran.tree() == [["AGENT weather.run", [asked, ["TOOL get_weather", []], ["TOOL get_time", []], asked]]]
    assert [call["gen_ai.response.id"] for call in ran.of("LLM")] == ["chatcmpl-1", "chatcmpl-2"]
    assert ran.story == CONVERSATION
    assert ran.trajectories[0]["agent"]["name"] == "weather"


@pytest.mark.proves("agno", "streaming")
def test_a_streamed_run_is_one_trace_and_tells_the_same(programs: Path, tmp_path: Path, server: ModelServer) -> None:
    ran = launch(programs, STREAMED, tmp_path, server)
    assert [bool(request.body.get("stream")) for request in server.requests] == [True, True]
    assert [call["gen_ai.response.id"] for call in ran.of("LLM")] == ["chatcmpl-1", "chatcmpl-2"]
    assert len({span["context"]["trace_id"] for span in ran.spans}) == 1
    assert ran.story == CONVERSATION


@pytest.mark.proves("agno", "policy")
def test_a_file_rewrites_a_parameter_takes_a_tool_away_and_refuses_a_model_call(
    programs: Path, tmp_path: Path, server: ModelServer
) -> None:
    policy = "[plugins.policy]\ntools.deny = ['get_time']\ntools.offered = 'remove'\nsession.max_calls = 1\n"
    (tmp_path / "spanrelay.toml").write_text(f"{policy}{COOL}")
    ran = launch(programs, WHOLE, tmp_path, server)
    [request] = server.requests
    assert request.body["temperature"] == 0.25
    assert [tool["function"]["name"] for tool in request.body["tools"]] == ["get_weather"]
    sent, refused = ran.of("LLM")
    assert sent["gen_ai.request.temperature"] == 0.25
    assert refused["error.type"] == "spanrelay.errors.GuardrailRejected"
    assert ran.story[-1] == "agent failed"


@pytest.mark.proves("agno", "sub-agents")
def test_a_member_of_a_team_is_its_child_and_embedded(programs: Path, tmp_path: Path, server: ModelServer) -> None:
    ran = launch(programs, TEAM, tmp_path, server)
    [[team, beneath]] = ran.tree()
    assert team == "AGENT boss.run"
    assert "AGENT weather.run" in [name for name, _ in beneath]
    [document] = ran.trajectories
    [below] = document["subagent_trajectories"]
    assert (document["agent"]["name"], below["agent"]["name"]) == ("boss", "weather")
    assert len(ran.of("LLM")) == len(server.requests) == 4


@pytest.mark.proves("agno", "interrupts")
def test_a_run_that_waits_for_a_person_has_not_failed_and_goes_on(
    programs: Path, tmp_path: Path, server: ModelServer
) -> None:
    ran = launch(programs, PAUSED, tmp_path, server)
    assert [span["name"] for span in ran.spans if span["status"]["status_code"] == "ERROR"] == []
    assert ran.story == [
        "user How is Oslo?",
        "agent [('get_weather', {'city': 'Oslo'})] [('rain in Oslo', False, False)]",
        "agent Rain at noon.",
    ]


@pytest.mark.proves("agno", "sessions")
def test_runs_of_a_session_carry_its_id_and_are_one_trajectory(
    programs: Path, tmp_path: Path, server: ModelServer
) -> None:
    ran = launch(programs, TURNS, tmp_path, server)
    assert [run["session.id"] for run in ran.of("AGENT")] == ["s-1", "s-1"]
    assert ran.story == ["user hello", "agent Hello.", "user and now?", "agent Hello."]
    assert ran.trajectories[0]["session_id"] == "s-1"
