"""`docs/reference/telemetry.md`: attributes, events and metrics, by what the writers make of records that hold all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Histogram, InMemoryMetricReader
from tests.reference.api import PACKAGE
from tests.reference.commands import row

from spanrelay import semconv
from spanrelay.records import (
    AgentInfo,
    ErrorInfo,
    Kind,
    Message,
    ModelRequest,
    ModelResponse,
    Opaque,
    PromptCache,
    PromptTemplate,
    ResponseCache,
    SpanRecord,
    Text,
    ToolCall,
    ToolCallResponse,
    ToolDefinition,
    ToolRequest,
    ToolResult,
    Usage,
)
from spanrelay.semconv import names
from spanrelay.telemetry.metrics import CallMetrics

HEAD = """\
# Attributes, events and metrics

What SpanRelay writes. The tables are made by writing a span of each kind that holds everything; a real one has those of
them that its call has. What others write is read too, in whatever vocabulary: [dialects](../dialects.md).

## Attributes of spans

`SPANRELAY_DIALECT` says which of the two dialects an exporter gets ([settings](../settings.md)). Message content is
marked † and there only where it was asked for. `N` counts from 0. JSON is a string that holds JSON.

- `genai`, the default, is OpenTelemetry's [GenAI conventions](https://github.com/open-telemetry/semantic-conventions-genai),
  version 1.41, with the kind and the scalars of OpenInference beside them. `SPANRELAY_SEMCONV=0.1` renames what a later
  version calls otherwise: `gen_ai.usage.cache_creation.input_tokens` is `gen_ai.usage.cache_write.input_tokens` there.
