"""The distributions of this clone: all have one version, and ask for the core of that version."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CORE = "spanrelay"
_VERSION = re.compile(r'^(__version__|version) = "([^"]+)"$', re.MULTILINE)
_PINNED = re.compile(r'"spanrelay == ([^"]+)"')


@dataclass(frozen=True)
class Project:
    """One distribution.

    Attributes:
        name: What it is installed by.
        version: Its version.
        folder: Where its `pyproject.toml` is.
        package: The folder of its package.
    """

    name: str
    version: str
    folder: Path
    package: Path

    @property
    def files(self) -> set[str]:
        """The files of its package, by their paths in a wheel."""
        found = (path for path in self.package.rglob("*") if path.is_file() and path.suffix != ".pyc")
        return {path.relative_to(self.package.parent).as_posix() for path in found}


def projects(root: Path) -> list[Project]:
    """Return what is released of a clone, the core first.

    Raises:
        SystemExit: they differ in their version, or one does not ask for the core of its own version.
    """
    found = [_read(root), *map(_read, sorted((root / "instrumentors").glob("spanrelay-*")))]
    faults = [fault for project in found for fault in _faults(project, found[0].version)]
    if faults:
        raise SystemExit("\n".join(faults))
    return found


def _read(folder: Path) -> Project:
    told: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text())
    [package] = told["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    return Project(told["project"]["name"], told["project"]["version"], folder, folder / package)


def _faults(project: Project, version: str) -> Iterator[str]:
    for path in _said_in(project):
        said = [each for _, each in _VERSION.findall(path.read_text())]
        if said != [version]:
            yield f"{path}: says version {', '.join(said) or 'nothing'}; expected {version!r}, as the core has"
    if project.name != CORE and _PINNED.findall((project.folder / "pyproject.toml").read_text()) != [version]:
        yield f'{project.folder / "pyproject.toml"}: must depend on "{CORE} == {version}"'


def _said_in(project: Project) -> tuple[Path, Path]:
    return project.folder / "pyproject.toml", project.package / "__init__.py"


def write_version(root: Path, version: str) -> list[Path]:
    """Write another version into every distribution of a clone; returns the files that changed."""
    changed: list[Path] = []
    folders = [root, root / "testkit", *sorted((root / "instrumentors").glob("spanrelay-*"))]
    for path in [path for folder in folders for path in (folder / "pyproject.toml", *_inits(folder))]:
        before = path.read_text()
        after = _VERSION.sub(rf'\1 = "{version}"', before)
        after = _PINNED.sub(f'"{CORE} == {version}"', after)
        if after != before:
            path.write_text(after)
            changed.append(path)
    return changed


def _inits(folder: Path) -> list[Path]:
    return sorted((folder / "src").glob("spanrelay*/__init__.py"))
