#!/usr/bin/env bash
# opentelemetry-sdk 1.45.2, Python 3.11
#
# One would guess: the console exporter of the SDK prints what the SDK takes. Since spans take bytes as an attribute's
# value (and lists and maps of them), without a warning, it prints them, as it prints those of a log record (in base64).
#
# What happens: ReadableSpan.to_json(), which the exporter calls for each span, raises a TypeError at bytes. Within a batch
# that ends the printing: the span is lost and so are all behind it, of whichever library. force_flush() returns True.
#
# Why it matters: the exporter is what one looks at when telemetry is missing, and to_json() what tests and tools write to
# files. One attribute, of a library that one does not know, makes other libraries' spans disappear.
#
# Output seen:
#   attributes of the span: {'digest': b'\x01'}
#   spans printed of first, second with bytes, third: ['first']; force_flush() said True
#   log record with bytes printed: True
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check opentelemetry-sdk==1.45.2

cat > "$folder/program.py" <<'PYTHON'
import io
import re

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import ConsoleLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

printed, provider = io.StringIO(), TracerProvider()
provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter(out=printed)))
tracer = provider.get_tracer("any library")
for name in ("first", "second with bytes", "third"):
    with tracer.start_as_current_span(name) as span:
        if "bytes" in name:
            span.set_attribute("digest", b"\x01")
            print("attributes of the span:", dict(span.attributes))
flushed = provider.force_flush()
names = re.findall(r'"name": "(.*)"', printed.getvalue())
print(f"spans printed of first, second with bytes, third: {names}; force_flush() said {flushed}")

printed, logs = io.StringIO(), LoggerProvider()
logs.add_log_record_processor(SimpleLogRecordProcessor(ConsoleLogRecordExporter(out=printed)))
logs.get_logger("any library").emit(body="hello", attributes={"digest": b"\x01"})
print("log record with bytes printed:", '"digest": "AQ=="' in printed.getvalue())
PYTHON

"$folder/venv/bin/python" "$folder/program.py" 2>/dev/null | tee "$folder/out"
diff "$folder/out" - <<'EXPECTED'
attributes of the span: {'digest': b'\x01'}
spans printed of first, second with bytes, third: ['first']; force_flush() said True
log record with bytes printed: True
EXPECTED
