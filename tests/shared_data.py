"""Where the recorded provider traffic is, for tests that replay it; it is never part of the repository."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_FOLDER = Path(__file__).parents[1] / ".." / "shared"

SHARED: Path | None = _FOLDER.resolve() if _FOLDER.is_dir() else None
"""The folder beside the repository, or None."""

needs_shared = pytest.mark.skipif(SHARED is None, reason="the recorded provider traffic is not here")


def exchanges(pattern: str) -> Iterator[dict[str, Any]]:
    """Yield the recorded exchanges of the files that match `pattern`; none where the folder is absent."""
    for path in sorted((SHARED / "traffic").glob(pattern)) if SHARED else []:
        with path.open() as lines:
            yield from map(json.loads, lines)
