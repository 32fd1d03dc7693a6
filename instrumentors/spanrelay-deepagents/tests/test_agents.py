"""Deep agents of the real package: their shape, names, skills, what people decide, and the trajectory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import deepagents
import pytest
from deepagents.backends import FilesystemBackend
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from opentelemetry.sdk.trace import ReadableSpan
from tests.programs import run as run_program
from tests.trajectory.spans import story

from spanrelay import guardrail, request_intercept
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.exchange import Answer, Request, reply, tool_call
from spanrelay_testkit.model_server import ModelServer

SKILL = "---\nname: greet\ndescription: How to greet.\n---\n\nSay hello.\n"
ASKED: Any = {"messages": [("user", "Weather?")]}
THREAD: Any = {"configurable": {"thread_id": "t"}}
PLAN = [
    tool_call("read_file", file_path="/skills/greet/SKILL.md", id="call_skill"),
    tool_call("task", description="Weather in Oslo?", subagent_type="weather", id="call_task"),
    tool_call("book", city="Oslo", id="call_book"),
]


def answers(request: Request) -> Answer:
    """Reads a skill, asks a sub-agent, books, and is done; a sub-agent, which has no `task`, only answers."""
    if "task" not in {tool["function"]["name"] for tool in request.body["tools"]}:
        return reply("It rains.")
    told = sum(message["role"] == "tool" for message in request.body["messages"])
    return reply(tool_calls=[PLAN[told]]) if told < len(PLAN) else reply("Done.")


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(answers) as server:
        yield server


def book(city: str) -> str:
    """Book a trip."""
    return f"booked {city}"


def agent(server: ModelServer, folder: Path, **options: Any) -> Any:
    """A deep agent with a skill and a sub-agent."""
    (folder / "skills" / "greet").mkdir(parents=True)
    (folder / "skills" / "greet" / "SKILL.md").write_text(SKILL)
    weather: Any = {"name": "weather", "description": "Knows the weather.", "system_prompt": "Tell it.", "tools": []}
    return deepagents.create_deep_agent(
        ChatOpenAI(model="gpt-5", base_url=server.url, api_key="none", max_retries=0),  # type: ignore[arg-type] - a text will do
        [book],
        subagents=[weather],
        skills=["/skills/"],
        backend=FilesystemBackend(root_dir=folder, virtual_mode=True),
        **{"name": "planner", **options},
    )


def in_turn(step: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """Ask an agent one thing after another; gives the last state."""
    return lambda agent, *given: [step(agent, each) for each in given][-1]


def in_turn_on_one_loop(step: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """The same for a coroutine function: a client is of the loop on which it was first used."""

    async def asked(agent: Any, *given: Any) -> Any:
        return [await step(agent, each) for each in given][-1]

    return lambda agent, *given: asyncio.run(asked(agent, *given))


def by_stream(agent: Any, given: Any) -> Any:
    return list(agent.stream(given, THREAD, stream_mode="values"))[-1]


async def by_astream(agent: Any, given: Any) -> Any:
    return [value async for value in agent.astream(given, THREAD, stream_mode="values")][-1]


RUNS: dict[str, Callable[..., Any]] = {
    "invoke": in_turn(lambda agent, given: agent.invoke(given, THREAD)),
    "ainvoke": in_turn_on_one_loop(lambda agent, given: agent.ainvoke(given, THREAD)),
    "stream": in_turn(by_stream),
    "astream": in_turn_on_one_loop(by_astream),
}
each_run = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)


def told(capture: Capture, parent: Any = None, depth: int = 0) -> list[str]:
    """The agents, tools and models, indented by how many of them they are beneath."""
    found: list[str] = []
    for span in sorted(capture.spans, key=lambda span: span.start_time or 0):
        if (span.parent.span_id if span.parent else None) == (parent.span_id if parent else None):
            shown = (span.attributes or {})["openinference.span.kind"] != "CHAIN"
            found += ["  " * depth + span.name] * shown + told(capture, span.get_span_context(), depth + shown)
    return found


def named(capture: Capture, name: str) -> list[ReadableSpan]:
    return sorted((span for span in capture.spans if span.name == name), key=lambda span: span.start_time or 0)


def marks(span: ReadableSpan) -> list[tuple[str, dict[str, Any]]]:
    return [(event.name, dict(event.attributes or {})) for event in span.events]


@pytest.mark.proves("deepagents", "one trace", "streaming", "sub-agents")
@each_run
def test_a_run_is_one_trace_with_its_sub_agents_beneath_the_tasks(
    run: Any, instrumented: Capture, server: ModelServer, tmp_path: Path
) -> None:
    assert run(agent(server, tmp_path), ASKED)["messages"][-1].text == "Done."
    assert told(instrumented) == [
        "invoke_agent planner",
        "  chat gpt-5",
        "  execute_tool read_file",
        "  chat gpt-5",
        "  execute_tool task",
        "    invoke_agent weather",
        "      chat gpt-5",
        "  chat gpt-5",
        "  execute_tool book",
        "  chat gpt-5",
    ]
    assert len(server.requests) == 5


@each_run
def test_skills_are_marks_of_the_agent_and_of_the_tool_that_reads_one(
    run: Any, instrumented: Capture, server: ModelServer, tmp_path: Path
) -> None:
    run(agent(server, tmp_path), ASKED)
    [planner] = named(instrumented, "invoke_agent planner")
    assert marks(planner) == [("deepagents.skills", {"deepagents.skills.names": ("greet",)})]
    [read] = named(instrumented, "execute_tool read_file")
    assert [(name, told["skill_name"]) for name, told in marks(read)] == [("skill.load", "greet")]


def test_an_agent_that_nobody_named_has_a_name(instrumented: Capture, server: ModelServer, tmp_path: Path) -> None:
    agent(server, tmp_path, name=None).invoke(ASKED)
    assert named(instrumented, "invoke_agent DeepAgent")


@pytest.mark.proves("deepagents", "interrupts", "sessions")
@each_run
def test_what_people_are_asked_and_what_they_decide_are_marks(
    run: Any, instrumented: Capture, server: ModelServer, tmp_path: Path
) -> None:
    careful = agent(server, tmp_path, interrupt_on={"book": True}, checkpointer=InMemorySaver())
    approved = Command(resume={"decisions": [{"type": "approve"}]})
    assert run(careful, ASKED, approved)["messages"][-1].text == "Done."
    first, second = (dict(marks(span)) for span in named(instrumented, "invoke_agent planner"))
    assert first["human_in_the_loop.interrupt"] == {"human_in_the_loop.tools": ("book",)}
    assert second["human_in_the_loop.resume"] == {"human_in_the_loop.decisions": ("approve",)}
    assert "human_in_the_loop.resume" not in first and "human_in_the_loop.interrupt" not in second
    assert {span.status.status_code.name for span in instrumented.spans} == {"UNSET"}
    assert {(span.attributes or {})["gen_ai.conversation.id"] for span in instrumented.spans} == {"t"}


@pytest.mark.proves("deepagents", "policy")
@each_run
def test_policy_refuses_a_tool_and_rewrites_a_parameter_of_every_model_call(
    run: Any, instrumented: Capture, server: ModelServer, tmp_path: Path, policy: Any
) -> None:
    @guardrail(kinds=["tool"], answers=True)
    def no_trips(call: Any) -> str | None:
        return "no trips" if call.request.name == "book" else None

    @request_intercept(kinds=["llm"])
    def cold(call: Any) -> Any:
        return replace(call.request, parameters={**call.request.parameters, "temperature": 0.0})

    policy(no_trips)
    policy(cold)
    messages = run(agent(server, tmp_path), ASKED)["messages"]
    assert [request.body["temperature"] for request in server.requests] == [0.0] * 5
    assert messages[-2].text == "guardrail 'no_trips' refused the call: no trips"


PROGRAM = """
from deepagents import create_deep_agent
from langchain_openai import ChatOpenAI

