"""A credential and an address, planted in every text that OTLP has a field for, are in nothing that is exported.

The walk goes over the messages of OTLP and over the fields of our records by their own descriptions: a field that is
new there, and that nothing is planted in, fails the test.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics._internal.exemplar import AlwaysOnExemplarFilter
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from spanrelay import (
    GuardrailRejected,
    flush,
    guardrail,
    metadata_injector,
    records,
    run_tool,
    sanitizer,
    scope,
    semconv,
    subscribe,
    subscriber,
    use,
)
from spanrelay._guard import losses
from spanrelay._masking import mask_bytes, mask_values
from spanrelay.observation.observers import Watchers
from spanrelay.observation.sanitizing import finished
from spanrelay.pipeline.managed import run_model
from spanrelay.plugins.pii_redaction import PiiRedactionConfig, Profile, sanitizers
from spanrelay.records import SpanRecord
from spanrelay.telemetry.front import put_in_front, put_in_front_of_logs, put_in_front_of_metrics
from spanrelay.telemetry.logs import RelayLogProcessor
from spanrelay.telemetry.measurements import hide, shown
from spanrelay.telemetry.processor import RelaySpanProcessor
from spanrelay_testkit.capture import Capture

KEY = "sk-" + "c4n4ryc4n4ryc4n4ry"  # in small letters, as the SDK writes names of instruments
EMAIL = "canary.bird@example.com"
UUID = "c4a4a4e5-0000-4000-8000-00000000cafe"
"""What the names of instruments may hold."""


@dataclasses.dataclass
class Planted:
    """One text to hide, how names may spell it, and what hides it."""

    secret: str
    name: str
    observers: Callable[[], list[Any]]

    def is_in(self, data: bytes) -> bool:
        return any(text.encode() in data for text in (self.secret, self.name))


def redaction() -> list[Any]:
    return sanitizers(PiiRedactionConfig(profiles=[Profile("redact", "all")]))


KINDS = [Planted(KEY, KEY, list), Planted(EMAIL, f"name.{UUID}", redaction)]


@pytest.fixture(params=KINDS, ids=["credential", "address"])
def planted(request: pytest.FixtureRequest) -> Iterator[Planted]:
    """What is planted; what hides it is in force."""
    kind: Planted = request.param
    handles = [use(observer) for observer in kind.observers()]
    yield kind
    for handle in handles:
        handle.remove()


def attributes_with(secret: str) -> dict[str, Any]:
    return {
        f"key {secret}": "v",
        f"count {secret}": 1,
        "text": f"a {secret}",
        "texts": ("a", f"b {secret}"),
        "bytes": secret.encode(),
        "object": {f"inner {secret}": {f"deep {secret}": [secret]}},
        "gen_ai.request.model": f"m {secret}",
        "gen_ai.response.id": f"r {secret}",
        "gen_ai.prompt.0.role": f"user {secret}",
        f"gen_ai.prompt.{secret}.content": f"x {secret}",
        "llm.input_messages.0.message.name": secret,
    }


def state_with(secret: str) -> TraceState:
    return TraceState([("vendor", secret), ("other", "fine")])


def context_with(secret: str) -> SpanContext:
    return SpanContext(7, 8, is_remote=True, trace_flags=TraceFlags(1), trace_state=state_with(secret))


def resource_with(secret: str) -> Resource:
    return Resource({"service.name": f"s {secret}", **attributes_with(secret)}, f"https://schemas.example/{secret}")


def scope_with(secret: str) -> tuple[str, str, str]:
    return f"lib {secret}", f"v {secret}", f"https://schemas.example/{secret}"


def plant_span(provider: TracerProvider, secret: str) -> None:
    """A span of other instrumentation with `secret` wherever text fits."""
    name, version, schema = scope_with(secret)
    tracer = provider.get_tracer(name, version, schema_url=schema, attributes=attributes_with(secret))
    parent = set_span_in_context(NonRecordingSpan(context_with(secret)))
    link = Link(context_with(secret), attributes_with(secret))
    span = tracer.start_span(f"span {secret}", parent, attributes=attributes_with(secret), links=[link])
    span.add_event(f"event {secret}", attributes_with(secret))
    span.record_exception(type(f"Error {secret}", (ValueError,), {})(f"message {secret}"))
    span.set_status(Status(StatusCode.ERROR, f"status {secret}"))
    span.end()


def plant_log(provider: LoggerProvider, secret: str) -> None:
    name, version, schema = scope_with(secret)
    logger = provider.get_logger(name, version, schema, attributes_with(secret))
    for body in (secret, {f"k {secret}": [secret, {f"deep {secret}": secret}]}, [secret], secret.encode()):
        record = LogRecord(
            body=body,
            attributes=attributes_with(secret),
            event_name=f"event {secret}",
            severity_text=f"severe {secret}",
            severity_number=SeverityNumber.INFO,
        )
        logger.emit(record)
        assert record.body is body
    logger.emit(body="failed", exception=ValueError(f"message {secret}"))


def plant_metrics(provider: MeterProvider, secret: str, name: str) -> None:
    library, version, schema = scope_with(secret)
    meter = provider.get_meter(library, version, schema, attributes_with(secret))
    attributes = {key: value for key, value in attributes_with(secret).items() if key != "object"}
    text = f"told {secret}"
    meter.create_counter(f"counter.{name}", secret, text).add(1, attributes)
    meter.create_up_down_counter(f"updown.{name}", secret, text).add(1, attributes)
    meter.create_histogram(f"histogram.{name}", secret, text).record(1.0, attributes)
    meter.create_histogram("exemplars", "s", "of some").record(1.0, {**attributes, "kept": "x"})
    meter.create_gauge(f"gauge.{name}", secret, text).set(1, attributes)
    from opentelemetry.metrics import Observation

    meter.create_observable_gauge(f"seen.{name}", [lambda options: [Observation(1, attributes)]], secret, text)


def spans_of(secret: str, front: RelaySpanProcessor | None) -> Message:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=resource_with(secret), shutdown_on_exit=False)
    if front is not None:
        put_in_front(front, provider)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    plant_span(provider, secret)
    for link in exporter.get_finished_spans()[0].links:
        assert front is None or secret not in str(link.context.trace_state)
    return encode_spans(exporter.get_finished_spans())


def logs_of(secret: str, *, covered: bool) -> Message:
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(resource=resource_with(secret), shutdown_on_exit=False)
    if covered:
        put_in_front_of_logs(RelayLogProcessor(), provider)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    plant_log(provider, secret)
    return encode_logs(exporter.get_finished_logs())


def metrics_of(secret: str, name: str, *, covered: bool) -> Message:
    reader = InMemoryMetricReader()
    provider = MeterProvider(
        [reader],
        resource_with(secret),
        exemplar_filter=AlwaysOnExemplarFilter(),
        views=[View(instrument_name="exemplars", attribute_keys={"kept"})],
        shutdown_on_exit=False,
    )
    if covered:
        put_in_front_of_metrics(hide, shown, provider)
    plant_metrics(provider, secret, name)
    data = reader.get_metrics_data()
    assert data is not None
    return encode_metrics(data)


# --- what is planted is all there is -----------------------------------------------------------------------

WITHOUT_TEXT = {
    "trace_id",
    "span_id",
    "parent_span_id",
    "key_ref",  # of profiles, which share these messages
}
NOT_MADE = {".resource_spans.scope_spans.spans.links.trace_state"}
"""Fields that the SDK's encoder leaves out; nobody reads them of an exporter."""
NOT_WALKED = {"string_value_strindex", "key_strindex", "metadata", "entity_refs", "summary", "exponential_histogram"}
"""Fields that the SDK's exporter never fills, and kinds of metric that are told as the others are."""


