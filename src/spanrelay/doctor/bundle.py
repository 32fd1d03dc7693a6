"""Writes an archive for whoever helps: versions, settings and findings, and no value that may be a secret.

What people and models said is not in it, nor the policy, nor any trajectory: it says so itself.
"""

from __future__ import annotations

import io
import json
import platform
import re
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

from opentelemetry.util._importlib_metadata import entry_points

from spanrelay import config
from spanrelay.assembly.sinks import write_whole
from spanrelay.doctor.findings import Case, Finding
from spanrelay.doctor.hiding import HIDDEN, Hiding, is_plain
from spanrelay.errors import SpanRelayError
from spanrelay.providers import SDKS

_TOLD = re.compile(r"(?:opentelemetry|openinference|spanrelay|traceloop|wrapt|orjson|protobuf|grpcio|requests|httpx)")
"""How names of distributions begin whose versions are told, beside those of SDKs."""

_GROUPS = ("distro", "configurator", "instrumentor", "pre_instrument", "post_instrument", "traces_exporter")

_LEFT_OUT = """\
What is in this archive: findings.json (what each check said), versions.json (Python, system, packages of OpenTelemetry,
of SpanRelay and of providers, entry points) and settings.json (OTEL_* and SPANRELAY_* variables, and no others).

What was left out:
- values of settings that are not numbers, words of that setting or plain addresses: "(hidden)"
- users, passwords, queries and long parts of paths in addresses; all headers
- the home folder, written as "~"
- policy files, trajectories, spans, and everything that people, models and tools said
- what the program printed, but for SpanRelay's own lines
"""


def write(path: Path, findings: list[Finding], case: Case) -> None:
    """Write the archive, readable by its owner only.

    Raises:
        SpanRelayError: the file cannot be written.
    """
    hiding = Hiding(case.environment)
    parts: dict[str, Any] = {
        "findings.json": [finding.as_json() for finding in findings],
        "versions.json": versions(),
        "settings.json": settings(case),
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("README.txt", _LEFT_OUT)
        for name, content in parts.items():
            text = hiding(json.dumps(content, indent=2, ensure_ascii=False))
            archive.writestr(name, text.replace(str(Path.home()), "~"))
    try:
        write_whole(path, packed.getvalue(), sync=False)
    except OSError as error:
        raise SpanRelayError(f"{str(path)!r} cannot be written: {error.strerror or error}") from error


def versions() -> dict[str, Any]:
    """Return what runs here: Python, the system, distributions and entry points that matter to a trace."""
    known = {sdk.package.lower() for sdk in SDKS}
    found = {
        dist.name: dist.version
        for dist in metadata.distributions()
        if dist.name and (dist.name.lower() in known or _TOLD.match(dist.name.lower()))
    }
    return {
        "python": sys.version.split()[0],
        "implementation": platform.python_implementation(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "packages": dict(sorted(found.items())),
        "entry points": {
            group: [f"{entry.name} = {entry.value}" for entry in entry_points(group=f"opentelemetry_{group}")]
            for group in _GROUPS
        },
    }


def settings(case: Case) -> dict[str, str]:
    """Return the variables of ours and of OpenTelemetry's that are set; what may be a secret is hidden."""
    ours = {row.variable for row in config.TABLE}
    return {
        name: value if is_plain(name, value) else HIDDEN
        for name, value in sorted(case.environment.items())
        if name in ours or name.startswith(("OTEL_", "SPANRELAY_"))
    }
