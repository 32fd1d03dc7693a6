"""SIGTERM, SIGHUP, and the ends of child processes, lose nothing where Python's own exit never runs."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.exporters.otlp_server import OtlpServer
from tests.programs import command, environment

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
    assert sorted(collector.span_names()) == FOUR  # sent before os._exit
    process = start(ACTIVATED + BEGIN + RAISE, tmp_path, collector.url, launched=False, SPANRELAY_SIGTERM="off")
    assert ended(process) == (-signal.SIGTERM, "", "")
    assert sorted(collector.span_names()) == FOUR


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
from spanrelay.exporters.outbox import Outbox
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


# Ends from within


RESET = "signal.signal(signal.SIGTERM, signal.SIG_DFL)"


@pytest.mark.parametrize("who", ["another", "itself"])
def test_a_signal_that_the_program_leaves_to_the_system_again_loses_nothing(
    collector: OtlpServer, tmp_path: Path, who: str
) -> None:
    how = "os.kill(os.getpid(), signal.SIGTERM)" if who == "another" else "signal.raise_signal(signal.SIGTERM)"
    process = start(f"{BEGIN}\n{RESET}\n{how}\ntime.sleep(60)", tmp_path, collector.url)
    assert ended(process) == (-signal.SIGTERM, "", "")
    assert sorted(collector.span_names()) == FOUR
    assert not parts(tmp_path)


INDEX = """
class Index:
    def __init__(self, of):
        self.of = of
    def __index__(self):
        return self.of()
"""


@pytest.mark.parametrize("launched", [True, False])
@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("os._exit(7)", 7),
        ("os._exit(status=7)", 7),
        ("threading.Thread(target=os._exit, args=(7,)).start(); time.sleep(60)", 7),
        ("signal.signal(signal.SIGINT, signal.SIG_DFL); signal.raise_signal(signal.SIGINT)", -signal.SIGINT),
        (f"{RESET}; signal.raise_signal(signal.SIGTERM)", -signal.SIGTERM),
        (f"{RESET}\n{INDEX}\nsignal.raise_signal(Index(lambda: 15))", -signal.SIGTERM),
    ],
    ids=["_exit", "_exit by name", "_exit on a thread", "a signal from the keyboard", "a signal", "its number"],
)
def test_a_program_that_ends_itself_sends_and_writes_first(
    collector: OtlpServer, tmp_path: Path, how: str, code: int, launched: bool
) -> None:
    beginning = "" if launched else "import spanrelay\nspanrelay.activate()"
    process = start(f"{beginning}{BEGIN}\n{how}", tmp_path, collector.url, launched=launched)
    assert ended(process) == (code, "", "")
    assert sorted(collector.span_names()) == FOUR
    assert not parts(tmp_path)


def test_what_ends_a_process_can_be_sent_to_another_process(collector: OtlpServer, tmp_path: Path) -> None:
    lines = """
import pickle
for end in (os._exit, signal.raise_signal, signal.signal):
    assert pickle.loads(pickle.dumps(end)) is end
import multiprocessing
child = multiprocessing.get_context("spawn").Process(target=os._exit, args=(4,))
if __name__ == "__main__":
    child.start()
    child.join()
    assert child.exitcode == 4"""
    assert ended(start(f"{BEGIN}{lines}", tmp_path, collector.url)) == (0, "", "")


@pytest.mark.parametrize(
    "end",
    [
        "os._exit('seven')",
        "os._exit()",
        "os._exit(7, 8)",
        "os._exit(1 << 31)",
        "os._exit(-1 << 70)",
        "os._exit(Index(lambda: 1 << 70))",
        "os._exit(Index(lambda: 1 / 0))",
        "os._exit(Index(str))",
        "signal.raise_signal(number=15)",
        "signal.raise_signal(1 << 70)",
        "signal.raise_signal(Index(lambda: 1 / 0))",
    ],
)
def test_what_does_not_end_the_program_ends_no_recording(collector: OtlpServer, tmp_path: Path, end: str) -> None:
    lines = f"""
{INDEX}
try:
    {end}
except (TypeError, OverflowError, ZeroDivisionError):
    spanrelay.run_tool("after", lambda: 1)
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(60)"""
    assert ended(start(f"{BEGIN}{lines}", tmp_path, collector.url)) == (-signal.SIGTERM, "", "")
    assert sorted(collector.span_names()) == ["execute_tool after", *FOUR]


ALARM = """
def late(*_):
    raise TimeoutError
signal.signal(signal.SIGALRM, late)
signal.setitimer(signal.ITIMER_REAL, 0.2)
"""
TOGETHER = """
together = threading.Barrier(9)
def end():
    together.wait()
    os._exit(7)
for _ in range(8):
    threading.Thread(target=end).start()