- `openinference` is [OpenInference's conventions](https://github.com/Arize-ai/openinference/tree/main/spec), with
  operation, provider and model of OpenTelemetry beside them.
"""

OWN_HEAD = """
### SpanRelay's own, in both

No convention has a word for these. Those of guardrails are proposed for OpenTelemetry's, and are on the spans of
guardrails.

| Attribute | |
|---|---|
"""

EVENTS_HEAD = """
## Events

Of spans, but for the first, which is a log record ([observation](../observation.md#events-of-model-calls)).

"""

METRICS_HEAD = """
## Metrics

Recorded by the meter `spanrelay`, of sampled calls and of others, unless `SPANRELAY_METRICS=false`. *0.1* is what
`SPANRELAY_SEMCONV=0.1` records; `0.1/dup` records both. Durations are in seconds.

"""

_SAID = [
    Message("user", [Opaque("compaction", {})]),
    Message("user", [Text("?")]),
    Message("tool", [ToolCallResponse("c-1", "18 °C")]),
]
_ANSWER = Message("assistant", [Text("!"), ToolCall("c-1", "weather", {"city": "Paris"})], finish_reason="stop")
_NUMBERS = {"temperature": 0.5, "top_p": 0.5, "frequency_penalty": 0.5, "presence_penalty": 0.5}
_COUNTS = dict.fromkeys(("top_k", "max_tokens", "seed", "choice_count", "dimensions"), 2)
_LISTS: dict[str, Any] = {name: ["x"] for name in names.LIST_PARAMETERS}
_PARAMETERS = {**dict.fromkeys(names.PARAMETER_NAMES, "x"), **_LISTS, **_NUMBERS, **_COUNTS, "tool_choice": "auto"}
_OF_EMBEDDINGS = {"dimensions", "encoding_formats"}


def whole(kind: Kind) -> SpanRecord:
    """A span of a kind that holds everything that such a span can."""
    record = SpanRecord(1, 2, kind=kind, name="x", start=1, end=2_000_000_001, provider="openai", session_id="s-1")
    record.user_id, record.metadata, record.incomplete, record.answered_by = "u-1", {"team": "a"}, "cut", "cache"
    record.server_address, record.server_port = "api.example.com", 443
    record.would_refuse, record.would_change = ("a: b",), ("a: b",)
    record.error = ErrorInfo("rate_limit", "!", code="rate_limited", status_code=429)
    if kind in ("llm", "embedder"):
        _fill(record)
    elif kind == "tool":
        record.tool = ToolRequest("weather", {"city": "Paris"}, "c-1", "w", "function")
        record.result = ToolResult('{"not": "JSON here"}', annotation={"a": 1})
    else:
        record.input, record.output = "?", [{"id": "d-1", "score": 0.5}] if kind == "retriever" else "!"
        if kind == "evaluator":
            record.output = {"score": 0.5, "label": "good", "explanation": "because"}
        if kind == "agent":
            record.agent = AgentInfo("helper", "a-1", "1", "d")
    return record


def _fill(record: SpanRecord) -> None:
    """Put a question and an answer into a call of a model."""
    asks = record.kind == "llm"
    parameters = {name: value for name, value in _PARAMETERS.items() if (name in _OF_EMBEDDINGS) != asks}
    request = record.request = ModelRequest("m", _SAID[1:2], parameters=parameters, stream=asks)
    response = record.response = ModelResponse("r-1", "m", usage=Usage(1, total_tokens=1, cost_usd=0.3))
    if asks:
        request.messages, request.system, request.tools = _SAID, [Text("s")], [ToolDefinition("weather", "w", {})]
        request.prompt = PromptTemplate("in {city}", {"city": "Paris"})
        response.messages, response.finish_reasons = [_ANSWER], ["stop"]
        response.usage = Usage(*range(1, 9), 0.3, 0.1, 0.2, 1)
        record.time_to_first_chunk = 0.5
        record.prompt_cache = PromptCache("marked", "s", ("system 5m",), 1, 0.5, 1, 0.5, "m", "s")
        record.response_cache = ResponseCache("hit", "r", 0.5, 1)
    response.parameters = {**dict.fromkeys(names.RESPONSE_PARAMETER_NAMES, "x"), "status": "completed"}


def attributes_of(kind: Kind, dialect: str, *, content: bool = True) -> dict[str, Any]:
    record = whole(kind)
    # Where a model was asked, the tracer says.
    place = {names.SERVER_ADDRESS: "api.example.com", names.SERVER_PORT: 443} if record.request is not None else {}
    return {**semconv.write_start(record, dialect), **semconv.write(record, dialect, content=content), **place}


def form(value: Any) -> str:
    """What an attribute holds, in the words of OpenTelemetry."""
    if isinstance(value, (list, tuple)):
        return f"{form(value[0])}[]"
    if isinstance(value, str):
        return "JSON" if value[:1] in ("{", "[") else "string"
    return {"bool": "boolean", "int": "int", "float": "double"}[type(value).__name__]


def attributes(dialect: str) -> str:
    """A row for each attribute of a dialect, with the kinds of span that have it."""
    kinds: dict[str, list[str]] = {}
    forms: dict[str, str] = {}
    for kind in get_args(Kind):
        without = attributes_of(kind, dialect, content=False)
        for name, value in attributes_of(kind, dialect).items():
            told = re.sub(r"\.\d+(?=\.|$)", ".N", name)
            if kind not in kinds.setdefault(told, []):
                kinds[told].append(kind)
            forms[told] = form(value) + ("" if name in without else " †")
    every = len(get_args(Kind))
    rows = (
        row(f"`{name}`", forms[name], "all" if len(kinds[name]) == every else ", ".join(kinds[name]))
        for name in sorted(kinds)
        if not name.startswith("spanrelay.")
    )
    return f"\n### `{dialect}`\n\n| Attribute | Holds | On spans of |\n|---|---|---|\n" + "".join(rows)


@cache
def meanings() -> dict[str, str]:
    """What `names.py` says of each attribute, event and metric, with the names themselves in place of its own."""

    def named(match: re.Match[str]) -> str:
        value = getattr(names, match[1], None)
        return f"`{value}`" if isinstance(value, str) else match[0]

    found = {}
    for name, attribute in PACKAGE["semconv.names"].attributes.items():
        value = getattr(names, name, None)
        if isinstance(value, str) and attribute.docstring is not None:
            found[value] = re.sub(r"`([A-Z_]+)`", named, " ".join(attribute.docstring.value.split()))
    return found


EVENTS = (names.OPERATION_DETAILS, names.EXCEPTION_EVENT, names.REFUSED_TOOL_CALL, names.APPROVED_EVENT)


def own() -> Iterator[str]:
    yield OWN_HEAD
    for name, meaning in sorted(meanings().items()):
        if name.startswith(("spanrelay.", "gen_ai.guardrail.")) and name not in EVENTS:
            yield row(f"`{name}`", meaning)


def measured(convention: str) -> dict[str, Any]:
    """The metrics of a version, as a reader gets them of one span of each kind."""
    reader = InMemoryMetricReader()
    calls = CallMetrics(MeterProvider([reader]), convention)
    for kind in get_args(Kind):
        calls.record(whole(kind))
    told = reader.get_metrics_data()
    assert told is not None
    return {each.name: each for each in told.resource_metrics[0].scope_metrics[0].metrics}


def buckets(metric: Any) -> str:
    if not isinstance(metric.data, Histogram):
        return "counter"
    bounds = metric.data.data_points[0].explicit_bounds
    return f"histogram, {len(bounds)} bounds from {bounds[0]:g} to {bounds[-1]:.10g}"


def metrics() -> Iterator[str]:
    older, newer = measured(names.CONVENTION), measured("0.1")
    counters = {name: f"`{field}` of a call of a model." for field, name in names.INFERENCE_USAGE.items()}
    counters |= {
        names.WOULD_REFUSE: "Calls that a policy on trial would have refused, by its name.",
        names.WOULD_CHANGE: "Calls that a policy on trial would have changed, by its name.",
        names.PROMPT_CACHE_SAVED: "US dollars that the plugin `prompt_cache` saved, or would have, by its decision.",
    }
    yield "| Metric | | Instrument | Unit | Version |\n|---|---|---|---|---|\n"
    for name, metric in sorted({**older, **newer}.items()):
        version = "both" if name in older and name in newer else names.CONVENTION if name in older else "0.1"
        meaning = counters.get(name) or meanings()[name]
        yield row(f"`{name}`", meaning, buckets(metric), f"`{metric.unit}`", version)
    yield "\nTheir attributes:\n\n| Metric | Attributes |\n|---|---|\n"
    for name, metric in sorted(older.items()):
        keys = sorted({key for point in metric.data.data_points for key in point.attributes})
        yield row(f"`{name}`", ", ".join(f"`{key}`" for key in keys))


def telemetry() -> str:
    events = (row(f"`{name}`", meanings()[name]) for name in EVENTS)
    parts = [HEAD, *map(attributes, semconv.DIALECTS), *own()]
    parts += [EVENTS_HEAD, "| Event | |\n|---|---|\n", *events, METRICS_HEAD, *metrics()]
    return "".join(parts)
