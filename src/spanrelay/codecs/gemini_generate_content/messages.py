"""The contents of Gemini's API: each read into one message, each of its parts into one part, and patched.

Patching changes only what a record changed: signatures, metadata and spellings of a part survive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, Literal, cast

from spanrelay._json import dumps_text, loads_or_text
from spanrelay.codecs.gemini_shapes import both, field, put_field, snake, spelled
from spanrelay.codecs.narrowing import as_list, as_mapping, as_str
from spanrelay.codecs.patching import patch_sequence, put, same_class
from spanrelay.errors import CodecError
from spanrelay.records import (
    JSON,
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

# --- reading parts -----------------------------------------------------------------------------------------


def _read_text(text: Any, part: Mapping[str, Any]) -> Part:
    if not isinstance(text, str):
        return _opaque(part)
    signature = as_str(field(part, "thoughtSignature"))
    # A stream ends with a part that has a signature and no text.
    if part.get("thought") is True or (signature and not text):
        return Reasoning(text, None, signature)
    return Text(text)


def _read_call(call: Any, _part: Mapping[str, Any]) -> Part:
    call = as_mapping(call)
    return ToolCall(as_str(call.get("id")), as_str(call.get("name")) or "", call.get("args"))


def _read_result(result: Any, _part: Mapping[str, Any]) -> Part:
    result = as_mapping(result)
    response = result.get("response")
    key = _wrapped_by(response)
    content: Any = response if key is None else as_mapping(response).get(key)
    media = [read_part(part) for part in as_list(result.get("parts"))]
    if media:
        text: str = content if isinstance(content, str) else dumps_text(content)
        content = [*([Text(text)] if content else []), *media]
    return ToolCallResponse(as_str(result.get("id")), content, as_str(result.get("name")), key == "error")


_WRAPPERS = ("result", "output", "error")
"""The one key of a response whose value is all there is of it: the SDK's, and the two that the API speaks of."""


def _wrapped_by(response: Any) -> str | None:
    """Return the key that a result stands under, in the object that the API wants it to be; None where it has none."""
    if not isinstance(response, Mapping) or len(cast("Mapping[str, Any]", response)) != 1:
        return None
    return next((key for key in _WRAPPERS if key in response), None)


_MODALITIES: dict[str, Literal["image", "audio", "video"]] = {"image": "image", "audio": "audio", "video": "video"}


def _modality(mime_type: str | None) -> Literal["image", "audio", "video", "document"]:
    return _MODALITIES.get((mime_type or "").partition("/")[0], "document")


def _read_inline(blob: Any, part: Mapping[str, Any]) -> Part:
    blob = as_mapping(blob)
    data, kind = blob.get("data"), as_str(field(blob, "mimeType"))
    if not isinstance(data, str):
        return _opaque(part)
    # The SDK writes the alphabet for URLs, which few readers of base64 know.
    data = data.replace("-", "+").replace("_", "/")
    return Media(_modality(kind), kind, None, data, None, as_str(field(blob, "displayName")))


def _read_file(file: Any, part: Mapping[str, Any]) -> Part:
    file = as_mapping(file)
    uri, kind = as_str(field(file, "fileUri")), as_str(field(file, "mimeType"))
    if uri is None:
        return _opaque(part)
    return Media(_modality(kind), kind, uri, None, None, as_str(field(file, "displayName")))


def _read_code(code: Any, _part: Mapping[str, Any]) -> Part:
    code = as_mapping(code)
    arguments = {key: code[key] for key in ("language", "code") if code.get(key) is not None}
    return ToolCall(as_str(code.get("id")), "code_execution", arguments, True, "executableCode")


def _read_code_result(result: Any, _part: Mapping[str, Any]) -> Part:
    result = as_mapping(result)
    failed = result.get("outcome") not in (None, "OUTCOME_OK", "OUTCOME_UNSPECIFIED")
    return ToolCallResponse(as_str(result.get("id")), result.get("output"), "code_execution", failed, True)


def _name_of(kind: Any) -> str:
    return kind.lower() if isinstance(kind, str) else "server_tool"


def _read_server_call(call: Any, _part: Mapping[str, Any]) -> Part:
    call = as_mapping(call)
    return ToolCall(as_str(call.get("id")), _name_of(field(call, "toolType")), call.get("args"), True, "toolCall")


