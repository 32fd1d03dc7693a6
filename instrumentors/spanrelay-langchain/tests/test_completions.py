"""Models that are no chat models: one call is one span and one matter of policy, however it is asked."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.language_models.llms import LLM, BaseLLM
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from langchain_openai import OpenAI
from opentelemetry.context import get_current
from pydantic import Field

from spanrelay import execution_intercept, guardrail, request_intercept
from spanrelay.errors import MiddlewareError
from spanrelay.records import Message, Text
from spanrelay_langchain import LangChainInstrumentor
from spanrelay_langchain.clients import leaves_policy_to_client
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.capture import Capture, asked, said
from spanrelay_testkit.model_server import ModelServer

from .judged import ANSWER, QUESTION, JudgedModels, answer
from .ways import OPENED, through


async def by_astream(model: Any, given: Any) -> str:
    return "".join([text async for text in model.astream(given)])


WHOLE: dict[str, Callable[[Any, Any], str]] = {
    "invoke": lambda model, given: model.invoke(given),
    "ainvoke": lambda model, given: through(model.ainvoke(given)),
    "batch": lambda model, given: model.batch([given])[0],
    "generate": lambda model, given: model.generate([given]).generations[0][0].text,
}
STREAMS: dict[str, Callable[[Any, Any], str]] = {
    "stream": lambda model, given: "".join(model.stream(given)),
    "astream": lambda model, given: through(by_astream(model, given)),
}
WAYS = {**WHOLE, **STREAMS}
each_way = pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
each_stream = pytest.mark.parametrize("ask", STREAMS.values(), ids=STREAMS)
CHAINS = {name: WAYS[name] for name in ("invoke", "ainvoke", "batch", "stream", "astream")}
each_way_of_a_chain = pytest.mark.parametrize("ask", CHAINS.values(), ids=CHAINS)


class Fake(LLM):
    """A model that nobody patches: it says `Blue like the sea.`, or fails, and keeps what it was asked."""

    model: str = "fake-1"
    fails: bool = False
    asked: list[Any] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "fake"

    def _call(self, prompt: str, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> str:
        self.asked.append((prompt, {"stop": stop, **kwargs}))
        if self.fails:
            raise ConnectionError("nobody there")
        return ANSWER


class Streaming(Fake):
    """Streams word by word."""

    def _stream(
        self, prompt: str, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[GenerationChunk]:
        first, *rest = self._call(prompt, stop, run_manager, **kwargs).split(" ")
        yield GenerationChunk(text=first)
        for word in rest:
            yield GenerationChunk(text=f" {word}")


class Several(BaseLLM):
    """Answers all its prompts in one go, and says what that took."""

    @property
    def _llm_type(self) -> str:
        return "several"

    def _generate(self, prompts: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> LLMResult:
        usage = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}
        made = [[Generation(text=prompt.upper(), generation_info={"finish_reason": "stop"})] for prompt in prompts]
        return LLMResult(generations=made, llm_output={"token_usage": usage, "model_name": "several-2026"})


def openai(server: ModelServer, **options: Any) -> OpenAI:
    model = OpenAI(model="gpt-3.5-turbo-instruct", base_url=server.url, api_key="none", max_retries=0, **options)
    OPENED.append(model)
    return model


def attributes(span: Any) -> dict[str, Any]:
    return dict(span.attributes or {})


@pytest.fixture
def seen(policy: Any) -> list[Any]:
    """What a guardrail that lets everything pass was asked about: the messages of each request."""
    found: list[Any] = []

    @guardrail(kinds=["llm"])
    def seen(call: Any) -> None:
        found.append([message.text for message in call.request.messages])

    policy(seen)
    return found


# --- one span, one matter of policy ---


@each_way
def test_a_call_over_a_patched_sdk_is_one_span_which_the_provider_fills(
    ask: Any, instrumented: Capture, server: ModelServer, seen: list[Any]
) -> None:
    assert ask(openai(server), QUESTION) == ANSWER
    assert len(instrumented.of("LLM")) == len(server.requests) == 1
    [span] = instrumented.of("LLM")
    assert span.name == "text_completion gpt-3.5-turbo-instruct"
    assert (asked(span), said(span)) == (QUESTION, ANSWER)
    assert attributes(span)["gen_ai.provider.name"] == "openai"
    assert attributes(span)["gen_ai.response.id"].startswith("cmpl")
    assert seen == [[QUESTION]]


@each_way
@pytest.mark.parametrize("kind", [Fake, Streaming], ids=["whole", "streaming"])
def test_a_model_that_nobody_patches_is_one_span(ask: Any, kind: Any, instrumented: Capture, seen: list[Any]) -> None:
    assert ask(kind(), QUESTION) == ANSWER
    [span] = instrumented.of("LLM")
    assert span.name == "text_completion fake-1"
    assert (asked(span), said(span)) == (QUESTION, ANSWER)
    assert seen == [[QUESTION]]


@each_way
def test_users_see_what_they_see_without_us(ask: Any, capture: Capture, server: ModelServer) -> None:
    bare = ask(openai(server), QUESTION), ask(Fake(), QUESTION), ask(Streaming(), QUESTION)
    instrumentors = [OpenAIInstrumentor(), LangChainInstrumentor()]
    for instrumentor in instrumentors:
        instrumentor.instrument(tracer_provider=capture.provider)
    try:
        assert (ask(openai(server), QUESTION), ask(Fake(), QUESTION), ask(Streaming(), QUESTION)) == bare
    finally:
        for instrumentor in instrumentors:
            instrumentor.uninstrument()
    assert server.requests[0].raw == server.requests[1].raw
    assert len(capture.spans) == 3
    ask(openai(server), QUESTION)
    assert len(capture.spans) == 3


def test_prompts_that_go_together_are_one_call(instrumented: Capture, seen: list[Any]) -> None:
    assert Several().batch(["a", "b"]) == ["A", "B"]
    told = attributes(instrumented.of("LLM")[0])
    assert len(instrumented.of("LLM")) == 1
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.response.model"]) == (11, "several-2026")
    assert list(told["gen_ai.response.finish_reasons"]) == ["stop", "stop"]
    assert seen == [["a", "b"]]


@pytest.mark.parametrize("ask", [WAYS["invoke"], WAYS["ainvoke"], WAYS["batch"]], ids=["invoke", "ainvoke", "batch"])
@pytest.mark.parametrize("where", ["provider", "model"])
def test_an_answer_from_the_cache_is_one_span_that_says_so(
    ask: Any, where: str, instrumented: Capture, server: ModelServer
) -> None:
    model: Any = openai(server) if where == "provider" else Several()
    set_llm_cache(InMemoryCache())
    try:
        answers = [ask(model, QUESTION) for _ in range(2)]
    finally:
        set_llm_cache(None)
    first, second = instrumented.of("LLM")
    assert answers[0] == answers[1] == said(second)
    assert "spanrelay.answered_by" not in attributes(first)
    assert attributes(second)["spanrelay.answered_by"] == "langchain cache"
    assert "gen_ai.usage.input_tokens" not in attributes(second)
    assert len(server.requests) == (1 if where == "provider" else 0)


@pytest.mark.parametrize(("where", "judged"), [("provider", 1), ("model", 2)])
def test_a_cached_answer_is_judged_only_where_policy_is_not_left_to_the_provider(
    where: str, judged: int, instrumented: Capture, server: ModelServer, seen: list[Any]
) -> None:
    model: Any = openai(server) if where == "provider" else Several()
    set_llm_cache(InMemoryCache())
    try:
        for _ in range(2):
            model.invoke(QUESTION)
    finally:
        set_llm_cache(None)
    assert len(seen) == judged


@each_way_of_a_chain
def test_a_fallback_is_a_call_of_its_own(ask: Any, instrumented: Capture, server: ModelServer, seen: list[Any]) -> None:
    assert ask(Fake(fails=True).with_fallbacks([openai(server)]), QUESTION) == ANSWER
    first, second = instrumented.of("LLM")
    assert (first.status.status_code.name, second.status.status_code.name) == ("ERROR", "UNSET")
    assert len(seen) == 2


def test_a_known_client_is_trusted_only_while_it_is_patched(capture: Capture, server: ModelServer) -> None:
    model = openai(server)
    assert not leaves_policy_to_client(model, asynchronous=False)
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    assert leaves_policy_to_client(model, asynchronous=False)
    assert leaves_policy_to_client(model, asynchronous=True)
    assert not leaves_policy_to_client(Fake(), asynchronous=True)
    instrumentor.uninstrument()


# --- refusing and changing ---


class TestPolicy(JudgedModels):
    ways = WAYS
    streams = STREAMS

    def model(self, server: ModelServer | None = None) -> Any:
        return Streaming() if server is None else openai(server)


@each_way
def test_what_policy_makes_of_a_request_reaches_the_model(ask: Any, instrumented: Capture, policy: Any) -> None:
    @request_intercept
    def other(call: Any) -> Any:
        parameters = {**call.request.parameters, "temperature": 0.0, "stop_sequences": ["X"]}
        return replace(call.request, messages=[Message("user", [Text("And the sea?")])], parameters=parameters)

    policy(other)
    model = Streaming()
    ask(model, QUESTION)
    assert model.asked == [("And the sea?", {"stop": ["X"], "temperature": 0.0})]
    assert asked(instrumented.span) == "And the sea?"


def test_an_answer_for_fewer_prompts_than_were_asked_is_refused(instrumented: Capture, policy: Any) -> None:
    @execution_intercept
    def canned(call: Any) -> Any:
        return answer("One.")
        yield

    policy(canned)
    with pytest.raises(MiddlewareError, match="answered 2 prompts with 1 texts"):
        Several().batch(["a", "b"])


# --- faults ---


@each_way
def test_a_failure_is_the_users_and_one_span(ask: Any, instrumented: Capture) -> None:
    with pytest.raises(ConnectionError, match="nobody there"):
        ask(Streaming(fails=True), QUESTION)
    assert (asked(instrumented.span), attributes(instrumented.span)["error.type"]) == (QUESTION, "ConnectionError")


def test_streams_closed_early_left_or_never_started(instrumented: Capture) -> None:
    before = get_current()

    async def go() -> None:
        texts: Any = Streaming().astream(QUESTION)
        await anext(texts)
        await texts.aclose()
        Streaming().astream(QUESTION)

    texts: Any = Streaming().stream(QUESTION)
    next(texts)
    assert get_current() is before
    texts.close()
    asyncio.run(go())
    Streaming().stream(QUESTION)
    for _ in Streaming().stream(QUESTION):
        break
    gc.collect()
    assert [attributes(span)["spanrelay.incomplete"] for span in instrumented.spans] == ["closed"] * 3


class Slow(Fake):
    """Never answers."""

    async def _acall(self, *args: Any, **kwargs: Any) -> str:
        await asyncio.Event().wait()
        return ""


def test_a_cancelled_call_ends_its_span(instrumented: Capture) -> None:
    async def go() -> None:
        task = asyncio.create_task(Slow().ainvoke(QUESTION))
        while not instrumented.ledger.started:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(go())
    assert attributes(instrumented.span)["spanrelay.incomplete"] == "cancelled"


def test_what_langchain_refuses_is_refused_as_ever(instrumented: Capture) -> None:
    with pytest.raises(ValueError, match="expected to be of type list"):
        Fake().generate(QUESTION)  # pyright: ignore[reportArgumentType] - it is wrong on purpose
    assert instrumented.spans == ()
