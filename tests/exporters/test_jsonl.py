"""Events as lines of JSON: each once, in its file or at its server, and no sink in the way of another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from tests.exporters.otlp_server import OtlpServer, free_port

from spanrelay import _guard, mark, run_tool, scope, subscribe, tracing
from spanrelay.config import Settings, load
from spanrelay.exporters import jsonl
from spanrelay.exporters.atof import AtofSpanExporter, sinks
from spanrelay.exporters.grace import Grace
from spanrelay.exporters.jsonl import FileSink, HttpSink, JsonlSpanExporter
from spanrelay.observation.events import Event
from spanrelay.observation.mailbox import flush
from spanrelay.observation.observers import observers
from spanrelay.telemetry.front import put_in_front
from spanrelay.telemetry.processor import RelaySpanProcessor
from spanrelay.telemetry.sampling import RecordUnsampled
from spanrelay.tracing import Tracing
from spanrelay_testkit.capture import Capture


@pytest.fixture(autouse=True)
def nothing_stays_registered() -> Iterator[None]:
    yield
    assert observers.entries == ()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def short(events: list[dict[str, Any]]) -> list[str]:
    return [f"{event.get('scope_category', 'mark')} {event['name']}" for event in events]


def test_a_scope_with_a_mark_is_three_lines_the_mark_in_the_middle(capture: Capture, tmp_path: Path) -> None:
    exporter = JsonlSpanExporter([FileSink(tmp_path / "new" / "events.jsonl")])
    capture.provider.add_span_processor(BatchSpanProcessor(exporter))
    with scope("w"):
        mark("m")
        assert exporter.force_flush()
        assert short(lines(tmp_path / "new" / "events.jsonl")) == ["start invoke_agent w", "mark m"]
    capture.provider.shutdown()
    assert short(lines(tmp_path / "new" / "events.jsonl")) == ["start invoke_agent w", "mark m", "end invoke_agent w"]
    assert (tmp_path / "new" / "events.jsonl").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new" / ".gitignore").read_text() == "*\n"


def test_a_pipeline_in_front_of_which_nobody_stands_is_written_at_the_spans_end(tmp_path: Path) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(JsonlSpanExporter([FileSink(tmp_path / "events.jsonl")])))
    with provider.get_tracer("app").start_as_current_span("theirs") as span:
        span.set_attributes({"openinference.span.kind": "CHAIN", "input.value": "in"})
        span.add_event("e")
    provider.shutdown()
    start, marked, end = lines(tmp_path / "events.jsonl")
    assert short([start, marked, end]) == ["start theirs", "mark e", "end theirs"]
    assert (start["data"], end["data"], end["category_profile"]) == ("in", None, {"input": "in"})


def test_overwriting_begins_anew_once_and_appending_keeps(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for mode, wanted in (("append", 2), ("append", 4), ("overwrite", 4)):
        exporter = JsonlSpanExporter([FileSink(path, mode)])  # pyright: ignore[reportArgumentType] - one of the two
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        for _ in range(2 if mode == "overwrite" else 1):
            provider.get_tracer("app").start_span("s").end()
            exporter.force_flush()
        provider.shutdown()
        assert len(lines(path)) == wanted


def test_a_server_is_posted_the_same_lines_with_the_headers(capture: Capture, tmp_path: Path) -> None:
    server = OtlpServer()
    exporter = JsonlSpanExporter([HttpSink(server.url, {"x-key": "k"}, content=True), FileSink(tmp_path / "e.jsonl")])
    try:
        run_tool("t", lambda x: x, {"x": "in"})
        exporter.shutdown()
    finally:
        server.close()
    posted = [json.loads(line) for body in server.bodies for line in body.splitlines()]
    assert posted == lines(tmp_path / "e.jsonl")
    assert posted[-1]["data"] == "in"


def test_content_is_not_posted_unless_it_may_leave_the_machine(capture: Capture) -> None:
    server = OtlpServer()
    exporter = JsonlSpanExporter([HttpSink(server.url)])
    try:
        run_tool("t", lambda x: "secret", {"x": "secret"})
        exporter.shutdown()
    finally:
        server.close()
    assert len(b"".join(server.bodies).splitlines()) == 2
    assert b"secret" not in b"".join(server.bodies)


def test_a_redirect_that_keeps_the_body_is_followed(capture: Capture) -> None:
    server = OtlpServer(lambda body: 200 if server.asked[-1] == "/moved" else (308, {"Location": "/moved"}))
    exporter = JsonlSpanExporter([HttpSink(server.url)])
    try:
        run_tool("t", lambda x: x, {"x": 1})
        exporter.shutdown()
    finally:
        server.close()
    assert server.asked[:2] == ["/", "/moved"]
    assert len(b"".join(body for _, body in server.accepted).splitlines()) == 2


@pytest.mark.swallows
@pytest.mark.parametrize("status", [500, 302, None])
def test_a_server_that_refuses_or_is_not_there_harms_neither_the_call_nor_the_file(
    status: int | None, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    capture: Capture = request.getfixturevalue("capture")
    server = OtlpServer(lambda body: (status, {"Location": "/login"})) if status else None
    url = server.url if server else f"http://127.0.0.1:{free_port()}"
    exporter = JsonlSpanExporter([HttpSink(f"{url}/?token=secret"), FileSink(tmp_path / "events.jsonl")])
    assert run_tool("t", lambda: "done") == "done"
    exporter.shutdown()
    if server:
        server.close()
    assert len(lines(tmp_path / "events.jsonl")) == 2
    lost = _guard.losses.take()
    assert lost[f"events not written to {url}/"] == 2
    assert "secret" not in repr(lost)
    assert len(capture.spans) == 1


@pytest.mark.swallows
def test_what_a_server_that_hangs_has_not_taken_by_the_end_is_counted_as_events(
    capture: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "BATCH_BYTES", 1000)
    asked, released = threading.Event(), threading.Event()

    def hang(body: bytes) -> int:
        asked.set()
        released.wait(60)
        return 200

    server = OtlpServer(hang)
    exporter = JsonlSpanExporter([HttpSink(server.url), FileSink(tmp_path / "events.jsonl")], grace=Grace(0.1))
    for _ in range(100):
        run_tool("t", str)
    assert asked.wait(60)
    exporter.shutdown()
    lost = _guard.losses.take()
    assert lost == {f"events not written to {server.url}": 200}
    assert len(lines(tmp_path / "events.jsonl")) == 200
    released.set()
    server.close()


def test_a_forked_child_writes_nothing_of_its_parents_and_has_connections_of_its_own(
    capture: Capture, tmp_path: Path
) -> None:
    server = OtlpServer()
    told: list[Event] = []
    with subscribe(told.append):
        run_tool("t", str)
        assert flush(60)
    posted, written = HttpSink(server.url), FileSink(tmp_path / "events.jsonl")
    posted.take(told[0])
    posted.settle()
    for sink in (posted, written):
        sink.take(told[1])
    child = os.fork()
    if not child:
        for sink in (posted, written):
            sink.settle()
            sink.close()
        os._exit(posted._session is not None)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for sink in (posted, written):
        sink.close()
    assert len(lines(tmp_path / "events.jsonl")) == 1
    assert len(server.bodies) == 2
    server.close()


def test_what_is_recorded_but_not_sampled_is_not_written(tmp_path: Path) -> None:
    provider = TracerProvider(shutdown_on_exit=False, sampler=RecordUnsampled(ALWAYS_OFF))
    exporter = JsonlSpanExporter([FileSink(tmp_path / "events.jsonl")])
    put_in_front(RelaySpanProcessor(), provider)
    tracing.adopt(provider)
    try:
        run_tool("t", lambda: None, tracing=Tracing("spanrelay_test", provider=provider))
    finally:
        tracing.abandon(provider)
        exporter.shutdown()
    assert not (tmp_path / "events.jsonl").exists()


FULL = """
import resource, signal, spanrelay
from spanrelay.exporters import jsonl
from spanrelay.exporters.grace import Grace
from spanrelay.exporters.jsonl import FileSink, JsonlSpanExporter
spanrelay.activate(spanrelay.Settings(trajectories="off", quiet=True))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
exporter = JsonlSpanExporter([FileSink("events.jsonl")])
for size in (3000, -1):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, -1))
    for _ in range(5):
        with spanrelay.scope("w"):
            pass
    exporter.force_flush()
