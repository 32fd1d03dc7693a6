"""The tests of this package run in an environment of their own: the SDK brings a whole program along."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
HOME = Path.home() / ".cache" / "spanrelay" / f"claude-agent-sdk-venv-{sys.version_info[0]}.{sys.version_info[1]}"
PYTHON = HOME / "bin" / "python"
WANTED = os.environ.get("SPANRELAY_TEST_CLAUDE_AGENT_SDK") == "1"
PARTS = (".", "instrumentors/spanrelay-claude-agent-sdk", "testkit")
TOOLS = ("atif; python_version >= '3.11'", "hypothesis", "pytest", "pytest-asyncio", "tomli")


def interpreter() -> Path:
    """Return the Python of the environment, made or brought up to date."""
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", HOME], check=True)
    packages = [option for part in PARTS for option in ("--editable", str(ROOT / part))]
    command = [PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    constraints = ["--constraint", ROOT / "constraints.txt"]
    subprocess.run([*command, *constraints, *packages, *TOOLS, "claude-agent-sdk"], check=True)
    return PYTHON


@pytest.mark.skipif(
    find_spec("claude_agent_sdk") is not None or not WANTED,
    reason="set SPANRELAY_TEST_CLAUDE_AGENT_SDK=1 to install the Claude Agent SDK apart, and test with it",
)
def test_the_tests_of_this_package_pass_where_the_sdk_is() -> None:
    done = subprocess.run(
        [interpreter(), "-m", "pytest", "-q", "-rs", Path(__file__).parent],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    assert " passed" in done.stdout.splitlines()[-1]
