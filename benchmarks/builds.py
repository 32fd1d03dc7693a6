"""Builds of SpanRelay to be measured: this tree, and any revision of it, each in an environment of its own.

A revision's files and its environment are cached by its commit, outside the tree; git's worktrees are left alone.
"""

from __future__ import annotations

import subprocess
import tempfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environments import CACHE, OURS, ROOT, Environment

_REQUIREMENTS = ("openai", "langchain", "langgraph", "opentelemetry-exporter-otlp")
"""What the rows use beside our packages, in the versions of this tree's constraints whatever the build."""
_NEEDED = ("pyproject.toml", "instrumentors/spanrelay-openai/pyproject.toml")


class NoBuild(Exception):
    """A revision cannot be built; the message is one sentence."""


@dataclass(frozen=True)
class Build:
    """A build: what tables and notes call it, its commit, and the environment that has its packages."""

    title: str
    commit: str
    environment: Environment


def this_tree() -> Build:
    """Return the tree as it stands, with what is not committed."""
    commit = _commit("HEAD")
    changed = ", with changes that are not committed" if _git("status", "--porcelain") else ""
    name = f"this-tree-{zlib.crc32(bytes(ROOT)):08x}"  # other clones have the same cache
    return Build(f"this tree ({commit[:9]}{changed})", commit, _environment(name, ROOT))


def of_revision(revision: str) -> Build:
    """Return the build of a revision, named as git names it.

    Raises:
        NoBuild: git knows no such revision, or it has not the packages that rows measure.
    """
    commit = _commit(revision)
    missing = [path for path in _NEEDED if not _exists(commit, path)]
    if missing:
        raise NoBuild(f"revision {revision!r} ({commit[:9]}) cannot be measured: it has no {' and no '.join(missing)}")
    return Build(f"{revision} ({commit[:9]})", commit, _environment("build", _files(commit)))


def _environment(name: str, tree: Path) -> Environment:
    packages = tuple(path for path in OURS if (tree / path / "pyproject.toml").exists())
    return Environment(name, _REQUIREMENTS, packages, tree, ROOT / "constraints.txt")


def _files(commit: str) -> Path:
    """Return the folder with the files of a commit, written there at once or not at all."""
    tree = CACHE / "builds" / commit[:12] / "tree"
    if not tree.exists():
        tree.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=tree.parent) as folder:
            archive, files = Path(folder, "archive.tar"), Path(folder, "tree")
            _git("archive", "--output", str(archive), commit)
            files.mkdir()
            subprocess.run(("tar", "-xf", archive, "-C", files), check=True)
            with suppress(OSError):  # another process was first
                files.rename(tree)
    return tree


def _commit(revision: str) -> str:
    try:
        return _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except subprocess.CalledProcessError:
        raise NoBuild(f"git knows no revision {revision!r} here; expected a commit, a tag or a branch") from None
    except FileNotFoundError:
        raise NoBuild("comparing with a revision needs git, which is not installed") from None


def _exists(commit: str, path: str) -> bool:
    with suppress(subprocess.CalledProcessError):
        _git("cat-file", "-e", f"{commit}:{path}")
        return True
    return False


def _git(*arguments: str) -> str:
    done = subprocess.run(("git", "-C", str(ROOT), *arguments), capture_output=True, text=True, check=True)
    return done.stdout.strip()
