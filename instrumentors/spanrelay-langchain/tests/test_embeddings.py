"""Embedding models: one call is one span and one matter of policy, whichever class has the method."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from langchain_core.embeddings import Embeddings
from langchain_openai import AzureOpenAIEmbeddings, OpenAIEmbeddings
from pydantic import BaseModel, SecretStr

from spanrelay import GuardrailRejected, execution_intercept, guardrail, request_intercept, use
from spanrelay.errors import MiddlewareError
from spanrelay.records import Message, ModelResponse, Text
from spanrelay_langchain import LangChainInstrumentor
from spanrelay_langchain.clients import leaves_policy_to_client
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.capture import Capture, asked
from spanrelay_testkit.model_server import ModelServer

from .ways import OPENED, through

SKY, SEA = "The sky is blue.", "The sea is wet."


async def adocuments(model: Any, texts: list[str]) -> Any:
    return await model.aembed_documents(texts)


async def aquery(model: Any, texts: list[str]) -> Any:
    return await model.aembed_query(texts[0])


WAYS: dict[str, Callable[[Any, list[str]], Any]] = {
    "documents": lambda model, texts: model.embed_documents(texts),
    "query": lambda model, texts: model.embed_query(texts[0]),
    "adocuments": lambda model, texts: through(adocuments(model, texts)),
    "aquery": lambda model, texts: through(aquery(model, texts)),
    "by name": lambda model, texts: model.embed_documents(texts=texts),
}
each_way = pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)


class Plain(Embeddings):
    """Two numbers for each text; keeps what it was asked, or fails."""

    model = "plain-1"

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.asked: list[Any] = []

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.asked.append(texts)
        if self.fails:
            raise ConnectionError("nobody there")
        return [[float(len(text)), 1.0] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


def openai(server: ModelServer, **options: Any) -> OpenAIEmbeddings:
    # Without the check, texts go as they are and not as tokens, whose table would have to be downloaded.
    options = {"check_embedding_ctx_length": False, "max_retries": 0, **options}
    key = SecretStr("none")
    model = OpenAIEmbeddings(model="text-embedding-3-small", base_url=server.url, api_key=key, **options)
    OPENED.append(model)
    return model


def attributes(span: Any) -> dict[str, Any]:
    return dict(span.attributes or {})


@pytest.fixture
def seen(policy: Any) -> list[Any]:
    """What a guardrail that lets everything pass was asked about."""
    found: list[Any] = []

    @guardrail(kinds=["embedder"])
    def seen(call: Any) -> None:
        found.append((call.request.model, [message.text for message in call.request.messages]))

    policy(seen)
    return found


# --- one span, one matter of policy ---


@each_way
def test_a_call_over_a_patched_sdk_is_one_span_which_the_provider_fills(
    ask: Any, instrumented: Capture, server: ModelServer, seen: list[Any]
) -> None:
    ask(openai(server), [SKY])
    [span] = instrumented.of("EMBEDDING")
    assert (span.name, asked(span)) == ("embeddings text-embedding-3-small", SKY)
    told = attributes(span)
    assert told["gen_ai.provider.name"] == "openai"
    assert told["spanrelay.response.parameters"] == '{"embedding_count":1,"embedding_dimensions":8}'
    assert told["gen_ai.usage.input_tokens"] > 0
    assert seen == [("text-embedding-3-small", [SKY])]
    assert len(server.requests) == 1


@each_way
@pytest.mark.parametrize("where", ["early", "late"])
def test_a_model_that_nobody_patches_is_one_span(ask: Any, where: str, instrumented: Capture, seen: list[Any]) -> None:
    class Late(BaseModel, Embeddings):
        """Is defined when the instrumentor is at work already."""

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [[1.0, 2.0] for _ in texts]

        def embed_query(self, text: str) -> list[float]:
            return self.embed_documents([text])[0]

    ask(Plain() if where == "early" else Late(), [SKY])
    [span] = instrumented.of("EMBEDDING")
    told = attributes(span)
    assert span.name == ("embeddings plain-1" if where == "early" else "embeddings")
    assert (asked(span), told["gen_ai.provider.name"]) == (SKY, "langchain")
    assert told["spanrelay.response.parameters"] == '{"embedding_count":1,"embedding_dimensions":2}'
    assert [texts for _, texts in seen] == [[SKY]]


def test_each_request_of_a_call_that_sends_several_is_a_span(
    instrumented: Capture, server: ModelServer, seen: list[Any]
) -> None:
    openai(server, chunk_size=1).embed_documents([SKY, SEA])
    inner, outer = instrumented.of("EMBEDDING")
    assert inner.parent is not None and outer.context is not None
    assert inner.parent.span_id == outer.context.span_id
    assert (asked(outer), asked(inner)) == (SKY, SEA)
    assert len(seen) == len(server.requests) == 2


@each_way
def test_users_see_what_they_see_without_us(ask: Any, capture: Capture, server: ModelServer) -> None:
    bare = ask(openai(server), [SKY, SEA]), ask(Plain(), [SKY, SEA])
    instrumentors = [OpenAIInstrumentor(), LangChainInstrumentor()]
    for instrumentor in instrumentors:
        instrumentor.instrument(tracer_provider=capture.provider)
    try:
        assert (ask(openai(server), [SKY, SEA]), ask(Plain(), [SKY, SEA])) == bare
    finally:
        for instrumentor in instrumentors:
            instrumentor.uninstrument()
    assert server.requests[0].raw == server.requests[1].raw
    assert len(capture.spans) == 2
    ask(Plain(), [SKY])
    assert len(capture.spans) == 2


def test_classes_are_put_back_and_patched_again(capture: Capture) -> None:
    before = {kind: dict(vars(kind)) for kind in (Embeddings, Plain, OpenAIEmbeddings)}
    instrumentor = LangChainInstrumentor()
    for _ in range(2):
        instrumentor.instrument(tracer_provider=capture.provider)
        Plain().embed_query(SKY)
        assert vars(Plain)["embed_query"] is not before[Plain]["embed_query"]
        instrumentor.uninstrument()
        for kind, methods in before.items():
            assert all(vars(kind)[name] is methods[name] for name in methods if "embed" in name)
        assert "__init_subclass__" not in vars(Embeddings)
    assert len(capture.spans) == 2


def test_a_method_of_a_class_beside_is_a_call_too(capture: Capture) -> None:
    class Counting:
        def embed_query(self, text: str) -> list[float]:
            return [float(len(text))]

    class Mixed(Counting, Plain):
        pass

    instrumentor = LangChainInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    assert Mixed().embed_query("abc") == [3.0]
    assert len(capture.spans) == 1
    instrumentor.uninstrument()
    assert "embed_query" not in vars(Mixed)
    assert Mixed().embed_query("abc") == [3.0]
    assert len(capture.spans) == 1


def test_a_class_that_nobody_has_used_is_not_kept(instrumented: Capture) -> None:
    def made() -> weakref.ref[type]:
        class Passing(Plain):
            def embed_query(self, text: str) -> list[float]:
                return super().embed_query(text)

        assert hasattr(vars(Passing)["embed_query"], "_self_wrapper")
        return weakref.ref(Passing)

    passing = made()
    gc.collect()
    assert passing() is None


class Array(list[Any]):
    """A list that does not say whether it is true, as an array of numpy's."""

    def __bool__(self) -> bool:
        raise ValueError("The truth value of an array is ambiguous")


