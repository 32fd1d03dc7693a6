"""Virtual environments of their own, cached outside the tree: what is compared must not share a site-packages.

An environment is built once for each list of requirements; nothing here touches the environment that runs it.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
CACHE = Path.home() / ".cache" / "spanrelay"


@dataclass(frozen=True)
class Environment:
    """One virtual environment: a short name, and what pip installs into it; `editable` are paths in this clone."""

    name: str
    requirements: Sequence[str]
    editable: Sequence[str] = ()

    @property
    def directory(self) -> Path:
        """Where it is."""
        return CACHE / f"bench-{self.name}"

    def program(self, name: str) -> str:
        """Return the path of one of its programs, building the environment first if need be.

        Raises:
            RuntimeError: it cannot be built; the message ends with pip's last line.
        """
        marker = self.directory / ".installed"
        parts = (sys.version, *self.requirements, *(ROOT / path for path in self.editable))
        wanted = hashlib.sha256(repr(parts).encode()).hexdigest()
        if not marker.exists() or marker.read_text() != wanted:
            self._build()
            marker.write_text(wanted)
        return str(self.directory / "bin" / name)

    def _build(self) -> None:
        print(f"building the environment {self.directory} (once)", file=sys.stderr)
        _run(sys.executable, "-m", "venv", "--clear", str(self.directory))
        local = [part for path in self.editable for part in ("--editable", str(ROOT / path))]
        pip = str(self.directory / "bin" / "pip")
        _run(pip, "install", "--quiet", "--disable-pip-version-check", *self.requirements, *local)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise RuntimeError(f"{command[0]} failed: {last}")
