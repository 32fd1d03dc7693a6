"""Unmodified programs under `opentelemetry-instrument`: their trajectories, and policy out of a `spanrelay.toml`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.programs import Run
from tests.programs import run as run_program
from tests.trajectory.program import accept
from tests.trajectory.spans import story

from spanrelay.assembly.atif import violations
from spanrelay_testkit.model_server import ModelServer

from .ways import weather_model

OPENING = """
import asyncio, sys
import agents
from agents import Agent, Runner, SQLiteSession, function_tool

agents.set_trace_processors([])  # nothing of a test is sent to OpenAI's tracing backend

@function_tool
def get_weather(city: str) -> str:
    "The weather of a city."
    print(f"asked about {city}")
    return f"sunny in {city}"

weatherman = Agent("weatherman", instructions="Tell the weather.", model="gpt-5", tools=[get_weather])
triage = Agent("triage", instructions="Hand over.", model="gpt-5", handoffs=[weatherman])
boss = Agent("boss", instructions="Delegate.", model="gpt-5", tools=[weatherman.as_tool("ask_weatherman", "Asks.")])

async def stream(agent, given):
    result = Runner.run_streamed(agent, given)
    async for _ in result.stream_events():
        pass
    return result
"""
ASK = {
    "sync": "print(Runner.run_sync({agent}, 'Rome?').final_output)",
    "async": "print(asyncio.run(Runner.run({agent}, 'Rome?')).final_output)",
    "streamed": "print(asyncio.run(stream({agent}, 'Rome?')).final_output)",
}


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(weather_model) as running:
        yield running


def run(program: str, folder: Path, server: ModelServer) -> Run:
    return run_program(OPENING + program, folder, server)


def told(ran: Run) -> list[list[str]]:
    """The stories of the documents of a program that said nothing but where they are."""
    assert [line for line in ran.err.splitlines() if not line.startswith("spanrelay: trajectories")] == []
    for document in ran.trajectories:
        assert violations(document) == []
        accept(document)
    return [without_numbers(story(document)) for document in ran.trajectories]


def without_numbers(lines: list[str]) -> list[str]:
    return [line.partition(" {'prompt_tokens'")[0] for line in lines]


WEATHER = [
    "system Tell the weather.",
    "user Rome?",
    "agent [('get_weather', {'city': 'Rome'})] [('sunny in Rome', False, False)]",
    "agent I was told: sunny in Rome",
]


@pytest.mark.parametrize("way", ASK)
def test_a_run_reads_like_the_conversation(tmp_path: Path, server: ModelServer, way: str) -> None:
    ran = run(ASK[way].format(agent="weatherman"), tmp_path, server)
    assert ran.out.splitlines() == ["asked about Rome", "I was told: sunny in Rome"]
    assert told(ran) == [WEATHER]
    assert ran.trajectories[0]["agent"]["name"] == "weatherman"


def test_a_handoff_goes_on_in_the_same_document(tmp_path: Path, server: ModelServer) -> None:
    ran = run(ASK["streamed"].format(agent="triage"), tmp_path, server)
    assert told(ran) == [
        [
            "system Hand over.",
            "user Rome?",
            """agent [('transfer_to_weatherman', {})] [('{"assistant": "weatherman"}', False, False)]""",
            "system Tell the weather.",
            *WEATHER[2:],
        ]
    ]
    [document] = ran.trajectories
    assert document["agent"]["name"] == "triage"
    assert [step.get("extra", {}).get("agent_name") for step in document["steps"][-2:]] == ["weatherman"] * 2


@pytest.mark.proves("openai-agents", "sub-agents")
def test_an_agent_as_a_tool_is_embedded(tmp_path: Path, server: ModelServer) -> None:
    ran = run(ASK["streamed"].format(agent="boss"), tmp_path, server)
    assert told(ran) == [
        [
            "system Delegate.",
            "user Rome?",
            "agent [('ask_weatherman', {'input': 'Rome?'})] [('I was told: sunny in Rome', False, True)]",
            "agent I was told: I was told: sunny in Rome",
        ]
    ]
    [inner] = ran.trajectories[0]["subagent_trajectories"]
    assert inner["agent"]["name"] == "weatherman"
    assert without_numbers(story(inner)) == WEATHER


@pytest.mark.proves("openai-agents", "sessions")
def test_turns_of_a_session_are_one_document(tmp_path: Path, server: ModelServer) -> None:
    program = """
session = SQLiteSession("chat-1")
for question in ("Rome?", "And again?"):
    Runner.run_sync(weatherman, question, session=session)
"""
    [document] = told(run(program, tmp_path, server))
    assert document == [*WEATHER, "user And again?", "agent I was told: sunny in Rome"]


INTERRUPTED = """
session = SQLiteSession("chat-1")
careful = weatherman.clone(tools=[function_tool(lambda city: f"sunny in {city}", name_override="get_weather",
                                                needs_approval=True, strict_mode=False)])
state = Runner.run_sync(careful, "Rome?", session=session).to_state()
state.approve(state.get_interruptions()[0])
print(Runner.run_sync(careful, state, session=session).final_output)
"""


def test_a_resumed_run_goes_on_in_the_same_document(tmp_path: Path, server: ModelServer) -> None:
    [document] = told(run(INTERRUPTED, tmp_path, server))
    assert document == WEATHER


POLICY = """
[plugins.policy]
tools.deny = ["get_*"]
[plugins.policy.parameters."*"]
temperature = 0.25
"""


@pytest.mark.proves("openai-agents", "policy")
@pytest.mark.parametrize("way", ASK)
def test_a_file_refuses_a_tool_and_rewrites_a_parameter(tmp_path: Path, server: ModelServer, way: str) -> None:
    (tmp_path / "spanrelay.toml").write_text(POLICY)
    ran = run_program(OPENING + ASK[way].format(agent="weatherman"), tmp_path, server)
    assert ran.out == "", "the tool has not run"
    assert "GuardrailRejected: guardrail 'policy.tools' refused the call: tool 'get_weather' is denied" in ran.err
    assert "is denied by 'get_*'" in str(ran.trajectories)
    assert [request.body["temperature"] for request in server.requests] == [0.25]


def test_the_program_in_the_readme_runs(tmp_path: Path, server: ModelServer) -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text()
    [program] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    ran = run_program(program, tmp_path, server, launched=False, OPENAI_AGENTS_DISABLE_TRACING="1")
    assert (ran.code, ran.err) == (0, "")
