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
_DEFERRED = b'"defer_loading":'
"""What says in JSON that a tool is not of the prefix: it is loaded when it is wanted."""
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
        blocks: How many there are in all.
        scaffold: How many stops are before the messages.
        has_system: Whether the last of those is the system prompt.
    """

    __slots__ = ("blocks", "digests", "has_system", "numbers", "places", "scaffold", "sizes")

    def __init__(self) -> None:
        self.digests: list[int] = []
        self.sizes: list[int] = []
        self.numbers: list[int] = []
        self.places: list[Place | None] = []
        self.blocks = self.scaffold = 0
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
    outline = Outline()
    digest = hash((api, wire.get("model")))
    tools, system = _listed(config.get("tools")), wire.get("system")
    if tools:
        if any(type(tool) is not dict for tool in tools):
            raise Unreadable("unknown_block")
        digest = _add(outline, digest, "tools", [("tools", tools)])
    if system:
        digest = _add(outline, digest, "system", [("system", system)])
        outline.has_system = True
    outline.scaffold = len(outline.digests)
    # What else makes messages others than they were, though it is none of them.
    rest = _json.dumps((config.get("tool_choice") or config.get("toolChoice"), wire.get("thinking")))
    try:
        said = [(message["role"], message["content"]) for message in _listed(wire.get("messages"))]
    except (TypeError, KeyError) as odd:
        raise Unreadable("unknown_block") from odd
    _add(outline, hash((digest, rest)), "messages", said)
    return outline


def _add(outline: Outline, digest: int, section: Section, said: list[tuple[Any, Any]]) -> int:
    """Add a stop for each content, whoever has said it, and return the digest of all up to the last.

    It is one loop, since all there is of a long conversation passes it at each call.
    """
    digests, sizes, numbers, places = outline.digests, outline.sizes, outline.numbers, outline.places
    size, number = outline.size, outline.blocks
    for at, (role, content) in enumerate(said):
        if type(content) is str:
            last, blocks, told = -1 if _is_blank(content) else 0, 1, content
            length = len(content)
        else:
            last, blocks = _last_markable(section, content), len(content)
            if section == "messages":
                told, length = _told_by(content)
            else:
                told = _json.dumps(content)
                length = len(told)
                _refuse_own_marks(told)
            if section == "tools" and _DEFERRED in told:  # in a set of tools too
                raise Unreadable("unknown_block")
            if length > _LONG:
                told, length = _leaves(content)
        digest = hash((digest, role, told))
        size += length
        digests.append(digest)
        sizes.append(size)
        numbers.append(number + last + 1)
        places.append(None if last < 0 else (section, at, last) if section == "messages" else (section, last, 0))
        number += blocks
    outline.blocks = number
    return digest


def _told_by(blocks: list[dict[str, Any]]) -> tuple[Any, int]:
    """Return what blocks say, and about how many bytes that is.

    Texts stay as they are: Python keeps the hash of one, which most of a conversation has had in a call before.
    """
    told: list[Any] = []
    length = 0
    for block in blocks:
        told.append(None)
        for key, value in block.items():
            if type(value) is not str:
                value = _json.dumps(value)
                _refuse_own_marks(value)
            if key in _OWN_MARKS:
                raise Unreadable("callers_own")
            told += key, value
            length += len(key) + len(value) + _AROUND
    return tuple(told), length


def _last_markable(section: Section, content: Any) -> int:
    """Return the number of the last block that a mark may stand at, -1 where there is none."""
    if type(content) is not list:
        raise Unreadable("unknown_block")
    blocks = cast("list[Any]", content)
    for at in range(len(blocks) - 1, -1, -1):
        block = blocks[at]
        if type(block) is not dict:
            raise Unreadable("unknown_block")
        if section == "tools":
            return at
        kind = block.get("type") or next(iter(block), None)
        if kind in _MARKABLE and not _is_blank(block.get("text")):
            return at
    return -1


def _is_blank(text: Any) -> bool:
    """Whether this is a text that says nothing, which no mark may stand at."""
    return type(text) is str and (not text or text.isspace())


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


def _refuse_own_marks(told: bytes) -> None:
    if b'"cache' in told and (_OWN_MARKS_JSON[0] in told or _OWN_MARKS_JSON[1] in told):
        raise Unreadable("callers_own")


_AROUND = 6
"""Bytes of JSON around a key and its text."""
_LONG = 16_000
"""Bytes from which on it is looked whether a content has pictures, which are few tokens."""


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