def book(city: str) -> str:
    "Book a trip."
    print("booked", city)
    return f"booked {city}"

weather = {"name": "weather", "description": "Knows it.", "system_prompt": "Tell it.", "tools": []}
agent = create_deep_agent(ChatOpenAI(model="gpt-5"), [book], name="planner", subagents=[weather])
print(agent.invoke({"messages": [("user", "Weather?")]})["messages"][-1].text)
"""


@pytest.mark.proves("deepagents", "sub-agents")
def test_sub_agents_are_embedded_in_the_trajectory(tmp_path: Path, server: ModelServer) -> None:
    ran = run_program(PROGRAM, tmp_path, server)
    assert (ran.code, ran.out) == (0, "booked Oslo\nDone.\n"), ran.err
    [document] = ran.trajectories
    [inner] = document["subagent_trajectories"]
    assert (document["agent"]["name"], inner["agent"]["name"]) == ("planner", "weather")
    assert [line.partition(" {'prompt_tokens'")[0] for line in story(inner)][1:] == [
        "user Weather in Oslo?",
        "agent It rains.",
    ]


@pytest.mark.proves("deepagents", "policy")
def test_a_file_refuses_a_tool_and_rewrites_a_parameter(tmp_path: Path, server: ModelServer) -> None:
    (tmp_path / "spanrelay.toml").write_text(
        '[plugins.policy]\ntools.deny = ["book"]\ntools.refused = "answer"\n'
        '[plugins.policy.parameters."*"]\ntemperature = 0.25\n'
    )
    ran = run_program(PROGRAM, tmp_path, server)
    assert (ran.code, ran.out) == (0, "Done.\n"), ran.err
    assert "tool 'book' is denied" in str(ran.trajectories)
    assert {request.body["temperature"] for request in server.requests} == {0.25}
