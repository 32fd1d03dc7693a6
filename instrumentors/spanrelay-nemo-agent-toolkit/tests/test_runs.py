"""Runs of workflows as traces: every way to run them, agents in agents, and what goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import get_current_span

from spanrelay import current_scope, scope
from spanrelay_testkit.capture import Capture, said
from spanrelay_testkit.exchange import error
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.outline import named, traces, tree

from .workflows import (
    CALLER,
    PLAIN,
    QUESTION,
    REACT,
    TEAM,
    Way,
    attributes,
    awaited,
    streamed,
    weather_model,
    working,
    written,
)

# What it says of itself and of what it stands on; ours are errors, as everywhere.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
each_way = pytest.mark.parametrize("run", [awaited, streamed])


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer(weather_model) as running:
        yield running


AGENT = [
    "invoke_agent tool_calling_agent",
    "  LangGraph",
    "    agent",
    "      chat gpt-5",
    "    tool",
    "      execute_tool get_weather",
    "    agent",
    "      chat gpt-5",
]


@pytest.mark.proves("nemo-agent-toolkit", "one trace", "streaming")
@each_way
def test_a_run_is_one_trace_with_one_agent_its_tools_and_each_model_call_once(
    instrumented: Capture, server: ModelServer, tmp_path: Path, run: Way
) -> None:
    assert run(written(tmp_path, CALLER, server)) == "I was told: sunny in Rome"
    assert tree(instrumented) == AGENT
    assert traces(instrumented) == 1
    agent = attributes(instrumented, AGENT[0])
    agent.pop("gen_ai.response.time_to_first_chunk", None)
    assert agent == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "tool_calling_agent",
        "gen_ai.agent.description": "Tool Calling Agent Workflow",
        "openinference.span.kind": "AGENT",
        "agent.name": "tool_calling_agent",
        "user.id": "user-1",
        "input.value": QUESTION,
        "input.mime_type": "text/plain",
        "output.value": "I was told: sunny in Rome",
        "output.mime_type": "text/plain",
    }
    tool = attributes(instrumented, "execute_tool get_weather")
    assert (tool["gen_ai.tool.call.id"], tool["gen_ai.tool.call.result"]) == ("call_weather", "sunny in Rome")
    answers = [span for span in instrumented.spans if span.name == "chat gpt-5"]
    assert said(answers[-1]) == "I was told: sunny in Rome"
    assert all((span.attributes or {})["gen_ai.usage.input_tokens"] for span in answers)


def test_a_reasoning_agent_is_told_like_one_that_calls_tools(
    instrumented: Capture, server: ModelServer, tmp_path: Path
) -> None:
    assert awaited(written(tmp_path, REACT, server)) == "sunny in Rome"
    assert tree(instrumented)[0] == "invoke_agent react_agent"
    assert sorted(span.name for span in instrumented.spans if " " in span.name) == [
        "chat gpt-5",
        "chat gpt-5",
        "execute_tool get_weather",
        "invoke_agent react_agent",
    ]


def test_an_agent_that_is_a_tool_is_an_agent_below_the_tool(
    instrumented: Capture, server: ModelServer, tmp_path: Path
) -> None:
    assert awaited(written(tmp_path, TEAM, server)) == "I was told: I was told: sunny in Rome"
    outline = [line for line in tree(instrumented) if " " in line.strip()]
    assert outline == [
        "invoke_agent tool_calling_agent",
        "      chat gpt-5",
        "      execute_tool weatherman",
        "        invoke_agent weatherman",
        "              chat gpt-5",
        "              execute_tool get_weather",
        "              chat gpt-5",
        "      chat gpt-5",
    ]


@each_way
def test_a_workflow_without_a_framework_is_an_agent_with_a_tool(
    instrumented: Capture, tmp_path: Path, run: Way
) -> None:
    assert run(written(tmp_path, PLAIN, None), "Oslo") == "Report: sunny in Oslo"
    assert tree(instrumented) == ["invoke_agent report", "  execute_tool get_weather"]
    assert attributes(instrumented, "invoke_agent report")["output.value"] == "Report: sunny in Oslo"
    tool = attributes(instrumented, "execute_tool get_weather")
    assert (tool["gen_ai.tool.call.arguments"], tool["gen_ai.tool.call.result"]) == ("Oslo", "sunny in Oslo")


@pytest.mark.proves("nemo-agent-toolkit", "sessions")
def test_turns_of_a_conversation_carry_its_id(instrumented: Capture, tmp_path: Path) -> None:
    path = written(tmp_path, PLAIN, None)

    async def work(session: Any) -> None:
        from nat.builder.context import ContextState

        ContextState.get().conversation_id.set("chat-1")
        for city in ("Oslo", "Rome"):
            async with session.run(city) as runner:
                await runner.result()

    working(path, work)
    assert traces(instrumented) == 2
    assert {(span.attributes or {})["gen_ai.conversation.id"] for span in instrumented.spans} == {"chat-1"}


def test_steps_of_the_application_are_marks(instrumented: Capture, tmp_path: Path) -> None:
    awaited(written(tmp_path, PLAIN, None), "Oslo")
    events = named(instrumented, "invoke_agent report").events
    assert [(event.name, dict(event.attributes or {})["nat.step.name"]) for event in events] == [
        ("nat.custom_start", "look"),
        ("nat.custom_end", "look"),
    ]


@pytest.mark.proves("nemo-agent-toolkit", "interrupts")
def test_a_question_to_a_person_is_a_mark_and_no_error(instrumented: Capture, tmp_path: Path) -> None:
    async def answer(prompt: Any) -> Any:
        from nat.data_models.interactive import HumanResponseText

        return HumanResponseText(text="Bergen")

    assert awaited(written(tmp_path, PLAIN, None), "ask", user_input_callback=answer) == "Report: sunny in Bergen"
    span = named(instrumented, "invoke_agent report")
    assert [event.name for event in span.events][:2] == ["nat.interrupt", "nat.resume"]
    assert span.status.is_unset


def test_a_run_belongs_to_its_caller_and_not_to_who_loaded_the_workflow(instrumented: Capture, tmp_path: Path) -> None:
    path = written(tmp_path, PLAIN, None)

    async def work(session: Any) -> None:
        with scope("caller") as caller:
            async with session.run("Oslo") as runner:
                await runner.result()
            assert current_scope() is caller

    with scope("loader"):
        working(path, work)
    parents = {span.name: span.parent for span in instrumented.spans}
    assert parents["invoke_agent report"].span_id == named(instrumented, "invoke_agent caller").context.span_id  # type: ignore[union-attr]


def test_a_stream_is_current_while_it_works_and_never_in_between(instrumented: Capture, tmp_path: Path) -> None:
    seen: set[bool] = set()

    async def work(session: Any) -> None:
        async with session.run("Oslo") as runner:
            async for _ in runner.result_stream():
                seen.add(get_current_span().is_recording())

    working(written(tmp_path, PLAIN, None), work)
    assert seen == {False}


def test_a_stream_that_is_left_says_so(instrumented: Capture, tmp_path: Path) -> None:
    async def work(session: Any) -> None:
        async with session.run("Oslo") as runner:
            chunks = runner.result_stream()
            await anext(chunks)
            await chunks.aclose()
            raise EOFError

    with pytest.raises(EOFError):
        working(written(tmp_path, PLAIN, None), work)
    run = attributes(instrumented, "invoke_agent report")
    assert (run["spanrelay.incomplete"], run["output.value"]) == ("closed", "Report: ")


def test_what_a_function_raises_is_its_error_and_that_of_its_run(instrumented: Capture, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no station"):
        awaited(written(tmp_path, PLAIN, None), "Atlantis")
    for name in ("execute_tool get_weather", "invoke_agent report"):
        assert named(instrumented, name).status.description == "no station there"


def test_a_model_that_fails_fails_its_run(instrumented: Capture, tmp_path: Path) -> None:
    with ModelServer(lambda _: error(401)) as broken, pytest.raises(Exception, match="401"):
        awaited(written(tmp_path, CALLER, broken))
    assert attributes(instrumented, "chat gpt-5")["http.response.status_code"] == 401
    assert not named(instrumented, AGENT[0]).status.is_ok


def test_runs_at_the_same_time_keep_apart(instrumented: Capture, tmp_path: Path) -> None:
    async def work(session: Any) -> None:
        async def run(city: str) -> Any:
            async with session.run(city) as runner:
                return await runner.result()

        await asyncio.gather(*(run(f"city {at}") for at in range(50)))

    working(written(tmp_path, PLAIN, None), work)
    assert traces(instrumented) == 50
    assert len(instrumented.spans) == 100


def test_a_cancelled_run_leaves_nothing_open(instrumented: Capture, tmp_path: Path) -> None:
    async def work(session: Any) -> None:
        asked = asyncio.Event()

        async def run() -> None:
            async with session.run("ask") as runner:
                await runner.result()

        async def never(prompt: Any) -> Any:
            asked.set()
            await asyncio.Event().wait()

        from nat.builder.context import ContextState

        ContextState.get().user_input_callback.set(never)
        task = asyncio.ensure_future(run())
        await asked.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    working(written(tmp_path, PLAIN, None), work)
    assert instrumented.ledger.open == []
    assert attributes(instrumented, "invoke_agent report")["spanrelay.incomplete"] == "cancelled"
