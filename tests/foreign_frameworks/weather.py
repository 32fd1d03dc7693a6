"""What agents of every framework here are asked: the weather, of one with two tools, alone and below another agent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.own_environment import COOL, Traced, launch

from spanrelay_testkit.exchange import Answer, Request, reply, tool_call
from spanrelay_testkit.model_server import ModelServer

APART = pytest.mark.skipif(
    os.environ.get("SPANRELAY_TEST_FOREIGN_FRAMEWORKS") != "1",
    reason="set SPANRELAY_TEST_FOREIGN_FRAMEWORKS=1 to install frameworks without a package of ours apart",
)
"""The mark of tests that install a framework."""

TOOLS = '''
def get_weather(city: str) -> str:
    """The weather of a city.

    Args:
        city: The city.
    """
    return f"rain in {city}"

def get_time(city: str) -> str:
    """The time in a city.

    Args:
        city: The city.
    """
    return f"noon in {city}"
'''
"""The tools of the programs, as Python."""

LOOKED = (
    "agent [('get_weather', {'city': 'Oslo'}), ('get_time', {'city': 'Oslo'})] "
    "[('rain in Oslo', False, False), ('noon in Oslo', False, False)]"
)
ANSWERED = "agent Rain at noon."
CONVERSATION = ["user How is Oslo?", LOOKED, ANSWERED]
"""What a trajectory tells of the agent with two tools, once it was asked how Oslo is."""

_WORDS = {"city": "Oslo", "task": "How is Oslo?", "member_id": "weather"}
"""What the model gives to parameters of tools, by their names."""


def answers(request: Request) -> Answer:
    """Calls each tool that it is offered, and then answers with what it was told."""
    if request.body["messages"][-1]["role"] == "tool":
        return reply("Rain at noon.")
    offered = sorted((each["function"] for each in request.body.get("tools", [])), key=_name, reverse=True)
    if not offered:
        return reply("Hello.")
    return reply(tool_calls=[tool_call(_name(tool), **_arguments(tool), id=_name(tool)) for tool in offered])


def _name(tool: dict[str, str]) -> str:
    return tool["name"]


def _arguments(tool: dict[str, dict[str, list[str]]]) -> dict[str, str]:
    return {name: _WORDS[name] for name in tool["parameters"]["required"]}


def is_the_conversation(ran: Traced) -> None:
    """Hold a run to be one trace with a span for each of the two model calls, and to tell the conversation."""
    assert len({span["context"]["trace_id"] for span in ran.spans}) == 1
    assert ids(ran) == ["chatcmpl-1", "chatcmpl-2"]
    assert ran.story == CONVERSATION
    assert ran.trajectories[0]["agent"]["name"] == "weather"


def ids(ran: Traced) -> list[str | None]:
    """The provider's id of each model call that was exported, in order."""
    return [call.get("gen_ai.response.id") for call in ran.of("LLM")]


def streamed(programs: Path, program: str, folder: Path, server: ModelServer) -> Traced:
    """Run a program that has both answers streamed, and hold it to have asked for that."""
    ran = launch(programs, program, folder, server)
    assert [bool(request.body.get("stream")) for request in server.requests] == [True, True]
    return ran


def under_policy(programs: Path, program: str, folder: Path, server: ModelServer, *, fails: bool = True) -> Traced:
    """Run a program under a policy, and hold it to be offered one tool alone, in one call that is cooler.

    Args:
        fails: Whether the refusal of a second model call ends the program.
    """
    policy = "[plugins.policy]\ntools.deny = ['get_time']\ntools.offered = 'remove'\nsession.max_calls = 1\n"
    (folder / "spanrelay.toml").write_text(f"{policy}{COOL}")
    ran = launch(programs, program, folder, server, fails=fails)
    [request] = server.requests
    assert request.body["temperature"] == 0.25
    offered = [tool["function"]["name"] for tool in request.body["tools"]]
    assert "get_weather" in offered
    assert "get_time" not in offered
    sent, refused = ran.of("LLM")
    assert sent["gen_ai.request.temperature"] == 0.25
    assert refused["error.type"] == "spanrelay.errors.GuardrailRejected"
    assert ran.story[-1] == "agent failed"
    return ran


def is_embedded(ran: Traced, server: ModelServer) -> None:
    """Hold a run to be one document of `boss`, with that of `weather` in it and a span for each of four model calls."""
    assert ran.story
    [document] = ran.trajectories
    [below] = document["subagent_trajectories"]
    assert (document["agent"]["name"], below["agent"]["name"]) == ("boss", "weather")
    assert len(ran.of("LLM")) == len(server.requests) == 4
    assert len({span["context"]["trace_id"] for span in ran.spans}) == 1
