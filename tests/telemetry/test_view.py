"""The view of a span: read once, by whoever reads first, within the span's limits, and never unsanitized."""

from __future__ import annotations

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, StatusCode, TraceFlags, set_span_in_context

from spanrelay import _guard, run_model, run_tool, scope, tracing
from spanrelay.records import SpanRecord
from spanrelay.semconv.spans import describe_span
from spanrelay.telemetry import projection
from spanrelay.telemetry.front import put_in_front
from spanrelay.telemetry.processor import RelaySpanProcessor
from spanrelay.telemetry.projection import LazyAttributes
from spanrelay.tracing import Tracing
from spanrelay_testkit.capture import Capture, captured

KEY = "sk-" + "a1B2" * 8
SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def lazy(span: ReadableSpan) -> LazyAttributes:
    attributes = span._attributes
    assert isinstance(attributes, LazyAttributes)
    return attributes


def test_nothing_is_read_before_somebody_asks(capture: Capture) -> None:
    run_tool("t", lambda: "done")
    view = lazy(capture.span)
    assert view._items is None
    assert bool(view)
    assert view._items is None
    assert (capture.span.attributes or {})["gen_ai.tool.call.result"] == "done"
    assert view._items is not None


@pytest.mark.parametrize(
    "parent",
    [None, SpanContext(1, 2, True, SAMPLED), SpanContext(1, 2, False, SAMPLED)],
    ids=["root", "remote", "child"],
)
@pytest.mark.parametrize("ends", ["well", "by an exception", "with a status alone", "cut by a limit"])
def test_what_a_span_of_ours_says_by_itself_is_what_any_span_says(parent: SpanContext | None, ends: str) -> None:
    resource = Resource({"service.name": "app", "service.version": "1", "deployment.environment": "test"})
    provider = TracerProvider(resource=resource, span_limits=SpanLimits(max_span_attributes=1), shutdown_on_exit=False)
    context = None if parent is None else set_span_in_context(NonRecordingSpan(parent), Context())
    span: Any = provider.get_tracer("app", "2").start_span("s", context, attributes={"a": 1})
    span.add_event("note", {"b": 2})
    if ends == "by an exception":
        span.record_exception(KeyError("k"))
    elif ends == "cut by a limit":
        span.set_attribute("c", 3)
    if ends in ("by an exception", "with a status alone"):
        span.set_status(StatusCode.ERROR, "it failed")
    span.end()
    quick, plain = SpanRecord(0, 0), SpanRecord(0, 0)
    projection._describe(span, quick)
    describe_span(span, plain)
    assert quick == plain
    assert (quick.scope_name, quick.truncated, quick.error is not None) == (
        "app",
        ends == "cut by a limit",
        ends in ("by an exception", "with a status alone"),
    )


def test_readers_on_many_threads_get_one_projection(capture: Capture) -> None:
    run_tool("t", lambda: "done")
    view, together = lazy(capture.span), threading.Barrier(8)

    def read(_: int) -> Any:
        together.wait(10)
        return view.items()

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read, range(8)))
    assert all(items == found[0] for items in found)
    assert len({id(view._items)}) == 1


@pytest.mark.parametrize("adopted", [True, False], ids=["adopted", "not adopted"])
def test_sequences_are_tuples_as_the_sdks_are(adopted: bool) -> None:
    answer = {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "a"}}]}
    with captured(adopted=adopted) as capture:
        run_model(lambda _: answer, {"model": "m", "messages": [], "stop": ["END"]})
        attributes = capture.span.attributes or {}
        assert attributes["gen_ai.response.finish_reasons"] == ("stop",)
        assert attributes["gen_ai.request.stop_sequences"] == ("END",)


def test_a_view_can_be_copied_and_pickled(capture: Capture) -> None:
    run_tool("t", lambda: "done")
    view = lazy(capture.span)
    assert dict(copy.deepcopy(view)) == dict(pickle.loads(pickle.dumps(view))) == view.copy() == dict(view)


def provider_with(relay: RelaySpanProcessor, **options: Any) -> tuple[TracerProvider, InMemorySpanExporter]:
    provider, exporter = TracerProvider(shutdown_on_exit=False, **options), InMemorySpanExporter()
    put_in_front(relay, provider)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.adopt(provider)
    return provider, exporter


def run_with(provider: TracerProvider, function: Any, arguments: Any = None) -> None:
    try:
        run_tool("t", function, arguments, tracing=Tracing("spanrelay_test", provider=provider))
    finally:
        tracing.abandon(provider)


def test_the_spans_limits_hold_and_drops_are_reported() -> None:
    provider, exporter = provider_with(
        RelaySpanProcessor(content=True), span_limits=SpanLimits(max_span_attributes=4, max_span_attribute_length=4)
    )
    run_with(provider, lambda x: "a long result", {"x": 1})
    [span] = exporter.get_finished_spans()
    assert len(span.attributes or {}) == 4
    assert span.dropped_attributes > 0
    assert all(len(value) <= 4 for value in (span.attributes or {}).values() if isinstance(value, str))


def test_without_content_no_argument_and_no_result_is_on_the_span() -> None:
    with captured(content=False) as capture:
        run_tool("t", lambda x: "secret result", {"x": "secret argument"})
        assert "secret" not in repr(dict(capture.span.attributes or {}))


