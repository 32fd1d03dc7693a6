"""Versions of OpenTelemetry's GenAI conventions: which names are written, and that all of them are read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import spanrelay
from spanrelay import config, semconv
from spanrelay.codecs import openai_responses
from spanrelay.records import ErrorInfo, ModelRequest, ModelResponse, SpanRecord, ToolRequest, Usage
from spanrelay.semconv import names
from spanrelay.telemetry.metrics import CallMetrics

OLD, NEW = "gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_write.input_tokens"


def call(kind: Any = "llm") -> SpanRecord:
    usage = Usage(10, 4, 14, 3, 2, 1)
    return SpanRecord(
        1,
        2,
        kind=kind,
        start=0,
        end=1_000_000_000,
        operation="chat" if kind == "llm" else "embeddings",
        provider="openai",
        server_address="127.0.0.1",
        server_port=8080,
        request=ModelRequest("gpt-4o"),
        response=ModelResponse("r1", "gpt-4o-1", usage=usage),
        time_to_first_chunk=0.25 if kind == "llm" else None,
    )


def written(convention: str) -> set[str]:
    return set(semconv.write(call(), semconv.written_as("genai", convention), content=True))


def test_each_version_writes_its_own_name_and_dup_writes_both() -> None:
    assert {OLD, NEW} & written("1.41") == {OLD}
    assert {OLD, NEW} & written("0.1") == {NEW}
    assert {OLD, NEW} <= written("0.1/dup")


@pytest.mark.parametrize("convention", config.CONVENTIONS)
def test_whatever_version_is_written_the_same_is_read(convention: str) -> None:
    record = SpanRecord(1, 2)
    dialect = semconv.written_as("genai", convention)
    semconv.read({**semconv.write_start(call(), dialect), **semconv.write(call(), dialect, content=True)}, record)
    assert record.response is not None and record.response.usage == Usage(10, 4, 14, 3, 2, 1)


def test_openinference_has_no_such_versions() -> None:
    assert semconv.written_as("openinference", "0.1") == "openinference"


def test_the_settings_offer_the_versions_that_there_are() -> None:
    assert config.CONVENTIONS == tuple(names.USAGE_NAMES_OF) == tuple(names.SCHEMA_URLS)
    assert config.Settings().semconv == names.CONVENTION


@pytest.mark.parametrize(
    ("environment", "convention"),
    [
        ({}, "1.41"),
        ({"OTEL_SEMCONV_STABILITY_OPT_IN": "http,database/dup"}, "1.41"),
        ({"OTEL_SEMCONV_STABILITY_OPT_IN": "http, gen_ai_latest_experimental"}, "0.1"),
        ({"OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental/dup"}, "0.1/dup"),
        ({"OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental", "SPANRELAY_SEMCONV": "1.41"}, "1.41"),
        ({"SPANRELAY_SEMCONV": " 0.1/dup "}, "0.1/dup"),
    ],
)
def test_the_version_is_chosen_by_our_variable_else_by_opentelemetrys(
    environment: dict[str, str], convention: str
) -> None:
    assert config.load_strictly(environment).semconv == convention


# --- metrics -----------------------------------------------------------------------------------------------


def measured(convention: str, *records: SpanRecord) -> dict[str, list[Any]]:
    reader = InMemoryMetricReader()
    calls = CallMetrics(MeterProvider([reader], shutdown_on_exit=False), convention)
    for record in records:
        calls.record(record)
    data: Any = reader.get_metrics_data()
    found = data.resource_metrics[0].scope_metrics[0].metrics
    return {metric.name: list(metric.data.data_points) for metric in found}


BEFORE = {
    "gen_ai.client.operation.duration",
    "gen_ai.client.operation.time_to_first_chunk",
    "gen_ai.client.token.usage",
}
NOW = {
    "gen_ai.client.inference.duration",
    "gen_ai.client.inference.time_to_first_chunk",
    "gen_ai.client.inference.usage.input_tokens",
    "gen_ai.client.inference.usage.output_tokens",
    "gen_ai.client.inference.usage.cache_read.input_tokens",
    "gen_ai.client.inference.usage.cache_write.input_tokens",
    "gen_ai.client.inference.usage.reasoning.output_tokens",
}


@pytest.mark.parametrize(
    ("convention", "expected"), [("1.41", BEFORE), ("0.1", NOW), ("0.1/dup", BEFORE | NOW)], ids=config.CONVENTIONS
)
def test_metrics_of_an_inference_have_the_names_of_the_version(convention: str, expected: set[str]) -> None:
    assert set(measured(convention, call())) == expected


def test_tokens_are_added_up_by_what_they_are() -> None:
    found = measured("0.1", call(), call())
    values = {
        name.removeprefix("gen_ai.client.inference.usage."): found[name][0].value for name in NOW if "usage" in name
    }
    assert values == {
        "input_tokens": 20,
        "output_tokens": 8,
        "cache_read.input_tokens": 6,
        "cache_write.input_tokens": 4,
        "reasoning.output_tokens": 2,
    }


@pytest.mark.parametrize("convention", ["0.1", "0.1/dup"])
def test_the_duration_of_embeddings_keeps_its_name(convention: str) -> None:
    names_of_embeddings = set(measured(convention, call("embedder")))
    assert "gen_ai.client.operation.duration" in names_of_embeddings
    assert not any("inference" in name for name in names_of_embeddings)


def test_metrics_say_which_server_was_asked_and_what_it_said_of_itself() -> None:
    record = call()
    assert record.response is not None
    record.response.parameters = {"system_fingerprint": "fp_1", "service_tier": "default", "status": "completed"}
    for points in measured("1.41", record).values():
        for point in points:
            assert point.attributes["server.address"] == "127.0.0.1"
            assert point.attributes["server.port"] == 8080
            assert point.attributes["openai.response.system_fingerprint"] == "fp_1"
            assert point.attributes["openai.response.service_tier"] == "default"


@pytest.mark.parametrize(("asked", "told"), [({"dimensions": 256}, {}), ({}, {"embedding_dimensions": 256})])
def test_metrics_of_embeddings_say_how_many_dimensions_they_have(asked: dict[str, Any], told: dict[str, Any]) -> None:
    record = call("embedder")
    assert record.request is not None and record.response is not None
    record.request.parameters, record.response.parameters = asked, told
    (point,) = measured("1.41", record)["gen_ai.client.operation.duration"]
    assert point.attributes["gen_ai.embeddings.dimension.count"] == 256


def test_metrics_of_a_call_without_a_server_or_an_answer_say_neither() -> None:
    record = call()
    record.server_address = record.server_port = record.response = None
    record.error = ErrorInfo("TimeoutError")
    (point,) = measured("1.41", record)["gen_ai.client.operation.duration"]
    assert not {"server.address", "server.port"} & point.attributes.keys()
    assert point.attributes["error.type"] == "TimeoutError"


def test_metrics_of_tools_have_no_server() -> None:
    record = SpanRecord(1, 2, kind="tool", end=1, tool=ToolRequest("search"), server_address="127.0.0.1")
    (point,) = measured("0.1", record)["gen_ai.execute_tool.duration"]
    assert point.attributes == {"gen_ai.operation.name": "tool", "gen_ai.tool.name": "search"}


# --- a program ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("convention", "url", "name"),
    [
        ("1.41", "https://opentelemetry.io/schemas/1.41.0", OLD),
        ("0.1", "https://opentelemetry.io/schemas/gen-ai/0.1.0", NEW),
    ],
)
def test_what_a_program_asks_for_is_what_its_spans_say(convention: Any, url: str, name: str) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    runtime = spanrelay.activate(
        spanrelay.Settings(trajectories="off", semconv=convention), tracer_provider=provider, instrument=False
    )
    assert runtime is not None
    try:
        answer = {
            "id": "r1",
            "model": "gpt-4o",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": 10,
                "completion_tokens": 1,
                "total_tokens": 11,
                "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 3},
            },
        }
        asked = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}
        spanrelay.run_model(lambda _: answer, asked)
        (span,) = exporter.get_finished_spans()
        assert span.instrumentation_scope is not None and span.instrumentation_scope.schema_url == url
        assert {OLD, NEW} & (span.attributes or {}).keys() == {name}
    finally:
        runtime.shutdown()


# --- what is new in them -----------------------------------------------------------------------------------


def test_a_retriever_says_what_it_was_asked_and_which_documents_it_found() -> None:
    found = [
        {"id": "d1", "page_content": "secret", "metadata": {"relevance_score": 0.5}},
        {"id": "d2", "score": 0.25, "page_content": "secret"},
        {"id": None, "page_content": "secret", "metadata": {}},
    ]
    record = SpanRecord(1, 2, name="store", kind="retriever", input={"query": "where?"}, output=found)
    attributes = semconv.write(record, content=True)
    assert attributes["gen_ai.retrieval.query.text"] == "where?"
    told = json.loads(str(attributes["gen_ai.retrieval.documents"]))
    assert told == [{"id": "d1", "score": 0.5}, {"id": "d2", "score": 0.25}]
    assert not [name for name in semconv.write(record, content=False) if "retrieval" in name]


def test_what_others_say_of_a_retrieval_is_read() -> None:
    record = SpanRecord(1, 2)
    documents = [{"id": "d1", "score": 0.5}]
    told = {"gen_ai.retrieval.query.text": "where?", "gen_ai.retrieval.documents": json.dumps(documents)}
    semconv.read({"gen_ai.operation.name": "retrieval", **told}, record)
    assert (record.kind, record.input, record.output) == ("retriever", "where?", documents)


@pytest.mark.parametrize(
    ("output", "told"),
    [
        (0.5, {"score.value": 0.5}),
        ({"score": 1, "label": "good", "reason": "because"}, {"score.value": 1, "score.label": "good"}),
        ({"label": "bad"}, {"score.label": "bad"}),
        ("text", {}),
        (True, {}),
        (None, {}),
    ],
)
def test_an_evaluator_says_its_score_and_why_only_with_content(output: Any, told: dict[str, Any]) -> None:
    record = SpanRecord(1, 2, name="relevance", kind="evaluator", output=output)
    named = {"name": "relevance", **told} if told else {}
    without = semconv.write(record, content=False)
    assert {key: value for key, value in without.items() if "evaluation" in key} == {
        f"gen_ai.evaluation.{name}": value for name, value in named.items()
    }
    explained = isinstance(output, dict) and "reason" in output
    assert ("gen_ai.evaluation.explanation" in semconv.write(record, content=True)) is explained


def test_what_others_say_of_an_evaluation_is_read() -> None:
    record = SpanRecord(1, 2, kind="evaluator")
    semconv.read(
        {
            "gen_ai.operation.name": "evaluate",
            "gen_ai.evaluation.name": "relevance",
            "gen_ai.evaluation.score.value": 0.5,
            "gen_ai.evaluation.score.label": "good",
        },
        record,
    )
    assert record.output == {"score": 0.5, "label": "good"}


@pytest.mark.parametrize("convention", config.CONVENTIONS)
def test_a_request_that_begins_with_a_compacted_conversation_says_so(convention: str) -> None:
    compacted = {"type": "compaction", "id": "c1", "encrypted_content": "x"}
    asked: dict[str, Any] = {"type": "message", "role": "user", "content": "and now?"}
    for items, told in (([compacted, asked], True), ([asked], None)):
        record = call()
        record.request = openai_responses.decode_request({"model": "m", "input": items})
        attributes = semconv.write(record, semconv.written_as("genai", convention), content=False)
        assert attributes.get("gen_ai.conversation.compacted") is told
