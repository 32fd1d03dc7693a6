"""A span is really sent to where spans would go, and what comes back is told in words that say what to do."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from tests.doctor.doctors import Doctor
from tests.exporters.otlp_server import OtlpServer, free_port

PARTIAL = trace_service_pb2.ExportTraceServiceResponse(
    partial_success=trace_service_pb2.ExportTracePartialSuccess(rejected_spans=1, error_message="quota of spans")
)

ANSWERS: dict[str, tuple[Any, str, str]] = {
    "401": (401, "401 Unauthorized", "the key is missing or not known there"),
    "403": (403, "403 Forbidden", "may not write"),
    "404": (404, "404 Not Found", "takes no traces at this path"),
    "413": (413, "413 ", "smaller requests"),
    "429": (429, "429 Too Many Requests", "left in peace"),
    "503": (503, "503 Service Unavailable", "fails"),
    "400": (400, "400 Bad Request", "does not take this content"),
    "a redirect": ((302, {"Location": "https://elsewhere.example/login"}), "302 Found", "is not followed"),
    "a web page": ((200, {"Content-Type": "text/html"}, b"<html>hello</html>"), "a web page", "not an OTLP receiver"),
    "a rejection": (
        (200, {"Content-Type": "application/x-protobuf"}, PARTIAL.SerializeToString()),
        "rejected the span: quota of spans",
        "lost there",
    ),
}


@pytest.mark.parametrize(("answer", "what", "why"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_that_takes_nothing_is_a_failure_with_its_reason(
    doctor: Doctor, collector: OtlpServer, answer: Any, what: str, why: str
) -> None:
    collector.script = lambda body: answer
    report = doctor(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    [told] = report.of("exporters", "fail")
    assert what in told and why in told
    assert (report.code, len(collector.asked)) == (1, 1), "it is asked once"


def test_a_proxy_that_stands_between_is_told(doctor: Doctor, collector: OtlpServer) -> None:
    between = {"HTTP_PROXY": collector.url, "NO_PROXY": "", "no_proxy": ""}
    between["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://collector.example:4318"
    assert doctor(**between).of("exporters", "fail") == []
    assert collector.asked[0] == "http://collector.example:4318/v1/traces"
    collector.script = lambda body: 407
    [told] = doctor(**between).of("exporters", "fail")
    assert f"the request went by the proxy {collector.url}" in told
    assert "without a name and a password" in told and "NO_PROXY names hosts" in told


def test_where_nobody_listens_that_is_said(doctor: Doctor) -> None:
    port = free_port()
    [told] = doctor(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}").of("exporters", "fail")
    assert f"127.0.0.1:{port}" in told and "refused" in told and "nobody listens there" in told


def test_the_endpoint_of_a_signal_is_taken_as_it_is(doctor: Doctor, collector: OtlpServer) -> None:
    collector.script = lambda body: 200 if collector.asked[-1] == "/v1/traces" else 404
    [told] = doctor(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=collector.url).of("exporters", "fail")
    assert "404" in told and "has to end in /v1/traces" in told
    assert doctor(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{collector.url}/v1/traces").of("exporters", "fail") == []


def test_tls_where_there_is_none_is_told(doctor: Doctor, collector: OtlpServer) -> None:
    endpoint = collector.url.replace("http:", "https:")
    [told] = doctor(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint).of("exporters", "fail")
    assert "one side speaks TLS and the other does not" in told


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_a_certificate_that_is_not_trusted_and_tls_that_is_not_spoken_are_told(
    doctor: Doctor, secure: tuple[str, Path]
) -> None:
    endpoint, certificate = secure
    [told] = doctor(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint).of("exporters", "fail")
    assert "certificate is not trusted" in told and "OTEL_EXPORTER_OTLP_CERTIFICATE=ca.pem" in told
    both = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_CERTIFICATE": str(certificate)}
    assert doctor.apart(**both).of("exporters", "fail") == [], "in this process nobody is trusted"
    [told] = doctor(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint.replace("https", "http")).of("exporters", "fail")
    assert "speaks TLS, and the exporter does not" in told and "https://" in told


def test_an_address_without_a_scheme_is_told(doctor: Doctor) -> None:
    report = doctor(OTEL_EXPORTER_OTLP_ENDPOINT="127.0.0.1:4318")
    assert any("has no scheme" in told for told in report.of("settings", "fail"))
    assert any("is not an address" in told for told in report.of("exporters", "fail"))


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    def Export(self, request: Any, context: Any) -> Any:
        return trace_service_pb2.ExportTraceServiceResponse()


class Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    """Says of what it is asked that there is no such thing, as generated servicers do."""


@pytest.fixture
def grpc_port() -> Iterator[int]:
    server = grpc.server(futures.ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Collector(), server)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(Metrics(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait()


def test_each_protocol_at_the_port_of_the_other_is_told(doctor: Doctor, collector: OtlpServer, grpc_port: int) -> None:
    both = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    assert "was taken" in doctor(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{grpc_port}", **both).of("exporters")[0]
    [told] = doctor(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{grpc_port}").of("exporters", "fail")
    assert "speaks HTTP/2, which is grpc" in told and "OTEL_EXPORTER_OTLP_PROTOCOL=grpc" in told
    [told] = doctor(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **both).of("exporters", "fail")
    assert "speaks HTTP/1, which is http/protobuf" in told


def test_offline_nothing_is_sent(doctor: Doctor, collector: OtlpServer) -> None:
    assert "not asked" in doctor("--offline", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url).of("exporters")[0]
    assert collector.asked == []


@pytest.fixture
def told_time() -> Iterator[Callable[[str], str]]:
    """A server that takes spans and says what time it is; given that, it returns where it is."""
    servers: list[HTTPServer] = []

    def serve(date: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_HEAD()

            def do_HEAD(self) -> None:
                self.send_response_only(200)
                self.send_header("Date", date)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        servers.append(HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_clock_that_is_wrong_is_told(doctor: Doctor, told_time: Callable[[str], str], collector: OtlpServer) -> None:
    [told] = doctor(OTEL_EXPORTER_OTLP_ENDPOINT=told_time("Wed, 01 Jan 2020 00:00:00 GMT")).of("clock", "warn")
    assert "s ahead of the endpoint's" in told and "set the clock" in told
    [told] = doctor(OTEL_EXPORTER_OTLP_ENDPOINT=told_time("Fri, 01 Jan 2100 00:00:00 GMT")).of("clock", "warn")
    assert "s behind the endpoint's" in told
    assert "does not say what time" in doctor(OTEL_EXPORTER_OTLP_ENDPOINT=told_time("soon")).of("clock")[0]
    assert "agree" in doctor(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url).of("clock")[0]


# ── metrics and logs


ALL = {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_LOGS_EXPORTER": "otlp"}


def test_every_signal_that_is_asked_for_is_sent_to_its_endpoint(doctor: Doctor, collector: OtlpServer) -> None:
    report = doctor(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **ALL)
    assert collector.asked == ["/v1/traces", "/v1/metrics", "/v1/logs"]
    assert collector.bodies[1:] == [b"", b""], "of these nothing is left there"
    assert [told.partition(" was taken")[0] for told in report.of("exporters")] == [
        "a span 'spanrelay doctor'",
        "an empty request of metrics",
        "an empty request of logs",
    ]
    assert report.of("exporters", "fail") == report.of("exporters", "warn") == []


def test_a_server_that_takes_traces_only_is_a_warning_with_its_cure(doctor: Doctor, collector: OtlpServer) -> None:
    collector.script = lambda body: 200 if collector.asked[-1] == "/v1/traces" else 404
    report = doctor(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_LOGS_EXPORTER="otlp")
    metrics, logs = report.of("exporters", "warn")
    assert "404 Not Found | that server takes no metrics" in metrics and "| OTEL_METRICS_EXPORTER=none" in metrics
    assert "404 Not Found | that server takes no logs" in logs and "| OTEL_LOGS_EXPORTER=none" in logs
    assert (report.code, report.of("exporters", "fail")) == (3, [])
    collector.asked.clear()
    report = doctor(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_METRICS_EXPORTER="none")
    assert (report.code, collector.asked) == (0, ["/v1/traces"])


def test_an_endpoint_of_one_signal_is_asked_for_that_one(doctor: Doctor, collector: OtlpServer, grpc_port: int) -> None:
    port = free_port()
    report = doctor(
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=f"http://127.0.0.1:{port}/v1/logs",
        OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=f"http://127.0.0.1:{grpc_port}",
        OTEL_EXPORTER_OTLP_METRICS_PROTOCOL="grpc",
        **ALL,
    )
    [told] = report.of("exporters", "fail")
    assert told.startswith(f"logs to http://127.0.0.1:{port}/v1/logs") and "nobody listens there; logs wait" in told
    [told] = report.of("exporters", "warn")
    assert "UNIMPLEMENTED" in told and "takes no metrics" in told
    assert collector.asked == ["/v1/traces"]


def test_where_spans_are_not_taken_the_other_signals_are_not_sent(doctor: Doctor, collector: OtlpServer) -> None:
    collector.script = lambda body: 401
    report = doctor(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **ALL)
    assert len(report.of("exporters", "fail")) == len(collector.asked) == 1
    assert sum("not asked, as nothing is taken there" in told for told in report.of("exporters", "pass")) == 2
