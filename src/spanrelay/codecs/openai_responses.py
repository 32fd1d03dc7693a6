"""The Responses API (`/responses`) of OpenAI and of the servers compatible with it.

One item is read into a fixed run of parts: encoding finds the items that a message came from by that.

Neighbouring items of the assistant (reasoning, text, calls) are one message, in a request as in an answer, so
that an answer reads the same when it comes back as history. The wire has no finish reason; it is derived:
`completed` is `tool_calls` where the client has a tool to run and else `stop`, `incomplete` is the wire's own
reason, `failed` and `cancelled` are themselves, and an answer still running has none. Writing one does nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain
from typing import Any, TypeAlias, cast
from uuid import uuid4

from spanrelay._json import dumps_text, loads_or_text
from spanrelay.codecs.narrowing import as_float, as_int, as_list, as_mapping, as_str
from spanrelay.codecs.openai_responses_stream import ResponsesAccumulator, stream_events, stream_texts
from spanrelay.codecs.openai_shapes import (
    decode_error,
    encode_error,
    image_from_url,
    media_url,
    patch_counts,
    split_data_url,
)
from spanrelay.codecs.parameters import Table, Writer, read_parameters, write_parameters
from spanrelay.codecs.patching import overlay, patch_sequence, put
from spanrelay.errors import CodecError
from spanrelay.records import (
    JSON,
    Media,
    Message,
    ModelRequest,
    ModelResponse,
    Opaque,
    Part,
    Reasoning,
    Role,
    Text,
    ToolCall,
    ToolCallResponse,
    ToolDefinition,
    Usage,
)

__all__ = [
    "accumulator",
    "decode_request",
    "decode_response",
    "encode_request",
    "encode_response",
    "operation",
    "stream_events",
    "stream_texts",
]

operation = "chat"

# --- reading content ---------------------------------------------------------------------------------------


def _read_content(content: object) -> list[Part]:
    """Read an item's content; an array gives exactly one part for each of its own."""
    if not content:
        return []
    if isinstance(content, str):
        return [Text(content)]
    if isinstance(content, list):
        return [_read_part(part) for part in cast("list[Any]", content)]
    return [Opaque("content", content)]


def _read_part(part: Any) -> Part:
    try:
        read = _PART_READERS[part["type"]]
    except (TypeError, KeyError, IndexError):
        return _opaque(part)
    return read(part)


def _opaque(part: Any) -> Part:
    return Opaque(as_str(as_mapping(part).get("type")) or "unknown", part)


def _read_text(part: Mapping[str, Any]) -> Part:
    text = part.get("text")
    return Text(text) if isinstance(text, str) else _opaque(part)


def _read_image(part: Mapping[str, Any]) -> Part:
    url, file_id = part.get("image_url"), as_str(part.get("file_id"))
    if isinstance(url, str):
        return image_from_url(url)
    return _opaque(part) if file_id is None else Media("image", file_id=file_id)


def _read_file(part: Mapping[str, Any]) -> Part:
    data, uri, file_id = (as_str(part.get(key)) for key in ("file_data", "file_url", "file_id"))
    if data is None and uri is None and file_id is None:
        return _opaque(part)
    mime_type, data = (split_data_url(data) or (None, data)) if data is not None else (None, None)
    return Media("document", mime_type, uri, data, file_id, as_str(part.get("filename")))


def _read_audio(part: Mapping[str, Any]) -> Part:
    audio = as_mapping(part.get("input_audio"))
    data, kind = audio.get("data"), audio.get("format")
    if not isinstance(data, str):
        return _opaque(part)
    return Media("audio", f"audio/{kind}" if isinstance(kind, str) else None, None, data)


_PART_READERS: dict[str, Callable[[Mapping[str, Any]], Part]] = {
    "input_text": _read_text,
    "output_text": _read_text,
    "text": _read_text,
    "input_image": _read_image,
    "input_file": _read_file,
    "input_audio": _read_audio,
}

# --- reading items -----------------------------------------------------------------------------------------

_ROLES: dict[str, Role] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "developer",
}


def _read_item(item: Any) -> Message:
    """Read one item as a message of its own."""
    try:
        kind = item.get("type")
        if kind is None:
            return _read_message(item) if "role" in item else _read_stranger(item)
        read = _ITEM_READERS.get(kind, _read_stranger)
    except (AttributeError, TypeError):
        return _read_stranger(item)
    return read(item)


