"""What a collector answers is believed word for word: redirects, pages for people, partial success, and pauses."""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import pytest
import requests
import urllib3
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from tests.exporters.otlp_server import OtlpServer, Reply, Script, free_port
from tests.exporters.test_delivery import BRISK, LOST, await_failure, spans

from spanrelay._guard import losses
from spanrelay.exporters.answers import _one_line, _Stub
from spanrelay.exporters.delivery import ReliableMetricExporter, ReliableSpanExporter
from spanrelay.exporters.grace import Grace
from spanrelay.exporters.jsonl import HttpSink
from spanrelay.exporters.outbox import Answer, Outcome, Pace
from spanrelay.exporters.redirects import MOST, Route
from spanrelay.exporters.redirects import Reply as Head

REJECTED = "spans rejected by the collector"
PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json"}

Serve = Callable[[Script], OtlpServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[OtlpServer] = []

    def make(script: Script) -> OtlpServer:
        servers.append(OtlpServer(script))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


def exporter_to(url: str, *, pace: Pace = BRISK, grace: float = 0.2, **options: object) -> ReliableSpanExporter:
    def build() -> OTLPSpanExporter:
        return OTLPSpanExporter(f"{url}/v1/traces", **{"timeout": 0.5, **options})  # pyright: ignore[reportArgumentType, reportCallIssue]

    return ReliableSpanExporter(build, pace=pace, grace=Grace(grace))


def test_the_certificate_that_is_set_for_otlp_holds_also_where_requests_has_variables_of_its_own(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", "/of/the/collector.pem")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, "/of/everything/else.pem")
    exporter = exporter_to("https://127.0.0.1:9")
    exporter.export(spans(1))
    exporter.shutdown()
    assert "/of/the/collector.pem" in caplog.text
    assert losses.take() == {LOST: 1}


@pytest.mark.parametrize("by_name", [False, True])
def test_a_grpc_exporter_may_ask_its_stub_by_position_or_by_name(by_name: bool) -> None:
    answer = trace_service_pb2.ExportTraceServiceResponse()

    class Inner:
        def Export(self, request: object, timeout: float) -> object:
            return answer

    heard: list[Answer] = []

    def ask(export: Any) -> Any:
        result, heard_of = export()
        heard.append(heard_of)
        return result

    stub = _Stub(Inner(), "collector", ask)
    assert (stub.Export(request=b"", timeout=1.0) if by_name else stub.Export(b"", 1.0)) is answer
    assert heard == [Answer(Outcome.DELIVERED)]


class Slow(trace_service_pb2_grpc.TraceServiceServicer):
    """Has taken a request before it answers, which is when it is told to; `status` is what it answers at first."""

    def __init__(self, status: grpc.StatusCode) -> None:
        self.taken = 0
        self.asked, self.answers = threading.Event(), threading.Event()
        self._status = status
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.place = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.taken += 1
        self.asked.set()
        assert self.answers.wait(60)
        if self.taken == 1 and self._status is not grpc.StatusCode.OK:
            context.abort(self._status, "busy")
        return trace_service_pb2.ExportTraceServiceResponse()

    def close(self) -> None:
        self._server.stop(None)


@pytest.mark.parametrize(("status", "times"), [(grpc.StatusCode.OK, 1), (grpc.StatusCode.UNAVAILABLE, 2)])
def test_the_end_does_not_break_off_what_a_collector_has_taken_and_is_about_to_say(
    status: grpc.StatusCode, times: int
) -> None:
    collector = Slow(status)
    exporter = ReliableSpanExporter(
        lambda: GrpcSpanExporter(collector.place, insecure=True, timeout=600), pace=BRISK, grace=Grace(20)
    )
    exporter.export(spans(3))
    assert collector.asked.wait(60)
    exporter._delivery._hearing.hurry()
    collector.answers.set()
    exporter.shutdown()
    assert collector.taken == times
    assert losses.take() == {}
    collector.close()


# Redirects


def moving(status: int, location: Callable[[OtlpServer], str]) -> tuple[Script, list[OtlpServer]]:
    """A script that redirects from `/v1/traces`, and the list in which it looks for its server."""
    servers: list[OtlpServer] = []

    def script(body: bytes) -> Reply:
        if servers[0].asked[-1] != "/v1/traces":
            return 200
        return status, {"Location": location(servers[0])}

    return script, servers


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_that_keeps_the_body_is_followed_on_the_same_host(serve: Serve, status: int) -> None:
    script, servers = moving(status, lambda server: f"{server.url}/moved")
    servers.append(serve(script))
    exporter = exporter_to(servers[0].url, headers={"x-key": "secret"})
    for _ in range(2):
        exporter.export(spans(300))
        assert exporter.force_flush()
    exporter.shutdown()
    assert [path for path, _ in servers[0].accepted] == ["/moved"] * 2
    assert servers[0].headers["x-key"] == "secret"
    again = ["/moved"] if status == 308 else ["/v1/traces", "/moved"]
    assert servers[0].asked == ["/v1/traces", "/moved", *again]
    assert losses.take() == {}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_that_is_not_followed_is_said_and_its_spans_are_counted(
    serve: Serve, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    other = serve(lambda body: 200)
    server = serve(lambda body: (status, {"Location": f"http://user:word@localhost:{other.port}/v1/traces?key=1"}))
    exporter = exporter_to(server.url)
    exporter.export(spans(300))
    await_failure(exporter)
    exporter.shutdown()
    assert other.asked == []
    assert losses.take() == {LOST: 300}
    [said] = caplog.messages
    assert f"{server.url}/v1/traces answered {status} " in said
    assert f"a redirect to http://localhost:{other.port}/v1/traces, " in said
    assert "word" not in said
    assert "key=1" not in said


@pytest.mark.parametrize("reply", [300, 304, 307, (308, {"Location": "http://["}), (307, {"Location": "ftp://x/"})])
def test_a_redirect_to_nowhere_is_no_delivery(serve: Serve, reply: Reply) -> None:
    exporter = exporter_to(serve(lambda body: reply).url)
    exporter.export(spans(3))
    await_failure(exporter)
    exporter.shutdown()
    assert losses.take() == {LOST: 3}


def test_a_redirect_in_a_circle_ends(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    server = serve(lambda body: (307, {"Location": "/v1/traces"}))
    exporter = exporter_to(server.url, pace=Pace(first=3600, longest=3600))
    exporter.export(spans(3))
    await_failure(exporter)
    assert len(server.asked) == MOST + 1
    assert f"redirects more than {MOST} times" in caplog.text
    exporter.shutdown()
    assert losses.take() == {LOST: 3}


@pytest.mark.parametrize(
    ("url", "location", "then"),
    [
        ("http://c:4318/v1/traces", "https://c/v1/traces", "https://c/v1/traces"),
        ("https://me:word@c/v1", "https://you@c/v2", "https://me:word@c/v2"),
        ("https://c/v1/traces", "traces/", "https://c/v1/traces/"),
        ("https://c/v1/traces", "http://c/v1/traces", None),
        ("https://c/v1/traces", "https://d/v1/traces", None),
    ],
)
def test_a_redirect_leads_to_the_same_host_and_never_out_of_encryption(
    url: str, location: str, then: str | None
) -> None:
    asked: list[str] = []

    def request(target: str) -> Head:
        asked.append(target)
        return Head(307, location) if len(asked) == 1 else Head(200, None)

    _, refusal = Route().send(url, request, lambda head: head)
    assert asked == ([url, then] if then else [url])
    assert bool(refusal) is (then is None)


def test_what_has_moved_for_good_is_asked_at_its_old_place_again_when_the_new_one_fails(serve: Serve) -> None:
    replies = iter([(308, {"Location": "/moved"}), 200, 503, 200])
    server = serve(lambda body: next(replies))
    exporter = exporter_to(server.url)
    for _ in range(2):
        exporter.export(spans(3))
        assert exporter.force_flush()
    exporter.shutdown()
    assert server.asked[:3] == ["/v1/traces", "/moved", "/moved"]


# Answers that are none


PAGE = "\n<!doctype html><title>Log in</title>"


@pytest.mark.parametrize("page", [PAGE.encode(), PAGE.encode("utf-8-sig"), PAGE.encode("utf-16")])
@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "text/plain", "application/json"])
def test_a_page_for_people_is_no_delivery(
    serve: Serve, kind: str, page: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(lambda body: (200, {"Content-Type": kind}, page))
    exporter = exporter_to(server.url)
    exporter.export(spans(3))
    await_failure(exporter)
    exporter.shutdown()
    assert losses.take() == {LOST: 3}
    assert "answered 200 OK with a web page, not with what a collector answers" in caplog.messages[0]


class Endless:
    """A server that takes what it is sent and whose answers go on until nobody reads them; `over` once that is so."""

    def __init__(self, piece: bytes, pause: float, head: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> None:
        self.over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._piece, self._pause, self._head = piece, pause, head
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with self._listener.accept()[0] as connection, contextlib.suppress(OSError):
            connection.recv(65_536)
            connection.sendall(self._head)
            while True:
                connection.sendall(self._piece)
                time.sleep(self._pause)
        self._listener.close()
        self.over.set()


ENDLESS = {
    "its answer has more than 1,000,000 bytes": (b"x" * 65_536, 0.0, 30.0),
    "its answer has no end after 0.2 s": (b"x", 0.01, 0.2),
}


@pytest.mark.parametrize("said", ENDLESS)
def test_an_answer_without_an_end_is_not_read_for_ever(said: str, caplog: pytest.LogCaptureFixture) -> None:
    piece, pause, timeout = ENDLESS[said]
    assert_let_go(Endless(piece, pause), timeout, said, caplog)


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 ", b"HTTP/1.1 103 Early Hints\r\nX: "])
def test_nor_is_one_whose_head_has_no_end(head: bytes, caplog: pytest.LogCaptureFixture) -> None:
    assert_let_go(Endless(b"x", 0.01, head), 0.2, "cannot be reached: its answer has no end after 0.2 s", caplog)


def assert_let_go(server: Endless, timeout: float, said: str, caplog: pytest.LogCaptureFixture) -> None:
    exporter = exporter_to(server.url, timeout=timeout)
    exporter.export(spans(3))
    await_failure(exporter)
    assert server.over.wait(60)
    exporter.shutdown()
    assert losses.take() == {LOST: 3}
    assert said in caplog.messages[0]


class Hinting:
    """Says something before each answer, and lets it wait until the next request would have come."""

    def __init__(self, *statuses: int) -> None:
        self.asked, left = 0, list(statuses)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                outer.asked += 1
                self.wfile.write(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
                self.send_response(left.pop(0) if left else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_what_a_collector_says_before_its_answer_is_not_taken_for_it() -> None:
    server = Hinting(200, 400, 200)
    exporter = exporter_to(server.url)
    for _ in range(3):
        exporter.export(spans(1))
        assert exporter.force_flush()
    exporter.shutdown()
    server.close()
    assert server.asked == 3
    assert losses.take() == {LOST: 1}


class Canned(requests.adapters.BaseAdapter):
    """Answers without a connection, from what can be read as a whole only: so do libraries for tests."""

    class Body:
        closed = False

        def read(self, amount: int | None = None) -> bytes:
            return b""

        def close(self) -> None:
            self.closed = True

    def send(self, request: requests.PreparedRequest, **_: object) -> requests.Response:
        answer = requests.Response()
        answer.status_code, answer.request, answer.url = 200, request, str(request.url)
        answer.raw = urllib3.HTTPResponse(body=self.Body(), status=200, preload_content=False)  # type: ignore[arg-type]
        return answer

    def close(self) -> None:
        """Nothing is open."""


def test_an_answer_that_no_connection_gave_is_read_as_requests_does() -> None:
    session = requests.Session()
    session.mount("http://", Canned())
    exporter = exporter_to("http://127.0.0.1:9", session=session)
    exporter.export(spans(3))
    assert exporter.force_flush()
    exporter.shutdown()
    assert losses.take() == {}


@pytest.mark.swallows
def test_a_server_of_events_whose_answer_has_no_end_is_let_go(caplog: pytest.LogCaptureFixture) -> None:
    server = Endless(b"x" * 65_536, 0.0)
    sink = HttpSink(server.url)
    sink._lines.append(b"{}\n")
    with pytest.raises(ConnectionError, match="cannot be reached: ChunkedEncodingError"):
        sink.settle()
    assert server.over.wait(60)
    sink.close()


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"Grpc-Status": "16", "Grpc-Message": "who are you?"}, "status 16: who are you?"),
        ({"Grpc-Status": "14"}, "status 14"),
        ({}, "status unknown"),
    ],
)
def test_what_is_answered_in_grpc_is_no_delivery_over_http(
    serve: Serve, headers: dict[str, str], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(lambda body: (200, {"Content-Type": "application/grpc+proto", **headers}))
    exporter = exporter_to(server.url)
    exporter.export(spans(3))
    await_failure(exporter)
    exporter.shutdown()
    assert losses.take() == {LOST: 3}
    assert f"answered 200 OK in gRPC, not as to OTLP over HTTP: {said}" in caplog.messages[0]


@pytest.mark.parametrize("answer", [{"error": {"code": 401}}, {"errors": ["no"]}, {"code": 16, "message": "no"}])
def test_a_success_that_tells_of_an_error_is_said_once(
    serve: Serve, answer: object, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(lambda body: (200, JSON, json.dumps(answer).encode()))
    exporter = exporter_to(server.url)
    for _ in range(2):
        exporter.export(spans(3))
        assert exporter.force_flush()
    exporter.shutdown()
    assert len(server.asked) == 2
    assert caplog.messages == [f"the collector accepts spans and says: {json.dumps(answer)}"]


@pytest.mark.parametrize(
    "reply",
    [
        *(201, 202, 203, 204),
        (200, JSON, b'{"partialSuccess": {"rejectedSpans": 1e400}}'),
        (200, JSON, b'{"partialSuccess": {"rejectedSpans": NaN}}'),
        (200, JSON, b'{"partialSuccess": [5]}'),
        (200, JSON, b'{"status": "ok"}'),
        (200, JSON, b"[" * 100_000),
        (200, JSON, b"null"),
        (200, JSON, b"{}"),
        (200, JSON, b"[1, {"),
        (200, JSON, b'{"partialSuccess": {"rejectedSpans": "many"}}'),
        (200, {"Content-Type": "text/plain"}, b"OK, thank you"),
        (200, PROTOBUF, trace_service_pb2.ExportTraceServiceResponse().SerializeToString()),
    ],
)
def test_what_says_success_in_other_words_is_a_delivery(serve: Serve, reply: Reply) -> None:
    server = serve(lambda body: reply)
    exporter = exporter_to(server.url)
    exporter.export(spans(3))
    assert exporter.force_flush()
    exporter.shutdown()
    assert len(server.asked) == 1
    assert losses.take() == {}


def test_a_collector_that_is_away_is_told_of_in_one_sentence(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    exporter = exporter_to(f"http://user:word@127.0.0.1:{port}")
    exporter.export(spans(1))
    await_failure(exporter)
    exporter.shutdown()
    assert caplog.messages == [
        "the collector is not accepting spans, which wait in memory: "
        f"http://127.0.0.1:{port}/v1/traces cannot be reached: Connection refused"
    ]
    assert losses.take() == {LOST: 1}


# Partial success


def response(rejected: int, words: str) -> trace_service_pb2.ExportTraceServiceResponse:
    partial = trace_service_pb2.ExportTracePartialSuccess(rejected_spans=rejected, error_message=words)
    return trace_service_pb2.ExportTraceServiceResponse(partial_success=partial)


def in_protobuf(rejected: int, words: str) -> Reply:
    return 200, PROTOBUF, response(rejected, words).SerializeToString()


def in_json(rejected: int, words: str) -> Reply:
    partial = {"rejectedSpans": str(rejected), "errorMessage": words}
    return 200, JSON, json.dumps({"partialSuccess": partial}).encode()


def in_gzip(rejected: int, words: str) -> Reply:
    body = gzip.compress(response(rejected, words).SerializeToString())
    return 200, {**PROTOBUF, "Content-Encoding": "gzip"}, body


def in_protobuf_by_the_name_of_json(rejected: int, words: str) -> Reply:
    return 200, JSON, response(rejected, words).SerializeToString()


def in_json_by_the_name_of_protobuf(rejected: int, words: str) -> Reply:
    return 200, PROTOBUF, bytes(in_json(rejected, words)[2])  # type: ignore[index]


def in_json_beside_a_text_in_latin_1(rejected: int, words: str) -> Reply:
    partial = {"rejectedSpans": rejected, "errorMessage": words, "place": "caf\xe9"}
    return 200, JSON, json.dumps({"partialSuccess": partial}, ensure_ascii=False).encode("latin-1")


def in_json_beside_a_number_that_is_none(rejected: int, words: str) -> Reply:
    body = f'{{"partialSuccess": {{"rejectedSpans": {rejected}, "rejectedBytes": 1e400, "errorMessage": "too old"}}}}'
    return 200, JSON, body.encode()


@pytest.mark.parametrize(
    "answer",
    [
        in_protobuf,
        in_json,
        in_gzip,
        in_protobuf_by_the_name_of_json,
        in_json_by_the_name_of_protobuf,
        in_json_beside_a_text_in_latin_1,
        in_json_beside_a_number_that_is_none,
    ],
)
def test_what_the_collector_rejects_is_counted_and_said_once(
    serve: Serve, answer: Callable[[int, str], Reply], caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(lambda body: answer(5, "too\nold"))
    exporter = exporter_to(server.url)
    for _ in range(2):
        exporter.export(spans(300))
        assert exporter.force_flush()
    exporter.shutdown()
    assert len(server.asked) == 2
    assert losses.take() == {REJECTED: 10}
    assert caplog.messages == ["the collector rejects some spans: too old"]


def test_what_is_rejected_in_words_that_are_no_utf_8_is_counted(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    body = response(5, "caf?").SerializeToString().replace(b"?", b"\xe9")
    exporter = exporter_to(serve(lambda _: (200, PROTOBUF, body)).url)
    exporter.export(spans(300))
    assert exporter.force_flush()
    exporter.shutdown()
    assert losses.take() == {REJECTED: 5}
    assert caplog.messages == ["the collector rejects some spans: caf\ufffd"]


@pytest.mark.parametrize("kind", [PROTOBUF, {"Content-Type": "application/octet-stream"}, {}])
@pytest.mark.parametrize("length", [*b"\t\n\r <[{"])
def test_an_answer_is_not_taken_for_a_page_or_json_by_how_long_its_words_are(
    serve: Serve, length: int, kind: dict[str, str]
) -> None:
    body = response(5, "x" * (length - 4)).SerializeToString()
    assert body[:2] == bytes([10, length])
    exporter = exporter_to(serve(lambda _: (200, kind, body)).url)
    exporter.export(spans(300))
    assert exporter.force_flush()
    exporter.shutdown()
    assert losses.take() == {REJECTED: 5}


def test_a_warning_of_a_collector_that_keeps_everything_is_said_once(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(lambda body: in_protobuf(0, "use a newer protocol"))
    exporter = exporter_to(server.url)
    for _ in range(2):
        exporter.export(spans(3))
        assert exporter.force_flush()
    exporter.shutdown()
    assert losses.take() == {}
    assert caplog.messages == ["the collector accepts spans and says: use a newer protocol"]


def measured(build: Callable[[], OTLPMetricExporter | GrpcMetricExporter]) -> None:
    """Export one sum."""
    exporter = ReliableMetricExporter(build, pace=BRISK, grace=Grace(20))
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=float("inf"))
    provider = MeterProvider([reader], shutdown_on_exit=False)
    provider.get_meter("test").create_counter("calls").add(1)
    reader.collect()
    assert exporter.force_flush()
    provider.shutdown()


def test_data_points_that_the_collector_rejects_are_counted(serve: Serve) -> None:
    server = serve(lambda body: in_protobuf(1, "no such metric"))
    measured(lambda: OTLPMetricExporter(f"{server.url}/v1/metrics"))
    assert losses.take() == {"data points rejected by the collector": 1}


class GrpcCollector(trace_service_pb2_grpc.TraceServiceServicer, metrics_service_pb2_grpc.MetricsServiceServicer):
    """Rejects five spans and a data point of each request, after refusing the first with `trailer`."""

    def __init__(self, trailer: tuple[str, bytes] | None = None) -> None:
        self._trailer = trailer
        self.asked = 0
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(self, self._server)
        self.place = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def Export(self, request: object, context: grpc.ServicerContext) -> object:
        self.asked += 1
        if self._trailer is not None and self.asked == 1:
            context.set_trailing_metadata((self._trailer,))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
        if isinstance(request, trace_service_pb2.ExportTraceServiceRequest):
            return response(5, "too old")
        partial = metrics_service_pb2.ExportMetricsPartialSuccess(rejected_data_points=1)
        return metrics_service_pb2.ExportMetricsServiceResponse(partial_success=partial)

    def close(self) -> None:
        self._server.stop(None).wait()


def test_what_is_rejected_over_grpc_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    collector = GrpcCollector()
    exporter = ReliableSpanExporter(lambda: GrpcSpanExporter(collector.place, insecure=True), pace=BRISK)
    exporter.export(spans(300))
    assert exporter.force_flush()
    exporter.shutdown()
    measured(lambda: GrpcMetricExporter(collector.place, insecure=True))
    collector.close()
    assert losses.take() == {REJECTED: 5, "data points rejected by the collector": 1}
    assert caplog.messages == [
        "the collector rejects some spans: too old",
        "the collector rejects some data points: no reason given",
    ]


# Pauses that the collector asks for


def retry_at(exporter: ReliableSpanExporter) -> float:
    """The seconds from now to the next attempt."""
    return exporter._delivery.outbox._retry_at - time.monotonic()


@pytest.mark.parametrize(
    ("after", "asked", "most"),
    [
        ("100", True, 100),
        ("a date", True, 200),
        ("86400", True, 300),
        ("soon", False, 1),
        ("-5", False, 1),
        ("nan", False, 1),
    ],
    ids=["seconds", "date", "a day", "a word", "the past", "no number"],
)
@pytest.mark.parametrize("status", [429, 503])
def test_the_pause_that_a_collector_asks_for_is_made(
    serve: Serve, status: int, after: str, asked: bool, most: float
) -> None:
    # A date is made when it is answered: from when the tests were collected, minutes may have passed.
    def told() -> str:
        return formatdate(time.time() + most, usegmt=True) if after == "a date" else after

    server = serve(lambda body: (status, {"Retry-After": told()}))
    exporter = exporter_to(server.url)
    exporter.export(spans(3))
    await_failure(exporter)
    assert retry_at(exporter) <= most
    assert retry_at(exporter) > BRISK.longest or not asked  # less what has passed since
    exporter.shutdown()
    assert losses.take() == {LOST: 3}


def test_the_end_tries_once_more_and_does_not_wait_for_a_pause_that_is_too_long(serve: Serve) -> None:
    server = serve(lambda body: (429, {"Retry-After": "100"}))
    exporter = exporter_to(server.url, grace=90)
    exporter.export(spans(3))
    await_failure(exporter)
    done = threading.Event()
    threading.Thread(target=lambda: (exporter.shutdown(), done.set())).start()
    assert done.wait(60)
    assert len(server.asked) == 2
    assert losses.take() == {LOST: 3}


def info(seconds: int) -> RetryInfo:
    return RetryInfo(retry_delay=Duration(seconds=seconds))


def in_status(seconds: int) -> tuple[str, bytes]:
    detail = AnyMessage()
    detail.Pack(info(seconds))
    return "grpc-status-details-bin", Status(code=8, message="busy", details=[detail]).SerializeToString()


@pytest.mark.parametrize(
    "trailer", [in_status(100), ("google.rpc.retryinfo-bin", info(100).SerializeToString())], ids=["details", "own key"]
)
def test_the_pause_that_a_grpc_collector_asks_for_is_made(
    trailer: tuple[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    collector = GrpcCollector(trailer)
    exporter = ReliableSpanExporter(
        lambda: GrpcSpanExporter(collector.place, insecure=True, timeout=0.5), pace=BRISK, grace=Grace(20)
    )
    with caplog.at_level(logging.WARNING):
        exporter.export(spans(3))
        await_failure(exporter)
    assert BRISK.longest < retry_at(exporter) <= 100  # less what has passed since
    assert f"{collector.place} answered RESOURCE_EXHAUSTED: busy" in caplog.messages[0]
    assert exporter.force_flush()
    exporter.shutdown()
    collector.close()
    assert losses.take() == {REJECTED: 3}


def test_what_a_grpc_collector_says_in_no_known_form_is_no_failure_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    collector = GrpcCollector(("google.rpc.retryinfo-bin", b"\xff broken"))
    exporter = ReliableSpanExporter(lambda: GrpcSpanExporter(collector.place, insecure=True, timeout=0.5), pace=BRISK)
    with caplog.at_level(logging.WARNING):
        exporter.export(spans(3))
        assert exporter.force_flush()
    exporter.shutdown()
    collector.close()
    assert losses.take() == {REJECTED: 3}
    assert caplog.messages[0] == (
        f"the collector is not accepting spans, which wait in memory: {collector.place} answered "
        "RESOURCE_EXHAUSTED: busy"
    )


def test_what_a_collector_says_is_one_line_of_print() -> None:
    assert _one_line("a\x1b[2J\x00b\n c\u202e") == "a?[2J?b c?"
