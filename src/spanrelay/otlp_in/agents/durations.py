"""How long things took, as coding agents say it: in milliseconds, as a number or as digits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanrelay.semconv.values import count, number


def milliseconds(value: object) -> float | None:
    """Return milliseconds, or None where that is no number."""
    found = number(value)
    return found if found is not None else count(value)


def took(said: Mapping[str, Any]) -> int:
    """Return the `duration_ms` among attributes in nanoseconds; 0 where it is not told."""
    return int((milliseconds(said.get("duration_ms")) or 0) * 1_000_000)
