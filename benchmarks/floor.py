"""The floor: what any OpenTelemetry instrumentation must pay for one span with the same content.

One SDK span, 20 attributes, one of them the content as a JSON string, through a BatchSpanProcessor whose exporter
serialises every span. The JSON itself is made beforehand: the floor pays for no encoding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Sampler

from benchmarks.measure import Way

_NEVER_MS = 24 * 3600 * 1000

ATTRIBUTES: dict[str, str | int] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-5-mini",
    "gen_ai.response.model": "gpt-5-mini-2025-08-07",
    "gen_ai.response.id": "chatcmpl-C9Vt1k5wzPqv0m2",
    "gen_ai.response.finish_reasons": "stop",
    "gen_ai.usage.input_tokens": 220,
    "gen_ai.usage.output_tokens": 80,
    "gen_ai.usage.cache_read.input_tokens": 128,
    "gen_ai.request.max_tokens": 800,
    "gen_ai.output.type": "text",
    "gen_ai.conversation.id": "conversation-1",
    "user.id": "user-1",
    "server.address": "localhost",
    "server.port": 8080,
    "openinference.span.kind": "LLM",
    "llm.model_name": "gpt-5-mini",
    "llm.token_count.prompt": 220,
    "llm.token_count.completion": 80,
}


class EncodingExporter(SpanExporter):
    """Serialises every span to OTLP protobuf and throws the bytes away."""

    def __init__(self) -> None:
        self.spans = 0
        self.bytes = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Serialise a batch."""
        self.spans += len(spans)
        self.bytes += len(encode_spans(spans).SerializeToString())
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Nothing is held."""


def encoding_processor(exporter: EncodingExporter | None = None) -> tuple[BatchSpanProcessor, EncodingExporter]:
    """Return a processor that exports only when it is flushed, so that export never falls into a timed call."""
    exporter = exporter or EncodingExporter()
    return BatchSpanProcessor(exporter, max_queue_size=1 << 16, schedule_delay_millis=_NEVER_MS), exporter


def encoding_provider(sampler: Sampler | None = None) -> tuple[TracerProvider, EncodingExporter]:
    """Return a provider with an `encoding_processor`."""
    processor, exporter = encoding_processor()
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(processor)
    return provider, exporter


def floor_of(content: str | Callable[[], str], call: Callable[[], object] | None = None) -> Way:
    """Return the floor that carries `content`, or what it returns then, around `call`.

    A span in a loop of its own runs with warm caches, and costs a third of what the same span costs around an
    HTTP call. So a row that wraps a call is compared with the floor around that same call.
    """
    provider, _ = encoding_provider()
    tracer = provider.get_tracer("floor", "1.0")

    def floor() -> None:
        attributes = {**ATTRIBUTES, "content": content if isinstance(content, str) else content()}
        with tracer.start_as_current_span("chat gpt-5-mini", attributes=attributes):
            if call is not None:
                call()

    return Way(floor, flush=provider.force_flush)
