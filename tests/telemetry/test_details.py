"""The event of a model call has what the conventions name, sanitized; and what others tell in theirs is read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import set_span_in_context
from tests.programs import run

import spanrelay
from spanrelay.config import Settings
from spanrelay.runtime import Runtime, adopt
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.exchange import Reply
from spanrelay_testkit.model_server import ModelServer

DETAILS = "gen_ai.client.inference.operation.details"
SECRET = "sk-" + "a" * 40


class Told:
    """A runtime beside a logger provider, and what both exported."""

    def __init__(self, runtime: Runtime, logs: LoggerProvider, events: InMemoryLogRecordExporter) -> None:
        self.runtime = runtime
        self.logs = logs
        self._events = events
        self.spans = InMemorySpanExporter()
        runtime.provider.add_span_processor(SimpleSpanProcessor(self.spans))

    @property
    def events(self) -> list[LogRecord]:
        """The events, once everything has been read."""
        assert self.runtime.flush()
        return [data.log_record for data in self._events.get_finished_logs()]

    @property
    def document(self) -> Any:
        """The one trajectory."""
        self.runtime.shutdown()
        [path] = Path(self.runtime.settings.trajectory_directory).glob("*.json")
        return json.loads(path.read_text())


@pytest.fixture
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    content: Any = getattr(request, "param", "event_only")
    return Settings(content=content, trajectory_directory=str(tmp_path), quiet=True)


@pytest.fixture
def told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    events = InMemoryLogRecordExporter()
    logs = LoggerProvider(shutdown_on_exit=False)
    logs.add_log_record_processor(SimpleLogRecordProcessor(events))
    monkeypatch.setattr("opentelemetry._logs._internal._LOGGER_PROVIDER", logs)
    provider = TracerProvider(shutdown_on_exit=False)
    runtime = adopt(settings, provider)
    assert runtime is not None
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    yield Told(runtime, logs, events)
    instrumentor.uninstrument()
    runtime.shutdown()


def ask(text: str = "Which colour has the sky?") -> None:
    question: Any = {"role": "user", "content": text}
    with (
        ModelServer(lambda _: Reply(text="Blue.")) as server,
        openai.OpenAI(base_url=server.url, api_key="test", max_retries=0) as client,
    ):
        client.chat.completions.create(model="gpt-5", messages=[question], temperature=0.5)


def text(role: str, content: str, **more: str) -> dict[str, Any]:
    return {"role": role, "parts": ({"type": "text", "content": content},), **more}


def plain(value: Any) -> Any:
    """The value with tuples for lists and dicts for mappings, however the SDK keeps them."""
    if isinstance(value, (list, tuple)):
        return tuple(plain(item) for item in value)
    return {key: plain(item) for key, item in value.items()} if hasattr(value, "items") else value


def test_the_event_stands_beside_the_span_and_alone_has_the_content(told: Told) -> None:
    ask()
    [event] = told.events
    [span] = told.spans.get_finished_spans()
    assert span.context is not None
    assert (event.event_name, event.trace_id, event.span_id) == (DETAILS, span.context.trace_id, span.context.span_id)
    assert event.timestamp == span.end_time
    said = plain(event.attributes)
    assert said["gen_ai.input.messages"] == (text("user", "Which colour has the sky?"),)
    assert said["gen_ai.output.messages"] == (text("assistant", "Blue.", finish_reason="stop"),)
    figures = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.finish_reasons": ("stop",),
        "server.address": "127.0.0.1",
    }
    assert {key: said[key] for key in figures} == figures
    assert not any(key.startswith(("llm.", "openinference.")) for key in said)
    assert "gen_ai.input.messages" not in (span.attributes or {})


@pytest.mark.parametrize("settings", ["span_and_event"], indirect=True)
def test_both_have_the_content_where_both_are_asked_for(told: Told) -> None:
    ask()
    [event] = told.events
    [span] = told.spans.get_finished_spans()
    assert plain(event.attributes)["gen_ai.output.messages"] == (text("assistant", "Blue.", finish_reason="stop"),)
    assert "Blue." in str((span.attributes or {})["gen_ai.output.messages"])


@pytest.mark.parametrize("settings", ["span_only", "trajectories", "no_content"], indirect=True)
def test_there_is_no_event_where_none_is_asked_for(told: Told) -> None:
    ask()
    assert told.events == []


def test_tools_and_embeddings_have_no_event(told: Told) -> None:
    assert spanrelay.run_tool("look", lambda: "rain") == "rain"
    assert told.events == []


def test_the_event_is_sanitized_as_the_span_is_and_only_once(told: Told) -> None:
    seen: list[str] = []

    @spanrelay.sanitizer(fields="request")
    def hide(field: Any) -> Any:
        seen.append(field.name)
        return json.loads(json.dumps(field.value).replace("secret", "hidden"))

    with spanrelay.use(hide):
        ask(f"the secret, {SECRET}")
        [event] = told.events
    said = str(plain(event.attributes))
    assert "the hidden" in said and "secret" not in said and SECRET not in said
    assert seen == ["request"]


def test_a_trajectory_has_the_conversation_all_the_same(told: Told) -> None:
    ask()
    assert [step["message"] for step in told.document["steps"]] == ["Which colour has the sky?", "Blue."]


# --- others' events ---


def call_by_others(told: Told, question: str = "Which colour?", scope: str = "acme.llm") -> None:
    """What an instrumentation does that writes content to events alone."""
    span = told.runtime.provider.get_tracer(scope).start_span("chat gpt-5")
    span.set_attributes({"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-5"})
    event = LogRecord(
        event_name=DETAILS,
        context=set_span_in_context(span),
        attributes={
            "gen_ai.operation.name": "chat",
            "gen_ai.input.messages": [{"role": "user", "parts": [{"type": "text", "content": question}]}],
            "gen_ai.output.messages": [
                {"role": "assistant", "parts": [{"type": "text", "content": "Blue."}], "finish_reason": "stop"}
            ],
        },
    )
    told.logs.get_logger(scope).emit(event)
    span.end()


def test_a_trajectory_is_made_of_what_stands_in_the_event_of_others_alone(told: Told) -> None:
    call_by_others(told)
    assert [step["message"] for step in told.document["steps"]] == ["Which colour?", "Blue."]
    [span] = told.spans.get_finished_spans()
    assert "gen_ai.input.messages" not in (span.attributes or {})


def test_what_is_read_of_the_event_of_others_has_been_sanitized(told: Told) -> None:
    @spanrelay.sanitizer
    def hide(field: Any) -> Any:
        return json.loads(json.dumps(field.value).replace("secret", "hidden"))

    with spanrelay.use(hide):
        call_by_others(told, f"the secret, {SECRET}")
        document = json.dumps(told.document)
    assert "the hidden" in document and "secret" not in document and SECRET not in document


def test_an_event_without_an_open_span_is_handed_on_and_kept_nowhere(told: Told) -> None:
    told.logs.get_logger("others").emit(LogRecord(event_name=DETAILS, attributes={"gen_ai.operation.name": "chat"}))
    assert [event.event_name for event in told.events] == [DETAILS]


def test_the_event_of_others_is_left_out_where_their_span_is_since_ours_tells_the_call(told: Told) -> None:
    call_by_others(told, scope="opentelemetry.instrumentation.genai.openai")
    assert told.events == []
    assert told.spans.get_finished_spans() == ()


PROGRAM = """
import openai
with openai.OpenAI() as client:
    client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hello"}])
"""


def test_a_programs_last_event_arrives_at_its_exporter_of_logs(tmp_path: Path) -> None:
    settings = {
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "event_only",
        "OTEL_LOGS_EXPORTER": "console",
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
    }
    with ModelServer() as server:
        ran = run(PROGRAM, tmp_path, server, **settings)
    assert ran.out.count(DETAILS) == 1
    assert '"content": "hello"' in ran.out
