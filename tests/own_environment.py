"""An environment of its own for programs whose packages no other test should have beside it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]


def programs_of(name: str, ours: Iterable[str], others: Iterable[str]) -> Path:
    """Return where the programs of environment `name` are, made or brought up to date.

    Args:
        name: Of the environment, in the user's cache folder.
        ours: Instrumentors of this repository, as `openai`.
        others: Requirements of other packages.
    """
    home = Path.home() / ".cache" / "spanrelay" / f"{name}-venv-{sys.version_info[0]}.{sys.version_info[1]}"
    if not (home / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
    parts = [ROOT, *(ROOT / "instrumentors" / f"spanrelay-{name}" for name in ours)]
    editable = [option for part in parts for option in ("--editable", part)]
    pip = [home / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "--constraint", ROOT / "constraints.txt", *editable, *others], check=True)
    return home / "bin"
