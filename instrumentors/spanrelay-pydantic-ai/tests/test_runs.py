"""Runs of agents, every way there is: one trace each, the right shape, and nothing of it twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.trace import get_current_span
from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent, FunctionToolset, ImageUrl, RunContext, ToolReturn
from pydantic_ai.models.test import TestModel

from spanrelay import current_scope, scope
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.exchange import reply, tool_call
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.outline import named, traces, tree

from .ways import (
    QUESTION,
    RUN,
    Way,
    at_work,
    awaited,
    conversations,
    each_way,
    get_weather,
    read,
    some_ways,
    streamed,
    synchronous,
    weather_model,
    weatherman,
)


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer(weather_model) as running:
        yield running


@pytest.mark.proves("pydantic-ai", "one trace", "streaming")
@each_way
def test_a_run_is_one_trace_with_a_span_for_each_call(instrumented: Capture, server: ModelServer, run: Way) -> None:
    result = run(server, weatherman(), QUESTION)
    assert result.output == "I was told: sunny in Rome"
    assert tree(instrumented) == RUN
    assert traces(instrumented) == 1
    attributes = dict(named(instrumented, "invoke_agent weatherman").attributes or {})
    assert attributes["input.value"] == QUESTION
    assert attributes["output.value"] == "I was told: sunny in Rome"
    assert [part["content"] for part in json.loads(str(attributes["gen_ai.system_instructions"]))] == [
        "Tell the weather."
    ]
    assert [tool["name"] for tool in json.loads(str(attributes["gen_ai.tool.definitions"]))] == ["get_weather"]
    tool = dict(named(instrumented, "execute_tool get_weather").attributes or {})
    assert tool["gen_ai.tool.call.id"] == "call_get_weather"
    assert tool["gen_ai.tool.call.arguments"] == '{"city":"Rome"}'
    assert tool["gen_ai.tool.call.result"] == "sunny in Rome"


@each_way
def test_model_calls_are_told_by_the_sdk_beneath(instrumented: Capture, server: ModelServer, run: Way) -> None:
    run(server, weatherman(), QUESTION)
    for span in instrumented.of("LLM"):
        attributes = span.attributes or {}
        assert attributes["server.address"] == "127.0.0.1"
        assert attributes["gen_ai.response.id"]
        assert int(str(attributes["gen_ai.usage.input_tokens"])) > 0


@each_way
def test_an_agent_under_a_tool_stands_beneath_the_tool(instrumented: Capture, server: ModelServer, run: Way) -> None:
    async def ask_weatherman(ctx: RunContext[Any], question: str) -> str:
        """Asks the weatherman."""
        return (await weatherman().run(question, model=ctx.model, usage=ctx.usage)).output

    boss = Agent(name="boss", instructions="Delegate.")
    boss.tool(ask_weatherman)
    assert run(server, boss, QUESTION).output == "I was told: I was told: sunny in Rome"
    assert tree(instrumented) == [
        "invoke_agent boss",
        "  chat gpt-5",
        "  execute_tool ask_weatherman",
        *(f"    {line}" for line in RUN),
        "  chat gpt-5",
    ]
    assert traces(instrumented) == len(conversations(instrumented)) == 1


@each_way
def test_code_of_the_application_runs_in_its_span(instrumented: Capture, server: ModelServer, run: Way) -> None:
    seen: list[str] = []

    def see(where: str) -> None:
        inner = current_scope()
        seen.append(f"{where}: {getattr(get_current_span(), 'name', None)} in {inner and inner.name}")

    def get_weather(city: str) -> str:
        see("tool")
        return "sunny"

    agent = weatherman(get_weather)

    @agent.instructions
    def told() -> str:
        see("instructions")
        return "Be brief."

    @agent.output_validator
    async def judge(output: str) -> str:
        see("validator")
        return output

    run(server, agent, QUESTION)
    assert {line for line in seen if not line.startswith("validator")} == {
        "instructions: invoke_agent weatherman in weatherman",
        "tool: execute_tool get_weather in weatherman",
    }
    # A validator is also asked about what has come of a stream, while the model's stream is read.
    assert seen[-1] == "validator: invoke_agent weatherman in weatherman"


@pytest.mark.proves("pydantic-ai", "sessions")
@each_way
def test_turns_of_a_conversation_carry_its_id(instrumented: Capture, server: ModelServer, run: Way) -> None:
    first = run(server, weatherman(), QUESTION)
    assert len(conversations(instrumented)) == 1
    run(server, weatherman(), "And again?", message_history=first.all_messages())
    assert len(conversations(instrumented)) == 1, "the framework finds the conversation in the history"
    assert None not in conversations(instrumented)
    assert traces(instrumented) == 2


@each_way
def test_a_conversation_may_be_named(instrumented: Capture, server: ModelServer, run: Way) -> None:
    run(server, weatherman(), QUESTION, conversation_id="chat-7")
    assert conversations(instrumented) == {"chat-7"}


@some_ways
def test_a_run_in_a_scope_is_part_of_its_trace_and_of_its_session(
    instrumented: Capture, server: ModelServer, run: Way
) -> None:
    with scope("request", "chain", session="s-1"):
        run(server, weatherman(), QUESTION)
    assert tree(instrumented) == ["request", *(f"  {line}" for line in RUN)]
    assert conversations(instrumented) == {"s-1"}


@some_ways
@pytest.mark.parametrize("given", [None, "chat-7"])
def test_an_id_that_the_framework_made_up_parts_no_run_from_the_work_around_it(
    instrumented: Capture, server: ModelServer, run: Way, given: str | None
) -> None:
    with scope("request", "chain"):
        run(server, weatherman(), QUESTION, conversation_id=given)
    assert conversations(instrumented) == {None, given}


class Weather(BaseModel):
    sky: str


@each_way
def test_what_a_run_ends_with_may_be_an_object(instrumented: Capture, run: Way) -> None:
    with ModelServer([reply(tool_calls=[tool_call("final_result", sky="blue")])]) as server:
        result = run(server, weatherman(output_type=Weather), QUESTION)
        attributes = dict(named(instrumented, "invoke_agent weatherman").attributes or {})
        told = str(named(instrumented, "chat gpt-5").attributes)
    assert result.output == Weather(sky="blue")
    assert tree(instrumented) == ["invoke_agent weatherman", "  chat gpt-5"], "an output is no tool"
    assert attributes["output.value"] == '{"sky":"blue"}'
    assert "final_result" in told


@some_ways
def test_what_a_tool_returns_beside_its_value_is_not_its_result(
    instrumented: Capture, server: ModelServer, run: Way
) -> None:
    def get_weather(city: str) -> Any:
        return ToolReturn("sunny", metadata={"secret": 1})

    assert run(server, weatherman(get_weather), QUESTION).output == "I was told: sunny"
    tool = named(instrumented, "execute_tool get_weather").attributes or {}
    assert tool["gen_ai.tool.call.result"] == "sunny"


@some_ways
def test_tools_of_toolsets_are_tools_by_the_name_that_the_model_knows(instrumented: Capture, run: Way) -> None:
    script = [reply(tool_calls=[tool_call("home_get_weather", city="Rome")]), reply("Done.")]
    agent = Agent(name="weatherman", toolsets=[FunctionToolset([get_weather]).prefixed("home")])
    with ModelServer(script) as server:
        assert run(server, agent, QUESTION).output == "Done."
    assert tree(instrumented) == [line.replace("get_weather", "home_get_weather") for line in RUN]


@some_ways
def test_bytes_that_a_user_shows_are_not_the_runs_to_record(
    instrumented: Capture, server: ModelServer, run: Way
) -> None:
    given = ["What is this?", ImageUrl("https://example.com/a.png"), BinaryContent(b"png", media_type="image/png")]
    run(server, weatherman(), given)
    [asked] = [span for span in instrumented.spans if span.name == "invoke_agent weatherman"]
    assert json.loads(str((asked.attributes or {})["input.value"])) == [
        "What is this?",
        {"kind": "image-url", "media_type": "image/png", "url": "https://example.com/a.png"},
        {"kind": "binary", "media_type": "image/png"},
    ]


def test_a_sync_stream_is_a_run_too(instrumented: Capture) -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        with weatherman().run_stream_sync(QUESTION, model=TestModel()) as result:
            assert result.get_output() == '{"get_weather":"sunny in a"}'
    finally:
        loop.close()
        asyncio.set_event_loop(None)
    assert tree(instrumented) == [line.replace("gpt-5", "test") for line in RUN]


def test_an_agent_without_a_name_has_that_of_its_variable(instrumented: Capture, server: ModelServer) -> None:
    async def greet(model: Any) -> None:
        greeter = Agent(description="Greets.")
        await greeter.run("Hello?", model=model)

    at_work(server, greet)
    assert tree(instrumented) == ["invoke_agent greeter", "  chat gpt-5"]
    assert (named(instrumented, "invoke_agent greeter").attributes or {})["gen_ai.agent.description"] == "Greets."


def test_a_hundred_runs_at_once_do_not_mix(instrumented: Capture, server: ModelServer) -> None:
    async def all_of_them(model: Any) -> None:
        async def one(number: int) -> None:
            agent, given = weatherman(), {"model": model, "conversation_id": f"chat-{number}"}
            if number % 2:
                result = await agent.run(QUESTION, **given)
                assert result.output == "I was told: sunny in Rome"
            else:
                async with agent.run_stream(QUESTION, **given) as stream:
                    assert await stream.get_output() == "I was told: sunny in Rome"

        await asyncio.gather(*(one(number) for number in range(100)))

    at_work(server, all_of_them)
    assert traces(instrumented) == 100
    assert len(conversations(instrumented)) == 100
    by_trace: dict[int, set[Any]] = {}
    for span in instrumented.spans:
        assert span.context is not None
        found = by_trace.setdefault(span.context.trace_id, set())
        found.add((span.attributes or {}).get("gen_ai.conversation.id"))
    assert {len(found) for found in by_trace.values()} == {1}
    assert len(instrumented.spans) == 400


def test_uninstrumented_the_framework_is_as_it_was(capture: Capture, server: ModelServer) -> None:
    from spanrelay_pydantic_ai import PydanticAIInstrumentor

    instrumentor = PydanticAIInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    instrumentor.uninstrument()
    for run in (awaited, streamed, read, synchronous):
        assert run(server, weatherman(), QUESTION).output == "I was told: sunny in Rome"
    assert capture.spans == ()
