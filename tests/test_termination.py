"""SIGTERM, SIGHUP, and the ends of child processes, lose nothing where Python's own exit never runs."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.programs import command, environment
from tests.telemetry.otlp_server import OtlpServer

NEVER = {"OTEL_BSP_SCHEDULE_DELAY": "3600000", "OTEL_METRICS_EXPORTER": "none", "SPANRELAY_QUIET": "true"}
"""Nothing is sent before the end."""

BEGIN = """
import os, signal, sys, threading, time
import spanrelay
for number in range(4):
    spanrelay.run_tool(f"tool {number}", lambda x: x, {"x": 1})
"""

WAIT = """
print("ready", flush=True)
threading.Event().wait()
"""

TERMINATE = """
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(60)
"""

FOUR = [f"execute_tool tool {number}" for number in range(4)]


@pytest.fixture
def collector() -> Iterator[OtlpServer]:
    server = OtlpServer()
    yield server
    server.close()


def start(program: str, folder: Path, url: str, *, launched: bool = True, **settings: str) -> subprocess.Popen[str]:
    path = folder / "program.py"
    path.write_text(program)
    return subprocess.Popen(
        command(str(path)) if launched else [sys.executable, str(path)],
        cwd=folder,
        env=environment(None, {**NEVER, "OTEL_EXPORTER_OTLP_ENDPOINT": url, **settings}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for the end; return the code, and what was written to stdout and stderr."""
    out, err = process.communicate(timeout=100)
    return process.returncode, out, err


def parts(folder: Path) -> list[Path]:
    return list((folder / ".spanrelay" / "trajectories").glob("*.part"))


@pytest.fixture
def heard() -> Iterator[None]:
    """Lets the programs of a test hear SIGHUP, which is ignored by all that is started under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_sends_and_writes_everything_and_ends_the_program_as_before(
    collector: OtlpServer, tmp_path: Path, number: signal.Signals
) -> None:
    process = start(BEGIN + WAIT, tmp_path, collector.url)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(number)
    assert ended(process) == (-number, "", "")
    assert sorted(collector.span_names()) == FOUR
    assert len(list((tmp_path / ".spanrelay" / "trajectories").glob("*.json"))) == 4
    assert not parts(tmp_path)


@pytest.mark.parametrize(
    ("beginning", "launched", "settings", "arrives"),
    [
        ("", True, {"SPANRELAY_SIGTERM": "off"}, False),
        ("import spanrelay\nspanrelay.activate()", False, {}, False),
        ("import spanrelay\nspanrelay.activate()", False, {"SPANRELAY_SIGTERM": "on"}, True),
        ("import spanrelay\nspanrelay.activate(spanrelay.Settings(sigterm='on'))", False, {}, True),
    ],
)
def test_who_is_started_by_the_launcher_or_asks_for_it_is_spared(
    collector: OtlpServer, tmp_path: Path, beginning: str, launched: bool, settings: dict[str, str], arrives: bool
) -> None:
    process = start(beginning + BEGIN + TERMINATE, tmp_path, collector.url, launched=launched, **settings)
    assert ended(process)[0] == -signal.SIGTERM
    assert sorted(collector.span_names()) == (FOUR if arrives else [])


RAISE = """
signal.raise_signal(signal.SIGTERM)
"""
ACTIVATED = "import spanrelay\nspanrelay.activate()\n"


@pytest.mark.parametrize("settings", [{}, {"SPANRELAY_SIGTERM": "on"}])
def test_a_program_that_ends_itself_by_a_signal_is_spared_however_it_began(
    collector: OtlpServer, tmp_path: Path, settings: dict[str, str]
) -> None:
    # Handled by somebody while it activates, and given back to the system before the end: so do web servers.
    program = f"import signal\nbefore = signal.signal(signal.SIGTERM, print)\n{ACTIVATED}"
    program += f"{BEGIN}signal.signal(signal.SIGTERM, before){RAISE}"
    process = start(program, tmp_path, collector.url, launched=False, **settings)
    assert ended(process) == (-signal.SIGTERM, "", "")
    assert (sorted(collector.span_names()), parts(tmp_path)) == (FOUR, [])


def test_a_signal_that_a_program_raises_and_handles_or_wants_left_alone_is_its_own(
    collector: OtlpServer, tmp_path: Path
) -> None:
    handled = f"{ACTIVATED}{BEGIN}signal.signal(signal.SIGTERM, lambda *_: os._exit(3)){RAISE}"
    assert ended(start(handled, tmp_path, collector.url, launched=False)) == (3, "", "")
    process = start(ACTIVATED + BEGIN + RAISE, tmp_path, collector.url, launched=False, SPANRELAY_SIGTERM="off")
    assert ended(process) == (-signal.SIGTERM, "", "")
    assert collector.span_names() == []


@pytest.mark.parametrize(
    ("handler", "code"), [("lambda *_: sys.exit(3)", 3), ("signal.SIG_IGN", 4)], ids=["own", "ignored"]
)
def test_a_program_that_handles_sigterm_does_so(collector: OtlpServer, tmp_path: Path, handler: str, code: int) -> None:
    program = f"{BEGIN}\nsignal.signal(signal.SIGTERM, {handler})\nos.kill(os.getpid(), signal.SIGTERM)\nsys.exit(4)"
    assert ended(start(program, tmp_path, collector.url)) == (code, "", "")
    assert sorted(collector.span_names()) == FOUR


def test_what_was_ignored_before_the_program_stays_ignored(collector: OtlpServer, tmp_path: Path) -> None:
    inner = tmp_path / "inner.py"
    inner.write_text(BEGIN + "os.kill(os.getpid(), signal.SIGTERM)\nsys.exit(4)")
    program = (
        "import os, signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"os.execv({command()[0]!r}, {command(str(inner))!r})"
    )
    assert ended(start(program, tmp_path, collector.url, launched=False)) == (4, "", "")


def test_a_handler_that_passes_the_signal_on_goes_on_and_finds_everything_sent(
    collector: OtlpServer, tmp_path: Path
) -> None:
    program = f"""{BEGIN}
