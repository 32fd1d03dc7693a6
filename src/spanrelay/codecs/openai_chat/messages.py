"""The messages of the Chat Completions API and its dialects: read into parts, written from them, and patched.

Patching changes only what a record changed: unknown fields, order and `cache_control` of a message survive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from operator import attrgetter
from typing import Any, cast

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
    split_data_url,
)
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

# --- reading parts -----------------------------------------------------------------------------------------


def _read_content(content: object) -> list[Part]:
    return read_parts(content, _PART_READERS, _read_unknown)


def _read_unknown(part: Any) -> Part:
    return Text(part) if isinstance(part, str) else opaque(part)


def _read_image(part: Mapping[str, Any]) -> Part:
    image = part.get("image_url")
    url = image if isinstance(image, str) else as_mapping(image).get("url")
    return image_from_url(url) if isinstance(url, str) else opaque(part)


def _read_file(part: Mapping[str, Any]) -> Part:
    return read_document(part, as_mapping(part.get("file")))


def _read_video(part: Mapping[str, Any]) -> Part:
    video = part.get("video_url")
    url = video if isinstance(video, str) else as_mapping(video).get("url")
    if not isinstance(url, str):
        return opaque(part)
    split = split_data_url(url)
    return Media("video", None, url) if split is None else Media("video", split[0], None, split[1])


def _read_thinking(part: Mapping[str, Any]) -> Part:
    """Read Mistral's thinking part, whose text is an array of text parts."""
    thinking = part.get("thinking")
    if isinstance(thinking, str):
        return Reasoning(thinking)
    texts = [as_str(as_mapping(item).get("text")) for item in as_list(thinking)]
    return Reasoning("".join(text for text in texts if text))


_PART_READERS: dict[str, Callable[[Mapping[str, Any]], Part]] = {
    "text": read_text,
    "image_url": _read_image,
    "input_audio": read_input_audio,
    "file": _read_file,
    "video_url": _read_video,
    "thinking": _read_thinking,
}


# --- reading messages --------------------------------------------------------------------------------------

_REASONING_KEYS = ("reasoning_content", "reasoning")
_ALL_REASONING_KEYS = (*_REASONING_KEYS, "reasoning_details")


def read_message(item: Any) -> Message:
    """Read a message of a request; what is none becomes `Opaque`."""
    try:
        role = item["role"]
        if len(item) == 2:  # most messages are a role and a text
            plain = _PLAIN_ROLES.get(role)
            content = item.get("content")  # an assistant's message may be a role and tool calls
            if plain is not None and content and content.__class__ is str:
                return Message(plain, [Text(content)], None, None)
        read = _MESSAGE_READERS[role]
    except (TypeError, KeyError, IndexError):
        return _read_stranger(item)
    return read(item)


def _read_plain(item: Mapping[str, Any], role: Role) -> Message:
    get = item.get
    content = get("content")
    name = get("name")
    return Message(
        role,
        [Text(content)] if content.__class__ is str and content else _read_content(content),
        name if name.__class__ is str else None,
        None,
    )


def _read_stranger(item: Any) -> Message:
    """Read a message of a role nobody has heard of as the user's, and what is no message as `Opaque`."""
    if isinstance(item, Mapping):
        return _read_plain(cast("Mapping[str, Any]", item), "user")
    return Message("user", [Opaque("message", item)])


def _read_tool(item: Mapping[str, Any]) -> Message:
    content = item.get("content")
    if content.__class__ is list:
        content = _read_content(content)
    result = ToolCallResponse(as_str(item.get("tool_call_id")), content, as_str(item.get("name")))
    return Message("tool", [result])


def read_assistant(item: Mapping[str, Any]) -> Message:
    """Read a message of the model: a turn in a request, or a choice's answer."""
    get = item.get
    parts: list[Part] = []
    if any(map(get, _ALL_REASONING_KEYS)):
        parts += _read_thoughts(item)
    content = get("content")
    if content:
        if content.__class__ is str:
            parts.append(Text(content))
        else:
            parts += _read_content(content)
    if any(map(get, _RARE_ASSISTANT_READERS)):
        for key, read in _RARE_ASSISTANT_READERS.items():
            value = get(key)
            if value:
                read(parts, value, item)
    name = get("name")
    return Message("assistant", parts, name if name.__class__ is str else None, None)


def _read_thoughts(item: Mapping[str, Any]) -> list[Part]:
    for key in _REASONING_KEYS:
        reasoning = item.get(key)
        if reasoning and reasoning.__class__ is str:
            return [_read_reasoning(reasoning, item)]
    return [_read_reasoning("", item)] if item.get("reasoning_details") else []


