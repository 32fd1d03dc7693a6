"""Agents of LlamaIndex, for which there is no package of ours: OpenInference's instrumentor, and our boundary.

The programs know nothing of ours, and run in an environment of their own. They switch the instrumentor on themselves:
`opentelemetry-instrument` does so only where `llama-index-multi-modal-llms-openai` is installed, which few need.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.foreign_frameworks.environments import crewai_and_llama_index
from tests.foreign_frameworks.weather import APART, TOOLS, is_embedded, is_the_conversation, streamed, under_policy
from tests.own_environment import launch

from spanrelay_testkit.model_server import ModelServer

pytestmark = APART

AGENT = f"""{TOOLS}
import asyncio
import os
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.llms.openai import OpenAI

LlamaIndexInstrumentor().instrument()
model = OpenAI(model="gpt-4o-mini", temperature=0.5, api_base=os.environ["OPENAI_BASE_URL"], max_retries=0)
told = dict(name="weather", description="Knows.", llm=model)
agent = FunctionAgent(tools=[get_weather, get_time], streaming=False, **told)
"""
WHOLE = f"""{AGENT}
async def main():
    await agent.run("How is Oslo?")

asyncio.run(main())
"""
STREAMED = f"""{AGENT}
async def main():
    run = FunctionAgent(tools=[get_weather, get_time], streaming=True, **told).run("How is Oslo?")
    async for event in run.stream_events():
        pass
    await run

asyncio.run(main())
"""
BELOW = f'''{AGENT}
async def get_advice(city: str) -> str:
    """The advice of one who knows the weather."""
    return str(await agent.run("How is Oslo?"))

async def main():
    boss = FunctionAgent(name="boss", description="Asks.", llm=model, tools=[get_advice], streaming=False)
    await boss.run("Should I go?")

asyncio.run(main())
'''


@pytest.fixture(scope="module")
def programs() -> Path:
    return crewai_and_llama_index()


@pytest.mark.proves("llama-index", "one trace", "sub-agents")
def test_an_agent_that_a_tool_runs_is_below_it_and_embedded(
    programs: Path, tmp_path: Path, server: ModelServer
) -> None:
    ran = launch(programs, BELOW, tmp_path, server)
    [[boss, _]] = ran.tree()
    assert boss == "CHAIN FunctionAgent.run"
    assert sum(span["name"] == "OpenAI.achat" for span in ran.spans) == 4  # filled, and none beneath
    is_embedded(ran, server)


@pytest.mark.proves("llama-index", "streaming")
def test_a_streamed_run_is_one_trace_and_tells_the_same(programs: Path, tmp_path: Path, server: ModelServer) -> None:
    is_the_conversation(streamed(programs, STREAMED, tmp_path, server))


@pytest.mark.proves("llama-index", "policy")
def test_a_file_rewrites_a_parameter_takes_a_tool_away_and_refuses_a_model_call(
    programs: Path, tmp_path: Path, server: ModelServer
) -> None:
    under_policy(programs, WHOLE, tmp_path, server)
