"""A span that other instrumentation opens for a model call is filled by ours: one call, one span, whoever opened it."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, get_current, set_value
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import NonRecordingSpan, StatusCode, set_span_in_context, use_span

import spanrelay
from spanrelay.records import ErrorInfo
from spanrelay.tracing import take
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.exchange import Answer, error, raw, reply
from spanrelay_testkit.model_server import ModelServer

ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
LLM = {"openinference.span.kind": "LLM"}
LLAMA_INDEX = "openinference.instrumentation.llama_index"


@pytest.fixture
def answers() -> list[Answer]:
    """What the server answers before it says hello."""
    return []


@pytest.fixture
def server(answers: list[Answer]) -> Iterator[ModelServer]:
    with ModelServer(lambda request: answers.pop(0) if answers else reply("Hello.")) as server:
        yield server


@pytest.fixture
def create(capture: Capture, server: ModelServer) -> Iterator[Any]:
    """`client.chat.completions.create` with ours in force."""
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    with openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
        yield client.chat.completions.create
    instrumentor.uninstrument()


@pytest.fixture
def theirs(capture: Capture) -> Any:
    """Opens a span as other instrumentation does, and makes it current."""
    return capture.provider.get_tracer("somebody.else").start_as_current_span


def read(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_the_span_has_what_both_say_of_the_call(capture: Capture, create: Any, theirs: Any) -> None:
    with theirs("Model.generate", attributes={**LLM, "llm.prompt_template.version": "3"}):
        answer = create(**ASK, temperature=0.5)
    span = capture.span
    said = read(span)
    assert span.name == "Model.generate"
    assert said["llm.prompt_template.version"] == "3"
    assert said["gen_ai.response.id"] == answer.id
    assert said["gen_ai.usage.input_tokens"] == answer.usage.prompt_tokens
    assert "hello" in said["gen_ai.input.messages"]
    assert span.status.status_code is StatusCode.UNSET


def test_the_record_has_the_name_and_the_times_of_the_span(capture: Capture, create: Any, theirs: Any) -> None:
    with theirs("Model.generate", attributes=LLM):
        create(**ASK)
    record = capture.record(capture.span)
    assert (record.name, record.scope_name, record.start) == (
        "Model.generate",
        "somebody.else",
        capture.span.start_time,
    )
    assert record.response is not None


def test_an_embeddings_call_fills_a_span_of_its_kind_alone(capture: Capture, server: ModelServer, theirs: Any) -> None:
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    with openai.OpenAI(base_url=server.url, api_key="none") as client:
        for kind in ("EMBEDDING", "LLM"):
            with theirs(kind, attributes={"openinference.span.kind": kind}):
                client.embeddings.create(model="e", input="text")
    instrumentor.uninstrument()
    assert [span.name for span in capture.spans] == ["EMBEDDING", "embeddings e", "LLM"]


def test_a_span_that_names_its_model_before_its_kind_is_filled(capture: Capture, create: Any, theirs: Any) -> None:
    with theirs("completion") as span:
        span.set_attribute("llm.model_name", "openai/m")
        create(**ASK)
    assert read(capture.span)["llm.model_name"] == "m"


def test_of_several_spans_around_a_call_the_outermost_is_filled_and_exported(
    capture: Capture, create: Any, theirs: Any
) -> None:
    with theirs("agent"), theirs("framework", attributes=LLM), theirs("router", attributes=LLM):
        answer = create(**ASK)
    assert [span.name for span in capture.spans] == ["framework", "agent"]
    assert read(capture.spans[0])["gen_ai.response.id"] == answer.id


def test_a_tracer_that_stands_down_in_between_hides_nothing(capture: Capture, create: Any, theirs: Any) -> None:
    with theirs("framework", attributes=LLM) as span, use_span(NonRecordingSpan(span.get_span_context())):
        answer = create(**ASK)
    assert read(capture.span)["gen_ai.response.id"] == answer.id


def test_a_further_call_beneath_several_spans_fills_its_own(capture: Capture, create: Any, theirs: Any) -> None:
    with theirs("router", attributes=LLM):
        for name in ("first", "second"):
            with theirs(name, attributes=LLM):
                create(**ASK)
    assert [span.name for span in capture.spans] == ["second", "router"]


@pytest.mark.parametrize("kind", ["AGENT", "CHAIN", "TOOL", "EMBEDDING", None])
def test_a_span_of_another_kind_is_only_the_parent(
    capture: Capture, create: Any, theirs: Any, kind: str | None
) -> None:
    with theirs("above", attributes={"openinference.span.kind": kind} if kind else {}):
        create(**ASK)
    below, above = capture.spans
    assert below.name == "chat m"
    assert below.parent == above.get_span_context()


def test_a_further_call_beneath_has_a_span_of_its_own(capture: Capture, create: Any, theirs: Any) -> None:
    with theirs("Model.generate", attributes=LLM):
        first, second = create(**ASK), create(**ASK)
    own, filled = capture.spans
    assert (read(filled)["gen_ai.response.id"], read(own)["gen_ai.response.id"]) == (first.id, second.id)
    assert own.parent == filled.get_span_context()


def test_an_attempt_that_failed_leaves_the_span_to_the_next(
    capture: Capture, create: Any, theirs: Any, answers: list[Answer]
) -> None:
    answers.append(error(500))
    with theirs("Model.generate", attributes=LLM):
        with pytest.raises(openai.InternalServerError):
            create(**ASK)
        answer = create(**ASK)
    assert read(capture.span)["gen_ai.response.id"] == answer.id
    assert "error.type" not in read(capture.span)


def test_a_failure_that_the_owner_got_over_otherwise_is_not_told_as_its_own(
    capture: Capture, create: Any, theirs: Any, answers: list[Answer]
) -> None:
    answers.append(error(500))
    with theirs("Model.generate", attributes=LLM), pytest.raises(openai.InternalServerError):
        create(**ASK)
    assert "error.type" not in read(capture.span)
    assert capture.span.status.status_code is StatusCode.UNSET


def test_a_failed_call_fails_the_span(capture: Capture, create: Any, theirs: Any, answers: list[Answer]) -> None:
    answers.append(error(500))
    with pytest.raises(openai.InternalServerError), theirs("Model.generate", attributes=LLM):
        create(**ASK)
    assert capture.span.status.status_code is StatusCode.ERROR
    assert read(capture.span)["error.type"] == "openai.InternalServerError"


BUSY = raw(json.dumps({"error": {"message": "busy", "type": "overloaded"}}).encode())


@pytest.mark.parametrize("owner", [None, StatusCode.OK])
def test_a_failure_that_a_200_holds_fails_the_span_whatever_its_owner_took_it_for(
    capture: Capture, create: Any, theirs: Any, answers: list[Answer], owner: StatusCode | None
) -> None:
    answers.append(BUSY)
    with theirs("Model.generate", attributes=LLM) as span:
        create(**ASK)
        if owner is not None:
            span.set_status(owner)
    assert (capture.span.status.status_code, capture.span.status.description) == (StatusCode.ERROR, "busy")
    assert read(capture.span)["error.type"] == "overloaded"
    assert capture.record(capture.span).error == ErrorInfo("overloaded", "busy", status_code=200)


def test_a_failure_that_ends_a_stream_fails_the_span(
    capture: Capture, create: Any, theirs: Any, answers: list[Answer]
) -> None:
    answers.append(raw(b'data: {"object": "error", "message": "boom", "code": 500}\n\n', "text/event-stream"))
    with theirs("Model.generate", attributes=LLM) as span:
        list(create(**ASK, stream=True))
        span.set_status(StatusCode.OK)
    assert (capture.span.status.status_code, capture.span.status.description) == (StatusCode.ERROR, "boom")


def test_a_failure_that_a_200_holds_leaves_the_span_to_the_next_call(
    capture: Capture, create: Any, theirs: Any, answers: list[Answer]
) -> None:
    answers.append(BUSY)
    with theirs("Model.generate", attributes=LLM):
        create(**ASK)
        answer = create(**ASK)
    assert read(capture.span)["gen_ai.response.id"] == answer.id
    assert capture.span.status.status_code is StatusCode.UNSET
    assert "error.type" not in read(capture.span)


def test_a_failure_that_a_200_holds_is_sanitized_in_a_span_of_theirs(
    capture: Capture, create: Any, theirs: Any, answers: list[Answer]
) -> None:
    @spanrelay.sanitizer
    def hide(field: Any) -> Any:
        return json.loads(json.dumps(field.value).replace("busy", "[hidden]"))

    answers.append(BUSY)
    with spanrelay.use(hide), theirs("Model.generate", attributes=LLM):
        create(**ASK)
    assert capture.span.status.description == "[hidden]"
    assert "busy" not in capture.span.to_json()


def test_a_stream_fills_the_span(capture: Capture, create: Any, theirs: Any) -> None:
    with theirs("Model.generate_stream", attributes=LLM):
        chunks = list(create(**ASK, stream=True))
    said = read(capture.span)
    assert said["gen_ai.response.id"] == chunks[0].id
    assert said["gen_ai.response.time_to_first_chunk"] > 0


def test_an_async_call_fills_the_span(capture: Capture, create: Any, theirs: Any, server: ModelServer) -> None:
    async def ask() -> Any:
        async with openai.AsyncOpenAI(base_url=server.url, api_key="none") as client:
            with theirs("Model.agenerate", attributes=LLM):
                return await client.chat.completions.create(**ASK)

    answer = asyncio.run(ask())
    assert read(capture.span)["gen_ai.response.id"] == answer.id


def test_a_stream_that_outlives_the_span_has_one_of_its_own_beneath(capture: Capture, create: Any, theirs: Any) -> None:
    with theirs("Model.generate_stream", attributes=LLM):
        stream = create(**ASK, stream=True)
    list(stream)
    around, call = capture.spans
    assert "gen_ai.response.id" not in read(around)
    assert call.parent is not None
    assert (call.parent.span_id, call.start_time) >= (around.context.span_id, around.start_time)
    assert [read(span)["openinference.span.kind"] for span in capture.spans] == ["CHAIN", "LLM"]
    assert read(call)["gen_ai.response.id"] == "chatcmpl-1"
    assert "hello" in str(read(call)["gen_ai.input.messages"])


def test_policy_judges_and_rewrites_a_call_whose_span_is_theirs(
    capture: Capture, create: Any, theirs: Any, server: ModelServer
) -> None:
    @spanrelay.guardrail(kinds=["llm"])
    def only_small(call: Any) -> str | None:
        return "too large" if call.request.model == "large" else None

    @spanrelay.request_intercept(kinds=["llm"])
    def cooler(call: Any) -> None:
        call.wire["temperature"] = 0

    with spanrelay.use(only_small), spanrelay.use(cooler):
        with theirs("Model.generate", attributes=LLM):
            create(**ASK, temperature=1)
        with pytest.raises(spanrelay.GuardrailRejected), theirs("Model.generate", attributes=LLM):
            create(**{**ASK, "model": "large"})
    assert [request.body["temperature"] for request in server.requests] == [0]
    verdict, passed, _, refused = capture.spans
    assert verdict.parent == passed.get_span_context()
    assert read(passed)["gen_ai.request.temperature"] == 0
    assert refused.status.status_code is StatusCode.ERROR


def test_sanitizers_are_shown_what_both_recorded(capture: Capture, create: Any, theirs: Any) -> None:
    @spanrelay.sanitizer
    def hide(field: Any) -> Any:
        return json.loads(json.dumps(field.value).replace("hello", "[hidden]"))

    with spanrelay.use(hide), theirs("Model.generate", attributes={**LLM, "input.value": "hello"}):
        create(**ASK)
    assert "hello" not in str(read(capture.span))
    assert read(capture.span)["input.value"] == "[hidden]"
    assert "[hidden]" in read(capture.span)["gen_ai.input.messages"]
    assert read(capture.span)["gen_ai.request.model"] == "m"


def test_where_instrumentation_is_suppressed_the_span_above_is_left_alone(
    capture: Capture, create: Any, theirs: Any
) -> None:
    with theirs("Model.generate", attributes=LLM):
        token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        create(**ASK)
        detach(token)
    assert read(capture.span) == LLM


def test_of_calls_side_by_side_one_fills_the_span(capture: Capture, theirs: Any) -> None:
    with theirs("Model.generate", attributes=LLM) as span:
        filling = vars(span)["_spanrelay_filling"]
        assert filling.free
        assert filling.claim()
        # Another thread saw that it was free, too.
        assert not filling.claim()
        assert take("llm", get_current()) is None
        filling.give_back()
        assert take("llm", get_current()) is span


def test_work_that_goes_on_and_on_keeps_no_span_that_has_ended(capture: Capture) -> None:
    tracer = capture.provider.get_tracer("somebody.else")
    spans: list[weakref.ref[Any]] = []
    above: Any = None
    for _ in range(5):
        span = tracer.start_span("step", set_span_in_context(above) if above is not None else None, attributes=LLM)
        if above is not None:
            above.end()
        spans.append(weakref.ref(span))
        above = span
    del span
    gc.collect()
    assert [span() is not None for span in spans] == [False, False, False, True, True]
    above.end()


def test_a_span_that_says_what_it_is_by_its_name_alone_is_filled(capture: Capture, create: Any) -> None:
    """OpenInference's instrumentor for LlamaIndex writes no attribute until the span ends."""
    with capture.provider.get_tracer(LLAMA_INDEX).start_as_current_span("OpenAI.achat") as span:
        answer = create(**ASK)
        span.set_attributes(LLM)
    assert read(capture.span)["gen_ai.response.id"] == answer.id


def test_a_span_that_was_current_no_more_when_its_stream_was_asked_for_is_left_out(
    capture: Capture, create: Any
) -> None:
    tracer = capture.provider.get_tracer(LLAMA_INDEX)
    with tracer.start_as_current_span("BaseWorkflowAgent.run_agent_step"):
        told = tracer.start_span("OpenAI.astream_chat")
        answer = create(**ASK)
        told.set_attributes(LLM)
        told.end()
        alone = tracer.start_span("OpenAI.astream_chat", attributes=LLM)
        alone.end()
    assert [span.name for span in capture.spans] == [
        "chat m",
        "OpenAI.astream_chat",
        "BaseWorkflowAgent.run_agent_step",
    ]
    assert read(capture.spans[0])["gen_ai.response.id"] == answer.id
