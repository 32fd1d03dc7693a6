"""A user's patterns, on RE2: an engine that takes linear time whatever the pattern and the text are.

A pattern that RE2 cannot run is refused; it never runs on `re`, where a text could make it take for ever.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import Any

from spanrelay.errors import ConfigurationError

_REFERENCE = re.compile(r"\\(?:g<([^>]*)>|([0-9]+)|(.?))", re.DOTALL)


def compile_pattern(source: str) -> Any:
    """Return the compiled pattern; it has the methods of `re`'s.

    Raises:
        ConfigurationError: RE2 is not installed, or `source` is no pattern of RE2, or matches the empty text.
    """
    try:
        engine = importlib.import_module("re2")
    except ImportError:
        raise ConfigurationError(
            "it needs a regular expression engine of linear time: pip install 'spanrelay[pii]'"
        ) from None
    options = engine.Options()
    options.log_errors = False
    try:
        pattern = engine.compile(source, options)
    except engine.error as error:
        raise ConfigurationError(
            f"RE2 cannot run it ({_reason(error)}): it has no lookaround and no backreference"
        ) from None
    if pattern.search("") is not None:
        raise ConfigurationError("it matches the empty string: make it match at least one character")
    return pattern


def _reason(error: Exception) -> str:
    """What RE2 says, without the piece of the pattern that follows it: a pattern may hold what it looks for."""
    reason = error.args[0] if error.args else ""
    told = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
    return told.partition(":")[0]


def compile_template(template: str, pattern: Any) -> Callable[[Any], str]:
    r"""Return what makes a replacement of a match; in `template`, `\1` and `\g<name>` are groups of the pattern.

    RE2's own templates hold nothing but ASCII.

    Raises:
        ConfigurationError: a reference names no group of `pattern`.
    """
    pieces: list[tuple[str, int | str | None]] = []
    end = 0
    for found in _REFERENCE.finditer(template):
        pieces.append((template[end : found.start()], _group_of(found, template, pattern)))
        end = found.end()

    def expand(match: Any) -> str:
        return "".join(text + _value(match, group) for text, group in pieces) + template[end:]

    return expand


def _group_of(found: re.Match[str], template: str, pattern: Any) -> int | str | None:
    """Return the group that a reference names, None for an escaped backslash."""
    name, number, other = found.groups()
    if other == "\\":
        return None
    if name in pattern.groupindex:
        return name
    number = number or name or ""
    if number.isdecimal() and int(number) <= pattern.groups:
        return int(number)
    raise ConfigurationError(
        f"it has {found.group()!r}, which is not a group of the pattern: "
        r"write '\1', '\g<name>', or '\\' for a backslash"
    )


def _value(match: Any, group: int | str | None) -> str:
    return "\\" if group is None else match.group(group) or ""
