"""`spanrelay.flush()` is the whole of it: spans, what subscribers are told of, and the documents of trajectories."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.programs import run

import spanrelay
from spanrelay import _guard
from spanrelay.assembly.exporter import AtifSpanExporter

Flush = Callable[[float], bool]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "trajectories"


@pytest.fixture
def provider() -> TracerProvider:
    return TracerProvider(shutdown_on_exit=False)


@pytest.fixture
def runtime(folder: Path, provider: TracerProvider) -> Iterator[spanrelay.Runtime]:
    settings = spanrelay.Settings(trajectory_directory=str(folder), metrics=False, quiet=True)
    runtime = spanrelay.activate(settings, tracer_provider=provider, instrument=False)
    assert runtime is not None
    yield runtime
    runtime.shutdown()


@pytest.fixture(params=["spanrelay.flush", "provider.force_flush", "runtime.flush"])
def flush(request: pytest.FixtureRequest, provider: TracerProvider, runtime: spanrelay.Runtime) -> Flush:
    ways: dict[str, Flush] = {
        "spanrelay.flush": spanrelay.flush,
        "provider.force_flush": lambda timeout: provider.force_flush(int(timeout * 1000)),
        "runtime.flush": runtime.flush,
    }
    return ways[request.param]


def ask(session: str, words: str = "hello") -> None:
    answer = {"choices": [{"message": {"role": "assistant", "content": words}, "finish_reason": "stop"}]}
    request: Any = {"model": "m", "messages": [{"role": "user", "content": words}]}
    with spanrelay.scope("bot", session=session):
        spanrelay.run_model(lambda wire: answer, request, codec="openai_chat", provider="p")


def said(path: Path) -> list[str]:
    return [step["message"] for step in json.loads(path.read_text())["steps"]]


def test_a_document_is_there_once_flush_has_returned(folder: Path, flush: Flush) -> None:
    ask("s1")
    assert flush(60)
    assert said(folder / "s1.json") == ["hello", "hello"]
    assert list(folder.glob("*.part")) == []


def test_what_is_still_open_is_there_too(folder: Path, flush: Flush) -> None:
    with spanrelay.scope("outer", session="s1"):
        ask("s1")
        assert flush(60)
        assert said(folder / "s1.json") == ["hello", "hello"]


def test_spans_and_subscribers_are_covered(provider: TracerProvider, flush: Flush) -> None:
    exported, told = InMemorySpanExporter(), list[Any]()
    provider.add_span_processor(BatchSpanProcessor(exported))
    with spanrelay.subscribe(told.append):
        ask("s1")
        assert flush(60)
    assert [span.name for span in exported.get_finished_spans()] == ["chat m", "invoke_agent bot"]
    assert len(told) == 4


def test_a_disk_that_cannot_be_written_makes_it_false_until_it_can(folder: Path, flush: Flush) -> None:
    folder.write_text("in the way")
    ask("s1")
    assert not flush(60)
    folder.unlink()
    assert flush(60)
    assert said(folder / "s1.json") == ["hello", "hello"]


class Exported(InMemorySpanExporter):
    """Says when something has been exported."""

    def __init__(self) -> None:
        super().__init__()
        self.something = threading.Event()

    def export(self, spans: Any) -> SpanExportResult:
        self.something.set()
        return super().export(spans)


class Undelivered(SpanExporter):
    """Takes spans, and cannot deliver them."""

    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return False


class Silent(SpanProcessor):
    """Has nothing to say of a flush, as the SDK allows."""

    def force_flush(self, timeout_millis: int = 30_000) -> Any:
        return None


class Broken(SpanProcessor):
    """Cannot be flushed."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        raise OSError("no network")


class Interrupted(InMemorySpanExporter):
    """Is interrupted, as by a signal handler, by what flushes as well."""

    def __init__(self, flush: Callable[[], object]) -> None:
        super().__init__()
        self._flush = flush

    def export(self, spans: Any) -> SpanExportResult:
        self._flush()
        return super().export(spans)


