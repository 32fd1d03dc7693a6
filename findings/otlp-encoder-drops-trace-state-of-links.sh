#!/usr/bin/env bash
# opentelemetry-sdk 1.45.2, opentelemetry-exporter-otlp-proto-common 1.45.2, Python 3.10 to 3.13
#
# One would guess: a span's link reaches a collector with all of its context. OTLP's `Span.Link` has `trace_state` beside
# `trace_id` and `span_id`, and the encoder writes `trace_state` for the span itself.
# What happens: the Python encoder never writes the trace state of a link. It writes its ids, flags and attributes.
# Why it matters: what samplers and vendors put into trace state is lost for batch work that links to its causes, as agent
# queues do, and who redacts trace state and looks at OTLP alone believes that there is nothing in links to redact: other
# exporters, and anything that reads `link.context`, do see it.
#
# Output seen:
#   span: vendor=seen
#   link: (nothing)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet opentelemetry-sdk==1.45.2 opentelemetry-exporter-otlp-proto-common==1.45.2
"$folder/venv/bin/python" - <<'PYTHON'
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, TraceFlags, TraceState, set_span_in_context

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
context = SpanContext(7, 8, True, TraceFlags(1), TraceState([("vendor", "seen")]))
parent = set_span_in_context(NonRecordingSpan(context))
provider.get_tracer("app").start_span("work", parent, links=[Link(context)]).end()

[finished] = exporter.get_finished_spans()
assert finished.links[0].context.trace_state.to_header() == "vendor=seen"
[span] = encode_spans([finished]).resource_spans[0].scope_spans[0].spans
print("span:", span.trace_state or "(nothing)")
print("link:", span.links[0].trace_state or "(nothing)")
assert (span.trace_state, span.links[0].trace_state) == ("vendor=seen", "")
PYTHON
