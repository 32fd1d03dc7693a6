"""The end of a program: what was made by then is sent, what was not is said once, and only on stderr."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from tests.exporters.otlp_server import OtlpServer, free_port
from tests.programs import environment, run

from spanrelay import runtime
from spanrelay._guard import losses
from spanrelay.assembly.sinks import recover
from spanrelay.observation import events
from spanrelay.telemetry import signals
from spanrelay.telemetry.front import put_in_front
from spanrelay.telemetry.processor import RelaySpanProcessor

LATE = """
import atexit, spanrelay

@atexit.register
def say_goodbye():
    spanrelay.run_tool("late", str, {})

spanrelay.activate()
spanrelay.run_tool("early", str, {})
"""

TOO_LATE = """
import atexit

@atexit.register
def say_goodbye():
    for _ in range(2):
        spanrelay.run_tool("late", str, {})

import spanrelay
spanrelay.activate()
spanrelay.run_tool("early", str, {})
"""

SLOW = """
import atexit, threading
begun, ended, announced = threading.Event(), threading.Event(), threading.Event()

@atexit.register
def let_the_disk_go_on():
    ended.set()
    announced.wait(30)

import spanrelay
from spanrelay.runtime import recorder
from spanrelay.telemetry import processor
from spanrelay.assembly.sinks import TrajectoryDirectory

recorder.EXIT_SECONDS = processor.EXIT_SECONDS = 0.1
write, announce = TrajectoryDirectory.write, recorder.Runtime._announce

def write_slowly(*arguments):
    begun.set()
    ended.wait(30)
    write(*arguments)

def announce_and_tell(self):
    announce(self)
    announced.set()

TrajectoryDirectory.write, recorder.Runtime._announce = write_slowly, announce_and_tell
spanrelay.activate()
spanrelay._guard.losses.add("things lost")
spanrelay.run_tool("t", str, {})
begun.wait(30)
"""

FORKED = """
import os, sys, spanrelay
from spanrelay._guard import losses
from spanrelay.pipeline.trial import _count
spanrelay.activate()
losses.add("things lost", 3)
_count("refused")
child = os.fork()
if child:
    os.waitpid(child, 0)
else:
    losses.add("things lost in the child")
"""


@pytest.fixture
def collector() -> Iterator[OtlpServer]:
    server = OtlpServer()
    yield server
    server.close()


def said(err: str) -> list[str]:
    return [line for line in err.splitlines() if line.startswith("spanrelay: ") and "trajectories, with" not in line]


@pytest.mark.parametrize("launched", [True, False])
@pytest.mark.parametrize("trajectories", ["on", "off"])
def test_what_the_programs_own_exit_handlers_record_is_sent(
    collector: OtlpServer, tmp_path: Path, trajectories: str, *, launched: bool
) -> None:
    to, kept = collector.url, trajectories
    done = run(LATE, tmp_path, launched=launched, OTEL_EXPORTER_OTLP_ENDPOINT=to, SPANRELAY_TRAJECTORIES=kept)
    assert collector.span_names() == ["execute_tool early", "execute_tool late"]
    assert said(done.err) == []


@pytest.mark.parametrize("trajectories", ["on", "off"])
def test_what_is_recorded_after_the_end_is_said_to_be_lost(
    collector: OtlpServer, tmp_path: Path, trajectories: str
) -> None:
    done = run(
        TOO_LATE,
        tmp_path,
        launched=False,
        OTEL_METRICS_EXPORTER="none",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        SPANRELAY_TRAJECTORIES=trajectories,
    )
    assert collector.span_names() == ["execute_tool early"]
    assert said(done.err) == ["spanrelay: lost or left out after the end of recording: spans ended after shutdown"]


def test_what_was_lost_is_the_last_thing_said_also_where_the_disk_is_slow(tmp_path: Path) -> None:
    done = run(SLOW, tmp_path, launched=False)
    assert done.code == 0
    assert done.err.splitlines()[-1].startswith("spanrelay: lost or left out: ")
    assert "trajectories, with" not in done.err


HANGS = """
import os, sys, threading
import spanrelay
from spanrelay.telemetry import processor

processor.EXIT_SECONDS = 0.5
os.fsync = lambda file: threading.Event().wait()
spanrelay.activate()
for number in range(int(sys.argv[1])):
    spanrelay.run_tool("t", str, {})
"""


@pytest.mark.parametrize("documents", [1, 10])
def test_a_disk_that_hangs_does_not_hold_up_the_end_and_what_was_handed_over_stays(
    tmp_path: Path, documents: int
) -> None:
    done = run(HANGS, tmp_path, launched=False, arguments=(str(documents),))
    assert done.code == 0
    assert said(done.err) == ["spanrelay: lost or left out: 1 wait for trajectories to be finished that took too long"]
    folder = tmp_path / ".spanrelay" / "trajectories"
    assert len(recover(folder).finished) == documents


SEVERAL_HANG = """
import os, threading
import spanrelay
from opentelemetry.sdk.trace import TracerProvider
from spanrelay.runtime import ending
from spanrelay.telemetry import processor, worker

