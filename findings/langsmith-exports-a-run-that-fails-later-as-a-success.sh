#!/usr/bin/env bash
# langsmith 0.15.1, opentelemetry-sdk 1.45.2, Python 3.11
#
# One would guess: a traced function that raises is exported to OpenTelemetry as a span whose status is ERROR.
#
# What happens: a run is two messages, its start and its end, and the start already sets the status OK, since it holds no
# error. OpenTelemetry's SDK takes no other status after OK, so the ERROR of the end is thrown away without a word; what is
# left is an `exception` event on a span that says it went well. Where start and end leave in one batch they are put
# together first, and the status is right.
#
# Why it matters: what fails fast is counted as a failure, what fails after the queue was sent once (a fraction of a
# second: a time-out, a tool that works for long, an agent's whole run) as a success. Rates of errors by status are wrong
# for just the runs that matter; a reader has to look for the event.
#
# Output seen:
#   start and end in one: status ERROR, events ['exception']
#   start sent before the end: status OK, events ['exception']
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check langsmith==0.15.1 \
    opentelemetry-sdk==1.45.2 opentelemetry-exporter-otlp-proto-http==1.45.2

cat > "$folder/program.py" <<'PYTHON'
import os
from datetime import datetime, timezone

os.environ |= {
    "LANGSMITH_TRACING": "true",
    "LANGSMITH_OTEL_ENABLED": "true",
    "LANGSMITH_OTEL_ONLY": "true",  # nothing leaves the process
    "LANGSMITH_API_KEY": "none",
}
from langsmith import Client, traceable, uuid7
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

kept, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(kept))
trace.set_tracer_provider(provider)
client = Client()


def show():
    client.flush()
    span = kept.get_finished_spans()[-1]
    print(f"{span.name}: status {span.status.status_code.name}, events {[event.name for event in span.events]}")


@traceable(name="start sent before the end", run_type="tool", client=client)
def tool():
    client.flush()  # as the client's own thread does while a tool works
    raise ValueError("no")


now = datetime.now(timezone.utc)
client.create_run("start and end in one", {}, "tool", id=(run := uuid7()), trace_id=run, start_time=now, end_time=now,
                  dotted_order=f"{now:%Y%m%dT%H%M%S%fZ}{run}", error="no")
show()
try:
    tool()
except ValueError:
    show()
PYTHON

"$folder/venv/bin/python" "$folder/program.py" 2>/dev/null | tee "$folder/out"
diff "$folder/out" - <<'EXPECTED'
start and end in one: status ERROR, events ['exception']
start sent before the end: status OK, events ['exception']
EXPECTED