def _read_message(item: Mapping[str, Any]) -> Message:
    content = item.get("content")
    role = item.get("role")
    name = item.get("name")
    return Message(
        _ROLES.get(role, "user") if isinstance(role, str) else "user",
        [Text(content)] if content.__class__ is str and content else _read_content(content),
        name if isinstance(name, str) else None,
        None,
    )


def _read_stranger(item: Any) -> Message:
    kind = as_str(as_mapping(item).get("type")) or "unknown"
    return Message(_role_of(kind), [Opaque(kind, item)])


def _role_of(kind: str) -> Role:
    """Return whose item one of an unknown type is, by its name."""
    if kind.endswith("_output"):
        return "tool"
    return "user" if kind.endswith("_response") or kind == "unknown" else "assistant"


def _read_reasoning(item: Mapping[str, Any]) -> Message:
    texts = _texts(item.get("content"))
    text = "".join(texts) if texts else "\n\n".join(_texts(item.get("summary")))
    encrypted = as_str(item.get("encrypted_content"))
    redacted = encrypted is not None and not text
    return Message("assistant", [Reasoning(text, as_str(item.get("id")), None, encrypted, redacted)])


def _texts(content: object) -> list[str]:
    texts = (as_str(as_mapping(part).get("text")) for part in as_list(content))
    return [text for text in texts if text]


def _call_id(item: Mapping[str, Any]) -> str | None:
    return as_str(item.get("call_id")) or as_str(item.get("id"))


def _read_function_call(item: Mapping[str, Any]) -> Message:
    arguments = item.get("arguments")
    if isinstance(arguments, str):
        arguments = loads_or_text(arguments)
    return Message("assistant", [ToolCall(_call_id(item), as_str(item.get("name")) or "", arguments)])


def _read_client_call(item: Mapping[str, Any], kind: str, key: str) -> Message:
    """Read the call of a tool that is the client's to run but is no function."""
    name = as_str(item.get("name")) or kind.removesuffix("_tool_call").removesuffix("_call")
    kind = "custom" if kind == "custom_tool_call" else kind
    return Message("assistant", [ToolCall(_call_id(item), name, item.get(key), False, kind)])


def _read_result(item: Mapping[str, Any]) -> Message:
    output = item.get("output")
    if isinstance(output, list):
        output = _read_content(cast("list[Any]", output))
    return Message("tool", [ToolCallResponse(_call_id(item), output)])


def _read_server_call(item: Mapping[str, Any], kind: str) -> Message:
    """Read a call that the provider ran, and what it gave where the item tells."""
    argument_keys, result_key = _SERVER_KEYS[kind]
    name = as_str(item.get("name")) or kind.removesuffix("_call")
    call_id = as_str(item.get("id"))
    arguments = _read_server_arguments(item, argument_keys)
    parts: list[Part] = [ToolCall(call_id, name, arguments, True, kind)]
    result, error = item.get(result_key), item.get("error")
    if result or error:
        if kind == "image_generation_call" and isinstance(result, str):
            result = [Media("image", "image/png", None, result)]
        parts.append(ToolCallResponse(call_id, error if error and not result else result, name, bool(error), True))
    return Message("assistant", parts)


def _read_server_arguments(item: Mapping[str, Any], keys: tuple[str, ...]) -> JSON:
    """Read one key as the arguments themselves, of several keys those that are there."""
    if len(keys) == 1:
        arguments = item.get(keys[0])
        return loads_or_text(arguments) if isinstance(arguments, str) else arguments
    return {key: item[key] for key in keys if item.get(key) is not None}


_SERVER_KEYS: dict[str, tuple[tuple[str, ...], str]] = {
    "web_search_call": (("action",), "results"),
    "file_search_call": (("queries", "filters"), "results"),
    "code_interpreter_call": (("code", "container_id"), "outputs"),
    "image_generation_call": (("revised_prompt", "size"), "result"),
    "mcp_call": (("arguments",), "output"),
    "mcp_list_tools": (("server_label", "connector_id"), "tools"),
    "tool_search_call": (("arguments",), "results"),
}
"""For each kind of call that the provider runs: the keys of its arguments, the key of its result."""

_CLIENT_KEYS = {
    "custom_tool_call": "input",
    "computer_call": "action",
    "local_shell_call": "action",
    "shell_call": "action",
    "apply_patch_call": "operation",
}
"""For each kind of call that the client runs but `function_call`: the key of its arguments."""

_RESULT_KINDS = (
    "function_call_output",
    "custom_tool_call_output",
    "computer_call_output",
    "local_shell_call_output",
    "shell_call_output",
    "apply_patch_call_output",
)

