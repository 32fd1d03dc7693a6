"""Tools: one span for each run, policy that refuses and changes, and everything of LangChain's kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

import pytest
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, InjectedToolArg, ToolException, tool
from langgraph.errors import GraphInterrupt
from langgraph.types import Command, Interrupt
from opentelemetry import trace

from spanrelay import GuardrailRejected, execution_intercept, guardrail, request_intercept
from spanrelay.records import ToolResult
from spanrelay_testkit.capture import Capture

CURRENT: list[int] = []


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    CURRENT.append(trace.get_current_span().get_span_context().span_id)
    return f"rain in {city}"


@tool
async def get_weather_later(city: str) -> str:
    """The weather of a city."""
    CURRENT.append(trace.get_current_span().get_span_context().span_id)
    await asyncio.sleep(0)
    return f"rain in {city}"


@tool(response_format="content_and_artifact")
def measure(city: str) -> tuple[str, Any]:
    """Measure."""
    return f"12 degrees in {city}", {"raw": [city]}


@tool
def explode(x: int) -> str:
    """Explode."""
    raise ValueError("boom")


class Stateful:
    """What LangChain injects."""


@tool
def remember(what: str, state: Annotated[Any, InjectedToolArg]) -> str:
    """Remember."""
    return f"{what} {type(state).__name__}"


def call_of(name: str, **arguments: Any) -> Any:
    return {"type": "tool_call", "name": name, "args": arguments, "id": "call_1"}


def ainvoke(tool: BaseTool, given: Any) -> Any:
    return asyncio.run(tool.ainvoke(given))


RUNS: dict[str, Callable[[BaseTool, Any], Any]] = {"invoke": lambda tool, given: tool.invoke(given), "ainvoke": ainvoke}
each_run = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)


def attributes(capture: Capture) -> dict[str, Any]:
    return dict(capture.span.attributes or {})


@each_run
def test_a_run_is_one_span(run: Any, instrumented: Capture) -> None:
    answer = run(get_weather, call_of("get_weather", city="Oslo"))
    assert answer == ToolMessage("rain in Oslo", tool_call_id="call_1", name="get_weather")
    told = attributes(instrumented)
    assert instrumented.span.name == "execute_tool get_weather"
    assert told["gen_ai.tool.call.id"] == "call_1"
    assert told["gen_ai.tool.description"] == "The weather of a city."
    assert told["gen_ai.tool.call.arguments"] == '{"city":"Oslo"}'
    assert told["gen_ai.tool.call.result"] == "rain in Oslo"


def test_the_span_is_current_in_every_colour_and_thread(instrumented: Capture) -> None:
    CURRENT.clear()
    get_weather.invoke({"city": "Oslo"})
    ainvoke(get_weather, {"city": "Oslo"})
    ainvoke(get_weather_later, {"city": "Oslo"})
    get_weather.batch([{"city": "Oslo"}, {"city": "Bergen"}])
    assert sorted(CURRENT) == sorted(span.context.span_id for span in instrumented.spans if span.context)
    assert len(CURRENT) == 5


@each_run
def test_a_skill_that_a_tool_loads_is_a_mark(run: Any, instrumented: Capture) -> None:
    def read_file(path: str) -> str:
        """Read a file."""
        return path

    run(tool(read_file), call_of("read_file", path="/skills/greet/SKILL.md"))
    [event] = instrumented.span.events
    assert (event.name, dict(event.attributes or {})["skill_name"]) == ("skill.load", "greet")


def test_a_run_without_a_call_gives_what_the_function_gives(instrumented: Capture) -> None:
    assert get_weather.run("Oslo") == get_weather.run(tool_input={"city": "Oslo"}) == "rain in Oslo"
    assert [(span.attributes or {})["gen_ai.tool.call.result"] for span in instrumented.spans] == ["rain in Oslo"] * 2


@each_run
def test_an_artifact_survives_and_is_not_recorded(run: Any, instrumented: Capture) -> None:
    answer = run(measure, call_of("measure", city="Oslo"))
    assert (answer.content, answer.artifact) == ("12 degrees in Oslo", {"raw": ["Oslo"]})
    assert attributes(instrumented)["gen_ai.tool.call.result"] == "12 degrees in Oslo"


@each_run
def test_what_is_injected_reaches_the_tool_and_nobody_else(run: Any, instrumented: Capture, policy: Any) -> None:
    seen: list[Any] = []

    @request_intercept
    def change(call: Any) -> Any:
        seen.append(call.request.arguments)
        return replace(call.request, arguments={"what": "tea"})

    policy(change)
    assert run(remember, {"what": "milk", "state": Stateful()}) == "tea Stateful"
    assert seen == [{"what": "milk"}]
    assert attributes(instrumented)["gen_ai.tool.call.arguments"] == '{"what":"tea"}'


@each_run
def test_arguments_that_policy_changes_reach_the_tool(run: Any, instrumented: Capture, policy: Any) -> None:
    @request_intercept(kinds=["tool"])
    def elsewhere(call: Any) -> Any:
        return replace(call.request, arguments={"city": "Bergen"})

    policy(elsewhere)
    assert run(get_weather, call_of("get_weather", city="Oslo")).content == "rain in Bergen"


@each_run
def test_a_refusal_that_answers_is_a_message_for_the_model(run: Any, instrumented: Capture, policy: Any) -> None:
    CURRENT.clear()

    @guardrail(answers=True)
    def never(call: Any) -> str:
        return "not today"

    policy(never)
    answer = run(get_weather, call_of("get_weather", city="Oslo"))
    assert isinstance(answer, ToolMessage)
    assert (answer.content, answer.tool_call_id, answer.name, answer.status) == (
        "guardrail 'never' refused the call: not today",
        "call_1",
        "get_weather",
        "error",
    )
    assert CURRENT == []
    assert instrumented.spans[-1].status.status_code.name == "ERROR"


@each_run
def test_a_refusal_is_raised_otherwise(run: Any, instrumented: Capture, policy: Any) -> None:
    @guardrail
    def never(call: Any) -> str:
        return "not today"

    policy(never)
    with pytest.raises(GuardrailRejected, match="not today"):
        run(get_weather, call_of("get_weather", city="Oslo"))


@each_run
def test_a_result_that_policy_changes_keeps_its_artifact(run: Any, instrumented: Capture, policy: Any) -> None:
    @execution_intercept(kinds=["tool"])
    def hide(call: Any) -> Any:
        response = yield call
        assert response.record == ToolResult("12 degrees in Oslo")
        return ToolResult("***")

    policy(hide)
    answer = run(measure, call_of("measure", city="Oslo"))
    assert (answer.content, answer.artifact, answer.status) == ("***", {"raw": ["Oslo"]}, "success")
    assert attributes(instrumented)["gen_ai.tool.call.result"] == "***"


@each_run
def test_an_answer_in_a_tools_place_is_a_message(run: Any, instrumented: Capture, policy: Any) -> None:
    @execution_intercept(kinds=["tool"])
    def canned(call: Any) -> Any:
        return {"degrees": 12}
        yield

    policy(canned)
    assert run(get_weather, call_of("get_weather", city="Oslo")).content == '{"degrees": 12}'
    assert run(get_weather, {"city": "Oslo"}) == {"degrees": 12}


@each_run
def test_an_error_is_the_users(run: Any, instrumented: Capture) -> None:
    with pytest.raises(ValueError, match="boom"):
        run(explode, {"x": 1})
    assert attributes(instrumented)["error.type"] == "ValueError"


@each_run
def test_an_error_that_the_tool_handles_is_a_result_that_is_an_error(run: Any, instrumented: Capture) -> None:
    def strict(x: int) -> str:
        """Be strict."""
        raise ToolException("no such thing")

    strict_tool = tool(strict)
    strict_tool.handle_tool_error = True
    answer = run(strict_tool, call_of("strict", x=1))
    assert (answer.content, answer.status) == ("no such thing", "error")
    result = instrumented.record(instrumented.span).result
    assert result is not None and result.is_error


@each_run
@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, float("nan"), b"\xff", {"a": {3: object()}}],
    ids=["object", "set", "nan", "bytes", "number as a key"],
)
def test_a_result_that_is_no_json_passes_as_it_is(run: Any, value: Any, instrumented: Capture) -> None:
    def odd() -> Any:
        """Be odd."""
        return value

    assert run(tool(odd), {}) is value
    assert "gen_ai.tool.call.result" in attributes(instrumented)


@each_run
def test_an_interrupt_is_no_error(run: Any, instrumented: Capture) -> None:
    def ask_somebody() -> str:
        """Ask."""
        raise GraphInterrupt((Interrupt("may I?", id="i"),))

    with pytest.raises(GraphInterrupt):
        run(tool(ask_somebody), {})
    assert instrumented.span.status.status_code.name == "UNSET"


@each_run
def test_of_a_command_the_answer_is_recorded_and_no_state(run: Any, instrumented: Capture) -> None:
    def hand_over() -> Any:
        """Hand over."""
        answer = ToolMessage("done", tool_call_id="call_1")
        return Command(goto="other", update={"messages": [answer], "state": "big"})

    answer = run(tool(hand_over), call_of("hand_over"))
    assert isinstance(answer, Command)
    assert attributes(instrumented)["gen_ai.tool.call.result"] == "done"


def test_a_cancelled_tool_ends_its_span(instrumented: Capture) -> None:
    async def forever() -> str:
        """Wait."""
        await asyncio.Event().wait()
        return ""

    async def go() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(tool(forever).ainvoke({}), 0.05)

    asyncio.run(go())
    assert attributes(instrumented)["spanrelay.incomplete"] == "cancelled"


def test_calls_at_the_same_time_do_not_mix(instrumented: Capture) -> None:
    async def go() -> list[Any]:
        cities = [f"city {number}" for number in range(50)]
        return await asyncio.gather(*(get_weather_later.ainvoke({"city": city}) for city in cities))

    answers = asyncio.run(go())
    told = [(span.attributes or {})["gen_ai.tool.call.result"] for span in instrumented.spans]
    assert sorted(told) == sorted(answers)
