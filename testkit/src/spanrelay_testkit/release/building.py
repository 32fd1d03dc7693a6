"""Makes the wheel and the source distribution of a project, as an index is given them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from spanrelay_testkit.release.projects import Project


@dataclass(frozen=True)
class Built:
    """The files of one distribution."""

    project: Project
    wheel: Path
    sdist: Path


def build(project: Project, target: Path, licence: Path) -> Built:
    """Build a project into a folder.

    The clone has its licence once; each distribution is built with a copy of it.

    Raises:
        SystemExit: it cannot be built; what the builder said has been printed.
    """
    with TemporaryDirectory() as folder:
        copy = Path(folder, project.folder.name)
        shutil.copytree(project.folder, copy, ignore=_left_out(project.folder))
        shutil.copy(licence, copy / "LICENSE")
        # Without a front end, which would make an environment for each.
        command = [sys.executable, "-m", "hatchling", "build", "--directory", str(target)]
        released = {**os.environ, "SPANRELAY_RELEASE": "1"}
        done = subprocess.run(command, cwd=copy, env=released, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
        raise SystemExit(f"{project.name} cannot be built; {' '.join(command)} said why above")
    stem = f"{project.name.replace('-', '_')}-{project.version}"
    return Built(project, target / f"{stem}-py3-none-any.whl", target / f"{stem}.tar.gz")


def _left_out(folder: Path) -> Callable[[str, list[str]], list[str]]:
    """Return what tells the names that are not copied: of the core's folder, which is the clone's, all but its own."""
    own = {"src", "pyproject.toml", "README.md", "hatch_build.py"}

    def ignore(path: str, names: list[str]) -> list[str]:
        return [name for name in names if name == "__pycache__" or (Path(path) == folder and name not in own)]

    return ignore