def test_what_flushes_in_the_middle_of_a_flush_does_not_wait_for_itself(provider: TracerProvider, flush: Flush) -> None:
    exported = Interrupted(lambda: spanrelay.flush(60))
    provider.add_span_processor(BatchSpanProcessor(exported))
    ask("s1")
    outer = threading.Thread(target=flush, args=(60,), daemon=True)
    outer.start()
    outer.join(30)
    assert not outer.is_alive()
    assert [span.name for span in exported.get_finished_spans()] == ["chat m", "invoke_agent bot"]


def test_what_an_exporter_has_not_delivered_makes_it_false(provider: TracerProvider, flush: Flush) -> None:
    provider.add_span_processor(BatchSpanProcessor(Undelivered()))
    ask("s1")
    assert not flush(60)


def test_a_processor_that_returns_nothing_has_flushed(provider: TracerProvider, flush: Flush) -> None:
    provider.add_span_processor(Silent())
    assert flush(60)


@pytest.mark.swallows
def test_a_processor_that_raises_makes_it_false_and_the_rest_is_written(
    folder: Path, provider: TracerProvider, flush: Flush
) -> None:
    provider.add_span_processor(Broken())
    ask("s1")
    assert not flush(60)
    assert said(folder / "s1.json") == ["hello", "hello"]
    assert _guard.losses.take() == {"failures of the span processor Broken": 1}


def test_a_disk_that_hangs_takes_no_time_from_exporters(
    provider: TracerProvider, runtime: spanrelay.Runtime, flush: Flush
) -> None:
    exported, go_on = Exported(), threading.Event()
    provider.add_span_processor(BatchSpanProcessor(exported))
    assert runtime.worker is not None
    make, runtime.worker._make_sink = runtime.worker._make_sink, lambda: go_on.wait(60) and make()  # type: ignore[assignment]
    ask("s1")
    with ThreadPoolExecutor(1) as pool:
        flushed = pool.submit(flush, 60)
        assert exported.something.wait(60)
        assert not flushed.done()
        go_on.set()
        assert flushed.result()


def test_threads_may_flush_at_the_same_time(folder: Path, flush: Flush) -> None:
    def work(number: int) -> bool:
        ask(f"s{number}")
        return flush(60) and (folder / f"s{number}.json").exists()

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(40)))


def test_observers_are_told_at_once_that_they_would_wait_for_themselves(folder: Path, flush: Flush) -> None:
    answers: list[tuple[str, bool]] = []

    @spanrelay.sanitizer(fields=["request", "response"])
    def sanitizes(field: spanrelay.Field) -> Any:
        answers.append((threading.current_thread().name, flush(60)))
        return field.value

    with (
        spanrelay.use(sanitizes),
        spanrelay.subscribe(lambda event: answers.append(("subscriber", flush(60))), name="asks"),
    ):
        ask("s1")
        assert flush(60)
    assert {flushed for _, flushed in answers} == {False}
    assert {"subscriber"} < {name for name, _ in answers}
    assert (folder / "s1.json").exists()