processor.EXIT_SECONDS = ending.EXIT_SECONDS = 0.5
os.fsync = lambda file: threading.Event().wait()
shutdown, given = worker.Worker.shutdown, []

def tell(self, seconds):
    given.append(seconds)
    shutdown(self, seconds)
    print(sum(given) < 0.6, flush=True)

worker.Worker.shutdown = tell
providers = [TracerProvider(shutdown_on_exit=False) for _ in range(3)]
for number, provider in enumerate(providers):
    settings = spanrelay.Settings(trajectory_directory=f"folder-{number}")
    spanrelay.activate(settings, tracer_provider=provider)
    spanrelay.run_tool("t", str, {})
"""


def test_providers_whose_disks_hang_share_the_time_that_the_end_may_take(tmp_path: Path) -> None:
    done = run(SEVERAL_HANG, tmp_path, launched=False)
    assert (done.code, done.out) == (0, "True\nTrue\nTrue\n")


def test_a_folder_whose_name_cannot_be_is_said_once_and_breaks_nothing(tmp_path: Path) -> None:
    done = run(
        "import spanrelay\nspanrelay.activate()\nspanrelay.run_tool('t', str, {})",
        tmp_path,
        launched=False,
        SPANRELAY_TRAJECTORY_DIR="x" * 300,
    )
    assert done.code == 0
    [line, *_] = said(done.err)
    assert line.endswith(": File name too long")
    assert "Traceback" not in done.err


def test_a_forked_child_does_not_say_again_what_its_parent_lost(tmp_path: Path) -> None:
    assert said(run(FORKED, tmp_path, launched=False).err) == [
        "spanrelay: lost or left out: 1 thing lost in the child",
        "spanrelay: lost or left out: 3 things lost",
        "spanrelay: policy on trial would have refused 1 call",
    ]


NO_ROOM = """
import sys, threading
from collections import Counter
start, told = threading.Thread.start, Counter()

def refuse(thread):
    if thread.name.startswith("spanrelay"):
        raise RuntimeError("can't start new thread")
    start(thread)

threading.Thread.start = refuse
import spanrelay
from opentelemetry import trace
from spanrelay.observation import mailbox
spanrelay.activate()

def tell(event):
    told[event.name] += 1

spanrelay.subscribe(tell)
with trace.get_tracer("app").start_as_current_span("first"):
    spanrelay.run_tool("second", str, {})
if "room" in sys.argv:
    threading.Thread.start = start
spanrelay.run_tool("third", str, {})
print(spanrelay.flush(0.5), mailbox.flush(0.5), dict(told))
"""


@pytest.mark.parametrize("room", [True, False])
def test_a_program_without_room_for_threads_goes_on_and_all_it_recorded_is_written_or_counted(
    collector: OtlpServer, tmp_path: Path, *, room: bool
) -> None:
    to, arguments = collector.url, ("room",) if room else ()
    done = run(NO_ROOM, tmp_path, arguments=arguments, OTEL_EXPORTER_OTLP_ENDPOINT=to, OTEL_METRICS_EXPORTER="none")
    assert done.code == 0
    tools = [call["function_name"] for each in done.trajectories for call in each["steps"][0]["tool_calls"]]
    assert sorted(tools) == ["second", "third"]
    assert sorted(collector.span_names()) == ["execute_tool second", "execute_tool third", "first"]
    if room:
        assert done.out == "True True {'first': 2, 'execute_tool second': 2, 'execute_tool third': 2}\n"
        assert said(done.err) == []
    else:
        assert done.out == "False False {}\n"
        assert said(done.err) == ["spanrelay: lost or left out: 6 events that the subscriber 'tell' was too slow for"]


FORKED_OPEN = """
import gc, os, sys, spanrelay
spanrelay.activate()
spanrelay.scope("a", session="s").__enter__()
spanrelay.run_tool("t", str, {})
spanrelay.flush()
child = os.fork()
if child:
    os.waitpid(child, 0)
else:
    gc.collect()
    spanrelay.run_tool("t", str, {})
"""


def test_a_child_lets_go_of_the_files_of_its_parent_without_a_word(tmp_path: Path) -> None:
    done = run(FORKED_OPEN, tmp_path, PYTHONDEVMODE="1", PYTHONWARNINGS="default", OTEL_METRICS_EXPORTER="none")
    assert "unclosed file" not in done.err
    assert len(done.trajectories) == 2


MEASURED = """
import os, spanrelay
spanrelay.activate()
for _ in range(5):
    spanrelay.run_tool("t", str, {})
spanrelay.flush()
child = os.fork()
if child:
    os.waitpid(child, 0)
else:
    spanrelay.run_tool("t", str, {})
