"""The same programs with OpenInference's instrumentors beside ours, in an environment of their own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.own_environment import Traced, programs_of
from tests.programs import Run, environment

from spanrelay_testkit.exchange import Answer, Request, error, reply, tool_call
from spanrelay_testkit.model_server import ModelServer

OURS = ("openai", "langchain", "langgraph")
THEIRS = ("openinference-instrumentation-openai", "openinference-instrumentation-langchain")

pytestmark = pytest.mark.skipif(
    os.environ.get("SPANRELAY_TEST_FOREIGN") != "1",
    reason="set SPANRELAY_TEST_FOREIGN=1 to install OpenInference's instrumentors apart, and test beside them",
)

BEGINNING = """
import sys
import spanrelay

def ours():
    from spanrelay_langchain import LangChainInstrumentor
    from spanrelay_langgraph import LangGraphInstrumentor
    from spanrelay_openai import OpenAIInstrumentor
    OpenAIInstrumentor().instrument()
    if "framework" in sys.argv:
        LangChainInstrumentor().instrument()
        LangGraphInstrumentor().instrument()

def theirs():
    from openinference.instrumentation.langchain import LangChainInstrumentor
    from openinference.instrumentation.openai import OpenAIInstrumentor
    OpenAIInstrumentor().instrument()
    LangChainInstrumentor().instrument()

if sys.argv[1] != "launched":
    spanrelay.activate(instrument=False)
    for instrument in (ours, theirs) if sys.argv[1] == "ours first" else (theirs, ours):
        instrument()

@spanrelay.guardrail(kinds=["llm"])
def count(call):
    print("judged", file=sys.stderr)

spanrelay.use(count)
"""
SDK = """
import asyncio
import openai
asked = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
client = openai.OpenAI()
for given in ({}, {"stream": True}):
    answer = client.chat.completions.create(**asked, **given)
    list(answer) if given else None

async def main():
    async with openai.AsyncOpenAI() as client:
        await client.chat.completions.create(**asked)
        async for chunk in await client.chat.completions.create(**asked, stream=True):
            pass

asyncio.run(main())
"""
FAILING = """
import openai
try:
    openai.OpenAI(max_retries=0).chat.completions.create(model="m", messages=[{"role": "user", "content": "hello"}])
except openai.BadRequestError:
    pass
"""
AGENT = """
from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

@tool
def get_weather(city: str) -> str:
    "The weather of a city."
    return "rain"

agent = create_agent(ChatOpenAI(model="m"), [get_weather], name="weather")
agent.invoke({"messages": [("user", "hello")]})
"""
MODEL = """
import asyncio
from langchain_openai import ChatOpenAI
model = ChatOpenAI(model="m", stream_usage=True)
model.invoke("hello")
list(model.stream("hello"))

async def main():
    await model.ainvoke("hello")
    async for chunk in model.astream("hello"):
        pass

asyncio.run(main())
"""
ORDERS = ("launched", "ours first", "theirs first")


def answers(request: Request) -> Answer:
    if request.body.get("tools") and request.body["messages"][-1]["role"] != "tool":
        return reply(tool_calls=[tool_call("get_weather", city="Oslo", id="w")])
    return reply("Hello.")


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(answers) as server:
        yield server


@pytest.fixture(scope="module")
def programs() -> Path:
    """The programs of an environment with ours and theirs."""
    return programs_of("foreign", OURS, [*THEIRS, "langchain", "langgraph", "langchain-openai"])


def run(programs: Path, program: str, folder: Path, server: ModelServer, *arguments: str, **settings: str) -> Traced:
    (folder / "program.py").write_text(BEGINNING + program)
    launcher = [programs / "opentelemetry-instrument"] if arguments[0] == "launched" else []
    done = subprocess.run(
        [*launcher, programs / "python", "program.py", *arguments],
        cwd=folder,
        env=environment(server, {"OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "none", **settings}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "lost or left out" not in done.stderr
    return Traced(done.returncode, done.stdout, done.stderr, folder)


def ids(ran: Traced) -> list[str | None]:
    """The provider's id of each model call that was exported, in order."""
    return [call.get("gen_ai.response.id") for call in ran.of("LLM")]


def judged(ran: Run) -> list[str]:
    return [line for line in ran.err.splitlines() if line == "judged"]


def warned(ran: Run) -> list[str]:
    return sorted(line.split("'")[1] for line in ran.err.splitlines() if "SPANRELAY_FOREIGN_SPANS=keep" in line)