def test_vectors_may_be_an_array(instrumented: Capture) -> None:
    class Arrays(Plain):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return Array(super().embed_documents(texts))

    assert len(Arrays().embed_documents(["a", "bc"])) == 2
    assert (instrumented.span.attributes or {}).get("gen_ai.request.model") == "plain-1"


def test_a_known_client_is_trusted_only_while_it_is_patched(capture: Capture, server: ModelServer) -> None:
    azure = AzureOpenAIEmbeddings(
        azure_endpoint=server.address, azure_deployment="e", api_version="preview", api_key=SecretStr("none")
    )

    class Homemade(OpenAIEmbeddings):
        def embed_documents(self, *args: Any, **kwargs: Any) -> list[list[float]]:
            return [[1.0]]

    homemade = Homemade(api_key=SecretStr("none"))
    assert not leaves_policy_to_client(openai(server), asynchronous=False)
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    for asynchronous in (False, True):
        assert leaves_policy_to_client(openai(server), asynchronous=asynchronous)
        assert leaves_policy_to_client(azure, asynchronous=asynchronous)
        assert not leaves_policy_to_client(homemade, asynchronous=asynchronous)
        assert not leaves_policy_to_client(Plain(), asynchronous=asynchronous)
    instrumentor.uninstrument()


def test_an_answer_that_passed_by_the_client_is_refused_where_there_is_policy(
    instrumented: Capture, server: ModelServer, policy: Any
) -> None:
    model = openai(server)
    assert model.embed_documents([]) == []

    class Elsewhere:
        """Is in a model's place for its client, and sends nothing through it."""

        _client = model.client._client

        def create(self, **options: Any) -> Any:
            return {"data": [{"embedding": [1.0]}]}

    model.client = Elsewhere()
    assert model.embed_query(SKY) == [1.0]

    @guardrail
    def seen(call: Any) -> None:
        pass

    policy(seen)
    assert model.embed_documents([]) == []
    with pytest.raises(MiddlewareError, match="'OpenAIEmbeddings' answered without its client"):
        model.embed_query(SKY)


