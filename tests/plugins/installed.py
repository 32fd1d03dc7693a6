"""Distributions that tests install: a folder on the path, with the metadata that an installer would have written."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from opentelemetry.util import _importlib_metadata


def distribution(folder: Path, name: str, module: str, source: str, entry_points: str) -> Path:
    """Write a distribution `name` with one module into `folder`, and return the folder, for `sys.path`."""
    metadata = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (folder / f"{module}.py").write_text(source)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(entry_points)
    return folder


@contextmanager
def on_path(folder: Path) -> Iterator[None]:
    """Let what is installed in `folder` be found, and nothing of it be left."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    _importlib_metadata._original_entry_points_cached.cache_clear()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        _importlib_metadata._original_entry_points_cached.cache_clear()
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
                del sys.modules[name]