end()
"""


def test_threads_that_end_the_program_together_lose_nothing(collector: OtlpServer, tmp_path: Path) -> None:
    assert ended(start(ACTIVATED + BEGIN + TOGETHER, tmp_path, collector.url, launched=False)) == (7, "", "")
    assert sorted(collector.span_names()) == FOUR


def test_nothing_that_a_signal_handler_raises_brings_a_program_back_that_ends_itself(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        child = f"{ALARM}\ntry:\n    os._exit(7)\nfinally:\n    print('back', flush=True)\n"
        assert ended(start(ACTIVATED + BEGIN + child, tmp_path, url, launched=False))[:2] == (7, "")


def test_a_program_that_cannot_begin_a_thread_at_its_end_says_that_something_is_lost(
    collector: OtlpServer, tmp_path: Path
) -> None:
    full = 'import _thread\ndef full(*_, **__):\n    raise RuntimeError("can\'t start new thread")\n'
    full += "_thread.start_new_thread = threading._start_new_thread = threading._start_joinable_thread = full\n"
    process = start(f"{ACTIVATED}{BEGIN}{full}os._exit(7)", tmp_path, collector.url, launched=False)
    said = "spanrelay: os._exit ended the program before everything could be sent and written\n"
    assert ended(process) == (7, "", said)


@pytest.mark.parametrize("how", ["os._exit(status=7)", "os._exit(True + 6)"])
def test_a_program_ends_itself_as_python_lets_it(collector: OtlpServer, tmp_path: Path, how: str) -> None:
    wrong = "for bad in ('7', 7.0, None):\n    try:\n        os._exit(bad)\n    except TypeError:\n        pass\n"
    process = start(f"{ACTIVATED}{BEGIN}{wrong}{how}", tmp_path, collector.url, launched=False)
    assert ended(process) == (7, "", "")
    assert sorted(collector.span_names()) == FOUR


@pytest.mark.parametrize("what", ["flush(timeout=1)", "os._exit(0)"])
def test_an_object_that_goes_with_the_interpreter_does_not_hang(
    collector: OtlpServer, tmp_path: Path, what: str
) -> None:
    last = f"""
import builtins
flush, run_tool = spanrelay.flush, spanrelay.run_tool
class Last:
    def __del__(self):
        {what}
builtins.last = Last()
"""
    assert ended(start(ACTIVATED + BEGIN + last, tmp_path, collector.url, launched=False)) == (0, "", "")
    assert sorted(collector.span_names()) == FOUR


@pytest.mark.parametrize("function", ["os._exit", "signal.raise_signal", "signal.signal"])
def test_what_ends_a_process_can_be_the_target_of_another(collector: OtlpServer, tmp_path: Path, function: str) -> None:
    begin = f"{ACTIVATED}{BEGIN}import pickle\nassert pickle.loads(pickle.dumps({function})) is {function}"
    assert ended(start(begin, tmp_path, collector.url, launched=False, SPANRELAY_SIGTERM="on")) == (0, "", "")


FORKS = {"PYTHONWARNINGS": "ignore::DeprecationWarning"}  # Python 3.12 and newer warn of a fork beside threads


@pytest.mark.parametrize("trajectories", ["on", "off"])
@pytest.mark.parametrize("recorded", ["by the child", "by both"])
def test_a_child_that_ends_as_children_of_a_fork_do_sends_what_it_recorded(
    collector: OtlpServer, tmp_path: Path, recorded: str, trajectories: str
) -> None:
    lines = BEGIN.replace("\nfor", "\nif os.fork():\n    os.wait()\n    sys.exit()\nfor")
    if recorded == "by both":
        lines = lines.replace("\nif", "\nspanrelay.run_tool('first', lambda: 1)\nif")
    settings = FORKS | {"SPANRELAY_TRAJECTORIES": trajectories}
    assert ended(start(f"{lines}\nos._exit(0)", tmp_path, collector.url, **settings)) == (0, "", "")
    first = ["execute_tool first"] if recorded == "by both" else []
    assert sorted(collector.span_names()) == first + FOUR
    assert not parts(tmp_path)


def test_a_child_sends_where_its_parent_was_told_to_though_the_variables_are_gone(
    collector: OtlpServer, tmp_path: Path
) -> None:
    lines = BEGIN.replace(
        "\nfor",
        "\nfor name in list(os.environ):\n    if name.startswith('OTEL_'):\n        del os.environ[name]"
        "\nif os.fork():\n    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))\nfor",
    )
    settings = FORKS | {"OTEL_EXPORTER_OTLP_ENDPOINT": f" {collector.url} ", "OTEL_EXPORTER_OTLP_HEADERS": "key=mine"}
    process = start(f"{lines}\nos._exit(0)", tmp_path, "", **settings)
    assert ended(process) == (0, "", "")
    assert sorted(collector.span_names()) == FOUR
    assert collector.headers["key"] == "mine"


def test_a_child_that_has_recorded_nothing_ends_at_once_and_says_nothing(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        program = f"""{BEGIN}
if not os.fork():
    os._exit(0)
os.wait()
"""
        process = start(program, tmp_path, f"http://127.0.0.1:{nobody.getsockname()[1]}")
        code, _, err = ended(process)
    assert code == 0
    assert err.count("spanrelay: lost or left out: 4 spans not delivered to the collector") == 1
    assert err.count("lost or left out") == 1


def test_who_wants_sudden_ends_left_alone_has_them(collector: OtlpServer, tmp_path: Path) -> None:
    process = start(f"{BEGIN}\nos._exit(7)", tmp_path, collector.url, SPANRELAY_SIGTERM="off")
    assert ended(process)[0] == 7
    assert collector.span_names() == []


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
import multiprocessing, os, pathlib, signal, sys, time
import spanrelay

def written():
    # Not only whether the file is there: it is, and empty, before its first line.
    texts = [file.read_text() for file in pathlib.Path(".spanrelay/trajectories").glob("child*")]
    return any('"op":"step"' in text[: text.rfind("\\n") + 1] for text in texts)

def work():
    with spanrelay.scope("agent", session="child"):
        spanrelay.run_tool("t", lambda: 1)
        while not written():
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
