"""Virtual environments of their own, cached outside the tree: what is compared must not share a site-packages.

An environment is built once for each list of requirements; nothing here touches the environment that runs it.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spanrelay"

_INSTRUMENTORS = ("openai", "langchain", "langgraph", "anthropic", "google-genai", "bedrock")
OURS = (".", *(f"instrumentors/spanrelay-{name}" for name in _INSTRUMENTORS))
"""The packages of a tree that the rows measure."""


@dataclass(frozen=True)
class Environment:
    """One virtual environment: a short name, and what pip installs into it; `editable` are paths in `tree`.

    What another tree than this clone is installed into stands beside that tree.
    """

    name: str
    requirements: Sequence[str]
    editable: Sequence[str] = ()
    tree: Path = ROOT
    constraints: Path | None = None

    @property
    def directory(self) -> Path:
        """Where it is."""
        return (CACHE if self.tree == ROOT else self.tree.parent) / f"bench-{self.name}"

    def program(self, name: str) -> str:
        """Return the path of one of its programs, building the environment first if need be.

        Raises:
            RuntimeError: it cannot be built; the message ends with pip's last line.
        """
        marker = self.directory / ".installed"
        wanted = hashlib.sha256(repr(self._contents()).encode()).hexdigest()
        if not marker.exists() or marker.read_text() != wanted:
            self._build()
            marker.write_text(wanted)
        return str(self.directory / "bin" / name)

    def run(self, module: str, *arguments: str, timeout: float, added: Mapping[str, str] | None = None) -> str:
        """Run a module of this clone's benchmarks in it and return the last line that was printed.

        Args:
            module: Its dotted name.
            arguments: What follows on the command line.
            timeout: Seconds.
            added: Variables beside `variables()`.

        Raises:
            RuntimeError: the environment cannot be built, or the module failed; the message ends with the last line.
            subprocess.TimeoutExpired: it took longer.
        """
        done = subprocess.run(
            (self.program("python"), "-m", module, *arguments),
            cwd=ROOT,
            env={**variables(), **(added or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        if done.returncode:
            raise RuntimeError(f"exit status {done.returncode}: {_last_line(done.stderr or done.stdout)}")
        return _last_line(done.stdout)

    def _contents(self) -> tuple[object, ...]:
        folders = [self.tree / path for path in self.editable]
        projects = [(str(folder), (folder / "pyproject.toml").read_text()) for folder in folders]
        return (sys.version, *self.requirements, *projects, self.constraints and self.constraints.read_text())

    def _build(self) -> None:
        print(f"building the environment {self.directory} (once)", file=sys.stderr)
        # What runs in an environment of an earlier revision has its testkit; only builders need this.
        from spanrelay_testkit import environments

        environments.make(self.directory, anew=True)
        local = [part for path in self.editable for part in ("--editable", self.tree / path)]
        environments.install(self.directory, [*self.requirements, *local], constraints=self.constraints)


def tree_of(package: str) -> Path:
    """Return the tree that a package of this environment stands in: this clone, or that of an earlier revision."""
    found = find_spec(package)
    tree = Path(found.origin).parents[2] if found is not None and found.origin else ROOT
    return tree if (tree / "pyproject.toml").exists() else ROOT


def variables() -> dict[str, str]:
    """Return the variables of this process, without those that change what is measured."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYTHON", "SPANRELAY_"))}


def _last_line(output: str) -> str:
    return (output.strip() or "no output").splitlines()[-1]
