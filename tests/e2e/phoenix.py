"""Phoenix, a trace UI, in an environment of its own: installed once outside the tree, started on free ports."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from tests.e2e.collector import await_ok
from tests.exporters.otlp_server import free_port

from spanrelay_testkit import environments

VERSION = "20.26.1"


def install(cache: Path) -> Path:
    """Return the `phoenix` command, installing it under `cache` first if it is not there.

    Raises:
        RuntimeError: It cannot be installed.
    """
    folder = cache / f"phoenix-{VERSION}"
    complete = folder / "complete"
    if not complete.exists():
        environments.make(folder, anew=True)
        environments.install(folder, [f"arize-phoenix=={VERSION}"])
        complete.touch()
    return folder / "bin" / "phoenix"


class Phoenix:
    """A running Phoenix with its database in `folder`."""

    def __init__(self, command: Path, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        log = folder / "phoenix.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [command, "serve"], env=self._environment(folder), stdout=output, stderr=output
            )
        try:
            await_ok(f"{self.url}/healthz", self._process, log, 180)
        except AssertionError:
            self.stop()
            raise

    def _environment(self, folder: Path) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("OTEL_")},
            "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_PORT": str(self.port),
            "PHOENIX_GRPC_PORT": str(free_port()),
            "PHOENIX_WORKING_DIR": str(folder),
            "PHOENIX_SQL_DATABASE_URL": f"sqlite:///{folder / 'phoenix.db'}",
            "PHOENIX_TELEMETRY_ENABLED": "false",
            "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
            "PHOENIX_AGENTS_DISABLE_BASH": "true",
            "PHOENIX_DISABLE_AGENT_ASSISTANT": "true",
        }

    def await_spans(self, project: str, count: int, seconds: float = 120) -> list[dict[str, Any]]:
        """The spans of a project by REST. It accepts spans long before it shows them, so this waits."""
        deadline = time.monotonic() + seconds
        url = f"{self.url}/v1/projects/{urllib.parse.quote(project)}/spans?limit=1000"
        found: list[dict[str, Any]] = []
        while len(found) < count and time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(url, timeout=10) as answer:
                    found = json.load(answer)["data"]
            except OSError:
                found = []  # the project does not exist before its first span
            time.sleep(0.2)
        return found

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
