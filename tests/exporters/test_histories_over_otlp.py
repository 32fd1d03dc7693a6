"""What a collector holds of a session is the same trajectory, whether spans carry whole histories or what is new."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from tests.exporters.otlp_server import OtlpServer
from tests.programs import run

from spanrelay import semconv
from spanrelay.assembly import replay
from spanrelay.assembly.exporter import TrajectoryKeeper
from spanrelay.records import JSON, SpanRecord
from spanrelay.semconv import names
from spanrelay_testkit.model_server import ModelServer

PROGRAM = """
import openai
import spanrelay
client = openai.OpenAI()
words = "words enough for a message of some length " * 12
with spanrelay.scope("talker", session="session-1"):
    messages = [{"role": "system", "content": f"Be brief. {words}"}]
    for number in range(12):
        messages.append({"role": "user", "content": f"question {number}? {words}"})
        answer = client.chat.completions.create(model="gpt-5-mini", messages=messages)
        messages.append({"role": "assistant", "content": answer.choices[0].message.content})
        if number == 8:
            messages[3]["content"] = "edited"
    client.chat.completions.create(model="gpt-5-mini", messages=messages[:5])
"""

TWO = """
import spanrelay
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from spanrelay.exporters.delivery import ReliableSpanExporter
provider = TracerProvider()
for history, address in (("whole", "{whole}"), ("new", "{new}")):
    exporter = ReliableSpanExporter(lambda address=address: OTLPSpanExporter(address + "/v1/traces"), history=history)
    provider.add_span_processor(BatchSpanProcessor(exporter))
spanrelay.activate(spanrelay.Settings(content="spans", dialect="{dialect}", quiet=True), tracer_provider=provider)
"""

CONTENT = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "span_only", "SPANRELAY_QUIET": "true"}


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        yield running


@pytest.fixture
def collectors() -> Iterator[list[OtlpServer]]:
    running = [OtlpServer(), OtlpServer()]
    yield running
    for each in running:
        each.close()


def attributes_of(attributes: Sequence[KeyValue]) -> dict[str, Any]:
    return {item.key: value_of(item.value) for item in attributes}


def value_of(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [value_of(item) for item in value.array_value.values]
    return getattr(value, kind) if kind is not None else None


def spans_in(bodies: Sequence[bytes]) -> list[tuple[SpanRecord, Mapping[str, Any]]]:
    """Return the spans of OTLP requests as records, beside their attributes."""
    found: list[tuple[SpanRecord, Mapping[str, Any]]] = []
    for body in bodies:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for span in [each for scope in resource.scope_spans for each in scope.spans]:
                record = SpanRecord(
                    int.from_bytes(span.trace_id, "big"),
                    int.from_bytes(span.span_id, "big"),
                    int.from_bytes(span.parent_span_id, "big") or None,
                    name=span.name,
                    start=span.start_time_unix_nano,
                    end=span.end_time_unix_nano,
                )
                found.append((record, attributes_of(span.attributes)))
                semconv.read(found[-1][1], record)
    return found


def held(collector: OtlpServer) -> list[tuple[SpanRecord, Mapping[str, Any]]]:
    return spans_in([body for path, body in collector.accepted if path == "/v1/traces"])


def documents(spans: Sequence[tuple[SpanRecord, Mapping[str, Any]]]) -> list[dict[str, JSON]]:
    keeper = TrajectoryKeeper()
    for is_end, record in replay.in_order([record for record, _ in spans]):
        (keeper.end if is_end else keeper.start)(record)
    keeper.shutdown()
    return keeper.documents(None, None)


def left_out(spans: Sequence[tuple[SpanRecord, Mapping[str, Any]]]) -> list[int]:
    calls = sorted(
        (record.start, attributes.get(names.HISTORY_OMITTED)) for record, attributes in spans if record.kind == "llm"
    )
    return [number for _, number in calls]


@pytest.mark.parametrize("dialect", ["genai", "openinference"])
def test_two_exporters_send_one_session_each_in_its_way(
    tmp_path: Path, server: ModelServer, collectors: list[OtlpServer], dialect: str
) -> None:
    whole, new = collectors
    setup = TWO.replace("{whole}", whole.url).replace("{new}", new.url).replace("{dialect}", dialect)
    ran = run(setup + PROGRAM, tmp_path, server, launched=False, SPANRELAY_QUIET="true")
    assert (ran.code, ran.err) == (0, "")
    whole_spans, new_spans = held(whole), held(new)
    assert left_out(whole_spans) == [None] * 13
    assert left_out(new_spans) == [0, *range(3, 18, 2), 3, 21, 23, 3]
    assert documents(new_spans) == documents(whole_spans)
    sizes = [sum(len(body) for _, body in each.accepted) for each in collectors]
    assert sizes[1] < sizes[0] / 2


def test_the_variable_says_how_spans_are_sent(
    tmp_path: Path, server: ModelServer, collectors: list[OtlpServer]
) -> None:
    for collector, history in zip(collectors, ("whole", "NEW"), strict=True):
        address = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "SPANRELAY_HISTORY": history}
        ran = run(PROGRAM, tmp_path, server, **CONTENT, **address)
        assert (ran.code, ran.err) == (0, "")
    assert set(left_out(held(collectors[0]))) == {None}
    assert sum(left_out(held(collectors[1]))) > 50


def test_settings_in_code_say_it_too(tmp_path: Path, server: ModelServer, collectors: list[OtlpServer]) -> None:
    setup = "import spanrelay\nspanrelay.activate(spanrelay.Settings(content='spans', history='new', quiet=True))\n"
    ran = run(setup + PROGRAM, tmp_path, server, launched=False, OTEL_EXPORTER_OTLP_ENDPOINT=collectors[0].url)
    assert (ran.code, ran.err) == (0, "")
    assert sum(left_out(held(collectors[0]))) > 50


def test_a_configuration_file_says_it_for_one_exporter(
    tmp_path: Path, server: ModelServer, collectors: list[OtlpServer]
) -> None:
    path = tmp_path / "otel.yaml"
    path.write_text(
        """
