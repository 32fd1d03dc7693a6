"""From a program through the collector into Phoenix, and back by REST."""

from __future__ import annotations

import json

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from tests.e2e.conftest import MakeCollector
from tests.e2e.phoenix import Phoenix

from spanrelay.exporters.delivery import ReliableSpanExporter

pytestmark = pytest.mark.e2e

MESSAGES = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "What is the weather?"}]}])


def test_model_calls_can_be_read_from_the_trace_ui(collectors: MakeCollector, trace_ui: Phoenix) -> None:
    collector = collectors(backend=trace_ui.url)
    collector.start()
    provider = TracerProvider(resource=Resource({"openinference.project.name": "one-call"}), shutdown_on_exit=False)
    exporter = ReliableSpanExporter(lambda: OTLPSpanExporter(f"{collector.url}/v1/traces"))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5-mini",
        "gen_ai.input.messages": MESSAGES,
    }
    span = provider.get_tracer("app").start_span("chat gpt-5-mini", attributes=attributes)
    span.end()
    provider.shutdown()
    [shown] = trace_ui.await_spans("one-call", 1)
    assert shown["context"]["span_id"] == f"{span.get_span_context().span_id:016x}"
    assert shown["span_kind"] == "LLM"
    assert "What is the weather?" in json.dumps(shown["attributes"])