def _read_reasoning(text: str, item: Mapping[str, Any]) -> Reasoning:
    """Read reasoning text with what `reasoning_details` (OpenRouter, Snowflake) says of it."""
    reasoning = Reasoning(text)
    for detail in map(as_mapping, as_list(item.get("reasoning_details"))):
        reasoning.id = reasoning.id or as_str(detail.get("id"))
        reasoning.signature = reasoning.signature or as_str(detail.get("signature"))
        reasoning.encrypted = reasoning.encrypted or as_str(detail.get("data"))
        if not text:
            reasoning.text += as_str(detail.get("text")) or as_str(detail.get("summary")) or ""
    reasoning.redacted = bool(reasoning.encrypted and not reasoning.text)
    return reasoning


def _read_refusal(parts: list[Part], refusal: Any, _item: Mapping[str, Any]) -> None:
    if isinstance(refusal, str):
        parts.append(Opaque("refusal", {"type": "refusal", "refusal": refusal}))


def _read_audio(parts: list[Part], audio: Any, item: Mapping[str, Any]) -> None:
    audio = as_mapping(audio)
    transcript, data, audio_id = (as_str(audio.get(key)) for key in ("transcript", "data", "id"))
    if transcript and not item.get("content"):
        parts.append(Text(transcript))
    if data or audio_id:
        parts.append(Media("audio", None, None, data or None, audio_id or None))


def _read_tool_calls(parts: list[Part], calls: Any, _item: Mapping[str, Any]) -> None:
    parts += [_read_tool_call(call) for call in as_list(calls)]


def _read_tool_call(call: Any) -> ToolCall:
    call = as_mapping(call)
    function: Any = call.get("function")
    if isinstance(function, Mapping):
        arguments: Any = function.get("arguments")
        return ToolCall(
            as_str(call.get("id")),
            as_str(function.get("name")) or "",
            loads_or_text(arguments) if isinstance(arguments, str) else arguments,
        )
    kind = as_str(call.get("type")) or "unknown"
    custom = as_mapping(call.get(kind))
    arguments = custom.get("input") if kind == "custom" else call.get(kind)
    return ToolCall(as_str(call.get("id")), as_str(custom.get("name")) or "", arguments, False, kind)


def _read_function_call(parts: list[Part], call: Any, _item: Mapping[str, Any]) -> None:
    call = as_mapping(call)
    name, arguments = as_str(call.get("name")), call.get("arguments")
    if name:  # some servers send an empty call with every message
        if isinstance(arguments, str):
            arguments = loads_or_text(arguments)
        parts.append(ToolCall(None, name, arguments, False, "function_call"))


_PLAIN_ROLES: dict[str, Role] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "developer",
}

_RARE_ASSISTANT_READERS: dict[str, Callable[[list[Part], Any, Mapping[str, Any]], None]] = {
    "refusal": _read_refusal,
    "audio": _read_audio,
    "tool_calls": _read_tool_calls,
    "function_call": _read_function_call,
}
"""Their order is the order of the parts."""

_MESSAGE_READERS: dict[str, Callable[[Mapping[str, Any]], Message]] = {
    "user": partial(_read_plain, role="user"),
    "assistant": read_assistant,
    "tool": _read_tool,
    "system": partial(_read_plain, role="system"),
    "developer": partial(_read_plain, role="developer"),
    "function": _read_tool,
}


# --- writing parts -----------------------------------------------------------------------------------------

_OWNED = frozenset({"text", "url", "data", "format", "file_data", "file_id", "filename", "thinking"})
"""Keys of a content part that its record speaks for."""


def _write_text(part: Text) -> dict[str, Any]:
    return {"type": "text", "text": part.text}


def _write_media(part: Media) -> dict[str, Any]:
    write = _MEDIA_WRITERS.get(part.modality)
    if write is None:
        raise CodecError(f"a chat message has no form for {part.modality!r} media; expected image or audio")
    return write(part)


def _write_image(part: Media) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": _url_of(part)}}


def _write_video(part: Media) -> dict[str, Any]:
    return {"type": "video_url", "video_url": {"url": _url_of(part)}}


def _url_of(part: Media) -> str:
    url = media_url(part)
    if url is None:
        raise CodecError(
            f"a chat message takes {part.modality!r} media by URL or data, not by file_id {part.file_id!r}"
        )
    return url


def _write_audio(part: Media) -> dict[str, Any]:
    if part.data is None:
        raise CodecError("a chat message takes 'audio' media as data only; read the sound and put it in `data`")
    return write_input_audio(part)


