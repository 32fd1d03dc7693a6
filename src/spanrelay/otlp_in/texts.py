"""Attributes of stores that keep texts only: numbers, flags and lists of texts are what they were again."""

from __future__ import annotations

import re
from typing import Any

from spanrelay._json import loads
from spanrelay.records import JSON
from spanrelay.semconv.values import as_list, decode

_SCALAR = re.compile(r"true|false|-?(0|[1-9]\d{0,17})(\.\d{1,17})?(e[+-]?\d{1,2})?")


def untexted(key: str, value: JSON) -> Any:
    """Return an attribute as it was before its store made a text of it; an id of digits stays one."""
    if not isinstance(value, str):
        return value
    if _SCALAR.fullmatch(value) and not key.endswith("id"):
        return loads(value)
    found = decode(value) if value[:2] == '["' else value
    return found if isinstance(found, list) and all(isinstance(item, str) for item in as_list(found)) else value
