"""The shipped configuration in the real collector: what it takes, what it hides, what it passes on."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections import Counter
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Status, StatusCode
from tests.e2e.collector import CONFIG, Collector, attributes_of, await_that
from tests.e2e.conftest import MakeCollector, MakeServer
from tests.exporters.otlp_server import free_port

from spanrelay._guard import losses
from spanrelay.exporters.delivery import ReliableMetricExporter, ReliableSpanExporter
from spanrelay.exporters.grace import Grace
from spanrelay.exporters.outbox import Pace

pytestmark = pytest.mark.e2e

CONFIGS = sorted(path for path in CONFIG.parent.glob("*.yaml") if path.name != "builder.yaml")


class App:
    """A program with a tracer whose spans go to `url`, as ours delivers them."""

    def __init__(self, url: str, protocol: str = "http") -> None:
        def build() -> OTLPSpanExporter | GrpcSpanExporter:
            if protocol == "grpc":
                return GrpcSpanExporter(url, insecure=True, timeout=2)
            return OTLPSpanExporter(f"{url}/v1/traces", timeout=2)

        pace = Pace(first=0.05, longest=0.2)
        self.exporter = ReliableSpanExporter(build, pace=pace, grace=Grace(60))
        self._provider = TracerProvider(resource=Resource({"service.name": "app"}), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self.exporter, schedule_delay_millis=20))
        self.tracer = self._provider.get_tracer("app")
        self.sent: list[str] = []

    def work(self, count: int, size: int = 0) -> None:
        """End `count` spans of at least `size` bytes."""
        for number in range(count):
            span = self.tracer.start_span(f"span {number}", attributes={"text": "x" * size})
            self.sent.append(f"{span.get_span_context().span_id:016x}")
            span.end()

    def flush(self) -> None:
        self._provider.force_flush()
        assert self.exporter.force_flush(60_000)

    def close(self) -> None:
        self._provider.shutdown()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.name)
def test_the_collector_validates_every_configuration(binary: Path, config: Path) -> None:
    files = [CONFIG] if config == CONFIG else [CONFIG, config]  # the others say what is different
    done = subprocess.run([binary, "validate", *(f"--config={each}" for each in files)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_every_span_arrives_once_with_its_own_id(collector: Collector, protocol: str) -> None:
    app = App(collector.url if protocol == "http" else f"127.0.0.1:{collector.grpc_port}", protocol)
    app.work(1000)
    app.close()
    collector.stop()
    assert Counter(span["spanId"] for span in collector.spans()) == Counter(app.sent)
    assert losses.take() == {}


def test_only_the_owner_can_look_into_the_folders(collectors: MakeCollector, tmp_path: Path) -> None:
    collector = collectors(output=tmp_path / "made" / "by it")
    collector.start()
    collector.stop()
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "made").rglob("*") if path.is_dir()} == {0o700}


def test_metrics_arrive(collector: Collector) -> None:
    exporter = ReliableMetricExporter(lambda: OTLPMetricExporter(f"{collector.url}/v1/metrics"))
    provider = MeterProvider([PeriodicExportingMetricReader(exporter)], shutdown_on_exit=False)
    provider.get_meter("app").create_counter("calls").add(3)
    provider.shutdown()
    collector.stop()
    [metric] = collector.metrics()
    assert metric["name"] == "calls"
    assert [point["asInt"] for point in metric["sum"]["dataPoints"]] == ["3"]


SECRETS = {
    "openai": "sk-proj-" + "a1B2" * 8,
    "google": "AIza" + "Sy0_" * 8,
    "aws": "AKIA" + "ABCD" * 4,
    "bearer": "Bearer " + "eyJhbGciOi.J9" * 3,
    "temporary aws": "ASIA" + "ABCD" * 4,
    "query": "?key=" + "abcd1234" * 3,
}
KEEPS = {
    "gen_ai.usage.input_tokens": 12,
    "gen_ai.request.max_tokens": 100,
    "gen_ai.token.type": "input",
    "text": "the task-management-of-a-long-name and a bearer of news, sk-short",
}


def test_keys_are_masked_wherever_they_are_and_nothing_else_is(collector: Collector) -> None:
    text = "before " + " ".join(SECRETS.values()) + " after"
    exporter = OTLPSpanExporter(f"{collector.url}/v1/traces")
    provider = TracerProvider(resource=Resource({"note": text}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    lines = json.dumps([f"one{escaped}{secret}" for secret in SECRETS.values() for escaped in "\n\t\x1b"])
    attributes = {
        "note": text,
        "lines": lines,
        "notes": ["other", text],
        "http.request.header.x-api-key": "plain",
        **KEEPS,
    }
    span = provider.get_tracer("app").start_span(text, attributes=attributes)
    span.add_event("happened", {"note": text})
    span.set_status(Status(StatusCode.ERROR, text))
    span.end()
    provider.shutdown()
    logs = LoggerProvider(shutdown_on_exit=False)
    logs.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(f"{collector.url}/v1/logs")))
    logs.get_logger("app").emit(body=text, attributes={"note": text})
    logs.shutdown()
    collector.stop()

    written = collector.text()
    assert [kind for kind, secret in SECRETS.items() if secret in written] == []
    [arrived] = collector.spans()
    kept = attributes_of(arrived)
    assert {key: kept[key] for key in KEEPS} == KEEPS
    assert kept["http.request.header.x-api-key"] == "****"
    assert [line[:3] for line in json.loads(kept["lines"])] == ["one"] * 3 * len(SECRETS)
    for masked in (kept["note"], arrived["name"], arrived["status"]["message"]):
        assert masked.startswith("before ****")
        assert masked.endswith(" after")
    assert len(collector.logs()) == 1


def big_request(count: int, size: int) -> bytes:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("app")
    spans: list[ReadableSpan] = []
    for number in range(count):
        span = tracer.start_span(f"span {number}", attributes={"text": "x" * size})
        span.end()
        assert isinstance(span, ReadableSpan)
        spans.append(span)
    return encode_spans(spans).SerializeToString()


def test_a_request_of_conversations_is_taken_and_passed_on_in_pieces_that_fit_default_limits(
    collectors: MakeCollector, serve: MakeServer
) -> None:
    backend = serve()
    collector = collectors(backend=backend.url)
    collector.start()
    body = big_request(count=500, size=80_000)
    request = urllib.request.Request(
        f"{collector.url}/v1/traces", body, {"Content-Type": "application/x-protobuf"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200
    collector.stop()
    assert len(collector.spans()) == 500
    assert len(backend.span_names()) == 500
    assert max(map(len, backend.bodies)) < 4 << 20


def test_what_the_backend_has_not_taken_survives_a_restart_of_the_collector(
    collectors: MakeCollector, serve: MakeServer
) -> None:
    port = free_port()
    collector = collectors(backend=f"http://127.0.0.1:{port}")
    collector.start()
    app = App(collector.url)
    app.work(10)
    app.close()
    collector.stop()
    taken = serve(port=port)
    collector.start()
    await_that(lambda: len(taken.span_names()) >= 10)
    collector.stop()
    assert sorted(taken.span_names()) == sorted(f"span {number}" for number in range(10))


def test_a_collector_that_starts_late_gets_everything(collectors: MakeCollector) -> None:
    collector = collectors()
    app = App(collector.url)
    app.work(300)
    app.exporter.force_flush(timeout_millis=1000)
    app.work(300)
    collector.start()
    app.flush()
    collector.stop()
    assert Counter(span["spanId"] for span in collector.spans()) == Counter(app.sent)
    app.close()
    assert losses.take() == {}


def test_a_collector_that_is_restarted_in_mid_run_gets_everything(collector: Collector) -> None:
    app = App(collector.url)
    for _ in range(10):
        app.work(50)
        app.flush()
    app.work(500)
    collector.stop()
    app.work(500)
    app.exporter.force_flush(timeout_millis=1000)
    collector.start()
    app.work(500)
    app.flush()
    collector.stop()
    assert {span["spanId"] for span in collector.spans()} == set(app.sent)
    app.close()
    assert losses.take() == {}


@pytest.mark.parametrize("status", [429, 503])
def test_a_collector_that_is_too_busy_for_a_while_gets_everything(
    collector: Collector, serve: MakeServer, status: int
) -> None:
    refusals = [status] * 10

    def busy(body: bytes) -> int:
        if refusals:
            return refusals.pop()
        request = urllib.request.Request(
            f"{collector.url}/v1/traces", body, {"Content-Type": "application/x-protobuf"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status

    app = App(serve(busy).url)
    app.work(700, size=10_000)
    app.flush()
    collector.stop()
    assert Counter(span["spanId"] for span in collector.spans()) == Counter(app.sent)
    app.close()
    assert losses.take() == {}
