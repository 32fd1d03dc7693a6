"""The entries of Mistral's conversations: messages, calls of functions and their results, tools Mistral has run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from spanrelay._json import loads_or_text
from spanrelay.codecs.narrowing import as_str
from spanrelay.codecs.openai_chat.messages import read_assistant, read_message
from spanrelay.records import Message, Opaque, Part, ToolCall, ToolCallResponse


def read_entry(item: Any) -> Message:
    """Read one entry."""
    if not isinstance(item, Mapping):
        return Message("user", [Opaque("message", item)])
    entry = cast("Mapping[str, Any]", item)
    kind = entry.get("type")
    if kind == "function.result":
        return Message("tool", [ToolCallResponse(as_str(entry.get("tool_call_id")), entry.get("result"))])
    if kind == "function.call" or kind == "tool.execution":
        return Message("assistant", [_read_call(entry, server=kind == "tool.execution")])
    if kind == "message.output" or entry.get("role") == "assistant":
        return Message("assistant", read_assistant({"content": entry.get("content")}).parts)
    if kind is None or kind == "message.input":
        return read_message({"role": entry.get("role", "user"), "content": entry.get("content")})
    return Message("assistant", [Opaque(str(kind), entry)])


def _read_call(entry: Mapping[str, Any], *, server: bool) -> Part:
    arguments = entry.get("arguments")
    return ToolCall(
        as_str(entry.get("id" if server else "tool_call_id")),
        as_str(entry.get("name")) or "",
        loads_or_text(arguments) if isinstance(arguments, str) else arguments,
        server,
    )
