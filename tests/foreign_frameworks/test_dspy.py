"""Programs of DSPy, for which there is no package of ours: OpenInference's instrumentors, and our provider boundary.

The programs know nothing of either, and run in an environment of their own. Their models ask for tools in words.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.foreign_frameworks.environments import litellm_and_above
from tests.foreign_frameworks.weather import APART, TOOLS, ids, judged
from tests.own_environment import Traced, launch

from spanrelay_testkit.exchange import Answer, Request, reply
from spanrelay_testkit.model_server import ModelServer

pytestmark = APART

LOCAL = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
AGENT = f"""{TOOLS}
import asyncio
import dspy

dspy.configure(lm=dspy.LM("openai/m", temperature=0.5, cache=False))
agent = dspy.ReAct("question -> answer", tools=[get_weather, get_time])
"""
WHOLE = f"""{AGENT}
agent(question="How is Oslo?")
"""
STREAMED = f"""{AGENT}
async def main():
    async for each in dspy.streamify(agent)(question="How is Oslo?"):
        pass

asyncio.run(main())
"""


def answers(request: Request) -> Answer:
    """Asks for both tools, one after the other, and then answers with what it was told."""
    asked = request.last_user_text
    if "`[[ ## next_tool_name ## ]]`" not in asked:
        return said(reasoning="So I was told.", answer="Rain at noon.")
    if "[[ ## observation_1 ## ]]" in asked:
        return said(next_thought="I know.", next_tool_name="finish", next_tool_args="{}")
    name = "get_time" if "[[ ## observation_0 ## ]]" in asked else "get_weather"
    return said(next_thought="I look.", next_tool_name=name, next_tool_args='{"city": "Oslo"}')


def said(**fields: str) -> Answer:
    return reply("".join(f"[[ ## {name} ## ]]\n{value}\n\n" for name, value in fields.items()))


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(answers) as server:
        yield server


@pytest.fixture(scope="module")
def programs() -> Path:
    return litellm_and_above()


def is_the_run(ran: Traced) -> None:
    """Hold a run to be one trace, with a span and a step for each model call and each tool, in order, and no other."""
    assert ids(ran) == [f"chatcmpl-{number}" for number in range(1, 5)]
    assert len({span["context"]["trace_id"] for span in ran.spans}) == 1
    assert next(span["name"] for span in ran.spans if not span["parent_id"]).endswith("ReAct.forward")
    told = [line for line in ran.story if line.startswith("agent ")]
    asked, ended = "agent [[ ## next_thought ## ]]\nI look.", "agent [[ ## next_thought ## ]]\nI know."
    expected = [
        asked,
        "agent [('get_weather', {'city': 'Oslo'})] [('rain in Oslo', False, False)]",
        asked,
        "agent [('get_time', {'city': 'Oslo'})] [('noon in Oslo', False, False)]",
        ended,
        "agent [('finish', {})] [('Completed.', False, False)]",
        "agent [[ ## reasoning ## ]]",
    ]
    assert [line.startswith(begun) for line, begun in zip(told, expected, strict=True)] == [True] * 7
    assert "subagent_trajectories" not in ran.trajectories[0]


@pytest.mark.proves("dspy", "one trace")
def test_a_program_with_tools_is_one_trace_and_reads_like_its_conversation(
    programs: Path, tmp_path: Path, server: ModelServer
) -> None:
    is_the_run(launch(programs, WHOLE, tmp_path, server, **LOCAL))


@pytest.mark.proves("dspy", "streaming")
def test_a_streamed_run_is_one_trace_and_tells_the_same(programs: Path, tmp_path: Path, server: ModelServer) -> None:
    ran = launch(programs, STREAMED, tmp_path, server, **LOCAL)
    assert [request.streamed for request in server.requests] == [True] * 4
    is_the_run(ran)


@pytest.mark.proves("dspy", "policy")
def test_a_file_rewrites_a_parameter_and_refuses_a_model_call(
    programs: Path, tmp_path: Path, server: ModelServer
) -> None:
    judged(programs, WHOLE, tmp_path, server, fails=True, **LOCAL)
