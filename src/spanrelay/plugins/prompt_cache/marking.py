"""Puts marks into a request and takes them out again: fields are added, and nothing that the caller wrote is changed.

A text that stands where only a list of blocks can be marked becomes the one block that the API takes for the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

from spanrelay.plugins.prompt_cache.outline import Place

TTL: TypeAlias = Literal["5m", "1h"]


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark behind block `index` of the outline, which stands at `place`."""

    index: int
    place: Place
    ttl: TTL = "5m"

    def __str__(self) -> str:
        """As people read it: `system 5m`."""
        section, item, block = self.place
        return f"{section if section != 'messages' else f'messages[{item}][{block}]'} {self.ttl}"


def marked(api: str, wire: Mapping[str, Any], marks: Iterable[Mark]) -> dict[str, Any]:
    """Return `wire` with marks; everything that has none in it is the very object of `wire`."""
    changed = dict(wire)
    put = _put_point if api == "bedrock" else _put_field
    # From the last to the first: a point that is put in moves what stands behind it.
    for mark in sorted(marks, key=lambda mark: mark.index, reverse=True):
        section, item, block = mark.place
        if section == "messages":
            messages = changed["messages"] = _copied(wire, changed, "messages")
            message = dict(messages[item])
            message["content"] = put(_blocks(api, message["content"]), block, mark.ttl)
            messages[item] = message
        elif section == "tools" and api == "bedrock":
            config = changed["toolConfig"] = dict(changed["toolConfig"])
            config["tools"] = put(list(config["tools"]), item, mark.ttl)
        else:
            changed[section] = put(_blocks(api, changed[section]), item, mark.ttl)
    return changed


def _copied(wire: Mapping[str, Any], changed: dict[str, Any], key: str) -> list[Any]:
    return list(wire[key]) if changed[key] is wire[key] else changed[key]


def _blocks(api: str, content: Any) -> list[Any]:
    if isinstance(content, str):
        return [{"text": content} if api == "bedrock" else {"type": "text", "text": content}]
    return list(content)


def _put_field(blocks: list[Any], at: int, ttl: TTL) -> list[Any]:
    control = {"type": "ephemeral"} if ttl == "5m" else {"type": "ephemeral", "ttl": ttl}
    blocks[at] = {**blocks[at], "cache_control": control}
    return blocks


def _put_point(blocks: list[Any], at: int, ttl: TTL) -> list[Any]:
    point = {"type": "default"} if ttl == "5m" else {"type": "default", "ttl": ttl}
    blocks.insert(at + 1, {"cachePoint": point})
    return blocks


def unmarked(wire: Any) -> Any:
    """Return what `marked` was given, whatever it marked, but that a text which it made a block of is that block."""
    if isinstance(wire, list):
        items = cast("list[Any]", wire)
        return [unmarked(item) for item in items if not (isinstance(item, dict) and "cachePoint" in item)]
    if isinstance(wire, dict):
        members = cast("dict[str, Any]", wire)
        return {key: unmarked(value) for key, value in members.items() if key != "cache_control"}
    return wire
