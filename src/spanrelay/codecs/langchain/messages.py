"""LangChain's messages as records and back: their content, in the forms of all providers, calls and results.

A block whose form nobody knows is the record's `Opaque` and goes back as it came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from spanrelay.codecs import openai_chat
from spanrelay.codecs.content import text_of
from spanrelay.codecs.narrowing import as_list, as_mapping, as_str
from spanrelay.codecs.patching import overlay, patch_sequence, put, same_class
from spanrelay.errors import CodecError
from spanrelay.records import (
    Media,
    Message,
    Opaque,
    Part,
    Reasoning,
    Role,
    Text,
    ToolCall,
    ToolCallResponse,
)

# --- reading content ---------------------------------------------------------------------------------------

_REPEATED = frozenset({"tool_use", "tool_call", "tool_call_chunk", "function_call", "input_json_delta"})
"""Blocks that say again what stands in `tool_calls`."""


def _blocks(wire: Mapping[str, Any]) -> list[Any]:
    """Return the blocks of a message that its parts stand for."""
    blocks = as_list(wire.get("content"))
    if not (wire.get("tool_calls") or wire.get("invalid_tool_calls")):
        return blocks
    return [block for block in blocks if not _is_repeated(block)]


def _is_repeated(block: Any) -> bool:
    return as_str(as_mapping(block).get("type")) in _REPEATED


def _read_content(wire: Mapping[str, Any]) -> list[Part]:
    content = wire.get("content")
    if isinstance(content, str):
        return [Text(content)] if content else []
    if content and not isinstance(content, list):
        return [Opaque("content", content)]
    return [_read_block(block) for block in _blocks(wire)]


def _read_block(block: Any) -> Part:
    kind = as_str(as_mapping(block).get("type"))
    read = _BLOCK_READERS.get(kind) if kind is not None else None
    part = read(as_mapping(block)) if read is not None else None
    if part is not None:
        return part
    # The blocks of OpenAI's API, which LangChain passes as they are.
    parts = openai_chat.decode_request({"messages": [{"role": "user", "content": [block]}]}).messages[0].parts
    return parts[0] if parts else Opaque("unknown", block)


def _read_reasoning(block: Mapping[str, Any]) -> Part:
    text = as_str(block.get("reasoning")) or as_str(block.get("thinking"))
    if text is None:
        text = "".join(as_str(as_mapping(item).get("text")) or "" for item in as_list(block.get("summary")))
    extras = as_mapping(block.get("extras"))
    signature = as_str(block.get("signature")) or as_str(extras.get("signature"))
    return Reasoning(text, as_str(block.get("id")), signature, as_str(block.get("encrypted_content")))


def _read_thinking(block: Mapping[str, Any]) -> Part | None:
    return _read_reasoning(block) if isinstance(block.get("thinking"), str) else None


def _read_redacted(block: Mapping[str, Any]) -> Part:
    return Reasoning("", encrypted=as_str(block.get("data")), redacted=True)


def _read_media(block: Mapping[str, Any]) -> Part | None:
    """Read a medium in LangChain's forms, old and new, or in Anthropic's; None where it is neither."""
    source = as_mapping(block.get("source")) or block
    file_id = as_str(source.get("file_id")) or (as_str(source.get("id")) if "source_type" in source else None)
    data = as_str(source.get("base64")) or as_str(source.get("data"))
    url = as_str(source.get("url"))
    if file_id is None and data is None and url is None:
        return None
    mime_type = as_str(source.get("mime_type")) or as_str(source.get("media_type"))
    modality: Any = {"file": "document"}.get(block["type"], block["type"])
    return Media(modality, mime_type, url, data, file_id, as_str(source.get("filename")))


_BLOCK_READERS: dict[str, Callable[[Mapping[str, Any]], Part | None]] = {
    "reasoning": _read_reasoning,
    "thinking": _read_thinking,
    "redacted_thinking": _read_redacted,
    "image": _read_media,
    "audio": _read_media,
    "video": _read_media,
    "file": _read_media,
    "document": _read_media,
}

# --- reading messages --------------------------------------------------------------------------------------

_ROLES: dict[str, Role] = {
    "human": "user",
    "HumanMessageChunk": "user",
    "ai": "assistant",
    "AIMessageChunk": "assistant",
    "system": "system",
    "SystemMessageChunk": "system",
    "tool": "tool",
    "ToolMessageChunk": "tool",
    "function": "tool",
    "FunctionMessageChunk": "tool",
}
_KNOWN_ROLES: dict[str, Role] = {
    **_ROLES,
    "user": "user",
    "assistant": "assistant",
    "developer": "developer",
}


def _role_of(wire: Mapping[str, Any]) -> Role:
    kind = as_str(wire.get("type")) or ""
    if kind in ("chat", "ChatMessageChunk"):
        return _KNOWN_ROLES.get(as_str(wire.get("role")) or "", "user")
    if kind == "system" and as_mapping(wire.get("additional_kwargs")).get("__openai_role__") == "developer":
        return "developer"
    return _ROLES.get(kind, "user")


def read_message(item: Any) -> Message:
    """Return the record of one message; of what is no object, a user's."""
    if not isinstance(item, Mapping):
        return Message("user", [Opaque("message", item)])
    wire = cast("Mapping[str, Any]", item)
    role = _role_of(wire)
    if role == "tool":
        return Message("tool", [_read_result(wire)])
    name = as_str(wire.get("name"))
    if role != "assistant":
        return Message(role, _read_content(wire), name)
    return Message(role, read_answer(wire), name)


