"""Responses, embeddings and rankings by LiteLLM: one span each, with its usage, and policy before anything is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import litellm
import pytest

from spanrelay import GuardrailRejected, execution_intercept, guardrail, request_intercept
from spanrelay.records import Message, ModelResponse, Text, Usage
from spanrelay_litellm import LiteLLMInstrumentor
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.capture import Capture, asked, at_work, said
from spanrelay_testkit.exchange import raw, reply
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.outline import tree

Ask = Callable[..., Any]
Policy = Callable[[Any], None]
COLOURS = ["sync", "async"]


class Function:
    """One of LiteLLM's functions, as a program asks it."""

    def __init__(self, name: str, kind: str, model: str, span: str, **asked: Any) -> None:
        self.name, self.kind, self.model, self.span, self.asked = name, kind, model, span, asked

    def ask(self, colour: str, server: ModelServer, **others: Any) -> Any:
        where = server.address if self.name == "rerank" else server.url
        options = {"model": self.model, "api_base": where, "api_key": "sk-none", **self.asked, **others}
        if colour == "sync":
            return getattr(litellm, self.name)(**options)
        return asyncio.run(getattr(litellm, f"a{self.name}")(**options))


RESPONSES = Function("responses", "LLM", "openai/gpt-5", "chat gpt-5", input="Which colour has the sky?")
EMBEDDING = Function(
    "embedding", "EMBEDDING", "openai/text-embedding-3-small", "embeddings text-embedding-3-small", input=["sky", "sea"]
)
RERANK = Function(
    "rerank", "RERANKER", "cohere/rerank-v3.5", "rerank-v3.5", query="sky?", documents=["blue", "green"], top_n=1
)
COMPACT = Function("compact_responses", "LLM", "openai/gpt-5", "chat gpt-5", input="Which colour has the sky?")
PAGE: Any = {"type": "document_url", "document_url": "https://example.com/a.pdf"}
OCR = Function("ocr", "LLM", "mistral/mistral-ocr-latest", "generate_content mistral-ocr-latest", document=PAGE)
each_colour = pytest.mark.parametrize("colour", COLOURS)
each_function = pytest.mark.parametrize("function", [RESPONSES, EMBEDDING, RERANK], ids=lambda each: each.name)


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(lambda request: reply("Blue.")) as running:
        yield running


@each_colour
@each_function
@pytest.mark.parametrize("beneath", [False, True], ids=["alone", "above OpenAI's SDK"])
def test_each_is_one_span_of_its_kind(
    capture: Capture, server: ModelServer, colour: str, function: Function, beneath: bool
) -> None:
    with at_work(capture, LiteLLMInstrumentor, *([OpenAIInstrumentor] if beneath else [])):
        function.ask(colour, server)
    assert len(server.requests) == 1
    span = capture.span
    assert span.name == function.span
    attributes = dict(span.attributes or {})
    assert attributes["openinference.span.kind"] == function.kind
    provider, model = function.model.split("/")
    assert (attributes["gen_ai.provider.name"], attributes["gen_ai.request.model"]) == (provider, model)
    assert "sk-none" not in json.dumps(attributes, default=str)


@each_colour
@each_function
def test_what_the_program_gets_and_sends_is_what_it_is_without_us(
    capture: Capture, server: ModelServer, colour: str, function: Function
) -> None:
    def seen() -> tuple[type, Any]:
        answer = function.ask(colour, server)
        told = answer.model_dump()
        return type(answer), {name: told[name] for name in told if name not in ("id", "created_at", "output")}

    bare = seen()
    with at_work(capture, LiteLLMInstrumentor):
        ours = seen()
    assert ours == bare
    first, second = server.requests
    assert (first.path, first.body) == (second.path, second.body)


@each_colour
@pytest.mark.parametrize(
    ("function", "counted"),
    [(RESPONSES, True), (EMBEDDING, False)],
    ids=["responses", "embedding"],
)
def test_usage_is_that_of_the_answer(
    instrumented: Capture, server: ModelServer, colour: str, function: Function, counted: bool
) -> None:
    answer = function.ask(colour, server)
    told = answer.usage.model_dump()
    usage = instrumented.record(instrumented.span).response.usage
    assert isinstance(usage, Usage)
    assert usage.input_tokens == (told["input_tokens"] if counted else told["prompt_tokens"]) > 0
    assert not counted or usage.output_tokens == told["output_tokens"] > 0


@each_colour
def test_a_ranking_is_recorded_with_its_query_and_how_many_were_ranked(
    instrumented: Capture, server: ModelServer, colour: str
) -> None:
    answer = RERANK.ask(colour, server)
    record = instrumented.record(instrumented.span)
    assert record.request.messages[0].parts == [Text("sky?")]
    assert record.request.parameters == {"top_n": 1, "document_count": 2}
    assert record.response.parameters == {"result_count": len(answer.results)}


@each_colour
@pytest.mark.parametrize("placed", [False, True], ids=["by name", "in order"])
def test_a_document_that_is_read_is_a_call_of_a_model(instrumented: Capture, colour: str, placed: bool) -> None:
    pages = [{"index": 0, "markdown": "# Sky", "images": [], "dimensions": None}]
    told = {"pages": pages, "model": "mistral-ocr-2", "usage_info": {"pages_processed": 1}}
    with ModelServer(lambda request: raw(json.dumps(told).encode())) as server:
        options = {"api_base": f"{server.address}/v1", "api_key": "none"}
        asked = ((OCR.model, PAGE), options) if placed else ((), {"model": OCR.model, "document": PAGE, **options})
        ask = litellm.ocr if colour == "sync" else lambda *args, **kwargs: asyncio.run(litellm.aocr(*args, **kwargs))
        answer = ask(*asked[0], **asked[1])
        [request] = server.requests
    assert (answer.pages[0].markdown, request.body["model"]) == ("# Sky", "mistral-ocr-latest")
    assert tree(instrumented) == [OCR.span]


