"""The messages of the Converse API: blocks of content, each an object with one key that says what it is.

One block is one part, in order: encoding patches the wire block by block and relies on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, cast

from spanrelay._json import dumps_text
from spanrelay.codecs.content import opaque, parts_of
from spanrelay.codecs.narrowing import as_list, as_mapping, as_str
from spanrelay.codecs.patching import patch_sequence, put, same_class
from spanrelay.errors import CodecError
from spanrelay.records import Media, Message, Opaque, Part, Reasoning, Role, Text, ToolCall, ToolCallResponse

# --- reading -----------------------------------------------------------------------------------------------


def read_block(block: Any) -> Part:
    """Read one block of a message's content."""
    if isinstance(block, Mapping):
        fields = cast("Mapping[str, Any]", block)
        for key in fields:
            read = _BLOCK_READERS.get(key)
            if read is not None:
                return read(fields) or Opaque(key, block)
        key = next(iter(fields), "unknown")
        return Opaque(key if type(key) is str else "unknown", block)
    return Text(block) if isinstance(block, str) else opaque(block)


def _read_text(block: Mapping[str, Any]) -> Part | None:
    text = block["text"]
    return Text(text) if isinstance(text, str) else None


def _read_guarded(block: Mapping[str, Any]) -> Part | None:
    """Read text that a guardrail of the provider's judges: it is the model's all the same."""
    text = as_mapping(as_mapping(block["guardContent"]).get("text")).get("text")
    return Text(text) if isinstance(text, str) else None


def _read_cited(block: Mapping[str, Any]) -> Part | None:
    """Read an answer with citations as its text; the citations stay on the wire."""
    content = as_list(as_mapping(block["citationsContent"]).get("content"))
    texts = [as_mapping(item).get("text") for item in content]
    return Text("".join(cast("list[str]", texts))) if texts and all(isinstance(text, str) for text in texts) else None


def _read_reasoning(block: Mapping[str, Any]) -> Part | None:
    content = as_mapping(block["reasoningContent"])
    hidden = content.get("redactedContent")
    if isinstance(hidden, str):
        return Reasoning("", encrypted=hidden, redacted=True)
    shown = as_mapping(content.get("reasoningText"))
    text = shown.get("text")
    return Reasoning(text, signature=as_str(shown.get("signature"))) if isinstance(text, str) else None


def _read_call(block: Mapping[str, Any]) -> Part | None:
    call = block["toolUse"]
    if not isinstance(call, Mapping):
        return None
    fields = cast("Mapping[str, Any]", call)
    server = fields.get("type") == "server_tool_use"
    return ToolCall(as_str(fields.get("toolUseId")), as_str(fields.get("name")) or "", fields.get("input"), server)


def _read_result(block: Mapping[str, Any]) -> Part | None:
    result = block["toolResult"]
    if not isinstance(result, Mapping):
        return None
    fields = cast("Mapping[str, Any]", result)
    return ToolCallResponse(
        as_str(fields.get("toolUseId")),
        _read_result_content(fields.get("content")),
        is_error=fields.get("status") == "error",
        server=isinstance(fields.get("type"), str),
    )


def _read_result_content(content: Any) -> Any:
    if not isinstance(content, list):
        return content
    items = cast("list[Any]", content)
    only = as_mapping(items[0]) if len(items) == 1 else {}
    if len(only) == 1 and isinstance(only.get("text"), str):
        return only["text"]
    if len(only) == 1 and "json" in only and not isinstance(only["json"], list):
        return only["json"]
    return [read_block(item) for item in items]


def _media(key: str, modality: Any, kinds: Mapping[str, str]) -> Callable[[Mapping[str, Any]], Part | None]:
    def read(block: Mapping[str, Any]) -> Part | None:
        media = as_mapping(block[key])
        source = as_mapping(media.get("source"))
        data, uri = as_str(source.get("bytes")), as_str(as_mapping(source.get("s3Location")).get("uri"))
        if data is None and uri is None:
            return None
        form = as_str(media.get("format"))
        return Media(
            modality, form and kinds.get(form, f"{modality}/{form}"), uri, data, None, as_str(media.get("name"))
        )

    return read


