"""Unmodified programs under `opentelemetry-instrument`: their trajectories, and policy out of a `spanrelay.toml`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.agent_programs import WEATHER, AgentPrograms, told, without_numbers
from tests.programs import run as run_program
from tests.trajectory.spans import story

from spanrelay.assembly.atif import violations
from spanrelay_testkit.exchange import Request, reply, tool_call
from spanrelay_testkit.model_server import ModelServer

from .ways import weather_model

OPENING = """
import asyncio
from pydantic_ai import Agent, ApprovalRequired, DeferredToolRequests, DeferredToolResults, RunContext, Tool

def get_weather(city: str) -> str:
    "The weather of a city."
    print(f"asked about {city}")
    return f"sunny in {city}"

weatherman = Agent("openai-chat:gpt-5", name="weatherman", instructions="Tell the weather.", tools=[get_weather])
boss = Agent("openai-chat:gpt-5", name="boss", instructions="Delegate.")

@boss.tool
async def ask_weatherman(ctx: RunContext, question: str) -> str:
    return (await weatherman.run(question, usage=ctx.usage)).output

async def read(agent, given):
    async with agent.run_stream(given) as result:
        return await result.get_output()

async def events(agent, given):
    async with agent.run_stream_events(given) as stream:
        async for event in stream:
            last = event
    return last.result.output
"""
ASK = {
    "sync": "print({agent}.run_sync('Rome?').output)",
    "async": "print(asyncio.run({agent}.run('Rome?')).output)",
    "streamed": "print(asyncio.run(read({agent}, 'Rome?')))",
    "events": "print(asyncio.run(events({agent}, 'Rome?')))",
}


INTERRUPTED = """
def asking(ctx: RunContext, city: str) -> str:
    if not ctx.tool_call_approved:
        raise ApprovalRequired
    return get_weather(city)

careful = Agent("openai-chat:gpt-5", name="weatherman", instructions="Tell the weather.",
                tools=[{tool}], output_type=[str, DeferredToolRequests])
waiting = careful.run_sync("Rome?")
[call] = waiting.output.approvals
results = DeferredToolResults(approvals={{call.tool_call_id: True}})
print(careful.run_sync(message_history=waiting.all_messages(), deferred_tool_results=results).output)
"""

LOCAL = """
from pydantic_ai.models.test import TestModel
print(weatherman.run_sync("Rome?", model=TestModel(custom_output_text="Done.")).output)
"""

ANSWERED = """
import asyncio
import openai
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
import spanrelay

spanrelay.activate()
agent = Agent(OpenAIChatModel("gpt-5", provider=OpenAIProvider(openai_client=openai.AsyncOpenAI())))

@agent.tool_plain(retries=3)
def get_weather(city: str) -> str:
    raise AssertionError("the tool has run")

print(agent.run_sync("How is the weather?").output)
"""


@pytest.mark.proves("pydantic-ai", "sub-agents", "policy")
class TestPrograms(AgentPrograms):
    opening = OPENING
    ask = ASK
    model = weather_model
    delegation = "('ask_weatherman', {'question': 'Rome?'})"
    readme = Path(__file__).parents[1] / "README.md"

    @pytest.mark.proves("pydantic-ai", "sessions")
    def test_turns_of_a_conversation_are_one_document(self, tmp_path: Path, server: ModelServer) -> None:
        program = """
first = weatherman.run_sync("Rome?")
weatherman.run_sync("And again?", message_history=first.all_messages())
"""
        [document] = told(self.run(program, tmp_path, server))
        assert document == [
            *WEATHER,
            "user And again?",
            *WEATHER[2:],
        ]

    @pytest.mark.parametrize("tool", ["Tool(get_weather, requires_approval=True)", "Tool(asking, name='get_weather')"])
    def test_a_resumed_run_goes_on_in_the_same_document(self, tmp_path: Path, server: ModelServer, tool: str) -> None:
        [document] = told(self.run(INTERRUPTED.format(tool=tool), tmp_path, server))
        assert document == WEATHER

    @pytest.mark.parametrize("foreign", ["stand_down", "keep"])
    def test_the_frameworks_own_spans_change_nothing_in_a_trajectory(
        self, tmp_path: Path, server: ModelServer, foreign: str
    ) -> None:
        program = OPENING + "Agent.instrument_all()\n" + ASK["async"].format(agent="boss")
        ran = run_program(program, tmp_path, server, SPANRELAY_FOREIGN_SPANS=foreign)
        [document] = ran.trajectories
        assert violations(document) == []
        assert [step["source"] for step in document["steps"]] == ["system", "user", "agent", "agent"]
        [inner] = document["subagent_trajectories"]
        assert without_numbers(story(inner)) == WEATHER
        assert ("'pydantic-ai' and SpanRelay both record calls" in ran.err) is (foreign == "stand_down")

    def test_a_model_that_sends_nothing_has_a_trajectory_too(self, tmp_path: Path, server: ModelServer) -> None:
        [document] = told(self.run(LOCAL, tmp_path, server))
        assert document == [
            *WEATHER[:2],
            "agent [('get_weather', {'city': 'a'})] [('sunny in a', False, False)]",
            "agent Done.",
        ]
        assert server.requests == []

    @pytest.mark.parametrize(
        ("name", "arguments"), [("delete_all", {}), ("get_weather", {"town": "Rome"}), ("get_weather", "no JSON")]
    )
    def test_what_the_framework_answers_in_place_of_a_refused_tool_is_no_result_of_it(
        self, tmp_path: Path, name: str, arguments: Any
    ) -> None:
        (tmp_path / "spanrelay.toml").write_text('[plugins.policy]\ntools.deny = ["get_*", "delete_*"]\n')

        def answer(request: Request) -> Any:
            told = any(message["role"] == "tool" for message in request.body["messages"])
            return reply("I see.") if told else reply(tool_calls=[tool_call(name, arguments, id="call_1")])

        with ModelServer(answer) as odd:
            ran = run_program(ANSWERED, tmp_path, odd)
        assert (ran.code, ran.out.strip()) == (0, "I see."), ran.err
