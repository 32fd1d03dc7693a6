"""LiteLLM over the OpenAI SDK, with OpenInference's instrumentors: alone, and beneath a framework."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.foreign_frameworks.environments import litellm_and_above
from tests.foreign_frameworks.weather import APART, ids
from tests.own_environment import Traced, launch

from spanrelay_testkit.exchange import Answer, Request, error, reply, tool_call
from spanrelay_testkit.model_server import ModelServer

pytestmark = APART

ALONE = """
import asyncio
import litellm

asked = {"model": "openai/m", "messages": [{"role": "user", "content": "hello"}]}
litellm.completion(**asked)
list(litellm.completion(**asked, stream=True))

async def main():
    await litellm.acompletion(**asked)
    async for chunk in await litellm.acompletion(**asked, stream=True):
        pass

asyncio.run(main())
"""
FAILING = """
import litellm

try:
    litellm.completion(model="openai/m", messages=[{"role": "user", "content": "hello"}], num_retries=0)
except litellm.BadRequestError:
    pass
"""
BENEATH = '''
from smolagents import LiteLLMModel, ToolCallingAgent, tool

@tool
def get_weather(city: str) -> str:
    """The weather of a city.

    Args:
        city: The city.
    """
    return f"rain in {city}"

model = LiteLLMModel(model_id="openai/m")
ToolCallingAgent([get_weather], model, name="weather", description="Knows.", verbosity_level=0).run("How is Oslo?")
'''


def answers(request: Request) -> Answer:
    if not request.body.get("tools"):
        return reply("Hello.")
    if any(each["role"] == "assistant" for each in request.body["messages"]):
        return reply(tool_calls=[tool_call("final_answer", answer="Rain.", id="f")])
    return reply(tool_calls=[tool_call("get_weather", city="Oslo", id="w")])


@pytest.fixture(scope="module")
def programs() -> Path:
    return litellm_and_above()


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(answers) as server:
        yield server


def run(programs: Path, program: str, folder: Path, server: ModelServer, setting: str) -> Traced:
    settings = {"SPANRELAY_FOREIGN_SPANS": setting, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    return launch(programs, program, folder, server, **settings)


@pytest.mark.parametrize("setting", ["stand_down", "keep"])
def test_each_call_is_one_span_in_every_form(programs: Path, tmp_path: Path, server: ModelServer, setting: str) -> None:
    ran = run(programs, ALONE, tmp_path, server, setting)
    assert ids(ran) == ["chatcmpl-1", "chatcmpl-2", "chatcmpl-3", "chatcmpl-4"]
    assert [[step["message"] for step in each["steps"]] for each in ran.trajectories] == [["hello", "Hello."]] * 4


@pytest.mark.parametrize("setting", ["stand_down", "keep"])
def test_a_call_that_fails_is_one_span(programs: Path, tmp_path: Path, setting: str) -> None:
    with ModelServer(lambda request: error(400)) as server:
        ran = run(programs, FAILING, tmp_path, server, setting)
    assert [call["error.type"] for call in ran.of("LLM")] == ["openai.BadRequestError"]


@pytest.mark.parametrize("setting", ["stand_down", "keep"])
def test_a_framework_over_a_router_over_an_sdk_has_one_span_for_each_model_call(
    programs: Path, tmp_path: Path, server: ModelServer, setting: str
) -> None:
    ran = run(programs, BENEATH, tmp_path, server, setting)
    assert ids(ran) == ["chatcmpl-1", "chatcmpl-2"]
    assert [span["name"] for span in ran.spans if span["name"].startswith("LiteLLM")] == ["LiteLLMModel.generate"] * 2
    assert len({span["context"]["trace_id"] for span in ran.spans}) == 1
    [document] = ran.trajectories
    assert sum(step.get("llm_call_count", 0) for step in document["steps"]) == 2
