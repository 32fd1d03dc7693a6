"""What log records of other instrumentation tell of a model call is in its trajectory, as the span's content is."""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, TraceFlags, set_span_in_context, use_span

import spanrelay
from spanrelay._guard import losses
from spanrelay.config import Settings
from spanrelay.records import SpanRecord
from spanrelay.runtime import Runtime, adopt
from spanrelay.semconv.events import Event
from spanrelay.telemetry import worker
from spanrelay.telemetry.overheard import Heard, Overheard, overheard

SECRET = "sk-" + "a" * 40
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
ASKED: list[tuple[str, Any]] = [
    ("gen_ai.system.message", {"content": "Be brief."}),
    ("gen_ai.user.message", {"content": "How is Rome?"}),
]
CALLED: tuple[str, Any] = (
    "gen_ai.choice",
    {"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant", "tool_calls": [CALL]}},
)
AGAIN: list[tuple[str, Any]] = [
    *ASKED,
    ("gen_ai.assistant.message", {"tool_calls": [CALL]}),
    ("gen_ai.tool.message", {"id": "c1", "content": "sunny"}),
]
ANSWER: tuple[str, Any] = (
    "gen_ai.choice",
    {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Sunny."}},
)
TOLD = ["Be brief.", "How is Rome?", "", "Sunny."]
TOO_LATE = "log records not in trajectories because they came too late for their spans"


class Program:
    """A runtime beside a logger provider, and instrumentation of others that tells it of model calls."""

    def __init__(self, runtime: Runtime, logs: LoggerProvider, exported: InMemoryLogRecordExporter) -> None:
        self.runtime = runtime
        self._logger = logs.get_logger("acme.llm")
        self._tracer = runtime.provider.get_tracer("acme.llm")
        self._exported = exported

    def call(self) -> Span:
        span = self._tracer.start_span("chat gpt-5")
        span.set_attributes({"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-5"})
        return span

    def tell(self, span: Span, *events: tuple[str, Any]) -> None:
        for name, body in events:
            attributes = {"gen_ai.system": "openai"}
            self._logger.emit(
                LogRecord(event_name=name, body=body, context=set_span_in_context(span), attributes=attributes)
            )

    def tell_by_ids(self, span: Span, *events: tuple[str, Any]) -> None:
        """As instrumentation does that knows of no context, with names as they were before there was a field."""
        identity = span.get_span_context()
        for name, body in events:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                record = LogRecord(  # pyright: ignore[reportDeprecated] - as older instrumentation does
                    trace_id=identity.trace_id,
                    span_id=identity.span_id,
                    trace_flags=identity.trace_flags,
                    body=body,
                    attributes={"event.name": name},
                )
            self._logger.emit(record)

    @property
    def exported(self) -> list[str | None]:
        return [data.log_record.event_name for data in self._exported.get_finished_logs()]

    @property
    def documents(self) -> list[Any]:
        self.runtime.shutdown()
        return [
            json.loads(path.read_text())
            for path in sorted(Path(self.runtime.settings.trajectory_directory).glob("*.json"))
        ]

    @property
    def steps(self) -> list[Any]:
        [document] = self.documents
        return document["steps"]

    @property
    def messages(self) -> list[str]:
        return [step["message"] for step in self.steps]


@pytest.fixture
def program(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    exported = InMemoryLogRecordExporter()
    logs = LoggerProvider(shutdown_on_exit=False)
    logs.add_log_record_processor(SimpleLogRecordProcessor(exported))
    monkeypatch.setattr("opentelemetry._logs._internal._LOGGER_PROVIDER", logs)
    monkeypatch.setattr(worker, "_LATE_SECONDS", 600)  # no test waits: whoever reads hurries
    content: Any = getattr(request, "param", "trajectories")
    settings = Settings(content=content, trajectory_directory=str(tmp_path), quiet=True)
    runtime = adopt(settings, TracerProvider(shutdown_on_exit=False))
    assert runtime is not None
    losses.take()
    yield Program(runtime, logs, exported)
    runtime.shutdown()
    losses.take()


def test_events_of_messages_are_the_conversation_of_their_spans(program: Program) -> None:
    for events in ([*ASKED, CALLED], [*AGAIN, ANSWER]):
        span = program.call()
        program.tell(span, *events)
        span.end()
    steps = program.steps
    assert [step["message"] for step in steps] == TOLD
    assert [call["function_name"] for call in steps[2]["tool_calls"]] == ["weather"]
    assert steps[2]["observation"]["results"][0]["content"] == "sunny"
    assert program.exported == [name for name, _ in (*ASKED, CALLED, *AGAIN, ANSWER)]
    assert losses.take() == {}


def test_a_record_is_of_the_span_whose_ids_it_has(program: Program) -> None:
    first, second = program.call(), program.call()
    with use_span(second):
        program.tell_by_ids(first, *ASKED, CALLED)
    program.tell_by_ids(second, *AGAIN, ANSWER)
    first.end()
    second.end()
    assert program.messages == TOLD


def test_what_comes_shortly_after_the_span_is_not_too_late(program: Program) -> None:
    for events in ([*ASKED, CALLED], [*AGAIN, ANSWER]):
        span = program.call()
        program.tell(span, *events[:-1])
        span.end()
        program.tell(span, events[-1])
    assert program.messages == TOLD
    assert losses.take() == {}


def test_a_call_that_waits_for_its_records_keeps_its_place(program: Program) -> None:
    with program.runtime.provider.get_tracer("acme.agents").start_as_current_span("invoke_agent weather") as agent:
        agent.set_attributes({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "weather"})
        span = program.call()
        span.end()
    program.tell(span, *ASKED, ANSWER)
    [document] = program.documents
    assert document["agent"]["name"] == "weather"
    assert [step["message"] for step in document["steps"]] == ["Be brief.", "How is Rome?", "Sunny."]


def test_what_comes_when_the_span_was_read_is_counted(program: Program) -> None:
    span = program.call()
    program.tell(span, *ASKED)
    span.end()
    assert program.runtime.flush()
    program.tell(span, ANSWER)
    assert "Sunny." not in json.dumps(program.documents)
    assert losses.take() == {TOO_LATE: 1}
    assert not overheard.waiting


def test_a_waiting_call_is_read_once_the_time_is_over(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    read, reader = threading.Event(), program.runtime.worker
    assert reader is not None

    def measure(_: SpanRecord) -> None:
        read.set()

    reader.measure = measure
    monkeypatch.setattr(worker, "_LATE_SECONDS", 0.01)
    program.call().end()
    assert read.wait(30), "without a flush, which would not wait"


def test_what_a_sanitizer_of_requests_hides_is_hidden_whenever_the_record_comes(program: Program) -> None:
    seen: list[str] = []

    @spanrelay.sanitizer(fields=["request", "response"], kinds=["llm"])
    def hide(field: Any) -> Any:
        seen.append(field.name)
        return json.loads(json.dumps(field.value).replace("Rome", "Berlin").replace("Sunny", "Cloudy"))

    with spanrelay.use(hide), spanrelay.scope("work"):
        span = program.call()
        program.tell(span, ("gen_ai.user.message", {"content": f"How is Rome, {SECRET}?"}))
        span.end()
    program.tell(span, ANSWER)
    document = json.dumps(program.documents)
    assert "How is Berlin" in document and "Cloudy." in document
    assert "Rome" not in document and "Sunny" not in document and SECRET not in document
    assert set(seen) == {"request", "response"}


@pytest.mark.parametrize("program", ["no_content"], indirect=True)
def test_nothing_is_kept_where_content_leaves_the_process_nowhere(program: Program) -> None:
    told: list[Any] = []

    @spanrelay.subscriber
    def listen(event: Any) -> None:
        told.append(event)

    with spanrelay.use(listen):
        span = program.call()
        program.tell(span, *ASKED, ANSWER)
        assert not overheard.waiting
        span.end()
        assert program.runtime.flush()
    assert {event.name for event in told} == {"chat gpt-5"}
    assert not any("Rome" in repr(event.data) or "Sunny" in repr(event.data) for event in told)
    assert program.documents == []


def test_a_subscriber_is_told_what_came_before_the_end(program: Program) -> None:
    told: list[Any] = []

    @spanrelay.subscriber
    def listen(event: Any) -> None:
        told.append(event)

    with spanrelay.use(listen):
        span = program.call()
        program.tell(span, *ASKED, ANSWER)
        span.end()
        assert program.runtime.flush()
    assert "Sunny." in repr(told[-1].data)


def test_records_of_spans_that_are_not_recorded_are_kept_nowhere(program: Program) -> None:
    elsewhere = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    program.tell(NonRecordingSpan(elsewhere), *ASKED)
    program.tell(NonRecordingSpan(SpanContext(0, 0, is_remote=False)), ANSWER)
    span = program.call()
    program.tell(span, ("acme.note", {"content": "by the way"}))
    assert not overheard.waiting
    span.end()


def test_beyond_what_may_wait_the_oldest_is_forgotten_and_counted() -> None:
    class Listener: ...

    listener, kept = Listener(), Overheard(most_bytes=5_000, most_records=3)
    losses.take()
    kept.keep((1, 1), Heard(Event(*ASKED[0], {}), None))
    assert not kept.waiting, "nobody listens"
    kept.listeners.add(listener)
    for span in (1, 1, 2, 3):
        kept.keep((1, span), Heard(Event(*ASKED[0], {}), None))
    assert [*kept.waiting] == [(1, 2), (1, 3)]
    kept.keep((1, 4), Heard(Event("gen_ai.choice", {"content": "a" * 4_500}, {}), None))
    assert [*kept.waiting] == [(1, 4)]
    assert len(kept.take((1, 4))) == 1
    assert losses.take() == {"log records not in trajectories because too many were waiting": 4}
