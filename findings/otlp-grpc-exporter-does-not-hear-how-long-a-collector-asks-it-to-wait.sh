#!/usr/bin/env bash
# opentelemetry-exporter-otlp-proto-grpc 1.45.2, grpcio 1.82.1, grpcio-status 1.82.1
#
# One would guess: a collector that answers RESOURCE_EXHAUSTED with `RetryInfo` in the status details, as OTLP asks of it
# and as gRPC libraries of every language send details (one `google.rpc.Status` in the trailer `grpc-status-details-bin`),
# is asked again after the pause that it names. The exporter imports `RetryInfo` and reads it.
# What happens: the Python exporter looks for it in a trailer of another name, `google.rpc.retryinfo-bin`, which no gRPC
# library writes for status details. The pause in the standard place is not heard: it asks again at its own pace, after
# one second, two, four. It does so without any `RetryInfo` too, where OTLP has RESOURCE_EXHAUSTED as final.
# Why it matters: a collector at the limit of its memory sheds load by this answer. A pause of a minute is met with
# the next request after one second, from each process, and one of a tenth of a second costs a second, in which a busy
# agent's queue of 2,048 spans runs over.
#
# Output seen (the pause that the collector asks for is 0.1 s):
#   details in grpc-status-details-bin: asked again after the exporter's own second
#   details in google.rpc.retryinfo-bin: asked again after the pause asked for
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet opentelemetry-exporter-otlp-proto-grpc==1.45.2 grpcio==1.82.1 grpcio-status==1.82.1
"$folder/venv/bin/python" - <<'PYTHON'
import logging
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

logging.disable(logging.CRITICAL)
kept = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(kept))
provider.get_tracer("app").start_span("work").end()

WAIT = error_details_pb2.RetryInfo(retry_delay=Duration(nanos=100_000_000))


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Says once that it has no room, and for how long."""

    def __init__(self, place):
        self.place, self.times = place, []

    def Export(self, request, context):
        self.times.append(time.monotonic())
        if len(self.times) == 1 and self.place == "grpc-status-details-bin":
            status = status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message="no room")
            status.details.add().Pack(WAIT)
            context.abort_with_status(rpc_status.to_status(status))
        if len(self.times) == 1:
            context.set_trailing_metadata(((self.place, WAIT.SerializeToString()),))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no room")
        return trace_service_pb2.ExportTraceServiceResponse()


heard = []
for place in ("grpc-status-details-bin", "google.rpc.retryinfo-bin"):
    server, collector = grpc.server(ThreadPoolExecutor(2)), Collector(place)
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    OTLPSpanExporter(endpoint=f"http://127.0.0.1:{port}", insecure=True, timeout=20).export(kept.get_finished_spans())
    first, second = collector.times
    heard.append(second - first < 0.7)
    which = "the pause asked for" if heard[-1] else "the exporter's own second"
    print(f"details in {place}: asked again after {which}")
    server.stop(None)
assert heard == [False, True], heard
PYTHON
