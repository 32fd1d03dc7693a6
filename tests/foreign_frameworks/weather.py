"""What agents of every framework here are asked: the weather, of one with two tools, alone and below another agent."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

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

_WORDS = {
    "city": "Oslo",
    "context": "None.",
    "coworker": "weather",
    "member_id": "weather",
    "request": "How is Oslo?",
    "task": "How is Oslo?",
}
"""What the model gives to parameters of tools, by their names."""
_UNUSED = {"ask_question_to_coworker"}
"""A tool that the model leaves alone, since another one does the same."""


def answers(request: Request) -> Answer:
    """Calls each tool that it is offered, and then answers with what it was told."""
    if _is_told(request):
        return reply("Rain at noon.")
    tools = {name: given for name, given in sorted(offered(request).items(), reverse=True) if name not in _UNUSED}
    asked = [
        tool_call(name, **{each: _WORDS[each] for each in given}, id=None if "contents" in request.body else name)
        for name, given in tools.items()
    ]
    return reply(tool_calls=asked) if asked else reply("Hello.")


_SCHEMA = "parameters_json_schema"


def offered(request: Request) -> dict[str, list[str]]:
    """Return the tools that a request offers, by OpenAI's chat API or Gemini's, and what each must be given."""
    told = request.body.get("tools", [])
    if "contents" in request.body:
        declared = [each for tool in told for each in tool["functionDeclarations"]]
        return {each["name"]: each[_SCHEMA if _SCHEMA in each else "parameters"]["required"] for each in declared}
    return {tool["function"]["name"]: tool["function"]["parameters"]["required"] for tool in told}


def _is_told(request: Request) -> bool:
    """Whether a request ends with what tools gave."""
    if "contents" in request.body:
        return any("functionResponse" in part for part in request.body["contents"][-1]["parts"])
    return request.body["messages"][-1]["role"] == "tool"


def temperature(request: Request) -> float:
    """Return the temperature that a request asks for."""
    return (request.body.get("generationConfig") or request.body)["temperature"]


def is_the_conversation(ran: Traced) -> None:
    """Hold a run to be one trace with a span for each of the two model calls, and to tell the conversation."""
    assert len({span["context"]["trace_id"] for span in ran.spans}) == 1
    assert ids(ran) == ["chatcmpl-1", "chatcmpl-2"]
    assert ran.story == CONVERSATION
    assert ran.trajectories[0]["agent"]["name"] == "weather"


def ids(ran: Traced) -> list[str | None]:
    """The provider's id of each model call that was exported, in order."""
    return [call.get("gen_ai.response.id") for call in calls(ran)]


def calls(ran: Traced) -> list[dict[str, Any]]:
    """The attributes of each model call that was exported; what LlamaIndex puts a request together with is none."""
    prepared = sum(span["name"].endswith("._prepare_chat_with_tools") for span in ran.spans)
    found = ran.of("LLM")
    asked = [each for each in found if "gen_ai.operation.name" in each]
    assert len(found) - len(asked) == prepared
    return asked


def streamed(programs: Path, program: str, folder: Path, server: ModelServer, **settings: str) -> Traced:
    """Run a program that has both answers streamed, and hold it to have asked for that."""
    ran = launch(programs, program, folder, server, **settings)
    assert [request.streamed for request in server.requests] == [True, True]
    return ran


def under_policy(
    programs: Path, program: str, folder: Path, server: ModelServer, *, fails: bool = True, **settings: str
) -> Traced:
    """Run a program under a policy, and hold it to be offered one tool alone, in one call that is cooler.

    Args:
        programs: Where those of the environment are.
        program: As Python.
        folder: Where it runs.
        server: What it asks.
        fails: Whether the refusal of a second model call ends the program.
        settings: Environment variables beside.
    """
    ran = judged(programs, program, folder, server, fails=fails, **settings)
    [request] = server.requests
    names = offered(request)
    assert "get_weather" in names
    assert "get_time" not in names
    return ran


def judged(programs: Path, program: str, folder: Path, server: ModelServer, *, fails: bool, **settings: str) -> Traced:
    """Run a program under a policy, and hold it to make one call that is cooler, and to be refused another."""
    policy = "[plugins.policy]\ntools.deny = ['get_time']\ntools.offered = 'remove'\nsession.max_calls = 1\n"
    (folder / "spanrelay.toml").write_text(f"{policy}{COOL}")
    ran = launch(programs, program, folder, server, fails=fails, **settings)
    [request] = server.requests
    assert temperature(request) == 0.25
    sent, *refused = calls(ran)
    assert sent["gen_ai.request.temperature"] == 0.25
    assert {each["error.type"] for each in refused} == {"spanrelay.errors.GuardrailRejected"}
    assert ran.story[-1].endswith("failed")
    return ran


def is_embedded(ran: Traced, server: ModelServer) -> None:
    """Hold a run to be one document of `boss`, with that of `weather` in it and a span for each of four model calls."""
    assert ran.story
    [document] = ran.trajectories
    [below] = document["subagent_trajectories"]
    assert (document["agent"]["name"], below["agent"]["name"]) == ("boss", "weather")
    assert len(calls(ran)) == len(server.requests) == 4
    assert len({span["context"]["trace_id"] for span in ran.spans}) == 1
