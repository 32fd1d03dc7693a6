"""The manifests of Kubernetes are as its schemas say, and start what is tested, as nobody that matters."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.own_environment import programs_of

from spanrelay.cli import make_parser

CONFIGURED = Path(__file__).parents[1] / "collector-config"
FILE = CONFIGURED / "kubernetes" / "manifests.yaml"
MANIFESTS: list[dict[str, Any]] = list(yaml.safe_load_all(FILE.read_text()))
PODS: dict[str, Any] = {
    each["metadata"]["name"]: each["spec"]["template"]["spec"] for each in MANIFESTS if "template" in each["spec"]
}


@pytest.mark.slow
def test_the_schemas_of_kubernetes_accept_them() -> None:
    programs = programs_of("kubernetes", (), ("kubernetes-validate",))
    told = subprocess.run([programs / "kubernetes-validate", "--strict", FILE], capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr


def test_what_the_assembler_is_told_is_what_the_command_takes() -> None:
    [container] = PODS["assembler"]["containers"]
    program, command = container["command"]
    assert program == "spanrelay"
    told = make_parser(command).parse_args([command, *container["args"]])
    status = next(port["containerPort"] for port in container["ports"] if port["name"] == "status")
    assert (told.http, told.output) == (f"0.0.0.0:{status}", container["volumeMounts"][0]["mountPath"])


def test_the_collector_is_the_one_that_is_tested_and_is_told_only_what_its_configuration_knows() -> None:
    [container] = PODS["collector"]["containers"]
    version = yaml.safe_load((CONFIGURED / "builder.yaml").read_text())["dist"]["version"]
    assert container["image"].endswith(f":{version}")
    configured = "".join((CONFIGURED / name).read_text() for name in ("otelcol.yaml", "kafka.yaml"))
    known = set(re.findall(r"\$\{env:(\w+)", configured))
    assert {each["name"] for each in container["env"]} <= known


@pytest.mark.parametrize("name", PODS)
def test_a_pod_runs_as_nobody_that_matters_and_writes_where_it_has_to_only(name: str) -> None:
    pod = PODS[name]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        asked = container["securityContext"]
        assert asked["readOnlyRootFilesystem"]
        assert (asked["allowPrivilegeEscalation"], asked["capabilities"]) == (False, {"drop": ["ALL"]})
        assert "memory" in container["resources"]["limits"]
