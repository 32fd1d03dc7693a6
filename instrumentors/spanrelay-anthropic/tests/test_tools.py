"""Tools that the SDK's runner runs in the program are calls of tools: recorded once each, and under policy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import beta_async_tool, beta_tool
from anthropic.lib.tools import BetaAsyncBuiltinFunctionTool, BetaBuiltinFunctionTool
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import spanrelay
from spanrelay.records import SpanRecord, ToolResult
from spanrelay_anthropic import AnthropicInstrumentor
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.exchange import Request, reply, tool_call
from spanrelay_testkit.half import Half
from spanrelay_testkit.model_server import ModelServer

MODEL = "claude-sonnet-5"
HALVES = pytest.mark.parametrize("half", [Half(asynchronous=False), Half(asynchronous=True)], ids=["sync", "async"])
rung: list[int] = []


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    rung.clear()
    yield


def ring_of(half: Half) -> Any:
    """A tool that rings so many times."""

    def ring(times: int) -> str:
        """Ring the bell."""
        rung.append(times)
        if times < 0:
            raise ValueError("no such number")
        return f"rang {times} times"

    async def aring(times: int) -> str:
        """Ring the bell."""
        return ring(times)

    aring.__name__ = "ring"
    return beta_async_tool(aring) if half.asynchronous else beta_tool(ring)


class Bash(BetaBuiltinFunctionTool):
    """A tool that is a class of the program's."""

    def to_dict(self) -> Any:
        return {"type": "bash_20250124", "name": "bash"}

    def call(self, input: Any) -> str:
        rung.append(1)
        return f"ran {input['command']}"


class AsyncBash(BetaAsyncBuiltinFunctionTool):
    """The same, awaited."""

    def to_dict(self) -> Any:
        return {"type": "bash_20250124", "name": "bash"}

    async def call(self, input: Any) -> str:
        rung.append(1)
        return f"ran {input['command']}"


def twice(request: Request) -> Any:
    """Ask for two rings and say what they gave."""
    if isinstance(request.body["messages"][-1]["content"], list):  # a runner may send only what is new
        return reply("Done.")
    return reply(
        "So be it.", tool_calls=[tool_call("ring", times=2, id="toolu_a"), tool_call("ring", times=-1, id="toolu_b")]
    )


async def run(half: Half, server: ModelServer, *tools: Any, stream: bool = False, **options: Any) -> Any:
    """Run the runner to its end and return its last message."""
    kind: Any = anthropic.AsyncAnthropic if half.asynchronous else anthropic.Anthropic
    client = kind(base_url=server.address, api_key="none", max_retries=0, **options)
    messages: Any = [{"role": "user", "content": "ring"}]
    try:
        runner = client.beta.messages.tool_runner(
            model=MODEL, max_tokens=99, messages=messages, tools=list(tools), stream=stream
        )
        last: Any = None
        async for step in half.each(runner):
            last = await half.settle(step.get_final_message()) if stream else step
        return last
    finally:
        await half.close(client)


def tool_spans(capture: Capture) -> list[SpanRecord]:
    return [record for span in capture.spans if (record := capture.record(span)).kind == "tool"]


@HALVES
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_each_tool_that_is_run_is_one_call_with_what_it_was_given_and_gave(
    half: Half, stream: bool, instrumented: Capture
) -> None:
    with ModelServer(twice) as server:
        last = await run(half, server, ring_of(half), stream=stream)
    assert last.content[0].text == "Done."
    rang, failed = tool_spans(instrumented)
    assert rang.tool is not None and failed.tool is not None and rang.result is not None and failed.error is not None
    assert (rang.tool.name, rang.tool.call_id, rang.tool.arguments) == ("ring", "toolu_a", {"times": 2})
    assert (rang.tool.description, rang.result.content) == ("Ring the bell.", "rang 2 times")
    assert (failed.tool.call_id, failed.error.type) == ("toolu_b", "ValueError")
    [_, second] = server.requests
    results = second.body["messages"][-1]["content"]
    assert [result["content"] for result in results] == ["rang 2 times", "ValueError('no such number')"]


@HALVES
async def test_a_tool_that_is_a_class_of_the_programs_is_a_call_too(half: Half, instrumented: Capture) -> None:
    answers = [reply(tool_calls=[tool_call("bash", command="ls")]), reply("Done.")]
    with ModelServer(answers) as server:
        await run(half, server, AsyncBash() if half.asynchronous else Bash())
    [ran] = tool_spans(instrumented)
    assert ran.tool is not None and ran.result is not None
    assert (ran.tool.name, ran.tool.arguments, ran.result.content) == ("bash", {"command": "ls"}, "ran ls")


@HALVES
async def test_a_refused_tool_does_not_run_and_the_refusal_is_raised_out_of_the_runner(
    half: Half, instrumented: Capture
) -> None:
    @spanrelay.guardrail(kinds=["tool"])
    def quiet(call: Any) -> str | None:
        return "too loud" if call.request.arguments["times"] > 1 else None

    refused = pytest.raises(spanrelay.GuardrailRejected, match="too loud")
    with ModelServer(twice) as server, spanrelay.use(quiet), refused:
        await run(half, server, ring_of(half))
    assert rung == []
    assert len(server.requests) == 1


@HALVES
async def test_policy_changes_what_a_tool_is_given_and_answers_in_its_place(half: Half, instrumented: Capture) -> None:
    @spanrelay.request_intercept(kinds=["tool"])
    def softly(call: Any) -> None:
        call.request.arguments = {"times": 1}

    @spanrelay.execution_intercept(kinds=["tool"])
    def instead(call: Any) -> Any:
        if call.request.call_id == "toolu_b":
            return ToolResult("never")
        return (yield call).record

    with ModelServer(twice) as server, spanrelay.use(softly), spanrelay.use(instead):
        await run(half, server, ring_of(half))
    assert rung == [1]
    results = server.requests[1].body["messages"][-1]["content"]
    assert [result["content"] for result in results] == ["rang 1 times", "never"]


@HALVES
async def test_a_tool_that_the_program_calls_itself_is_a_call_without_an_id(half: Half, instrumented: Capture) -> None:
    assert await half.settle(ring_of(half).call({"times": 3})) == "rang 3 times"
    [rang] = tool_spans(instrumented)
    assert rang.tool is not None
    assert (rang.tool.call_id, rang.tool.arguments) == (None, {"times": 3})


@HALVES
async def test_the_sdks_own_span_of_a_tool_stands_aside_and_that_of_the_loop_stays(half: Half) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    settings = spanrelay.Settings(trajectories="off", metrics=False, quiet=True)
    runtime = spanrelay.activate(settings, tracer_provider=provider, instrument=False)
    assert runtime is not None
    AnthropicInstrumentor().instrument()
    try:
        with ModelServer(twice) as server:
            await run(half, server, ring_of(half), open_telemetry={"tracer_provider": provider})
    finally:
        AnthropicInstrumentor().uninstrument()
        runtime.shutdown()
    spans = exporter.get_finished_spans()
    loop = spans[-1]
    assert loop.context is not None
    assert sorted(span.name for span in spans) == [
        "anthropic.messages.tool_runner",
        *[f"chat {MODEL}"] * 2,
        *["execute_tool ring"] * 2,
    ]
    assert {span.parent.span_id for span in spans[:-1] if span.parent is not None} == {loop.context.span_id}