_ITEM_READERS: dict[str, Callable[[Mapping[str, Any]], Message]] = {
    "message": _read_message,
    "reasoning": _read_reasoning,
    "function_call": _read_function_call,
    **{kind: partial(_read_client_call, kind=kind, key=key) for kind, key in _CLIENT_KEYS.items()},
    **{kind: partial(_read_server_call, kind=kind) for kind in _SERVER_KEYS},
    **dict.fromkeys(_RESULT_KINDS, _read_result),
}


# --- reading requests and responses ------------------------------------------------------------------------


def _read_format(text: JSON) -> JSON:
    kind = as_mapping(as_mapping(text).get("format")).get("type")
    return {"json_object": "json", "json_schema": "json"}.get(kind, kind) if isinstance(kind, str) else None


def _read_conversation(conversation: JSON) -> JSON:
    return conversation if isinstance(conversation, str) else as_mapping(conversation).get("id")


_PARAMETERS: Table = {
    "temperature": ("temperature", None),
    "top_p": ("top_p", None),
    "max_output_tokens": ("max_tokens", None),
    "reasoning": ("reasoning_effort", lambda value: as_mapping(value).get("effort")),
    "text": ("output_type", _read_format),
    "tool_choice": ("tool_choice", None),
    "previous_response_id": ("previous_response_id", None),
    "conversation": ("conversation_id", _read_conversation),
    "service_tier": ("service_tier", None),
    "parallel_tool_calls": ("parallel_tool_calls", None),
    "max_tool_calls": ("max_tool_calls", None),
    "top_logprobs": ("top_logprobs", None),
    "truncation": ("truncation", None),
    "background": ("background", None),
    "store": ("store", None),
    "user": ("user", None),
}


def decode_request(wire: Mapping[str, Any]) -> ModelRequest:
    """Read the body of a Responses request; see `Codec.decode_request`."""
    get = wire.get
    tools = get("tools")
    return ModelRequest(
        as_str(get("model")),
        _read_input(get("input")),
        _read_instructions(get("instructions")),
        [_read_tool_definition(tool) for tool in as_list(tools)] if tools else [],
        read_parameters(wire, _PARAMETERS),
        get("stream") is True,
    )


def _read_input(items: Any) -> list[Message]:
    if isinstance(items, str):
        return [Message("user", [Text(items)])]
    messages: list[Message] = []
    answering = False
    for item in as_list(items):
        message = _read_item(item)
        if message.role != "assistant":
            answering = False
        elif answering:
            messages[-1].parts += message.parts
            continue
        else:
            answering = True
        messages.append(message)
    return messages


def _read_instructions(instructions: Any) -> list[Part]:
    if isinstance(instructions, list):
        return [part for item in cast("list[Any]", instructions) for part in _read_item(item).parts]
    return _read_content(instructions)


def _read_tool_definition(tool: Any) -> ToolDefinition:
    if not isinstance(tool, Mapping):
        return ToolDefinition("", None, None, "unknown", tool)
    tool = cast("Mapping[str, Any]", tool)
    kind = as_str(tool.get("type")) or "function"
    name = as_str(tool.get("name")) or as_str(tool.get("server_label")) or kind
    raw = None
    if kind != "function" or not tool.keys() <= _PLAIN_TOOL_KEYS:
        raw = {key: value for key, value in tool.items() if key not in _SECRET_KEYS}
    return ToolDefinition(name, as_str(tool.get("description")), tool.get("parameters"), kind, raw)


_PLAIN_TOOL_KEYS = frozenset({"type", "name", "description", "parameters"})
_SECRET_KEYS = frozenset({"headers", "authorization"})
"""What an MCP server is authorised with: it is sent, but is in no record."""


def decode_response(wire: Mapping[str, Any]) -> ModelResponse:
    """Read the body of a Responses answer; see `Codec.decode_response`. All items are one message."""
    get = wire.get
    parts: list[Part] = []
    for item in as_list(get("output")):
        parts += _read_item(item).parts
    reason = _finish_reason(wire, parts)
    return ModelResponse(
        as_str(get("id")),
        as_str(get("model")),
        [Message("assistant", parts, None, reason)] if parts else [],
        [] if reason is None else [reason],
        _read_usage(get("usage")),
        decode_error(wire),
        read_parameters(wire, _RESPONSE_PARAMETERS),
    )


_RESPONSE_PARAMETERS: Table = {
    "status": ("status", None),
    "incomplete_details": ("incomplete_reason", lambda value: as_mapping(value).get("reason")),
    "service_tier": ("service_tier", None),
    "conversation": ("conversation_id", _read_conversation),
    "previous_response_id": ("previous_response_id", None),
}


