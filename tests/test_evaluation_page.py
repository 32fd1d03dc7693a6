"""What `docs/evaluation.md` tells to type for other tools works with those tools, in an environment of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from tests.own_environment import alone_at
from tests.test_cli_export import weather
from tests.test_docs import FENCE, ROOT

from spanrelay_testkit import environments

HOME = Path.home() / ".cache" / "spanrelay" / f"evaluation-venv-{sys.version_info[0]}.{sys.version_info[1]}"
TOOLS = ("nvidia-nat-eval==1.9.0", "arize-phoenix-client==3.5.0")
READY = HOME / "ready"

pytestmark = pytest.mark.skipif(
    not (3, 11) <= sys.version_info[:2] <= (3, 13)
    or not (READY.exists() or os.environ.get("SPANRELAY_TEST_EVALUATION") == "1"),
    reason="set SPANRELAY_TEST_EVALUATION=1, on Python 3.11 to 3.13, to run the page with the tools that it is about",
)


def interpreter() -> Path:
    """Return the Python of the environment, made on first use."""
    with alone_at(HOME):
        if not READY.exists() or READY.read_text() != repr(TOOLS):
            environments.make(HOME)
            environments.install(HOME, TOOLS)
            READY.write_text(repr(TOOLS))
    return HOME / "bin" / "python"


def told_of(tool: str, folder: Path, **environment: str) -> str:
    """Run the block of the page that imports `tool`, where there are two trajectories; returns what it printed."""
    [block] = [
        found["source"]
        for found in FENCE.finditer((ROOT / "docs" / "evaluation.md").read_text())
        if f"from {tool}" in found["source"]
    ]
    (place := folder / ".spanrelay" / "trajectories").mkdir(parents=True)
    without = weather() | {"session_id": "other", "trajectory_id": "other"}
    without["steps"] = [{**without["steps"][1], "step_id": 1}, {**without["steps"][3], "step_id": 2}]
    for name, told in (("one", weather()), ("two", without)):
        told["agent"]["tool_definitions"].pop()
        (place / f"{name}.json").write_text(json.dumps(told))
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PHOENIX"))}
    done = subprocess.run(
        [interpreter(), "-c", block],
        cwd=folder,
        env={**outside, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def test_an_evaluator_of_the_nemo_agent_toolkit_judges_trajectories(tmp_path: Path) -> None:
    assert told_of("nat.plugins", tmp_path).splitlines()[-1] == "0.5"


class Phoenix(BaseHTTPRequestHandler):
    """Keeps spans and annotations, and gives the spans back as Phoenix 20 does: at first there is no such project."""

    asked: list[str]
    spans: list[dict[str, Any]]
    annotations: list[dict[str, Any]]

    def do_POST(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["data"]
        kept = self.spans if self.path.startswith("/v1/projects/weather/spans") else self.annotations
        kept.extend(sent)
        self._answer({"total_received": len(sent), "total_queued": len(sent), "data": []})

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self._answer({"data": self.spans, "next_cursor": None}, 200 if len(self.asked) > 1 else 404)

    def _answer(self, told: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *said: Any) -> None:
        """Say nothing."""


@contextmanager
def phoenix() -> Iterator[tuple[str, type[Phoenix]]]:
    kept = type("Kept", (Phoenix,), {"spans": [], "annotations": [], "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), kept) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", kept
        server.shutdown()


def test_phoenix_gets_the_spans_of_trajectories_and_what_they_were_judged(tmp_path: Path) -> None:
    with phoenix() as (url, kept):
        told_of("phoenix.client", tmp_path, PHOENIX_BASE_URL=url)
    names = [(span["span_kind"], span["name"]) for span in kept.spans]
    assert names.count(("TOOL", "get_weather")) == 2
    assert names.count(("LLM", "m")) == 3
    assert sorted(each["result"]["score"] for each in kept.annotations) == [0.0, 1.0]
