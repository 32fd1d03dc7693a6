#!/usr/bin/env bash
# opentelemetry-sdk 1.45.2, Python 3.10 to 3.13
#
# One would guess that TracerProvider.force_flush() flushes the exporter: OpenTelemetry's specification says that a
# span processor's ForceFlush should call Export for what is waiting "and then invoke ForceFlush on it".
#
# What happens: BatchSpanProcessor and SimpleSpanProcessor call export() and never the exporter's force_flush(). The
# provider's force_flush() is True although an exporter that queues, batches or writes behind still holds every span, and
# also where it cannot deliver them. It is so for logs too; PeriodicExportingMetricReader does call its exporter's.
#
# Why it matters: a serverless function, a test or a notebook that flushes before it ends loses what such an exporter
# holds, and is told that all is well. Who stands between provider and exporter has to flush the exporter itself.
#
# Output seen:
#   BatchSpanProcessor: force_flush() is True, the exporter was flushed 0 times and holds 1 span
#   SimpleSpanProcessor: force_flush() is True, the exporter was flushed 0 times and holds 1 span
#   BatchLogRecordProcessor: force_flush() is True, the exporter was flushed 0 times and holds 1 record
#   PeriodicExportingMetricReader: force_flush() is True, the exporter was flushed 1 times
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check opentelemetry-sdk==1.45.2

"$folder/venv/bin/python" - <<'PYTHON'
import logging

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult


class Queues:
    """Takes everything at once, and sends what it holds when it is flushed."""

    def __init__(self):
        super().__init__()
        self.held, self.flushed = [], 0

    def force_flush(self, timeout_millis=30_000):
        self.flushed += 1
        self.held.clear()
        return True

    def shutdown(self, *args, **kwargs):
        pass


class Spans(Queues, SpanExporter):
    def export(self, spans):
        self.held += spans
        return SpanExportResult.SUCCESS


class Logs(Queues, LogRecordExporter):
    def export(self, batch):
        self.held += batch
        return LogRecordExportResult.SUCCESS


class Metrics(Queues, MetricExporter):
    def export(self, metrics_data, timeout_millis=10_000, **kwargs):
        return MetricExportResult.SUCCESS


for processor in (BatchSpanProcessor, SimpleSpanProcessor):
    exporter, provider = Spans(), TracerProvider()
    provider.add_span_processor(processor(exporter))
    provider.get_tracer("app").start_span("work").end()
    told = provider.force_flush()
    print(f"{processor.__name__}: force_flush() is {told}, the exporter was flushed {exporter.flushed} times "
          f"and holds {len(exporter.held)} span")
    assert (told, exporter.flushed, len(exporter.held)) == (True, 0, 1)

exporter, provider = Logs(), LoggerProvider()
provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
provider.get_logger("app").emit(body="work")
told = provider.force_flush()
print(f"BatchLogRecordProcessor: force_flush() is {told}, the exporter was flushed {exporter.flushed} times "
      f"and holds {len(exporter.held)} record")
assert (told, exporter.flushed, len(exporter.held)) == (True, 0, 1)

exporter = Metrics()
provider = MeterProvider([PeriodicExportingMetricReader(exporter, export_interval_millis=10**9)])
provider.get_meter("app").create_counter("work").add(1)
told = provider.force_flush()
print(f"PeriodicExportingMetricReader: force_flush() is {told}, the exporter was flushed {exporter.flushed} times")
assert (told, exporter.flushed) == (True, 1)
PYTHON