def _write_document(part: Media) -> dict[str, Any]:
    if part.data is None and part.file_id is None:
        raise CodecError(f"a chat message takes a document as data or file_id, not by URL {part.uri!r}")
    file: dict[str, Any] = {}
    put(file, "filename", part.name)
    if part.data is not None:
        file["file_data"] = part.data if part.mime_type is None else media_url(part)
    put(file, "file_id", part.file_id)
    return {"type": "file", "file": file}


_MEDIA_WRITERS: dict[str, Callable[[Media], dict[str, Any]]] = {
    "image": _write_image,
    "audio": _write_audio,
    "video": _write_video,
    "document": _write_document,
}


def _write_thinking(part: Reasoning) -> dict[str, Any]:
    return {"type": "thinking", "thinking": [{"type": "text", "text": part.text}]}


_PART_WRITERS: dict[type, Callable[[Any], Any]] = {
    Text: _write_text,
    Media: _write_media,
    Reasoning: _write_thinking,
    Opaque: attrgetter("data"),
}


def _write_part(part: Part) -> list[Any]:
    write = _PART_WRITERS.get(type(part))
    if write is None:
        raise CodecError(f"the content of a chat message has no form for a {type(part).__name__!r} part")
    return [write(part)]


def _patch_part(_old: Part, new: Part, wire: Any) -> list[Any]:
    built = _write_part(new)
    if isinstance(new, Opaque) or not isinstance(wire, Mapping) or wire.get("type") != built[0].get("type"):
        return built
    if isinstance(wire.get("image_url"), str):  # Mistral's shorter form
        return [{**wire, "image_url": built[0]["image_url"]["url"]}]
    return [overlay(cast("Mapping[str, Any]", wire), built[0], _OWNED)]


def _patch_content(was: list[Part], now: list[Part], content: list[Any]) -> list[Any]:
    return patch_sequence(was, now, content, patch=_patch_part, build=_write_part, alike=same_class)


def _write_tool_call(call: ToolCall) -> list[Any]:
    if call.server:
        raise CodecError(f"a chat message has no form for the server tool call {call.name!r}; leave it out")
    if call.type == "custom":
        custom = {"name": call.name, "input": text_of(call.arguments)}
        return [{"id": call.id, "type": "custom", "custom": custom}]
    function = {"name": call.name, "arguments": text_of(call.arguments)}
    return [{"id": call.id, "type": "function", "function": function}]


def _patch_tool_call(old: ToolCall, new: ToolCall, wire: Any) -> list[Any]:
    kind = "custom" if new.type == "custom" else "function"
    inner = dict(as_mapping(as_mapping(wire).get(kind)))
    if old.type != new.type or new.server or not inner:
        return _write_tool_call(new)
    inner["name"] = new.name
    if old.arguments != new.arguments:
        inner["input" if kind == "custom" else "arguments"] = text_of(new.arguments)
    return [{**wire, "id": new.id, kind: inner}]


# --- writing messages --------------------------------------------------------------------------------------

_SLOTS = ("reasoning", "content", "refusal", "audio", "tool_calls", "function_call")


def _slots(message: Message, wire: Mapping[str, Any]) -> dict[str, list[Part]]:
    """Sort the parts of a message by the field of the wire message that holds them."""
    in_array = isinstance(wire.get("content"), list)
    room = {
        "reasoning": not in_array or any(wire.get(key) for key in _ALL_REASONING_KEYS),
        "refusal": not in_array or bool(wire.get("refusal")),
        "audio": message.role == "assistant" and (not in_array or bool(wire.get("audio"))),
    }
    slots: dict[str, list[Part]] = {slot: [] for slot in _SLOTS}
    for part in message.parts:
        slot = _slot_of(part)
        if slot in room and (not room[slot] or slots[slot]):
            slot = "content"
        slots[slot].append(part)
    return slots


def _slot_of(part: Part) -> str:
    if isinstance(part, ToolCall):
        return "function_call" if part.type == "function_call" else "tool_calls"
    if isinstance(part, Reasoning):
        return "reasoning"
    if isinstance(part, Opaque) and part.type == "refusal":
        return "refusal"
    return "audio" if isinstance(part, Media) and part.modality == "audio" else "content"


def patch_message(old: Message, new: Message, wire: Any) -> list[Any]:
    """Return the wire message for `new`, or several where a tool result stands among other parts."""
    if any(isinstance(part, ToolCallResponse) for part in (*old.parts, *new.parts)):
        return _patch_results(old, new, wire)
    if not isinstance(wire, Mapping):
        return write_message(new)
    out = dict(cast("Mapping[str, Any]", wire))
    if new.role != old.role:
        out["role"] = new.role
    if new.name != old.name:
        put(out, "name", new.name)
    if new.parts != old.parts:
        was, now = _slots(old, wire), _slots(new, wire)
        for slot in _SLOTS:
            if was[slot] != now[slot]:
                _SLOT_WRITERS[slot](out, was[slot], now[slot])
    return [out]


