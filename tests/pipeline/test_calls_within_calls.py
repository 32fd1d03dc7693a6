"""A framework's call over a provider's: one model call, one span, policy once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
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
    # What the framework says of itself is judged where nobody else can, and what is sent where it is sent.
    assert seen == (["gpt-5-mini"] if delegates else ["gpt-5", "gpt-5-mini"])
    assert server.requests[-1].body["model"] == "gpt-5-nano"


@pytest.mark.parametrize("delegates", [True, False], ids=["at the provider", "at the framework"])
def test_policy_runs_once_for_what_is_the_same_at_both(
    instrumented: Capture, client: openai.OpenAI, delegates: bool
) -> None:
    seen: list[str] = []

    @guardrail
    def look(call: Any) -> None:
        seen.append(call.request.model)

    def same(wire: Any) -> Any:
        return answer(client.chat.completions.create(model=wire["model"], messages=QUESTION, stream_options=None).id)

    with use(look):
        run(framework(same, delegates=delegates))
    assert seen == ["gpt-5"]


TOOL: Any = {"type": "function", "function": {"name": "delete_all", "parameters": {}}}
OTHERWISE: dict[str, dict[str, Any]] = {
    "another model": {"model": "gpt-5-mini"},
    "a tool": {"tools": [TOOL]},
    "a function in the old form": {"functions": [TOOL["function"]]},
    "a tool that the provider runs": {"web_search_options": {}},
    "another parameter": {"max_tokens": 100_000},
    "a parameter that no record knows": {"extra_body": {"x_budget": "none"}},
}


@pytest.mark.parametrize("more", OTHERWISE.values(), ids=OTHERWISE)
def test_what_a_framework_did_not_say_is_judged_where_it_is_sent(
    instrumented: Capture, client: openai.OpenAI, server: ModelServer, more: dict[str, Any]
) -> None:
    judged: list[Any] = []

    @guardrail
    def only_once(call: Any) -> str | None:
        judged.append(call.outgoing())
        return "this was not said" if len(judged) > 1 else None

    def otherwise(wire: Any) -> Any:
        return answer(client.chat.completions.create(**{"model": "gpt-5", "messages": QUESTION, **more}).id)

    before = len(server.requests)
    with use(only_once), pytest.raises(GuardrailRejected):
        run(framework(otherwise, delegates=False))
    assert len(server.requests) == before
    assert {key for key in judged[1] if judged[1][key] != judged[0].get(key)} > {"messages"}
    assert len([span for span in instrumented.spans if span.name.startswith("chat")]) == 1


def test_tools_that_an_item_of_the_input_offers_are_judged_where_they_are_sent(
    instrumented: Capture, client: openai.OpenAI
) -> None:
    seen: list[Any] = []

    @guardrail
    def look(call: Any) -> None:
        seen.append(call.outgoing().get("input"))

    items: Any = [{"type": "additional_tools", "role": "developer", "tools": [{"type": "web_search"}]}]
    with use(look):
        run(framework(lambda wire: answer(client.responses.create(model="gpt-5", input=items).id), delegates=False))
    assert seen == [None, items]


def test_objects_that_cannot_be_compared_are_judged_where_they_are_sent(
    instrumented: Capture, client: openai.OpenAI
) -> None:
    class Incomparable(str):
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            raise ValueError("compare my items instead")

    seen: list[str] = []

    def create(model: str) -> Any:
        return client.chat.completions.create(model=model, messages=QUESTION)

    @guardrail
    def look(call: Any) -> None:
        seen.append(call.request.model)

    with use(look):
        run(framework(lambda wire: answer(create(Incomparable("gpt-5")).id), delegates=False))
    assert seen == ["gpt-5", "gpt-5"]


def test_the_first_call_beneath_is_judged_on_whatever_thread_it_is_made(
    instrumented: Capture, client: openai.OpenAI
) -> None:
    seen: list[str] = []

    @guardrail
    def look(call: Any) -> None:
        seen.append(call.request.model)

    def elsewhere(wire: Any) -> Any:
        with ThreadPoolExecutor(1) as pool:
            return answer(pool.submit(copy_context().run, ask, client).result().id)

    with use(look):
        run(framework(elsewhere, delegates=False))
    assert seen == ["gpt-5", "gpt-5-mini"]


def test_two_threads_at_once_do_not_both_fill_the_span(instrumented: Capture, client: openai.OpenAI) -> None:
    ready = threading.Barrier(2)

    def asked_at_once() -> Any:
        ready.wait()
        return ask(client).id

    def both(wire: Any) -> Any:
        with ThreadPoolExecutor(2) as pool:
            futures = [pool.submit(copy_context().run, asked_at_once) for _ in range(2)]
            return answer([future.result() for future in futures])

    run(framework(both))
    assert len(instrumented.spans) == 2
    assert all(said(span) == "Blue." for span in instrumented.spans)


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
    # Each that does not leave it to somebody beneath, where it says something else; and what is sent.
    assert seen == ([] if outer and inner else ["gpt-5"]) + ["gpt-5-mini"]
    assert said(instrumented.span) == "Blue."


def test_of_a_stream_that_breaks_beneath_what_had_come_is_kept(instrumented: Capture) -> None:
    def reads(wire: Any) -> Any:
        return answer("".join(chunk.choices[0].delta.content or "" for chunk in ask(client, stream=True)))

    with (
        ModelServer(lambda request: reply("Blue as the sea.", cut_after=4)) as server,
        openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as client,
        pytest.raises(openai.APIConnectionError),
    ):
        run(framework(reads))
    assert said(instrumented.span).startswith("Blue")


def test_a_patched_client_is_known(instrumented: Capture) -> None:
    assert is_patched(openai.OpenAI, "request")
    assert is_patched(openai.AsyncAzureOpenAI, "request")
    assert not is_patched(openai.OpenAI, "post")
    OpenAIInstrumentor().uninstrument()
    assert not is_patched(openai.OpenAI, "request")
