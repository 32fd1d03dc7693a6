"""The messages of the Messages API and their content blocks: read into parts, written from them, and patched.

One block is one part, in order: encoding patches a message block by block and relies on it. What only the block says
(citations, `cache_control`, who called a tool) survives every change of its part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from operator import attrgetter
from typing import Any, cast

from spanrelay.codecs.content import Readers, opaque, parts_of, read_parts, read_text, text_of
from spanrelay.codecs.narrowing import as_list, as_mapping, as_str
from spanrelay.codecs.patching import overlay, patch_sequence, put, same_class
from spanrelay.errors import CodecError
from spanrelay.records import JSON, Media, Message, Opaque, Part, Reasoning, Role, Text, ToolCall, ToolCallResponse

# --- reading blocks ----------------------------------------------------------------------------------------


def _read_thinking(block: Mapping[str, Any]) -> Part:
    text = block.get("thinking")
    return Reasoning(text, None, as_str(block.get("signature"))) if isinstance(text, str) else opaque(block)


def _read_redacted(block: Mapping[str, Any]) -> Part:
    data = block.get("data")
    return Reasoning("", None, None, data, True) if isinstance(data, str) else opaque(block)


def _read_media(block: Mapping[str, Any], modality: Any) -> Part:
    """Read an image or a document that is data, a URL or a file; a text, or blocks, stay what they are."""
    source = as_mapping(block.get("source"))
    data, url, file_id = (as_str(source.get(key)) for key in ("data", "url", "file_id"))
    if source.get("type") not in _SOURCES or (data is None and url is None and file_id is None):
        return opaque(block)
    return Media(modality, as_str(source.get("media_type")), url, data, file_id, as_str(block.get("title")))


_SOURCES = ("base64", "url", "file")


def _read_call(block: Mapping[str, Any]) -> Part:
    return ToolCall(
        as_str(block.get("id")),
        as_str(block.get("name")) or "",
        block.get("input"),
        namespace=as_str(block.get("toolset_name")),
    )


def _read_server_call(block: Mapping[str, Any], kind: str) -> Part:
    name, server = as_str(block.get("name")) or "", as_str(block.get("server_name"))
    return ToolCall(as_str(block.get("id")), name, block.get("input"), True, kind, server)


def _read_result(block: Mapping[str, Any]) -> Part:
    return ToolCallResponse(
        as_str(block.get("tool_use_id")), _told(block.get("content")), None, block.get("is_error") is True
    )


def _told(content: JSON) -> JSON:
    return read_content(content) if isinstance(content, list) else content


def _read_server_result(block: Mapping[str, Any], name: str | None) -> Part:
    """Read what a tool of the provider gave: of an MCP server blocks, of any other JSON of its own."""
    content = block.get("content")
    kind = as_str(as_mapping(content).get("type")) or ""
    failed = block.get("is_error") is True or kind.endswith("_error")
    told = _told(content) if name is None else content
    return ToolCallResponse(as_str(block.get("tool_use_id")), told, name, failed, True)


_SERVER_TOOLS = (
    "web_search",
    "web_fetch",
    "code_execution",
    "bash_code_execution",
    "text_editor_code_execution",
    "tool_search",
    "advisor",
)
"""What the provider runs; the block of what it gave is named after it."""

_READERS: Readers = {
    "text": read_text,
    "thinking": _read_thinking,
    "redacted_thinking": _read_redacted,
    "image": partial(_read_media, modality="image"),
    "document": partial(_read_media, modality="document"),
    "tool_use": _read_call,
    "server_tool_use": partial(_read_server_call, kind="server_tool_use"),
    "mcp_tool_use": partial(_read_server_call, kind="mcp_tool_use"),
    "tool_result": _read_result,
    "mcp_tool_result": partial(_read_server_result, name=None),
    **{f"{tool}_tool_result": partial(_read_server_result, name=tool) for tool in _SERVER_TOOLS},
}


def read_content(content: object) -> list[Part]:
    """Read content; an array gives exactly one part for each block."""
    return read_parts(content, _READERS, opaque)


# --- reading messages --------------------------------------------------------------------------------------

_ROLES: Mapping[str, Role] = {"user": "user", "assistant": "assistant", "system": "system"}


def read_message(item: Any) -> Message:
    """Read a message of a request; one of tools' results alone is a tool's, and what is none becomes `Opaque`."""
    if not isinstance(item, Mapping):
        return Message("user", [Opaque("message", item)])
    wire = cast("Mapping[str, Any]", item)
    said, content = wire.get("role"), wire.get("content")
    role = _ROLES.get(said, "user") if isinstance(said, str) else "user"
    if content.__class__ is str:
        return Message(role, [Text(content)] if content else [])
    parts = read_content(content)
    if role == "user" and parts and all(isinstance(part, ToolCallResponse) for part in parts):
        role = "tool"
    return Message(role, parts)


# --- writing blocks ----------------------------------------------------------------------------------------

_OWNED = frozenset({"text", "thinking", "signature", "data", "url", "file_id", "media_type", "title", "source"})
"""Keys of a block, and of its source, that its record speaks for."""


def _write_text(part: Text) -> dict[str, Any]:
    return {"type": "text", "text": part.text}


def _write_reasoning(part: Reasoning) -> dict[str, Any]:
    if part.encrypted is not None and not part.text:
        return {"type": "redacted_thinking", "data": part.encrypted}
    return {"type": "thinking", "thinking": part.text, "signature": part.signature or ""}


def _write_media(part: Media) -> dict[str, Any]:
    if part.modality not in ("image", "document"):
        raise CodecError(f"a message has no form for {part.modality!r} media; expected image or document")
    source: dict[str, Any]
    if part.data is not None:
        default = "image/png" if part.modality == "image" else "application/pdf"
        source = {"type": "base64", "media_type": part.mime_type or default, "data": part.data}
    elif part.file_id is not None:
        source = {"type": "file", "file_id": part.file_id}
    else:
        source = {"type": "url", "url": part.uri}
    block: dict[str, Any] = {"type": part.modality, "source": source}
    put(block, "title", part.name)
    return block


def _write_call(part: ToolCall) -> dict[str, Any]:
    kind = "tool_use" if not part.server else part.type or "server_tool_use"
    block: dict[str, Any] = {"type": kind, "id": part.id, "name": part.name, "input": _input_of(part)}
    put(block, "server_name" if kind == "mcp_tool_use" else "toolset_name", part.namespace)
    return block


def _input_of(part: ToolCall) -> JSON:
    """Return arguments as the API takes them: a tool without any has an empty object."""
    if part.arguments is None:
        return {}
    if isinstance(part.arguments, Mapping):
        return cast("JSON", part.arguments)
    raise CodecError(
        f"the arguments of a tool call are an object, not {type(part.arguments).__name__!r}; write them as a dict"
    )


def _write_result(part: ToolCallResponse) -> dict[str, Any]:
    content = _write_told(part.content)
    if not part.server:
        block: dict[str, Any] = {"type": "tool_result", "tool_use_id": part.id, "content": content}
    elif part.name in _SERVER_TOOLS:
        return {"type": f"{part.name}_tool_result", "tool_use_id": part.id, "content": part.content}
    else:
        block = {"type": "mcp_tool_result", "tool_use_id": part.id, "is_error": part.is_error, "content": content}
    if part.is_error:
        block["is_error"] = True
    return block


def _write_told(content: JSON) -> JSON:
    parts = parts_of(content, _WRITERS)
    return text_of(content) if parts is None else [write_part(part)[0] for part in parts]


_WRITERS: dict[type, Callable[[Any], Any]] = {
    Text: _write_text,
    Reasoning: _write_reasoning,
    Media: _write_media,
    ToolCall: _write_call,
    ToolCallResponse: _write_result,
    Opaque: attrgetter("data"),
}


def write_part(part: Part) -> list[Any]:
    """Write a part that no block stands behind."""
    return [_WRITERS[type(part)](part)]


# --- patching ----------------------------------------------------------------------------------------------


def _patch_part(old: Part, new: Part, wire: Any) -> list[Any]:
    if not isinstance(wire, Mapping):
        return write_part(new)
    block = cast("Mapping[str, Any]", wire)
    if isinstance(old, ToolCall) and isinstance(new, ToolCall):
        return _patch_call(old, new, block)
    if isinstance(old, ToolCallResponse) and isinstance(new, ToolCallResponse):
        return _patch_result(old, new, block)
    built = write_part(new)
    if isinstance(new, Opaque) or block.get("type") != built[0].get("type"):
        return built
    if isinstance(new, Media) and as_mapping(block.get("source")).get("type") != built[0]["source"]["type"]:
        return [{**block, **built[0]}]
    return [overlay(block, built[0], _OWNED)]


def _patch_call(old: ToolCall, new: ToolCall, block: Mapping[str, Any]) -> list[Any]:
    if (old.server, old.type) != (new.server, new.type):
        return write_part(new)
    out = dict(block)
    for key, was, now in (("id", old.id, new.id), ("name", old.name, new.name)):
        if was != now:
            out[key] = now
    if old.arguments != new.arguments:
        out["input"] = _input_of(new)
    if old.namespace != new.namespace:
        put(out, "server_name" if "server_name" in out else "toolset_name", new.namespace)
    return [out]


def _patch_result(old: ToolCallResponse, new: ToolCallResponse, block: Mapping[str, Any]) -> list[Any]:
    if (old.server, old.name) != (new.server, new.name):
        return write_part(new)
    out = dict(block)
    if old.id != new.id:
        out["tool_use_id"] = new.id
    if old.is_error != new.is_error:
        out["is_error"] = new.is_error
    if old.content != new.content:
        out["content"] = _patch_told(old.content, new, block.get("content"))
    return [out]


def _patch_told(old: JSON, new: ToolCallResponse, content: Any) -> Any:
    was, now = (parts_of(each, _WRITERS) for each in (old, new.content))
    if was is not None and now is not None and isinstance(content, list):
        return patch_blocks(was, now, cast("list[Any]", content))
    return new.content if new.server and new.name is not None else _write_told(new.content)


def patch_blocks(was: list[Part], now: list[Part], content: list[Any]) -> list[Any]:
    """Return the blocks `content`, read as `was`, changed so that they read as `now`."""
    return patch_sequence(was, now, content, patch=_patch_part, build=write_part, alike=same_class)


def patch_content(was: list[Part], now: list[Part], content: Any) -> Any:
    """Return content, read as `was`, changed so that it reads as `now`; one text stays one text."""
    if isinstance(content, list):
        return patch_blocks(was, now, cast("list[Any]", content))
    if len(now) == 1 and isinstance(now[0], Text):
        return now[0].text
    return [block for part in now for block in write_part(part)] if now else ""


_WIRE_ROLES: Mapping[Role, str] = {"tool": "user", "developer": "system"}


def patch_message(old: Message, new: Message, wire: Any) -> list[Any]:
    """Return the wire message for `new`."""
    out = dict(as_mapping(wire))
    if new.role != old.role or not out:
        out["role"] = _WIRE_ROLES.get(new.role, new.role)
    if new.parts != old.parts or "content" not in out:
        out["content"] = patch_content(old.parts, new.parts, out.get("content"))
    return [out]


def write_message(message: Message) -> list[Any]:
    """Write a message that no wire message stands behind."""
    return patch_message(Message(message.role), message, {})


def blocks_within(wire: Mapping[str, Any]) -> list[Any]:
    """Return the content blocks of all messages of a request."""
    return [block for item in as_list(wire.get("messages")) for block in as_list(as_mapping(item).get("content"))]
