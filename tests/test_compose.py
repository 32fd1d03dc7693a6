"""The compose file publishes on this machine only, pins what it runs, and shuts what must be shut."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from spanrelay.cli import make_parser

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docker-compose.yml"
MANIFEST = ROOT / "collector-config" / "builder.yaml"
CONFIG = ROOT / "collector-config" / "otelcol.yaml"


@pytest.fixture
def services() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text())["services"]


def test_every_port_is_published_on_the_loopback_address(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_every_image_is_pinned_to_a_full_version(services: dict[str, Any]) -> None:
    for service in services.values():
        assert re.search(r":(version-)?\d+\.\d+\.\d+(-slim)?$", service["image"]), service["image"]


def test_the_collector_of_the_compose_file_is_the_one_that_is_tested(services: dict[str, Any]) -> None:
    version = yaml.safe_load(MANIFEST.read_text())["dist"]["version"]
    assert services["collector"]["image"].endswith(f":{version}")


def test_the_collector_is_told_only_what_its_configuration_knows(services: dict[str, Any]) -> None:
    collector = services["collector"]
    files = [option.rpartition("/")[2] for option in collector["command"]]
    assert {f"./collector-config/{name}:/etc/otelcol/{name}:ro" for name in files} <= set(collector["volumes"])
    known = set(re.findall(r"\$\{env:(\w+)", "".join((CONFIG.parent / name).read_text() for name in files)))
    assert set(collector["environment"]) <= known


def test_the_output_volume_is_given_to_the_user_of_the_collector(services: dict[str, Any]) -> None:
    assert "10001:10001 /output" in services["volume-owner"]["command"][-1]
    needs = services["collector"]["depends_on"]["volume-owner"]
    assert needs == {"condition": "service_completed_successfully"}
    assert "output:/output" in services["collector"]["volumes"]


def test_what_collects_is_told_what_the_command_takes_and_the_collector_sends_to_it(services: dict[str, Any]) -> None:
    collect, told = services["collect"], services["collector"]["environment"]
    install, start = collect["command"][-1].strip().splitlines()
    extra = install.partition("[")[2].partition("]")[0]
    assert extra == "collect"
    program, command, *arguments = shlex.split(start.removeprefix("exec "))
    assert program == "spanrelay"
    options = make_parser(command).parse_args([command, *arguments])
    port = options.http.rpartition(":")[2]
    assert told["SPANRELAY_COLLECT_ENDPOINT"] == f"http://collect:{port}"
    assert f"runs:{options.output}" in collect["volumes"]
    assert f"127.0.0.1:{port}/healthz" in collect["healthcheck"]["test"][-1]
    token = collect["environment"][options.token_variable]
    assert told["SPANRELAY_COLLECT_TOKEN"] == token
    assert re.fullmatch(r"\$\{SPANRELAY_COLLECT_TOKEN:-[a-z-]{16,}\}", token)
    assert "ports" not in collect


def test_the_trace_ui_runs_no_shell_and_no_assistant_and_reports_to_nobody(services: dict[str, Any]) -> None:
    environment = services["phoenix"]["environment"]
    assert environment["PHOENIX_AGENTS_DISABLE_BASH"] == "true"
    assert environment["PHOENIX_DISABLE_AGENT_ASSISTANT"] == "true"
    assert environment["PHOENIX_TELEMETRY_ENABLED"] == "false"


def test_content_is_switched_on_for_the_example_only(services: dict[str, Any]) -> None:
    variable = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
    asking = [name for name, service in services.items() if variable in service.get("environment", {})]
    assert asking == ["example"]
    assert services["example"]["profiles"] == ["example"]


def test_compose_itself_accepts_the_file() -> None:
    compose = shutil.which("docker-compose")
    if compose is None:
        pytest.skip("docker-compose is not installed")
    done = subprocess.run([compose, "-f", FILE, "config", "--quiet"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
