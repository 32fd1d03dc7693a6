"""Masks provider keys in what is recorded: `sk-…`, `AIza…`, `AKIA…`, `ASIA…`, `Bearer …`, `?key=…`.

A plain substring search decides first, so text without keys costs next to nothing.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from typing import Any, cast

from spanrelay._json import MAX_DEPTH, TOO_DEEP
from spanrelay.records import JSON

# Each with its rarest letter: looking for one byte costs a tenth of looking for several.
_HINTS = (("-", "sk-"), ("z", "AIza"), ("K", "AKIA"), ("S", "ASIA"), ("e", "earer "), ("=", "key="))
# A key begins where no word goes on; in JSON text that is also behind `\n` and its like, whose last letter is no word.
_BEGIN = r"(?:(?<![A-Za-z0-9_])|(?<=\\[bfnrt])|(?<=\\u00[01][0-9a-f]))"
_PATTERN = (
    _BEGIN + r"(?:sk-[A-Za-z0-9_-]{16,}|AIza[A-Za-z0-9_-]{20,}|A[KS]IA[A-Z0-9]{16}\b)"
    r"|(?<=[Bb]earer )[A-Za-z0-9._~+/-]{8,}=*"
    r"|(?<=[?&]key=)[A-Za-z0-9._~-]{8,}"
    r"|(?<=[?&]api_key=)[A-Za-z0-9._~-]{8,}"
)
_TEXT = re.compile(_PATTERN)
_BYTES = re.compile(_PATTERN.encode())
_BYTE_HINTS = tuple((rare.encode(), hint.encode()) for rare, hint in _HINTS)

MASK = "[masked key]"


def mask_text(text: str) -> str:
    """Return `text` with every provider key in it replaced by `MASK`."""
    for rare, hint in _HINTS:
        if rare in text and hint in text:
            return _TEXT.sub(MASK, text)
    return text


def mask_bytes(data: bytes) -> bytes:
    """Return `data` with every provider key in it replaced by `MASK`."""
    for rare, hint in _BYTE_HINTS:
        if rare in data and hint in data:
            return _BYTES.sub(MASK.encode(), data)
    return data


_SCALARS = frozenset((int, float, bool, type(None)))


def mask_value(value: JSON, depth: int = 0) -> JSON:
    """Return `value`, JSON or an attribute, with every provider key in its texts replaced by `MASK`.

    Lists, tuples and objects are looked into, and what is nested too deep for that is left out; the names of an
    object stay. What holds no key is returned as the same object, and nothing is changed in place.
    """
    if type(value) in _SCALARS:
        return value
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, bytes):
        return mask_bytes(value)
    if isinstance(value, (list, tuple, dict)) and depth > MAX_DEPTH:
        return TOO_DEEP
    if isinstance(value, (list, tuple)):
        return _masked_items(cast("list[Any] | tuple[Any, ...]", value), depth + 1)
    return _masked_object(cast("dict[str, Any]", value), depth + 1) if isinstance(value, dict) else value


def _masked_items(items: list[Any] | tuple[Any, ...], depth: int) -> list[Any] | tuple[Any, ...]:
    masked = [mask_value(item, depth) for item in items]
    if all(map(operator.is_, masked, items)):
        return items
    return tuple(masked) if isinstance(items, tuple) else masked


def _masked_object(items: dict[str, Any], depth: int) -> dict[str, Any]:
    masked = mask_values(items, depth)
    return items if all(map(operator.is_, masked.values(), items.values())) else masked


def mask_values(items: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """Return a copy of `items` with each value as `mask_value` leaves it."""
    # Attributes are texts and figures as a rule, and this runs for every span: no call where none is needed.
    return {
        name: mask_text(item) if type(item) is str else item if type(item) in _SCALARS else mask_value(item, depth)
        for name, item in items.items()
    }
