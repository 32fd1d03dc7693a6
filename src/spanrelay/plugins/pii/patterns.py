"""A user's patterns, on RE2: an engine that takes linear time whatever the pattern and the text are.

A pattern that RE2 cannot run is refused; it never runs on `re`, where a text could make it take for ever.
"""

from __future__ import annotations

import importlib
import re
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
            f"pattern {source!r} needs a regular expression engine of linear time: pip install 'spanrelay[pii]'"
        ) from None
    options = engine.Options()
    options.log_errors = False
    try:
        pattern = engine.compile(source, options)
    except engine.error as error:
        raise ConfigurationError(
            f"pattern {source!r} cannot be run by RE2 ({_reason(error)}): it has no lookaround and no backreference"
        ) from None
    if pattern.search("") is not None:
        raise ConfigurationError(f"pattern {source!r} matches the empty text: let it match at least one character")
    return pattern


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else ""
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)


def check_template(template: str, pattern: Any) -> None:
    r"""See that a replacement's references (`\1`, `\g<name>`) name groups of `pattern`.

    Raises:
        ConfigurationError: one does not.
    """
    for found in _REFERENCE.finditer(template):
        name, number, other = found.groups()
        group = number or name
        if other == "\\":
            continue
        exists = group is not None and (
            int(group) <= pattern.groups if group.isdecimal() else group in pattern.groupindex
        )
        if not exists:
            raise ConfigurationError(
                f"replacement {template!r} has {found.group()!r}, which is no group of the pattern: "
                r"write '\1', '\g<name>', or '\\' for a backslash"
            )
