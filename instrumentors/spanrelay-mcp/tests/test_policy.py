"""Policy for calls of tools over MCP: at the client before anything is sent, at the server before the function runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.trace import SpanKind

import spanrelay
from spanrelay import GuardrailRejected, execution_intercept, guardrail, request_intercept, use
from spanrelay.records import ToolResult
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.outline import tree

from .ways import FIRST, Server, Way, each_way, field, in_memory, newer, over_http, over_newest

Policy = Callable[[Any], None]


class Weather:
    """A server that remembers what its functions were given."""

    def __init__(self) -> None:
        self.given: list[str] = []
        self.server = Server("weather")

        @self.server.tool()
        def weather(city: str) -> str:
            "Say how the weather is."
            self.given.append(city)
            return f"sunny in {city}"

        @self.server.tool()
        def forecast(city: str) -> dict[str, Any]:
            "Say what the weather will be."
            return {"city": city}


@pytest.fixture
def there() -> Weather:
    return Weather()


def at(side: SpanKind, call: Any) -> bool:
    return call.side is side


@each_way
async def test_a_client_refuses_before_anything_is_sent(
    instrumented: Capture, there: Weather, policy: Policy, connected: Way
) -> None:
    @guardrail(kinds=["tool"])
    def no_weather(call: Any) -> str | None:
        return "not today" if call.request.name == "weather" else None

    policy(no_weather)
    async with connected(there.server) as session:
        with pytest.raises(GuardrailRejected, match="not today"):
            await session.call_tool("weather", {"city": "Rome"})
        assert (await session.call_tool("forecast", {"city": "Rome"})).content[0].type == "text"
    assert there.given == []
    assert [line for line in tree(instrumented) if "weather" in line and "run_guardrail" not in line] == [
        "tools/call weather"
    ]


async def test_nothing_of_a_refused_call_is_on_the_wire(instrumented: Capture, there: Weather, policy: Policy) -> None:
    @guardrail(kinds=["tool"])
    def never(call: Any) -> str:
        return "no"

    policy(never)
    sent: list[str] = []
    async with in_memory(there.server, lambda message: sent.append(message.message.model_dump_json())) as session:
        with pytest.raises(GuardrailRejected):
            await session.call_tool("weather", {"city": "Rome"})
    assert sent
    assert not any("tools/call" in message for message in sent)


over_the_wire = pytest.mark.parametrize("connected", [over_http, *([] if FIRST else [over_newest])])


@over_the_wire
async def test_a_server_refuses_before_the_function_runs_and_the_model_is_told_why(
    instrumented: Capture, there: Weather, policy: Policy, connected: Way
) -> None:
    @guardrail(kinds=["tool"])
    def only_oslo(call: Any) -> str | None:
        refused = at(SpanKind.SERVER, call) and call.request.arguments["city"] != "Oslo"
        return "only Oslo is served" if refused else None

    policy(only_oslo)
    async with connected(there.server) as session:
        result = await session.call_tool("weather", {"city": "Rome"})
        assert field(result, "isError", "is_error") is True
        assert result.content[0].text == "guardrail 'only_oslo' refused the call: only Oslo is served"
        assert (await session.call_tool("weather", {"city": "Oslo"})).content[0].text == "sunny in Oslo"
    assert there.given == ["Oslo"]
    refused = next(span for span in instrumented.spans if span.kind is SpanKind.SERVER)
    assert refused.attributes["error.type"] == "spanrelay.errors.GuardrailRejected"


@over_the_wire
async def test_a_server_answers_in_the_place_of_the_function(
    instrumented: Capture, there: Weather, policy: Policy, connected: Way
) -> None:
    @execution_intercept(kinds=["tool"])
    def night(call: Any) -> Any:
        if at(SpanKind.SERVER, call):
            return ToolResult("it is dark")
        return (yield call)

    policy(night)
    async with connected(there.server) as session:
        result = await session.call_tool("weather", {"city": "Rome"})
    assert result.content[0].text == "it is dark"
    assert field(result, "isError", "is_error") is False
    assert there.given == []


@over_the_wire
async def test_what_breaks_at_the_server_refuses_the_call_and_tells_the_client_nothing_of_itself(
    instrumented: Capture, there: Weather, policy: Policy, connected: Way
) -> None:
    @guardrail(kinds=["tool"])
    def breaks(call: Any) -> None:
        if at(SpanKind.SERVER, call):
            raise RuntimeError("the password is 1234")

    policy(breaks)
    async with connected(there.server) as session:
        result = await session.call_tool("weather", {"city": "Rome"})
    assert field(result, "isError", "is_error") is True
    assert result.content[0].text == "the call of the tool 'weather' is refused"
    assert there.given == []


@pytest.mark.parametrize("side", [SpanKind.CLIENT, SpanKind.SERVER])
async def test_arguments_are_rewritten_on_either_side(
    instrumented: Capture, there: Weather, policy: Policy, side: SpanKind
) -> None:
    @request_intercept(kinds=["tool"])
    def elsewhere(call: Any) -> Any:
        return replace(call.request, arguments={"city": "Oslo"}) if at(side, call) else None

    policy(elsewhere)
    async with over_http(there.server) as session:
        result = await session.call_tool("weather", {"city": "Rome"})
    assert result.content[0].text == "sunny in Oslo"
    assert there.given == ["Oslo"]
    told = {span.kind: json.loads(span.attributes["gen_ai.tool.call.arguments"]) for span in instrumented.spans}
    assert told[SpanKind.SERVER] == {"city": "Oslo"}
    assert told[SpanKind.CLIENT] == {"city": "Oslo" if side is SpanKind.CLIENT else "Rome"}


@pytest.mark.parametrize("side", [SpanKind.CLIENT, SpanKind.SERVER])
@pytest.mark.parametrize("answer", ["cloudy", ToolResult("cloudy"), {"content": [{"type": "text", "text": "cloudy"}]}])
async def test_policy_answers_in_the_place_of_the_function(
    instrumented: Capture, there: Weather, policy: Policy, side: SpanKind, answer: Any
) -> None:
    if isinstance(answer, dict):
        answer = {**answer, "structuredContent": {"result": "cloudy"}}

    @execution_intercept(kinds=["tool"])
    def knows(call: Any) -> Any:
        if at(side, call):
            return answer
        return (yield call)

    policy(knows)
    async with over_http(there.server) as session:
        result = await session.call_tool("weather", {"city": "Rome"})
    assert type(result).__name__ == "CallToolResult"
    assert result.content[0].text == "cloudy"
    assert field(result, "isError", "is_error") is False
    assert there.given == []
    assert {span.attributes["gen_ai.tool.call.result"] for span in instrumented.spans} == {"cloudy"}


@each_way
async def test_policy_sees_and_changes_what_came_back(
    instrumented: Capture, there: Weather, policy: Policy, connected: Way
) -> None:
    seen: list[Any] = []

    @execution_intercept(kinds=["tool"])
    def shouts(call: Any) -> Any:
        response = yield call
        seen.append(response.record)
        return ToolResult(response.record.content.upper()) if at(SpanKind.CLIENT, call) else response

    policy(shouts)
    async with connected(there.server) as session:
        result = await session.call_tool("weather", {"city": "Rome"})
    assert result.content[0].text == "SUNNY IN ROME"
    assert set(map(repr, seen)) == {repr(ToolResult("sunny in Rome"))}


@newer
async def test_what_was_judged_at_the_client_is_not_judged_again_in_the_same_process(
    instrumented: Capture, there: Weather, policy: Policy
) -> None:
    asked: list[Any] = []

    @guardrail(kinds=["tool"])
    def counts(call: Any) -> None:
        asked.append(call.side)

    policy(counts)
    async with in_memory(there.server) as session:
        await session.call_tool("weather", {"city": "Rome"})
    assert asked == [SpanKind.CLIENT]


async def test_a_guardrail_that_answers_gives_the_client_a_result_that_is_an_error(
    instrumented: Capture, there: Weather, policy: Policy
) -> None:
    @guardrail(kinds=["tool"], answers=True)
    def never(call: Any) -> str:
        return "no"

    policy(never)
    async with in_memory(there.server) as session:
        result = await session.call_tool("weather", {"city": "Rome"})
    assert field(result, "isError", "is_error") is True
    assert result.content[0].text == "guardrail 'never' refused the call: no"
    assert there.given == []


async def test_sanitizers_see_what_was_given_and_what_came_back(instrumented: Capture, there: Weather) -> None:
    @spanrelay.sanitizer
    def hides(field: Any) -> Any:
        return "[hidden]" if field.name in ("arguments", "result") else field.value

    with use(hides):
        async with in_memory(there.server) as session:
            await session.call_tool("weather", {"city": "Rome"})
    for span in instrumented.spans:
        assert "[hidden]" in span.attributes["gen_ai.tool.call.arguments"]
        assert span.attributes["gen_ai.tool.call.result"] == "[hidden]"
