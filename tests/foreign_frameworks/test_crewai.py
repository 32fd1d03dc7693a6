"""Crews of CrewAI, for which there is no package of ours: OpenInference's instrumentor, and our provider boundary.

The programs know nothing of either, and run in an environment of their own.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.foreign_frameworks.environments import crewai_and_llama_index
from tests.foreign_frameworks.weather import ANSWERED, APART, LOOKED, TOOLS, ids, is_embedded, streamed, under_policy
from tests.own_environment import launch

from spanrelay_testkit.model_server import ModelServer

pytestmark = APART

SILENT = {"CREWAI_DISABLE_TELEMETRY": "true", "CREWAI_TRACING_ENABLED": "false"}
CREW = f"""{TOOLS}
from crewai import Agent, Crew, LLM, Task
from crewai.tools import tool

def crew(question, *agents):
    Crew(agents=agents, tasks=[Task(description=question, expected_output="Advice.", agent=agents[0])]).kickoff()

model = LLM(model="openai/gpt-4o-mini", temperature=0.5)
tools = [tool(get_weather), tool(get_time)]
agent = Agent(role="weather", goal="Knows.", backstory="One.", llm=model, tools=tools, max_retry_limit=0)
"""
WHOLE = f"""{CREW}
crew("How is Oslo?", agent)
"""
STREAMED = f"""{CREW}
agent.llm = LLM(model="openai/gpt-4o-mini", stream=True)
crew("How is Oslo?", agent)
"""
BELOW = f"""{CREW}
crew("Should I go?", Agent(role="boss", goal="Asks.", backstory="One.", llm=model, allow_delegation=True), agent)
"""


@pytest.fixture(scope="module")
def programs() -> Path:
    return crewai_and_llama_index()


@pytest.mark.proves("crewai", "one trace", "sub-agents")
def test_a_coworker_is_below_the_agent_that_delegates_to_it_and_embedded(
    programs: Path, tmp_path: Path, server: ModelServer
) -> None:
    ran = launch(programs, BELOW, tmp_path, server, **SILENT)
    [[crew, [[boss, _]]]] = ran.tree()
    assert crew.startswith("CHAIN Crew_")
    assert boss == "AGENT boss._execute_core"
    is_embedded(ran, server)
    [told] = [line for line in ran.story if "delegate_work_to_coworker" in line]
    assert told.endswith("[('Rain at noon.', False, True)]")


@pytest.mark.proves("crewai", "streaming")
def test_a_streamed_run_is_one_trace_and_tells_of_its_tools(
    programs: Path, tmp_path: Path, server: ModelServer
) -> None:
    ran = streamed(programs, STREAMED, tmp_path, server, **SILENT)
    assert ids(ran) == ["chatcmpl-1", "chatcmpl-2"]
    assert len({span["context"]["trace_id"] for span in ran.spans}) == 1
    system, user, *rest = ran.story
    assert system.startswith("system You are weather.")
    assert "How is Oslo?" in user
    assert rest == [LOOKED, ANSWERED]
    assert ran.trajectories[0]["agent"]["name"] == "weather"


@pytest.mark.proves("crewai", "policy")
def test_a_file_rewrites_a_parameter_takes_a_tool_away_and_refuses_a_model_call(
    programs: Path, tmp_path: Path, server: ModelServer
) -> None:
    under_policy(programs, WHOLE, tmp_path, server, **SILENT)
