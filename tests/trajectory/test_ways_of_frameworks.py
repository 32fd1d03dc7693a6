"""What frameworks do in ways of their own: tools under ids that no model gave, or asked for in words; late names."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.trajectory.program import Program, calls, outline, results, says, system, user

from spanrelay.records import AgentInfo

ASK = [user("How is Oslo?")]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


def test_runs_under_ids_of_a_framework_are_those_of_calls_that_have_none(program: Program) -> None:
    root = program.agent()
    program.ask(root, ASK, calls((None, "weather", {"city": "Oslo"}), (None, "time", {"city": "Oslo"})))
    program.use(root, "time", None, "noon", call_id="own-2")
    program.use(root, "weather", {"city": "Oslo"}, "rain", call_id="own-1")
    program.end(root)
    steps = program.document()["steps"]
    assert len(steps) == 2
    assert sorted(content for _, content in results(steps[1])) == ["noon", "rain"]


def test_a_run_under_an_id_that_nobody_gave_is_not_that_of_a_call_with_another(program: Program) -> None:
    root = program.agent()
    program.ask(root, ASK, calls(("c1", "weather", {"city": "Oslo"})))
    program.use(root, "weather", {"city": "Oslo"}, "rain", call_id="own-1")
    program.end(root)
    assert [step.get("llm_call_count") for step in program.document()["steps"]][1:] == [1, 0]


def test_a_request_that_tells_what_tools_gave_goes_on_though_nothing_else_is_repeated(program: Program) -> None:
    root = program.begin("chain")
    program.ask(root, [system("Name a tool."), *ASK], says("weather(Oslo)"))
    program.use(root, "weather", {"city": "Oslo"}, "rain in Oslo")
    program.ask(root, [system("Name a tool."), user("How is Oslo? It said: rain in Oslo.")], says("time(Oslo)"))
    program.use(root, "time", {"city": "Oslo"}, "noon in Oslo")
    program.ask(root, [system("Answer."), user("rain in Oslo, and noon in Oslo")], says("Rain at noon."))
    program.end(root)
    document = program.document()
    sources = [step["source"] for step in document["steps"]]
    assert sources == ["system", "user", "agent", "agent", "user", "agent", "agent", "system", "user", "agent"]
    assert "subagent_trajectories" not in document


def test_a_request_that_leaves_out_what_a_tool_gave_is_another_conversation(program: Program) -> None:
    root = program.begin("chain")
    program.ask(root, ASK, says("weather(Oslo)"))
    program.use(root, "weather", {"city": "Oslo"}, "rain in Oslo")
    program.ask(root, [user("Translate: Good day.")], says("God dag."))
    program.end(root)
    (below,) = program.document()["subagent_trajectories"]
    assert outline(below) == ["user: Translate: Good day.", "agent: God dag."]


def test_an_agent_whose_span_names_it_as_it_ends_gives_its_name_to_its_document(program: Program) -> None:
    boss = program.begin("agent")
    program.ask(boss, ASK, calls(("c1", "advise", {})))
    tool = program.begin("tool", boss)
    helper = program.begin("agent", tool)
    program.ask(helper, [user("Advise.")], says("Stay."))
    program.end(helper, agent=AgentInfo("helper"))
    program.end(tool, tool=None)
    program.end(boss, agent=AgentInfo("boss"))
    document = program.document()
    assert (document["agent"]["name"], document["subagent_trajectories"][0]["agent"]["name"]) == ("boss", "helper")


def test_a_name_that_was_known_stays(program: Program) -> None:
    agent = program.agent("first")
    program.ask(agent, ASK, says("Rain."))
    program.end(agent, agent=AgentInfo("second"))
    assert program.document()["agent"]["name"] == "first"


@pytest.mark.parametrize(("said", "named"), [("boss", "advise"), ("helper", "helper")])
def test_a_tool_names_the_conversation_beneath_it_unless_it_names_its_own_agent(
    program: Program, said: str, named: str
) -> None:
    boss = program.agent("boss")
    program.ask(boss, ASK, calls(("c1", "advise", {})))
    tool = program.begin("tool", boss, name="advise")
    program.ask(tool, [user("Advise.")], says("Stay."))
    program.end(tool, agent=AgentInfo(said))
    program.end(boss)
    (below,) = program.document()["subagent_trajectories"]
    assert below["agent"]["name"] == named
