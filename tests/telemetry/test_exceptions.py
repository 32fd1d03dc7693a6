"""A failed span has its exception as an event, as OpenTelemetry's conventions say, with no more of it than may be."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from websockets.exceptions import ConnectionClosedError

import spanrelay
from spanrelay.records import ErrorInfo
from spanrelay.semconv.spans import record_of
from spanrelay.tracing import describe_error
from spanrelay_testkit.capture import Capture, captured

ADOPTED = pytest.mark.parametrize("adopted", [True, False], ids=["adopted", "not adopted"])
KEY = "sk-" + "a1B2" * 8


def fails(message: str = "no such city") -> None:
    raise LookupError(message)


def in_a_tool() -> None:
    spanrelay.run_tool("weather", fails)


def in_a_model_call() -> None:
    spanrelay.run_model(lambda _: fails(), {"model": "m", "messages": []})


def in_a_scope() -> None:
    with spanrelay.scope("agent"):
        fails()


def exception(span: ReadableSpan) -> dict[str, Any]:
    """The attributes of the one event there is."""
    [event] = span.events
    assert event.name == "exception"
    return dict(event.attributes or {})


@ADOPTED
@pytest.mark.parametrize("work", [in_a_tool, in_a_model_call, in_a_scope])
def test_a_failed_span_has_its_exception_as_an_event(work: Callable[[], None], adopted: bool) -> None:
    with captured(adopted=adopted) as capture:
        with pytest.raises(LookupError):
            work()
        for span in capture.spans:
            told = exception(span)
            assert told.keys() == {"exception.type", "exception.message", "exception.stacktrace"}
            assert (told["exception.type"], told["exception.message"]) == ("LookupError", "no such city")
            lines = told["exception.stacktrace"].splitlines()
            assert lines[0] == "Traceback (most recent call last):"
            assert "in fails" in lines[-3]
            assert lines[-1] == "LookupError: no such city"
            assert record_of(span).error == ErrorInfo("LookupError", "no such city")


@ADOPTED
def test_a_guardrail_that_breaks_has_its_exception_as_an_event(adopted: bool) -> None:
    @spanrelay.guardrail
    def broken(call: Any) -> None:
        fails()

    with captured(adopted=adopted) as capture:
        with spanrelay.use(broken), pytest.raises(spanrelay.MiddlewareError):
            in_a_tool()
        [guardrail] = capture.of("GUARDRAIL")
        told = exception(guardrail)
        assert (told["exception.type"], told["exception.message"]) == ("LookupError", "no such city")


def test_without_content_the_event_says_the_type_alone() -> None:
    with captured(content=False) as capture:
        with pytest.raises(LookupError):
            in_a_tool()
        assert exception(capture.span) == {"exception.type": "LookupError"}
        assert record_of(capture.span).error == ErrorInfo("LookupError", "no such city")


def test_keys_are_masked_in_the_event(capture: Capture) -> None:
    def fails_with_key() -> None:
        raise LookupError(f"no {KEY}")

    with pytest.raises(LookupError):
        spanrelay.run_tool("weather", fails_with_key)
    assert KEY not in str(exception(capture.span))
    assert exception(capture.span)["exception.message"] == "no [masked key]"


@ADOPTED
def test_sanitizers_change_the_event_as_they_change_the_error(adopted: bool) -> None:
    @spanrelay.sanitizer(fields=["error"])
    def hide(field: Any) -> Any:
        return {**field.value, "message": "hidden"}

    with captured(adopted=adopted) as capture:
        with spanrelay.use(hide), pytest.raises(LookupError):
            in_a_tool()
        assert exception(capture.span) == {"exception.type": "LookupError", "exception.message": "hidden"}


@ADOPTED
def test_sanitizers_see_what_the_stack_trace_says_of_causes(adopted: bool) -> None:
    @spanrelay.sanitizer
    def hide(field: Any) -> Any:
        return json.loads(json.dumps(field.value).replace("secret", "hidden"))

    def chained() -> None:
        try:
            fails("the " + "sec" + "ret")
        except LookupError:
            raise ValueError("plain") from None

    def open_chain() -> None:
        try:
            fails("the " + "sec" + "ret")
        except LookupError as cause:
            raise ValueError("plain") from cause

    with captured(adopted=adopted) as capture:
        for tool in (chained, open_chain):
            with spanrelay.use(hide), pytest.raises(ValueError, match="plain"):
                spanrelay.run_tool("weather", tool)
        closed, opened = (exception(span)["exception.stacktrace"] for span in capture.spans)
        assert "LookupError" not in closed
        assert "LookupError: the hidden" in opened
        assert "secret" not in opened


def test_causes_are_told_and_a_circle_of_them_ends(capture: Capture) -> None:
    def chained() -> None:
        try:
            fails("first")
        except LookupError as first:
            second = ValueError("second")
            first.__context__ = second
            raise second from first

    with pytest.raises(ValueError, match="second"):
        spanrelay.run_tool("weather", chained)
    told = exception(capture.span)["exception.stacktrace"]
    assert told.index("LookupError: first") < told.index("direct cause") < told.index("ValueError: second")


def test_a_long_trace_keeps_its_beginning_and_its_end(capture: Capture) -> None:
    def deep(level: int) -> None:
        if level:
            deep(level - 1)
        fails("word " * 20_000 + "the end")

    with pytest.raises(LookupError):
        spanrelay.run_tool("weather", deep, {"level": 300})
    told = exception(capture.span)
    assert len(told["exception.stacktrace"]) < 20_000
    assert told["exception.stacktrace"].startswith("Traceback (most recent call last):")
    assert told["exception.stacktrace"].endswith("the end")
    assert len(told["exception.message"]) < 20_000


@pytest.mark.parametrize("before", range(7_900, 8_000, 9))
def test_a_key_is_masked_also_where_a_long_text_is_cut(before: int, capture: Capture) -> None:
    for message in ("y " * (before // 2) + KEY + " z" * 9_000, "y " * 9_000 + KEY + " z" * (before // 2)):
        with pytest.raises(LookupError):
            spanrelay.run_tool("weather", fails, {"message": message})
    for span in capture.spans:
        told = exception(span)
        assert len(told["exception.message"]) < 17_000
        assert "a1B2" not in str(told)


def test_an_exception_that_has_no_text_is_recorded(capture: Capture) -> None:
    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise LookupError("this exception has no text")

    def speechless() -> None:
        raise Unspeakable

    with pytest.raises(Unspeakable):
        spanrelay.run_tool("weather", speechless)
    assert exception(capture.span)["exception.stacktrace"].rstrip().endswith("Unspeakable")


def test_an_answer_that_says_that_it_failed_is_no_exception(capture: Capture) -> None:
    spanrelay.run_model(lambda _: {"error": {"message": "busy"}}, {"model": "m", "messages": []})
    assert capture.span.status.description == "busy"
    assert capture.span.events == ()


def test_subscribers_hear_of_the_failure_once(capture: Capture) -> None:
    told: list[Any] = []

    @spanrelay.subscriber
    def hear(event: Any) -> None:
        told.append(event)

    with spanrelay.use(hear), pytest.raises(LookupError):
        in_a_tool()
    capture.relay.force_flush()
    assert len(told) == 2


def test_an_error_whose_code_is_an_older_name_of_something_else_is_described_without_a_warning() -> None:
    closed = ConnectionClosedError(None, None)
    declined = aiohttp.ClientResponseError(SimpleNamespace(real_url="x"), (), status=429, message="slow")  # type: ignore[arg-type]  # what it reads of a request
    assert [describe_error(error).code for error in (closed, declined)] == [None, None]