def _finish_reason(wire: Mapping[str, Any], parts: list[Part]) -> str | None:
    status = wire.get("status")
    if status == "completed":
        waiting = any(isinstance(part, ToolCall) and not part.server for part in parts)
        return "tool_calls" if waiting else "stop"
    if status == "incomplete":
        return as_str(as_mapping(wire.get("incomplete_details")).get("reason")) or "incomplete"
    return status if status in ("failed", "cancelled") else None


_USAGE_PLACES: dict[str, tuple[tuple[str, ...], ...]] = {
    "input_tokens": (("input_tokens",),),
    "output_tokens": (("output_tokens",),),
    "total_tokens": (("total_tokens",),),
    "cache_read_tokens": (("input_tokens_details", "cached_tokens"),),
    "cache_write_tokens": (("input_tokens_details", "cache_write_tokens"),),
    "reasoning_tokens": (("output_tokens_details", "reasoning_tokens"),),
    "input_audio_tokens": (("input_tokens_details", "audio_tokens"),),
    "output_audio_tokens": (("output_tokens_details", "audio_tokens"),),
    "cost_usd": (("cost",),),
}


def _read_usage(usage: Any) -> Usage | None:
    if not isinstance(usage, Mapping) or not usage:
        return None
    get = cast("Mapping[str, Any]", usage).get
    given = as_mapping(get("input_tokens_details"))
    made = as_mapping(get("output_tokens_details"))
    return Usage(
        as_int(get("input_tokens")),
        as_int(get("output_tokens")),
        as_int(get("total_tokens")),
        as_int(given.get("cached_tokens")),
        as_int(given.get("cache_write_tokens")),
        as_int(made.get("reasoning_tokens")),
        as_int(given.get("audio_tokens")),
        as_int(made.get("audio_tokens")),
        as_float(get("cost")),
    )


# --- writing content ---------------------------------------------------------------------------------------

_OWNED = frozenset({"text", "image_url", "file_id", "file_data", "file_url", "filename", "data", "format"})
"""Keys of a content part that its record speaks for."""


def _write_text(part: Text, role: str) -> dict[str, Any]:
    if role == "assistant":
        return {"type": "output_text", "text": part.text, "annotations": []}
    return {"type": "input_text", "text": part.text}


