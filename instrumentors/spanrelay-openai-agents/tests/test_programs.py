"""Unmodified programs under `opentelemetry-instrument`: their trajectories, and policy out of a `spanrelay.toml`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from tests.agent_programs import WEATHER, AgentPrograms, told

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


INTERRUPTED = """
session = SQLiteSession("chat-1")
careful = weatherman.clone(tools=[function_tool(lambda city: f"sunny in {city}", name_override="get_weather",
                                                needs_approval=True, strict_mode=False)])
state = Runner.run_sync(careful, "Rome?", session=session).to_state()
state.approve(state.get_interruptions()[0])
print(Runner.run_sync(careful, state, session=session).final_output)
"""


@pytest.mark.proves("openai-agents", "sub-agents", "policy")
class TestPrograms(AgentPrograms):
    opening = OPENING
    ask = ASK
    model = weather_model
    delegation = "('ask_weatherman', {'input': 'Rome?'})"
    readme = Path(__file__).parents[1] / "README.md"
    quiet: ClassVar = {"OPENAI_AGENTS_DISABLE_TRACING": "1"}

    def test_a_handoff_goes_on_in_the_same_document(self, tmp_path: Path, server: ModelServer) -> None:
        ran = self.run(ASK["streamed"].format(agent="triage"), tmp_path, server)
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

    @pytest.mark.proves("openai-agents", "sessions")
    def test_turns_of_a_session_are_one_document(self, tmp_path: Path, server: ModelServer) -> None:
        program = """
session = SQLiteSession("chat-1")
for question in ("Rome?", "And again?"):
    Runner.run_sync(weatherman, question, session=session)
"""
        [document] = told(self.run(program, tmp_path, server))
        assert document == [*WEATHER, "user And again?", "agent I was told: sunny in Rome"]

    def test_a_resumed_run_goes_on_in_the_same_document(self, tmp_path: Path, server: ModelServer) -> None:
        [document] = told(self.run(INTERRUPTED, tmp_path, server))
        assert document == WEATHER
