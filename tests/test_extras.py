"""`pip install '.[openai]'` works in a clone: extras bring what stands beside them, and everything those need."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]


def project_of(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text())


HOOK = project_of(ROOT)["tool"]["hatch"]["metadata"]["hooks"]["custom"]
NEEDS = {folder.name: project_of(folder)["project"]["dependencies"] for folder in (ROOT / "instrumentors").iterdir()}


def test_there_is_an_extra_for_each_instrumentor_and_all_has_every_one() -> None:
    names = {name.removeprefix("spanrelay-") for name in NEEDS}
    assert names <= HOOK["extras"].keys()
    assert names <= set(HOOK["all"])


@pytest.mark.parametrize("name", sorted(NEEDS))
def test_an_extra_brings_whatever_its_instrumentor_needs_of_ours(name: str) -> None:
    brought = HOOK["extras"][name.removeprefix("spanrelay-")]
    assert name in brought
    assert {need for need in NEEDS[name] if need.partition(" ")[0] != "spanrelay"} <= set(brought)


@pytest.mark.skipif(
    os.environ.get("SPANRELAY_TEST_EXTRAS") != "1", reason="set SPANRELAY_TEST_EXTRAS=1 to install them"
)
def test_all_extras_install_from_a_clone(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-c", ROOT / "constraints.txt"]
    subprocess.run([*pip, f"{ROOT}[all]"], check=True)
    instrumentors = """
import importlib.metadata as metadata
print(*{point.dist.name for point in metadata.entry_points(group="opentelemetry_instrumentor")})
"""
    told = subprocess.run([python, "-c", instrumentors], capture_output=True, text=True, check=True)
    assert NEEDS.keys() <= set(told.stdout.split())
