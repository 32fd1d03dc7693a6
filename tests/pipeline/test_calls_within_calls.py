"""A framework's call over a provider's: one model call, one span, policy once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import openai
import pytest

from spanrelay import GuardrailRejected, guardrail, request_intercept, run_tool, scope, use
from spanrelay.codecs import openai_chat
from spanrelay.instrumentation.patching import is_patched
from spanrelay.pipeline.driver import arun, run
from spanrelay.pipeline.managed import AsyncModelBoundary, ModelBoundary
from spanrelay.pipeline.model import ModelCall, open_for
from spanrelay.records import SpanRecord
from spanrelay.tracing import Start, default_tracing
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.capture import Capture, asked, said
from spanrelay_testkit.exchange import Usage, reply
from spanrelay_testkit.model_server import ModelServer

QUESTION: Any = [{"role": "user", "content": "Which colour has the sky?"}]
FRAMEWORKS = {"model": "gpt-5", "messages": [{"role": "user", "content": "as the framework puts it"}]}


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer(lambda request: reply("Blue.", usage=Usage(11, 3))) as server:
        yield server


@pytest.fixture
def instrumented(capture: Capture) -> Iterator[Capture]:
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    yield capture
    instrumentor.uninstrument()


@pytest.fixture(scope="module")
def client(server: ModelServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url, api_key="none")


def framework(function: Callable[[Any], Any], *, delegates: bool = True, kind: Any = "llm") -> ModelCall:
    """A call as a framework's instrumentor makes it: its span is lent to the provider beneath."""
    call = ModelCall(
        openai_chat, FRAMEWORKS, ModelBoundary(function, stream=False), default_tracing(), provider="any", kind=kind
    )
    call.lends, call.exempt = True, delegates
    return call


def ask(client: openai.OpenAI, **options: Any) -> Any:
    return client.chat.completions.create(model="gpt-5-mini", messages=QUESTION, **options)


def answer(response: Any) -> Any:
    return {"choices": [{"index": 0, "message": {"role": "assistant", "content": f"wrapped: {response}"}}]}


def test_the_provider_fills_the_span_of_the_framework(instrumented: Capture, client: openai.OpenAI) -> None:
    run(framework(lambda wire: answer(ask(client).choices[0].message.content)))
    span = instrumented.span
    attributes = span.attributes or {}
    assert (asked(span), said(span)) == (QUESTION[0]["content"], "Blue.")
    assert attributes["gen_ai.usage.input_tokens"] == 11
    assert attributes["gen_ai.provider.name"] == "openai"
    assert attributes["gen_ai.request.model"] == "gpt-5-mini"


async def test_so_it_does_where_both_are_async(instrumented: Capture, server: ModelServer) -> None:
    async def go(wire: Any) -> Any:
        async with openai.AsyncOpenAI(base_url=server.url, api_key="none") as client:
            return (await client.chat.completions.create(model="m", messages=QUESTION)).model_dump()

    call = framework(lambda wire: None)
    call.boundary = AsyncModelBoundary(go, stream=False)
    await arun(call)
    assert said(instrumented.span) == "Blue."


def test_a_stream_beneath_fills_it_too(instrumented: Capture, client: openai.OpenAI) -> None:
    run(framework(lambda wire: answer(len(list(ask(client, stream=True))))))
    assert said(instrumented.span) == "Blue."
    assert (instrumented.span.attributes or {})["gen_ai.response.time_to_first_chunk"] > 0


def test_a_second_call_beneath_has_a_span_of_its_own(instrumented: Capture, client: openai.OpenAI) -> None:
    def twice(wire: Any) -> Any:
        ask(client)
        return answer(ask(client).choices[0].message.content)

    run(framework(twice))
    second, first = instrumented.spans
    assert second.parent is not None and first.context is not None
    assert second.parent.span_id == first.context.span_id
    assert [said(first), said(second)] == ["Blue.", "Blue."]


def test_a_framework_that_asks_nobody_records_its_own_words(instrumented: Capture) -> None:
    run(framework(lambda wire: answer("from memory")))
    assert (asked(instrumented.span), said(instrumented.span)) == ("as the framework puts it", "wrapped: from memory")


def test_a_provider_that_fails_leaves_the_frameworks_words(instrumented: Capture) -> None:
    broken = openai.OpenAI(base_url="http://127.0.0.1:1", api_key="none", max_retries=0)

    def recovers(wire: Any) -> Any:
        with pytest.raises(openai.APIConnectionError):
            ask(broken)
        return answer("without it")

    run(framework(recovers))
    assert said(instrumented.span) == "wrapped: without it"
    assert instrumented.span.status.status_code.name == "UNSET"


