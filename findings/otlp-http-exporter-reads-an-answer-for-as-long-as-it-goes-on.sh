#!/usr/bin/env bash
# opentelemetry-exporter-otlp-proto-http 1.45.2, requests 2.34.2
#
# One would guess: the exporter's `timeout` (OTEL_EXPORTER_OTLP_TIMEOUT) bounds an export, and an answer of which nothing is
# ever looked at is not kept in memory.
# What happens: `timeout` bounds each wait for the next bytes, and the body of the answer is read to its end before its
# status counts. A server that goes on sending, a byte now and then, keeps export() for as long as it likes: here over five
# times the timeout, until the server gave up. One that sends fast has all of it in the program's memory. Nothing is logged.
# Why it matters: one export at a time, so the thread of the batch processor hangs with it; its queue runs full and spans are
# dropped. An endpoint that streams (events for a browser, a proxy that trickles an error page) is enough.
#
# Output seen:
#   a byte now and then: SUCCESS after more than 5 timeouts: True
#   200 MB at once: SUCCESS, memory grew by as much: True
#   log lines: 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet opentelemetry-exporter-otlp-proto-http==1.45.2 requests==2.34.2
"$folder/venv/bin/python" - <<'PYTHON'
import logging
import resource
import socket
import threading
import time

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

said = []
logging.getLogger().addHandler(type("Kept", (logging.Handler,), {"emit": lambda self, record: said.append(record)})())
kept = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(kept))
provider.get_tracer("app").start_span("work").end()
TIMEOUT = 1.0


def answered_with(pieces):
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with listener.accept()[0] as connection:
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
            for piece, pause in pieces:
                connection.sendall(piece)
                time.sleep(pause)

    threading.Thread(target=serve, daemon=True).start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/traces"
    began = time.monotonic()
    result = OTLPSpanExporter(endpoint=url, timeout=TIMEOUT).export(kept.get_finished_spans())
    return result.name, time.monotonic() - began


def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


slow, seconds = answered_with([(b"x", 0.2)] * 30)
print(f"a byte now and then: {slow} after more than 5 timeouts: {seconds > 5 * TIMEOUT}")
before = megabytes()
fast, _ = answered_with([(b"x" * 1_000_000, 0)] * 200)
grew = megabytes() - before
print(f"200 MB at once: {fast}, memory grew by as much: {grew > 190}")
print(f"log lines: {len(said)}")
assert (slow, fast) == ("SUCCESS", "SUCCESS") and seconds > 5 * TIMEOUT and grew > 190 and not said, (seconds, grew, said)
PYTHON
