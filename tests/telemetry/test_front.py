"""Standing in front of a provider's processors: at once, later, and never with a gap between."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ConcurrentMultiSpanProcessor, Span, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_ON,
    Decision,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    SamplingResult,
)

import spanrelay
from spanrelay._guard import losses
from spanrelay.telemetry.front import Latch, put_in_front, shows_no_start
from spanrelay.telemetry.processor import RelaySpanProcessor


class Noted(RelaySpanProcessor):
    """A front that notes the names of the spans that pass it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def on_end(self, span: object) -> None:
        self.names.append(span.name)  # pyright: ignore[reportAttributeAccessIssue] - a ReadableSpan
        super().on_end(span)  # pyright: ignore[reportArgumentType] - as above


def provider_and_exporter() -> tuple[TracerProvider, InMemorySpanExporter]:
    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


def test_processors_added_before_and_after_stand_behind_the_front() -> None:
    provider, exporter = provider_and_exporter()
    front, later = Noted(), InMemorySpanExporter()
    put_in_front(front, provider)
    provider.add_span_processor(SimpleSpanProcessor(later))
    provider.get_tracer("app").start_span("one").end()
    assert front.names == ["one"]
    assert [span.name for span in exporter.get_finished_spans()] == ["one"]
    assert [span.name for span in later.get_finished_spans()] == ["one"]


def test_taking_the_front_out_leaves_every_processor_in_place() -> None:
    provider, exporter = provider_and_exporter()
    front, later = Noted(), InMemorySpanExporter()
    undo = put_in_front(front, provider)
    provider.add_span_processor(SimpleSpanProcessor(later))
    assert undo is not None
    undo()
    provider.get_tracer("app").start_span("one").end()
    assert front.names == []
    assert len(exporter.get_finished_spans()) == len(later.get_finished_spans()) == 1


def test_a_latch_opens_with_the_first_span_and_lets_it_through() -> None:
    provider, exporter = provider_and_exporter()
    front = Noted()

    def build() -> SpanProcessor:
        put_in_front(front, provider)
        return front

    latch = Latch(build)
    latch.wait(provider)
    for name in ("one", "two"):
        provider.get_tracer("app").start_span(name).end()
    assert front.names == ["one", "two"]
    assert [span.name for span in exporter.get_finished_spans()] == ["one", "two"]


def test_a_latch_whose_front_cannot_be_built_steps_aside() -> None:
    provider, exporter = provider_and_exporter()
    Latch(lambda: None).wait(provider)
    provider.get_tracer("app").start_span("one").end()
    provider.get_tracer("app").start_span("two").end()
    assert [span.name for span in exporter.get_finished_spans()] == ["one", "two"]


def test_spans_of_other_threads_wait_for_the_front_while_it_is_built() -> None:
    provider, exporter = provider_and_exporter()
    front = Noted()
    building, go_on = threading.Event(), threading.Event()

    def build() -> SpanProcessor:
        building.set()
        go_on.wait(10)
        put_in_front(front, provider)
        return front

    Latch(build).wait(provider)
    tracer = provider.get_tracer("app")
    first = threading.Thread(target=lambda: tracer.start_span("first").end())
    first.start()
    assert building.wait(10)
    others = [threading.Thread(target=lambda: tracer.start_span("other").end()) for _ in range(8)]
    for other in others:
        other.start()
    go_on.set()
    for thread in (first, *others):
        thread.join(10)
    assert sorted(front.names) == ["first", *["other"] * 8]
    assert len(exporter.get_finished_spans()) == 9


def test_a_span_after_a_shutdown_that_came_before_the_first_is_counted() -> None:
    provider, _ = provider_and_exporter()
    front = Noted()

    def build() -> SpanProcessor:
        put_in_front(front, provider)
        return front

    Latch(build).wait(provider)
    provider.shutdown()
    provider.get_tracer("app").start_span("late").end()
    assert losses.take() == {"spans ended after shutdown": 1}


class Starts(SpanProcessor):
    """Notes the attributes that each span starts with."""

    def __init__(self) -> None:
        self.seen: list[dict[str, object]] = []

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self.seen.append(dict(span.attributes or {}))


class Curious(Sampler):
    """Samples everything, and notes the attributes that it was asked with."""

    def __init__(self) -> None:
        self.asked: list[dict[str, object]] = []

    def should_sample(
        self,
        parent_context: Any,
        trace_id: Any,
        name: Any,
        kind: Any = None,
        attributes: Any = None,
        *_: Any,
        **__: Any,
    ) -> SamplingResult:
        self.asked.append(dict(attributes or {}))
        return SamplingResult(Decision.RECORD_AND_SAMPLE, {**(attributes or {}), "sampler": "curious"})

    def get_description(self) -> str:
        return "Curious"


def started_with(provider: TracerProvider) -> dict[str, object]:
    """Start a scope of ours with `provider`, and return what a processor behind ours saw of its attributes."""
    starts = Starts()
    provider.add_span_processor(starts)
    settings = spanrelay.Settings(trajectories="off", metrics=False, quiet=True)
    runtime = spanrelay.activate(settings, tracer_provider=provider, instrument=False)
    assert runtime is not None
    try:
        with spanrelay.scope("researcher", session="s-1", user="u-1", metadata={"team": "blue"}):
            pass
    finally:
        runtime.shutdown()
    return starts.seen[0]


EXPECTED = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "researcher", "user.id": "u-1"}


@pytest.mark.parametrize(
    "provider",
    [
        TracerProvider(shutdown_on_exit=False),
        TracerProvider(ALWAYS_ON, shutdown_on_exit=False),
        TracerProvider(ParentBasedTraceIdRatio(1.0), shutdown_on_exit=False),
        TracerProvider(shutdown_on_exit=False, span_limits=SpanLimits(max_span_attributes=20)),
        TracerProvider(shutdown_on_exit=False, active_span_processor=ConcurrentMultiSpanProcessor(2)),
    ],
    ids=["plain", "always on", "ratio", "limits", "on other threads"],
)
def test_processors_behind_see_what_a_span_of_ours_starts_with(provider: TracerProvider) -> None:
    assert EXPECTED.items() <= started_with(provider).items()


def test_a_sampler_that_looks_at_attributes_gets_them_and_adds_its_own() -> None:
    sampler = Curious()
    seen = started_with(TracerProvider(sampler, shutdown_on_exit=False))
    assert EXPECTED.items() <= sampler.asked[0].items()
    assert {**EXPECTED, "sampler": "curious"}.items() <= seen.items()


def test_a_sampler_within_one_of_the_sdk_gets_attributes_too() -> None:
    sampler = Curious()
    started_with(TracerProvider(ParentBased(sampler), shutdown_on_exit=False))
    assert EXPECTED.items() <= sampler.asked[0].items()
    assert not shows_no_start(TracerProvider(sampler, shutdown_on_exit=False).get_tracer("app"))


def test_a_limit_on_texts_cuts_what_a_span_of_ours_starts_with() -> None:
    limits = SpanLimits(max_span_attribute_length=4)
    seen = started_with(TracerProvider(shutdown_on_exit=False, span_limits=limits))
    assert seen["gen_ai.agent.name"] == "rese"
