"""A call of LangChain's chat model for Anthropic is one span, with what went over the wire, and judged there once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool

import spanrelay
from spanrelay.plugins.plugin import Context
from spanrelay.plugins.prompt_cache import PromptCacheConfig, PromptCachePlugin
from spanrelay_anthropic import AnthropicInstrumentor
from spanrelay_langchain import LangChainInstrumentor
from spanrelay_testkit.capture import Capture, asked, at_work, said
from spanrelay_testkit.exchange import Usage, error, reply, tool_call
from spanrelay_testkit.half import Half
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.prompt_caching import CachingProvider

MODEL = "claude-sonnet-5"
HALVES = pytest.mark.parametrize("half", [Half(asynchronous=False), Half(asynchronous=True)], ids=["sync", "async"])


@pytest.fixture
def instrumented(capture: Capture, caplog: pytest.LogCaptureFixture) -> Iterator[Capture]:
    with at_work(capture, AnthropicInstrumentor, LangChainInstrumentor, log=caplog):
        yield capture


def model_of(server: ModelServer, **options: Any) -> ChatAnthropic:
    given: dict[str, Any] = {"max_retries": 0, "max_tokens": 99, **options}
    return ChatAnthropic(model_name=MODEL, base_url=server.address, api_key="none", **given)


@tool
def ring(times: int) -> str:
    """Ring the bell."""
    return f"rang {times} times"


async def text_of(half: Half, model: Any, question: Any, *, stream: bool) -> str:
    if not stream:
        answer = await (model.ainvoke(question) if half.asynchronous else half.settle(model.invoke(question)))
        return answer.text
    chunks = model.astream(question) if half.asynchronous else model.stream(question)
    return "".join([chunk.text async for chunk in half.each(chunks)])


@HALVES
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_one_call_is_one_span_with_the_providers_counts(half: Half, stream: bool, instrumented: Capture) -> None:
    answer = reply("Blue.", reasoning="the sea", usage=Usage(100, 7, cached=90, reasoning=2))
    with ModelServer([answer]) as server:
        assert await text_of(half, model_of(server), "which colour?", stream=stream) == "Blue."
    attributes = dict(instrumented.span.attributes or {})
    assert (asked(instrumented.span), said(instrumented.span)) == ("which colour?", "Blue.")
    assert attributes["gen_ai.provider.name"] == "anthropic"
    assert attributes["gen_ai.usage.input_tokens"] == 100
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == 90
    assert attributes["gen_ai.response.finish_reasons"] == ("end_turn",)


@HALVES
async def test_calls_of_tools_and_their_results_are_those_of_the_wire(half: Half, instrumented: Capture) -> None:
    with ModelServer([reply(tool_calls=[tool_call("ring", times=2, id="toolu_1")]), reply("Done.")]) as server:
        model = model_of(server).bind_tools([ring])
        question: list[Any] = [HumanMessage("ring")]
        first = await (model.ainvoke(question) if half.asynchronous else half.settle(model.invoke(question)))
        result = await (
            ring.ainvoke(first.tool_calls[0]) if half.asynchronous else half.settle(ring.invoke(first.tool_calls[0]))
        )
        assert await text_of(half, model, [*question, first, result], stream=False) == "Done."
    records = [instrumented.record(span) for span in instrumented.spans]
    assert [record.kind for record in records] == ["llm", "tool", "llm"]
    asked_for = records[0].response
    assert asked_for is not None and records[1].tool is not None and records[2].request is not None
    [call] = asked_for.tool_calls
    assert (call.id, call.name, call.arguments) == ("toolu_1", "ring", {"times": 2})
    assert records[1].tool.call_id == "toolu_1"
    assert [message.role for message in records[2].request.messages] == ["user", "assistant", "tool"]


@HALVES
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_policy_runs_once_on_what_is_sent(half: Half, stream: bool, instrumented: Capture) -> None:
    seen: list[Any] = []

    @spanrelay.request_intercept(kinds=["llm"])
    def colder(call: Any) -> None:
        seen.append(call.wire["messages"])
        call.request.parameters["temperature"] = 0.1

    with ModelServer([reply("Blue.")]) as server, spanrelay.use(colder):
        await text_of(half, model_of(server), "which colour?", stream=stream)
    assert len(seen) == 1
    assert server.requests[0].get("temperature") == 0.1


@HALVES
async def test_a_refused_call_is_not_sent(half: Half, instrumented: Capture) -> None:
    no = spanrelay.guardrail(kinds=["llm"])(lambda call: "no")
    with ModelServer([]) as server, spanrelay.use(no), pytest.raises(spanrelay.GuardrailRejected):
        await text_of(half, model_of(server), "hi", stream=False)
    assert server.requests == []


@HALVES
async def test_a_failure_is_the_sdks_own_error_on_one_span(half: Half, instrumented: Capture) -> None:
    with ModelServer([error(429)]) as server, pytest.raises(Exception) as caught:
        await text_of(half, model_of(server), "hi", stream=False)
    attributes = dict(instrumented.span.attributes or {})
    assert attributes["error.type"] == f"{type(caught.value).__module__}.{type(caught.value).__qualname__}"
    assert attributes["http.response.status_code"] == 429


@HALVES
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_what_a_framework_sends_is_marked_where_it_is_sent(
    half: Half, stream: bool, instrumented: Capture
) -> None:
    """Policy judges at the framework's call, which knows nothing of marks."""
    context = Context(PromptCacheConfig(mode="apply"), "prompt_cache")
    PromptCachePlugin().register(context)
    cache = CachingProvider()
    judged: list[str] = []
    watch = spanrelay.guardrail(lambda call: judged.append(call.kind), name="watch")  # type: ignore[arg-type, func-returns-value] - it refuses nothing
    asking: list[Any] = [("system", "You answer briefly. " * 400), ("user", "hello")]
    with ModelServer(lambda request: reply("ok", usage=cache.ask(request.body, 0.0).usage())) as server:
        model = model_of(server)
        with spanrelay.use(watch):
            assert await text_of(half, model, asking, stream=stream) == "ok"
            asking += [("assistant", "ok"), ("user", "again")]
            assert await text_of(half, model, asking, stream=stream) == "ok"
    context.close()
    told = [dict(span.attributes or {}) for span in instrumented.spans if span.name.startswith("chat")]
    assert [each["spanrelay.prompt_cache.decision"] for each in told] == ["marked", "marked"]
    assert told[1]["spanrelay.prompt_cache.hit_ratio"] > 0.9
    assert judged == ["llm", "llm"]