file_format: "1.0"
tracer_provider:
  processors:
    - batch: {exporter: {spanrelay_otlp: {history: new}}}
    - batch: {exporter: {otlp_http: {endpoint: "PLACE/v1/traces"}}}
""".replace("PLACE", collectors[0].url)
    )
    address = {"OTEL_CONFIG_FILE": str(path), "OTEL_EXPORTER_OTLP_ENDPOINT": collectors[1].url}
    ran = run(PROGRAM, tmp_path, server, **CONTENT, **address)
    assert (ran.code, ran.err) == (0, "")
    assert set(left_out(held(collectors[0]))) == {None}
    assert sum(left_out(held(collectors[1]))) > 50
    assert documents(held(collectors[0])) == documents(held(collectors[1]))


def test_a_wrong_value_is_said_in_one_line(tmp_path: Path, server: ModelServer) -> None:
    ran = run("print('done')", tmp_path, server, SPANRELAY_HISTORY="some")
    assert ran.out == "done\n"
    assert ran.err.splitlines() == [
        "spanrelay: SPANRELAY_HISTORY='some' is not valid; use whole or new; the default, whole, is used"
    ]


def test_what_a_collector_did_not_take_is_sent_whole(
    tmp_path: Path, server: ModelServer, collectors: list[OtlpServer]
) -> None:
    """A collector that refuses for good what has the fifth question in it, and nothing before."""
    collector = collectors[0]
    collector.script = lambda body: 400 if b"question 4?" in body and b"question 5?" not in body else 200
    answered = '        messages.append({"role": "assistant"'
    flushing = PROGRAM.replace(answered, f"        spanrelay.flush()\n{answered}")
    address = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "SPANRELAY_HISTORY": "new"}
    ran = run(flushing, tmp_path, server, **CONTENT, **address)
    assert ran.code == 0
    assert "lost or left out: 1 span not delivered to the collector" in ran.err
    assert left_out(held(collector))[:6] == [0, 3, 5, 7, 9, 13]
    (document,) = documents(held(collector))
    assert "question 4?" in str(document)
    assert "missing" not in str(document)
