"""Calls of tools over MCP: a span at the client above one at the server, whatever becomes of the call."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from spanrelay_mcp import MCPInstrumentor
from spanrelay_testkit.capture import Capture, at_work
from spanrelay_testkit.outline import named, traces, tree

from .ways import FIRST, MCPError, Server, Way, each_way, field, in_memory, newer, over_stdio, seconds

PIXEL = base64.b64decode(
    b"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def weather_server() -> Any:
    server = Server("weather")

    @server.tool()
    async def weather(city: str) -> str:
        "Say how the weather is."
        await asyncio.sleep(0)
        return f"sunny in {city}"

    @server.tool()
    def forecast(city: str) -> dict[str, Any]:
        "Say what the weather will be."
        return {"city": city, "days": [{"sun": True}, {"sun": False}]}

    @server.tool()
    def broken(city: str) -> str:
        "Fail."
        raise LookupError(f"no station in {city}")

    return server


def sides(capture: Capture, name: str) -> tuple[ReadableSpan, ReadableSpan]:
    """The client's and the server's span of the one call of a tool."""
    of = {span.kind: span for span in capture.spans if span.name == f"tools/call {name}"}
    assert len(of) == 2
    return of[SpanKind.CLIENT], of[SpanKind.SERVER]


@each_way
async def test_a_call_is_a_span_at_the_client_above_one_at_the_server(instrumented: Capture, connected: Way) -> None:
    async with connected(weather_server()) as session:
        result = await session.call_tool("weather", {"city": "Rome"})
    assert [block.text for block in result.content] == ["sunny in Rome"]
    assert tree(instrumented) == ["tools/call weather", "  tools/call weather"]
    for span in sides(instrumented, "weather"):
        attributes = dict(span.attributes or {})
        assert attributes.pop("mcp.protocol.version", "") >= ("" if FIRST else "2025")
        assert attributes.pop("mcp.session.id", None) or True
        assert attributes.pop("jsonrpc.request.id").isdigit()
        assert attributes == {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "weather",
            "gen_ai.tool.call.arguments": '{"city":"Rome"}',
            "gen_ai.tool.call.result": "sunny in Rome",
            "mcp.method.name": "tools/call",
            "openinference.span.kind": "TOOL",
            "tool.name": "weather",
        }
        assert span.status.status_code is StatusCode.UNSET


@each_way
async def test_parallel_calls_of_a_session_are_each_above_their_own(instrumented: Capture, connected: Way) -> None:
    cities = [f"city {number}" for number in range(30)]
    async with connected(weather_server()) as session:
        results = await asyncio.gather(*(session.call_tool("weather", {"city": city}) for city in cities))
    assert [result.content[0].text for result in results] == [f"sunny in {city}" for city in cities]
    assert len(instrumented.spans) == 60
    assert traces(instrumented) == 30
    clients = {span.context.span_id: span for span in instrumented.spans if span.kind is SpanKind.CLIENT}
    for span in instrumented.spans:
        if span.kind is SpanKind.SERVER:
            above = clients.pop(span.parent.span_id)
            assert above.attributes["gen_ai.tool.call.arguments"] == span.attributes["gen_ai.tool.call.arguments"]
    assert clients == {}


@each_way
async def test_a_tool_that_fails_has_failed_on_both_sides_and_the_server_says_by_what(
    instrumented: Capture, connected: Way
) -> None:
    async with connected(weather_server()) as session:
        result = await session.call_tool("broken", {"city": "Rome"})
    assert field(result, "isError", "is_error") is True
    client, server = sides(instrumented, "broken")
    assert client.attributes["error.type"] == "tool_error"
    assert client.attributes["gen_ai.tool.call.result"] == result.content[0].text
    assert server.attributes["error.type"] == "LookupError"
    assert server.status.description == "no station in Rome"
    assert instrumented.record(server).result.is_error is True


@each_way
async def test_structured_content_that_says_more_is_recorded_beside_the_text(
    instrumented: Capture, connected: Way
) -> None:
    async with connected(weather_server()) as session:
        result = await session.call_tool("forecast", {"city": "Rome"})
    said = {"city": "Rome", "days": [{"sun": True}, {"sun": False}]}
    assert json.loads(result.content[0].text) == said
    for span in sides(instrumented, "forecast"):
        assert json.loads(span.attributes["gen_ai.tool.call.result"]) == said


@each_way
async def test_images_and_resources_are_recorded_as_they_came(instrumented: Capture, connected: Way) -> None:
    server = Server("pictures")
    types = __import__("mcp.types" if FIRST else "mcp_types", fromlist=["ImageContent"])
    data = base64.b64encode(PIXEL).decode()

    @server.tool()
    def picture() -> Any:
        "Show."
        named = {"uri": "memo://1", "text": "a memo", "mimeType": "text/plain"}
        return [
            types.ImageContent.model_validate({"type": "image", "data": data, "mimeType": "image/png"}),
            types.EmbeddedResource.model_validate({"type": "resource", "resource": named}),
        ]

    async with connected(server) as session:
        result = await session.call_tool("picture", {})
    shown = [block.model_dump(by_alias=True, mode="json", exclude_none=True) for block in result.content]
    assert [block["type"] for block in shown] == ["image", "resource"]
    for span in sides(instrumented, "picture"):
        assert json.loads(span.attributes["gen_ai.tool.call.result"]) == shown


async def test_results_and_messages_are_what_they_are_without_us(capture: Capture) -> None:
    async def results() -> tuple[list[Any], list[Any]]:
        sent: list[Any] = []
        async with in_memory(weather_server(), lambda message: sent.append(plain(message))) as session:
            found = [
                (await session.call_tool(name, {"city": "Rome"})).model_dump()
                for name in ("weather", "forecast", "broken", "unknown")
            ]
            found.append((await session.list_tools()).model_dump())
        return found, sent

    def plain(message: Any) -> Any:
        return message.message.model_dump(by_alias=True, mode="json", exclude_unset=True)

    def without_trace(sent: list[Any]) -> list[Any]:
        for message in sent:
            params = message.get("params") or {}
            meta = params.get("_meta", {})
            assert not meta or len(meta.pop("traceparent")) == 55
            if not meta:
                params.pop("_meta", None)
            if not params:
                message.pop("params", None)
        return sent

    bare = await results()
    with at_work(capture, MCPInstrumentor):
        ours = await results()
    assert ours[0] == bare[0]
    assert without_trace(ours[1]) == without_trace(bare[1])


@each_way
async def test_what_is_no_call_of_a_tool_has_no_span_of_ours(instrumented: Capture, connected: Way) -> None:
    server = weather_server()

    @server.resource("memo://one")
    def memo() -> str:
        return "a memo"

    @server.prompt()
    def greeting() -> str:
        return "Hello"

    async with connected(server) as session:
        await session.list_tools()
        await session.send_ping()
        read = await session.read_resource(__import__("pydantic").AnyUrl("memo://one") if FIRST else "memo://one")
        assert read.contents[0].text == "a memo"
        assert (await session.get_prompt("greeting")).messages[0].content.text == "Hello"
    assert instrumented.spans == ()


@each_way
async def test_a_cancelled_call_is_cancelled_on_both_sides_and_the_session_goes_on(
    instrumented: Capture, connected: Way
) -> None:
    server, began, over = weather_server(), anyio.Event(), []

    @server.tool()
    async def slow() -> str:
        "Take for ever."
        began_there()
        try:
            await anyio.sleep_forever()
        finally:
            over.append(True)
        return "never"

    loop = asyncio.get_running_loop()
    began_there = lambda: loop.call_soon_threadsafe(began.set)  # noqa: E731 - one line, for another thread

    async with connected(server) as session:
        call = asyncio.ensure_future(session.call_tool("slow", {}))
        await began.wait()
        if FIRST:
            await cancel_first(session)
        call.cancel()
        with pytest.raises((asyncio.CancelledError, MCPError)):
            await call
        assert (await session.call_tool("weather", {"city": "Rome"})).content[0].text == "sunny in Rome"
    assert over == [True]
    for span in sides(instrumented, "slow"):
        assert instrumented.record(span).incomplete == "cancelled" or FIRST
    sides(instrumented, "weather")


async def cancel_first(session: Any) -> None:
    """Tell the server: the first generation of the SDK does not do so by itself."""
    from mcp import types

    params = types.CancelledNotificationParams(requestId=session._request_id - 1, reason="enough")
    await session.send_notification(
        types.ClientNotification(types.CancelledNotification(method="notifications/cancelled", params=params))
    )


@each_way
async def test_a_call_that_takes_too_long_fails_as_the_sdk_has_it(instrumented: Capture, connected: Way) -> None:
    server, release = weather_server(), []

    @server.tool()
    async def slow() -> str:
        "Take long."
        while not release:
            await asyncio.sleep(0.01)
        return "late"

    async with connected(server) as session:
        with pytest.raises(MCPError, match=r"[Tt]imed out") as failure:
            await session.call_tool("slow", {}, seconds(0.05))
        release.append(True)
        with anyio.fail_after(20):
            while len(instrumented.spans) < 2:  # the server goes on, whoever waits
                await anyio.sleep(0.01)
    client, _ = sides(instrumented, "slow")
    assert client.status.status_code is StatusCode.ERROR
    assert client.attributes["rpc.response.status_code"] == str(failure.value.error.code)
    assert client.attributes["error.type"].endswith(type(failure.value).__name__)


@each_way
async def test_progress_comes_as_it_did(instrumented: Capture, connected: Way) -> None:
    server, seen = Server("steps"), []

    async def steps(context: Any) -> str:
        "Go on."
        for step in range(3):
            await context.report_progress(step, 3)
        return "done"

    if FIRST:
        from mcp.server.fastmcp import Context
    else:
        from mcp.server.mcpserver import Context
    steps.__annotations__["context"] = Context
    server.tool()(steps)

    async def progress(done: float, total: float | None, message: str | None) -> None:
        seen.append(done)

    async with connected(server) as session:
        await session.call_tool("steps", {}, progress_callback=progress)
        with anyio.move_on_after(0.1) if FIRST else anyio.fail_after(20):
            while len(seen) < 3:
                await anyio.sleep(0.01)
    assert set(seen) <= {0, 1, 2}
    assert FIRST or len(seen) == 3  # over HTTP the oldest lose some, with nothing of ours at work too
    assert tree(instrumented) == ["tools/call steps", "  tools/call steps"]


async def test_what_the_client_does_for_the_server_is_beneath_the_servers_span(instrumented: Capture) -> None:
    server = Server("asks")
    types = __import__("mcp.types" if FIRST else "mcp_types", fromlist=["SamplingMessage"])

    async def ask(context: Any) -> str:
        "Ask the model of the client."
        said = types.SamplingMessage(role="user", content=types.TextContent(type="text", text="Sky?"))
        answer = await context.session.create_message([said], max_tokens=5)
        return answer.content.text

    if FIRST:
        from mcp.server.fastmcp import Context
    else:
        from mcp.server.mcpserver import Context
    ask.__annotations__["context"] = Context
    server.tool()(ask)

    async def sampling(context: Any, params: Any) -> Any:
        with instrumented.tracer().start_as_current_span("model"):
            text = types.TextContent(type="text", text="Blue.")
            return types.CreateMessageResult(role="assistant", content=text, model="m")

    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SDK 2 has deprecated that servers ask for a model
        async with in_memory(server, sampling_callback=sampling) as session:
            result = await session.call_tool("ask", {})
    assert result.content[0].text == "Blue."
    assert tree(instrumented) == ["tools/call ask", "  tools/call ask", "    model"]


async def test_a_server_that_dies_fails_the_call(instrumented: Capture, tmp_path: Path) -> None:
    program = tmp_path / "server.py"
    generation = "fastmcp import FastMCP" if FIRST else "mcpserver import MCPServer"
    program.write_text(
        f"import os\nfrom mcp.server.{generation} as Server\nserver = Server('s')\n\n"
        "@server.tool()\ndef die() -> str:\n    'Die.'\n    os._exit(3)\n\nserver.run('stdio')\n"
    )
    async with over_stdio(program) as session:
        with pytest.raises(MCPError, match="Connection closed"):
            await session.call_tool("die", {})
    span = named(instrumented, "tools/call die")
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["rpc.response.status_code"] == "-32000"


@newer
async def test_the_sdks_own_spans_of_calls_of_tools_stand_down_and_no_others(
    instrumented: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp.shared._otel._tracer", instrumented.provider.get_tracer("mcp-python-sdk"))
    async with in_memory(weather_server()) as session:
        instrumented.clear()
        await session.call_tool("weather", {"city": "Rome"})
    scopes = [
        (span.name, span.kind.name, span.instrumentation_scope.name)
        for span in instrumented.spans
        if "notifications" not in span.name
    ]
    assert sorted(scopes) == [
        ("MCP send tools/list", "CLIENT", "mcp-python-sdk"),
        ("tools/call weather", "CLIENT", "spanrelay_mcp"),
        ("tools/call weather", "SERVER", "spanrelay_mcp"),
        ("tools/list", "SERVER", "mcp-python-sdk"),
    ]
    client, server = sides(instrumented, "weather")
    assert server.parent.span_id == client.context.span_id


@newer
async def test_the_sdks_client_in_memory_is_recorded_too(instrumented: Capture) -> None:
    from mcp import Client

    async with Client(weather_server()) as client:
        result = await client.call_tool("weather", {"city": "Rome"})
    assert result.structured_content == {"result": "sunny in Rome"}
    assert tree(instrumented) == ["tools/call weather", "  tools/call weather"]


async def test_the_span_of_a_web_server_that_belongs_elsewhere_is_a_link(instrumented: Capture) -> None:
    asked = trace.NonRecordingSpan(
        trace.SpanContext(7, 8, is_remote=True, trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED))
    )

    from spanrelay_mcp.calls import carried

    with instrumented.tracer().start_as_current_span("POST /mcp") as around:
        context, link = carried({"traceparent": "00-" + "0" * 31 + "7-" + "0" * 15 + "8-01", "other": 3})
    assert trace.get_current_span(context).get_span_context() == asked.get_span_context()
    assert link == around.get_span_context()


async def test_an_sdk_that_is_put_back_is_as_it_was(capture: Capture) -> None:
    with at_work(capture, MCPInstrumentor):
        pass
    async with in_memory(weather_server()) as session:
        await session.call_tool("weather", {"city": "Rome"})
    assert capture.spans == ()
