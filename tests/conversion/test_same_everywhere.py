"""One conversation in five ways: the OpenAI SDK and LangChain under ours, a foreign instrumentor, Node and Java.

`spanrelay diff` calls the five trajectories equal.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conversion.captures import WEATHER
from tests.own_environment import programs_of
from tests.programs import environment
from tests.shared_data import SHARED, needs_shared
from tests.test_foreign_instrumentation import OURS, THEIRS

from spanrelay.cli import main
from spanrelay_testkit.exchange import Answer, Request, Usage, reply, tool_call
from spanrelay_testkit.model_server import ModelServer

pytestmark = [
    needs_shared,
    pytest.mark.skipif(
        os.environ.get("SPANRELAY_TEST_FOREIGN") != "1",
        reason="set SPANRELAY_TEST_FOREIGN=1 to install OpenInference's instrumentors apart, and test beside them",
    ),
]

LOOP = """
import json
import openai

client = openai.OpenAI()
messages = [{"role": "system", "content": "You are a weather bot. Be brief."}]
tools = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]

def turn(question):
    messages.append({"role": "user", "content": question})
    while True:
        answer = client.chat.completions.create(model="gpt-4.1", messages=messages, tools=tools).choices[0].message
        messages.append(answer.model_dump(exclude_none=True))
        if not answer.tool_calls:
            return
        for call in answer.tool_calls:
            city = json.loads(call.function.arguments)["city"]
            content = "sunny, 21 °C" if city == "Rome" else f"unknown city: {city}"
            messages.append({"role": "tool", "tool_call_id": call.id, "content": content})

QUESTIONS = ["What is the weather in Rome and in Atlantis?", "Thanks. Which of the two is sunny?"]
"""
OURS_AROUND = """
import spanrelay
spanrelay.activate()
for question in QUESTIONS:
    with spanrelay.scope("weather-agent", kind="agent", session="session-1"):
        turn(question)
"""
THEIRS_AROUND = """
from openinference.instrumentation import using_session
from openinference.instrumentation.openai import OpenAIInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

provider = TracerProvider(resource=Resource({"service.name": "weather-agent"}))
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=open("spans.json", "w"))))
OpenAIInstrumentor().instrument(tracer_provider=provider)
with using_session("session-1"):
    for question in QUESTIONS:
        turn(question)
"""
LANGCHAIN = """
import spanrelay
spanrelay.activate()
from langchain.agents import create_agent
from langchain_core.tools import ToolException, tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver

@tool
def get_weather(city: str) -> str:
    "The weather of a city."
    if city == "Rome":
        return "sunny, 21 °C"
    raise ToolException(f"unknown city: {city}")

get_weather.handle_tool_error = True
model = ChatOpenAI(model="gpt-4.1")
words = "You are a weather bot. Be brief."
agent = create_agent(model, [get_weather], system_prompt=words, name="weather-agent", checkpointer=InMemorySaver())
for question in ("What is the weather in Rome and in Atlantis?", "Thanks. Which of the two is sunny?"):
    agent.invoke({"messages": [("user", question)]}, {"configurable": {"thread_id": "session-1"}})
"""


def answers(request: Request) -> Answer:
    """The model of the captures."""
    messages = request.get("messages", [])
    asked = sum(message["role"] == "user" for message in messages)
    if asked == 2:
        said = WEATHER[5]
    elif messages[-1]["role"] == "tool":
        said = WEATHER[3]
    else:
        said = WEATHER[2]
    sent, told, cached = said["tokens"]
    calls = [tool_call(name, id=call_id, **given) for call_id, (name, given) in said.get("calls", {}).items()]
    usage = Usage(sent, told, cached=cached)
    return reply(said["message"] or None, tool_calls=calls, usage=usage, model="gpt-4.1-2025-04-14")


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer(answers) as server:
        yield server


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trajectory of a Node program: of Mastra."""
    return converted("mastra", tmp_path_factory.mktemp("node"))


def converted(capture: str, folder: Path) -> Path:
    """Convert a capture and return its document."""
    assert SHARED is not None
    assert main(["convert", str(SHARED / "spans-polyglot" / f"{capture}.jsonl"), "-o", str(folder)]) == 0
    (document,) = folder.glob("*.json")
    return document


def run(program: str, folder: Path, server: ModelServer) -> None:
    programs = programs_of("foreign", OURS, [*THEIRS, "langchain", "langgraph", "langchain-openai"])
    (folder / "program.py").write_text(program)
    done = subprocess.run(
        [programs / "python", "program.py"],
        cwd=folder,
        env=environment(server, {"SPANRELAY_QUIET": "true"}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def assert_equal(document: Path, other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    status = main(["diff", str(document), str(other)])
    assert status == 0, capsys.readouterr().out


@pytest.mark.parametrize("program", [LOOP + OURS_AROUND, LANGCHAIN], ids=["OpenAI", "LangChain"])
def test_a_program_under_ours_leaves_the_trajectory_of_the_one_in_node(
    program: str, server: ModelServer, node: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(program, tmp_path, server)
    (document,) = (tmp_path / ".spanrelay" / "trajectories").glob("*.json")
    assert json.loads(document.read_bytes())["session_id"] == "session-1"
    assert_equal(document, node, capsys)


def test_a_foreign_instrumentors_spans_become_the_trajectory_of_the_program_in_node(
    server: ModelServer, node: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(LOOP + THEIRS_AROUND, tmp_path, server)
    assert main(["convert", str(tmp_path / "spans.json"), "-o", str(tmp_path / "out")]) == 0
    (document,) = (tmp_path / "out").glob("*.json")
    assert_equal(document, node, capsys)


def test_a_program_in_java_leaves_the_trajectory_of_the_one_in_node(
    node: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_equal(converted("spring_ai_content_logs", tmp_path), node, capsys)
