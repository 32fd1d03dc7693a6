"""What the tests of the doctor share: a doctor in a folder of its own, and a collector."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.doctor.doctors import Doctor
from tests.exporters.otlp_server import OtlpServer


@pytest.fixture
def doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Doctor:
    return Doctor(tmp_path, monkeypatch, capsys)


@pytest.fixture
def collector() -> Iterator[OtlpServer]:
    server = OtlpServer()
    yield server
    server.close()
