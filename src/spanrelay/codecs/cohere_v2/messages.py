"""The messages of Cohere's chat, version 2: OpenAI's roles and tool calls, thinking among the content, a plan of tools.

The plan, what the model says before it calls tools, is `Opaque("tool_plan", …)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, cast

from spanrelay._json import loads_or_text
from spanrelay.codecs.content import opaque, parts_of, read_parts, read_text, text_of
from spanrelay.codecs.narrowing import as_list, as_mapping, as_str
from spanrelay.codecs.openai_shapes import image_from_url, media_url
from spanrelay.codecs.patching import overlay, patch_sequence, put, same_class
from spanrelay.errors import CodecError
from spanrelay.records import Media, Message, Opaque, Part, Reasoning, Role, Text, ToolCall, ToolCallResponse

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}

# --- reading -----------------------------------------------------------------------------------------------


def _read_image(part: Mapping[str, Any]) -> Part:
    url = as_mapping(part.get("image_url")).get("url")
    return image_from_url(url) if isinstance(url, str) else opaque(part)


def _read_thinking(part: Mapping[str, Any]) -> Part:
    thinking = part.get("thinking")
    return Reasoning(thinking) if isinstance(thinking, str) else opaque(part)


_READERS: dict[str, Callable[[Mapping[str, Any]], Part]] = {
    "text": read_text,
    "image_url": _read_image,
    "thinking": _read_thinking,
}


def read_message(item: Any) -> Message:
    """Read one message."""
    if not isinstance(item, Mapping):
        return Message("user", [Opaque("message", item)])
    wire = cast("Mapping[str, Any]", item)
    role = _ROLES.get((as_str(wire.get("role")) or "").lower(), "user")
    content = wire.get("content")
    if role == "tool":
        given = read_parts(content, _READERS, opaque) if isinstance(content, list) else content
        return Message(role, [ToolCallResponse(as_str(wire.get("tool_call_id")), given)])
    parts: list[Part] = []
    plan = wire.get("tool_plan")
    if plan:
        parts.append(Opaque("tool_plan", plan))
    parts += read_parts(content, _READERS, opaque)
    parts += [_read_call(call) for call in as_list(wire.get("tool_calls"))]
    return Message(role, parts)


def _read_call(call: Any) -> Part:
    fields = as_mapping(call)
    function = fields.get("function")
    if not isinstance(function, Mapping):
        return Opaque("tool_call", call)
    known = cast("Mapping[str, Any]", function)
    arguments = known.get("arguments")
    return ToolCall(
        as_str(fields.get("id")),
        as_str(known.get("name")) or "",
        loads_or_text(arguments) if isinstance(arguments, str) else arguments,
    )


# --- writing -----------------------------------------------------------------------------------------------


def _write_text(part: Text) -> dict[str, Any]:
    return {"type": "text", "text": part.text}


def _write_thinking(part: Reasoning) -> dict[str, Any]:
    return {"type": "thinking", "thinking": part.text}


def _write_media(part: Media) -> dict[str, Any]:
    url = media_url(part)
    if part.modality != "image" or url is None:
        raise CodecError(f"a message of Cohere's takes images by URL or data, not {part.modality!r} media")
    return {"type": "image_url", "image_url": {"url": url}}


_WRITERS: dict[type, Callable[[Any], Any]] = {
    Text: _write_text,
    Reasoning: _write_thinking,
    Media: _write_media,
    Opaque: attrgetter("data"),
}
_OWNED = frozenset({"text", "thinking", "url"})


def _build_part(part: Part) -> list[Any]:
    write = _WRITERS.get(type(part))
    if write is None:
        raise CodecError(f"the content of a message of Cohere's has no form for a {type(part).__name__!r} part")
    return [write(part)]


def _patch_part(_old: Part, new: Part, wire: Any) -> list[Any]:
    built = _build_part(new)
    if isinstance(new, Opaque) or not isinstance(wire, Mapping) or wire.get("type") != built[0].get("type"):
        return built
    return [overlay(cast("Mapping[str, Any]", wire), built[0], _OWNED)]


def _build_call(part: Part) -> list[Any]:
    if not isinstance(part, ToolCall):
        return [cast("Opaque", part).data]
    function = {"name": part.name, "arguments": text_of(part.arguments)}
    return [{"id": part.id, "type": "function", "function": function}]


def _patch_call(old: Part, new: Part, wire: Any) -> list[Any]:
    if not isinstance(new, ToolCall) or not isinstance(old, ToolCall):
        return _build_call(new)
    function = {**as_mapping(as_mapping(wire).get("function")), "name": new.name}
    if new.arguments != old.arguments:
        function["arguments"] = text_of(new.arguments)
    return [{**as_mapping(wire), "id": new.id, "function": function}]


def _split(message: Message) -> tuple[Any, list[Part], list[Part]]:
    """Return the plan, the content and the calls of a message."""
    plan: Any = None
    content: list[Part] = []
    calls: list[Part] = []
    for part in message.parts:
        if isinstance(part, Opaque) and part.type == "tool_plan":
            plan = part.data
        elif isinstance(part, ToolCall) or (isinstance(part, Opaque) and part.type == "tool_call"):
            calls.append(part)
        else:
            content.append(part)
    return plan, content, calls


def write_message(message: Message) -> list[Any]:
    """Write a message that no wire message stands behind: one, or one for each result of a tool.

    Raises:
        CodecError: the record holds something that a message has no form for.
    """
    if len(message.parts) == 1 and isinstance(message.parts[0], Opaque) and message.parts[0].type == "message":
        return [message.parts[0].data]
    return patch_message(Message(message.role), message, {"role": message.role})


def patch_message(old: Message, new: Message, wire: Any) -> list[Any]:
    """Return the wire messages for `new`, whose wire was read as `old`.

    Raises:
        CodecError: as `write_message`.
    """
    if any(isinstance(part, ToolCallResponse) for part in (*old.parts, *new.parts)):
        return _patch_results(old, new, wire)
    if not isinstance(wire, Mapping):
        return write_message(new)
    out = dict(cast("Mapping[str, Any]", wire))
    if new.role != old.role:
        out["role"] = new.role
    (was_plan, was, were_called), (plan, now, called) = _split(old), _split(new)
    if plan != was_plan:
        put(out, "tool_plan", plan)
    if now != was or "content" not in out:
        out["content"] = _patch_content(was, now, out.get("content"))
        if out["content"] is None and called:
            del out["content"]
    if called != were_called:
        known = as_list(out.get("tool_calls"))
        calls = patch_sequence(were_called, called, known, patch=_patch_call, build=_build_call, alike=same_class)
        put(out, "tool_calls", calls or None)
    return [out]


def _patch_content(was: list[Part], now: list[Part], content: Any) -> Any:
    if isinstance(content, list):
        return patch_sequence(
            was, now, cast("list[Any]", content), patch=_patch_part, build=_build_part, alike=same_class
        )
    if not now:
        return None
    if len(now) == 1 and isinstance(now[0], Text):
        return now[0].text
    return [item for part in now for item in _build_part(part)]


def _patch_results(old: Message, new: Message, wire: Any) -> list[Any]:
    """Write each result as a message of its own; the first may be a change of the one in `wire`."""
    out: list[Any] = []
    before = old.parts[0] if len(old.parts) == 1 else None
    others: list[Part] = []
    for part in new.parts:
        if not isinstance(part, ToolCallResponse):
            others.append(part)
            continue
        known: dict[str, Any] = {"role": "tool"}
        if isinstance(before, ToolCallResponse) and isinstance(wire, Mapping):
            known = dict(cast("Mapping[str, Any]", wire))
        put(known, "tool_call_id", part.id)
        if not isinstance(before, ToolCallResponse) or part.content != before.content:
            known["content"] = _result_content(before, part, known.get("content"))
        out.append(known)
        before = None
    if others:
        out += write_message(Message("user" if new.role == "tool" else new.role, others))
    return out


def _result_content(old: Any, new: ToolCallResponse, content: Any) -> Any:
    now = parts_of(new.content, _WRITERS)
    if now is None:
        return text_of(new.content)
    was = parts_of(getattr(old, "content", None), _WRITERS) or []
    return _patch_content(was, now, content if isinstance(content, list) else [])