def _write_media(part: Media, _role: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if part.modality == "image":
        out["type"] = "input_image"
        put(out, "image_url", media_url(part))
        put(out, "file_id", part.file_id)
    elif part.modality == "document":
        out["type"] = "input_file"
        put(out, "filename", part.name)
        put(out, "file_url", part.uri)
        put(out, "file_id", part.file_id)
        put(out, "file_data", part.data if part.mime_type is None else media_url(part))
    elif part.modality == "audio" and part.data is not None:
        kind = (part.mime_type or "audio/wav").partition("/")[2]
        return {"type": "input_audio", "input_audio": {"data": part.data, "format": kind}}
    else:
        raise CodecError(f"a Responses message has no form for {part.modality!r} media; leave it out")
    return out


def _write_opaque(part: Opaque, _role: str) -> Any:
    return part.data


_PART_WRITERS: dict[type, Callable[[Any, str], Any]] = {
    Text: _write_text,
    Media: _write_media,
    Opaque: _write_opaque,
}


def _write_content(parts: list[Part], role: str) -> list[Any]:
    return [_PART_WRITERS[type(part)](part, role) for part in parts]


def _patch_content(was: list[Part], now: list[Part], content: list[Any], role: str) -> list[Any]:
    return patch_sequence(
        was,
        now,
        content,
        patch=lambda _old, new, wire: [_patch_part(new, wire, role)],
        build=lambda part: _write_content([part], role),
        alike=lambda old, new: type(old) is type(new),
    )


def _patch_part(new: Part, wire: Any, role: str) -> Any:
    if isinstance(new, Text) and isinstance(wire, Mapping):
        return {**wire, "text": new.text}
    [built] = _write_content([new], role)
    if isinstance(new, Opaque) or not isinstance(wire, Mapping):
        return built
    return overlay(cast("Mapping[str, Any]", wire), built, _OWNED)


# --- writing items -----------------------------------------------------------------------------------------


def _text_of(value: JSON) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else dumps_text(value)


def _write_items(message: Message, answer: bool) -> list[Any]:
    """Write a message as items: neighbouring content as one, every other part by itself."""
    items: list[Any] = []
    content: list[Part] = []
    for part in message.parts:
        if type(part) in _PART_WRITERS and not _is_item(part):
            content.append(part)
            continue
        if content:
            items.append(_write_message(content, message, answer))
            content = []
        items += _write_item(part, items, answer)
    if content or not message.parts:
        items.append(_write_message(content, message, answer))
    return items


def _is_item(part: Part) -> bool:
    """Tell whether an opaque part is an item by itself, not a part of a message's content."""
    return isinstance(part, Opaque) and part.type not in _CONTENT_KINDS


_CONTENT_KINDS = frozenset({"refusal", "content", *_PART_READERS})


def _write_message(content: list[Part], message: Message, answer: bool) -> dict[str, Any]:
    role = message.role
    if answer:
        head: dict[str, Any] = {"id": f"msg_{uuid4().hex}", "status": "completed"}
        return {"type": "message", **head, "role": role, "content": _write_content(content, role)}
    if not content:
        return {"role": role, "content": ""}
    if len(content) == 1 and isinstance(content[0], Text):
        return {"role": role, "content": content[0].text}
    return {"role": role, "content": _write_content(content, role)}


def _write_item(part: Part, items: list[Any], answer: bool) -> list[Any]:
    """Write a part that is no content; the result of a server's call goes into the call's own item."""
    if isinstance(part, Reasoning):
        return [_patch_reasoning(Reasoning("", part.id), part, _head("rs", part.id, answer, "reasoning"))]
    if isinstance(part, ToolCall):
        return [_write_call(part, answer)]
    if isinstance(part, ToolCallResponse):
        if part.server:
            _add_server_result(part, items)
            return []
        return [{"type": "function_call_output", "call_id": part.id, "output": _result_output(part)}]
    return [cast("Opaque", part).data]


def _head(prefix: str, item_id: str | None, answer: bool, kind: str) -> dict[str, Any]:
    """Return the start of an item; only an answer of our own gets an id that the provider has not given."""
    head: dict[str, Any] = {"type": kind}
    put(head, "id", item_id or (f"{prefix}_{uuid4().hex}" if answer else None))
    if kind == "reasoning":
        head["summary"] = []
    return head


def _write_call(call: ToolCall, answer: bool) -> dict[str, Any]:
    if call.server:
        return _write_server_call(call)
    kind = "custom_tool_call" if call.type == "custom" else call.type
    if kind in _CLIENT_KEYS:
        item = _head("ctc", None, answer, kind)
        item.update(call_id=call.id, name=call.name)
        item[_CLIENT_KEYS[kind]] = _text_of(call.arguments) if kind == "custom_tool_call" else call.arguments
        return item
    item = _head("fc", None, answer, "function_call")
    item.update(call_id=call.id, name=call.name, arguments=_text_of(call.arguments))
    return {**item, "status": "completed"} if answer else item


def _write_server_call(call: ToolCall) -> dict[str, Any]:
    if call.type not in _SERVER_KEYS:
        raise CodecError(f"the Responses API has no server tool {call.type!r}; expected one of {sorted(_SERVER_KEYS)}")
    item: dict[str, Any] = {"type": call.type, "id": call.id, "status": "completed"}
    if call.type in ("mcp_call", "tool_search_call"):
        item["name"] = call.name
    if call.type == "mcp_call":
        item["server_label"] = ""  # the API always sends one, the record has none
    _set_server_arguments(item, call)
    return item


def _set_server_arguments(item: dict[str, Any], call: ToolCall) -> None:
    keys, _ = _SERVER_KEYS[call.type or ""]
    if keys == ("arguments",):
        item["arguments"] = _text_of(call.arguments)
    elif len(keys) == 1:
        put(item, keys[0], call.arguments)
    else:
        for key in keys:
            put(item, key, as_mapping(call.arguments).get(key))


def _add_server_result(result: ToolCallResponse, items: list[Any]) -> None:
    for item in reversed(items):
        if isinstance(item, dict) and item.get("id") == result.id and item.get("type") in _SERVER_KEYS:
            _set_server_result(cast("dict[str, Any]", item), result)
            return
    raise CodecError(f"the result of server tool call {result.id!r} has no call before it; put it after its call")


def _set_server_result(item: dict[str, Any], result: ToolCallResponse) -> None:
    key = "error" if result.is_error else _SERVER_KEYS[item["type"]][1]
    content = result.content
    if isinstance(content, list) and content and isinstance(content[0], Media):
        content = content[0].data
    item[key] = content


def _result_output(result: ToolCallResponse) -> Any:
    parts = _parts_of(result.content)
    return _text_of(result.content) if parts is None else _write_content(parts, "tool")


def _parts_of(content: Any) -> list[Part] | None:
    """Return `content` if it is a list of parts."""
    parts = as_list(content)
    return parts if parts and all(type(part) in _PART_WRITERS for part in parts) else None


# --- patching items ----------------------------------------------------------------------------------------


def _patch_items(items: list[Any], new: Message, answer: bool) -> list[Any]:
    """Return `items` changed so that they read as the parts of `new`.

    Items at the start and at the end whose parts did not change stay. Of the others each takes the next
    parts where they are of the kinds it had, and else is dropped; parts that no item took are written anew.
    """
    owned = [_read_item(item).parts for item in items]
    start, first = _unchanged(owned, new.parts)
    end, last = _unchanged([run[::-1] for run in owned[start:][::-1]], new.parts[first:][::-1])
    stop = len(items) - end
    parts = new.parts[first : len(new.parts) - last]
    middle: list[Any] = []
    place = 0
    for index in range(start, stop):
        count = _taken(items[index], owned[index], parts[place:], only=index == stop - 1)
        if count:
            now = parts[place : place + count]
            middle.append(_patch_item(items[index], owned[index], now, new.role))
            place += count
    if place < len(parts):
        middle += _write_items(Message(new.role, parts[place:], new.name), answer)
    return [*items[:start], *middle, *items[stop:]]


def _unchanged(owned: list[list[Part]], parts: list[Part]) -> tuple[int, int]:
    """Return how many runs of parts `parts` starts with, and how many parts these are."""
    place = 0
    for count, run in enumerate(owned):
        if parts[place : place + len(run)] != run:
            return count, place
        place += len(run)
    return len(owned), place


def _taken(item: Any, was: list[Part], parts: list[Part], only: bool) -> int:
    """Return how many of the next parts `item` can hold in place of those it had."""
    if as_mapping(item).get("content") is not None and as_mapping(item).get("type") != "reasoning":
        run = next((i for i, part in enumerate(parts) if type(part) not in _PART_WRITERS), len(parts))
        return run if only else min(run, len(was))
    kinds = [type(part) for part in parts[: len(was)]]
    return len(was) if kinds == [type(part) for part in was] else 0


def _patch_item(item: Any, was: list[Part], now: list[Part], role: str) -> Any:
    if was == now:
        return item
    patch = _ITEM_PATCHES.get(as_mapping(item).get("type") or "message")
    if patch is None or not isinstance(item, dict):
        return now[0].data if isinstance(now[0], Opaque) else _write_items(Message("user", now), False)[0]
    return patch(was, now, cast("dict[str, Any]", item), role)


def _patch_message(was: list[Part], now: list[Part], item: dict[str, Any], role: str) -> dict[str, Any]:
    content = item.get("content")
    if isinstance(content, list):
        return {**item, "content": _patch_content(was, now, cast("list[Any]", content), role)}
    if len(now) == 1 and isinstance(now[0], Text):
        return {**item, "content": now[0].text}
    return {**item, "content": _write_content(now, role)}


def _patch_reasoning(old: Reasoning, new: Reasoning, item: dict[str, Any]) -> dict[str, Any]:
    out = dict(item)
    if new.text != old.text:
        key, kind = ("content", "reasoning_text") if _texts(item.get("content")) else ("summary", "summary_text")
        out[key] = [{"type": kind, "text": new.text}] if new.text else []
        if key == "content" and out.get("summary"):
            out["summary"] = []
    if new.id != old.id:
        put(out, "id", new.id)
    if new.encrypted != old.encrypted:
        put(out, "encrypted_content", new.encrypted)
    return out


def _patch_call(old: ToolCall, new: ToolCall, item: dict[str, Any]) -> dict[str, Any]:
    if new.type != old.type or new.server != old.server:
        return _write_call(new, "id" in item)
    out = dict(item)
    if new.id != old.id:
        put(out, "call_id", new.id)
    if new.name != old.name:
        out["name"] = new.name
    if new.arguments != old.arguments:
        key = _CLIENT_KEYS.get(item["type"], "arguments")
        out[key] = _text_of(new.arguments) if key in ("arguments", "input") else new.arguments
    return out


def _patch_server_call(was: list[Part], now: list[Part], item: dict[str, Any], _role: str) -> dict[str, Any]:
    out = dict(item)
    for old, new in zip(was, now, strict=True):
        if isinstance(new, ToolCall) and new != old:
            if new.type != item["type"]:
                return _write_call(new, True)
            put(out, "id", new.id)
            if "name" in out:
                out["name"] = new.name
            _set_server_arguments(out, new)
        elif isinstance(new, ToolCallResponse) and new != old:
            _set_server_result(out, new)
    return out


def _patch_result(old: ToolCallResponse, new: ToolCallResponse, item: dict[str, Any]) -> dict[str, Any]:
    out = dict(item)
    if new.id != old.id:
        put(out, "call_id", new.id)
    if new.content != old.content:
        was, now = _parts_of(old.content), _parts_of(new.content)
        output = item.get("output")
        if was is not None and now is not None and isinstance(output, list):
            out["output"] = _patch_content(was, now, cast("list[Any]", output), "tool")
        elif isinstance(output, Mapping) and isinstance(new.content, Mapping):
            out["output"] = new.content
        else:
            out["output"] = _result_output(new)
    return out


_ItemPatch: TypeAlias = Callable[[list[Part], list[Part], dict[str, Any], str], Any]


def _single(patch: Callable[[Any, Any, dict[str, Any]], Any]) -> _ItemPatch:
    """Return `patch`, which changes an item of one part, in the shape of those for items of several."""

    def patch_single(was: list[Part], now: list[Part], item: dict[str, Any], _role: str) -> Any:
        return patch(was[0], now[0], item)

    return patch_single


_ITEM_PATCHES: dict[str, _ItemPatch] = {
    "message": _patch_message,
    "reasoning": _single(_patch_reasoning),
    "function_call": _single(_patch_call),
    **{kind: _single(_patch_call) for kind in _CLIENT_KEYS},
    **dict.fromkeys(_SERVER_KEYS, _patch_server_call),
    **{kind: _single(_patch_result) for kind in _RESULT_KINDS},
}


# --- writing requests --------------------------------------------------------------------------------------

_WRITERS: dict[str, Writer] = {
    "text": lambda value, _old: {"type": "json_object" if value == "json" else value},
    "conversation": lambda value, old: {"id": value} if isinstance(old, Mapping) else value,
}

_RESPONSE_WRITERS: dict[str, Writer] = {"conversation": lambda value, _old: {"id": value}}

_INNER_KEYS = {"reasoning": "effort", "text": "format", "incomplete_details": "reason"}


def encode_request(request: ModelRequest, wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return `wire` changed where `request` differs; see `Codec.encode_request`.

    Raises:
        CodecError: the record holds something that a Responses request has no form for.
    """
    old = decode_request(wire)
    out = dict(wire)
    if request.model != old.model:
        put(out, "model", request.model)
    if request.stream != old.stream:
        out["stream"] = request.stream
    if request.messages != old.messages:
        out["input"] = _patch_input(old.messages, request.messages, wire.get("input"))
    if request.system != old.system:
        put(out, "instructions", _write_instructions(request.system))
    if request.tools != old.tools:
        tools = patch_sequence(
            old.tools,
            request.tools,
            as_list(wire.get("tools")),
            patch=_patch_tool_definition,
            build=_write_tool_definition,
            alike=lambda before, after: before.name == after.name and before.type == after.type,
        )
        put(out, "tools", tools or None)
    if request.parameters != old.parameters:
        write_parameters(out, old.parameters, request.parameters, _PARAMETERS, writers=_WRITERS, inner_keys=_INNER_KEYS)
    return out


def _patch_input(old: list[Message], new: list[Message], wire: Any) -> Any:
    if isinstance(wire, str):
        if len(new) == 1 and new[0].role == "user" and [type(part) for part in new[0].parts] == [Text]:
            return new[0].text
        wire = [{"role": "user", "content": wire}]
    groups = patch_sequence(
        old,
        new,
        _turns(as_list(wire)),
        patch=_patch_turn,
        build=lambda message: [_write_items(message, answer=False)],
        alike=lambda before, after: before.role == after.role,
    )
    return list(chain.from_iterable(groups))


def _turns(items: list[Any]) -> list[Any]:
    """Return the items grouped as `_read_input` makes messages of them."""
    groups: list[list[Any]] = []
    answering = False
    for item in items:
        if _read_item(item).role != "assistant":
            answering = False
        elif answering:
            groups[-1].append(item)
            continue
        else:
            answering = True
        groups.append([item])
    return groups


def _patch_turn(old: Message, new: Message, items: list[Any]) -> list[Any]:
    if new.role == old.role == "assistant" and new.name == old.name:
        return [_patch_items(items, new, answer=False)]
    item = items[0]
    # Anybody else's turn is one item: it must not become two.
    patch = _ITEM_PATCHES.get(as_mapping(item).get("type") or "message")
    if len(items) > 1 or patch is None or not isinstance(item, dict) or not _fits(new, patch):
        return [_write_items(new, answer=False)]
    item = cast("dict[str, Any]", item)
    if patch is _patch_message:
        item = dict(item)
        if new.role != old.role:
            item["role"] = new.role
        if new.name != old.name:
            put(item, "name", new.name)
    return [[item if new.parts == old.parts else patch(old.parts, new.parts, item, new.role)]]


def _fits(message: Message, patch: _ItemPatch) -> bool:
    """Tell whether the parts of a message can stand in the item that `patch` changes."""
    if patch is _patch_message:
        return all(type(part) in _PART_WRITERS for part in message.parts)
    return [type(part) for part in message.parts] == [ToolCallResponse]


def _write_instructions(system: list[Part]) -> Any:
    texts = [part.text for part in system if isinstance(part, Text)]
    if len(texts) != len(system):
        kinds = sorted({type(part).__name__ for part in system})
        raise CodecError(f"`instructions` take text only, not {kinds!r}; put the others in a message")
    return "\n\n".join(texts) or None


def _write_tool_definition(tool: ToolDefinition) -> list[Any]:
    if isinstance(tool.raw, Mapping):
        return _patch_tool_definition(_read_tool_definition(tool.raw), tool, tool.raw)
    wire: dict[str, Any] = {"type": tool.type, "name": tool.name}
    put(wire, "description", tool.description)
    put(wire, "parameters", tool.parameters)
    return [wire]


def _patch_tool_definition(old: ToolDefinition, new: ToolDefinition, wire: Any) -> list[Any]:
    if new.raw != old.raw and isinstance(new.raw, Mapping):
        secrets = {key: value for key, value in as_mapping(wire).items() if key in _SECRET_KEYS}
        wire, old = {**new.raw, **secrets}, _read_tool_definition(new.raw)
    if not isinstance(wire, Mapping):
        return [new.raw]
    out = dict(cast("Mapping[str, Any]", wire))
    for key in ("type", "name", "description", "parameters"):
        if getattr(new, key) != getattr(old, key):
            put(out, key, getattr(new, key))
    return [out]


# --- writing responses -------------------------------------------------------------------------------------


def encode_response(response: ModelResponse, wire: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return `wire` changed where `response` differs, or a whole body; see `Codec.encode_response`.

    Raises:
        CodecError: the record holds something that a Responses answer has no form for.
    """
    if wire is None:
        return _write_response(response)
    old = decode_response(wire)
    out = dict(wire)
    for key in ("id", "model"):
        value = getattr(response, key)
        if value is not None and value != getattr(old, key):
            out[key] = value
    was, now = ([part for m in r.messages for part in m.parts] for r in (old, response))
    if was != now:
        out["output"] = _patch_items(as_list(wire.get("output")), Message("assistant", now), answer=True)
    if response.usage != old.usage:
        put(out, "usage", patch_counts(old.usage, response.usage, wire.get("usage"), _USAGE_PLACES))
    if response.error != old.error:
        out["error"] = response.error and encode_error(response.error, wire.get("error"))
    if response.parameters != old.parameters:
        write_parameters(
            out,
            old.parameters,
            response.parameters,
            _RESPONSE_PARAMETERS,
            writers=_RESPONSE_WRITERS,
            inner_keys=_INNER_KEYS,
        )
    return out


def _write_response(response: ModelResponse) -> dict[str, Any]:
    if response.error is not None and not response.messages:
        return {"error": encode_error(response.error, {})}
    blank: dict[str, Any] = {
        "id": f"resp_{uuid4().hex}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": "",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": None,
    }
    parameters = {key: response.parameters[key] for key in _names() & response.parameters.keys()}
    parameters.setdefault("status", "completed")
    response = ModelResponse(
        response.id, response.model, response.messages, [], response.usage, response.error, parameters
    )
    out = encode_response(response, blank)
    if out["usage"] is not None:
        out["usage"] = _whole_usage(out["usage"])
    return out


def _names() -> set[str]:
    return {row[0] for row in _RESPONSE_PARAMETERS.values()}


def _whole_usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Return `usage` with what the API always sends."""
    given, made = usage.get("input_tokens", 0), usage.get("output_tokens", 0)
    return {
        "input_tokens": given,
        "output_tokens": made,
        "total_tokens": given + made,
        **usage,
        "input_tokens_details": {
            "cached_tokens": 0,
            "cache_write_tokens": 0,
            **as_mapping(usage.get("input_tokens_details")),
        },
        "output_tokens_details": {"reasoning_tokens": 0, **as_mapping(usage.get("output_tokens_details"))},
    }


def accumulator() -> ResponsesAccumulator:
    """Return a fresh accumulator for one stream."""
    return ResponsesAccumulator()
