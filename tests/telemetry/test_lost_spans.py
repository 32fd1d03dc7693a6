"""Spans that an exporter of others does not deliver are counted, as log records are."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import spanrelay
from spanrelay._guard import losses
from spanrelay.telemetry import processor


class Away(SpanExporter):
    """Takes nothing."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self._error is not None:
            raise self._error
        return SpanExportResult.FAILURE


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("kind", [BatchSpanProcessor, SimpleSpanProcessor])
@pytest.mark.parametrize("error", [None, OSError("no")])
def test_spans_that_an_exporter_does_not_deliver_are_counted(
    kind: Any, before: bool, error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    provider, sending = TracerProvider(shutdown_on_exit=False), kind(Away(error))
    if before:
        provider.add_span_processor(sending)
    runtime = spanrelay.activate(spanrelay.Settings(trajectories="off"), tracer_provider=provider, instrument=False)
    assert runtime is not None
    if not before:
        provider.add_span_processor(sending)
    with caplog.at_level(logging.CRITICAL):
        for _ in range(3):
            spanrelay.run_tool("t", lambda: 1)
        provider.force_flush()
    assert losses.take() == {"spans not exported": 3}
    runtime.shutdown()


class Gate(SpanProcessor):
    """Holds a span up until the end has begun, and until it has gone on as far as it does meanwhile."""

    def __init__(self) -> None:
        self.reached, self.closing, self.past = threading.Event(), threading.Event(), threading.Event()

    def on_end(self, span: ReadableSpan) -> None:
        self.reached.set()
        assert self.closing.wait(60)
        self.past.wait(0.1)


class Kept(InMemorySpanExporter):
    """Says when it is shut down."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self._gate = gate

    def shutdown(self) -> None:
        self._gate.past.set()


def test_what_another_thread_hands_on_while_the_end_begins_is_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "_PASSING_SECONDS", 60)
    gate = Gate()
    kept = Kept(gate)
    provider = TracerProvider(shutdown_on_exit=False)
    for each in (gate, BatchSpanProcessor(kept)):
        provider.add_span_processor(each)
    runtime = spanrelay.activate(spanrelay.Settings(trajectories="off"), tracer_provider=provider, instrument=False)
    assert runtime is not None
    close = runtime.processor.close
    monkeypatch.setattr(runtime.processor, "close", lambda end: (gate.closing.set(), close(end)))
    other = threading.Thread(target=lambda: spanrelay.run_tool("t", str))
    other.start()
    assert gate.reached.wait(60)
    runtime.shutdown()
    other.join(60)
    assert [span.name for span in kept.get_finished_spans()] == ["execute_tool t"]
    assert losses.take() == {}


def test_a_provider_that_was_shut_down_is_said_to_export_nothing(caplog: pytest.LogCaptureFixture) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(InMemorySpanExporter()))
    first = spanrelay.activate(spanrelay.Settings(trajectories="off"), tracer_provider=provider, instrument=False)
    assert first is not None
    assert not caplog.messages
    first.shutdown()
    again = spanrelay.activate(spanrelay.Settings(trajectories="off"), tracer_provider=provider, instrument=False)
    assert again is not None
    assert caplog.messages == [
        "the tracer provider 'TracerProvider' was shut down before activate(): its spans are not exported; make another"
    ]
    again.deactivate()