def texts_of(message: Message, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each text in a message with the path of its field; "" for a field that is not filled anywhere."""
    for field in message.DESCRIPTOR.fields:
        if field.name in NOT_WALKED:
            continue
        values = getattr(message, field.name)
        here = f"{path}.{field.name}"
        if field.message_type is not None:
            if field.containing_oneof is not None and not message.HasField(field.name):
                continue
            for each in values if field.is_repeated else [values]:
                yield from texts_of(each, here)
        elif _is_text(field) and (field.containing_oneof is None or message.HasField(field.name)):
            yield from ((here, each) for each in (values if field.is_repeated else [values]))


def _is_text(field: Any) -> bool:
    return field.type in (field.TYPE_STRING, field.TYPE_BYTES) and field.name not in WITHOUT_TEXT


@pytest.mark.parametrize("make", ["spans", "logs", "metrics"])
def test_the_canary_sits_in_every_text_of_what_the_encoder_writes(make: str) -> None:
    message = {
        "spans": lambda: spans_of(KEY, None),
        "logs": lambda: logs_of(KEY, covered=False),
        "metrics": lambda: metrics_of(KEY, KEY, covered=False),
    }[make]()
    found: dict[str, bool] = {}
    for path, value in texts_of(message):
        found[path] = found.get(path, False) or KEY in str(value)
    assert len(found) > 8
    assert [path for path, has in found.items() if not has and path not in NOT_MADE] == []


# --- and gone ----------------------------------------------------------------------------------------------


def test_nothing_survives_in_a_span_of_other_instrumentation(planted: Planted) -> None:
    message = spans_of(planted.secret, RelaySpanProcessor())
    assert not planted.is_in(message.SerializeToString()), message


def test_nothing_survives_in_log_records_of_the_application(planted: Planted) -> None:
    message = logs_of(planted.secret, covered=True)
    assert not planted.is_in(message.SerializeToString()), message
    assert message.SerializeToString().count(b"severe") == 4


def test_nothing_survives_in_metrics_of_the_application(planted: Planted) -> None:
    message = metrics_of(planted.secret, planted.name, covered=True)
    assert not planted.is_in(message.SerializeToString()), message


def test_what_becomes_alike_is_added_up_as_one() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    put_in_front_of_metrics(hide, shown, provider)
    counter = provider.get_meter("app").create_counter("calls")
    for number in range(3):
        counter.add(1, {"token": f"{KEY}{number}"})
    data: Any = reader.get_metrics_data()
    [point] = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    assert (point.value, point.attributes) == (3, {"token": "[masked key]"})


def everything_of_ours(secret: str) -> None:
    """Calls of ours with `secret` in whatever they are given."""
    message = {"role": "assistant", "content": f"said {secret}"}
    choice = {"index": 0, "message": message, "finish_reason": f"stop {secret}"}
    answer = {"id": f"id {secret}", "model": f"answered {secret}", "choices": [choice]}
    request = {"model": f"asked {secret}", "messages": [{"role": "user", "content": secret, "name": secret}]}

    @guardrail(name=f"guard {secret}")
    def refuse(call: Any) -> str | None:
        return f"because {secret}" if call.kind == "tool" and call.request.name == "refused" else None

    def fail(**arguments: Any) -> None:
        raise type(f"Error {secret}", (ValueError,), {})(f"failed {secret}")

    with (
        use(refuse),
        scope(f"agent {secret}", session=f"s {secret}", user=f"u {secret}", metadata={secret: secret}) as s,
    ):
        s.mark(f"mark {secret}", {f"k {secret}": secret})
        run_model(lambda wire: answer, request)
        run_tool(f"tool {secret}", lambda **given: {secret: secret}, {secret: secret})
        with pytest.raises(ValueError, match="failed"):
            run_tool("fails", fail, {"a": secret})
        with pytest.raises(GuardrailRejected):
            run_tool("refused", lambda: None, {})


def test_nothing_survives_of_calls_of_ours_in_spans_and_events(planted: Planted, capture: Capture) -> None:
    told: list[str] = []
    with subscribe(lambda event: told.append(event.to_json())):
        everything_of_ours(planted.secret)
        assert capture.provider.force_flush()
    assert len(capture.spans) > 6
    assert not planted.is_in(encode_spans(capture.spans).SerializeToString())
    assert not planted.is_in("".join(span.to_json() for span in capture.spans).encode())
    assert told
    assert not planted.is_in("".join(told).encode())


# --- records -----------------------------------------------------------------------------------------------

TIES = {
    ("tool", "call_id"),  # documented: it ties the tool's result to the model's call
    ("dialect",),  # how a record was read
}


def filled(kind: Any, secret: str) -> Any:
    """A value of the type `kind` with `secret` in every text."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is str:
        return f"text {secret}"
    if kind is Any or kind == records.JSON:
        return {f"key {secret}": [f"json {secret}"]}
    if origin is typing.Literal:
        return arguments[0]
    if origin in (list, tuple):
        members = typing.get_args(arguments[0]) if typing.get_origin(arguments[0]) in UNIONS else (arguments[0],)
        return [filled(member, secret) for member in members if not is_nested(member)]
    if origin is dict:
        return {f"key {secret}": filled(arguments[1], secret)}
    if origin in UNIONS:
        return filled(next(member for member in arguments if member is not type(None)), secret)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{field.name: filled(hints[field.name], secret) for field in dataclasses.fields(kind)})
    return {int: 7, float: 1.5, bool: True}[kind]


