"""The real collector as a process on free ports, and what it wrote."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.exporters.otlp_server import free_port

CONFIG = Path(__file__).parents[2] / "collector-config" / "otelcol.yaml"
KAFKA, COLLECT = CONFIG.with_name("kafka.yaml"), CONFIG.with_name("collect.yaml")


def await_ok(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float) -> None:
    """Wait until `url` answers 200; fail with the end of the log when the process ends or time runs out."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"{url} does not answer; the end of {log.name}: {log.read_text()[-3000:]}")


def await_that(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


class Collector:
    """One place in the world for a collector: its ports, its folder, and the process when it runs."""

    def __init__(
        self,
        binary: Path,
        folder: Path,
        log: Path,
        *,
        backend: str | None = None,
        kafka: dict[str, str] | None = None,
        collect: dict[str, str] | None = None,
    ) -> None:
        self._binary = binary
        self._configs = [CONFIG, *([KAFKA] * (kafka is not None)), *([COLLECT] * (collect is not None))]
        self.folder = folder
        self.grpc_port, self.http_port, self._health_port = free_port(), free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.http_port}"
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = {
            **os.environ,
            "SPANRELAY_OTLP_GRPC_ENDPOINT": f"127.0.0.1:{self.grpc_port}",
            "SPANRELAY_OTLP_HTTP_ENDPOINT": f"127.0.0.1:{self.http_port}",
            "SPANRELAY_HEALTH_ENDPOINT": f"127.0.0.1:{self._health_port}",
            "SPANRELAY_TELEMETRY_PORT": str(free_port()),
            "SPANRELAY_OUTPUT_DIR": str(folder),
            "SPANRELAY_QUEUE_DIR": str(folder / "queue"),
            **(kafka or {}),
            **(collect or {}),
        }
        if backend is None:
            more = "" if collect is None else ", otlp_http/collect"
            self._environment["SPANRELAY_TRACES_EXPORTERS"] = f"[file/traces{more}]"
        else:
            self._environment["SPANRELAY_BACKEND_ENDPOINT"] = backend

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._binary, *(f"--config={each}" for each in self._configs)],
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        await_ok(f"http://127.0.0.1:{self._health_port}", self._process, self._log, 30)

    def stop(self) -> None:
        """Ask it to end, as `docker stop` does, and wait: its files are then complete."""
        if self._process is not None:
            self._process.terminate()
            assert self._process.wait(30) == 0, self._log.read_text()[-3000:]
            self._process = None

    def _requests(self, signal: str) -> Iterator[dict[str, Any]]:
        """The OTLP requests in the file of a signal; a missing file means that nothing arrived."""
        path = self.folder / f"{signal}.jsonl"
        if path.exists():
            yield from map(json.loads, path.read_text().splitlines())

    def text(self) -> str:
        """Everything it wrote, to search for what must not be there."""
        return "".join(path.read_text() for path in self.folder.glob("*.jsonl"))

    def spans(self) -> list[dict[str, Any]]:
        return [
            span
            for request in self._requests("traces")
            for resource in request["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]

    def metrics(self) -> list[dict[str, Any]]:
        return [
            metric
            for request in self._requests("metrics")
            for resource in request["resourceMetrics"]
            for scope in resource["scopeMetrics"]
            for metric in scope["metrics"]
        ]

    def logs(self) -> list[dict[str, Any]]:
        return [
            record
            for request in self._requests("logs")
            for resource in request["resourceLogs"]
            for scope in resource["scopeLogs"]
            for record in scope["logRecords"]
        ]


def attributes_of(item: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a span, event or record as a plain dict; OTLP JSON writes 64-bit integers as text."""
    return {
        each["key"]: int(value) if kind == "intValue" else value
        for each in item.get("attributes", [])
        for kind, value in each["value"].items()
    }
