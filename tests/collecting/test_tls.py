"""The collector speaks TLS, and lets in whom the authority that it was given has a certificate for."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.collecting.certificates import Authority
from tests.collecting.test_collecting import documents_in, port_of, until

from spanrelay.collecting.serving import Options, start
from spanrelay.collecting.tls import Tls
from spanrelay.errors import ConfigurationError

CLIENT = """
import sys
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.exporter.otlp.proto.{protocol}.trace_exporter import OTLPSpanExporter
values = {{"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.conversation.id": "{session}"}}
exporter, results = OTLPSpanExporter(timeout=2), []
export = exporter.export
exporter.export = lambda spans: results.append(export(spans)) or results[-1]
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
provider.get_tracer("test").start_span("chat m", attributes=values).end()
provider.shutdown()
print(*(result.name for result in results))
"""
"""A program with the SDK's own exporter, which takes its settings from the environment; in a process of its own, since
the tests' trusts nobody."""


class Place(NamedTuple):
    """A collector that is running: where it listens, and who has issued its certificate."""

    folder: Path
    ports: dict[str, int]
    authority: Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"), "ours")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("others"), "ours")  # the same name, and another key


@contextmanager
def collector(folder: Path, authority: Authority, *options: str, host: str = "127.0.0.1") -> Iterator[Place]:
    certificate, key = authority.issue("server")
    pair = ("--tls-certificate", str(certificate), "--tls-key", str(key))
    places = ("--http", f"{host}:0", "--grpc", f"{host}:0", "--silence", "0.05")
    command = [sys.executable, "-m", "spanrelay", "collect", *places, *pair, *options, "-o", str(folder)]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "SPANRELAY_"))}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env={**clean, "TOKEN": "t" * 16}) as process:
        try:
            http = port_of(process)
            assert process.stdout is not None
            told = process.stdout.readline()
            assert "OTEL_EXPORTER_OTLP_ENDPOINT=https://" in told
            yield Place(folder, {"http": http, "grpc": int(told.partition("127.0.0.1:")[2].split()[0])}, authority)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)  # gRPC says of each handshake that fails
            assert process.returncode == 0
        finally:
            process.kill()


def exported(place: Place, protocol: str, session: str, client: tuple[Path, Path] | None = None, **more: str) -> str:
    """Export one span by the SDK's exporter, and return what it says became of it."""
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"https://localhost:{place.ports[protocol]}",
        "OTEL_EXPORTER_OTLP_CERTIFICATE": str(place.authority.path),
        **more,
    }
    if client is not None:
        settings["OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"], settings["OTEL_EXPORTER_OTLP_CLIENT_KEY"] = map(str, client)
    program = CLIENT.format(protocol=protocol, session=session)
    clean = {k: v for k, v in os.environ.items() if k not in ("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE")}  # requests' own
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, env={**clean, **settings}, check=True)
    return done.stdout.strip()


def test_a_client_with_a_certificate_of_the_authority_is_let_in_and_no_other(
    tmp_path: Path, authority: Authority, stranger: Authority
) -> None:
    ours, others = authority.issue("client"), stranger.issue("client")
    with collector(tmp_path / "runs", authority, "--tls-client-ca", str(authority.path)) as place:
        for protocol in ("http", "grpc"):
            assert exported(place, protocol, f"{protocol}-nobody") == "FAILURE"
            assert exported(place, protocol, f"{protocol}-other", others) == "FAILURE"
            assert exported(place, protocol, f"{protocol}-ours", ours) == "SUCCESS"
        until(lambda: set(documents_in(place.folder)) == {"http-ours.json", "grpc-ours.json"})
    assert set(documents_in(tmp_path / "runs")) == {"http-ours.json", "grpc-ours.json"}


def test_without_an_authority_tls_lets_in_whoever_knows_the_token(tmp_path: Path, authority: Authority) -> None:
    token = {"OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{'t' * 16}"}
    with collector(tmp_path / "runs", authority, "--token-variable", "TOKEN") as place:
        for protocol in ("http", "grpc"):
            assert exported(place, protocol, f"{protocol}-nobody") == "FAILURE"
            assert exported(place, protocol, f"{protocol}-known", **token) == "SUCCESS"
    assert set(documents_in(tmp_path / "runs")) == {"http-known.json", "grpc-known.json"}


def test_certificates_of_clients_do_where_others_can_connect(tmp_path: Path, authority: Authority) -> None:
    with collector(tmp_path / "runs", authority, "--tls-client-ca", str(authority.path), host="0.0.0.0") as place:
        assert exported(place, "http", "s", authority.issue("client")) == "SUCCESS"


def test_tls_alone_lets_nobody_in_from_elsewhere(tmp_path: Path, authority: Authority) -> None:
    tls = Tls(*authority.issue("server"))
    with pytest.raises(ConfigurationError, match="--tls-client-ca"):
        start(Options(tmp_path, http=("0.0.0.0", 0), grpc=None, tls=tls))


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read certificates of authorities, which tests do not."""
    monkeypatch.delattr(ssl.SSLContext, "load_verify_locations")


@pytest.mark.usefixtures("reading")
def test_files_that_are_none_are_told_by_name(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.issue("server")
    _, other = authority.issue("other")
    for wrong in (tmp_path / "missing.key", other, key.with_suffix(".locked"), authority.path):
        with pytest.raises(ConfigurationError, match=f"'{certificate}' and '{wrong}' must be a certificate"):
            Tls(certificate, wrong)
    for wrong in (tmp_path / "missing.pem", key):
        with pytest.raises(ConfigurationError, match=f"'{wrong}' must have certificates of authorities"):
            Tls(certificate, key, wrong)


@pytest.mark.parametrize(
    "given", [("--tls-certificate", "a.pem"), ("--tls-key", "a.key"), ("--tls-client-ca", "c.pem")]
)
def test_one_file_without_the_others_is_told(given: tuple[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "spanrelay", "collect", *given, "-o", str(tmp_path / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "--tls-certificate and --tls-key; name both" in done.stderr) == (1, True)
