"""The messages of Ollama's chat: a content, thinking, images and calls of tools beside each other.

A call has no id but where a model gave one, and its arguments are an object. A result names the tool, and no call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from spanrelay.codecs.content import text_of
from spanrelay.codecs.narrowing import as_list, as_mapping, as_str
from spanrelay.codecs.patching import overlay, patch_sequence, put, same_class
from spanrelay.errors import CodecError
from spanrelay.records import Media, Message, Opaque, Part, Reasoning, Role, Text, ToolCall, ToolCallResponse

_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
_OWNED = frozenset({"content", "thinking", "images", "tool_calls", "tool_name", "tool_call_id"})


def read_message(item: Any) -> Message:
    """Read one message."""
    if not isinstance(item, Mapping):
        return Message("user", [Opaque("message", item)])
    wire = cast("Mapping[str, Any]", item)
    role = _ROLES.get(as_str(wire.get("role")) or "", "user")
    content = wire.get("content")
    if role == "tool":
        name = as_str(wire.get("tool_name")) or as_str(wire.get("name"))
        return Message(role, [ToolCallResponse(as_str(wire.get("tool_call_id")), content, name)])
    parts: list[Part] = []
    thinking = wire.get("thinking")
    if thinking:
        parts.append(Reasoning(thinking) if isinstance(thinking, str) else Opaque("thinking", thinking))
    if content:
        parts.append(Text(content) if isinstance(content, str) else Opaque("content", content))
    parts += [_read_image(image) for image in as_list(wire.get("images"))]
    parts += [_read_call(call) for call in as_list(wire.get("tool_calls"))]
    return Message(role, parts)


def _read_image(image: Any) -> Part:
    return Media("image", None, None, image) if isinstance(image, str) else Opaque("image", image)


def _read_call(call: Any) -> Part:
    fields = as_mapping(call)
    function = fields.get("function")
    if not isinstance(function, Mapping):
        return Opaque("tool_call", call)
    known = cast("Mapping[str, Any]", function)
    return ToolCall(as_str(fields.get("id")), as_str(known.get("name")) or "", known.get("arguments"))


def write_message(message: Message) -> list[Any]:
    """Write a message that no wire message stands behind; each result of a tool is a message of its own.

    Raises:
        CodecError: the record holds something that a message has no form for.
    """
    if len(message.parts) == 1 and isinstance(message.parts[0], Opaque) and message.parts[0].type == "message":
        return [message.parts[0].data]
    results = [part for part in message.parts if isinstance(part, ToolCallResponse)]
    rest: list[Part] = [part for part in message.parts if not isinstance(part, ToolCallResponse)]
    out = [_write_result(part) for part in results]
    return [*out, _write(message.role, rest)] if rest or not results else out


def _write_result(part: ToolCallResponse) -> dict[str, Any]:
    out: dict[str, Any] = {"role": "tool", "content": text_of(part.content)}
    put(out, "tool_name", part.name)
    put(out, "tool_call_id", part.id)
    return out


def _write(role: Role, parts: list[Part]) -> dict[str, Any]:
    role_word = role if role in _ROLES else "system" if role == "developer" else "user"
    out: dict[str, Any] = {"role": role_word, "content": "".join(part.text for part in parts if isinstance(part, Text))}
    for part in parts:
        if isinstance(part, Reasoning):
            out["thinking"] = out.get("thinking", "") + part.text
        elif isinstance(part, Media):
            out.setdefault("images", []).append(_write_image(part))
        elif isinstance(part, ToolCall):
            out.setdefault("tool_calls", []).append(_write_call(part))
        elif isinstance(part, Opaque):
            _write_opaque(out, part)
    return out


def _write_opaque(out: dict[str, Any], part: Opaque) -> None:
    if part.type in ("image", "tool_call"):
        out.setdefault(f"{part.type}s", []).append(part.data)
    elif part.type in ("content", "thinking"):
        out[part.type] = part.data
    else:
        raise CodecError(f"a message of Ollama's has no form for a part of type {part.type!r}; remove it")


def _write_image(part: Media) -> str:
    if part.modality != "image" or part.data is None:
        raise CodecError(f"a message of Ollama's takes images as base64, not {part.modality!r} by address")
    return part.data


def _write_call(part: ToolCall) -> dict[str, Any]:
    call = {"function": {"name": part.name, "arguments": {} if part.arguments is None else part.arguments}}
    return call if part.id is None else {"id": part.id, **call}


def patch_message(old: Message, new: Message, wire: Any) -> list[Any]:
    """Return the wire messages for `new`, whose wire was read as `old`.

    Raises:
        CodecError: as `write_message`.
    """
    built = write_message(new)
    if not isinstance(wire, Mapping) or len(built) != 1 or not isinstance(built[0], Mapping):
        return built
    known = cast("Mapping[str, Any]", wire)
    out = overlay(known, built[0], _OWNED)
    calls = [[part for part in each.parts if _is_call(part)] for each in (old, new)]
    if calls[1]:
        out["tool_calls"] = patch_sequence(
            calls[0], calls[1], as_list(known.get("tool_calls")), patch=_patch_call, build=_build_call, alike=same_class
        )
    return [out]


def _is_call(part: Part) -> bool:
    return isinstance(part, ToolCall) or (isinstance(part, Opaque) and part.type == "tool_call")


def _build_call(part: Part) -> list[Any]:
    return [_write_call(part) if isinstance(part, ToolCall) else cast("Opaque", part).data]


def _patch_call(old: Part, new: Part, wire: Any) -> list[Any]:
    if not isinstance(new, ToolCall) or not isinstance(old, ToolCall):
        return _build_call(new)
    function = {**as_mapping(as_mapping(wire).get("function")), "name": new.name}
    if new.arguments != old.arguments:
        function["arguments"] = new.arguments
    out = {**as_mapping(wire), "function": function}
    put(out, "id", new.id)
    return [out]