def test_a_log_handler_on_the_recorders_thread_does_not_wait_for_itself(
    folder: Path, flush: Flush, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[bool] = []

    class Asks(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if threading.current_thread().name == "spanrelay-recorder":
                answers.append(flush(60))

    handler = Asks()
    logging.getLogger("spanrelay").addHandler(handler)
    try:
        folder.write_text("in the way")
        ask("s1")
        assert not flush(60)
    finally:
        logging.getLogger("spanrelay").removeHandler(handler)
        folder.unlink()
    assert answers == [False]


def test_after_the_end_there_is_nothing_to_wait_for(
    folder: Path, provider: TracerProvider, runtime: spanrelay.Runtime, flush: Flush
) -> None:
    ask("s1")
    runtime.shutdown()
    assert flush(60)
    assert (folder / "s1.json").exists()
    provider.shutdown()
    assert flush(60)


def test_a_flush_while_the_end_has_begun_waits_for_it(folder: Path, runtime: spanrelay.Runtime) -> None:
    ask("s1")
    worker = runtime.worker
    assert worker is not None
    worker.close()
    flushing = worker.flushing(60)
    worker.shutdown(60)
    assert flushing.wait(60)
    assert (folder / "s1.json").exists()


def test_a_forked_child_flushes_what_is_its_own(tmp_path: Path) -> None:
    program = """
import os, spanrelay
spanrelay.activate(spanrelay.Settings(quiet=True), instrument=False)

def ask(session):
    with spanrelay.scope("bot", session=session):
        spanrelay.run_tool("t", dict, {})

import warnings
warnings.filterwarnings("ignore", "This process .* is multi-threaded")  # Python 3.12 warns; on purpose
ask("parent")
child = os.fork()
if not child:
    ask("child")
    os._exit(0 if spanrelay.flush(60) and os.path.exists(".spanrelay/trajectories/child.json") else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert spanrelay.flush(60)
print(sorted(name for name in os.listdir(".spanrelay/trajectories") if name.endswith("json")))
"""
    ran = run(program, tmp_path, launched=False)
    assert (ran.code, ran.out, ran.err) == (0, "['child.json', 'parent.json']\n", "")


def test_the_exporter_atif_is_flushed_while_it_takes_spans_in(tmp_path: Path) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    exporter = AtifSpanExporter(tmp_path)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_export_batch_size=1, schedule_delay_millis=1))
    attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "t"}
    with ThreadPoolExecutor(4) as pool:
        for _ in range(200):
            provider.get_tracer("any").start_span("t", attributes=attributes).end()
            pool.submit(exporter.force_flush)
    provider.shutdown()
    assert len(list(tmp_path.glob("*.json"))) == 200


BESIDE = """
import threading, time
from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, InMemoryLogRecordExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
import spanrelay

class Kept(MetricExporter):
    held = threading.Event()
    held.set()
    names = set()

    def export(self, metrics_data, timeout_millis=10_000, **kwargs):
        self.held.wait()
        for resource in metrics_data.resource_metrics:
            for scope in resource.scope_metrics:
                self.names.update(metric.name for metric in scope.metrics)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis=10_000):
        return True

    def shutdown(self, timeout_millis=30_000, **kwargs):
        pass

logs = InMemoryLogRecordExporter()
hours = 3_600_000
_logs.set_logger_provider(LoggerProvider())
_logs.get_logger_provider().add_log_record_processor(BatchLogRecordProcessor(logs, schedule_delay_millis=hours))
metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(Kept(), export_interval_millis=hours)]))
trace.set_tracer_provider(TracerProvider())
spanrelay.activate(spanrelay.Settings(quiet=True, content="events"), instrument=False)
spanrelay.run_model(lambda wire: {"choices": []}, {"model": "m", "messages": []})
"""


def test_what_was_measured_and_logged_is_exported_too(tmp_path: Path) -> None:
    program = """
assert spanrelay.flush(60)
print("gen_ai.client.operation.duration" in Kept.names)
print([each.log_record.event_name for each in logs.get_finished_logs()])
"""
    ran = run(BESIDE + program, tmp_path, launched=False)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "True\n['gen_ai.client.inference.operation.details']\n"


def test_an_exporter_of_metrics_that_hangs_holds_a_flush_no_longer_than_it_may(tmp_path: Path) -> None:
    program = """
Kept.held.clear()
print(spanrelay.flush(1))
Kept.held.set()
print(spanrelay.flush(60))
"""
    ran = run(BESIDE + program, tmp_path, launched=False)
    assert (ran.code, ran.out) == (0, "False\nTrue\n")
