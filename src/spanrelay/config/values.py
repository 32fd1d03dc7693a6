"""How the value of a setting is read: from the text of its variable, or from what code gives for its field.

Each raises `KeyError`, `TypeError` or `ValueError` on what is not valid; whoever asked says so.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from string import Formatter
from typing import cast
from urllib.parse import unquote


def word(given: object) -> str:
    """Read a word, whatever its case."""
    return str(given).strip().lower()


def boolean(given: object) -> bool:
    """Read yes or no."""
    value = {
        "true": True,
        "1": True,
        "yes": True,
        "on": True,
        "false": False,
        "0": False,
        "no": False,
        "off": False,
    }
    return value[word(given)]


def disabled(given: object) -> bool:
    """Read `OTEL_SDK_DISABLED`, which knows one word for yes."""
    value = boolean(given)
    if value and word(given) != "true":
        raise ValueError(given)  # the SDK takes no other word for it, and would record
    return value


def one_of(*choices: str) -> Callable[[object], str]:
    """Return what reads one of these words; on and off have others."""

    def read(given: object) -> str:
        value = word(given)
        if value not in choices and {"on", "off"} <= set(choices):
            value = "on" if boolean(given) else "off"
        if value not in choices:
            raise ValueError(value)
        return value

    return read


_UNITS = {"": 0, "b": 0, "k": 10, "kb": 10, "kib": 10, "m": 20, "mb": 20, "mib": 20, "g": 30, "gb": 30, "gib": 30}
"""How far a number is shifted for its unit, each 1024 of the one before."""


def number_of_bytes(given: object) -> int:
    """Read a size in bytes, with a unit or without."""
    said = word(given)
    digits = said.rstrip("bgikm ")
    value = int(digits) << _UNITS[said[len(digits) :].strip()]
    if value <= 0:
        raise ValueError(given)
    return value


def text(given: object) -> str:
    """Read a text without the blanks around it."""
    if not isinstance(given, str):
        raise TypeError(given)
    return given.strip()


def path(given: object) -> str:
    """Read a path, made absolute."""
    place = os.fsdecode(cast("str | os.PathLike[str]", given))
    if not place.strip():
        raise ValueError(given)
    return absolute(os.path.expanduser(place))


def name_pattern(given: object) -> str:
    """Read a pattern of files' names, which may have `NAME_FIELDS` in braces."""
    pattern = text(given)
    fields = [(name, spec, conversion) for _, name, spec, conversion in Formatter().parse(pattern) if name is not None]
    if not pattern or any(spec or conversion or name not in NAME_FIELDS for name, spec, conversion in fields):
        raise ValueError(given)
    return pattern


NAME_FIELDS = ("session", "trace", "agent", "service")
"""What may stand in braces in the name of a trajectory's file."""


def optional(read: Callable[[object], str]) -> Callable[[object], str]:
    """Return what reads as `read` does, or nothing at all."""
    return lambda given: "" if given == "" else read(given)


def absolute(path: str) -> str:
    """Return `path` made absolute, where there is a working directory."""
    try:
        return os.path.abspath(path)
    except OSError:
        return path  # the working directory is gone; using the path will say so


def http_url(given: object) -> str:
    """Read an address of HTTP."""
    address = text(given)
    if not address.startswith(("http://", "https://")):
        raise ValueError(address)
    return address


def header_list(given: object) -> str:
    """Read headers as `headers` does, and return the text."""
    headers(text(given))
    return text(given)


def headers(text: str) -> dict[str, str]:
    """Return the headers in `name=value,name=value`, values URL-encoded, as OpenTelemetry writes them.

    Raises:
        ValueError: a pair has no name or no `=`.
    """
    found: dict[str, str] = {}
    for pair in filter(None, map(str.strip, text.split(","))):
        name, equals, value = pair.partition("=")
        if not (name.strip() and equals):
            raise ValueError(pair)
        found[name.strip()] = unquote(value.strip())
    return found
