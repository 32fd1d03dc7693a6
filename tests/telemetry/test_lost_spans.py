"""Spans that an exporter of others does not deliver are counted, as log records are."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import spanrelay
from spanrelay._guard import losses


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
    provider, processor = TracerProvider(shutdown_on_exit=False), kind(Away(error))
    if before:
        provider.add_span_processor(processor)
    runtime = spanrelay.activate(spanrelay.Settings(trajectories="off"), tracer_provider=provider, instrument=False)
    assert runtime is not None
    if not before:
        provider.add_span_processor(processor)
    with caplog.at_level(logging.CRITICAL):
        for _ in range(3):
            spanrelay.run_tool("t", lambda: 1)
        provider.force_flush()
    assert losses.take() == {"spans not exported": 3}
    runtime.shutdown()


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
