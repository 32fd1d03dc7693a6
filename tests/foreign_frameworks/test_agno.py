"""Agents of Agno, for which there is no package of ours: OpenInference's instrumentor, and our provider boundary.

The programs know nothing of either, and run in an environment of their own.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.foreign_frameworks.weather import APART, TOOLS, is_embedded, is_the_conversation, streamed, under_policy
from tests.own_environment import launch, programs_of

from spanrelay_testkit.model_server import ModelServer

pytestmark = APART

AGENT = f"""{TOOLS}
from agno.agent import Agent
from agno.models.openai import OpenAIChat

model = OpenAIChat(id="m", temperature=0.5)
agent = Agent(name="weather", model=model, tools=[get_weather, get_time], telemetry=False)
"""
WHOLE = f"""{AGENT}
agent.run("How is Oslo?")
"""
STREAMED = f"""{AGENT}
for event in agent.run("How is Oslo?", stream=True):
    pass
"""
TURNS = f"""{AGENT}
from agno.db.in_memory import InMemoryDb
agent = Agent(name="weather", model=model, db=InMemoryDb(), add_history_to_context=True, telemetry=False)
for said in ("hello", "and now?"):
    agent.run(said, session_id="s-1")
"""
TEAM = f"""{AGENT}
from agno.team import Team
Team(name="boss", model=OpenAIChat(id="m"), members=[agent], telemetry=False).run("Should I go?")
"""
PAUSED = f"""{AGENT}
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


@pytest.fixture(scope="module")
def programs() -> Path:
    return programs_of("agno", ["openai"], ["agno", "openai", "openinference-instrumentation-agno"])


@pytest.mark.proves("agno", "one trace")
def test_an_agent_with_tools_is_one_trace_and_reads_like_the_conversation(
    programs: Path, tmp_path: Path, server: ModelServer
) -> None:
    ran = launch(programs, WHOLE, tmp_path, server)
    asked = ["LLM OpenAIChat.invoke", []]
    assert ran.tree() == [["AGENT weather.run", [asked, ["TOOL get_weather", []], ["TOOL get_time", []], asked]]]
    is_the_conversation(ran)


@pytest.mark.proves("agno", "streaming")
def test_a_streamed_run_is_one_trace_and_tells_the_same(programs: Path, tmp_path: Path, server: ModelServer) -> None:
    is_the_conversation(streamed(programs, STREAMED, tmp_path, server))


@pytest.mark.proves("agno", "policy")
def test_a_file_rewrites_a_parameter_takes_a_tool_away_and_refuses_a_model_call(
    programs: Path, tmp_path: Path, server: ModelServer
) -> None:
    under_policy(programs, WHOLE, tmp_path, server, fails=False)


@pytest.mark.proves("agno", "sub-agents")
def test_a_member_of_a_team_is_its_child_and_embedded(programs: Path, tmp_path: Path, server: ModelServer) -> None:
    ran = launch(programs, TEAM, tmp_path, server)
    [[team, beneath]] = ran.tree()
    assert team == "AGENT boss.run"
    assert "AGENT weather.run" in [name for name, _ in beneath]
    is_embedded(ran, server)


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
