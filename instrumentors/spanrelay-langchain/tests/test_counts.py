"""How many spans and how many judgements a situation gives, however the model is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_openai import ChatOpenAI

from spanrelay import guardrail, use
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.model_server import ModelServer

from .test_models import ANSWER, QUESTION, Router
from .ways import CHAINS, chat, each_way_of_a_chain, fake


class Situation(NamedTuple):
    """A model, and how many spans, judgements and requests one question to it gives."""

    model: Callable[[ModelServer], Any]
    spans: int
    judged: int
    requests: int


def unreachable(**options: Any) -> ChatOpenAI:
    return ChatOpenAI(model="gpt-5-mini", base_url="http://127.0.0.1:1/v1", api_key="none", max_retries=0, **options)


SITUATIONS = {
    "a provider": Situation(lambda server: chat(server), 1, 1, 1),
    "a fake": Situation(lambda server: fake(), 1, 1, 0),
    "a fallback to a second provider": Situation(lambda server: unreachable().with_fallbacks([chat(server)]), 2, 2, 1),
    "a fallback from a fake": Situation(lambda server: fake(fails=True).with_fallbacks([chat(server)]), 2, 2, 1),
    "a router over providers": Situation(lambda server: Router(models=[chat(server), chat(server)]), 2, 3, 2),
    "a router over fakes": Situation(lambda server: Router(models=[fake(), fake()]), 2, 3, 0),
    "a router over both": Situation(lambda server: Router(models=[fake(), chat(server)]), 2, 3, 1),
}


@pytest.fixture
def judged() -> Iterator[list[Any]]:
    """What a guardrail that lets everything pass was asked about."""
    found: list[Any] = []

    @guardrail(kinds=["llm"])
    def seen(call: Any) -> None:
        found.append(call.request.model)

    with use(seen):
        yield found


@each_way_of_a_chain
@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)
def test_each_model_call_is_a_span_and_each_request_is_judged_once(
    situation: Situation, ask: Any, instrumented: Capture, server: ModelServer, judged: list[Any]
) -> None:
    assert ask(situation.model(server), QUESTION) == ANSWER
    counts = len(instrumented.of("LLM")), len(judged), len(server.requests)
    assert counts == (situation.spans, situation.judged, situation.requests)
    assert len({span.context.span_id for span in instrumented.of("LLM") if span.context}) == situation.spans


CACHED = {name: CHAINS[name] for name in ("invoke", "ainvoke", "batch")}  # LangChain streams past its cache


@pytest.fixture
def cache() -> Iterator[None]:
    set_llm_cache(InMemoryCache())
    yield
    set_llm_cache(None)


@pytest.mark.parametrize("ask", CACHED.values(), ids=CACHED)
@pytest.mark.parametrize("where", ["provider", "model"])
def test_an_answer_from_the_cache_is_a_span_and_judged_only_at_the_model(
    where: str, ask: Any, instrumented: Capture, server: ModelServer, judged: list[Any], cache: None
) -> None:
    model: Any = chat(server) if where == "provider" else fake()
    first, second = ask(model, QUESTION), ask(model, QUESTION)
    assert first == second == ANSWER
    asked, answered = instrumented.of("LLM")
    assert [(span.attributes or {}).get("spanrelay.answered_by") for span in (asked, answered)] == [
        None,
        "langchain cache",
    ]
    assert (len(judged), len(server.requests)) == ((1, 1) if where == "provider" else (2, 0))
    assert len(model.asked if where == "model" else server.requests) == 1


@pytest.mark.parametrize("ask", [CHAINS["stream"], CHAINS["astream"]], ids=["stream", "astream"])
def test_a_stream_asks_again_whatever_the_cache_knows(
    ask: Any, instrumented: Capture, server: ModelServer, judged: list[Any], cache: None
) -> None:
    assert ask(chat(server), QUESTION) == ask(chat(server), QUESTION) == ANSWER
    assert len(instrumented.of("LLM")) == len(judged) == len(server.requests) == 2


def test_a_batch_is_as_many_spans_and_judgements_as_it_has_questions(
    instrumented: Capture, server: ModelServer, judged: list[Any]
) -> None:
    chat(server).batch([QUESTION, "And the sea?", "And the grass?"])
    fake().batch([QUESTION, "And the sea?"])
    assert (len(instrumented.of("LLM")), len(judged), len(server.requests)) == (5, 5, 3)
