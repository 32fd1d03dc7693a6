"""Chat models: one model call is one span, whoever answers and however it is asked."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import HumanMessage
from langchain_core.outputs import ChatResult
from langchain_openai import ChatOpenAI
from opentelemetry import trace
from opentelemetry.context import get_current
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from pydantic import BaseModel

from spanrelay_langchain import LangChainInstrumentor
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.capture import Capture, asked, captured, said
from spanrelay_testkit.exchange import Usage, error, reply
from spanrelay_testkit.model_server import ModelServer

from .judged import ANSWER, QUESTION
from .ways import Fake, chat, each_stream, each_way, each_way_of_a_chain, fake


def attributes(span: Any) -> dict[str, Any]:
    return dict(span.attributes or {})


@contextlib.contextmanager
def at_work(capture: Capture, *instrumentors: Any) -> Generator[None]:
    for instrumentor in instrumentors:
        instrumentor.instrument(tracer_provider=capture.provider)
    try:
        yield
    finally:
        for instrumentor in instrumentors:
            instrumentor.uninstrument()


# --- one span ---


@each_way
def test_a_call_over_a_patched_sdk_is_one_span_which_the_provider_fills(
    ask: Any, instrumented: Capture, server: ModelServer
) -> None:
    assert ask(chat(server, stream_usage=True), QUESTION) == ANSWER
    span = instrumented.span
    assert (span.name, span.kind.name) == ("chat gpt-5", "CLIENT")
    assert (asked(span), said(span)) == (QUESTION, ANSWER)
    told = attributes(span)
    assert told["gen_ai.provider.name"] == "openai"
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (11, 3)
    assert told["gen_ai.response.id"].startswith("chatcmpl")
    assert "spanrelay.incomplete" not in told


@each_way
def test_a_model_that_nobody_patches_is_one_span(ask: Any, instrumented: Capture) -> None:
    assert ask(fake(), QUESTION) == ANSWER
    span = instrumented.span
    assert span.name == "chat fake-1"
    assert (asked(span), said(span)) == (QUESTION, ANSWER)
    assert attributes(span)["gen_ai.provider.name"] == "fake"
    assert "spanrelay.incomplete" not in attributes(span)


def test_what_a_model_says_of_its_answer_is_recorded(instrumented: Capture) -> None:
    fake().bind(stop=["END"], temperature=0.5, tools=[]).invoke([("system", "Be brief."), ("user", QUESTION)])
    told = attributes(instrumented.span)
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (7, 4)
    assert told["gen_ai.response.model"] == "fake-1-2026"
    assert told["gen_ai.request.temperature"] == 0.5
    assert told["gen_ai.request.stop_sequences"] == ("END",)
    assert asked(instrumented.span) == f"Be brief.{QUESTION}"


@pytest.mark.proves("langchain", "streaming")
@each_stream
def test_a_stream_says_when_its_first_chunk_came(ask: Any, instrumented: Capture, server: ModelServer) -> None:
    ask(chat(server), QUESTION)
    ask(fake(), QUESTION)
    for span in instrumented.spans:
        assert attributes(span)["gen_ai.response.time_to_first_chunk"] > 0
        assert attributes(span)["gen_ai.request.stream"] is True


@each_way
def test_users_see_what_they_see_without_us(ask: Any, capture: Capture, server: ModelServer) -> None:
    bare = ask(chat(server), QUESTION), ask(fake(), QUESTION)
    with at_work(capture, OpenAIInstrumentor(), LangChainInstrumentor()):
        assert (ask(chat(server), QUESTION), ask(fake(), QUESTION)) == bare
    assert server.requests[0].raw == server.requests[1].raw
    ask(chat(server), QUESTION)
    assert len(capture.spans) == 2


def test_a_model_whose_sdk_is_not_patched_is_recorded_at_langchain(capture: Capture, server: ModelServer) -> None:
    with at_work(capture, LangChainInstrumentor()):
        chat(server).invoke(QUESTION)
    told = attributes(capture.span)
    assert (asked(capture.span), said(capture.span)) == (QUESTION, ANSWER)
    assert (told["gen_ai.usage.input_tokens"], list(told["gen_ai.response.finish_reasons"])) == (11, ["stop"])
    assert told["gen_ai.response.id"].startswith("chatcmpl")


def test_the_span_is_current_while_the_model_works(instrumented: Capture) -> None:
    seen: list[int] = []

    class Curious(Fake):
        def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
            seen.append(trace.get_current_span().get_span_context().span_id)
            return super()._generate(*args, **kwargs)

    model = Curious()
    model.invoke(QUESTION)
    asyncio.run(model.ainvoke(QUESTION))
    assert seen == [span.context.span_id for span in instrumented.spans if span.context]


# --- numbers of calls ---


@pytest.fixture
def cache() -> Iterator[None]:
    set_llm_cache(InMemoryCache())
    yield
    set_llm_cache(None)


@pytest.mark.parametrize("ask", ["invoke", "ainvoke"])
def test_an_answer_from_the_cache_is_one_span_that_says_so(
    ask: str, instrumented: Capture, server: ModelServer, cache: None
) -> None:
    model = chat(server)
    for _ in range(2):
        if ask == "invoke":
            model.invoke(QUESTION)
        else:
            asyncio.run(model.ainvoke(QUESTION))
    first, second = instrumented.spans
    assert len(server.requests) == 1
    assert "spanrelay.answered_by" not in attributes(first)
    assert attributes(second)["spanrelay.answered_by"] == "langchain cache"
    assert (asked(second), said(second)) == (QUESTION, ANSWER)
    assert "gen_ai.usage.input_tokens" not in attributes(second)
    assert "gen_ai.response.id" not in attributes(second)


@each_way_of_a_chain
def test_a_fallback_is_a_span_of_its_own(ask: Any, instrumented: Capture, server: ModelServer) -> None:
    broken = ChatOpenAI(model="gpt-5-mini", base_url="http://127.0.0.1:1/v1", api_key="none", max_retries=0)
    assert ask(broken.with_fallbacks([chat(server)]), QUESTION) == ANSWER
    first, second, *run = instrumented.spans
    assert (first.name, first.status.status_code.name) == ("chat gpt-5-mini", "ERROR")
    assert (second.name, second.status.status_code.name) == ("chat gpt-5", "UNSET")
    assert first.parent == second.parent == (run[0].context if run else None)


class Router(BaseChatModel):
    """Asks two models for each question."""

    models: list[Any]

    @property
    def _llm_type(self) -> str:
        return "router"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        for model in self.models:
            result = model._generate_with_cache(messages)
        return result


def test_a_router_with_two_calls_is_two_spans(instrumented: Capture, server: ModelServer) -> None:
    Router(models=[chat(server), chat(server)]).invoke(QUESTION)
    assert len(server.requests) == 2
    inner, outer = instrumented.spans
    assert inner.parent is not None and outer.context is not None
    assert inner.parent.span_id == outer.context.span_id
    assert [attributes(span)["gen_ai.usage.input_tokens"] for span in instrumented.spans] == [11, 11]


def test_retries_of_a_chain_are_spans_of_their_own(instrumented: Capture) -> None:
    answers = iter([error(429), reply("Blue.")])
    with ModelServer(lambda request: next(answers)) as server:
        model = chat(server).with_retry(wait_exponential_jitter=False, stop_after_attempt=2)
        assert model.invoke(QUESTION).text == "Blue."
    *calls, run = instrumented.spans
    assert [span.status.status_code.name for span in calls] == ["ERROR", "UNSET"]
    assert [span.parent for span in calls] == [run.context, run.context]


def test_a_batch_is_one_span_for_each_question(instrumented: Capture, server: ModelServer) -> None:
    with instrumented.tracer().start_as_current_span("batch") as above:
        chat(server).batch([f"question {number}" for number in range(5)])
    calls = [span for span in instrumented.spans if span.name == "chat gpt-5"]
    assert sorted(map(asked, calls)) == [f"question {number}" for number in range(5)]
    assert {span.parent.span_id for span in calls if span.parent} == {above.get_span_context().span_id}


class Colour(BaseModel):
    """A colour."""

    colour: str


def test_structured_output_is_one_call_in_one_run(instrumented: Capture) -> None:
    with ModelServer(lambda request: reply('{"colour": "blue"}', usage=Usage(5, 2))) as server:
        assert chat(server).with_structured_output(Colour).invoke(QUESTION) == Colour(colour="blue")
    call, run = instrumented.spans
    assert attributes(call)["gen_ai.usage.input_tokens"] == 5
    assert call.parent == run.context


def test_astream_events_and_callbacks_see_every_chunk(instrumented: Capture, server: ModelServer) -> None:
    from langchain_core.callbacks import BaseCallbackHandler

    tokens: list[str] = []

    class Tokens(BaseCallbackHandler):
        def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
            tokens.append(token)

    async def go() -> list[str]:
        events = chat(server, callbacks=[Tokens()]).astream_events(QUESTION, version="v2")
        return [event["event"] async for event in events]

    events = asyncio.run(go())
    assert "".join(tokens) == ANSWER
    assert (events[0], events[-1]) == ("on_chat_model_start", "on_chat_model_end")
    assert said(instrumented.span) == ANSWER


def test_the_responses_api_is_one_span_too(instrumented: Capture, server: ModelServer) -> None:
    chat(server, use_responses_api=True).invoke(QUESTION)
    assert said(instrumented.span) == ANSWER


# --- faults ---


@each_way
def test_a_failure_is_the_users_and_one_span(ask: Any, instrumented: Capture) -> None:
    with pytest.raises(ConnectionError, match="nobody there"):
        result = ask(fake(fails=True), QUESTION)
        pytest.fail(f"got {result!r}")
    span = instrumented.span
    assert (span.status.status_code.name, attributes(span)["error.type"]) == ("ERROR", "ConnectionError")
    assert asked(span) == QUESTION


def test_a_stream_closed_early_ends_its_span(instrumented: Capture, server: ModelServer) -> None:
    for model in (chat(server), fake()):
        chunks: Any = model.stream(QUESTION)
        next(chunks)
        chunks.close()
    assert [attributes(span)["spanrelay.incomplete"] for span in instrumented.spans] == ["closed", "closed"]


def test_a_stream_left_in_the_middle_ends_its_span(instrumented: Capture, server: ModelServer) -> None:
    for model in (chat(server), fake()):
        for _ in model.stream(QUESTION):
            break
    gc.collect()
    assert len(instrumented.spans) == 2


def test_a_stream_that_nobody_starts_is_no_call(instrumented: Capture, server: ModelServer) -> None:
    chat(server).stream(QUESTION)
    fake().astream(QUESTION)
    gc.collect()
    assert instrumented.spans == () and server.requests == []


def test_an_async_stream_closed_early_ends_its_span(instrumented: Capture, server: ModelServer) -> None:
    async def go() -> None:
        for model in (chat(server), fake()):
            chunks: Any = model.astream(QUESTION)
            await anext(chunks)
            await chunks.aclose()

    asyncio.run(go())
    assert [attributes(span)["spanrelay.incomplete"] for span in instrumented.spans] == ["closed", "closed"]


def test_an_async_stream_left_in_the_middle_ends_its_span(instrumented: Capture, server: ModelServer) -> None:
    async def go() -> None:
        for model in (chat(server), fake()):
            async for _ in model.astream(QUESTION):
                break

    asyncio.run(go())
    gc.collect()
    assert len(instrumented.spans) == 2


@each_way
def test_what_is_not_sampled_is_no_span_and_goes_through(ask: Any, server: ModelServer) -> None:
    with captured(sampler=ALWAYS_OFF) as spans, at_work(spans, OpenAIInstrumentor(), LangChainInstrumentor()):
        assert (ask(chat(server), QUESTION), ask(fake(), QUESTION)) == (ANSWER, ANSWER)
        assert spans.spans == ()


def test_many_calls_at_the_same_time_do_not_mix(instrumented: Capture, server: ModelServer) -> None:
    async def go() -> None:
        model = chat(server)
        await asyncio.gather(*(model.ainvoke(f"question {number}") for number in range(100)))

    asyncio.run(go())
    assert sorted(map(asked, instrumented.spans)) == sorted(f"question {number}" for number in range(100))


def test_nothing_is_current_between_two_chunks(instrumented: Capture) -> None:
    before = get_current()
    for _ in fake().stream(QUESTION):
        assert get_current() is before

    async def go() -> None:
        inside = get_current()
        async for _ in fake().astream(QUESTION):
            assert get_current() is inside

    asyncio.run(go())


class Slow(Fake):
    """Never answers."""

    async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:
        await asyncio.Event().wait()


def test_a_cancelled_call_ends_its_span(instrumented: Capture) -> None:
    async def go() -> None:
        task = asyncio.create_task(Slow().ainvoke(QUESTION))
        await asyncio.sleep(0)
        while not instrumented.ledger.started:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(go())
    assert attributes(instrumented.span)["spanrelay.incomplete"] == "cancelled"


def test_a_call_that_times_out_ends_its_span(instrumented: Capture) -> None:
    async def go() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(Slow().ainvoke([HumanMessage(QUESTION)]), 0.05)

    asyncio.run(go())
    assert asked(instrumented.span) == QUESTION
