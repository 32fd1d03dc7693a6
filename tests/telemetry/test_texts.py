"""Every text that reaches an exporter is valid UTF-8: half an emoji costs one character, never a span or a batch."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Link, SpanContext, Status, StatusCode

import spanrelay
from spanrelay._json import clean_text, dumps_text
from spanrelay.records import AgentInfo, ErrorInfo, ModelRequest, ModelResponse, SpanRecord
from spanrelay.telemetry.metrics import CallMetrics
from spanrelay_testkit.capture import Capture, captured

HALF = "a\ud83e"
WHOLE = "a\ufffd"
CHAT: Any = {
    "id": HALF,
    "object": HALF,
    "model": HALF,
    "choices": [{"index": 0, "finish_reason": HALF, "message": {"role": HALF, "content": HALF}}],
    "service_tier": HALF,
    HALF: HALF,
}


def fails(**given: str) -> None:
    raise ValueError(HALF)


def failing_tool() -> None:
    with pytest.raises(ValueError, match="a"):
        spanrelay.run_tool(HALF, fails, {HALF: HALF}, call_id=HALF)


def failing_model() -> None:
    error = {"message": HALF, "type": HALF, "code": HALF}
    spanrelay.run_model(lambda _: {"error": error}, {"model": HALF, "messages": []})


def model() -> None:
    request = {"model": HALF, "messages": [{"role": HALF, "content": HALF}], "stop": [HALF], HALF: HALF}
    spanrelay.run_model(lambda _: CHAT, request, provider=HALF)


def whole_scope() -> None:
    agent = AgentInfo(HALF, HALF, HALF, HALF)
    with spanrelay.scope(HALF, session=HALF, user=HALF, metadata={HALF: HALF}, agent=agent) as here:
        here.mark(HALF, {HALF: HALF, "list": [HALF]})
        model()


def refused() -> None:
    @spanrelay.guardrail(name=HALF)
    def refuse(call: Any) -> str:
        return HALF

    with spanrelay.use(refuse), pytest.raises(spanrelay.GuardrailRejected):
        model()


OURS: dict[str, Callable[[], None]] = {
    "a tool that fails": failing_tool,
    "a model call that fails": failing_model,
    "a model call": model,
    "a scope": whole_scope,
    "a refusal": refused,
}


def encoded(spans: tuple[ReadableSpan, ...]) -> bytes:
    """The spans as OTLP carries them; the encoder logs what it leaves out, which fails the test."""
    return encode_spans(spans).SerializeToString()


@pytest.mark.parametrize("dialect", ["genai", "openinference"])
@pytest.mark.parametrize("adopted", [True, False], ids=["adopted", "not adopted"])
@pytest.mark.parametrize("work", OURS.values(), ids=OURS)
def test_our_spans_are_encoded_whole(work: Callable[[], None], adopted: bool, dialect: str) -> None:
    with captured(dialect=dialect, adopted=adopted) as capture:
        work()
        assert WHOLE.encode() in encoded(capture.spans)
        assert all(WHOLE in span.name for span in capture.spans)


def test_spans_of_other_instrumentation_are_encoded_whole(capture: Capture) -> None:
    linked = Link(SpanContext(1, 2, is_remote=False), {HALF: HALF, "list": [HALF]})
    attributes = {HALF: HALF, "list": [HALF, "b"], f"{HALF}.2": 2}
    with capture.tracer().start_as_current_span(HALF, attributes=attributes, links=[linked]) as span:
        span.add_event(HALF, {HALF: HALF})
        span.record_exception(ValueError(HALF))
        span.set_status(Status(StatusCode.ERROR, HALF))
    told = capture.span
    assert encoded(capture.spans)
    assert (told.name, told.status.description) == (WHOLE, WHOLE)
    assert dict(told.attributes or {}) == {WHOLE: WHOLE, "list": (WHOLE, "b"), f"{WHOLE}.2": 2}
    assert [event.name for event in told.events] == [WHOLE, "exception"]
    assert dict(told.events[0].attributes or {}) == {WHOLE: WHOLE}
    assert dict(told.links[0].attributes or {}) == {WHOLE: WHOLE, "list": (WHOLE,)}


@pytest.mark.swallows  # what a sanitizer gives back must be JSON: the field is left out and counted
def test_sanitized_spans_are_encoded_whole(capture: Capture) -> None:
    @spanrelay.sanitizer
    def breaks(field: Any) -> Any:
        return HALF if isinstance(field.value, str) else field.value

    with spanrelay.use(breaks):
        whole_scope()
        failing_tool()
    assert encoded(capture.spans)


def test_metrics_are_encoded_whole() -> None:
    reader = InMemoryMetricReader()
    calls = CallMetrics(MeterProvider([reader], shutdown_on_exit=False))
    record = SpanRecord(1, 1, kind="llm", operation=HALF, provider=HALF, error=ErrorInfo(HALF))
    record.request, record.response = ModelRequest(HALF), ModelResponse(model=HALF)
    calls.record(record)
    data: Any = reader.get_metrics_data()
    assert WHOLE.encode() in encode_metrics(data).SerializeToString()


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (HALF, WHOLE),
        ("\udc00\ud83e", "\ufffd\ufffd"),
        ("plain", "plain"),
        ("ä \U0001f600", "ä \U0001f600"),
    ],
    ids=["behind text", "alone", "ASCII", "valid"],
)
def test_a_lone_surrogate_becomes_the_replacement_character(text: str, clean: str) -> None:
    assert clean_text(text) == clean
    assert json.loads(dumps_text([text])) == [clean]
