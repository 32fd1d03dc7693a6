"""Where trajectories are: a file, or the newest one of a folder.

Only reads; what a file holds is the `trajectory` package's business.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from spanrelay import config
from spanrelay.errors import SpanRelayError


class NoTrajectory(SpanRelayError, OSError):
    """There is no trajectory where one was expected."""


def default_directory() -> Path:
    """The folder that the settings of this environment name."""
    return Path(config.load()[0].trajectory_directory)


def find(place: str) -> Path:
    """Return the file meant by `place`: a file, a folder's newest trajectory, or `latest`.

    Raises:
        NoTrajectory: nothing is there; the message says what to do.
    """
    path = default_directory() if place == "latest" else Path(place)
    if path.is_file():
        return path
    if not path.is_dir():
        raise NoTrajectory(f"there is no {str(path)!r}; run a program under opentelemetry-instrument first")
    files = sorted(path.rglob("*.json"), key=lambda file: file.stat().st_mtime_ns)
    if not files:
        raise NoTrajectory(f"no trajectory in {str(path)!r}; run a program under opentelemetry-instrument first")
    return files[-1]


def read(path: Path) -> Any:
    """Return the JSON of a file.

    Raises:
        NoTrajectory: it cannot be read, or is no JSON.
    """
    try:
        return orjson.loads(path.read_bytes())
    except OSError as error:
        raise NoTrajectory(f"cannot read {str(path)!r}: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise NoTrajectory(f"{str(path)!r} is no JSON: {error}") from error