def test_keys_are_masked_in_name_status_events_and_attributes(capture: Capture) -> None:
    def fails(x: str) -> None:
        raise ValueError(f"bad key {x}")

    with pytest.raises(ValueError, match=KEY):
        run_tool("t", fails, {"x": KEY})
    span = capture.span
    told = repr((span.name, span.status.description, [dict(e.attributes or {}) for e in span.events]))
    assert KEY not in told + repr(dict(span.attributes or {}))
    assert "[masked key]" in (span.status.description or "")


def test_keys_are_masked_in_lists_in_the_names_of_events_and_in_links(capture: Capture) -> None:
    links = [Link(SpanContext(1, 2, is_remote=True), {"tags": ["a", KEY], "n": 1})]
    span = capture.tracer().start_span("theirs", links=links, attributes={"prompts": ["x", f"y\n{KEY}"]})
    span.add_event(f"used {KEY}")
    span.add_event("used", {"keys": [KEY]})
    span.add_event("other", {"n": 1})
    span.end()
    told = capture.span
    seen = [told.attributes, *(event.attributes for event in told.events), *(link.attributes for link in told.links)]
    assert KEY not in repr([dict(items or {}) for items in seen]) + repr([event.name for event in told.events])
    assert [event.name for event in told.events] == ["used [masked key]", "used", "other"]
    assert dict(told.links[0].attributes or {}) == {"tags": ("a", "[masked key]"), "n": 1}


def test_masking_an_event_keeps_the_count_of_those_dropped() -> None:
    provider, exporter = provider_with(RelaySpanProcessor(), span_limits=SpanLimits(max_events=1))
    span = provider.get_tracer("theirs").start_span("theirs")
    span.add_event("first")
    span.add_event(f"second {KEY}")
    span.end()
    tracing.abandon(provider)
    (told,) = exporter.get_finished_spans()
    assert [event.name for event in told.events] == ["second [masked key]"]
    assert told.dropped_events == 1


class Early(SpanProcessor):
    """A processor of somebody else's, behind ours, that reads at each moment it can."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self.seen.append(str(dict(span.attributes or {})))

    def _on_ending(self, span: Span) -> None:
        self.seen.append(str(dict(span.attributes or {})))

    def on_end(self, span: ReadableSpan) -> None:
        self.seen.append(str(dict(span.attributes or {})))


def test_foreign_spans_are_sanitized_before_any_other_processor_reads_them_at_their_end(capture: Capture) -> None:
    early = Early()
    capture.provider.add_span_processor(early)
    span = capture.tracer().start_span("theirs")
    span.set_attribute("prompt", f"key {KEY}")
    span.end()
    assert KEY not in "".join(early.seen)
    assert (capture.span.attributes or {})["prompt"] == "key [masked key]"


def test_foreign_spans_get_the_session_user_and_metadata_of_their_scope(capture: Capture) -> None:
    with scope("bot", session="s-1", user="u-1", metadata={"team": "a"}):
        capture.tracer().start_span("theirs").end()
    attributes = capture.spans[0].attributes or {}
    assert (attributes["session.id"], attributes["gen_ai.conversation.id"]) == ("s-1", "s-1")
    assert (attributes["user.id"], attributes["metadata"]) == ("u-1", '{"team":"a"}')


def test_what_a_foreign_span_says_of_itself_is_not_overwritten(capture: Capture) -> None:
    with scope("bot", session="s-1"):
        capture.tracer().start_span("theirs", attributes={"session.id": "own"}).end()
    assert (capture.spans[0].attributes or {})["session.id"] == "own"


class Broken(SpanProcessor):
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        raise RuntimeError("start")

    def on_end(self, span: ReadableSpan) -> None:
        raise RuntimeError("end")


@pytest.mark.swallows
def test_a_processor_behind_that_raises_stops_neither_the_call_nor_the_others() -> None:
    relay = RelaySpanProcessor(content=True)
    provider, exporter = provider_with(relay)
    relay.behind = (Broken(), *relay.behind)
    run_with(provider, lambda: "done")
    assert len(exporter.get_finished_spans()) == 1
    assert _guard.losses.take() == {"failures of the span processor Broken": 2}


def test_a_provider_without_our_processor_gets_the_record_before_the_span_ends() -> None:
    with captured(adopted=False) as capture:
        run_tool("t", lambda x: x, {"x": 1})
        attributes = dict(capture.span.attributes or {})
    assert attributes["gen_ai.tool.call.arguments"] == '{"x":1}'
    assert not isinstance(capture.span._attributes, LazyAttributes)


def test_the_openinference_dialect_flattens_what_genai_keeps_together() -> None:
    with captured(dialect="openinference") as capture:
        run_tool("t", lambda x: x, {"x": 1}, call_id="c1")
        attributes = dict(capture.span.attributes or {})
    assert attributes["openinference.span.kind"] == "TOOL"
    assert attributes["tool.id"] == "c1"
    assert attributes["input.value"] == '{"x":1}'


@pytest.mark.swallows
def test_a_processor_that_raises_harms_no_call_where_ours_does_not_stand_in_front() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Broken())
    assert run_tool("t", lambda: "done", tracing=Tracing("spanrelay_test", provider=provider)) == "done"
    assert _guard.losses.take() == {"failures while starting a span": 1}