def story(ran: Run) -> list[list[tuple[str, str]]]:
    return [[(step["source"], step["message"]) for step in document["steps"]] for document in ran.trajectories]


@pytest.mark.parametrize("setting", ["stand_down", "keep"])
@pytest.mark.parametrize("order", ORDERS)
def test_each_call_of_the_sdk_is_one_step_and_judged_once(
    programs: Path, tmp_path: Path, server: ModelServer, order: str, setting: str
) -> None:
    ran = run(programs, SDK, tmp_path, server, order, SPANRELAY_FOREIGN_SPANS=setting)
    assert judged(ran) == ["judged"] * len(server.requests) == ["judged"] * 4
    assert story(ran) == [[("user", "hello"), ("agent", "Hello.")]] * 4
    assert ids(ran) == ["chatcmpl-1", "chatcmpl-2", "chatcmpl-3", "chatcmpl-4"]
    assert warned(ran) == (["openinference.instrumentation.openai"] if setting == "stand_down" else [])


@pytest.mark.parametrize("setting", ["stand_down", "keep"])
@pytest.mark.parametrize("order", ORDERS)
def test_each_call_of_an_agent_is_one_step_and_judged_once(
    programs: Path, tmp_path: Path, server: ModelServer, order: str, setting: str
) -> None:
    ran = run(programs, AGENT, tmp_path, server, order, "framework", SPANRELAY_FOREIGN_SPANS=setting)
    assert judged(ran) == ["judged"] * len(server.requests) == ["judged"] * 2
    assert story(ran) == [[("user", "hello"), ("agent", ""), ("agent", "Hello.")]]
    [document] = ran.trajectories
    assert len(document["steps"][1]["tool_calls"]) == 1
    assert ids(ran) == ["chatcmpl-1", "chatcmpl-2"]
    assert len({span["context"]["trace_id"] for span in ran.spans}) == 1


@pytest.mark.parametrize("order", ORDERS)
def test_a_span_that_is_kept_says_what_both_recorded(
    programs: Path, tmp_path: Path, server: ModelServer, order: str
) -> None:
    ran = run(programs, SDK, tmp_path, server, order, SPANRELAY_FOREIGN_SPANS="keep")
    assert [name for name, _ in ran.tree()] == ["LLM ChatCompletion"] * 4
    for call in ran.of("LLM"):
        assert call["llm.output_messages.0.message.content"] == "Hello."
        assert call["server.address"] == "127.0.0.1"
        assert call["gen_ai.response.finish_reasons"] == ["stop"]


@pytest.mark.parametrize("setting", ["stand_down", "keep"])
@pytest.mark.parametrize("order", ORDERS)
def test_each_call_of_a_model_object_is_one_span_in_every_form(
    programs: Path, tmp_path: Path, server: ModelServer, order: str, setting: str
) -> None:
    ran = run(programs, MODEL, tmp_path, server, order, "framework", SPANRELAY_FOREIGN_SPANS=setting)
    assert judged(ran) == ["judged"] * len(server.requests) == ["judged"] * 4
    assert ids(ran) == ["chatcmpl-1", "chatcmpl-2", "chatcmpl-3", "chatcmpl-4"]
    assert story(ran) == [[("user", "hello"), ("agent", "Hello.")]] * 4


@pytest.mark.parametrize("setting", ["stand_down", "keep"])
def test_a_call_that_fails_is_one_span(programs: Path, tmp_path: Path, setting: str) -> None:
    with ModelServer(lambda request: error(400)) as server:
        ran = run(programs, FAILING, tmp_path, server, "launched", SPANRELAY_FOREIGN_SPANS=setting)
    [call] = ran.of("LLM")
    assert call["error.type"] == "openai.BadRequestError"
    assert [span["status"]["status_code"] for span in ran.spans if not span["parent_id"]] == ["ERROR"]
    assert story(ran) == [[("user", "hello"), ("agent", "")]]


@pytest.mark.parametrize("order", ORDERS[1:])
def test_a_framework_that_only_they_record_keeps_its_spans_over_our_policy(
    programs: Path, tmp_path: Path, server: ModelServer, order: str
) -> None:
    ran = run(programs, AGENT, tmp_path, server, order)
    assert judged(ran) == ["judged"] * len(server.requests) == ["judged"] * 2
    assert story(ran) == [[("user", "hello"), ("agent", ""), ("agent", "Hello.")]]
    assert warned(ran) == ["openinference.instrumentation.openai"]
