"""The thread that reads spans: what wakes it, and what it reads of those that end before it comes to their start."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision, Sampler, SamplingResult
from opentelemetry.trace import Tracer

from spanrelay.records import JSON, SpanRecord
from spanrelay.telemetry.processor import RelaySpanProcessor
from spanrelay.telemetry.worker import Errand, Worker


class Sink:
    """Keeps the records that it is fed with."""

    dirty = False

    def __init__(self) -> None:
        self.started: list[SpanRecord] = []
        self.ended: list[SpanRecord] = []

    def start(self, record: SpanRecord) -> None:
        self.started.append(record)

    def end(self, record: SpanRecord) -> None:
        self.ended.append(record)

    def idle(self) -> None: ...

    def flush(self, timeout: float, /) -> bool:
        return True

    def documents(self, session: str | None, span: tuple[int, int] | None, /) -> list[dict[str, JSON]]:
        return []

    def sessions(self) -> list[str]:
        return []

    def shutdown(self) -> None: ...


class RecordOnly(Sampler):
    """Lets spans be recorded that nobody exports."""

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        return SamplingResult(Decision.RECORD_ONLY)

    def get_description(self) -> str:
        return "record only"


def fed(sampler: Sampler = ALWAYS_ON) -> tuple[Sink, Worker, Tracer]:
    """Return a sink, the worker that feeds it, and a tracer whose spans the worker is told of."""
    sink = Sink()
    worker = Worker(lambda: sink, None)
    provider = TracerProvider(sampler, shutdown_on_exit=False)
    provider.add_span_processor(RelaySpanProcessor(worker))
    return sink, worker, provider.get_tracer("somebody")


def test_a_span_that_has_ended_before_its_start_was_read_is_read_once() -> None:
    sink, worker, tracer = fed()
    go = threading.Event()
    tracer.start_span("first").end()
    busy = worker.send(Errand(lambda _: go.wait(60), without=True, failed=False))
    tracer.start_span("second").end()
    go.set()
    assert busy.wait(60)
    assert worker.flush(60)
    assert sink.started[1] is sink.ended[1]
    assert sink.started[1].name == "second"
    worker.shutdown(60)


def test_a_span_that_goes_on_is_told_of_with_what_is_asked_for_next() -> None:
    sink, worker, tracer = fed()
    span = tracer.start_span("open")
    assert worker.flush(60)
    assert [(record.name, record.end) for record in sink.started] == [("open", None)]
    assert sink.ended == []
    span.end()
    assert worker.flush(60)
    assert [record.name for record in sink.ended] == ["open"]
    worker.shutdown(60)


def test_the_start_of_a_span_wakes_nobody_unless_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    sink, worker, tracer = fed()
    go = threading.Event()
    tracer.start_span("first").end()
    busy = worker.send(Errand(lambda _: go.wait(60), without=True, failed=False))
    rings: list[int] = []
    monkeypatch.setattr(worker, "wake", lambda: rings.append(1))
    tracer.start_span("second")
    assert not rings
    for _ in range(300):
        tracer.start_span("more")
    assert rings
    monkeypatch.undo()
    go.set()
    assert busy.wait(60)
    assert worker.flush(60)
    assert len(sink.started) == 302
    worker.shutdown(60)


def test_of_a_span_that_is_not_sampled_no_more_is_told_than_that_it_has_started() -> None:
    sink, worker, tracer = fed(RecordOnly())
    go = threading.Event()
    tracer.start_span("first").end()
    busy = worker.send(Errand(lambda _: go.wait(60), without=True, failed=False))
    tracer.start_span("second").end()
    go.set()
    assert busy.wait(60)
    assert worker.flush(60)
    assert [record.end for record in sink.started] == [None, None]
    assert sink.ended == []
    worker.shutdown(60)