"""


def test_what_a_parent_has_measured_its_child_does_not_send_again(collector: OtlpServer, tmp_path: Path) -> None:
    run(MEASURED, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    counts: dict[str, int] = {}
    for path, body in collector.accepted:
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics if "metrics" in path else ():
            (instance,) = [a.value.string_value for a in resource.resource.attributes if a.key == "service.instance.id"]
            for metric in (each for scope in resource.scope_metrics for each in scope.metrics):
                counts[instance] = sum(point.count for point in metric.histogram.data_points)
    assert sorted(counts.values()) == [1, 5]


INTERRUPTED = """
import signal, sys, spanrelay
signal.signal(signal.SIGUSR1, lambda *_: print(spanrelay.flush(1)))

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "spanrelay.runtime.recorder":
            signal.raise_signal(signal.SIGUSR1)

sys.meta_path.insert(0, Interrupting())
spanrelay.activate()
spanrelay.run_tool("t", str, {})
print(spanrelay.flush(60))
"""


def test_a_handler_may_flush_while_what_flushes_is_imported(tmp_path: Path) -> None:
    done = run(INTERRUPTED, tmp_path, launched=False)
    assert (done.code, done.out) == (0, "False\nTrue\n")


LOCKS: dict[str, Callable[[], Any]] = {
    "of activation": lambda: runtime._lock,
    "of providers": lambda: signals.signals._lock,
    "of marks": lambda: events._clock._lock,
}


@pytest.mark.parametrize("name", LOCKS)
def test_a_child_waits_for_no_lock_that_a_thread_of_its_parent_holds(name: str) -> None:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with LOCKS[name]():
            held.set()
            done.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(60)
    child = os.fork()
    if not child:
        os._exit(not LOCKS[name]().acquire(timeout=5))
    status = os.waitpid(child, 0)[1]
    done.set()
    holder.join()
    assert os.waitstatus_to_exitcode(status) == 0


ENDED = """
import spanrelay
spanrelay.activate()
spanrelay.run_tool("t", str, {})
print("out", flush=True)
"""


def started(tmp_path: Path, close_stderr: str = "") -> subprocess.Popen[str]:
    (tmp_path / "program.py").write_text(ENDED)
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    return subprocess.Popen(
        ["sh", "-c", f'exec "{sys.executable}" program.py {close_stderr}'],
        cwd=tmp_path,
        env=environment(None, settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("close_stderr", ["2>&-", "2>/dev/full"])
def test_without_stderr_nothing_is_said_among_what_the_program_prints(tmp_path: Path, close_stderr: str) -> None:
    program = started(tmp_path, close_stderr)
    assert program.communicate(timeout=60) == ("out\n", "")
    assert program.returncode == 0


def test_who_interrupts_the_end_is_told_what_is_lost(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(ENDED)
    never = {"OTEL_BSP_SCHEDULE_DELAY": "3600000", "OTEL_METRICS_EXPORTER": "none"}
    asked = threading.Event()

    def interrupted(body: bytes) -> int:
        if not asked.is_set():  # nothing is sent before the end
            asked.set()
            os.kill(program.pid, signal.SIGINT)
        return 503

    collector = OtlpServer(interrupted)
    program = subprocess.Popen(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env=environment(None, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **never}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    told = program.communicate(timeout=100)[1]
    collector.close()
    assert asked.is_set()
    [line] = said(told)[-1:]
    assert line.startswith("spanrelay: lost or left out: ")
    assert "1 span not delivered to the collector" in line


class _Held(SpanExporter):
    """An exporter that takes its time."""

    def __init__(self) -> None:
        self.got = 0

    def export(self, spans: object) -> SpanExportResult:
        self.got += len(list(spans))  # pyright: ignore[reportArgumentType]
        return SpanExportResult.SUCCESS


def test_a_processor_that_comes_while_it_exports_holds_up_no_span_and_is_counted_afterwards() -> None:
    exporter = _Held()
    batches = BatchSpanProcessor(exporter, max_queue_size=10, max_export_batch_size=10, schedule_delay_millis=1e6)
    provider = TracerProvider(shutdown_on_exit=False)
    assert put_in_front(RelaySpanProcessor(), provider) is not None
    lock = batches._batch_processor._export_lock
    with lock:
        provider.add_span_processor(batches)
        provider.get_tracer("theirs").start_span("s").end()
    provider.get_tracer("theirs").start_span("s").end()
    with lock:
        for _ in range(25):
            provider.get_tracer("theirs").start_span("s").end()
    provider.shutdown()
    assert exporter.got == 10
    assert losses.take() == {"spans not exported because too many were waiting": 17}


def test_what_a_batch_processor_has_no_room_for_is_counted() -> None:
    exporter = _Held()
    batches = BatchSpanProcessor(exporter, max_queue_size=10, max_export_batch_size=10, schedule_delay_millis=1e6)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(batches)
    undo = put_in_front(RelaySpanProcessor(), provider)
    assert undo is not None
    lock = batches._batch_processor._export_lock  # while it is held, nothing is taken out
    with lock:
        for _ in range(25):
            provider.get_tracer("theirs").start_span("s").end()
    provider.shutdown()
    assert exporter.got == 10
    assert losses.take() == {"spans not exported because too many were waiting": 15}
