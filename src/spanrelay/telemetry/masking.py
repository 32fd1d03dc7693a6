"""Masks provider keys in what is recorded: `sk-…`, `AIza…`, `AKIA…`, `Bearer …`, `?key=…`.

A plain substring search decides first, so text without keys costs next to nothing.
"""

from __future__ import annotations

import re

# Each with its rarest letter: looking for one byte costs a tenth of looking for several.
_HINTS = (("-", "sk-"), ("z", "AIza"), ("K", "AKIA"), ("e", "earer "), ("=", "key="))
_PATTERN = (
    r"\bsk-[A-Za-z0-9_-]{16,}"
    r"|\bAIza[A-Za-z0-9_-]{30,}"
    r"|\bAKIA[A-Z0-9]{16}\b"
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