exporter.shutdown()
"""


def test_what_a_full_disk_takes_a_part_of_is_counted_and_the_next_line_begins_one(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(FULL)
    done = subprocess.run(
        [sys.executable, "-B", str(program)], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    whole, torn = 0, 0
    for line in (tmp_path / "events.jsonl").read_text().splitlines():
        try:
            json.loads(line)
            whole += 1
        except ValueError:
            torn += 1
    assert (tmp_path / "events.jsonl").stat().st_size > 3000
    assert torn <= 1
    assert 10 < whole < 20
    assert f"lost or left out: {20 - whole} events not written to {tmp_path / 'events.jsonl'}" in done.stderr


def test_settings_say_where_events_go() -> None:
    settings, problems = load(
        {
            "SPANRELAY_ATOF_FILE": "a.jsonl",
            "SPANRELAY_ATOF_MODE": "overwrite",
            "SPANRELAY_ATOF_URL": "https://user:pass@example.com/in?key=k",
            "SPANRELAY_ATOF_HEADERS": "authorization=Bearer%20x, x-a=b",
        }
    )
    assert problems == []
    file, server = sinks(settings)
    assert (file.name, server.name) == (os.path.abspath("a.jsonl"), "example.com/in")
    assert isinstance(server, HttpSink)
    assert server._headers == {"authorization": "Bearer x", "x-a": "b", "Content-Type": "application/x-ndjson"}
    assert [sink.name for sink in sinks(Settings(atof_url="http://h"))] == ["http://h"]
    assert [os.path.basename(sink.name) for sink in sinks(Settings())] == ["events.jsonl"]


@pytest.mark.parametrize(
    ("name", "value"), [("MODE", "replace"), ("URL", "ftp://x"), ("HEADERS", "authorization"), ("HEADERS", "=x")]
)
def test_a_setting_that_is_not_valid_writes_nothing(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"SPANRELAY_ATOF_{name}", value)
    exporter = AtofSpanExporter()
    assert exporter._sinks == []
    exporter.shutdown()


PROGRAM = """\
import spanrelay
with spanrelay.scope("w"):
    spanrelay.mark("m")
    spanrelay.run_tool("t", lambda x: x, {"x": 1})
