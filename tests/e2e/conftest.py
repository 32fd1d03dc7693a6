"""The collector and Phoenix for the tests; without what they need a test skips, or fails where it was required."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from tests.e2e import phoenix
from tests.e2e.collector import Collector
from tests.exporters.otlp_server import OtlpServer, Script

BUILD = Path(__file__).parents[2] / "collector-config" / "build"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "spanrelay"
NO_GO = 3

MakeCollector = Callable[..., Collector]
MakeServer = Callable[..., OtlpServer]


def cannot(reason: str) -> NoReturn:
    """Skip the test for `reason`; where the e2e tests are required, fail instead."""
    if os.environ.get("CI") == "true" and os.environ.get("SPANRELAY_E2E_REQUIRED") == "1":
        pytest.fail(f"required here, but: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def binary() -> Path:
    """The collector that `collector-config/build` makes."""
    build = subprocess.run([BUILD], capture_output=True, text=True)
    if build.returncode == NO_GO:
        cannot(build.stderr.strip())
    assert build.returncode == 0, build.stderr[-3000:]
    return Path(build.stdout.splitlines()[-1])


@pytest.fixture
def collectors(binary: Path, tmp_path: Path) -> Iterator[MakeCollector]:
    """Makes collectors with folders of their own, which they create; not started."""
    made: list[Collector] = []

    def make(output: Path | None = None, **options: Any) -> Collector:
        folder = output or tmp_path / f"collector-{len(made)}"
        log = tmp_path / f"collector-{len(made)}.log"
        made.append(Collector(binary, folder, log, **options))
        return made[-1]

    yield make
    for each in made:
        each.stop()


@pytest.fixture
def collector(collectors: MakeCollector) -> Collector:
    """A running collector that writes files only."""
    made = collectors()
    made.start()
    return made


@pytest.fixture
def serve() -> Iterator[MakeServer]:
    """Makes OTLP servers in this process, by script and port."""
    servers: list[OtlpServer] = []

    def make(script: Script = lambda body: 200, port: int = 0) -> OtlpServer:
        servers.append(OtlpServer(script, port))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def trace_ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[phoenix.Phoenix]:
    """A running Phoenix."""
    try:
        command = phoenix.install(CACHE)
    except RuntimeError as error:
        cannot(f"Phoenix cannot be installed: {error}")
    running = phoenix.Phoenix(command, tmp_path_factory.mktemp("phoenix"))
    yield running
    running.stop()
