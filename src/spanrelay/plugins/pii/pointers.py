"""JSON pointers (RFC 6901), and the tree that several of them make.

Pure text: a pointer never says whether a token is a member's name or an index; the value it meets decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from spanrelay.errors import ConfigurationError

_BAD_ESCAPE = re.compile(r"~(?![01])")
_INDEX = re.compile(r"0|[1-9][0-9]*")


def parse_pointer(pointer: str) -> tuple[str, ...]:
    """Return the reference tokens of a pointer; the empty pointer, which is the whole value, has none.

    Raises:
        ConfigurationError: it does not begin with `/`, or has a `~` that is neither `~0` nor `~1`.
    """
    if not pointer:
        return ()
    if not pointer.startswith("/"):
        raise ConfigurationError(f"{pointer!r} is not a JSON pointer: it must start with '/'")
    if _BAD_ESCAPE.search(pointer):
        raise ConfigurationError(f"{pointer!r} is not a JSON pointer: write '~' as '~0' and '/' in a name as '~1'")
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in pointer[1:].split("/"))


def index_of(token: str, length: int) -> int | None:
    """Return the index that `token` is in an array of `length` items; None where it is none of its indices."""
    if len(token) > 18 or not _INDEX.fullmatch(token):
        return None
    index = int(token)
    return index if index < length else None


class Node:
    """Where one or several pointers lead: `here` at an end of one, `children` by token on the way."""

    __slots__ = ("children", "here")

    def __init__(self) -> None:
        self.here = False
        self.children: dict[str, Node] = {}


def pointer_tree(pointers: Iterable[str]) -> Node:
    """Return the root of the tree of `pointers`.

    Raises:
        ConfigurationError: one of them is no pointer.
    """
    root = Node()
    for pointer in pointers:
        node = root
        for token in parse_pointer(pointer):
            node = node.children.setdefault(token, Node())
        node.here = True
    return root