"""


def test_a_program_writes_events_because_a_variable_says_so(tmp_path: Path) -> None:
    wanted = {
        "OTEL_TRACES_EXPORTER": "atof",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "SPANRELAY_ATOF_FILE": str(tmp_path / "events.jsonl"),
        "SPANRELAY_TRAJECTORIES": "off",
    }
    environment = {**{key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}, **wanted}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("opentelemetry-instrument")), sys.executable, "-c", PROGRAM],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert short(lines(tmp_path / "events.jsonl")) == [
        "start invoke_agent w",
        "mark m",
        "start execute_tool t",
        "end execute_tool t",
        "end invoke_agent w",
    ], done.stderr


@pytest.mark.swallows
@pytest.mark.parametrize("headers", [{}, {"x-key": "secret-of-the-header\n"}])
def test_a_server_that_is_away_is_told_without_the_credentials_of_its_address(
    headers: dict[str, str], caplog: pytest.LogCaptureFixture, capture: Capture
) -> None:
    place = f"127.0.0.1:{free_port()}"
    sink = HttpSink(f"http://user:secret-of-the-user@{place}/?token=secret-of-the-query", headers)
    exporter = JsonlSpanExporter([sink])
    run_tool("t", lambda: 1)
    exporter.shutdown()
    assert _guard.losses.take()
    assert len(capture.spans) == 1
    assert f"{place}/ cannot be reached: " in caplog.text
    assert "secret" not in caplog.text
