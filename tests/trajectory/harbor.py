"""Harbor's own validator, in an environment of its own: it needs a newer Python than this project."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path.home() / ".cache" / "spanrelay" / "harbor-venv"
PYTHON = HOME / "bin" / "python"
READY = HOME / "ready"
WANTED = os.environ.get("SPANRELAY_TEST_HARBOR") == "1"


def candidates() -> list[Path]:
    """Return where a Python of 3.12 or later may be."""
    here = [Path(sys.executable)] if sys.version_info >= (3, 12) else []
    named = [Path(folder) / f"python3.{minor}" for folder in os.get_exec_path() for minor in (13, 12)]
    pyenv = sorted((Path.home() / ".pyenv" / "versions").glob("3.1[2-9]*/bin/python"))
    return here + pyenv + named  # pyenv's own names on the path stand for versions that may be off


needs_harbor = pytest.mark.skipif(
    not (READY.exists() or (WANTED and any(path.exists() for path in candidates()))),
    reason="set SPANRELAY_TEST_HARBOR=1, with a Python of 3.12 or later, to install and ask Harbor's validator",
)

CHECK = """
import sys
from harbor.utils.trajectory_validator import TrajectoryValidator
wrong = 0
for path in sys.argv[1:]:
    validator = TrajectoryValidator()
    from pathlib import Path
    if not validator.validate(Path(path)):
        wrong += 1
        print(path, validator.get_errors())
sys.exit(wrong)
"""


def interpreter() -> Path:
    """Return the Python of Harbor's environment, made on first use."""
    if not READY.exists():
        newer = next(path for path in candidates() if path.exists())
        subprocess.run([newer, "-m", "venv", HOME], check=True)
        subprocess.run([PYTHON, "-m", "pip", "install", "-q", "harbor"], check=True)
        READY.touch()
    return PYTHON


def complaints(paths: list[Path]) -> str:
    """Return what Harbor says against documents: nothing where all are right."""
    done = subprocess.run([interpreter(), "-c", CHECK, *paths], capture_output=True, text=True, check=False)
    return done.stdout + (done.stderr if done.returncode else "")
