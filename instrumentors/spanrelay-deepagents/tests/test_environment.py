"""The tests of this package run in an environment of their own: Deep Agents need an older tenacity than others."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
HOME = Path.home() / ".cache" / "spanrelay" / f"deepagents-venv-{sys.version_info[0]}.{sys.version_info[1]}"
PYTHON = HOME / "bin" / "python"
WANTED = os.environ.get("SPANRELAY_TEST_DEEPAGENTS") == "1" and sys.version_info >= (3, 11)
UNDER = ("openai", "langchain", "langgraph", "deepagents")
PARTS = (".", *(f"instrumentors/spanrelay-{name}" for name in UNDER), "testkit")
TOOLS = ("atif", "hypothesis", "pytest", "pytest-asyncio", "tomli")


def interpreter() -> Path:
    """Return the Python of the environment, made or brought up to date."""
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", HOME], check=True)
    pip = [PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    constraints = HOME / "constraints.txt"
    constraints.write_text("\n".join(line for line in pinned if not line.startswith("tenacity==")))
    packages = [option for part in PARTS for option in ("--editable", str(ROOT / part))]
    subprocess.run([*pip, "--constraint", constraints, "pip"], check=True)  # an older one takes hours to resolve it
    subprocess.run([*pip, "--constraint", constraints, *packages, *TOOLS, "langchain-openai", "deepagents"], check=True)
    return PYTHON


@pytest.mark.skipif(
    find_spec("deepagents") is not None or not WANTED,
    reason="set SPANRELAY_TEST_DEEPAGENTS=1, on Python 3.11 or newer, to install Deep Agents apart and test with them",
)
def test_the_tests_of_this_package_pass_where_deep_agents_are() -> None:
    done = subprocess.run(
        [interpreter(), "-m", "pytest", "-q", "-rs", Path(__file__).parent],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    assert " passed" in done.stdout.splitlines()[-1]
