"""Assembly: from spans in OTLP protobuf, as a collector holds them, to the lines of trajectories.

Counted are parsing the protobuf, reading the attributes, assembling, and writing every operation as JSON; not
counted is the disk.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import set_span_in_context

from benchmarks import workload
from benchmarks.measure import Effort, median
from benchmarks.results import Result
from spanrelay import _json, semconv
from spanrelay.assembly.assembler import Assembler
from spanrelay.records import JSON, Message, ModelRequest, ModelResponse, SpanRecord, Text, Usage

_SIZES = {1_000: (5, 15_000.0), 7_000: (20, 15_000.0), 46_000: (60, None)}
"""Bytes of content in a span: the calls of one run that have it on average, and the budget."""


class _Keeping(SpanExporter):
    """Keeps every batch as the bytes that OTLP sends."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.requests.append(encode_spans(spans).SerializeToString())
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Nothing is held open."""


class _Lines:
    """A journal that writes each operation as a line and keeps none."""

    full = gone = False

    def __init__(self, name: str) -> None:
        self.bytes = len(name)

    def write(self, operation: dict[str, JSON]) -> None:
        """Serialise one operation."""
        self.bytes += len(_json.dumps(operation))


def assembly(effort: Effort) -> list[Result]:
    """Measure how many spans one CPU second assembles, of agents whose conversation grows call by call."""
    results: list[Result] = []
    for size, (calls, limit) in _SIZES.items():
        traces = traces_of(size, calls, 2_000 // calls if effort.seconds else 2)
        rates = [assemble(traces) for _ in range(max(2, int(effort.seconds)))]
        rate = median(rates)
        name = f"assembly, {size // 1000} KB a span"
        results.append(Result(name, "spans a CPU second", "", rate.value, rate.error, limit=limit, more=True))
    return results


def traces_of(size: int, calls: int, count: int) -> list[bytes]:
    """Return `count` agent runs of `calls` model calls each, every run one OTLP request."""
    exporter = _Keeping()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=3_600_000))
    tracer = provider.get_tracer("benchmark")
    for run in range(count):
        agent = SpanRecord(0, 0, kind="agent", operation="invoke_agent", session_id=f"session-{run}")
        with tracer.start_as_current_span("invoke_agent benchmark", attributes=semconv.write_start(agent)) as root:
            for record in _conversation(run, calls, size // (calls + 1)):
                attributes: dict[str, Any] = semconv.write_start(record)
                attributes.update(semconv.write(record, content=True))
                tracer.start_span("chat", set_span_in_context(root), attributes=attributes).end()
        provider.force_flush()
    return exporter.requests


def _conversation(run: int, calls: int, size: int) -> Iterator[SpanRecord]:
    """Yield model calls of one growing conversation, whose messages have `size` characters."""
    messages: list[Message] = []
    for call in range(calls):
        messages.append(Message("user", [Text(f"{run}.{call} {workload.text(size)}")]))
        answer = Message("assistant", [Text(f"{run}.{call} {workload.text(size)}")], finish_reason="stop")
        record = SpanRecord(0, 0, kind="llm", operation="chat", provider="openai", session_id=f"session-{run}")
        record.request = ModelRequest(workload.MODEL, list(messages))
        record.response = ModelResponse(f"chatcmpl-{run}-{call}", workload.MODEL, [answer], ["stop"], Usage(220, 80))
        messages.append(answer)
        yield record


def assemble(traces: list[bytes]) -> float:
    """Return the spans that one CPU second assembles."""
    assembler = Assembler(_Lines)
    spans = 0
    start = time.process_time()
    for data in traces:
        records = [_read(span) for span in _spans(data)]
        # A batch holds spans as they ended: the agent's own is last, and must have started first.
        assembler.start(records[-1])
        for record in records:
            assembler.end(record)
        spans += len(records)
    assembler.close()
    return spans / (time.process_time() - start)


def _spans(data: bytes) -> list[Span]:
    request = ExportTraceServiceRequest.FromString(data)
    return [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]


def _read(span: Span) -> SpanRecord:
    record = SpanRecord(
        int.from_bytes(span.trace_id, "big"),
        int.from_bytes(span.span_id, "big"),
        int.from_bytes(span.parent_span_id, "big") or None,
        name=span.name,
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
    )
    semconv.read(_attributes(span.attributes), record)
    return record


def _attributes(attributes: Sequence[KeyValue]) -> dict[str, Any]:
    # Most are texts, and to ask of which kind a value is costs more than to try.
    return {item.key: item.value.string_value or _value(item.value) for item in attributes}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind) if kind is not None else None
