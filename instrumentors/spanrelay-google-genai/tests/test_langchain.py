"""LangChain's models of Google: one framework call is one span, and policy runs once, on what is sent."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from spanrelay import GuardrailRejected, guardrail, request_intercept, use
from spanrelay.semconv import names
from spanrelay_google_genai import GoogleGenAIInstrumentor
from spanrelay_testkit.capture import Capture, asked, at_work, said
from spanrelay_testkit.model_server import ModelServer, reply, tool_call
from spanrelay_testkit.outline import tree

langchain = pytest.importorskip("langchain_google_genai")
# LangChain closes none of the connections that it has on a loop, and leaves them to whoever collects garbage.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Inheritance class AiohttpClientSession:DeprecationWarning",
    "ignore:[Uu]nclosed:ResourceWarning",
    "ignore:.*Transport.__del__:pytest.PytestUnraisableExceptionWarning",
    "ignore:.*socket:pytest.PytestUnraisableExceptionWarning",
)


@pytest.fixture(autouse=True)
def connections_are_collected_here() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(
        lambda request: reply("blue", reasoning="hm", tool_calls=[tool_call("look", at="sky")])
    ) as running:
        yield running


@pytest.fixture
def instrumented(capture: Capture) -> Iterator[Capture]:
    from spanrelay_langchain import LangChainInstrumentor

    with at_work(capture, GoogleGenAIInstrumentor, LangChainInstrumentor):
        yield capture


def model_of(server: ModelServer) -> Any:
    return langchain.ChatGoogleGenerativeAI(
        model="gemini-3-flash", google_api_key="none", base_url=server.address, max_retries=1
    )


async def streamed(model: Any) -> Any:
    return [chunk async for chunk in model.astream("which colour?")]


WAYS: dict[str, Callable[[Any], Any]] = {
    "invoke": lambda model: model.invoke("which colour?"),
    "stream": lambda model: list(model.stream("which colour?")),
    "ainvoke": lambda model: asyncio.run(model.ainvoke("which colour?")),
    "astream": lambda model: asyncio.run(streamed(model)),
}
each_way = pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)


@each_way
def test_one_call_of_the_framework_is_one_span_that_says_what_the_provider_said(
    ask: Any, server: ModelServer, instrumented: Capture
) -> None:
    ask(model_of(server))
    attributes = instrumented.span.attributes or {}
    assert (asked(instrumented.span), said(instrumented.span)) == ("which colour?", "blue")
    assert attributes[names.PROVIDER] == "gcp.gemini"
    assert attributes[names.REQUEST_MODEL] == "gemini-3-flash"
    assert attributes[names.REASONING_TOKENS[0]] == 1
    assert list(attributes[names.FINISH_REASONS]) == ["STOP"]


@each_way
def test_policy_runs_once_and_is_given_the_wire(ask: Any, server: ModelServer, instrumented: Capture) -> None:
    seen: list[Any] = []

    @request_intercept(kinds=["llm"])
    def cooler(call: Any) -> Any:
        seen.append(call.wire)
        call.request.parameters["temperature"] = 0.25
        return call.request

    with use(cooler):
        ask(model_of(server))
    assert [request.body["generationConfig"]["temperature"] for request in server.requests] == [0.25]
    assert ["contents" in wire for wire in seen] == [True]


@each_way
def test_a_refused_call_sends_nothing(ask: Any, server: ModelServer, instrumented: Capture) -> None:
    @guardrail(kinds=["llm"])
    def never(call: Any) -> str:
        return "no models"

    with use(never), pytest.raises(GuardrailRejected, match="no models"):
        ask(model_of(server))
    assert server.requests == []
    assert len(tree(instrumented)) == 2


def test_embeddings_of_the_framework_are_one_span(server: ModelServer, instrumented: Capture) -> None:
    model = langchain.GoogleGenerativeAIEmbeddings(
        model="gemini-embedding-001", google_api_key="none", base_url=server.address
    )
    model.embed_documents(["one", "two"])
    assert (instrumented.span.attributes or {})[names.OI_KIND] == "EMBEDDING"
