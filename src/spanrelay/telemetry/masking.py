"""Masks provider keys in what is recorded: `sk-…`, `AIza…`, `AKIA…`, `ASIA…`, `Bearer …`, `?key=…`.

A plain substring search decides first, so text without keys costs next to nothing.
"""

from __future__ import annotations

import operator
import re
from typing import Any, TypeVar, cast

from spanrelay.records import JSON

AnyValue = TypeVar("AnyValue")

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


def mask_value(value: AnyValue) -> AnyValue:
    """Return `value`, JSON or an attribute, with every provider key in its texts replaced by `MASK`.

    Lists, tuples and objects are looked into, at any depth; the names of an object stay. What holds no key is
    returned as the same object, and nothing is changed in place.
    """
    return cast("AnyValue", _masked(value))


def _masked(value: JSON) -> JSON:
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, bytes):
        return mask_bytes(value)
    if isinstance(value, (list, tuple)):
        items = cast("list[Any] | tuple[Any, ...]", value)
        masked = [_masked(item) for item in items]
        if all(map(operator.is_, masked, items)):
            return items
        return tuple(masked) if isinstance(items, tuple) else masked
    if isinstance(value, dict):
        known = cast("dict[str, Any]", value)
        found = {name: _masked(item) for name, item in known.items()}
        return known if all(map(operator.is_, found.values(), known.values())) else found
    return value
