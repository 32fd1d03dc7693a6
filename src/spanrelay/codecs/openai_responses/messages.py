"""The items of the Responses API: each is read into a fixed run of parts, written from them, and patched.

Patching changes only what a record changed: unknown fields, order and signatures of an item survive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias, cast
from uuid import uuid4

from spanrelay._json import loads_or_text
from spanrelay.codecs.content import (
    opaque,
    parts_of,
    read_document,
    read_input_audio,
    read_parts,
    read_text,
    text_of,
    write_input_audio,
)
from spanrelay.codecs.narrowing import as_list, as_mapping, as_str
from spanrelay.codecs.openai_shapes import (
    image_from_url,
    media_url,
)
from spanrelay.codecs.patching import overlay, patch_sequence, put, same_class
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

# --- reading content ---------------------------------------------------------------------------------------


def read_content(content: object) -> list[Part]:
    """Read an item's content; an array gives exactly one part for each of its own."""
    return read_parts(content, _PART_READERS, opaque)


def _read_image(part: Mapping[str, Any]) -> Part:
    url, file_id = part.get("image_url"), as_str(part.get("file_id"))
    if isinstance(url, str):
        return image_from_url(url)
    return opaque(part) if file_id is None else Media("image", file_id=file_id)


def _read_file(part: Mapping[str, Any]) -> Part:
    return read_document(part, part, as_str(part.get("file_url")))


_PART_READERS: dict[str, Callable[[Mapping[str, Any]], Part]] = {
    "input_text": read_text,
    "output_text": read_text,
    "text": read_text,
    "input_image": _read_image,
    "input_file": _read_file,
    "input_audio": read_input_audio,
}

# --- reading items -----------------------------------------------------------------------------------------

_ROLES: dict[str, Role] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "developer",
}


def read_item(item: Any) -> Message:
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
        [Text(content)] if content.__class__ is str and content else read_content(content),
        name if isinstance(name, str) else None,
        None,
    )


def _read_stranger(item: Any) -> Message:
    kind = as_str(as_mapping(item).get("type")) or "unknown"
    return Message(_role_of(kind), [Opaque(kind, item)])


def _role_of(kind: str) -> Role:
    """Return whose item one of an unknown type is, by its name."""
    if kind in _CLIENT_ITEMS:
        return _CLIENT_ITEMS[kind]
    if kind.endswith("_output"):
        return "tool"
    return "user" if kind.endswith("_response") or kind == "unknown" else "assistant"


_CLIENT_ITEMS: dict[str, Role] = {
    "additional_tools": "developer",
    "configuration_update": "developer",
    "compaction_trigger": "user",
}
"""Whose the items are that the client puts into a conversation: no answer of the model's ends there."""


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
    namespace = as_str(item.get("namespace"))
    return Message(
        "assistant", [ToolCall(_call_id(item), as_str(item.get("name")) or "", arguments, namespace=namespace)]
    )


def _read_client_call(item: Mapping[str, Any], kind: str, key: str) -> Message:
    """Read the call of a tool that is the client's to run but is no function."""
    name = as_str(item.get("name")) or kind.removesuffix("_tool_call").removesuffix("_call")
    kind = "custom" if kind == "custom_tool_call" else kind
    namespace = as_str(item.get("namespace"))
    return Message("assistant", [ToolCall(_call_id(item), name, item.get(key), False, kind, namespace)])


def _read_result(item: Mapping[str, Any]) -> Message:
    output = item.get("output")
    if isinstance(output, list):
        output = read_content(cast("list[Any]", output))
    name, namespace = as_str(item.get("name")), as_str(item.get("namespace"))
    return Message("tool", [ToolCallResponse(_call_id(item), output, name, namespace=namespace)])


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
            result = [Media("image", f"image/{as_str(item.get('output_format')) or 'png'}", None, result)]
        parts.append(ToolCallResponse(call_id, error if error and not result else result, name, bool(error), True))
    return Message("assistant", parts)


def _read_either_call(item: Mapping[str, Any], kind: str) -> Message:
    """Read a call that the client or the provider runs."""
    if item.get("execution") != "client":
        return _read_server_call(item, kind)
    return _read_client_call(item, kind, _CLIENT_KEYS[kind])


def _read_found_tools(item: Mapping[str, Any]) -> Message:
    """Read what a search for tools gave; the provider's own needs no id, and stands in the answer."""
    if item.get("execution") != "client":
        return _read_stranger(item)
    return Message("tool", [ToolCallResponse(_call_id(item), item.get("tools"))])


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
    "tool_search_call": "arguments",
}
"""For each kind of call that the client runs but `function_call`: the key of its arguments.

A search for tools is the provider's unless its `execution` says otherwise.
"""
_WRITTEN_AS_TEXT = ("function_call", "custom_tool_call")
"""Kinds of call whose arguments are a text on the wire."""

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
    **{kind: partial(_read_either_call, kind=kind) for kind in _CLIENT_KEYS.keys() & _SERVER_KEYS.keys()},
    **dict.fromkeys(_RESULT_KINDS, _read_result),
    "tool_search_output": _read_found_tools,
}


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
        return write_input_audio(part)
    else:
        raise CodecError(f"a Responses message has no form for {part.modality!r} media; leave it out")
    return out


def _write_opaque(part: Opaque, _role: str) -> Any:
    return part.data


PART_WRITERS: dict[type, Callable[[Any, str], Any]] = {
    Text: _write_text,
    Media: _write_media,
    Opaque: _write_opaque,
}


