"""Unmodified programs under `opentelemetry-instrument`, with nothing but a policy file beside them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.programs import run

from spanrelay_testkit.exchange import Answer, Request, reply, tool_call
from spanrelay_testkit.model_server import ModelServer

POLICY = """
[plugins.policy]
tools.deny = ["delete_*"]
tools.refused = "answer"
[plugins.policy.parameters."*"]
temperature = 0.25
"""
AGENT = """
from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

@tool
def delete_file(path: str) -> str:
    "Delete a file."
    print("deleted", path)
    return "gone"

agent = create_agent(ChatOpenAI(model="gpt-5"), [delete_file], name="cleaner")
try:
    print(agent.invoke({"messages": [("user", "Delete it.")]})["messages"][-1].text)
except Exception as error:
    print(type(error).__name__)
"""
FAKE = """
from langchain_core.language_models.fake_chat_models import FakeListChatModel
print(FakeListChatModel(responses=["Blue."]).invoke("Which colour has the sky?").text)
"""


def answers(request: Request) -> Answer:
    if request.body["messages"][-1]["role"] != "tool":
        return reply(tool_calls=[tool_call("delete_file", path="/etc", id="d")])
    return reply("Done.")


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(answers) as server:
        yield server


def test_an_agent_tells_its_trajectory_and_nothing_else_changes(tmp_path: Path, server: ModelServer) -> None:
    ran = run(AGENT, tmp_path, server)
    assert (ran.code, ran.out) == (0, "deleted /etc\nDone.\n")
    [document] = ran.trajectories
    assert document["agent"]["name"] == "cleaner"
    assert [step["source"] for step in document["steps"]] == ["user", "agent", "agent"]
    [result] = document["steps"][1]["observation"]["results"]
    assert (result["source_call_id"], result["content"]) == ("d", "gone")


@pytest.mark.proves("langchain", "policy")
def test_a_file_refuses_a_tool_and_rewrites_a_parameter(tmp_path: Path, server: ModelServer) -> None:
    (tmp_path / "spanrelay.toml").write_text(POLICY)
    ran = run(AGENT, tmp_path, server)
    assert (ran.code, ran.out) == (0, "Done.\n"), ran.err
    assert "is denied by 'delete_*'" in str(ran.trajectories)
    assert [request.body["temperature"] for request in server.requests] == [0.25, 0.25]
    assert "SpanRelay failed" not in ran.err and "cannot be instrumented" not in ran.err


def test_a_model_without_a_provider_is_recorded(tmp_path: Path) -> None:
    ran = run(FAKE, tmp_path)
    assert (ran.code, ran.out) == (0, "Blue.\n")
    assert ran.said == ["Which colour has the sky?", "Blue."]


TEAM = """
from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

cleaner = create_agent(ChatOpenAI(model="gpt-5"), [], name="cleaner", system_prompt="Clean.")

@tool
def delegate(question: str) -> str:
    "Ask the cleaner."
    return cleaner.invoke({"messages": [("user", question)]})["messages"][-1].text

boss = create_agent(ChatOpenAI(model="gpt-5"), [delegate], name="boss")
print(boss.invoke({"messages": [("user", "Is it clean?")]})["messages"][-1].text)
"""


def delegates(request: Request) -> Answer:
    if request.body["messages"][0]["role"] == "system":
        return reply("It is clean.")
    if request.body["messages"][-1]["role"] != "tool":
        return reply(tool_calls=[tool_call("delegate", question="Clean?", id="d")])
    return reply("I was told so.")


@pytest.mark.proves("langchain", "sub-agents")
def test_an_agent_under_a_tool_is_embedded_in_the_trajectory(tmp_path: Path) -> None:
    with ModelServer(delegates) as server:
        ran = run(TEAM, tmp_path, server)
    assert (ran.code, ran.out) == (0, "I was told so.\n")
    [document] = ran.trajectories
    [inner] = document["subagent_trajectories"]
    assert (document["agent"]["name"], inner["agent"]["name"]) == ("boss", "cleaner")
    assert [step["message"] for step in inner["steps"]] == ["Clean.", "Clean?", "It is clean."]


CHAIN = """
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
print((FakeListChatModel(responses=["Blue."]) | StrOutputParser()).invoke("Which colour has the sky?"))
"""


@pytest.mark.parametrize("wanted", ["true", "false"])
def test_a_setting_records_the_steps_of_chains(wanted: str, tmp_path: Path) -> None:
    ran = run(CHAIN, tmp_path, SPANRELAY_CHAINS=wanted, OTEL_TRACES_EXPORTER="console", OTEL_METRICS_EXPORTER="none")
    assert ran.code == 0, ran.err
    assert '"name": "RunnableSequence"' in ran.out
    assert ('"name": "StrOutputParser"' in ran.out) == (wanted == "true")
    assert '"name": "chat' in ran.out
