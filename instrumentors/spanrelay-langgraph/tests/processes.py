"""Programs in several processes whose spans go to one collector, and what they add up to there."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from tests.exporters.otlp_server import OtlpServer
from tests.programs import environment

from spanrelay.assembly.exporter import AtifSpanExporter
from spanrelay_testkit.model_server import ModelServer

_REMOTE = 0x200
"""The bit of a span's flags that says that its parent is in another process."""


def exporting(name: str, collector: OtlpServer, model: ModelServer) -> dict[str, str]:
    """The environment of a program called `name` whose spans, content and all, go to `collector`."""
    return environment(
        model,
        {
            "OTEL_SERVICE_NAME": name,
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "span_only",
        },
    )


def launched(command: Iterable[Any], folder: Path, settings: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start a program that says on its first line where it can be reached."""
    pipe = subprocess.PIPE
    return subprocess.Popen([*command], cwd=folder, env={**settings}, stdout=pipe, stderr=pipe, text=True)


def collected(collector: OtlpServer) -> list[ReadableSpan]:
    """Return the spans that came, as a program behind the collector has them."""
    found: list[ReadableSpan] = []
    for path, body in collector.accepted:
        if path != "/v1/traces":
            continue
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            of = Resource(_attributes(resource.resource.attributes))
            for scope in resource.scope_spans:
                found += [_span_of(span, of, scope.scope.name) for span in scope.spans]
    return found


def _span_of(span: Any, resource: Resource, scope: str) -> ReadableSpan:
    trace_id = int.from_bytes(span.trace_id, "big")

    def context(span_id: bytes, *, remote: bool) -> SpanContext:
        return SpanContext(trace_id, int.from_bytes(span_id, "big"), remote, TraceFlags(1))

    return ReadableSpan(
        name=span.name,
        context=context(span.span_id, remote=False),
        parent=context(span.parent_span_id, remote=bool(span.flags & _REMOTE)) if span.parent_span_id else None,
        resource=resource,
        attributes=MappingProxyType(_attributes(span.attributes)),
        kind=SpanKind(span.kind - 1),
        status=Status(StatusCode((0, 1, 2)[span.status.code]), span.status.message or None),
        start_time=span.start_time_unix_nano,
        end_time=span.end_time_unix_nano,
        instrumentation_scope=InstrumentationScope(scope),
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return tuple(map(_value, value.array_value.values)) if kind == "array_value" else getattr(value, kind)


def assembled(spans: list[ReadableSpan], folder: Path) -> list[dict[str, Any]]:
    """Return the trajectories that an exporter behind the collector makes of the spans."""
    exporter = AtifSpanExporter(folder)
    exporter.export(spans)
    exporter.shutdown()
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def lineage(span: ReadableSpan, spans: list[ReadableSpan]) -> list[ReadableSpan]:
    """Return a span and what is above it, nearest first."""
    known = {each.context.span_id: each for each in spans if each.context is not None}
    found = [span]
    while (parent := found[-1].parent) is not None:
        found.append(known[parent.span_id])
    return found