def _write_content(parts: list[Part], role: str) -> list[Any]:
    return [PART_WRITERS[type(part)](part, role) for part in parts]


def _patch_content(was: list[Part], now: list[Part], content: list[Any], role: str) -> list[Any]:
    return patch_sequence(
        was,
        now,
        content,
        patch=lambda _old, new, wire: [_patch_part(new, wire, role)],
        build=lambda part: _write_content([part], role),
        alike=same_class,
    )


def _patch_part(new: Part, wire: Any, role: str) -> Any:
    if isinstance(new, Text) and isinstance(wire, Mapping):
        return {**wire, "text": new.text}
    [built] = _write_content([new], role)
    if isinstance(new, Opaque) or not isinstance(wire, Mapping):
        return built
    return overlay(cast("Mapping[str, Any]", wire), built, _OWNED)


# --- writing items -----------------------------------------------------------------------------------------


def write_items(message: Message, answer: bool) -> list[Any]:
    """Write a message as items: neighbouring content as one, every other part by itself."""
    items: list[Any] = []
    content: list[Part] = []
    for part in message.parts:
        if type(part) in PART_WRITERS and not _is_item(part):
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
    named = {"name": call.name} if call.namespace is None else {"name": call.name, "namespace": call.namespace}
    if kind in _CLIENT_KEYS:
        item = _head("ctc", None, answer, kind)
        item.update(call_id=call.id, **named)
        item[_CLIENT_KEYS[kind]] = text_of(call.arguments) if kind in _WRITTEN_AS_TEXT else call.arguments
        return {**item, "execution": "client"} if kind in _SERVER_KEYS else item
    item = _head("fc", None, answer, "function_call")
    item.update(call_id=call.id, **named, arguments=text_of(call.arguments))
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
        item["arguments"] = text_of(call.arguments)
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
    parts = parts_of(result.content, PART_WRITERS)
    return text_of(result.content) if parts is None else _write_content(parts, "tool")


# --- patching items ----------------------------------------------------------------------------------------


def patch_items(items: list[Any], new: Message, answer: bool) -> list[Any]:
    """Return `items` changed so that they read as the parts of `new`.

    Items at the start and at the end whose parts did not change stay. Of the others each takes the next
    parts where they are of the kinds it had, and else is dropped; parts that no item took are written anew.
    """
    owned = [read_item(item).parts for item in items]
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
        middle += write_items(Message(new.role, parts[place:], new.name), answer)
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
        run = next((i for i, part in enumerate(parts) if type(part) not in PART_WRITERS), len(parts))
        return run if only else min(run, len(was))
    kinds = [type(part) for part in parts[: len(was)]]
    return len(was) if kinds == [type(part) for part in was] else 0


def _patch_item(item: Any, was: list[Part], now: list[Part], role: str) -> Any:
    if was == now:
        return item
    patch = ITEM_PATCHES.get(as_mapping(item).get("type") or "message")
    if patch is None or not isinstance(item, dict):
        return now[0].data if isinstance(now[0], Opaque) else write_items(Message("user", now), False)[0]
    return patch(was, now, cast("dict[str, Any]", item), role)


def patch_message(was: list[Part], now: list[Part], item: dict[str, Any], role: str) -> dict[str, Any]:
    """Return a message item with its content changed from `was` to `now`."""
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
        out[key] = text_of(new.arguments) if item["type"] in _WRITTEN_AS_TEXT else new.arguments
    return out


def _patch_server_call(was: list[Part], now: list[Part], item: dict[str, Any], _role: str) -> dict[str, Any]:
    out = dict(item)
    for old, new in zip(was, now, strict=True):
        if isinstance(new, ToolCall) and new != old:
            if not new.server:
                return _patch_call(cast("ToolCall", old), new, item)
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
    for key, was, now in (
        ("call_id", old.id, new.id),
        ("name", old.name, new.name),
        ("namespace", old.namespace, new.namespace),
    ):
        if now != was:
            put(out, key, now)
    if new.content != old.content:
        was, now = (parts_of(each.content, PART_WRITERS) for each in (old, new))
        output = item.get("output")
        if was is not None and now is not None and isinstance(output, list):
            out["output"] = _patch_content(was, now, cast("list[Any]", output), "tool")
        elif isinstance(output, Mapping) and isinstance(new.content, Mapping):
            out["output"] = new.content
        else:
            out["output"] = _result_output(new)
    return out


def _patch_found_tools(old: ToolCallResponse, new: ToolCallResponse, item: dict[str, Any]) -> dict[str, Any]:
    out = dict(item)
    if new.id != old.id:
        put(out, "call_id", new.id)
    out["tools"] = new.content
    return out


ItemPatch: TypeAlias = Callable[[list[Part], list[Part], dict[str, Any], str], Any]


def _single(patch: Callable[[Any, Any, dict[str, Any]], Any]) -> ItemPatch:
    """Return `patch`, which changes an item of one part, in the shape of those for items of several."""

    def patch_single(was: list[Part], now: list[Part], item: dict[str, Any], _role: str) -> Any:
        return patch(was[0], now[0], item)

    return patch_single


ITEM_PATCHES: dict[str, ItemPatch] = {
    "message": patch_message,
    "reasoning": _single(_patch_reasoning),
    "function_call": _single(_patch_call),
    **{kind: _single(_patch_call) for kind in _CLIENT_KEYS},
    **dict.fromkeys(_SERVER_KEYS, _patch_server_call),
    **{kind: _single(_patch_result) for kind in _RESULT_KINDS},
    "tool_search_output": _single(_patch_found_tools),
}
