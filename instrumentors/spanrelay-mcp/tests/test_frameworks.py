"""The call of a framework's tool that asks an MCP server is one span in the process that asks, and is judged once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.trace import SpanKind

from spanrelay import GuardrailRejected, guardrail, request_intercept
from spanrelay.pipeline.driver import arun
from spanrelay.pipeline.function import ToolExecution
from spanrelay.records import ToolRequest
from spanrelay.tracing import default_tracing
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.outline import tree

from .ways import MCPError, Server, field, in_memory, newer, over_http, seconds

Policy = Callable[[Any], None]


class Framework:
    """How a framework runs a tool: a span of its own, and the function beneath it."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    async def run(self, name: str, arguments: Any) -> Any:
        return await arun(ToolExecution(ToolRequest(name, arguments, "call-1"), self, default_tracing()))

    async def send(self, call: ToolExecution) -> Any:
        given = call.outgoing()
        call.begin(given)
        result = await self._function(given)
        call.gave(result)
        return result

    async def answer(self, call: ToolExecution, body: Any) -> Any:
        call.gave(body)
        return body


@pytest.fixture
def server() -> Any:
    found = Server("weather")

    @found.tool()
    def weather(city: str) -> str:
        "Say how the weather is."
        if city == "Atlantis":
            raise LookupError(city)
        return f"sunny in {city}"

    return found


@pytest.mark.parametrize("shown", ["weather", "server_weather", "mcp__server__weather"])
async def test_a_tool_of_a_framework_is_the_clients_span(instrumented: Capture, server: Any, shown: str) -> None:
    async with over_http(server) as session:

        async def ask(given: Any) -> str:
            return (await session.call_tool("weather", given)).content[0].text

        assert await Framework(ask).run(shown, {"city": "Rome"}) == "sunny in Rome"
    assert tree(instrumented) == [f"execute_tool {shown}", "  tools/call weather"]
    outer = next(span for span in instrumented.spans if span.kind is SpanKind.INTERNAL)
    assert outer.attributes["gen_ai.tool.call.id"] == "call-1"
    assert outer.attributes["mcp.method.name"] == "tools/call"
    assert outer.attributes["gen_ai.tool.call.result"] == "sunny in Rome"


async def test_another_tool_that_a_tool_calls_has_a_span_of_its_own(instrumented: Capture, server: Any) -> None:
    async with over_http(server) as session:

        async def trip(given: Any) -> str:
            told = [(await session.call_tool("weather", {"city": city})).content[0].text for city in given["cities"]]
            return ", ".join(told)

        assert await Framework(trip).run("trip", {"cities": ["Rome", "Oslo"]}) == "sunny in Rome, sunny in Oslo"
    assert tree(instrumented) == [
        "execute_tool trip",
        *["  tools/call weather", "    tools/call weather"] * 2,
    ]


async def test_a_call_that_is_made_again_is_told_on_the_same_span_until_it_is_answered(
    instrumented: Capture, server: Any
) -> None:
    async with in_memory(server) as session:

        async def stubborn(given: Any) -> str:
            with pytest.raises(MCPError):
                await session.call_tool("weather", given, seconds(0.0))
            first = await session.call_tool("weather", given)
            await session.call_tool("weather", given)
            return first.content[0].text

        await Framework(stubborn).run("weather", {"city": "Rome"})
    clients = [span for span in instrumented.spans if span.kind is SpanKind.CLIENT]
    assert len(clients) == 1


async def test_an_error_of_the_server_is_the_tools(instrumented: Capture, server: Any) -> None:
    async with over_http(server) as session:

        async def ask(given: Any) -> Any:
            result = await session.call_tool("weather", given)
            assert field(result, "isError", "is_error")
            return result.content[0].text

        await Framework(ask).run("weather", {"city": "Atlantis"})
    outer = next(span for span in instrumented.spans if span.kind is SpanKind.INTERNAL)
    assert outer.attributes["error.type"] == "tool_error"


@newer
async def test_policy_judges_once_what_the_framework_sends_as_it_is(
    instrumented: Capture, server: Any, policy: Policy
) -> None:
    asked: list[str] = []

    @guardrail(kinds=["tool"])
    def counts(call: Any) -> None:
        asked.append(call.request.name)

    policy(counts)
    async with in_memory(server) as session:

        async def ask(given: Any) -> str:
            return (await session.call_tool("weather", given)).content[0].text

        await Framework(ask).run("weather", {"city": "Rome"})
    assert asked == ["weather"]


@pytest.mark.parametrize("shown", ["weather", "server_weather"])
async def test_what_the_framework_sends_otherwise_is_judged_as_it_is_sent(
    instrumented: Capture, server: Any, policy: Policy, shown: str
) -> None:
    @guardrail(kinds=["tool"])
    def not_oslo(call: Any) -> str | None:
        refused = call.request.name == "weather" and call.request.arguments == {"city": "Oslo"}
        return "not Oslo" if refused else None

    policy(not_oslo)
    async with in_memory(server) as session:

        async def ask(given: Any) -> str:
            return (await session.call_tool("weather", {"city": "Oslo"})).content[0].text

        with pytest.raises(GuardrailRejected, match="not Oslo"):
            await Framework(ask).run(shown, {"city": "Rome"})


async def test_what_policy_rewrote_above_goes_out_as_it_was_judged(
    instrumented: Capture, server: Any, policy: Policy
) -> None:
    edits: list[str] = []

    @request_intercept(kinds=["tool"])
    def louder(call: Any) -> Any:
        if getattr(call, "side", None) is not SpanKind.SERVER:
            edits.append(call.request.name)
        return replace(call.request, arguments={"city": call.request.arguments["city"].upper()})

    policy(louder)
    async with in_memory(server) as session:

        async def ask(given: Any) -> str:
            return (await session.call_tool("weather", given)).content[0].text

        assert await Framework(ask).run("weather", {"city": "Rome"}) == "sunny in ROME"
    assert edits == ["weather"]


async def test_what_a_tool_leaves_running_is_a_call_of_its_own(
    instrumented: Capture, server: Any, policy: Policy
) -> None:
    asked: list[str] = []

    @guardrail(kinds=["tool"])
    def counts(call: Any) -> None:
        if getattr(call, "side", None) is not SpanKind.SERVER:
            asked.append(call.request.name)

    policy(counts)
    over, later = asyncio.Event(), list[Any]()
    async with in_memory(server) as session:

        async def ask() -> None:
            await over.wait()
            await session.call_tool("weather", {"city": "Rome"})

        async def begin(given: Any) -> str:
            later.append(asyncio.ensure_future(ask()))
            return "soon"

        await Framework(begin).run("weather", {"city": "Rome"})
        over.set()
        await later[0]
    assert asked == ["weather", "weather"]
    assert [span.name for span in instrumented.spans if span.kind is SpanKind.CLIENT] == ["tools/call weather"]