@each_colour
@pytest.mark.parametrize("function", [RESPONSES, EMBEDDING, RERANK, COMPACT, OCR], ids=lambda each: each.name)
def test_policy_refuses_before_anything_is_sent(
    instrumented: Capture, server: ModelServer, policy: Policy, colour: str, function: Function
) -> None:
    judged: list[str] = []

    @guardrail(kinds=["llm", "embedder", "reranker"])
    def never(call: Any) -> str:
        judged.append(call.request.model)
        return "not today"

    policy(never)
    with pytest.raises(GuardrailRejected, match="not today"):
        function.ask(colour, server)
    assert server.requests == []
    assert judged == [function.model.split("/")[1]]


@each_colour
@each_function
def test_policy_rewrites_what_is_sent_and_leaves_the_programs_own_alone(
    instrumented: Capture, server: ModelServer, policy: Policy, colour: str, function: Function
) -> None:
    @request_intercept(kinds=["llm", "embedder", "reranker"])
    def elsewhere(call: Any) -> Any:
        messages = [
            replace(message, parts=[Text(part.text.replace("sky", "***")) for part in message.parts])
            for message in call.request.messages
        ]
        return replace(call.request, model=f"{call.request.model}-mini", messages=messages)

    policy(elsewhere)
    before = json.dumps(function.asked)
    function.ask(colour, server)
    [request] = server.requests
    assert request.body["model"] == f"{function.model.split('/')[1]}-mini"
    assert "sky" not in json.dumps(request.body)
    assert "***" in json.dumps(request.body)
    assert json.dumps(function.asked) == before


@each_colour
def test_policy_answers_in_the_place_of_the_model(
    instrumented: Capture, server: ModelServer, policy: Policy, colour: str
) -> None:
    @execution_intercept(kinds=["llm"])
    def knows(call: Any) -> Any:
        return ModelResponse("cache", messages=[Message("assistant", [Text("Grey.")], finish_reason="stop")])
        yield call

    policy(knows)
    answer = RESPONSES.ask(colour, server)
    assert isinstance(answer, litellm.ResponsesAPIResponse)
    assert answer.output_text == "Grey."
    assert server.requests == []
    assert said(instrumented.span) == "Grey."


@each_colour
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_response_that_litellm_asks_for_as_a_completion_is_one_span(
    instrumented: Capture, server: ModelServer, policy: Policy, colour: str, streamed: bool
) -> None:
    judged: list[str] = []

    @guardrail(kinds=["llm"])
    def counts(call: Any) -> None:
        judged.append(call.request.model)

    policy(counts)
    bridged = Function("responses", "LLM", "deepseek/deepseek-chat", "chat deepseek-chat", input="Sky?")
    if streamed:
        assert read(colour, bridged, server) == "Blue."
    else:
        assert bridged.ask(colour, server).output[0].content[0].text == "Blue."
    [span] = instrumented.of("LLM")
    assert span.name == "chat deepseek-chat"
    assert (asked(span), said(span)) == ("Sky?", "Blue.")
    assert set(judged) == {"deepseek-chat"}


def read(colour: str, function: Function, server: ModelServer) -> str:
    """The text of a streamed response."""

    async def aread() -> list[Any]:
        options = {"model": function.model, "api_base": server.url, "api_key": "none", **function.asked}
        return [event async for event in await litellm.aresponses(stream=True, **options)]

    events = list(function.ask(colour, server, stream=True)) if colour == "sync" else asyncio.run(aread())
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


@each_colour
def test_a_router_asks_by_calls_of_its_deployments(instrumented: Capture, server: ModelServer, colour: str) -> None:
    where = {"api_base": server.url, "api_key": "none"}
    router = litellm.Router(
        model_list=[
            {"model_name": "words", "litellm_params": {"model": EMBEDDING.model, **where}},
            {"model_name": "talk", "litellm_params": {"model": RESPONSES.model, **where}},
        ],
        num_retries=0,
    )
    if colour == "sync":
        router.embedding(model="words", input=["sky"])
        router.responses(model="talk", input="Sky?")
    else:
        asyncio.run(router.aembedding(model="words", input=["sky"]))
        asyncio.run(router.aresponses(model="talk", input="Sky?"))
    assert tree(instrumented) == [EMBEDDING.span, RESPONSES.span]


@each_colour
def test_arguments_may_be_given_without_their_names(instrumented: Capture, server: ModelServer, colour: str) -> None:
    where = {"api_base": server.url, "api_key": "none"}
    if colour == "sync":
        litellm.embedding(EMBEDDING.model, ["sky"], **where)
        litellm.responses("Sky?", RESPONSES.model, **where)
    else:
        asyncio.run(litellm.aembedding(EMBEDDING.model, ["sky"], **where))
        asyncio.run(litellm.aresponses("Sky?", RESPONSES.model, **where))
    assert [span.name for span in instrumented.spans] == [EMBEDDING.span, RESPONSES.span]
