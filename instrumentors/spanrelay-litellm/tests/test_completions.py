"""Chat completions by LiteLLM: one span each, policy before anything is sent, and LiteLLM's own objects back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import litellm
import pytest
from opentelemetry.trace import StatusCode

from spanrelay import GuardrailRejected, execution_intercept, guardrail, request_intercept, stream_intercept
from spanrelay.errors import MiddlewareError
from spanrelay.records import Message, ModelResponse, Text
from spanrelay_litellm import LiteLLMInstrumentor
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.capture import Capture, asked, at_work, said
from spanrelay_testkit.exchange import Answer, Request, error, raw, reply, tool_call
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.outline import tree

QUESTION = [{"role": "user", "content": "Which colour has the sky?"}]
Way = Callable[..., Any]
Policy = Callable[[Any], None]


def plain(**options: Any) -> Any:
    return litellm.completion(**options)


def awaited(**options: Any) -> Any:
    return asyncio.run(litellm.acompletion(**options))


def streamed(**options: Any) -> Any:
    return litellm.stream_chunk_builder(list(litellm.completion(**options, stream=True)))


def streamed_async(**options: Any) -> Any:
    async def read() -> Any:
        return [chunk async for chunk in await litellm.acompletion(**options, stream=True)]

    return litellm.stream_chunk_builder(asyncio.run(read()))


each_way = pytest.mark.parametrize("ask", [plain, awaited, streamed, streamed_async])


def answers(request: Request) -> Answer:
    if request.body.get("tools") and request.body["messages"][-1]["role"] == "user":
        return reply(tool_calls=[tool_call("weather", {"city": "Rome"}, id="call_1")])
    return reply("Blue.")


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(answers) as running:
        yield running


@pytest.fixture
def broken() -> Iterator[ModelServer]:
    with ModelServer(lambda request: error(500, {"error": {"message": "down", "type": "server"}})) as running:
        yield running


def options(server: ModelServer, **others: Any) -> dict[str, Any]:
    asked = {"model": "openai/gpt-4.1", "messages": QUESTION, "api_base": server.url, "api_key": "sk-none"}
    return {**asked, "max_retries": 0, **others}


def text_in(response: Any) -> Any:
    return response.choices[0].message.content


@each_way
@pytest.mark.parametrize("beneath", [False, True], ids=["alone", "above OpenAI's SDK"])
def test_a_completion_is_one_span(capture: Capture, server: ModelServer, ask: Way, beneath: bool) -> None:
    with at_work(capture, LiteLLMInstrumentor, *([OpenAIInstrumentor] if beneath else [])):
        response = ask(**options(server, temperature=0.5))
    assert text_in(response) == "Blue."
    span = capture.span
    assert (asked(span), said(span)) == (QUESTION[0]["content"], "Blue.")
    attributes = dict(span.attributes or {})
    assert attributes["gen_ai.provider.name"] == "openai"
    assert attributes["gen_ai.request.model"] == "gpt-4.1"
    assert attributes["gen_ai.response.model"] == "gpt-4.1"
    assert attributes["gen_ai.request.temperature"] == 0.5
    assert tuple(attributes["gen_ai.response.finish_reasons"]) == ("stop",)
    if ask in (plain, awaited):
        assert (attributes["gen_ai.usage.input_tokens"], attributes["gen_ai.usage.output_tokens"]) == (6, 1)
    assert "sk-none" not in json.dumps(attributes, default=str)


@each_way
def test_a_client_of_litellms_own_is_one_span_with_its_provider(
    instrumented: Capture, server: ModelServer, ask: Way
) -> None:
    response = ask(**options(server, model="deepseek/deepseek-chat"))
    assert text_in(response) == "Blue."
    attributes = dict(instrumented.span.attributes or {})
    assert attributes["gen_ai.provider.name"] == "deepseek"
    assert said(instrumented.span) == "Blue."


@each_way
def test_what_the_program_gets_and_sends_is_what_it_is_without_us(
    capture: Capture, server: ModelServer, ask: Way
) -> None:
    def seen() -> tuple[Any, Any]:
        before = len(server.requests)
        response = ask(**options(server, tools=[{"type": "function", "function": {"name": "weather"}}]))
        found = response.model_dump()
        for each in ("id", "created"):
            found.pop(each)
        return found, [request.body for request in server.requests[before:]]

    bare = seen()
    with at_work(capture, LiteLLMInstrumentor):
        ours = seen()
    assert type(ours[0]) is type(bare[0])
    assert ours == bare


@each_way
def test_policy_refuses_before_anything_is_sent(
    instrumented: Capture, server: ModelServer, policy: Policy, ask: Way
) -> None:
    @guardrail(kinds=["llm"])
    def no_large_models(call: Any) -> str | None:
        return "too large" if call.request.model.endswith("gpt-4.1") else None

    policy(no_large_models)
    with pytest.raises(GuardrailRejected, match="too large"):
        ask(**options(server))
    assert server.requests == []
    assert text_in(ask(**options(server, model="openai/gpt-4.1-mini"))) == "Blue."


@each_way
def test_a_request_is_rewritten_on_the_wire(
    instrumented: Capture, server: ModelServer, policy: Policy, ask: Way
) -> None:
    @request_intercept(kinds=["llm"])
    def cooler(call: Any) -> Any:
        wire = dict(call.wire)
        assert wire.pop("seed") == 3
        call.wire = {**wire, "model": "openai/gpt-4.1-mini", "temperature": 0.25, "top_a": 2}

    policy(cooler)
    given = options(server, temperature=1, seed=3, extra_body={"top_a": 1, "top_b": 1})
    before = json.dumps(given)
    assert text_in(ask(**given)) == "Blue."
    assert json.dumps(given) == before
    [request] = server.requests
    assert request.body["model"] == "gpt-4.1-mini"
    assert (request.body["temperature"], request.body["top_a"], request.body["top_b"]) == (0.25, 2, 1)
    assert "seed" not in request.body


@each_way
def test_policy_answers_in_the_place_of_the_model(
    instrumented: Capture, server: ModelServer, policy: Policy, ask: Way
) -> None:
    @execution_intercept(kinds=["llm"])
    def knows(call: Any) -> Any:
        return ModelResponse("cache", messages=[Message("assistant", [Text("Grey.")], finish_reason="stop")])
        yield call

    policy(knows)
    assert text_in(ask(**options(server))) == "Grey."
    assert server.requests == []
    assert said(instrumented.span) == "Grey."


@pytest.mark.parametrize("ask", [streamed, streamed_async])
def test_stream_intercepts_see_and_change_chunks(
    instrumented: Capture, server: ModelServer, policy: Policy, ask: Way
) -> None:
    @stream_intercept
    def grey(call: Any, chunk: Any) -> Any:
        for choice in chunk.get("choices", ()):
            if choice.get("delta", {}).get("content"):
                choice["delta"]["content"] = choice["delta"]["content"].replace("Blue", "Grey")
        return chunk

    policy(grey)
    assert text_in(ask(**options(server))) == "Grey."
    assert said(instrumented.span) == "Grey."


def test_a_stream_is_litellms_own_and_may_be_left(instrumented: Capture, server: ModelServer) -> None:
    stream = litellm.completion(**options(server), stream=True)
    assert isinstance(stream, litellm.CustomStreamWrapper)
    assert isinstance(next(stream), litellm.ModelResponseStream)
    stream.close()
    assert instrumented.record(instrumented.span).incomplete == "closed"


@each_way
def test_an_error_is_litellms_and_on_the_span(instrumented: Capture, ask: Way) -> None:
    refused = error(429, {"error": {"message": "slow down", "type": "rate"}})
    with ModelServer(lambda request: refused) as server, pytest.raises(litellm.RateLimitError) as failure:
        ask(**options(server))
    assert type(failure.value) is litellm.RateLimitError
    assert instrumented.span.status.status_code is StatusCode.ERROR
    assert instrumented.span.attributes["error.type"] == "litellm.exceptions.RateLimitError"


def test_messages_may_be_objects_and_a_conversation_goes_on(instrumented: Capture, server: ModelServer) -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    messages: list[Any] = list(QUESTION)
    first = litellm.completion(**options(server, tools=tools, messages=messages))
    messages += [first.choices[0].message, {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}]
    assert text_in(litellm.completion(**options(server, tools=tools, messages=messages))) == "Blue."
    told = json.loads(instrumented.spans[1].attributes["gen_ai.input.messages"])
    assert [message["role"] for message in told] == ["user", "assistant", "tool"]
    assert told[1]["parts"][0]["arguments"] == {"city": "Rome"}


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_router_asks_by_calls_of_its_deployments(
    instrumented: Capture, server: ModelServer, broken: ModelServer, colour: str
) -> None:
    deployments = [("first", "gpt-4.1", broken.url), ("second", "gpt-4.1-mini", server.url)]
    router = litellm.Router(
        model_list=[
            {"model_name": name, "litellm_params": {"model": f"openai/{model}", "api_base": url, "api_key": "none"}}
            for name, model, url in deployments
        ],
        fallbacks=[{"first": ["second"]}],
        num_retries=0,
    )
    if colour == "sync":
        response = router.completion(model="first", messages=QUESTION, max_retries=0)
    else:
        response = asyncio.run(router.acompletion(model="first", messages=QUESTION, max_retries=0))
    assert text_in(response) == "Blue."
    assert tree(instrumented) == ["chat gpt-4.1", "chat gpt-4.1-mini"]
    failed, answered = instrumented.spans
    assert failed.status.status_code is StatusCode.ERROR
    assert said(answered) == "Blue."


@pytest.mark.parametrize("ask", [plain, awaited])
def test_counts_that_nobody_sent_are_none(instrumented: Capture, ask: Way) -> None:
    body = {
        "id": "x",
        "object": "chat.completion",
        "model": "gpt-4.1",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Blue."}}],
    }
    with ModelServer(lambda request: raw(json.dumps(body).encode())) as server:
        response = ask(**options(server))
    assert response.usage.prompt_tokens == 0
    assert not [name for name in instrumented.span.attributes if name.startswith("gen_ai.usage")]


@pytest.mark.parametrize(
    ("asked", "wanted", "sent"),
    [
        ("openai/gpt-4.1", "gpt-4.1-nano", "gpt-4.1-nano"),
        ("openai/gpt-4.1", "openai/gpt-4.1-nano", "gpt-4.1-nano"),
        ("gpt-4.1", "gpt-4.1-nano", "gpt-4.1-nano"),
        ("openai/gpt-4.1", "deepseek/deepseek-chat", "deepseek-chat"),
        ("openrouter/openai/gpt-4.1", "openai/gpt-4.1-nano", "openai/gpt-4.1-nano"),
    ],
)
def test_another_model_is_asked_for_as_litellm_has_it(
    instrumented: Capture, server: ModelServer, policy: Policy, asked: str, wanted: str, sent: str
) -> None:
    @request_intercept(kinds=["llm"])
    def smaller(call: Any) -> Any:
        return replace(call.request, model=wanted)

    policy(smaller)
    litellm.completion(asked, QUESTION, api_base=server.url, api_key="none")
    assert server.requests[0].body["model"] == sent


@each_way
def test_policy_judges_a_completion_once(capture: Capture, server: ModelServer, policy: Policy, ask: Way) -> None:
    judged: list[str] = []

    @guardrail(kinds=["llm"])
    def counts(call: Any) -> None:
        judged.append(call.request.model)

    policy(counts)
    with at_work(capture, LiteLLMInstrumentor, OpenAIInstrumentor):
        ask(**options(server, temperature=0.5))
    assert judged == ["gpt-4.1"]


def test_a_function_that_was_imported_by_its_name_is_the_same(instrumented: Capture, server: ModelServer) -> None:
    from litellm import completion

    completion("openai/gpt-4.1", QUESTION, api_base=server.url, api_key="none")
    assert instrumented.span.name == "chat gpt-4.1"


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_fallback_is_a_call_of_its_own(
    instrumented: Capture, server: ModelServer, broken: ModelServer, colour: str
) -> None:
    second = {"model": "openai/gpt-4.1-mini", "api_base": server.url, "api_key": "a secret"}
    given = options(broken, fallbacks=[second])
    response = plain(**given) if colour == "sync" else awaited(**given)
    assert text_in(response) == "Blue."
    assert tree(instrumented) == ["chat gpt-4.1", "  chat gpt-4.1-mini"]
    assert said(instrumented.spans[0]) == said(instrumented.spans[1]) == "Blue."
    assert "a secret" not in str([dict(span.attributes or {}) for span in instrumented.spans])


def test_policy_takes_out_a_fallback_and_the_others_keep_their_keys(
    instrumented: Capture, server: ModelServer, broken: ModelServer, policy: Policy
) -> None:
    @request_intercept(kinds=["llm"])
    def no_nano(call: Any) -> None:
        wire = dict(call.wire)
        wire["fallbacks"] = [each for each in wire.get("fallbacks", ()) if "nano" not in each["model"]]
        call.wire = wire

    policy(no_nano)
    rest = {"api_base": server.url, "api_key": "none"}
    fallbacks = [{"model": f"openai/gpt-4.1-{size}", **rest} for size in ("nano", "mini")]
    assert text_in(litellm.completion(**options(broken, fallbacks=fallbacks))) == "Blue."
    assert [request.body["model"] for request in server.requests] == ["gpt-4.1-mini"]


@pytest.mark.parametrize("ask", [streamed, streamed_async])
def test_a_stream_that_breaks_fails_as_litellm_has_it(instrumented: Capture, ask: Way) -> None:
    broken = reply("Blue. " * 20, in_stream_error={"message": "broken", "type": "server_error"})
    with ModelServer(lambda request: broken) as server, pytest.raises(Exception) as failure:
        ask(**options(server))
    assert type(failure.value).__module__.startswith("litellm")
    assert instrumented.span.status.status_code is StatusCode.ERROR
    assert instrumented.record(instrumented.span).incomplete == "error"


@pytest.fixture
def alias(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litellm, "model_alias_map", {"fast": "openai/gpt-4.1"})


def no_gpt(call: Any) -> str | None:
    named = [call.request.model, *call.named_beside]
    return "too large" if "gpt-4.1" in named else None


@each_way
@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({"model": "fast"}, id="an alias"),
        pytest.param({"model": "azure/x", "deployment_id": "gpt-4.1", "api_version": "1"}, id="a deployment"),
        pytest.param({"model": "anthropic/gpt-4.1", "extra_body": {"model": "x"}}, id="beside a model of the body"),
        pytest.param({"model": "bedrock/anthropic.x", "model_id": "gpt-4.1"}, id="by an argument of Bedrock's"),
        pytest.param({"model": "bedrock/converse/us-east-1/gpt-4.1"}, id="behind a route and a region of Bedrock's"),
        pytest.param({"model": "azure/o_series/gpt-4.1", "api_version": "1"}, id="behind a series of Azure's"),
        pytest.param({"model": "xai/responses/gpt-4.1"}, id="behind a route"),
        pytest.param(
            {"model": "mistral/x", "context_window_fallback_dict": {"mistral/x": "mistral/gpt-4.1"}},
            id="where the window is too small",
        ),
    ],
)
@pytest.mark.usefixtures("alias")
def test_the_model_that_runs_is_the_one_that_is_judged(
    instrumented: Capture, server: ModelServer, policy: Policy, ask: Way, asked: dict[str, Any]
) -> None:
    policy(guardrail(no_gpt, kinds=["llm"]))
    with pytest.raises(GuardrailRejected, match="too large"):
        ask(**options(server, **asked))
    assert server.requests == []


def test_the_model_behind_a_route_of_litellms_is_recorded_and_another_is_asked_on_that_route(
    instrumented: Capture, server: ModelServer, policy: Policy
) -> None:
    @request_intercept(kinds=["llm"])
    def smaller(call: Any) -> Any:
        assert call.request.model == "gpt-4.1"
        return replace(call.request, model="gpt-4.1-mini")

    policy(smaller)
    litellm.completion(**options(server, model="xai/responses/gpt-4.1"))
    assert [(request.api, request.body["model"]) for request in server.requests] == [("responses", "gpt-4.1-mini")]


@pytest.mark.parametrize(
    ("model", "key"), [("openai/gpt-5", "max_completion_tokens"), ("hosted_vllm/llama", "max_tokens")]
)
def test_a_limit_that_policy_sets_has_the_name_that_litellm_knows_the_model_to_take(
    instrumented: Capture, server: ModelServer, policy: Policy, model: str, key: str
) -> None:
    policy(
        request_intercept(lambda call: replace(call.request, parameters={"max_tokens": 9}), kinds=["llm"], name="few")
    )
    litellm.completion(**options(server, model=model))
    assert server.requests[-1].body[key] == 9


def test_arguments_that_the_function_refuses_are_refused_by_it(instrumented: Capture) -> None:
    with pytest.raises(TypeError, match=r"completion\(\) got multiple values for argument 'model'"):
        litellm.completion("openai/gpt-4.1", QUESTION, model="openai/gpt-4.1")
    assert not instrumented.spans


@pytest.mark.parametrize("ask", [plain, streamed])  # LiteLLM's async functions know no alias without a provider
@pytest.mark.usefixtures("alias")
def test_an_alias_may_be_asked_for_and_another_model_put_in_its_place(
    instrumented: Capture, server: ModelServer, policy: Policy, ask: Way
) -> None:
    assert text_in(ask(**options(server, model="fast"))) == "Blue."

    @request_intercept(kinds=["llm"])
    def smaller(call: Any) -> None:
        call.request.model = "gpt-4.1-mini"

    policy(smaller)
    assert text_in(ask(**options(server, model="fast"))) == "Blue."
    assert [request.body["model"] for request in server.requests] == ["gpt-4.1", "gpt-4.1-mini"]


@each_way
def test_tools_that_are_said_in_two_places_are_refused_where_policy_is_in_force(
    instrumented: Capture, server: ModelServer, policy: Policy, ask: Way
) -> None:
    tools = [{"type": "function", "function": {"name": "rm"}}]
    twice = options(server, model="anthropic/x", tools=tools, extra_body={"tools": []})
    policy(guardrail(lambda call: None, kinds=["llm"], name="any"))
    with pytest.raises(MiddlewareError, match="'tools' in an argument and in 'extra_body'"):
        ask(**twice)
    assert server.requests == []
