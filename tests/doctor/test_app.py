"""Each symptom of the runbook is produced by a small program, and the doctor that runs it names the cause."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.doctor.doctors import Doctor, Report, distribution, packages_without
from tests.exporters.otlp_server import OtlpServer
from tests.plugins.test_unguarded import ELSEWHERE
from tests.programs import ASK

from spanrelay.doctor import trial
from spanrelay_testkit.model_server import ModelServer

Run = Callable[..., Report]

MODEL = """
import spanrelay
from opentelemetry import trace
ANSWER = {"id": "answer-1", "model": "m", "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}]}
BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
def ask():
    return spanrelay.run_model(lambda wire: ANSWER, BODY, codec="openai_chat", provider="p")
"""
"""A model that answers in process, and a way of asking it that is recorded."""


@pytest.fixture
def app(doctor: Doctor) -> Run:
    """Runs a program under the doctor, which is given `--app` and sends nothing else."""

    def run(program: str, *arguments: str, python: str = "python", **variables: str) -> Report:
        (doctor.folder / "program.py").write_text(program)
        return doctor("--offline", *arguments, "--app", f"{python} program.py", **variables)

    return run


@pytest.fixture
def model() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


def test_a_program_that_is_recorded_as_it_should_be_passes(app: Run, model: ModelServer) -> None:
    report = app(ASK, OPENAI_BASE_URL=model.url, OPENAI_API_KEY="none")
    assert [found for found in report.findings if found["level"] != "pass"] == []
    told = "\n".join(report.of("app"))
    assert "the program ended with 0" in told
    assert "spanrelay_openai" in told and "SDKs that were imported: openai" in told
    assert "spans that arrived: 1, of model calls: 1" in told
    assert "hello" not in report.text, "nothing that was said is told"


# ── nothing arrives


def test_nothing_arrives_since_the_launcher_does_not_reach_the_program(app: Run) -> None:
    [told] = app(MODEL + "ask()", python="python -I").of("app", "fail")
    assert "the launcher has not reached the program" in told and "`python -I`" in told


def test_nothing_arrives_since_another_python_runs_the_program(app: Run, tmp_path: Path) -> None:
    venv.create(tmp_path / "other", with_pip=False)
    [packages] = (tmp_path / "other" / "lib").glob("python*/site-packages")
    packages_without(packages, "spanrelay")
    [told] = app("", python=str(tmp_path / "other" / "bin" / "python")).of("app", "fail")
    assert f"the program runs by {tmp_path}/other/bin/python, which has no SpanRelay" in told


def test_nothing_arrives_since_the_launcher_fails(app: Run, tmp_path: Path) -> None:
    distribution(tmp_path / "theirs", "acme", "[opentelemetry_instrumentor]\nacme = acme_broken:Instrumentor\n")
    (tmp_path / "theirs" / "acme_broken.py").write_text("class Instrumentor:\n    def __init__(self):\n        1 / 0\n")
    report = app(MODEL + "ask()", PYTHONPATH=str(tmp_path / "theirs"), OTEL_PYTHON_DISTRO="none")
    assert any("OpenTelemetry's launcher failed" in each for each in report.of("app", "fail"))


def test_nothing_arrives_since_nothing_known_is_imported(app: Run, tmp_path: Path) -> None:
    (tmp_path / "agents.py").write_text("# the program's own, called as the module of an SDK is\n")
    [told] = app("import agents\nprint('hello')").of("app", "fail")
    assert "imports no SDK that SpanRelay knows" in told


def test_nothing_arrives_since_the_program_does_not_start(app: Run) -> None:
    [told] = app("import no_such_package").of("app", "fail")
    assert "ended before it imported an SDK" in told


def test_nothing_arrives_since_recording_is_off_or_nothing_is_sampled(app: Run) -> None:
    assert any("OTEL_SDK_DISABLED is true" in told for told in app(MODEL, OTEL_SDK_DISABLED="true").of("app", "fail"))
    program = "import openai\n"
    report = app(program, OTEL_TRACES_SAMPLER="always_off")
    assert any("the sampler leaves each trace out" in told for told in report.of("app", "warn"))
    assert report.of("sampling", "fail")


def test_nothing_arrives_since_the_program_is_killed(app: Run) -> None:
    report = app(MODEL + "import os, signal\nask()\nos.kill(os.getpid(), signal.SIGKILL)\n")
    assert any("was ended by signal 9" in told for told in report.of("app", "warn"))
    assert any("spans were made, and none arrived" in told for told in report.of("app", "fail"))


def test_a_program_that_does_not_end_is_stopped(app: Run) -> None:
    report = app("import threading\nthreading.Event().wait()\n", "--seconds", "0.1")
    assert any("the program was stopped after 0.1 s" in told for told in report.of("app"))


def test_what_a_stopped_program_has_started_is_ended_too(tmp_path: Path) -> None:
    program = (
        "import pathlib, subprocess, sys, threading\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "pathlib.Path('half').write_text(str(child.pid))\npathlib.Path('half').rename('child')\n"
        "threading.Event().wait()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, start_new_session=True)
    awaited(lambda: (tmp_path / "child").exists())
    assert trial.end(process) == -signal.SIGTERM
    child = int((tmp_path / "child").read_text())
    awaited(lambda: not _runs(child))


def awaited(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"


# ── half arrives


def test_half_arrives_since_the_rest_is_asked_past_every_instrumentor(app: Run, model: ModelServer) -> None:
    url = model.url.replace("127.0.0.1", "api.anthropic.com")
    past = f"from urllib.request import urlopen\nurlopen({url!r} + '/chat/completions', b'{{}}')\n"
    report = app(
        MODEL + ELSEWHERE + "ask()\ntry:\n    " + past.replace("\n", "\n    ") + "\nexcept OSError:\n    pass\n"
    )
    assert any("spans that arrived: 1, of model calls: 1" in told for told in report.of("app"))
    [told] = report.of("app", "fail")
    assert "requests to anthropic past every instrumentor: 1" in told


def test_half_arrives_since_a_parent_never_ends(app: Run) -> None:
    program = "tracer = trace.get_tracer('acme')\nwith trace.use_span(tracer.start_span('run')):\n    ask()\n"
    [told] = app(MODEL + program).of("app", "fail")
    assert "spans whose parent has not arrived: 1, of spanrelay" in told


# ── wrong parent


def test_a_call_on_a_worker_that_was_started_before_has_lost_its_parent(app: Run) -> None:
    program = """
import contextvars, queue, threading
work, done = queue.Queue(), queue.Queue()
def worker():
    while (job := work.get()) is not None:
        done.put(job())
thread = threading.Thread(target=worker)
thread.start()
with spanrelay.scope("agent"):
    work.put(ask)
    done.get()
    context = contextvars.copy_context()
    work.put(lambda: context.run(ask))
    done.get()
work.put(None)
thread.join()
"""
    report = app(MODEL + program)
    assert any("spans that arrived: 3, of model calls: 2" in told for told in report.of("app"))
    [told] = report.of("app", "warn")
    assert (
        "calls that began a trace of their own while" in told
        and "on another thread: 1" in told
        and "contextvars.copy_context()" in told
    )


# ── works in process only


def test_what_works_in_process_and_does_not_arrive_is_the_endpoint(doctor: Doctor, collector: OtlpServer) -> None:
    collector.script = lambda body: 401
    (doctor.folder / "program.py").write_text(MODEL + "ask()")
    report = doctor("--app", "python program.py", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    assert any("spans that arrived: 1" in told for told in report.of("app", "pass"))
    assert report.of("app", "fail") == []
    assert any("the key is missing" in told for told in report.of("exporters", "fail"))
    assert len(collector.asked) == 1, "of the program nothing was sent there"


# ── twice


def test_a_call_that_another_instrumentation_tells_too_is_told_twice(app: Run) -> None:
    program = """
with trace.get_tracer("acme.tracing").start_as_current_span("chat m") as span:
    ask()
    told = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.response.id": "answer-1"}
    span.set_attributes(told)
"""
    [told] = app(MODEL + program).of("app", "fail")
    assert "model calls that are told twice, by acme.tracing and by spanrelay: 1" in told


def test_spans_that_two_exporters_send_to_one_place_arrive_twice(app: Run) -> None:
    program = """
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(headers={"team": "a"})))
ask()
"""
    assert any("spans that arrived twice: 1" in told for told in app(MODEL + program).of("app", "fail"))


# ── too much told


def test_content_and_keys_that_a_span_should_not_have_are_told_by_their_names_only(app: Run) -> None:
    program = """
with trace.get_tracer("acme.tracing").start_as_current_span("step") as span:
    span.set_attribute("input.value", "a word in confidence")
    span.set_attribute("acme.header", "Bearer abcdefghij0123456789")
ask()
"""
    report = app(MODEL + program)
    assert any("spans of acme.tracing have message content: input.value" in told for told in report.of("app", "fail"))
    assert "in confidence" not in report.text and "abcdefghij" not in report.text
    asked = app(MODEL + "ask()", OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT="span_only")
    assert any("spans have message content, as" in told for told in asked.of("app", "warn"))
    assert asked.of("content", "pass") or asked.of("content", "warn")


# ── what is asked of the command itself


def test_a_command_that_cannot_be_started_is_an_error(doctor: Doctor) -> None:
    with pytest.raises(SystemExit) as ended:
        doctor.plain("--offline", "--app", "")
    assert ended.value.code == 2
    assert doctor.plain("--offline", "--app", "no-such-program --x") == "", "nothing is looked at either"
