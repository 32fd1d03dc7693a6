"""The Anthropic blocks that the CLI passes on, as records.

Whatever has no field of a record is kept as it is; nothing here raises for what a newer CLI may send.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from spanrelay.records import (
    JSON,
    Media,
    Message,
    Opaque,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolCallResponse,
    Usage,
)


def blocks_of(content: Any) -> list[Mapping[str, Any]]:
    """Return the blocks of a message's content: a text is one block."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        return []
    return [cast("Mapping[str, Any]", block) for block in cast("list[Any]", content) if isinstance(block, Mapping)]


def parts_of(blocks: Iterable[Mapping[str, Any]]) -> list[Part]:
    """Return blocks as the parts of a message."""
    return [_part(block) for block in blocks]


def _part(block: Mapping[str, Any]) -> Part:
    kind = str(block.get("type", ""))
    if kind == "text":
        return Text(str(block.get("text", "")))
    if kind == "thinking":
        return Reasoning(str(block.get("thinking", "")), signature=block.get("signature"))
    if kind == "redacted_thinking":
        return Reasoning("", encrypted=block.get("data"), redacted=True)
    if kind in ("tool_use", "server_tool_use", "mcp_tool_use"):
        return ToolCall(block.get("id"), str(block.get("name", "")), block.get("input"), server=kind != "tool_use")
    if kind in ("image", "document"):
        return _media(kind, block)
    return Opaque(kind, dict(block))


def _media(kind: Any, block: Mapping[str, Any]) -> Part:
    source = block.get("source")
    if not isinstance(source, Mapping):
        return Opaque(str(kind), dict(block))
    known = cast("Mapping[str, Any]", source)
    return Media(
        kind, known.get("media_type"), uri=known.get("url"), data=known.get("data"), file_id=known.get("file_id")
    )


def said_by_user(blocks: Iterable[Mapping[str, Any]]) -> list[Message]:
    """Return what stands in a user's message: a message for each tool's result, and one for the rest."""
    messages: list[Message] = []
    others: list[Mapping[str, Any]] = []
    for block in blocks:
        if block.get("type") == "tool_result":
            result = ToolCallResponse(block.get("tool_use_id"), _told(block), is_error=bool(block.get("is_error")))
            messages.append(Message("tool", [result]))
        else:
            others.append(block)
    return [*messages, Message("user", parts_of(others))] if others else messages


def _told(block: Mapping[str, Any]) -> str | list[Part] | JSON:
    """Return what a model is told of a tool: text where it is nothing but text."""
    content = block.get("content")
    if not isinstance(content, list):
        return content
    parts = parts_of(blocks_of(content))
    return text_of(content) if all(isinstance(part, Text) for part in parts) else parts


def result_of(content: Any) -> JSON:
    """Return what a tool gave, for the record: text where it is nothing but text, else the blocks as they are."""
    blocks = blocks_of(content)
    return text_of(content) if blocks and all(block.get("type") == "text" for block in blocks) else content


def text_of(content: Any) -> str:
    """Return the texts of a message's content, a line each."""
    return "\n".join(str(block.get("text", "")) for block in blocks_of(content) if block.get("type") == "text")


def usage_of(counted: Any, *, whole: bool) -> Usage | None:
    """Return what Anthropic counted; its input leaves out what is cached, ours does not.

    Args:
        counted: The JSON of Anthropic's `usage`.
        whole: Whether the message is complete: before, the count of its output means nothing.
    """
    if not isinstance(counted, Mapping):
        return None
    said = cast("Mapping[str, Any]", counted)
    read, written = said.get("cache_read_input_tokens"), said.get("cache_creation_input_tokens")
    fresh = said.get("input_tokens")
    return Usage(
        None if fresh is None else fresh + (read or 0) + (written or 0),
        said.get("output_tokens") if whole else None,
        cache_read_tokens=read,
        cache_write_tokens=written,
    )