def _read_server_result(result: Any, _part: Mapping[str, Any]) -> Part:
    result = as_mapping(result)
    name = _name_of(field(result, "toolType"))
    return ToolCallResponse(as_str(result.get("id")), result.get("response"), name, False, True)


_PART_READERS: dict[str, Callable[[Any, Mapping[str, Any]], Part]] = both(
    {
        "text": _read_text,
        "functionCall": _read_call,
        "functionResponse": _read_result,
        "inlineData": _read_inline,
        "fileData": _read_file,
        "executableCode": _read_code,
        "codeExecutionResult": _read_code_result,
        "toolCall": _read_server_call,
        "toolResponse": _read_server_result,
    }
)


def _opaque(part: Any) -> Opaque:
    kinds = as_mapping(part)
    return Opaque(snake(next(iter(kinds))) if kinds else "unknown", part)


def read_part(part: Any) -> Part:
    """Read one part; what nobody knows is `Opaque`."""
    if not isinstance(part, Mapping):
        return _opaque(part)
    fields = cast("Mapping[str, Any]", part)
    text = fields.get("text")
    if isinstance(text, str) and len(fields) == 1:
        return Text(text)
    for key, value in fields.items():
        read = _PART_READERS.get(key)
        if read is not None and value is not None:
            return read(value, fields)
    return _opaque(fields)


# --- reading contents --------------------------------------------------------------------------------------


def read_content(item: Any) -> Message:
    """Read one content of a request as a message."""
    if not isinstance(item, Mapping):
        return Message("user", [Opaque("content", item)])
    content = cast("Mapping[str, Any]", item)
    parts = [read_part(part) for part in as_list(content.get("parts"))]
    return Message(_role_of(content.get("role"), parts), parts)


def _role_of(role: Any, parts: list[Part]) -> Role:
    if role == "model":
        return "assistant"
    if role == "system":
        return "system"
    # Results are sent as the user's; older programs have a role for them.
    if role == "function" or (parts and all(isinstance(part, ToolCallResponse) for part in parts)):
        return "tool"
    return "user"


# --- writing parts -----------------------------------------------------------------------------------------


def _write_text(part: Text) -> dict[str, Any]:
    return {"text": part.text}


def _write_reasoning(part: Reasoning) -> dict[str, Any]:
    out: dict[str, Any] = {"text": part.text, "thought": True}
    put(out, "thoughtSignature", part.signature)
    return out


def _write_media(part: Media) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if part.data is not None:
        put(out, "mimeType", part.mime_type)
        return {"inlineData": {**out, "data": part.data}}
    if part.uri is None:
        raise CodecError(f"Gemini takes {part.modality!r} media as data or by URI, not by file_id {part.file_id!r}")
    put(out, "mimeType", part.mime_type)
    return {"fileData": {**out, "fileUri": part.uri}}


def _write_call(part: ToolCall) -> dict[str, Any]:
    if part.server:
        raise CodecError(f"Gemini has no form for a new call of its own tool {part.name!r}; leave it out")
    call: dict[str, Any] = {}
    put(call, "id", part.id)
    return {"functionCall": {**call, "name": part.name, "args": _arguments(part)}}


def _arguments(part: ToolCall) -> dict[str, Any]:
    arguments = loads_or_text(part.arguments) if isinstance(part.arguments, str) else part.arguments
    if arguments is None or arguments == "":
        return {}
    if not isinstance(arguments, Mapping):
        raise CodecError(
            f"the arguments of a call of {part.name!r} must be a JSON object, not {type(arguments).__name__!r}"
        )
    return dict(cast("Mapping[str, Any]", arguments))


def _write_result(part: ToolCallResponse) -> dict[str, Any]:
    if part.server:
        raise CodecError(f"Gemini has no form for a new result of its own tool {part.name!r}; leave it out")
    if part.name is None:
        raise CodecError("a result goes to Gemini by the name of its function; set `name`")
    result: dict[str, Any] = {}
    put(result, "id", part.id)
    return {"functionResponse": {**result, "name": part.name, "response": _response(part, None)}}


