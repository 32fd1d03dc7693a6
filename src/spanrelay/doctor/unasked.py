"""Exporters of the file of `OTEL_CONFIG_FILE` that answer nothing: whether a program could make them, and what for.

None is made here: that would open a file or a port.
"""

from __future__ import annotations

import os
import socket
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from opentelemetry.util._importlib_metadata import entry_points

from spanrelay._guard import pass_on
from spanrelay.doctor.answers import NOUNS, PATIENCE_S
from spanrelay.doctor.declaration import Exporter
from spanrelay.doctor.findings import Finding

_PACKAGES = {
    "otlp_file_development": ("opentelemetry.exporter.otlp.json.file", "opentelemetry-exporter-otlp-json-file"),
    "prometheus_development": ("opentelemetry.exporter.prometheus", "opentelemetry-exporter-prometheus"),
}
"""What exporters that OpenTelemetry knows by name are made from: a module, and the package that has it."""

_STOPS = "OpenTelemetry stops there: what the file says behind it is not set up, and `spanrelay.activate()` raises"


class _Lack(NamedTuple):
    why: str
    cure: str


def unasked(exporter: Exporter, path: str, *, offline: bool) -> Finding:
    """Say where an exporter that cannot be asked sends, or what keeps a program from making it."""
    lack = _of_package(exporter) or _of_file(exporter)
    named = f"{exporter.shown} of {exporter.signal} in {path}"
    if lack is not None:
        return Finding("fail", f"{named} cannot be made: {lack.why}", _STOPS, lack.cure)
    noun = NOUNS[exporter.signal]
    if exporter.name == "prometheus_development":
        return _port(exporter, named, offline=offline)
    if exporter.name == "otlp_file_development":
        stream = exporter.said.output_stream or "stdout"
        return Finding("pass", f"{noun} go to {_path(stream) or 'standard output'}, by {named}")
    return Finding("pass", f"{noun} go to the exporter {exporter.shown!r}, which is not asked")


def _of_package(exporter: Exporter) -> _Lack | None:
    """Say what is not installed, or cannot be imported."""
    module, package = _PACKAGES.get(exporter.name, ("", ""))
    try:
        if module:
            import_module(module)
        elif exporter.group:
            next(iter(entry_points(group=exporter.group, name=exporter.name))).load()
    except StopIteration:
        return _Lack("nothing that is installed has an exporter of that name", "install the package that has it")
    except Exception as error:
        pass_on(error)
        cure = f"pip install {package}" if package else "install that package again"
        return _Lack(f"{type(error).__name__}: {' '.join(str(error).split())}", cure)
    return None


def _of_file(exporter: Exporter) -> _Lack | None:
    """Say why the file that is named cannot be written."""
    stream = exporter.said.output_stream if exporter.name == "otlp_file_development" else None
    if stream in (None, "stdout"):
        return None
    path = _path(stream)
    if path is None:
        return _Lack(
            "its output_stream is not an absolute file", "`output_stream: file:///folder/spans.jsonl`, or stdout"
        )
    if not path.parent.is_dir():
        return _Lack(f"there is no folder {path.parent}", f"mkdir -p {path.parent}")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        return _Lack(f"{path} cannot be written", "let the program write there, or name another file")
    return None


def _path(stream: str) -> Path | None:
    """Return the file of an `output_stream`, as OpenTelemetry reads it; None where it is none."""
    from opentelemetry.configuration import ConfigurationError, _common  # private, and the only one to read it

    try:
        path = _common._parse_otlp_file_output_stream(stream)
    except ConfigurationError:
        return None
    return None if path is None else Path(path)


def _port(exporter: Exporter, named: str, *, offline: bool) -> Finding:
    """Say where metrics are fetched; a port is one process's alone."""
    host, port = exporter.said.host or "localhost", exporter.said.port or 9464
    if not offline and _listens(host, port):
        return Finding(
            "warn",
            f"somebody listens at {host}:{port} already, where {named} is to listen",
            f"if that is another process, a worker of the same program among them: {_STOPS}",
            "`port: ${PROMETHEUS_PORT}` in the file, and another number for each process",
        )
    return Finding("pass", f"metrics are fetched from http://{host}:{port}/metrics, by {named}")


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), PATIENCE_S):
            return True
    except OSError:
        return False
