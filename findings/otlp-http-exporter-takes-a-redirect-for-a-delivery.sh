#!/usr/bin/env bash
# opentelemetry-exporter-otlp-proto-http 1.45.2
#
# One would guess: an OTLP/HTTP exporter whose endpoint has moved (an ingress that sends http to https, a path that got a
# slash) either follows, as HTTP clients do, or fails with a word; and that a login page with status 200 is no delivery.
# What happens: every status below 400 is SUCCESS. 301, 302, 303, 307 and 308 are not followed, and a 200 with an HTML page
# for a body is taken as it is; the body of an answer is never read, so that a `partial_success` which rejects every span
# is SUCCESS too. Nothing is logged.
# Why it matters: all spans of a fleet vanish at an ingress, and no line of any log says so.
#
# Output seen:
#   301: SUCCESS, 1 request(s), 0 followed
#   302: SUCCESS, 1 request(s), 0 followed
#   307: SUCCESS, 1 request(s), 0 followed
#   308: SUCCESS, 1 request(s), 0 followed
#   200 with a page: SUCCESS, 1 request(s), 0 followed
#   200 that rejects 5 spans: SUCCESS, 1 request(s), 0 followed
#   log lines: 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet opentelemetry-exporter-otlp-proto-http==1.45.2
"$folder/venv/bin/python" - <<'PYTHON'
import logging
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

said = []
logging.getLogger().addHandler(type("Kept", (logging.Handler,), {"emit": lambda self, record: said.append(record)})())
kept = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(kept))
for number in range(5):
    provider.get_tracer("app").start_span(f"work {number}").end()

rejects = ExportTraceServiceResponse()
rejects.partial_success.rejected_spans = 5
PROTOBUF = "application/x-protobuf"
ANSWERS = {
    **{str(code): (code, "text/plain", b"moved") for code in (301, 302, 307, 308)},
    "200 with a page": (200, "text/html", b"<html>log in</html>"),
    "200 that rejects 5 spans": (200, PROTOBUF, rejects.SerializeToString()),
}
seen = []
for name, (code, kind, body) in ANSWERS.items():
    paths = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            paths.append(self.path)
            self.send_response(code if self.path == "/v1/traces" else 200)
            self.send_header("location", "/elsewhere")
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{server.server_port}/v1/traces", timeout=5)
    result = exporter.export(kept.get_finished_spans())
    print(f"{name}: {result.name}, {len(paths)} request(s), {paths.count('/elsewhere')} followed")
    seen.append((result.name, paths))
    server.shutdown()
print(f"log lines: {len(said)}")
assert all(result == ("SUCCESS", ["/v1/traces"]) for result in seen) and not said, (seen, said)
PYTHON