def write_message(message: Message) -> list[Any]:
    """Write a message that no wire message stands behind: one, or one for each result of a tool."""
    content = None if message.role == "assistant" else ""
    return patch_message(Message(message.role), message, {"role": message.role, "content": content})


def _patch_results(old: Message, new: Message, wire: Any) -> list[Any]:
    """Write each tool result as a message of its own; the first may be a change of the one in `wire`."""
    out: list[Any] = []
    results = [part for part in new.parts if isinstance(part, ToolCallResponse)]
    before = old.parts[0] if len(old.parts) == 1 else None
    for result in results:
        if isinstance(before, ToolCallResponse) and isinstance(wire, Mapping):
            out.append(_patch_result(before, result, cast("Mapping[str, Any]", wire)))
            before = None
        else:
            out.append({"role": "tool", "tool_call_id": result.id, "content": _result_content(result)})
    others: list[Part] = [part for part in new.parts if not isinstance(part, ToolCallResponse)]
    if others:
        out += write_message(Message("user" if new.role == "tool" else new.role, others, new.name))
    return out


def _patch_result(old: ToolCallResponse, new: ToolCallResponse, wire: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(wire)
    if new.id != old.id:
        put(out, "tool_call_id", new.id)
    if new.name != old.name:
        put(out, "name", new.name)
    if new.content != old.content:
        was, now = (parts_of(each.content, _PART_WRITERS) for each in (old, new))
        content = wire.get("content")
        if was is not None and now is not None and isinstance(content, list):
            out["content"] = _patch_content(was, now, cast("list[Any]", content))
        else:
            out["content"] = _result_content(new)
    return out


def _result_content(result: ToolCallResponse) -> Any:
    parts = parts_of(result.content, _PART_WRITERS)
    return text_of(result.content) if parts is None else [_write_part(part)[0] for part in parts]


def _set_content(out: dict[str, Any], was: list[Part], now: list[Part]) -> None:
    content = out.get("content")
    if isinstance(content, list):
        out["content"] = _patch_content(was, now, cast("list[Any]", content))
    elif not content and as_mapping(out.get("audio")).get("transcript") and was:
        out["audio"] = {**out["audio"], "transcript": "".join(p.text for p in now if isinstance(p, Text))}
    elif len(now) == 1 and isinstance(now[0], Text):
        out["content"] = now[0].text
    elif now:
        out["content"] = [_write_part(part)[0] for part in now]
    else:
        out["content"] = None if out.get("role") == "assistant" else ""


def _set_reasoning(out: dict[str, Any], _was: list[Part], now: list[Part]) -> None:
    key = next((key for key in _REASONING_KEYS if out.get(key)), _REASONING_KEYS[0])
    # The details repeat the text and sign it; they would contradict the new text.
    for other in _ALL_REASONING_KEYS:
        if other != key or not now:
            out.pop(other, None)
    if now and isinstance(now[0], Reasoning):
        out[key] = now[0].text


def _set_refusal(out: dict[str, Any], _was: list[Part], now: list[Part]) -> None:
    refusal = now[0].data if now and isinstance(now[0], Opaque) else None
    out["refusal"] = as_str(as_mapping(refusal).get("refusal"))


def _set_audio(out: dict[str, Any], _was: list[Part], now: list[Part]) -> None:
    if not now or not isinstance(now[0], Media):
        out["audio"] = None
        return
    audio = dict(as_mapping(out.get("audio")))
    put(audio, "id", now[0].file_id)
    put(audio, "data", now[0].data)
    out["audio"] = audio


def _set_tool_calls(out: dict[str, Any], was: list[Part], now: list[Part]) -> None:
    calls = patch_sequence(
        cast("list[ToolCall]", was),
        cast("list[ToolCall]", now),
        as_list(out.get("tool_calls")),
        patch=_patch_tool_call,
        build=_write_tool_call,
        alike=same_class,
    )
    put(out, "tool_calls", calls or None)


def _set_function_call(out: dict[str, Any], _was: list[Part], now: list[Part]) -> None:
    call = now[0] if now else None
    value = {"name": call.name, "arguments": text_of(call.arguments)} if isinstance(call, ToolCall) else None
    put(out, "function_call", value)


_SLOT_WRITERS: dict[str, Callable[[dict[str, Any], list[Part], list[Part]], None]] = {
    "reasoning": _set_reasoning,
    "content": _set_content,
    "refusal": _set_refusal,
    "audio": _set_audio,
    "tool_calls": _set_tool_calls,
    "function_call": _set_function_call,
}