def _read_result(wire: Mapping[str, Any]) -> ToolCallResponse:
    content = wire.get("content")
    if isinstance(content, list):
        content = [_read_block(block) for block in cast("list[Any]", content)]
    call_id, name = as_str(wire.get("tool_call_id")), as_str(wire.get("name"))
    return ToolCallResponse(call_id, content, name, wire.get("status") == "error")


def read_answer(wire: Mapping[str, Any]) -> list[Part]:
    """Return the parts of a message of the model's: reasoning, content, refusal, calls."""
    extra = as_mapping(wire.get("additional_kwargs"))
    parts: list[Part] = []
    reasoning = extra.get("reasoning_content")
    if isinstance(reasoning, str) and reasoning:
        parts.append(Reasoning(reasoning))
    parts += _read_content(wire)
    if isinstance(extra.get("refusal"), str):
        parts.append(Opaque("refusal", {"type": "refusal", "refusal": extra["refusal"]}))
    for key in ("tool_calls", "invalid_tool_calls"):
        parts += [_read_call(as_mapping(call)) for call in as_list(wire.get(key))]
    return parts


def _read_call(call: Mapping[str, Any]) -> ToolCall:
    return ToolCall(as_str(call.get("id")), as_str(call.get("name")) or "", call.get("args"))


# --- writing messages --------------------------------------------------------------------------------------

_OWNED = frozenset({"text", "reasoning", "thinking", "url", "base64", "data", "file_id", "id", "source"})
"""Keys of a block that its record speaks for."""


def _write_part(part: Part) -> list[Any]:
    write = _PART_WRITERS.get(type(part))
    if write is None:
        raise CodecError(f"the content of a LangChain message has no form for a {type(part).__name__!r} part")
    return [write(part)]


def _write_media(part: Media) -> dict[str, Any]:
    block: dict[str, Any] = {"type": {"document": "file"}.get(part.modality, part.modality)}
    for key, value in (("url", part.uri), ("base64", part.data), ("file_id", part.file_id)):
        put(block, key, value)
    put(block, "mime_type", part.mime_type)
    put(block, "filename", part.name)
    return block


_PART_WRITERS: dict[type, Callable[[Any], Any]] = {
    Text: lambda part: {"type": "text", "text": part.text},
    Reasoning: lambda part: {"type": "reasoning", "reasoning": part.text},
    Media: _write_media,
    Opaque: lambda part: part.data,
}


def _patch_part(_old: Part, new: Part, wire: Any) -> list[Any]:
    built = _write_part(new)
    if isinstance(new, Reasoning) and isinstance(as_mapping(wire).get("thinking"), str):
        return [{**wire, "thinking": new.text}]
    if isinstance(new, Opaque) or not isinstance(wire, Mapping) or wire.get("type") != built[0].get("type"):
        return built
    return [overlay(cast("Mapping[str, Any]", wire), built[0], _OWNED)]


def _patch_blocks(was: list[Part], now: list[Part], blocks: list[Any]) -> list[Any]:
    return patch_sequence(was, now, blocks, patch=_patch_part, build=_write_part, alike=same_class)


def _set_content(out: dict[str, Any], was: list[Part], now: list[Part]) -> None:
    content = out.get("content")
    if isinstance(content, list):
        repeated = [block for block in cast("list[Any]", content) if _is_repeated(block)]
        kept = repeated if len(_blocks(out)) != len(cast("list[Any]", content)) else []
        out["content"] = [*_patch_blocks(was, now, _blocks(out)), *kept]
    elif not now:
        out["content"] = ""
    elif len(now) == 1 and isinstance(now[0], Text):
        out["content"] = now[0].text
    else:
        out["content"] = [block for part in now for block in _write_part(part)]


def _write_call(call: ToolCall) -> list[Any]:
    if not isinstance(call.arguments, Mapping):
        return [{"name": call.name, "args": text_of(call.arguments), "id": call.id, "type": "invalid_tool_call"}]
    return [{"name": call.name, "args": call.arguments, "id": call.id, "type": "tool_call"}]


def _patch_call(old: ToolCall, new: ToolCall, wire: Any) -> list[Any]:
    if isinstance(old.arguments, Mapping) != isinstance(new.arguments, Mapping):
        return _write_call(new)
    return [{**as_mapping(wire), "name": new.name, "args": new.arguments, "id": new.id}]