UNIONS = (typing.Union, types.UnionType)


def is_nested(kind: Any) -> bool:
    # They hold parts again, and wire JSON; the attempts of a call are records.
    return kind in (records.ToolCallResponse, records.Opaque, SpanRecord)


def places(value: Any, secret: str, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The fields of a record in which `secret` stands."""
    if isinstance(value, dict):
        for key, item in value.items():
            if secret in key:
                yield path
            yield from places(item, secret, path if secret in key else (*path, key))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from places(item, secret, path)
    elif isinstance(value, str) and secret in value:
        yield path


def record_with(secret: str) -> SpanRecord:
    record: SpanRecord = filled(SpanRecord, secret)
    record.parent_id, record.content = None, True
    return record


def test_every_text_of_a_record_is_put_through_redaction() -> None:
    watchers = Watchers(redaction())
    left = finished(record_with(EMAIL), watchers)
    # What a span says of where it comes from is sanitized with the span.
    from_span = {
        ("environment",),
        ("service_name",),
        ("service_version",),
        ("scope_name",),
        ("scope_version",),
        ("incomplete",),
        ("omitted", "digest"),
        ("omitted", "total"),
        ("omitted", "answered"),
    }
    assert set(places(dataclasses.asdict(left), EMAIL)) <= TIES | from_span


def test_the_attempts_of_a_call_are_put_through_redaction_as_the_call_is() -> None:
    watchers = Watchers(redaction())
    record = SpanRecord(1, 2, kind="llm", attempts=(record_with(EMAIL),))
    alone = finished(record_with(EMAIL), watchers)
    assert finished(record, watchers).attempts == (alone,)


@pytest.mark.parametrize("dialect", ["genai", "openinference"])
def test_every_attribute_of_a_record_is_masked(dialect: str) -> None:
    record = record_with(KEY)
    attributes = {**semconv.write_start(record, dialect), **semconv.write(record, dialect, content=True)}
    assert KEY in json.dumps(attributes)
    assert KEY not in json.dumps(mask_values(attributes))


def test_every_text_of_a_record_is_masked_as_bytes() -> None:
    data = json.dumps(dataclasses.asdict(record_with(KEY))).encode()
    assert data.count(KEY.encode()) > 50
    assert KEY.encode() not in mask_bytes(data)


# --- the providers of the process --------------------------------------------------------------------------

LATE_AND_EARLY = """
import sys
from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
import spanrelay

trace.set_tracer_provider(TracerProvider())
early = _logs.get_logger("early")
exporter, reader = InMemoryLogRecordExporter(), InMemoryMetricReader()

def provide():
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    _logs.set_logger_provider(provider)
    metrics.set_meter_provider(MeterProvider([reader]))

settings = spanrelay.Settings(trajectories="off")
steps = {"provide": provide, "activate": lambda: spanrelay.activate(settings)}
for step in sys.argv[1:]:
    steps[step]()
secret = "sk-" + "c4n4ry" * 4
early.emit(body=f"first {secret}")
told = spanrelay.sanitizer(name="s", fields=["body"])(lambda field: field.value.replace("second", "SECOND"))
with spanrelay.use(told):
    _logs.get_logger("late").emit(body=f"second {secret}")
metrics.get_meter("m").create_counter("c").add(1, {"a": secret})
print([log.log_record.body for log in exporter.get_finished_logs()])
data = reader.get_metrics_data().to_json()
print(secret in data, "[masked key]" in data)
"""


@pytest.mark.parametrize("order", [("provide", "activate"), ("activate", "provide")])
def test_the_global_providers_are_reached_whenever_they_are_set(order: tuple[str, str], tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-c", LATE_AND_EARLY, *order], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert made.stdout.splitlines() == ["['first [masked key]', 'SECOND [masked key]']", "False True"]


def test_stepping_aside_leaves_providers_as_they_were() -> None:
    exporter, reader = InMemoryLogRecordExporter(), InMemoryMetricReader()
    logs, metrics = LoggerProvider(shutdown_on_exit=False), MeterProvider([reader], shutdown_on_exit=False)
    undo = [put_in_front_of_logs(RelayLogProcessor(), logs), put_in_front_of_metrics(hide, shown, metrics)]
    logs.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    logs.get_logger("a").emit(body=KEY)
    for each in undo:
        assert each is not None
        each()
    logs.get_logger("a").emit(body="plain")
    metrics.get_meter("a").create_counter("c").add(1, {"a": KEY})
    assert [log.log_record.body for log in exporter.get_finished_logs()] == ["[masked key]", "plain"]
    data: Any = reader.get_metrics_data()
    assert KEY in data.to_json()
    assert logs.force_flush()


@pytest.mark.swallows
def test_what_cannot_be_redacted_is_left_out_and_the_program_goes_on() -> None:
    exporter, reader = InMemoryLogRecordExporter(), InMemoryMetricReader()
    logs, metrics = LoggerProvider(shutdown_on_exit=False), MeterProvider([reader], shutdown_on_exit=False)
    put_in_front_of_logs(RelayLogProcessor(), logs)
    put_in_front_of_metrics(hide, shown, metrics)
    logs.add_log_record_processor(SimpleLogRecordProcessor(exporter))

    @sanitizer(name="broken", fields=["body", "attribute"])
    def broken(field: Any) -> Any:
        raise RuntimeError

    with use(broken):
        logs.get_logger("a").emit(body=KEY, attributes={"a": "b", "n": 1})
        metrics.get_meter("a").create_counter("c").add(1, {"a": "b", "n": 1})
    [log] = exporter.get_finished_logs()
    assert (log.log_record.body, dict(log.log_record.attributes or {})) == (None, {"n": 1})
    data: Any = reader.get_metrics_data()
    assert '"a": "b"' not in data.to_json()


def logged_by(capture: Capture, kind: Any, answer: Callable[[Any], Any]) -> list[str]:
    """What is exported of the log records that an observer of this kind makes of a tool's span."""
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(resource=resource_with(EMAIL), shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    undo = put_in_front_of_logs(RelayLogProcessor(), provider)
    assert undo is not None

    def say(given: Any) -> Any:
        provider.get_logger("app").emit(LogRecord(body=f"for {EMAIL}"))
        return answer(given)

    [redact] = redaction()
    with use(redact), use(kind(say)):
        run_tool("t", str, {})
        assert flush()
        assert capture.span.attributes  # read now, and injected and sanitized before
    undo()
    return [record.to_json() for record in exporter.get_finished_logs()]


@pytest.mark.parametrize(("kind", "answer"), [(subscriber, None), (metadata_injector, {})])
def test_what_observers_log_is_redacted_like_the_rest(kind: Any, answer: Any, capture: Capture) -> None:
    said = logged_by(capture, kind, lambda _: answer)
    assert said
    assert not [line for line in said if EMAIL in line]


def test_what_a_sanitizer_logs_is_left_out_and_counted(capture: Capture) -> None:
    assert logged_by(capture, sanitizer, lambda field: field.value) == []
    assert set(losses.take()) == {"log records left out because a sanitizer made them"}


def test_our_own_log_holds_no_credential(caplog: pytest.LogCaptureFixture, capture: Capture) -> None:
    def fail(event: Any) -> None:
        raise ValueError(f"told with {KEY}")

    with subscribe(fail):
        run_tool("t", str, {})
        assert flush()
    assert KEY not in caplog.text
    assert "ValueError: told with [masked key]" in caplog.text
    losses.take()


NUMBERS: dict[str, Any] = {
    "phone": 4155551234,
    "ssn": 219099999,
    "card": 4111111111111111,
    "amount": 4111111111111111.0,
    "phones": (4155551234, 2125559876),
}
"""What only its key tells, or its check digit."""


def test_numbers_that_their_key_tells_survive_nowhere() -> None:
    handles = [use(observer) for observer in redaction()]
    exporter, told, reader = InMemorySpanExporter(), InMemoryLogRecordExporter(), InMemoryMetricReader()
    tracers, loggers = TracerProvider(shutdown_on_exit=False), LoggerProvider(shutdown_on_exit=False)
    meters = MeterProvider([reader], shutdown_on_exit=False)
    put_in_front(RelaySpanProcessor(), tracers)
    put_in_front_of_logs(RelayLogProcessor(), loggers)
    put_in_front_of_metrics(hide, shown, meters)
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    loggers.add_log_record_processor(SimpleLogRecordProcessor(told))
    span = tracers.get_tracer("app").start_span("s", attributes={**NUMBERS, "tokens": 4155551234, "rate": 1e9 + 0.5})
    span.add_event("e", NUMBERS)
    span.end()
    loggers.get_logger("app").emit(LogRecord(body=dict(NUMBERS), attributes=NUMBERS))
    meters.get_meter("app").create_counter("c").add(1, NUMBERS)
    data: Any = reader.get_metrics_data()
    for handle in handles:
        handle.remove()
    [ended], [log] = exporter.get_finished_spans(), told.get_finished_logs()
    assert ended.attributes is not None
    assert ended.attributes["tokens"] == 4155551234
    assert ended.attributes["rate"] == 1e9 + 0.5
    record, [point] = log.log_record, data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    shows = [ended.attributes, ended.events[0].attributes, record.body, record.attributes, point.attributes]
    for place in shows:
        for key, value in NUMBERS.items():
            assert str(int(value[0] if isinstance(value, tuple) else value)) not in str(dict(place)[key]), place