_DOCUMENTS = {
    "pdf": "application/pdf",
    "csv": "text/csv",
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xls": "application/vnd.ms-excel",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "html": "text/html",
    "txt": "text/plain",
    "md": "text/markdown",
}
"""The formats of documents, and their MIME types; those of images, sound and films are the end of theirs."""
_FORMATS = {kind: form for form, kind in _DOCUMENTS.items()}

_BLOCK_READERS: dict[str, Callable[[Mapping[str, Any]], Part | None]] = {
    "text": _read_text,
    "toolUse": _read_call,
    "toolResult": _read_result,
    "reasoningContent": _read_reasoning,
    "image": _media("image", "image", {}),
    "document": _media("document", "document", _DOCUMENTS),
    "video": _media("video", "video", {"three_gp": "video/3gpp"}),
    "audio": _media("audio", "audio", {}),
    "guardContent": _read_guarded,
    "citationsContent": _read_cited,
}


def read_blocks(content: object) -> list[Part]:
    """Read a message's content; exactly one part for each block."""
    if isinstance(content, str):
        return [Text(content)]
    return [read_block(block) for block in as_list(content)]


def read_message(item: Any) -> Message:
    """Read a message; one that holds nothing but results of tools is a tool's, whatever the wire calls it."""
    if not isinstance(item, Mapping):
        return Message("user", [Opaque("message", item)])
    fields = cast("Mapping[str, Any]", item)
    parts = read_blocks(fields.get("content"))
    wanted = fields.get("role")
    if wanted == "assistant":
        return Message("assistant", parts)
    if wanted == "system":
        return Message("system", parts)
    results = bool(parts) and all(type(part) is ToolCallResponse for part in parts)
    return Message("tool" if results else "user", parts)


# --- writing -----------------------------------------------------------------------------------------------


def _write_text(part: Text) -> dict[str, Any]:
    return {"text": part.text}


def _write_reasoning(part: Reasoning) -> dict[str, Any]:
    if part.encrypted is not None and not part.text:
        return {"reasoningContent": {"redactedContent": part.encrypted}}
    shown: dict[str, Any] = {"text": part.text}
    put(shown, "signature", part.signature)
    return {"reasoningContent": {"reasoningText": shown}}


def _write_media(part: Media) -> dict[str, Any]:
    if part.data is not None:
        source: dict[str, Any] = {"bytes": part.data}
    elif part.uri is not None and part.uri.startswith("s3://"):
        source = {"s3Location": {"uri": part.uri}}
    else:
        raise CodecError(
            f"a Converse message has no form for {part.modality} at {part.uri!r}; give its data, or an S3 URI"
        )
    media: dict[str, Any] = {"format": _format_of(part), "source": source}
    if part.modality == "document":
        media["name"] = part.name or "document"
    return {part.modality: media}


def _format_of(part: Media) -> str:
    kind = part.mime_type or {"image": "image/png", "audio": "audio/wav", "video": "video/mp4"}.get(part.modality, "")
    return _FORMATS.get(kind) or {"video/3gpp": "three_gp"}.get(kind) or kind.partition("/")[2] or "txt"


def _write_call(part: ToolCall) -> dict[str, Any]:
    call: dict[str, Any] = {"toolUseId": part.id, "name": part.name, "input": part.arguments}
    return {"toolUse": {**call, "type": "server_tool_use"} if part.server else call}


def _write_result(part: ToolCallResponse) -> dict[str, Any]:
    result: dict[str, Any] = {"toolUseId": part.id, "content": _write_result_content(part.content)}
    return {"toolResult": {**result, "status": "error"} if part.is_error else result}


def _write_result_content(content: Any) -> list[Any]:
    parts = parts_of(content, _PART_WRITERS)
    if parts is not None or content == []:
        return [write_part(part) for part in parts or ()]
    if isinstance(content, Mapping):
        return [{"json": content}]
    return [{"text": content if isinstance(content, str) else "" if content is None else dumps_text(content)}]


_PART_WRITERS: dict[type, Callable[[Any], Any]] = {
    Text: _write_text,
    Reasoning: _write_reasoning,
    Media: _write_media,
    ToolCall: _write_call,
    ToolCallResponse: _write_result,
    Opaque: attrgetter("data"),
}


