"""Agents of smolagents, for which there is no package of ours: OpenInference's instrumentor, and our provider boundary.

The programs know nothing of either, and run in an environment of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.foreign_frameworks.weather import APART, TOOLS, ids, is_embedded, under_policy
from tests.own_environment import Traced, launch, programs_of

from spanrelay_testkit.exchange import Answer, Request, error, reply, tool_call
from spanrelay_testkit.model_server import ModelServer

pytestmark = APART

BOTH = f"""{TOOLS}
import sys
from smolagents import CodeAgent, OpenAIModel, ToolCallingAgent, tool

get_weather, get_time = tool(get_weather), tool(get_time)
model = OpenAIModel(model_id="m", temperature=0.5)
"""
AGENT = f"""{BOTH}
agent = ToolCallingAgent([get_weather, get_time], model, name="weather", description="Knows.", verbosity_level=0)
print(agent.run("How is Oslo?"), file=sys.stderr)
"""
STREAMED = f"""{BOTH}
agent = ToolCallingAgent(
    [get_weather, get_time], model, name="weather", description="Knows.", verbosity_level=0, stream_outputs=True
)
for step in agent.run("How is Oslo?", stream=True):
    pass
print(step.output, file=sys.stderr)
"""
TEAM = f"""{BOTH}
below = ToolCallingAgent([get_weather, get_time], model, name="weather", description="Knows.", verbosity_level=0)
agent = ToolCallingAgent([], model, managed_agents=[below], name="boss", description="Asks.", verbosity_level=0)
print(agent.run("Should I go?"), file=sys.stderr)
"""
CODE = f"""{BOTH}
agent = CodeAgent([get_weather], model, name="coder", description="Codes.", verbosity_level=0)
print(agent.run("How is Oslo?"), file=sys.stderr)
"""


def asks_for_two_tools(request: Request) -> Answer:
    """Calls both tools that it is offered, or the agent below, and then answers with what it was told."""
    offered = {each["function"]["name"] for each in request.body["tools"]}
    if any(each["role"] == "assistant" for each in request.body["messages"]):
        return reply(tool_calls=[tool_call("final_answer", answer="Rain at noon.", id="f")])
    if "weather" in offered:
        return reply(tool_calls=[tool_call("weather", task="How is Oslo?", id="b")])
    wanted = [name for name in ("get_weather", "get_time") if name in offered]
    return reply(tool_calls=[tool_call(name, city="Oslo", id=name) for name in wanted])


def writes_code(request: Request) -> Answer:
    if any(each["role"] == "assistant" for each in request.body["messages"]):
        return reply('<code>\nfinal_answer("Rain.")\n</code>')
    return reply('<code>\nprint(get_weather("Oslo"))\n</code>')


@pytest.fixture(scope="module")
def programs() -> Path:
    return programs_of("smolagents", ["openai"], ["smolagents[openai]", "openinference-instrumentation-smolagents"])


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(asks_for_two_tools) as server:
        yield server


def told(ran: Traced) -> list[str]:
    """The story of the one document, the system prompt aside."""
    return [line for line in ran.story if not line.startswith("system You are")]


@pytest.mark.proves("smolagents", "one trace")
def test_an_agent_with_tools_is_one_trace_with_one_span_for_each_model_call(
    programs: Path, tmp_path: Path, server: ModelServer
) -> None:
    ran = launch(programs, AGENT, tmp_path, server)
    assert "Rain at noon." in ran.err
    first = ["LLM OpenAIModel.generate", []]
    tools = [["TOOL SimpleTool", []], ["TOOL SimpleTool", []]]
    last = [first, ["TOOL FinalAnswerTool", []]]
    assert ran.tree() == [["AGENT weather.run", [["CHAIN Step 1", [first, *tools]], ["CHAIN Step 2", last]]]]
    assert len({span["context"]["trace_id"] for span in ran.spans}) == 1
    assert ids(ran) == ["chatcmpl-1", "chatcmpl-2"]
    assert all(call["gen_ai.usage.input_tokens"] > 0 for call in ran.of("LLM"))


def test_a_run_reads_like_the_conversation(programs: Path, tmp_path: Path, server: ModelServer) -> None:
    ran = launch(programs, AGENT, tmp_path, server)
    lines = told(ran)
    asked = [("get_weather", {"city": "Oslo"}), ("get_time", {"city": "Oslo"})]
    assert lines[:2] == [
        "user New task:\nHow is Oslo?",
        f"agent {asked} [('rain in Oslo', False, False), ('noon in Oslo', False, False)]",
    ]
    assert lines[-1] == "agent [('final_answer', {'answer': 'Rain at noon.'})] [('Rain at noon.', False, False)]"
    assert ran.trajectories[0]["agent"]["name"] == "weather"
    assert ran.trajectories[0]["final_metrics"]["total_completion_tokens"] > 0


@pytest.mark.proves("smolagents", "streaming")
def test_a_streamed_run_is_the_same_trace_and_tells_the_same(
    programs: Path, tmp_path: Path, server: ModelServer
) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "streamed").mkdir()
    whole = launch(programs, AGENT, tmp_path / "whole", server)
    streamed = launch(programs, STREAMED, tmp_path / "streamed", server)
    assert all(request.body.get("stream") for request in server.requests[2:])
    assert str(streamed.tree()).replace("generate_stream", "generate") == str(whole.tree())
    assert all(call["gen_ai.response.time_to_first_chunk"] > 0 for call in streamed.of("LLM"))
    assert [line.replace("\nCalling", "Calling") for line in told(streamed)] == told(whole)


@pytest.mark.proves("smolagents", "policy")
def test_a_file_rewrites_a_parameter_takes_a_tool_away_and_refuses_a_model_call(
    programs: Path, tmp_path: Path, server: ModelServer
) -> None:
    ran = under_policy(programs, AGENT, tmp_path, server)
    assert "GuardrailRejected" in ran.err


@pytest.mark.proves("smolagents", "sub-agents")
def test_an_agent_below_another_is_its_child_and_embedded(programs: Path, tmp_path: Path, server: ModelServer) -> None:
    is_embedded(launch(programs, TEAM, tmp_path, server), server)


def test_tools_that_an_agent_calls_from_code_have_their_arguments(programs: Path, tmp_path: Path) -> None:
    with ModelServer(writes_code) as server:
        ran = launch(programs, CODE, tmp_path, server)
    assert "agent [('get_weather', {'city': 'Oslo'})] [('rain in Oslo', False, False)]" in told(ran)
    assert len(ran.of("LLM")) == 2


def test_a_model_call_that_fails_is_one_span_and_told_as_failed(programs: Path, tmp_path: Path) -> None:
    with ModelServer(lambda request: error(400)) as server:
        ran = launch(programs, AGENT, tmp_path, server, fails=True)
    [call] = ran.of("LLM")
    assert call["error.type"] == "openai.BadRequestError"
    assert told(ran)[-1].endswith("failed")
