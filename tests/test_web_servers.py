"""A web server that is told to end, as at each deployment, sends and writes what its last requests made.

The servers are in an environment of their own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.own_environment import programs_of
from tests.programs import environment
from tests.telemetry.otlp_server import OtlpServer, free_port

from spanrelay_testkit.exchange import reply
from spanrelay_testkit.model_server import ModelServer

pytestmark = pytest.mark.skipif(
    os.environ.get("SPANRELAY_TEST_WEB_SERVERS") != "1",
    reason="set SPANRELAY_TEST_WEB_SERVERS=1 to install uvicorn, gunicorn and hypercorn apart",
)

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
    "hypercorn": ["hypercorn", "app:asgi", "--bind"],
}


@pytest.fixture(scope="module")
def programs() -> Path:
    return programs_of("web-servers", ("openai",), ("uvicorn", "gunicorn", "hypercorn", "openai"))


@pytest.fixture
def collector() -> Iterator[OtlpServer]:
    server = OtlpServer()
    yield server
    server.close()


def answered(url: str) -> None:
    """Ask until the server is there."""
    for _ in range(3000):
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                assert answer.read() == b"done"
            return
        except (ConnectionError, urllib.error.URLError):
            time.sleep(0.02)  # between two tries of what says nothing when it is ready
    raise AssertionError(f"nobody answers at {url}")


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
