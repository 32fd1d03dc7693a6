"""JSON values taken as the type a codec hopes for, or as nothing.

Providers send anything anywhere: a codec that indexes without these may raise on JSON, which it must not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from spanrelay import _json

_INT64 = 2**63
_WHOLE = frozenset((int, type(None)))


def as_mapping(value: object) -> Mapping[str, Any]:
    """Return `value` if it is a JSON object, else an empty one."""
    # What JSON is read into are dicts; asking any other object whether it is a mapping costs ten times as much.
    if type(value) is dict or isinstance(value, Mapping):
        return value  # a cast would be a call
    return {}


def as_written(value: Any) -> Any:
    """Return the JSON of a model of pydantic's, which the SDKs write as such, and anything else as it is."""
    if value is None or isinstance(value, (Mapping, list, tuple, str, int, float)) or not hasattr(value, "model_dump"):
        return value
    return _json.plain(value)


def as_list(value: object) -> list[Any]:
    """Return `value` if it is a JSON array, else an empty one."""
    if isinstance(value, list):
        return value  # a cast would be a call
    return list(cast("tuple[Any, ...]", value)) if isinstance(value, tuple) else []


def as_str(value: object) -> str | None:
    """Return `value` if it is text, else None."""
    return value if isinstance(value, str) else None


def as_int(value: object) -> int | None:
    """Return `value` if it is a whole number of 64 bits, else None; a boolean is not a number."""
    if type(value) is not int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            return None
    return value if -_INT64 <= value < _INT64 else None  # no exporter can carry more


def as_ints(*values: object) -> tuple[int | None, ...]:
    """Return `as_int` of each value, without a call for each where they are what they should be."""
    if _WHOLE.issuperset(map(type, values)):
        whole: Any = values  # a cast would be a call
        numbers: list[int] = list(filter(None, whole))
        if not numbers or (max(numbers) < _INT64 and min(numbers) >= -_INT64):
            return whole
    return tuple(map(as_int, values))


def as_float(value: object) -> float | None:
    """Return `value` as a float if it is a number, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return None
