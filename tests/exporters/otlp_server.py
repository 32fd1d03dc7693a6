"""A collector in this process: real HTTP, answers by script, keeps what it accepted."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

Reply = int | tuple[int, dict[str, str]] | tuple[int, dict[str, str], bytes]
Script = Callable[[bytes], Reply]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class OtlpServer:
    """Accepts OTLP over HTTP at `url`; `script` gets each body and returns a status, perhaps headers and a body.

    `asked` are the paths of all requests, and `headers` those of the last one.
    """

    def __init__(self, script: Script = lambda body: 200, port: int = 0) -> None:
        self.script = script
        self.bodies: list[bytes] = []
        self.asked: list[str] = []
        self.headers: dict[str, str] = {}
        self.accepted: list[tuple[str, bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer._serve(self)

            def do_GET(self) -> None:
                """Show a page, as places do that redirects lead to."""
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        if handler.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.bodies.append(body)
        self.asked.append(handler.path)
        self.headers = {name.lower(): value for name, value in handler.headers.items()}
        answer = self.script(body)
        status, headers, text = (*answer, b"")[:3] if isinstance(answer, tuple) else (answer, {}, b"")
        if status == 200:
            self.accepted.append((handler.path, body))
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(text)), "Connection": "close", **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(text)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def span_names(self) -> list[str]:
        return [
            span.name
            for path, body in self.accepted
            if path == "/v1/traces"
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def sums(self) -> list[int]:
        """The values of the sum data points accepted, in order."""
        return [
            point.as_int
            for path, body in self.accepted
            if path == "/v1/metrics"
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.sum.data_points
        ]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
