"""What goes wrong in runs: nothing stays open or current, nothing is said twice, and the error is where it happened."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic_ai import ModelHTTPError, ModelRetry, UnexpectedModelBehavior, UsageLimitExceeded, UsageLimits
from pydantic_ai.exceptions import RunCancelled

from spanrelay_testkit.capture import Capture
from spanrelay_testkit.exchange import error, reply, tool_call
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.outline import named, tree

from .ways import QUESTION, RUN, Way, at_work, each_way, some_ways, weather_model, weatherman


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer(weather_model) as running:
        yield running


def incomplete(capture: Capture, name: str) -> Any:
    return (named(capture, name).attributes or {}).get("spanrelay.incomplete")


@each_way
def test_a_provider_that_fails_fails_the_call_and_the_run(instrumented: Capture, run: Way) -> None:
    with ModelServer([error(400)]) as server, pytest.raises(ModelHTTPError):
        run(server, weatherman(), QUESTION)
    assert tree(instrumented) == RUN[:2]
    for name in RUN[:2]:
        assert not named(instrumented, name.strip()).status.is_unset


@each_way
@pytest.mark.parametrize("given", [7, object()])
def test_what_is_no_prompt_is_for_the_framework_to_refuse(
    instrumented: Capture, server: ModelServer, run: Way, given: Any
) -> None:
    with pytest.raises(ValueError, match=f"got `{type(given).__name__}`"):
        run(server, weatherman(), given)
    assert tree(instrumented) == RUN[:1]


@each_way
def test_a_tool_that_raises_ends_the_run_with_its_error(instrumented: Capture, server: ModelServer, run: Way) -> None:
    mine = ValueError("no such city")

    def get_weather(city: str) -> str:
        raise mine

    with pytest.raises(ValueError) as raised:
        run(server, weatherman(get_weather), QUESTION)
    assert raised.value is mine
    for name in (RUN[0], RUN[2]):
        assert named(instrumented, name.strip()).status.description == "no such city"


@each_way
def test_a_tool_that_asks_to_be_called_again_is_marked_with_what_the_model_is_told(
    instrumented: Capture, run: Way
) -> None:
    def get_weather(city: str) -> str:
        if city == "Rom":
            raise ModelRetry("No such city; try its name in English.")
        return f"sunny in {city}"

    def script(request: Any) -> Any:
        told = str(request.body)
        if "sunny" in told:
            return reply("Sunny.")
        city = "Rome" if "in English" in told else "Rom"
        return reply(tool_calls=[tool_call("get_weather", city=city, id=city)])

    with ModelServer(script) as server:
        assert run(server, weatherman(get_weather), QUESTION).output == "Sunny."
    assert tree(instrumented) == [RUN[0], *RUN[1:3] * 2, RUN[1]]
    first, second = [span for span in instrumented.spans if span.name == "execute_tool get_weather"]
    attributes = first.attributes or {}
    assert first.status.description == "No such city; try its name in English."
    assert attributes["error.type"] == "pydantic_ai.exceptions.ModelRetry"
    assert "No such city" in str(attributes["gen_ai.tool.call.result"])
    assert second.status.is_unset
    assert named(instrumented, "invoke_agent weatherman").status.is_unset


@some_ways
def test_arguments_that_do_not_fit_never_reach_a_tool(instrumented: Capture, run: Way) -> None:
    bad = reply(tool_calls=[tool_call("get_weather", {"town": 1})])
    with ModelServer([bad, bad]) as server, pytest.raises(UnexpectedModelBehavior):
        run(server, weatherman(), QUESTION)
    assert tree(instrumented) == [RUN[0], RUN[1], RUN[1]]


@each_way
def test_usage_beyond_its_limits_ends_the_run_with_the_frameworks_error(
    instrumented: Capture, server: ModelServer, run: Way
) -> None:
    with pytest.raises(UsageLimitExceeded):
        run(server, weatherman(), QUESTION, usage_limits=UsageLimits(request_limit=1))
    assert tree(instrumented) == RUN[:3]
    agent = named(instrumented, "invoke_agent weatherman")
    assert (agent.attributes or {})["error.type"] == "pydantic_ai.exceptions.UsageLimitExceeded"


@some_ways
def test_a_sibling_that_fails_while_others_run_leaves_nothing_open(instrumented: Capture, run: Way) -> None:
    async def waits() -> str:
        await asyncio.Event().wait()
        return "never"

    async def fails() -> str:
        raise ValueError("broken")

    both = reply(tool_calls=[tool_call("waits"), tool_call("fails")])
    with ModelServer([both]) as server, pytest.raises(ValueError, match="broken"):
        run(server, weatherman(waits, fails), QUESTION)
    assert sorted(tree(instrumented)) == sorted([*RUN[:2], "  execute_tool fails", "  execute_tool waits"])
    assert incomplete(instrumented, "execute_tool waits") == "cancelled"


@pytest.mark.parametrize("by", ["task", "run"])
def test_a_cancelled_run_says_so(instrumented: Capture, by: str) -> None:
    hold, asked = threading.Event(), threading.Event()

    def script(request: Any) -> Any:
        asked.set()
        return reply("late", hold=hold)

    async def cancelled(model: Any) -> None:
        async def go() -> None:
            async with weatherman().iter(QUESTION, model=model) as run:
                started.set_result(run)
                async for _ in run:
                    pass

        started: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(go())
        await asyncio.to_thread(asked.wait)
        task.cancel() if by == "task" else (await started).cancel()
        with pytest.raises(asyncio.CancelledError if by == "task" else RunCancelled):
            await task

    with ModelServer(script) as server:
        at_work(server, cancelled)
        hold.set()
    assert [incomplete(instrumented, name.strip()) for name in tree(instrumented)] == ["cancelled", "cancelled"]


async def _events(agent: Any, model: Any) -> None:
    async with agent.run_stream_events(QUESTION, model=model) as events:
        async for _ in events:
            break


async def _text(agent: Any, model: Any) -> None:
    async with agent.run_stream(QUESTION, model=model) as result:
        async for _ in result.stream_text(delta=True, debounce_by=None):
            break


async def _steps(agent: Any, model: Any) -> None:
    async with agent.iter(QUESTION, model=model) as run:
        async for node in run:
            if agent.is_model_request_node(node):
                async with node.stream(run.ctx) as stream:
                    async for _ in stream:
                        break
                break


@pytest.mark.parametrize(("leave", "run_is"), [(_events, "cancelled"), (_text, "closed"), (_steps, "closed")])
def test_a_run_that_nobody_reads_to_its_end_is_closed(instrumented: Capture, leave: Any, run_is: str) -> None:
    """As the framework does it: it cancels the task behind events."""
    with ModelServer([reply("word " * 200)]) as server:
        at_work(server, lambda model: leave(weatherman(), model))
    assert tree(instrumented) == RUN[:2]
    assert incomplete(instrumented, "invoke_agent weatherman") == run_is
    assert named(instrumented, "invoke_agent weatherman").status.is_unset is (run_is != "cancelled")
    assert incomplete(instrumented, "chat gpt-5") == "closed"
    assert named(instrumented, "chat gpt-5").status.is_unset


def test_a_run_that_is_never_begun_leaves_nothing(instrumented: Capture, server: ModelServer) -> None:
    async def go(model: Any) -> None:
        async with weatherman().iter(QUESTION, model=model):
            pass

    at_work(server, go)
    assert tree(instrumented) == ["invoke_agent weatherman"]
    assert incomplete(instrumented, "invoke_agent weatherman") == "closed"


def test_code_that_raises_while_it_reads_fails_the_run(instrumented: Capture, server: ModelServer) -> None:
    async def go(model: Any) -> None:
        async with weatherman().run_stream(QUESTION, model=model):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        at_work(server, go)
    assert (named(instrumented, "invoke_agent weatherman").attributes or {})["error.type"] == "KeyError"


def test_a_stream_that_breaks_off_fails_the_call(instrumented: Capture) -> None:
    async def go(model: Any) -> None:
        async with weatherman().run_stream(QUESTION, model=model) as result:
            await result.get_output()

    with ModelServer([reply("word " * 50, cut_after=3)]) as server, pytest.raises(Exception):  # noqa: B017 - httpx's own
        at_work(server, go)
    assert not named(instrumented, "chat gpt-5").status.is_unset