before = signal.getsignal(signal.SIGTERM)
signal.signal(signal.SIGTERM, lambda *given: before(*given))
os.kill(os.getpid(), signal.SIGTERM)
print("goes on")
os._exit(5)
"""
    assert ended(start(program, tmp_path, collector.url)) == (5, "goes on\n", "")
    assert sorted(collector.span_names()) == FOUR


def test_sigterm_ends_a_program_whose_collector_does_not_answer_and_says_what_is_lost(tmp_path: Path) -> None:
    released = threading.Event()

    def hang(body: bytes) -> int:
        released.wait(60)
        return 200

    server = OtlpServer(hang)
    code, _, err = ended(start(BEGIN + TERMINATE, tmp_path, server.url))
    released.set()
    server.close()
    assert (code, err) == (
        -signal.SIGTERM,
        "spanrelay: lost or left out: 4 spans not delivered to the collector\n",
    )


def test_a_second_sigterm_ends_the_program_at_once(tmp_path: Path) -> None:
    asked, released = threading.Event(), threading.Event()

    def hang(body: bytes) -> int:
        asked.set()
        released.wait(60)
        return 200

    server = OtlpServer(hang)
    process = start(
        f"import spanrelay.termination\nspanrelay.termination.SECONDS = 3600\n{BEGIN}{WAIT}", tmp_path, server.url
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert asked.wait(60)
    process.send_signal(signal.SIGTERM)
    assert ended(process) == (-signal.SIGTERM, "", "")
    released.set()
    server.close()


def test_sigterm_in_the_middle_of_our_own_work_does_not_hang(collector: OtlpServer, tmp_path: Path) -> None:
    program = f"""{BEGIN}
import logging, spanrelay.termination
from opentelemetry import trace
from spanrelay.telemetry.outbox import Outbox
import gc
spanrelay.termination.SECONDS = 0.2
[outbox] = [each for each in gc.get_objects() if isinstance(each, Outbox)]
with outbox._changed:
    {TERMINATE.strip().replace(chr(10), chr(10) + "    ")}
"""
    code, _, err = ended(start(program, tmp_path, collector.url))
    assert code == -signal.SIGTERM
    assert err == "spanrelay: SIGTERM ended the program before everything could be sent and written\n"


def test_sigterm_during_the_exit_lets_the_exit_finish(tmp_path: Path) -> None:
    asked, released = threading.Event(), threading.Event()

    def slow(body: bytes) -> int:
        asked.set()
        released.wait(60)
        return 200

    server = OtlpServer(slow)
    process = start(BEGIN, tmp_path, server.url)
    assert asked.wait(60)
    process.send_signal(signal.SIGTERM)
    released.set()
    assert ended(process) == (-signal.SIGTERM, "", "")
    assert sorted(server.span_names()) == FOUR
    server.close()


# Children

POOL = """
import concurrent.futures, multiprocessing, os, signal, sys, time
import spanrelay

def work(number):
    return spanrelay.run_tool(f"tool {number}", lambda x: x, {"x": number})

def main():
    context = multiprocessing.get_context(sys.argv[1])
    if sys.argv[2] == "executor":
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
            list(pool.map(work, range(6)))
        return
    with context.Pool(2) as pool:
        pool.map(work, range(6), 1)
        if sys.argv[2] == "closed":
            pool.close()
            pool.join()

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("end", ["terminated", "closed", "executor"])
@pytest.mark.parametrize("how", ["fork", "spawn", "forkserver"])
def test_the_workers_of_a_pool_deliver_all_that_they_did(
    collector: OtlpServer, tmp_path: Path, how: str, end: str
) -> None:
    path = tmp_path / "program.py"
    path.write_text(POOL)
    done = subprocess.run(
        command(str(path), how, end),
        cwd=tmp_path,
        env=environment(None, {**NEVER, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(collector.span_names()) == [f"execute_tool tool {number}" for number in range(6)]
    assert len(list((tmp_path / ".spanrelay" / "trajectories").glob("*.json"))) == 6
    assert not parts(tmp_path)


KILLED = """
import multiprocessing, os, signal, sys, time
import spanrelay

def work():
    with spanrelay.scope("agent", session="child"):
        spanrelay.run_tool("t", lambda: 1)
        while not any(name.startswith("child") for name in os.listdir(".spanrelay/trajectories")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    os.makedirs(".spanrelay/trajectories")
    if sys.argv[1:]:
        spanrelay.run_tool("of the parent", lambda: 1)
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    assert os.listdir(".spanrelay/trajectories")
"""


@pytest.mark.parametrize("arguments", [(), ("recorded",)], ids=["parent without spans", "parent with spans"])
def test_a_parent_finishes_what_its_killed_child_left(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    path = tmp_path / "program.py"
    path.write_text(KILLED)
    done = subprocess.run(
        command(str(path), *arguments),
        cwd=tmp_path,
        env=environment(None, NEVER),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not parts(tmp_path)
    assert len(list((tmp_path / ".spanrelay" / "trajectories").glob("*.json"))) == 1 + len(arguments)
