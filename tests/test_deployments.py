"""The programs of `docs/deploy.md`, started, asked and ended as each platform does it."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tests import deployment_programs
from tests.deployment_programs import APP, HANDLER
from tests.exporters.otlp_server import OtlpServer, free_port
from tests.own_environment import ROOT
from tests.programs import environment
from tests.test_web_servers import served

from spanrelay_testkit.model_scripts import echo
from spanrelay_testkit.model_server import ModelServer

pytestmark = deployment_programs.wanted


@pytest.fixture(scope="module")
def programs() -> Path:
    return deployment_programs.programs()


@pytest.fixture
def collector() -> Iterator[OtlpServer]:
    server = OtlpServer()
    yield server
    server.close()


@pytest.fixture
def settings(collector: OtlpServer, programs: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Of a program in `tmp_path` that has a model to ask, and sends nothing before its end but what it flushes."""
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "function.py").write_text(HANDLER)
    with ModelServer(echo) as models:
        yield environment(
            models,
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
                "OTEL_BSP_SCHEDULE_DELAY": "3600000",
                "OTEL_METRICS_EXPORTER": "none",
                "SPANRELAY_TRAJECTORIES": "off",
                "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONPATH": str(tmp_path),
            },
        )


@contextmanager
def started(command: list[str], folder: Path, settings: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command, cwd=folder, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def child_of(process: subprocess.Popen[str]) -> int:
    """The first child of a process, once there is one."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 60
    while not (found := children.read_text().split()):
        assert time.monotonic() < deadline, "no child was started"
        time.sleep(0.02)  # between two looks for what says nothing when it is ready
    return int(found[0])


IN_CONTAINER = ["unshare", "--pid", "--mount", "--fork", "--mount-proc", "sh", "-ec"]
READ_ONLY = 'mount --bind . . && mount -o remount,bind,ro . && cd "$PWD" && exec "$@"'


@pytest.mark.skipif(
    shutil.which("unshare") is None or os.geteuid() != 0, reason="namespaces of processes and mounts are root's to make"
)
def test_the_first_process_of_a_container_that_is_read_only_sends_all_at_sigterm(
    settings: dict[str, str], collector: OtlpServer, tmp_path: Path
) -> None:
    port = free_port()
    serve = ["opentelemetry-instrument", "gunicorn", "app:wsgi", "--no-control-socket", "--bind", f"127.0.0.1:{port}"]
    with started([*IN_CONTAINER, READ_ONLY, "sh", *serve], tmp_path, settings) as process:
        assert served(f"http://127.0.0.1:{port}/hello") == b"You said: hello"
        os.kill(child_of(process), signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
    assert collector.span_names() == ["chat gpt-5-mini"], said
    assert "lost or left out" not in said


def test_the_page_is_served_by_uvicorn(settings: dict[str, str], collector: OtlpServer, tmp_path: Path) -> None:
    port = free_port()
    with started(
        ["opentelemetry-instrument", "uvicorn", "app:asgi", "--port", str(port)], tmp_path, settings
    ) as process:
        assert served(f"http://127.0.0.1:{port}/hello") == b"You said: hello"
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
    assert collector.span_names() == ["chat gpt-5-mini"], said


class LambdaService:
    """Lambda's runtime API: hands out events, and hears that the runtime asks for the next, when it would be frozen."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self._events: queue.Queue[bytes] = queue.Queue()
        self._idle = threading.Semaphore(0)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer._idle.release()
                self._answer(200, outer._events.get())

            def do_POST(self) -> None:
                outer.answers.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self._answer(202, b"")

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Lambda-Runtime-Aws-Request-Id", "r-1")
                self.send_header("Lambda-Runtime-Deadline-Ms", str(time.time_ns() // 1_000_000 + 60_000))
                self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:eu-west-1:1:function:f")
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def wait(self) -> None:
        """Wait until the runtime has nothing more to do for the event that it was given."""
        assert self._idle.acquire(timeout=60), "the runtime never asked for an event"

    def invoke(self, event: dict[str, str]) -> None:
        self._events.put(json.dumps(event).encode())
        self.wait()

    def close(self) -> None:
        self._events.put(b"{}")
        self._server.shutdown()
        self._server.server_close()


def test_what_a_lambda_function_did_has_arrived_when_it_is_frozen(
    settings: dict[str, str], collector: OtlpServer, programs: Path, tmp_path: Path
) -> None:
    service = LambdaService()
    named = {"AWS_LAMBDA_RUNTIME_API": service.address, "AWS_LAMBDA_FUNCTION_NAME": "f"}
    command = ["opentelemetry-instrument", str(programs / "python"), "-m", "awslambdaric", "function.handler"]
    with started(command, tmp_path, settings | named):
        service.wait()
        for count in (1, 2):
            service.invoke({"session": "s-1", "question": f"hello {count}"})
            assert collector.span_names() == ["chat gpt-5-mini", "invoke_agent helper"] * count
    service.close()
    assert service.answers == [{"answer": "You said: hello 1"}, {"answer": "You said: hello 2"}]


def test_a_program_that_knows_nothing_of_it_is_recorded_in_the_environment_that_the_operator_sets(
    settings: dict[str, str], collector: OtlpServer, programs: Path, tmp_path: Path
) -> None:
    scheme = {"base": str(programs.parent), "platbase": str(programs.parent)}
    copied = sysconfig.get_path("purelib", vars=scheme)
    # What is installed to be edited is where it is edited; the image that an operator copies holds it.
    ours = [str(ROOT / "src"), str(ROOT / "instrumentors" / "spanrelay-openai" / "src")]
    operator = {
        "PYTHONPATH": os.pathsep.join((f"{copied}/opentelemetry/instrumentation/auto_instrumentation", copied, *ours)),
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_LOGS_EXPORTER": "otlp",
        "OTEL_SERVICE_NAME": "shop",
        "OTEL_RESOURCE_ATTRIBUTES": "k8s.namespace.name=default,k8s.pod.name=shop-1",
        "OTEL_PROPAGATORS": "tracecontext,baggage",
    }
    python = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    ask = 'import app; print(app.ask("hello"))'
    done = subprocess.run(
        [python, "-c", ask], cwd=tmp_path, env=settings | operator, capture_output=True, text=True, check=True
    )
    assert done.stdout == "You said: hello\n"
    [body] = (body for path, body in collector.accepted if path == "/v1/traces")
    [spans] = ExportTraceServiceRequest.FromString(body).resource_spans
    resource = {each.key: each.value.string_value for each in spans.resource.attributes}
    assert (resource["service.name"], resource["k8s.pod.name"]) == ("shop", "shop-1")
    assert collector.span_names() == ["chat gpt-5-mini"]