def write_part(part: Part) -> Any:
    """Return the block that says `part`.

    Raises:
        CodecError: there is none.
    """
    return _PART_WRITERS[type(part)](part)


def _build_part(part: Part) -> list[Any]:
    return [write_part(part)]


def _patch_part(old: Part, new: Part, block: Any) -> list[Any]:
    patch = _PART_PATCHERS.get(type(new))
    if patch is None or not isinstance(block, Mapping):
        return _build_part(new)
    return [patch(old, new, cast("Mapping[str, Any]", block))]


def _patch_text(_old: Text, new: Text, block: Mapping[str, Any]) -> Any:
    if "guardContent" in block:
        guarded = as_mapping(block["guardContent"])
        return {**block, "guardContent": {**guarded, "text": {**as_mapping(guarded.get("text")), "text": new.text}}}
    # Citations are of the text that was.
    return {**block, "text": new.text} if "text" in block else _write_text(new)


def _patch_reasoning(old: Reasoning, new: Reasoning, block: Mapping[str, Any]) -> Any:
    content = as_mapping(block.get("reasoningContent"))
    if "reasoningText" not in content or new.encrypted != old.encrypted:
        return _write_reasoning(new)
    shown = {**as_mapping(content["reasoningText"]), "text": new.text}
    # A signature is of the text that was.
    put(shown, "signature", new.signature if new.text == old.text or new.signature != old.signature else None)
    return {**block, "reasoningContent": {**content, "reasoningText": shown}}


def _patch_call(old: ToolCall, new: ToolCall, block: Mapping[str, Any]) -> Any:
    call = dict(as_mapping(block.get("toolUse")))
    call["toolUseId"], call["name"] = new.id, new.name
    if new.arguments != old.arguments:
        call["input"] = new.arguments
    if new.server != old.server:
        put(call, "type", "server_tool_use" if new.server else None)
    return {**block, "toolUse": call}


def _patch_result(old: ToolCallResponse, new: ToolCallResponse, block: Mapping[str, Any]) -> Any:
    result = dict(as_mapping(block.get("toolResult")))
    result["toolUseId"] = new.id
    if new.content != old.content:
        was, now = (parts_of(each.content, _PART_WRITERS) for each in (old, new))
        content = result.get("content")
        both = was is not None and now is not None and isinstance(content, list)
        result["content"] = patch_blocks(was or [], now or [], content) if both else _write_result_content(new.content)
    if new.is_error != old.is_error:
        result["status"] = "error" if new.is_error else "success"
    return {**block, "toolResult": result}


_PART_PATCHERS: dict[type, Callable[[Any, Any, Mapping[str, Any]], Any]] = {
    Text: _patch_text,
    Reasoning: _patch_reasoning,
    ToolCall: _patch_call,
    ToolCallResponse: _patch_result,
}


def patch_blocks(old: list[Part], new: list[Part], content: Any) -> list[Any]:
    """Return the blocks `content`, read as `old`, changed so that they read as `new`."""
    return patch_sequence(old, new, as_list(content), patch=_patch_part, build=_build_part, alike=same_class)


def patch_message(old: Message, new: Message, wire: Any) -> list[Any]:
    """Return the wire message for `new`, whose wire was read as `old`."""
    if not isinstance(wire, Mapping):
        return write_message(new)
    out = dict(cast("Mapping[str, Any]", wire))
    if new.role != old.role:
        out["role"] = _WIRE_ROLES.get(new.role, "user")
    if new.parts != old.parts:
        out["content"] = patch_blocks(old.parts, new.parts, out.get("content"))
    return [out]


def write_message(message: Message) -> list[Any]:
    """Write a message that no wire message stands behind."""
    if len(message.parts) == 1 and isinstance(message.parts[0], Opaque) and message.parts[0].type == "message":
        return [message.parts[0].data]
    return [{"role": _WIRE_ROLES.get(message.role, "user"), "content": [write_part(part) for part in message.parts]}]


_WIRE_ROLES: dict[Role, str] = {"assistant": "assistant"}
"""Everybody else is the user."""
