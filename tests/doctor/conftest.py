"""What the tests of the doctor share: a doctor in a folder of its own, and a collector."""

from __future__ import annotations

import functools
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.doctor.doctors import Doctor
from tests.exporters.otlp_server import OtlpServer

from spanrelay.doctor import importing


@functools.cache
def import_faults(modules: tuple[str, ...], path: tuple[str, ...], environment: frozenset[tuple[str, str]]) -> Any:
    """What importing says, once for each set of packages: it takes a second and the same comes of it."""
    return _import_faults(modules, dict(environment))


_import_faults = importing.import_faults


@pytest.fixture(autouse=True)
def _each_import_once(monkeypatch: pytest.MonkeyPatch) -> None:
    python = ("PATH", "PYTHON", "HOME")

    def once(modules: Sequence[str], environment: Mapping[str, str]) -> Any:
        kept = frozenset(each for each in environment.items() if each[0].startswith(python))
        return import_faults(tuple(modules), tuple(sys.path), kept)

    monkeypatch.setattr(importing, "import_faults", once)


@pytest.fixture
def doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Doctor:
    return Doctor(tmp_path, monkeypatch, capsys)


@pytest.fixture
def collector() -> Iterator[OtlpServer]:
    server = OtlpServer()
    yield server
    server.close()


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A server that takes spans over TLS: where it is, and the certificate, which nobody trusts."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run(
        ["openssl", *made.split(), "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True
    )
    server = OtlpServer()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
    yield f"https://localhost:{server.port}", certificate
    server.close()
