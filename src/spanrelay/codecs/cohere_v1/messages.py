"""The turns of Cohere's chat, version 1: a text, calls of tools with their parameters, and results with their calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from spanrelay.codecs.narrowing import as_list, as_mapping, as_str
from spanrelay.codecs.patching import overlay, put
from spanrelay.errors import CodecError
from spanrelay.records import Message, Opaque, Part, Role, Text, ToolCall, ToolCallResponse

_ROLES: dict[str, Role] = {"USER": "user", "CHATBOT": "assistant", "SYSTEM": "system", "TOOL": "tool"}
_WORDS: dict[Role, str] = {
    "user": "USER",
    "assistant": "CHATBOT",
    "system": "SYSTEM",
    "developer": "SYSTEM",
    "tool": "TOOL",
}
_OWNED = frozenset({"message", "tool_calls", "tool_results"})


def read_turn(item: Any) -> Message:
    """Read one turn; each result of a tool is a part."""
    if not isinstance(item, Mapping):
        return Message("user", [Opaque("message", item)])
    wire = cast("Mapping[str, Any]", item)
    role = _ROLES.get((as_str(wire.get("role")) or "").upper(), "user")
    parts: list[Part] = []
    said = wire.get("message")
    if said:
        parts.append(Text(said) if isinstance(said, str) else Opaque("content", said))
    parts += [_read_call(call) for call in as_list(wire.get("tool_calls"))]
    parts += [_read_result(result) for result in as_list(wire.get("tool_results"))]
    return Message(role, parts)


def _read_call(call: Any) -> Part:
    if not isinstance(call, Mapping):
        return Opaque("tool_call", call)
    fields = cast("Mapping[str, Any]", call)
    return ToolCall(None, as_str(fields.get("name")) or "", fields.get("parameters"))


def _read_result(result: Any) -> Part:
    if not isinstance(result, Mapping):
        return Opaque("tool_result", result)
    fields = cast("Mapping[str, Any]", result)
    return ToolCallResponse(None, fields.get("outputs"), as_str(as_mapping(fields.get("call")).get("name")))


def write_turn(message: Message) -> list[Any]:
    """Write a turn that no wire stands behind.

    Raises:
        CodecError: the record holds something that a turn has no form for.
    """
    if len(message.parts) == 1 and isinstance(message.parts[0], Opaque) and message.parts[0].type == "message":
        return [message.parts[0].data]
    texts: list[str] = []
    out: dict[str, Any] = {"role": _WORDS.get(message.role, "USER")}
    for part in message.parts:
        if isinstance(part, Text):
            texts.append(part.text)
        elif isinstance(part, ToolCall):
            out.setdefault("tool_calls", []).append({"name": part.name, "parameters": part.arguments or {}})
        elif isinstance(part, ToolCallResponse):
            out.setdefault("tool_results", []).append(_write_result(part))
        elif isinstance(part, Opaque) and part.type in ("tool_call", "tool_result"):
            out.setdefault(f"{part.type}s", []).append(part.data)
        elif isinstance(part, Opaque) and part.type == "content":
            out["message"] = part.data
        else:
            raise CodecError(f"a turn of Cohere's has no form for a {type(part).__name__!r} part; remove it")
    if texts or message.role != "tool":
        out.setdefault("message", "".join(texts))
    return [out]


def _write_result(part: ToolCallResponse) -> dict[str, Any]:
    content: Any = part.content
    outputs = content if isinstance(content, list) else [content if isinstance(content, dict) else {"output": content}]
    return {"call": {"name": part.name or "", "parameters": {}}, "outputs": outputs}


def patch_turn(old: Message, new: Message, wire: Any) -> list[Any]:
    """Return the turn for `new`, whose wire was read as `old`.

    Raises:
        CodecError: as `write_turn`.
    """
    built = write_turn(new)
    if not isinstance(wire, Mapping) or not isinstance(built[0], Mapping):
        return built
    known = cast("Mapping[str, Any]", wire)
    out = overlay(known, built[0], _OWNED)
    for key, kind in (("tool_calls", ToolCall), ("tool_results", ToolCallResponse)):
        was, now = ([part for part in each.parts if isinstance(part, kind)] for each in (old, new))
        if was == now and key in known:
            put(out, key, known[key])
    return [out]
