"""From a program through the real collector to `spanrelay collect`, and the document that this writes."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from tests.collecting.test_collecting import documents_in, until
from tests.e2e.conftest import MakeCollector
from tests.exporters.otlp_server import free_port

from spanrelay._guard import losses
from spanrelay.collecting.serving import Options, start

pytestmark = pytest.mark.e2e
TOKEN = "not-published-outside"


def test_what_a_collector_passes_on_becomes_trajectories_also_of_when_nobody_collected(
    collectors: MakeCollector, tmp_path: Path
) -> None:
    port = free_port()
    place = {"SPANRELAY_COLLECT_ENDPOINT": f"http://127.0.0.1:{port}", "SPANRELAY_COLLECT_TOKEN": TOKEN}
    collector = collectors(collect=place)
    collector.start()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{collector.url}/v1/traces")))
    values = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
    for session in ("first", "second"):
        attributes = {**values, "gen_ai.conversation.id": session}
        provider.get_tracer("test").start_span("chat m", attributes=attributes).end()
    provider.shutdown()
    until(lambda: len(collector.spans()) == 2)
    options = Options(tmp_path / "runs", ("127.0.0.1", port), None, TOKEN, silence=0.01)
    collecting = start(options)
    try:
        until(lambda: set(documents_in(tmp_path / "runs")) == {"first.json", "second.json"})
        assert httpx.post(f"http://127.0.0.1:{port}/v1/traces").status_code == 401
    finally:
        collecting.stop()
    losses.take()