def _response(part: ToolCallResponse, wire: Any) -> dict[str, Any]:
    """Return the object that a result is to be; under the key of `wire` where that has it under one."""
    content: JSON = part.content
    parts = as_list(content)
    if parts and all(isinstance(each, Text) for each in parts):
        content = "".join(each.text for each in parts)
    elif any(not isinstance(each, (dict, list, str, int, float, bool, type(None))) for each in parts):
        raise CodecError(
            f"the result of {part.name!r} holds parts that are no text, for which Gemini has another place"
        )
    key = _wrapped_by(wire)
    if part.is_error:
        return {"error": content}
    if isinstance(content, Mapping) and key is None:
        return dict(cast("Mapping[str, Any]", content))
    return {key if key not in (None, "error") else "result": content}


_PART_WRITERS: dict[type, Callable[[Any], Any]] = {
    Text: _write_text,
    Reasoning: _write_reasoning,
    Media: _write_media,
    ToolCall: _write_call,
    ToolCallResponse: _write_result,
    Opaque: attrgetter("data"),
}


def _write_part(part: Part) -> list[Any]:
    return [_PART_WRITERS[type(part)](part)]


def _patch_part(old: Part, new: Part, wire: Any) -> list[Any]:
    if isinstance(new, Opaque) or not isinstance(wire, Mapping):
        return _write_part(new)
    out = dict(cast("Mapping[str, Any]", wire))
    if isinstance(new, Text):
        out["text"] = new.text
    elif isinstance(new, Reasoning) and isinstance(old, Reasoning):
        out["text"] = new.text
        if new.signature != old.signature:
            put_field(out, "thoughtSignature", new.signature)
    elif isinstance(new, ToolCall) and isinstance(old, ToolCall) and not new.server and not old.server:
        _patch_call(out, old, new)
    elif isinstance(new, ToolCallResponse) and isinstance(old, ToolCallResponse) and not (new.server or old.server):
        _patch_result(out, old, new)
    elif isinstance(new, Media):
        for name in ("inlineData", "fileData"):
            put_field(out, name, None)
        out.update(_write_media(new))
    else:
        return _write_part(new)
    return [out]


def _patch_call(out: dict[str, Any], old: ToolCall, new: ToolCall) -> None:
    key = spelled(out, "functionCall")
    call = dict(as_mapping(out.get(key)))
    call["name"] = new.name
    if new.id != old.id:
        put(call, "id", new.id)
    if new.arguments != old.arguments:
        call["args"] = _arguments(new)
    out[key] = call


def _patch_result(out: dict[str, Any], old: ToolCallResponse, new: ToolCallResponse) -> None:
    key = spelled(out, "functionResponse")
    result = dict(as_mapping(out.get(key)))
    put(result, "name", new.name)
    if new.id != old.id:
        put(result, "id", new.id)
    if (new.content, new.is_error) != (old.content, old.is_error):
        media = [part for part in as_list(new.content) if isinstance(part, Media)]
        if media:
            new = ToolCallResponse(
                new.id, [part for part in new.content if not isinstance(part, Media)], new.name, new.is_error
            )
        result["response"] = _response(new, result.get("response"))
        put(result, "parts", [_write_media(part) for part in media] or None)
    out[key] = result


# --- writing contents --------------------------------------------------------------------------------------

_WIRE_ROLES: dict[str, str] = {"assistant": "model", "user": "user", "tool": "user"}


def write_parts(parts: list[Part]) -> list[Any]:
    """Return wire parts for `parts`."""
    return [item for part in parts for item in _write_part(part)]


def patch_parts(old: list[Part], new: list[Part], wire: Any) -> list[Any]:
    """Return the wire parts `wire`, read as `old`, changed so that they read as `new`."""
    return patch_sequence(old, new, as_list(wire), patch=_patch_part, build=_write_part, alike=same_class)


def write_content(message: Message) -> list[Any]:
    """Return the content that stands for a message."""
    role = _WIRE_ROLES.get(message.role)
    if role is None:
        raise CodecError(f"Gemini's contents have no role {message.role!r}; put its parts into `system`")
    return [{"role": role, "parts": write_parts(message.parts)}]


def patch_content(old: Message, new: Message, wire: Any) -> list[Any]:
    """Return the content `wire`, read as `old`, changed so that it reads as `new`."""
    if not isinstance(wire, Mapping):
        return write_content(new)
    out = dict(cast("Mapping[str, Any]", wire))
    if new.role != old.role:
        out["role"] = write_content(Message(new.role))[0]["role"]
    if new.parts != old.parts:
        out["parts"] = patch_parts(old.parts, new.parts, wire.get("parts"))
    return [out]
