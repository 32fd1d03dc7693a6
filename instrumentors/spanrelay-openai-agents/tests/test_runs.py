"""Runs of agents, every way there is: one trace each, the right shape, and nothing of it twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import agents
import pytest
from agents import Agent, RunConfig, Runner, function_tool
from opentelemetry.trace import get_current_span
from pydantic import BaseModel

from spanrelay import current_scope, scope
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.exchange import reply, tool_call
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.outline import marks, named, traces, tree

from .ways import QUESTION, Way, asynchronous_ways, at_work, awaited, each_way, streamed, weather_model

RUN = ["invoke_agent weatherman", "  chat gpt-5", "  execute_tool get_weather", "  chat gpt-5"]


@function_tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


def weatherman(**options: Any) -> Agent[Any]:
    return Agent("weatherman", instructions="Tell the weather.", model="gpt-5", **{"tools": [get_weather], **options})


def triage(**options: Any) -> Agent[Any]:
    return Agent("triage", instructions="Hand over.", model="gpt-5", handoffs=[weatherman()], **options)


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer(weather_model) as running:
        yield running


@pytest.mark.proves("openai-agents", "one trace", "streaming")
@each_way
def test_a_run_is_one_trace_with_a_span_for_each_call(instrumented: Capture, server: ModelServer, run: Way) -> None:
    result = run(server, weatherman(), QUESTION)
    assert result.final_output == "I was told: sunny in Rome"
    assert tree(instrumented) == RUN
    assert traces(instrumented) == 1
    attributes = dict(named(instrumented, "invoke_agent weatherman").attributes or {})
    assert attributes["input.value"] == QUESTION
    assert attributes["output.value"] == "I was told: sunny in Rome"
    tool = dict(named(instrumented, "execute_tool get_weather").attributes or {})
    assert tool["gen_ai.tool.call.id"] == "call_get_weather"
    assert tool["gen_ai.tool.call.arguments"] == '{"city":"Rome"}'
    assert tool["gen_ai.tool.call.result"] == "sunny in Rome"


@each_way
def test_the_next_agent_of_a_handoff_stands_beneath_the_first(
    instrumented: Capture, server: ModelServer, run: Way
) -> None:
    result = run(server, triage(), QUESTION)
    assert result.last_agent.name == "weatherman"
    assert tree(instrumented) == ["invoke_agent triage", "  chat gpt-5", *(f"  {line}" for line in RUN)]
    assert traces(instrumented) == 1
    assert marks(named(instrumented, "invoke_agent triage")) == {
        "openai_agents.handoff": {
            "openai_agents.handoff.from": "triage",
            "openai_agents.handoff.to": "weatherman",
            "openai_agents.handoff.call_id": "call_over",
        }
    }
    for agent in ("triage", "weatherman"):
        attributes = dict(named(instrumented, f"invoke_agent {agent}").attributes or {})
        assert attributes["output.value"] == "I was told: sunny in Rome"


@asynchronous_ways
def test_agents_that_hand_over_to_each_other_stand_beside_each_other(instrumented: Capture, run: Way) -> None:
    first = Agent("first", model="gpt-5")
    second = Agent("second", model="gpt-5", handoffs=[first])
    third = Agent("third", model="gpt-5", handoffs=[second])
    first.handoffs = [third]
    names = ["transfer_to_third", "transfer_to_second", "transfer_to_first"]
    script = [*(reply(tool_calls=[tool_call(name)]) for name in names), reply("Done.")]
    with ModelServer(script) as server:
        assert run(server, first, "go").final_output == "Done."
    assert tree(instrumented) == [
        "invoke_agent first",
        "  chat gpt-5",
        "  invoke_agent third",
        "    chat gpt-5",
        "  invoke_agent second",
        "    chat gpt-5",
        "  chat gpt-5",
    ]


@each_way
def test_an_agent_as_a_tool_stands_beneath_the_tool(instrumented: Capture, server: ModelServer, run: Way) -> None:
    asked = weatherman().as_tool("ask_weatherman", "Asks the weatherman.")
    boss = Agent("boss", model="gpt-5", tools=[asked])
    assert run(server, boss, QUESTION).final_output == "I was told: I was told: sunny in Rome"
    assert tree(instrumented) == [
        "invoke_agent boss",
        "  chat gpt-5",
        "  execute_tool ask_weatherman",
        *(f"    {line}" for line in RUN),
        "  chat gpt-5",
    ]
    assert traces(instrumented) == 1


@each_way
def test_chat_completions_give_the_same_spans(
    instrumented: Capture, server: ModelServer, run: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    agents.set_default_openai_api("chat_completions")
    try:
        run(server, weatherman(), QUESTION)
    finally:
        agents.set_default_openai_api("responses")
    assert server.requests[-1].path.endswith("/chat/completions")
    assert tree(instrumented) == RUN


@each_way
def test_code_of_the_application_runs_in_its_span(instrumented: Capture, server: ModelServer, run: Way) -> None:
    seen: list[str] = []

    def see(where: str) -> None:
        inner = current_scope()
        seen.append(f"{where}: {getattr(get_current_span(), 'name', None)} in {inner and inner.name}")

    @function_tool(name_override="get_weather")
    def in_a_thread(city: str) -> str:
        see("tool")
        return "sunny"

    class Hooks(agents.RunHooks[Any]):
        async def on_tool_start(self, *_: Any) -> None:
            see("hook")

    def instructions(context: Any, acting: Any) -> str:
        see("instructions")
        return "Tell the weather."

    agent = weatherman(tools=[in_a_thread])
    agent.instructions = instructions
    run(server, Agent("triage", model="gpt-5", handoffs=[agent]), QUESTION, hooks=Hooks())
    assert seen == [
        "instructions: invoke_agent weatherman in weatherman",
        "hook: invoke_agent weatherman in weatherman",
        "tool: execute_tool get_weather in weatherman",
        "instructions: invoke_agent weatherman in weatherman",
    ]


@each_way
def test_a_session_is_the_conversation_of_every_span(
    instrumented: Capture, server: ModelServer, run: Way, remembering: Any
) -> None:
    run(server, triage(), QUESTION, session=remembering("chat-7"))
    assert {(span.attributes or {}).get("gen_ai.conversation.id") for span in instrumented.spans} == {"chat-7"}


@each_way
def test_so_is_the_group_of_a_trace(instrumented: Capture, server: ModelServer, run: Way) -> None:
    run(server, weatherman(), QUESTION, run_config=RunConfig(group_id="group-3"))
    run(server, weatherman(), QUESTION, run_config={"group_id": "group-3"})
    assert {(span.attributes or {}).get("gen_ai.conversation.id") for span in instrumented.spans} == {"group-3"}
    assert traces(instrumented) == 2


def test_a_sub_agent_belongs_to_the_conversation_of_its_caller(
    instrumented: Capture, server: ModelServer, remembering: Any
) -> None:
    asked = weatherman().as_tool("ask_weatherman", "Asks.", session=remembering("of the sub-agent"))
    boss = Agent("boss", model="gpt-5", tools=[asked])
    awaited(server, boss, QUESTION, session=remembering("of the caller"))
    assert {(s.attributes or {}).get("gen_ai.conversation.id") for s in instrumented.spans} == {"of the caller"}


@each_way
def test_blocks_of_the_application_are_chains_around_what_happens_in_them(
    instrumented: Capture, server: ModelServer, run: Way
) -> None:
    @function_tool(name_override="get_weather")
    def weather(city: str) -> str:
        with agents.custom_span("look up", {"city": city}):
            return "sunny"

    with agents.trace("two questions", group_id="group-9"):
        run(server, weatherman(tools=[weather]), QUESTION)
        run(server, weatherman(tools=[]), "Hello?")
    assert tree(instrumented) == [
        "two questions",
        *(f"  {line}" for line in (*RUN[:3], "    look up", RUN[3])),
        "  invoke_agent weatherman",
        "    chat gpt-5",
    ]
    assert {(span.attributes or {}).get("gen_ai.conversation.id") for span in instrumented.spans} == {"group-9"}
    assert (named(instrumented, "look up").attributes or {})["openinference.span.kind"] == "CHAIN"


def test_blocks_are_there_where_the_sdks_own_tracing_is_off(instrumented: Capture, server: ModelServer) -> None:
    agents.set_tracing_disabled(True)
    try:
        with agents.trace("quiet"), agents.custom_span("inner"):
            awaited(server, weatherman(tools=[]), "Hello?", run_config=RunConfig(tracing_disabled=True))
    finally:
        agents.set_tracing_disabled(False)
    assert tree(instrumented) == ["quiet", "  inner", "    invoke_agent weatherman", "      chat gpt-5"]


def test_a_block_that_fails_says_so_and_one_left_elsewhere_does_no_harm(instrumented: Capture) -> None:
    with pytest.raises(ZeroDivisionError), agents.trace("failing"):
        raise ZeroDivisionError("by zero")
    assert named(instrumented, "failing").status.description == "by zero"

    async def elsewhere() -> None:
        block = agents.trace("left elsewhere")
        block.start(mark_as_current=True)

        async def leave() -> None:
            block.finish()

        await asyncio.create_task(leave())
        assert get_current_span().is_recording() is False

    asyncio.run(elsewhere())
    assert named(instrumented, "left elsewhere").status.is_unset


@each_way
def test_a_run_in_a_scope_is_part_of_its_trace(instrumented: Capture, server: ModelServer, run: Way) -> None:
    with scope("request", "chain", session="s-1"):
        run(server, weatherman(), QUESTION)
    assert tree(instrumented) == ["request", *(f"  {line}" for line in RUN)]
    assert {(span.attributes or {}).get("gen_ai.conversation.id") for span in instrumented.spans} == {"s-1"}


@each_way
def test_what_a_run_ends_with_may_be_an_object(instrumented: Capture, run: Way) -> None:
    class Weather(BaseModel):
        sky: str

    with ModelServer([reply('{"sky": "blue"}')]) as server:
        result = run(server, weatherman(output_type=Weather), [{"role": "user", "content": QUESTION}])
    assert result.final_output == Weather(sky="blue")
    attributes = dict(named(instrumented, "invoke_agent weatherman").attributes or {})
    assert (attributes["input.value"], attributes["output.value"]) == (QUESTION, '{"sky":"blue"}')


def test_many_runs_at_once_do_not_mix(instrumented: Capture, server: ModelServer, remembering: Any) -> None:
    async def all_of_them() -> None:
        async def one(number: int) -> None:
            agent = triage() if number % 2 else weatherman()
            result = await Runner.run(agent, QUESTION, session=remembering(f"chat-{number}"))
            assert result.final_output == "I was told: sunny in Rome"

        await asyncio.gather(*(one(number) for number in range(30)))

    at_work(server, all_of_them)
    assert traces(instrumented) == 30
    by_trace: dict[int, set[Any]] = {}
    for span in instrumented.spans:
        assert span.context is not None
        found = by_trace.setdefault(span.context.trace_id, set())
        found.add((span.attributes or {}).get("gen_ai.conversation.id"))
    assert sorted(len(found) for found in by_trace.values()) == [1] * 30
    assert len(instrumented.spans) == 15 * 4 + 15 * 6


def test_uninstrumented_the_sdk_is_as_it_was(capture: Capture, server: ModelServer) -> None:
    from spanrelay_openai_agents import OpenAIAgentsInstrumentor

    instrumentor = OpenAIAgentsInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    instrumentor.uninstrument()
    assert awaited(server, triage(), QUESTION).final_output == "I was told: sunny in Rome"
    assert streamed(server, triage(), QUESTION).final_output == "I was told: sunny in Rome"
    assert capture.spans == ()
