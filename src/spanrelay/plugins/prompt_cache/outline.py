"""A request as the provider's cache sees it: in the order of the prefix, what all up to each possible mark says.

Of what a request says only hashes and lengths are kept. Hashes are Python's own, which every process salts anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, cast

from spanrelay import _json
from spanrelay._json import MAX_DEPTH

Section: TypeAlias = Literal["tools", "system", "messages"]
Place: TypeAlias = "tuple[Section, int, int]"
"""Where a mark may stand: behind a tool, a block of the system prompt, or a block of a message."""
_PICTURE = 6400
"""Characters that what is no text is taken for, such as a picture in base64."""
_OWN_MARKS = ("cache_control", "cachePoint")
"""Keys by which a caller marks what is to be cached."""
_OWN_MARKS_JSON = tuple(f'"{key}":'.encode() for key in _OWN_MARKS)


class Unreadable(Exception):
    """The request holds what nobody here knows; its only argument is why it is left alone."""


class Outline:
    """Where a mark may stand: behind the tools, behind the system prompt, behind each message.

    Attributes:
        digests: Of each stop, the digest of all up to its end.
        sizes: Of each, about how many bytes there are up to its end.
        numbers: Of each, how many blocks there are up to where its mark stands.
        places: Of each, where that is; None where none may.
        scaffold: How many of them are before the messages.
        has_system: Whether the last of those is the system prompt.
    """

    __slots__ = ("digests", "has_system", "numbers", "places", "scaffold", "sizes")

    def __init__(self) -> None:
        self.digests: list[int] = []
        self.sizes: list[int] = []
        self.numbers: list[int] = []
        self.places: list[Place | None] = []
        self.scaffold = 0
        self.has_system = False

    @property
    def size(self) -> int:
        """About how many bytes all is."""
        return self.sizes[-1] if self.sizes else 0


def outline_of(api: str, wire: Mapping[str, Any]) -> Outline:
    """Return the outline of a request.

    Raises:
        Unreadable: it has marks of its caller's, or something that nobody here knows.
    """
    if any(key in wire for key in _OWN_MARKS):
        raise Unreadable("callers_own")
    config: Mapping[str, Any] = wire
    if api == "bedrock":
        config = wire.get("toolConfig") or {}
    reader = _Reader(hash((api, wire.get("model"))))
    outline = reader.outline
    tools, system = _listed(config.get("tools")), wire.get("system")
    if tools:
        reader.add_tools(tools)
    if system:
        reader.add("system", system, 0)
        outline.has_system = True
    outline.scaffold = len(outline.digests)
    # What else makes messages others than they were, though it is none of them.
    reader.begin_anew(_json.dumps((config.get("tool_choice") or config.get("toolChoice"), wire.get("thinking"))))
    for at, message in enumerate(_listed(wire.get("messages"))):
        if type(message) is not dict:
            raise Unreadable("unknown_block")
        reader.add(message.get("role"), message.get("content"), at)
    return outline


class _Reader:
    """Adds stops to an outline; the digest of each goes on from the one before."""

    def __init__(self, digest: int) -> None:
        self.outline = Outline()
        self._digest = digest
        self._size = self._number = 0

    def begin_anew(self, told: bytes) -> None:
        """Let what follows be another where `told` is."""
        self._digest = hash((self._digest, told))

    def add_tools(self, tools: list[Any]) -> None:
        """Add the tools as one stop."""
        for tool in tools:
            if type(tool) is not dict or "defer_loading" in tool:  # such a tool is not of the prefix
                raise Unreadable("unknown_block")
        told = _json.dumps(tools)
        _refuse_own_marks(told)
        self._put(told, len(told), len(tools), ("tools", len(tools) - 1, 0), len(tools))

    def add(self, role: Any, content: Any, at: int) -> None:
        """Add a message, or the system prompt, as one stop."""
        system = role == "system"
        if type(content) is str:
            place: Place = ("system", 0, 0) if system else ("messages", at, 0)
            self._put((role, content), len(content), 1, place if content else None, 1)
            return
        blocks, last, heavy = _listed(content), -1, False
        for number, block in enumerate(blocks):
            if type(block) is not dict:
                raise Unreadable("unknown_block")
            kind = block.get("type") or next(iter(block), None)
            if kind in _MARKABLE and block.get("text") != "":
                last = number
            heavy = heavy or kind in _HEAVY
        if last < 0:
            found: Place | None = None
        else:
            found = ("system", last, 0) if system else ("messages", at, last)
        told, size = _leaves(blocks) if heavy else _written(blocks)
        self._put((role, told), size, len(blocks), found, last + 1)

    def _put(self, told: object, size: int, blocks: int, place: Place | None, stands: int) -> None:
        outline = self.outline
        self._digest = hash((self._digest, told))
        self._size += size
        outline.digests.append(self._digest)
        outline.sizes.append(self._size)
        outline.numbers.append(self._number + stands)
        outline.places.append(place)
        self._number += blocks


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    if type(value) is not list:
        raise Unreadable("unknown_block")
    return cast("list[Any]", value)


_MARKABLE = frozenset(
    ("text", "image", "document", "tool_use", "tool_result", "search_result", "toolUse", "toolResult", "video")
)
"""Blocks that a mark may stand at, of Anthropic's API, and behind, of Converse; not behind thinking."""
_HEAVY = frozenset(("image", "document", "video"))
"""Blocks that may be pictures and the like, which are few tokens."""


def _refuse_own_marks(told: bytes) -> None:
    if _OWN_MARKS_JSON[0] in told or _OWN_MARKS_JSON[1] in told:
        raise Unreadable("callers_own")


def _written(value: Any) -> tuple[object, int]:
    """Return what stands for a value, and its size: its JSON, which is made faster than it is walked."""
    told = _json.dumps(value)
    _refuse_own_marks(told)
    if len(told) > _LONG:  # as of results of tools that hold pictures
        return _leaves(value)
    return told, len(told)


_LONG = 64_000


def _leaves(value: Any) -> tuple[object, int]:
    """Return the same of what may hold pictures: a text keeps its hash, however long it is."""
    out: list[str] = []
    spared = _add_leaves(value, out, 0)
    if _OWN_MARKS[0] in out or _OWN_MARKS[1] in out:
        raise Unreadable("callers_own")
    return tuple(out), sum(map(len, out)) - spared


def _add_leaves(value: Any, out: list[str], depth: int) -> int:
    """Add all that a value says to `out`; return how many characters of it are a picture's, which are few tokens."""
    kind, spared = type(value), 0
    if kind is str:
        out.append(value)
    elif depth > MAX_DEPTH:
        raise Unreadable("unknown_block")
    elif kind is dict:
        out.append("{")
        for key, item in value.items():
            out.append(key)
            if type(item) is str:
                out.append(item)
                if key in _ENCODED and len(item) > _PICTURE:
                    spared += len(item) - _PICTURE
            else:
                spared += _add_leaves(item, out, depth + 1)
        out.append("}")
    elif kind is list:
        out.append("[")
        for item in value:
            spared += _add_leaves(item, out, depth + 1)
        out.append("]")
    elif value is None or kind in _SCALARS:
        out.append(repr(value))
    else:
        raise Unreadable("unknown_block")
    return spared


_ENCODED = frozenset(("data", "bytes"))
"""Keys under which there are pictures and documents in base64."""
_SCALARS = frozenset((bool, int, float))