def _set_calls(out: dict[str, Any], was: list[ToolCall], now: list[ToolCall]) -> None:
    wire = [*as_list(out.get("tool_calls")), *as_list(out.get("invalid_tool_calls"))]
    calls = patch_sequence(was, now, wire, patch=_patch_call, build=_write_call, alike=same_class)
    # The provider's own forms of the calls would contradict these, and some models prefer them.
    content = out.get("content")
    if isinstance(content, list):
        out["content"] = [block for block in cast("list[Any]", content) if not _is_repeated(block)]
    if "tool_calls" in as_mapping(out.get("additional_kwargs")):
        out["additional_kwargs"] = {k: v for k, v in out["additional_kwargs"].items() if k != "tool_calls"}
    out["tool_calls"] = [call for call in calls if as_mapping(call).get("type") != "invalid_tool_call"]
    out["invalid_tool_calls"] = [call for call in calls if as_mapping(call).get("type") == "invalid_tool_call"]


def _sorted_parts(
    parts: list[Part], wire: Mapping[str, Any]
) -> tuple[list[Part], list[ToolCall], list[Part], list[Part]]:
    """Return content, calls, and what stands in `additional_kwargs`: the reasoning and the refusal."""
    extra = as_mapping(wire.get("additional_kwargs"))
    content: list[Part] = []
    calls: list[ToolCall] = []
    reasoning: list[Part] = []
    refusal: list[Part] = []
    for part in parts:
        if isinstance(part, ToolCall):
            calls.append(part)
        elif isinstance(part, Reasoning) and extra.get("reasoning_content") and not reasoning:
            reasoning.append(part)
        elif isinstance(part, Opaque) and part.type == "refusal" and "refusal" in extra:
            refusal.append(part)
        else:
            content.append(part)
    return content, calls, reasoning, refusal


def _set_extra(out: dict[str, Any], reasoning: list[Part], refusal: list[Part]) -> None:
    extra = dict(as_mapping(out.get("additional_kwargs")))
    if "reasoning_content" in extra:
        put(
            extra, "reasoning_content", reasoning[0].text if reasoning and isinstance(reasoning[0], Reasoning) else None
        )
    if "refusal" in extra:
        data = refusal[0].data if refusal and isinstance(refusal[0], Opaque) else None
        put(extra, "refusal", as_str(as_mapping(data).get("refusal")))
    if extra != out.get("additional_kwargs"):
        out["additional_kwargs"] = extra


def patch_message(old: Message, new: Message, wire: Any) -> list[Any]:
    """Return the wire message for `new`, or several where tool results stand beside other parts."""
    if any(isinstance(part, ToolCallResponse) for part in (*old.parts, *new.parts)):
        return _patch_results(old, new, wire)
    if not isinstance(wire, Mapping):
        return write_message(new)
    out = dict(cast("Mapping[str, Any]", wire))
    if new.name != old.name:
        out["name"] = new.name
    if new.parts != old.parts:
        _set_parts(out, old.parts, new.parts)
    return [out]


def _set_parts(out: dict[str, Any], old: list[Part], new: list[Part]) -> None:
    was, now = _sorted_parts(old, out), _sorted_parts(new, out)
    if was[0] != now[0]:
        _set_content(out, was[0], now[0])
    if was[1] != now[1]:
        _set_calls(out, was[1], now[1])
    if was[2:] != now[2:]:
        _set_extra(out, now[2], now[3])


_TYPES: dict[Role, str] = {"user": "human", "assistant": "ai", "system": "system", "developer": "system"}


def write_message(message: Message) -> list[Any]:
    """Return a new wire message for `message`, or several; see `patch_message`."""
    wire: dict[str, Any] = {"type": _TYPES.get(message.role, "human"), "content": ""}
    if message.role == "developer":
        wire["additional_kwargs"] = {"__openai_role__": "developer"}
    return patch_message(Message(message.role), message, wire)


def _patch_results(old: Message, new: Message, wire: Any) -> list[Any]:
    out: list[Any] = []
    before = old.parts[0] if len(old.parts) == 1 else None
    for part in new.parts:
        if not isinstance(part, ToolCallResponse):
            out += write_message(Message("user" if new.role == "tool" else new.role, [part], new.name))
        elif isinstance(before, ToolCallResponse) and isinstance(wire, Mapping):
            out.append(_patch_result(before, part, cast("Mapping[str, Any]", wire)))
            before = None
        else:
            out.append(_patch_result(ToolCallResponse(None, ""), part, {"type": "tool", "content": ""}))
    return out


def _patch_result(old: ToolCallResponse, new: ToolCallResponse, wire: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(wire)
    if new.id != old.id:
        out["tool_call_id"] = new.id
    if new.name != old.name:
        out["name"] = new.name
    if new.is_error != old.is_error:
        out["status"] = "error" if new.is_error else "success"
    if new.content != old.content:
        out["content"] = _result_content(old.content, new.content, wire.get("content"))
    return out


def _result_content(old: Any, new: Any, wire: Any) -> Any:
    parts = as_list(new)
    if not parts or not all(type(part) in _PART_WRITERS for part in parts):
        return text_of(new)
    if isinstance(wire, list) and isinstance(old, list):
        return _patch_blocks(cast("list[Part]", old), parts, cast("list[Any]", wire))
    return [block for part in parts for block in _write_part(part)]