# --- refusing and changing ---


@each_way
@pytest.mark.parametrize("where", ["provider", "model"])
def test_a_refused_call_sends_nothing(
    ask: Any, where: str, instrumented: Capture, server: ModelServer, policy: Any
) -> None:
    @guardrail(kinds=["embedder"])
    def never(call: Any) -> str:
        return "not today"

    policy(never)
    model: Any = openai(server) if where == "provider" else Plain()
    with pytest.raises(GuardrailRejected, match="not today"):
        ask(model, [SKY])
    assert server.requests == [] and (where == "provider" or model.asked == [])


@each_way
def test_texts_that_policy_changes_reach_the_model(ask: Any, instrumented: Capture, policy: Any) -> None:
    @request_intercept(kinds=["embedder"])
    def mask(call: Any) -> Any:
        messages = [Message("user", [Text(message.text.replace("sky", "***"))]) for message in call.request.messages]
        return replace(call.request, messages=messages)

    policy(mask)
    model = Plain()
    ask(model, [SKY])
    assert model.asked == [["The *** is blue."]]
    assert asked(instrumented.span) == "The *** is blue."


def test_policy_cannot_answer_with_vectors_or_put_another_model_there(instrumented: Capture) -> None:
    @execution_intercept(kinds=["embedder"])
    def counts(call: Any) -> Any:
        response = yield call
        assert response.record.parameters == {"embedding_count": 1, "embedding_dimensions": 2}
        return response

    with use(counts):
        assert Plain().embed_query(SKY) == [16.0, 1.0]

    @request_intercept(kinds=["embedder"])
    def other(call: Any) -> Any:
        return replace(call.request, model="another")

    with use(other), pytest.raises(MiddlewareError, match="cannot replace the model of 'Plain'"):
        Plain().embed_query(SKY)

    @execution_intercept(kinds=["embedder"])
    def canned(call: Any) -> Any:
        return ModelResponse()
        yield

    with use(canned), pytest.raises(Exception, match="holds no vectors"):
        Plain().embed_query(SKY)


# --- faults ---


@each_way
def test_a_failure_is_the_users_and_one_span(ask: Any, instrumented: Capture) -> None:
    with pytest.raises(ConnectionError, match="nobody there"):
        ask(Plain(fails=True), [SKY])
    assert (asked(instrumented.span), attributes(instrumented.span)["error.type"]) == (SKY, "ConnectionError")


class Slow(Plain):
    """Never answers."""

    async def aembed_query(self, text: str) -> list[float]:
        await asyncio.Event().wait()
        return []


def test_a_cancelled_call_ends_its_span(instrumented: Capture) -> None:
    async def go() -> None:
        task = asyncio.create_task(Slow().aembed_query(SKY))
        while not instrumented.ledger.started:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(go())
    assert attributes(instrumented.span)["spanrelay.incomplete"] == "cancelled"


def test_calls_at_the_same_time_do_not_mix(instrumented: Capture) -> None:
    model = Plain()

    async def go() -> None:
        await asyncio.gather(*(model.aembed_query(f"text {number}") for number in range(50)))

    asyncio.run(go())
    assert sorted(map(asked, instrumented.spans)) == sorted(f"text {number}" for number in range(50))
