"""A server or a queue's worker that is told to end, as at each deployment, sends and writes what it made last.

They are in an environment of their own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import deployment_programs
from tests.exporters.otlp_server import OtlpServer, free_port
from tests.programs import environment

from spanrelay.collecting import serving as collecting
from spanrelay_testkit.exchange import reply
from spanrelay_testkit.model_server import ModelServer

pytestmark = deployment_programs.wanted

APP = """
import openai

client = openai.AsyncOpenAI()

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["path"] == "/ask":
        await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hello"}])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})

plain = openai.OpenAI

def wsgi(environ, start_response):
    if environ["PATH_INFO"] == "/ask":
        plain().chat.completions.create(model="m", messages=[{"role": "user", "content": "hello"}])
    start_response("200 OK", [("content-length", "4")])
    return [b"done"]
"""

SERVERS = {
    "uvicorn": ["uvicorn", "app:asgi", "--host", "127.0.0.1", "--port"],
    "uvicorn with two workers": ["uvicorn", "app:asgi", "--workers", "2", "--host", "127.0.0.1", "--port"],
    "gunicorn": ["gunicorn", "app:wsgi", "--workers", "2", "--bind"],
    "gunicorn with uvicorn's workers": [
        *("gunicorn", "app:asgi", "--worker-class", "uvicorn_worker.UvicornWorker", "--workers", "2", "--bind")
    ],
    "hypercorn": ["hypercorn", "app:asgi", "--bind"],
}


@pytest.fixture(scope="module")
def programs() -> Path:
    return deployment_programs.programs()


@pytest.fixture
def collector() -> Iterator[OtlpServer]:
    server = OtlpServer()
    yield server
    server.close()


def served(url: str) -> bytes:
    """Ask until the server is there, and return what it answered."""
    for _ in range(3000):
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return bytes(answer.read())
        except (ConnectionError, urllib.error.URLError):
            time.sleep(0.02)  # between two tries of what says nothing when it is ready
    raise AssertionError(f"nobody answers at {url}")


def answered(url: str) -> None:
    """Ask until the server is there."""
    assert served(url) == b"done"


@pytest.mark.parametrize("launched", [True, False], ids=["launched", "activated"])
@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
def test_what_the_last_requests_made_arrives_when_a_server_is_terminated(
    server: list[str], launched: bool, programs: Path, collector: OtlpServer, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(APP if launched else f"import spanrelay\nspanrelay.activate()\n{APP}")
    port = free_port()
    where = str(port) if server[-1] == "--port" else f"127.0.0.1:{port}"
    command = [*(["opentelemetry-instrument"] if launched else []), *server, where]
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "3600000",  # nothing is sent before the end
        "OTEL_METRICS_EXPORTER": "none",
        "PYTHONPATH": str(tmp_path),
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
    }
    with ModelServer(lambda request: reply("hello")) as models:
        process = subprocess.Popen(
            [programs / command[0], *command[1:]],
            cwd=tmp_path,
            env=environment(models, settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        answered(f"http://127.0.0.1:{port}/")
        for _ in range(4):
            answered(f"http://127.0.0.1:{port}/ask")
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=100)
    assert collector.span_names() == ["chat m"] * 4, said
    folder = tmp_path / ".spanrelay" / "trajectories"
    assert not list(folder.glob("*.part")), said
    assert "lost or left out" not in said


TASKS = """
import pathlib
import celery
import spanrelay

app = celery.Celery("tasks", broker="filesystem://")
app.conf.broker_transport_options = {"data_folder_in": "broker", "data_folder_out": "broker"}

@app.task
def work(number):
    spanrelay.run_tool(f"tool {number}", lambda x: x, {"x": number})
    pathlib.Path(f"done-{number}").touch()
"""


@pytest.mark.parametrize("options", [(), ("--max-tasks-per-child", "1")], ids=["at the end", "after each task"])
def test_what_the_children_of_celery_recorded_arrives_when_they_end(
    options: tuple[str, ...], programs: Path, collector: OtlpServer, tmp_path: Path
) -> None:
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "broker").mkdir()
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "3600000",  # nothing is sent before the end
        "OTEL_METRICS_EXPORTER": "none",
    }
    send = "import tasks\nfor number in range(4): tasks.work.delay(number)"
    ours = environment(None, settings)
    subprocess.run([programs / "python", "-c", send], cwd=tmp_path, env=ours, check=True)
    worker = [programs / "opentelemetry-instrument", programs / "celery", "-A", "tasks", "worker", "-c", "2", *options]
    process = subprocess.Popen(
        worker, cwd=tmp_path, env=ours, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("done-*"))) < 4:
        assert time.monotonic() < deadline, "the tasks were never done"
        time.sleep(0.02)  # between two looks for what says nothing when it is ready
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=100)
    assert sorted(collector.span_names()) == [f"execute_tool tool {number}" for number in range(4)], said
    assert not list((tmp_path / ".spanrelay" / "trajectories").glob("*.part")), said
    assert "lost or left out" not in said


LATE = """
import spanrelay
spanrelay.activate()
spanrelay.subscribe(print)
from gevent import monkey
monkey.patch_all()
import gevent
gevent.joinall([gevent.spawn(spanrelay.run_tool, f"tool {number}", lambda: 1) for number in range(20)])
assert spanrelay.flush(60)
"""


def test_a_program_that_gevent_patches_after_activation_goes_on(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(LATE)
    done = subprocess.run(
        [programs / "python", "-W", "ignore", "program.py"],
        cwd=tmp_path,
        env=environment(None, {"SPANRELAY_QUIET": "true"}),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list((tmp_path / ".spanrelay" / "trajectories").glob("*.json"))) == 20


SESSION = """
import os
import openai
import spanrelay

def wsgi(environ, start_response):
    question = environ["PATH_INFO"].strip("/")
    if question:
        with spanrelay.scope("bot", session="s-1"):
            openai.OpenAI().chat.completions.create(model="m", messages=[{"role": "user", "content": question}])
    start_response("200 OK", [])
    return [str(os.getpid()).encode()]
"""


def test_two_workers_that_serve_one_session_leave_one_document(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(SESSION)
    port, asked = free_port(), []
    collector = collecting.start(collecting.Options(tmp_path / "runs", http=("127.0.0.1", 0), grpc=None))
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.http_port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "span_only",
        "SPANRELAY_TRAJECTORIES": "off",
        "PYTHONPATH": str(tmp_path),
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
    }
    try:
        with ModelServer(lambda request: reply("hello")) as models:
            command = [
                "opentelemetry-instrument",
                "gunicorn",
                "app:wsgi",
                "--workers",
                "2",
                "--bind",
                f"127.0.0.1:{port}",
            ]
            process = subprocess.Popen(
                [programs / command[0], *command[1:]],
                cwd=tmp_path,
                env=environment(models, settings),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            workers: set[bytes] = set()
            while len(workers) < 2 or len(asked) < 4:  # until both have served the session
                assert len(asked) < 3_000, "one of the workers serves nothing"
                asked.append(f"question {len(asked)}")
                workers.add(served(f"http://127.0.0.1:{port}/{asked[-1].replace(' ', '%20')}"))
            process.send_signal(signal.SIGTERM)
            said, _ = process.communicate(timeout=100)
    finally:
        collector.stop()
    [document] = (tmp_path / "runs").glob("*.json")
    steps = json.loads(document.read_text())["steps"]
    assert [step["message"] for step in steps if step["source"] == "user"] == asked, said
    assert document.name == "s-1.json"
