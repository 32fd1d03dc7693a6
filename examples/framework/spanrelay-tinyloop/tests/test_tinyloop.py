"""A run of tinyloop is one trace with a span for each model call and each tool, and policy holds."""

from __future__ import annotations

import json

import pytest
from tinyloop import Agent, Tool

from spanrelay_testkit.exchange import reply, tool_call
from spanrelay_testkit.model_server import ModelServer

pytest_plugins = ["spanrelay.testing"]


@pytest.fixture
def model(monkeypatch):
    """Let OpenAI's SDK ask a server here that gives these answers; returns the server once they are known."""
    servers = []

    def answers(*script):
        server = ModelServer(script)
        servers.append(server)
        server.__enter__()
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        return server

    yield answers
    for server in servers:
        server.close()


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"{city}: 4 degrees"


def asks(name, **arguments):
    return reply(None, tool_calls=[tool_call(name, arguments)])


def test_a_run_is_one_trace(recorded, model):
    model(asks("get_weather", city="Oslo"), reply("It is 4 degrees."))
    agent = Agent("weather", "You know the weather.", [Tool(get_weather)])
    assert agent.run("How is Oslo?", thread="t-1") == "It is 4 degrees."
    [call] = recorded.tool_calls
    assert (call.name, call.arguments, call.result) == ("get_weather", {"city": "Oslo"}, "Oslo: 4 degrees")
    assert len(recorded.model_calls) == 2
    assert len({span.context.trace_id for span in recorded.spans}) == 1
    assert recorded.trajectory["session_id"] == "t-1"
    assert [step["source"] for step in recorded.trajectory["steps"]] == ["system", "user", "agent", "agent"]


def test_an_agent_that_another_asks_is_beneath_the_tool(recorded, model):
    model(asks("ask_weather", question="Oslo?"), reply("4 degrees."), reply("The other says 4 degrees."))
    other = Agent("weather", "You know the weather.")
    boss = Agent("boss", "Ask the others.", [other.as_tool()])
    assert boss.run("How is Oslo?") == "The other says 4 degrees."
    assert [each["agent"]["name"] for each in recorded.trajectory["subagent_trajectories"]] == ["weather"]


def test_a_denied_tool_does_not_run_and_the_model_is_told(recorded, model):
    recorded.configure(policy={"tools": {"deny": ["get_*"]}})
    server = model(asks("get_weather", city="Oslo"), reply("I may not look."))
    ran = []
    agent = Agent("weather", "You know the weather.", [Tool(lambda city: ran.append(city) or "", name="get_weather")])
    assert agent.run("How is Oslo?") == "I may not look."
    assert ran == []
    assert "is denied by 'get_*'" in json.dumps(server.requests[-1].body["messages"])
