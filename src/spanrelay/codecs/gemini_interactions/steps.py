"""The steps of Gemini's interactions, and the parts of their content: read and written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from spanrelay._json import loads_or_text
from spanrelay.codecs.narrowing import as_list, as_mapping, as_str
from spanrelay.codecs.patching import put
from spanrelay.errors import CodecError
from spanrelay.records import Media, Message, Opaque, Part, Reasoning, Role, Text, ToolCall, ToolCallResponse

_MEDIA: dict[str, Literal["image", "audio", "video", "document"]] = {
    "image": "image",
    "audio": "audio",
    "video": "video",
    "document": "document",
}


def read_parts(content: Any) -> list[Part]:
    """Read the content of a step; a text alone is one part of it."""
    if isinstance(content, str):
        return [Text(content)]
    return [_read_part(part) for part in as_list(content)]


def _read_part(part: Any) -> Part:
    fields = as_mapping(part)
    kind, text = fields.get("type"), fields.get("text")
    if kind == "text" and isinstance(text, str):
        return Text(text)
    media = _MEDIA.get(kind) if isinstance(kind, str) else None
    uri, data = as_str(fields.get("uri")), as_str(fields.get("data"))
    if media is None or (uri is None and data is None):
        return Opaque(as_str(kind) or "unknown", part)
    return Media(media, as_str(fields.get("mime_type")), uri, data)


def read_step(step: Any) -> Message:
    """Read one step as a message of its own."""
    fields = as_mapping(step)
    kind = as_str(fields.get("type")) or "unknown"
    if kind == "user_input":
        return Message("user", read_parts(fields.get("content")))
    if kind == "model_output":
        return Message("assistant", read_parts(fields.get("content")))
    if kind == "thought":
        return Message("assistant", [_read_thought(fields)])
    if kind == "function_call":
        return Message("assistant", [_read_call(fields, as_str(fields.get("name")) or "", server=False)])
    if kind == "function_result":
        return Message("tool", [_read_result(fields, as_str(fields.get("name")), server=False)])
    if kind.endswith("_call"):
        name = as_str(fields.get("name")) or kind.removesuffix("_call")
        return Message("assistant", [_read_call(fields, name, server=True)])
    if kind.endswith("_result"):
        return Message("assistant", [_read_result(fields, kind.removesuffix("_result"), server=True)])
    # Older programs send turns, which have a role.
    role: Role = "assistant" if fields.get("role") == "model" else "user"
    if "role" in fields:
        return Message(role, read_parts(fields.get("content")))
    return Message("user", [Opaque(kind, step)])


def _read_thought(step: Mapping[str, Any]) -> Reasoning:
    texts = (as_str(as_mapping(part).get("text")) for part in as_list(step.get("summary")))
    return Reasoning("".join(text for text in texts if text), None, as_str(step.get("signature")))


def _read_call(step: Mapping[str, Any], name: str, *, server: bool) -> ToolCall:
    arguments = step.get("arguments")
    arguments = loads_or_text(arguments) if isinstance(arguments, str) else arguments
    return ToolCall(as_str(step.get("id")), name, arguments, server, as_str(step.get("type")) if server else None)


def _read_result(step: Mapping[str, Any], name: str | None, *, server: bool) -> ToolCallResponse:
    result = step.get("result")
    content = read_parts(result) if isinstance(result, list) and not server else result
    return ToolCallResponse(as_str(step.get("call_id")), content, name, step.get("is_error") is True, server)


def write_parts(parts: list[Part]) -> list[Any]:
    """Return the content that says `parts`."""
    return [_write_part(part) for part in parts]


def _write_part(part: Part) -> Any:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if isinstance(part, Opaque):
        return part.data
    if not isinstance(part, Media):
        raise CodecError(f"the content of an interaction has no form for a {type(part).__name__!r} part")
    out: dict[str, Any] = {"type": part.modality}
    for key in ("data", "mime_type", "uri"):
        put(out, key, getattr(part, key))
    return out


def write_steps(message: Message) -> list[Any]:
    """Return the steps that stand for a message."""
    if message.role not in ("user", "assistant", "tool"):
        raise CodecError(f"an interaction has no step of the role {message.role!r}; put its text into `system`")
    kind = "model_output" if message.role == "assistant" else "user_input"
    steps: list[Any] = []
    for part in message.parts:
        step = _write_step(part)
        if step is not None:
            steps.append(step)
        elif steps and steps[-1].get("type") == kind:
            steps[-1]["content"].append(_write_part(part))
        else:
            steps.append({"type": kind, "content": [_write_part(part)]})
    return steps


def _write_step(part: Part) -> dict[str, Any] | None:
    """Return the step that is a part by itself; None for a part of content."""
    if isinstance(part, Reasoning):
        step: dict[str, Any] = {"type": "thought"}
        put(step, "signature", part.signature)
        put(step, "summary", [{"type": "text", "text": part.text}] if part.text else None)
        return step
    if isinstance(part, ToolCall):
        if part.server:
            raise CodecError(f"an interaction has no form for a new call of Google's own tool {part.name!r}")
        arguments = loads_or_text(part.arguments) if isinstance(part.arguments, str) else part.arguments
        return {"type": "function_call", "id": part.id, "name": part.name, "arguments": arguments or {}}
    if isinstance(part, ToolCallResponse):
        parts = as_list(part.content)
        of_parts = bool(parts) and isinstance(parts[0], (Text, Media, Opaque))
        step = {"type": "function_result", "call_id": part.id, "name": part.name}
        return {**step, "result": write_parts(parts) if of_parts else part.content, "is_error": part.is_error}
    return None
