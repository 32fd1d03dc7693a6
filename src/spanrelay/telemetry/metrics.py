"""The GenAI metrics of model calls: duration, token usage, time to the first chunk; and of tools and agents.

Recorded on the worker's thread from the finished record, whether or not the span was sampled or exported.
"""

from __future__ import annotations

import os
import weakref
from typing import Any

from opentelemetry import metrics
from opentelemetry.metrics import Histogram, MeterProvider

from spanrelay._guard import guarded
from spanrelay._json import clean_text
from spanrelay.records import SpanRecord
from spanrelay.semconv import names
from spanrelay.semconv.values import clean_attributes
from spanrelay.telemetry.front import count_anew
from spanrelay.telemetry.signals import of_sdk

_SCOPE = "spanrelay"
_MODEL_KINDS = frozenset({"llm", "embedder"})


class CallMetrics:
    """Instruments of one meter provider, by a version of the OpenTelemetry GenAI conventions."""

    def __init__(self, provider: MeterProvider | None = None, convention: str = names.CONVENTION) -> None:
        self._provider = provider
        if hasattr(os, "register_at_fork"):
            method = weakref.WeakMethod(self._begin_anew)
            os.register_at_fork(after_in_child=lambda: (begin := method()) and begin())
        meter = metrics.get_meter(_SCOPE, meter_provider=provider, schema_url=names.SCHEMA_URLS[convention])
        older = convention != "0.1"
        newer = convention != names.CONVENTION

        def histogram(name: str, unit: str) -> Histogram:
            buckets = list(names.BUCKETS[name])
            return meter.create_histogram(name, unit, explicit_bucket_boundaries_advisory=buckets)

        def histograms(before: str, now: str) -> tuple[Histogram, ...]:
            return tuple(
                histogram(name, names.SECONDS) for name, is_meant in ((before, older), (now, newer)) if is_meant
            )

        self._operation = histogram(names.OPERATION_DURATION, names.SECONDS)
        self._durations = histograms(names.OPERATION_DURATION, names.INFERENCE_DURATION)
        self._first_chunks = histograms(names.CLIENT_TIME_TO_FIRST_CHUNK, names.INFERENCE_TIME_TO_FIRST_CHUNK)
        self._tokens = histogram(names.TOKEN_USAGE, names.TOKENS) if older else None
        counted = names.INFERENCE_USAGE.items() if newer else ()
        self._usage = [(field, meter.create_counter(name, names.TOKENS)) for field, name in counted]
        self._tool = histogram(names.EXECUTE_TOOL_DURATION, names.SECONDS)
        self._agent = histogram(names.INVOKE_AGENT_DURATION, names.SECONDS)
        self._would_refuse = meter.create_counter(names.WOULD_REFUSE, "{call}")
        self._would_change = meter.create_counter(names.WOULD_CHANGE, "{call}")
        self._saved = meter.create_up_down_counter(
            names.PROMPT_CACHE_SAVED, "USD"
        )  # writing may cost more than it saves

    def _begin_anew(self) -> None:
        """Have measured nothing, in a forked child: what its parent has, that sends, and it would count twice."""
        with guarded("starting the counts of a child over"):
            count_anew(of_sdk(self._provider or metrics.get_meter_provider()), _SCOPE)

    def record(self, record: SpanRecord) -> None:
        """Record what a finished span says."""
        for counter, verdicts in ((self._would_refuse, record.would_refuse), (self._would_change, record.would_change)):
            for verdict in verdicts:
                name = verdict.partition(": ")[0]
                counter.add(1, {names.OPERATION: record.operation or "", names.GUARDRAIL_COMPONENT_NAME: name})
        seconds = ((record.end or record.start) - record.start) / 1e9
        if record.kind in _MODEL_KINDS:
            self._record_model_call(record, seconds)
        elif record.kind == "tool" and record.tool is not None:
            self._tool.record(seconds, {**_common(record), names.TOOL_NAME: clean_text(record.tool.name)})
        elif record.kind == "agent":
            self._agent.record(seconds, _common(record))

    def _record_model_call(self, record: SpanRecord, seconds: float) -> None:
        attributes = {**_common(record), **_of_model_call(record)}
        is_inference = record.kind == "llm"
        for duration in self._durations if is_inference else (self._operation,):
            duration.record(seconds, attributes)
        if record.time_to_first_chunk is not None:
            for first_chunk in self._first_chunks:
                first_chunk.record(record.time_to_first_chunk, attributes)
        usage = record.response.usage if record.response is not None else None
        cache = record.prompt_cache
        if cache is not None and cache.saved_usd is not None:
            self._saved.add(cache.saved_usd, {**attributes, names.PROMPT_CACHE_DECISION: cache.decision})
        if usage is None:
            return
        if self._tokens is not None:
            for kind, count in (("input", usage.input_tokens), ("output", usage.output_tokens)):
                if count is not None:
                    self._tokens.record(count, {**attributes, names.TOKEN_TYPE: kind})
        for field, counter in self._usage if is_inference else ():
            count = getattr(usage, field)
            if count is not None and count >= 0:
                counter.add(count, attributes)


def _common(record: SpanRecord) -> dict[str, Any]:
    attributes: dict[str, Any] = {names.OPERATION: record.operation or record.kind or ""}
    if record.provider:
        attributes[names.PROVIDER] = record.provider
    if record.request is not None and record.request.model:
        attributes[names.REQUEST_MODEL] = record.request.model
    if record.response is not None and record.response.model:
        attributes[names.RESPONSE_MODEL] = record.response.model
    if record.agent is not None and record.agent.name:
        attributes[names.AGENT_NAME] = record.agent.name
    if record.error is not None:
        attributes[names.ERROR_TYPE] = record.error.type
    return clean_attributes(attributes)


def _of_model_call(record: SpanRecord) -> dict[str, Any]:
    """Return where a model was asked, and what the conventions of a provider add."""
    attributes: dict[str, Any] = {}
    if record.server_address is not None:
        attributes[names.SERVER_ADDRESS] = record.server_address
        if record.server_port is not None:
            attributes[names.SERVER_PORT] = record.server_port
    told = record.response.parameters if record.response is not None else {}
    for parameter, name in names.RESPONSE_PARAMETER_NAMES.items():
        value = told.get(parameter)
        if isinstance(value, str) and value:
            attributes[name] = value
    if record.kind == "embedder":
        asked = record.request.parameters.get("dimensions") if record.request is not None else None
        count = asked or told.get("embedding_dimensions")
        if type(count) is int:
            attributes[names.PARAMETER_NAMES["dimensions"]] = count
    return clean_attributes(attributes)
