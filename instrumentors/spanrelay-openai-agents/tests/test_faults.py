"""What goes wrong in runs: nothing stays open or current, nothing is said twice, and the error is where it happened."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import agents
import openai
import pytest
from agents import Agent, Runner, function_tool

from spanrelay_testkit.capture import Capture
from spanrelay_testkit.exchange import error, reply, tool_call
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.outline import named, tree

from .ways import QUESTION, Way, asynchronous_ways, at_work, each_way, weather_model


@function_tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


def weatherman(*tools: Any, **options: Any) -> Agent[Any]:
    return Agent("weatherman", model="gpt-5", tools=list(tools or (get_weather,)), **options)


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer(weather_model) as running:
        yield running


def incomplete(capture: Capture, name: str) -> Any:
    return (named(capture, name).attributes or {}).get("spanrelay.incomplete")


@each_way
def test_a_provider_that_fails_fails_the_call_and_the_run(instrumented: Capture, run: Way) -> None:
    with ModelServer([error(400)]) as server, pytest.raises(openai.BadRequestError):
        run(server, weatherman(), QUESTION)
    assert tree(instrumented) == ["invoke_agent weatherman", "  chat gpt-5"]
    for name in tree(instrumented):
        assert not named(instrumented, name.strip()).status.is_unset


@each_way
@pytest.mark.parametrize("agent", [None, "weatherman", SimpleNamespace(name="weatherman")])
def test_what_is_no_agent_is_for_the_sdk_to_refuse(
    instrumented: Capture, server: ModelServer, run: Way, agent: Any
) -> None:
    with pytest.raises(AttributeError, match=r"'(tools|handoffs)'"):  # which the SDK asks it for first
        run(server, agent, QUESTION)


@each_way
def test_a_tool_that_raises_is_told_to_the_model_and_marked(
    instrumented: Capture, server: ModelServer, run: Way
) -> None:
    @function_tool(name_override="get_weather")
    def broken(city: str) -> str:
        raise ValueError("no such city")

    assert "An error occurred" in run(server, weatherman(broken), QUESTION).final_output
    tool = named(instrumented, "execute_tool get_weather")
    assert "An error occurred" in str((tool.attributes or {})["gen_ai.tool.call.result"])
    assert (tool.attributes or {})["error.type"] == "ValueError"
    assert tool.status.description == "no such city"
    assert named(instrumented, "invoke_agent weatherman").status.is_unset


@each_way
def test_a_tool_whose_error_is_not_handled_ends_the_run_as_the_sdk_ends_it(
    instrumented: Capture, server: ModelServer, run: Way
) -> None:
    @function_tool(name_override="get_weather", failure_error_function=None)
    def broken(city: str) -> str:
        raise ValueError("no such city")

    with pytest.raises(agents.UserError, match="no such city"):
        run(server, weatherman(broken), QUESTION)
    assert named(instrumented, "execute_tool get_weather").status.description == "no such city"


@each_way
def test_a_tool_that_takes_too_long_says_so(instrumented: Capture, server: ModelServer, run: Way) -> None:
    @function_tool(name_override="get_weather", timeout=0.01)
    async def slow(city: str) -> str:
        await asyncio.Event().wait()
        return "never"

    run(server, weatherman(slow), QUESTION)
    tool = named(instrumented, "execute_tool get_weather")
    assert "timed out" in str((tool.attributes or {})["gen_ai.tool.call.result"])


@asynchronous_ways
@pytest.mark.parametrize("arguments", ["not JSON", '["Rome"]', ""])
def test_arguments_that_do_not_fit_are_recorded_as_they_are(instrumented: Capture, run: Way, arguments: str) -> None:
    script = [reply(tool_calls=[tool_call("get_weather", arguments)]), reply("Sorry.")]
    with ModelServer(script) as server:
        with pytest.raises((agents.ModelBehaviorError, agents.UserError)):
            run(server, weatherman(strict(get_weather)), QUESTION)
        recorded = (named(instrumented, "execute_tool get_weather").attributes or {}).get("gen_ai.tool.call.arguments")
    assert recorded == {"not JSON": "not JSON", '["Rome"]': '["Rome"]', "": "{}"}[arguments]


def strict(tool: Any) -> Any:
    @function_tool(name_override=tool.name, failure_error_function=None)
    def checked(city: str) -> str:
        return city

    return checked


@asynchronous_ways
def test_a_result_that_is_no_json_is_recorded_as_text(instrumented: Capture, server: ModelServer, run: Way) -> None:
    class Sky:
        def __str__(self) -> str:
            return "a sky"

        __repr__ = __str__

    @function_tool(name_override="get_weather")
    def sky(city: str) -> Any:
        return Sky()

    assert run(server, weatherman(sky), QUESTION).final_output == "I was told: a sky"
    assert (named(instrumented, "execute_tool get_weather").attributes or {})["gen_ai.tool.call.result"] == "a sky"


@each_way
def test_too_many_turns_end_the_run_with_the_sdks_error(instrumented: Capture, run: Way) -> None:
    def script(request: Any) -> Any:
        return reply(tool_calls=[tool_call("get_weather", city="Rome")])

    with ModelServer(script) as server, pytest.raises(agents.MaxTurnsExceeded):
        run(server, weatherman(), QUESTION, max_turns=2)
    assert tree(instrumented) == ["invoke_agent weatherman", *["  chat gpt-5", "  execute_tool get_weather"] * 2]


@each_way
def test_a_sibling_that_fails_while_others_run_leaves_nothing_open(instrumented: Capture, run: Way) -> None:
    @function_tool(failure_error_function=None)
    async def waits() -> str:
        await asyncio.Event().wait()
        return "never"

    @function_tool(failure_error_function=None)
    async def fails() -> str:
        raise ValueError("broken")

    both = reply(tool_calls=[tool_call("waits"), tool_call("fails")])
    with ModelServer([both]) as server, pytest.raises(agents.UserError, match="broken"):
        run(server, weatherman(waits, fails), QUESTION)
    assert sorted(tree(instrumented)) == [
        "  chat gpt-5",
        "  execute_tool fails",
        "  execute_tool waits",
        "invoke_agent weatherman",
    ]
    assert incomplete(instrumented, "execute_tool waits") == "cancelled"


def test_a_cancelled_run_says_so(instrumented: Capture) -> None:
    hold, asked = threading.Event(), threading.Event()

    def script(request: Any) -> Any:
        asked.set()
        return reply("late", hold=hold)

    async def cancelled() -> None:
        task = asyncio.create_task(Runner.run(weatherman(), QUESTION))
        await asyncio.to_thread(asked.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with ModelServer(script) as server:
        at_work(server, cancelled)
        hold.set()
    assert [incomplete(instrumented, name.strip()) for name in tree(instrumented)] == ["cancelled", "cancelled"]


@pytest.mark.parametrize("end", ["cancel", "break", "after_turn", "never read"])
def test_a_streamed_run_that_nobody_reads_to_its_end_is_closed(instrumented: Capture, end: str) -> None:
    async def go() -> None:
        result = Runner.run_streamed(weatherman(), QUESTION)
        if end == "never read":
            assert result.run_loop_task is not None
            await result.run_loop_task
            return
        events = result.stream_events()
        async for _ in events:
            if end == "break":
                break
            result.cancel("after_turn" if end == "after_turn" else "immediate")
        await events.aclose()  # type: ignore[attr-defined]

    with ModelServer(weather_model) as server:
        at_work(server, go)
    assert tree(instrumented)[0] == "invoke_agent weatherman"
    cancelled = incomplete(instrumented, "invoke_agent weatherman")
    assert cancelled == ("cancelled" if end == "cancel" else None)


def test_a_streamed_run_that_never_starts_leaves_nothing(instrumented: Capture, server: ModelServer) -> None:
    async def go() -> None:
        result = Runner.run_streamed(weatherman(), QUESTION)
        result.cancel()
        async for _ in result.stream_events():
            pass

    at_work(server, go)
    assert tree(instrumented) == []
