"""No key and no content is printed, whatever line of the environment it was pasted into, nor put into a bundle."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest
from tests.doctor.doctors import Doctor
from tests.exporters.otlp_server import OtlpServer

from spanrelay import config
from spanrelay.doctor import bundle, table
from spanrelay.doctor.hiding import Hiding, address
from spanrelay.errors import SpanRelayError

CANARY = "canary4711secret"
KEY = "sk-canary4711secretcanary4711"

OTHERS = (
    "OTEL_TRACES_EXPORTER",
    "OTEL_METRICS_EXPORTER",
    "OTEL_LOGS_EXPORTER",
    "OTEL_PROPAGATORS",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_SERVICE_NAME",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_PYTHON_DISTRO",
    "OTEL_PYTHON_CONFIGURATOR",
    "OTEL_PYTHON_ID_GENERATOR",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_SPAN_EVENT_COUNT_LIMIT",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS",
    "OTEL_SEMCONV_STABILITY_OPT_IN",
    "OTEL_EXPORTER_OTLP_COMPRESSION",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_SDK_DISABLED",
    "SPANRELAY_TRAJECTORY",
    "SPANRELAY_QUITE",
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "ACME_PASSWORD",
)

FILES = {"SPANRELAY_TRAJECTORY_DIR", "SPANRELAY_ATOF_FILE", "SPANRELAY_CONFIG"}
"""The variables that name files: where they are is told."""

VARIABLES = sorted({*OTHERS, *(row.variable for row in config.TABLE)} - FILES)


@pytest.mark.parametrize("canary", [CANARY, KEY])
@pytest.mark.parametrize("some", range(6))
def test_what_was_pasted_into_any_variable_is_shown_nowhere(
    doctor: Doctor, tmp_path: Path, canary: str, some: int
) -> None:
    variables = dict.fromkeys(VARIABLES[some::6], canary)
    report = doctor("--bundle", str(tmp_path / "bundle.zip"), **variables)
    assert canary not in report.text
    with zipfile.ZipFile(tmp_path / "bundle.zip") as archive:
        assert not [part for part in archive.namelist() if canary.encode() in archive.read(part)]


def test_a_key_in_an_address_or_a_header_is_shown_nowhere(
    doctor: Doctor, collector: OtlpServer, tmp_path: Path
) -> None:
    collector.script = lambda body: 401
    host = collector.url.removeprefix("http://")
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://user-{CANARY}:pass-{CANARY}@{host}/{CANARY}-in-the-path?key={CANARY}",
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{CANARY},x-api-key={CANARY}",
    }
    report = doctor("--bundle", str(tmp_path / "bundle.zip"), **variables)
    assert any("401" in told for told in report.of("exporters", "fail"))
    assert CANARY not in report.text
    printed = doctor.plain(**variables)
    assert "401" in printed and CANARY not in printed
    with zipfile.ZipFile(tmp_path / "bundle.zip") as archive:
        assert CANARY not in "".join(archive.read(part).decode() for part in archive.namelist())


def test_a_bundle_has_versions_settings_and_findings_and_says_what_it_lacks(doctor: Doctor, tmp_path: Path) -> None:
    path = tmp_path / "bundle.zip"
    doctor(
        "--offline",
        "--bundle",
        str(path),
        OTEL_TRACES_SAMPLER="always_off",
        OTEL_SERVICE_NAME="shop",
        ACME_SETTING="other programs' own",
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert sorted(parts) == ["README.txt", "findings.json", "settings.json", "versions.json"]
    assert '"OTEL_TRACES_SAMPLER": "always_off"' in parts["settings.json"]
    assert '"OTEL_SERVICE_NAME": "(hidden)"' in parts["settings.json"]
    assert "ACME" not in parts["settings.json"]
    assert '"spanrelay": "' in parts["versions.json"] and '"openai": "' in parts["versions.json"]
    assert "no trace is sampled" in parts["findings.json"]
    assert "What was left out" in parts["README.txt"]


def test_a_bundle_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    bundle.write(tmp_path / "bundle.zip", [], table.case_here())
    with pytest.raises(SpanRelayError, match=r"'.*bundle.zip' cannot be written: No such file"):
        bundle.write(tmp_path / "no" / "bundle.zip", [], table.case_here())


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318"),
        ("https://u:p@otlp.example/v1/traces?key=x#y", "https://otlp.example/v1/traces"),
        ("https://otlp.example/abcdefghijklmnop/v1/traces", "https://otlp.example/…/v1/traces"),
        ("collector:4317", "collector:4317"),
    ],
)
def test_an_address_is_shown_without_what_may_be_a_key(given: str, shown: str) -> None:
    assert address(given) == shown


def test_a_short_or_ordinary_value_hides_no_other_words() -> None:
    hiding = Hiding({"OPENAI_API_KEY": "none", "OTEL_SERVICE_NAME": "span", "ACME_TOKEN": "abcdef123"})
    assert hiding("none of the spans has abcdef123 or OTEL_SERVICE_NAME='span'") == (
        "none of the spans has (hidden) or OTEL_SERVICE_NAME=(hidden)"
    )
