"""An environment that has NeMo Guardrails beside this one's packages: it brings too much to be installed here."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.own_environment import alone_at

from spanrelay_testkit import environments

ROOT = Path(__file__).parents[2]
HOME = Path.home() / ".cache" / "spanrelay" / f"nemo-guardrails-venv-{sys.version_info[0]}.{sys.version_info[1]}"
PYTHON = HOME / "bin" / "python"
READY = HOME / "ready"
WANTED = os.environ.get("SPANRELAY_TEST_NEMO") == "1"
PACKAGE = "nemoguardrails"

needs_environment = pytest.mark.skipif(
    find_spec(PACKAGE) is not None or not WANTED,
    reason="set SPANRELAY_TEST_NEMO=1 to install NeMo Guardrails apart, and test with it",
)


def interpreter() -> Path:
    """Return the Python of the environment, made on first use."""
    with alone_at(HOME):
        if not READY.exists():
            environments.make(HOME, anew=True)
            environments.install(HOME, [PACKAGE], constraints=ROOT / "constraints.txt")
            READY.touch()
    return PYTHON


def run_tests(path: Path) -> subprocess.CompletedProcess[str]:
    """Run the tests of `path` there, with this environment's packages before those of NeMo Guardrails."""
    ours = os.pathsep.join(folder for folder in sys.path if folder.endswith(("site-packages", "src")))
    return subprocess.run(
        [interpreter(), "-m", "pytest", "-q", "-rs", path],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": ours, "DO_NOT_TRACK": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
