"""A small conversation as spans of OpenTelemetry's dialect, in every form that telemetry is recorded in."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

START = 1_795_900_000_000_000_000
SECOND = 1_000_000_000


def _message(role: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": role, "parts": list(parts)}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "content": text}


ASKED = [_message("system", _text("Be brief.")), _message("user", _text("The weather in Rome?"))]
CALLED = _message("assistant", {"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"city": "Rome"}})
ANSWERED = _message("tool", {"type": "tool_call_response", "id": "c1", "response": "sunny"})
SAID = _message("assistant", _text("Sunny."))


def spans(session: str = "session-1", base: int = START, service: str = "weather-agent") -> list[ReadableSpan]:
    """Return the spans of one run: an agent, two model calls, and a tool's that raises a warning on the way."""
    kept = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": service, "service.version": "1.2.3"}))
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("some.instrumentation", "0.1")
    agent = tracer.start_span(
        "invoke_agent weather",
        start_time=base,
        attributes={
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": "weather",
            "gen_ai.conversation.id": session,
        },
    )
    around = set_span_in_context(agent)
    _model_call(tracer, around, base + SECOND, ASKED, CALLED)
    tool = tracer.start_span(
        "execute_tool weather",
        around,
        start_time=base + 2 * SECOND,
        attributes={
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "weather",
            "gen_ai.tool.call.id": "c1",
            "gen_ai.tool.call.arguments": '{"city":"Rome"}',
            "gen_ai.tool.call.result": "sunny",
        },
    )
    tool.add_event("cache miss", {"shard": 3}, base + 2 * SECOND + 1)
    tool.end(base + 2 * SECOND + 5)
    _model_call(tracer, around, base + 3 * SECOND, [*ASKED, CALLED, ANSWERED], SAID)
    agent.set_status(Status(StatusCode.OK))
    agent.end(base + 5 * SECOND)
    return list(kept.get_finished_spans())


def _model_call(tracer: Any, around: Any, start: int, asked: list[dict[str, Any]], answer: dict[str, Any]) -> None:
    span = tracer.start_span(
        "chat m-1",
        around,
        SpanKind.CLIENT,
        start_time=start,
        attributes={
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "m-1",
            "gen_ai.input.messages": json.dumps(asked),
            "gen_ai.output.messages": json.dumps([{**answer, "finish_reason": "stop"}]),
            "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.usage.input_tokens": 50,
            "gen_ai.usage.output_tokens": 20,
            "gen_ai.request.temperature": 0.5,
        },
    )
    span.end(start + SECOND // 2)


def protobuf(given: Sequence[ReadableSpan]) -> bytes:
    """Return an export request."""
    return encode_spans(given).SerializeToString()


def otlp_json(given: Sequence[ReadableSpan], *, ids: str = "hex", snake: bool = False) -> dict[str, Any]:
    """Return an export request as JSON: ids in hex or base64, keys in camel case or as in the protobuf."""
    from google.protobuf.json_format import MessageToDict

    request = MessageToDict(encode_spans(given), preserving_proto_field_name=snake)
    if ids == "hex":
        _to_hex(request)
    return request


def _to_hex(value: Any) -> None:
    if isinstance(value, list):
        for each in value:
            _to_hex(each)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key in ("traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id"):
                value[key] = base64.b64decode(inner).hex()
            else:
                _to_hex(inner)


def _varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low]) if not rest else bytes([low | 0x80]) + _varint(rest)


def forms(given: Sequence[ReadableSpan]) -> Iterator[tuple[str, bytes]]:
    """Yield what the same spans are in each form, with its name."""
    half = len(given) // 2
    parts = [protobuf(given[:half]), protobuf(given[half:])]
    request = otlp_json(given)
    yield "a protobuf request", protobuf(given)
    yield "protobuf requests behind their lengths", b"".join(_varint(len(part)) + part for part in parts)
    yield "protobuf as the Collector's file exporter has it", b"".join(len(p).to_bytes(4, "big") + p for p in parts)
    yield "a JSON request", json.dumps(request).encode()
    yield "a JSON request over many lines", json.dumps(request, indent=2).encode()
    yield "JSON requests, one a line", b"\n".join(json.dumps(otlp_json(p)).encode() for p in (given[:2], given[2:]))
    yield "JSON with ids in base64", json.dumps(otlp_json(given, ids="base64")).encode()
    yield "JSON with the names of the protobuf", json.dumps(otlp_json(given, snake=True)).encode()
    yield "a JSON resource a line", b"\n".join(json.dumps(each).encode() for each in request["resourceSpans"])
    yield "JSON with a byte order mark", b"\xef\xbb\xbf" + json.dumps(request).encode()
    yield "gzip", gzip.compress(json.dumps(request).encode())
    yield "gzip of protobuf", gzip.compress(protobuf(given))
    yield "the SDK's spans as a list", f"[{','.join(span.to_json() for span in given)}]".encode()
    yield "the SDK's spans as its console exporter prints them", "\n".join(span.to_json() for span in given).encode()


def write(folder: Path, data: bytes, name: str = "telemetry") -> Path:
    """Write a file and return where it is."""
    path = folder / name
    path.write_bytes(data)
    return path