def test_a_call_of_another_kind_beneath_is_another_call(instrumented: Capture, client: openai.OpenAI) -> None:
    run(framework(lambda wire: answer(ask(client).id), kind="embedder"))
    assert len(instrumented.spans) == 2


def test_a_call_from_a_tool_beneath_is_another_call(instrumented: Capture, client: openai.OpenAI) -> None:
    run(framework(lambda wire: answer(run_tool("ask", lambda: ask(client).id))))
    assert len(instrumented.spans) == 3


@pytest.mark.parametrize("delegates", [True, False], ids=["at the provider", "at the framework"])
def test_policy_runs_once(instrumented: Capture, client: openai.OpenAI, server: ModelServer, delegates: bool) -> None:
    seen: list[str] = []

    @request_intercept
    def other_model(call: Any) -> Any:
        seen.append(call.request.model)
        return replace(call.request, model="gpt-5-nano")

    with use(other_model):
        run(framework(lambda wire: answer(ask(client).id), delegates=delegates))
    assert seen == (["gpt-5-mini"] if delegates else ["gpt-5"])
    assert server.requests[-1].body["model"] == ("gpt-5-nano" if delegates else "gpt-5-mini")


@pytest.mark.parametrize("delegates", [True, False], ids=["at the provider", "at the framework"])
def test_a_refusal_leaves_one_span_and_nothing_is_sent(
    instrumented: Capture, client: openai.OpenAI, server: ModelServer, delegates: bool
) -> None:
    @guardrail
    def never(call: Any) -> str:
        return "no"

    before = len(server.requests)
    with use(never), pytest.raises(GuardrailRejected):
        run(framework(lambda wire: answer(ask(client).id), delegates=delegates))
    assert len(server.requests) == before
    verdict, call = instrumented.spans
    assert verdict.parent is not None and call.context is not None
    assert verdict.parent.span_id == call.context.span_id
    assert call.status.description == "guardrail 'never' refused the call: no"


def test_calls_at_the_same_time_do_not_mix(instrumented: Capture, client: openai.OpenAI) -> None:
    async def one(number: int) -> None:
        with scope(f"run {number}", "chain"):
            await asyncio.to_thread(run, framework(lambda wire: answer(ask(client).id)))

    async def all_of_them() -> None:
        await asyncio.gather(*(one(number) for number in range(8)))

    asyncio.run(all_of_them())
    calls = [span for span in instrumented.spans if span.name.startswith("chat")]
    runs = {span.context.span_id for span in instrumented.spans if span.context and span.name.startswith("run")}
    assert len(calls) == 8
    assert {span.parent.span_id for span in calls if span.parent} == runs


@pytest.mark.parametrize("outer", [True, False], ids=["below the outer framework", "at the outer framework"])
@pytest.mark.parametrize("inner", [True, False], ids=["below the inner framework", "at the inner framework"])
def test_a_framework_over_a_framework_is_one_span_and_policy_runs_once(
    instrumented: Capture, client: openai.OpenAI, outer: bool, inner: bool
) -> None:
    seen: list[str] = []

    @request_intercept
    def look(call: Any) -> None:
        seen.append(call.request.model)

    def below(wire: Any) -> Any:
        start = Start(SpanRecord(0, 0, name="inner", kind="llm"))
        opened = open_for(default_tracing(), start, "llm")
        boundary = ModelBoundary(lambda wire: answer(ask(client).id), stream=False)
        call = ModelCall(openai_chat, FRAMEWORKS, boundary, default_tracing(), provider="any", opened=opened)
        call.lends, call.exempt = True, call.exempt or inner
        return run(call)

    with use(look):
        run(framework(below, delegates=outer))
    assert seen == (["gpt-5-mini"] if outer and inner else ["gpt-5"])
    assert said(instrumented.span) == "Blue."


def test_of_a_stream_that_breaks_beneath_what_had_come_is_kept(instrumented: Capture) -> None:
    def reads(wire: Any) -> Any:
        return answer("".join(chunk.choices[0].delta.content or "" for chunk in ask(client, stream=True)))

    with ModelServer(lambda request: reply("Blue as the sea.", cut_after=4)) as server:
        client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
        with pytest.raises(openai.APIConnectionError):
            run(framework(reads))
    assert said(instrumented.span).startswith("Blue")


def test_a_patched_client_is_known(instrumented: Capture) -> None:
    assert is_patched(openai.OpenAI, "request")
    assert is_patched(openai.AsyncAzureOpenAI, "request")
    assert not is_patched(openai.OpenAI, "post")
    OpenAIInstrumentor().uninstrument()
    assert not is_patched(openai.OpenAI, "request")
