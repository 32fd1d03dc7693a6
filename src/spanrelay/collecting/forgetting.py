"""A file of traces that are not wanted any more, each with the last number of what was kept that it is in."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from spanrelay import _json


def note(path: Path, traces: Mapping[str, int]) -> None:
    """Note traces by their keys; they are on disk when this returns."""
    with path.open("ab") as file:
        file.write(b"\n".join([b"", *(_json.dumps(each) for each in traces.items()), b""]))
        file.flush()
        os.fsync(file.fileno())


def noted(path: Path, oldest: int) -> dict[str, int]:
    """Return what was noted, but for what is in nothing from the number `oldest` on."""
    found: dict[str, int] = {}
    if path.exists():
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(ValueError, TypeError):  # cut off by a kill, before any file was removed; or empty
                key, number = _json.loads(line)
                if number >= oldest:
                    found[key] = number
    return found
