"""Messages, their parts and tool definitions, as the JSON that OpenTelemetry's GenAI schemas describe.

Writing makes what the schemas know, plus extra keys for what they leave out; reading also takes the forms of
the provider APIs and of frameworks, and never raises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from spanrelay._json import dumps_text
from spanrelay.conversation import Conversation
from spanrelay.records import (
    JSON,
    Media,
    Message,
    Opaque,
    Part,
    Reasoning,
    SpanRecord,
    Text,
    ToolCall,
    ToolCallResponse,
    ToolDefinition,
)
from spanrelay.semconv import names
from spanrelay.semconv.histories import FLAT, LEAST_CHARACTERS, Reader, histories
from spanrelay.semconv.values import as_list, as_object, decode, first, indexed, looks_cut, structure, text

# --- writing -----------------------------------------------------------------------------------------------


def write_messages(messages: list[Message]) -> list[dict[str, JSON]]:
    """Return messages as the value of `gen_ai.input.messages` or `gen_ai.output.messages`."""
    return [_write_message(message) for message in messages]


def written(messages: list[Message]) -> str:
    """Return `write_messages(messages)` as text; of a conversation that is known, only what is new is written."""
    return messages.told(write_messages) if type(messages) is Conversation else dumps_text(write_messages(messages))


def _write_message(message: Message) -> dict[str, JSON]:
    written: dict[str, JSON] = {
        "role": message.role,
        # Most parts are texts, and a call for each would cost more than writing it.
        "parts": [
            {"type": "text", "content": part.text} if type(part) is Text else _PART_WRITERS[type(part)](part)
            for part in message.parts
        ],
    }
    if message.name is not None:
        written["name"] = message.name
    reason = message.finish_reason
    if reason is not None:
        written["finish_reason"] = names.FINISH_REASON_NAMES.get(reason, reason)
    return written


def write_parts(parts: list[Part]) -> list[dict[str, JSON]]:
    """Return parts as the value of `gen_ai.system_instructions`, or as the `parts` of a message."""
    return [_PART_WRITERS[part.__class__](part) for part in parts]


def _write_text(part: Text) -> dict[str, JSON]:
    return {"type": "text", "content": part.text}


def _write_reasoning(part: Reasoning) -> dict[str, JSON]:
    written: dict[str, JSON] = {"type": "reasoning", "content": part.text}
    if part.id is not None:
        written["id"] = part.id
    if part.signature is not None:
        written["signature"] = part.signature
    if part.encrypted is not None:
        written["encrypted_content"] = part.encrypted
    if part.redacted:
        written["redacted"] = True
    return written


def _write_media(part: Media) -> dict[str, JSON]:
    kind, key, value = "uri", "uri", part.uri
    if part.data is not None:
        kind, key, value = "blob", "content", part.data
    elif part.file_id is not None:
        kind, key, value = "file", "file_id", part.file_id
    written: dict[str, JSON] = {"type": kind, "modality": part.modality, key: value}
    for extra, also in (
        ("mime_type", part.mime_type),
        ("name", part.name),
        ("uri", part.uri),
        ("file_id", part.file_id),
    ):
        if also is not None:
            written[extra] = also
    return written


def _write_tool_call(part: ToolCall) -> dict[str, JSON]:
    written: dict[str, JSON] = {"type": "tool_call", "id": part.id, "name": part.name}
    if part.server:
        written["type"] = "server_tool_call"
        written["server_tool_call"] = {"type": part.name, "arguments": part.arguments}
    else:
        written["arguments"] = part.arguments
    if part.type is not None:
        written["tool_type"] = part.type
    return written


def _write_tool_call_response(part: ToolCallResponse) -> dict[str, JSON]:
    response = part.content
    if type(response) is list:
        response = [_write_answer_item(item) for item in response]
    written: dict[str, JSON] = {"type": "tool_call_response", "id": part.id}
    if part.server:
        written["type"] = "server_tool_call_response"
        written["server_tool_call_response"] = {"type": part.name or "tool", "response": response}
    else:
        written["response"] = response
    if part.name is not None:
        written["name"] = part.name
    if part.is_error:
        written["is_error"] = True
    return written


def _write_answer_item(item: Part | JSON) -> JSON:
    if item.__class__ is Opaque:  # as it was on the wire it would be read as plain JSON, the tool's own
        return _wrap_opaque(cast("Opaque", item))
    writer = _PART_WRITERS.get(item.__class__)
    return item if writer is None else writer(item)


def _write_opaque(part: Opaque) -> dict[str, JSON]:
    """Write a part as it was on the wire, or wrapped where a reader would take it for another type."""
    data = part.data
    if isinstance(data, dict) and data.get("type") == part.type and part.type not in _PART_READERS:
        return cast("dict[str, JSON]", data)
    return _wrap_opaque(part)


def _wrap_opaque(part: Opaque) -> dict[str, JSON]:
    return {"type": "generic", "of": part.type, "data": part.data}


_PART_WRITERS: dict[type, Callable[[Any], dict[str, JSON]]] = {
    Text: _write_text,
    Reasoning: _write_reasoning,
    Media: _write_media,
    ToolCall: _write_tool_call,
    ToolCallResponse: _write_tool_call_response,
    Opaque: _write_opaque,
}


def write_definition(tool: ToolDefinition) -> dict[str, JSON]:
    """Return a tool as an item of `gen_ai.tool.definitions`; `raw` is an extra key where there is any."""
    written: dict[str, JSON] = {"type": tool.type, "name": tool.name}
    if tool.description is not None:
        written["description"] = tool.description
    if tool.parameters is not None:
        written["parameters"] = tool.parameters
    if tool.raw is not None:
        written["raw"] = tool.raw
    return written


# --- reading -----------------------------------------------------------------------------------------------


def _read_list(value: object, record: SpanRecord) -> JSON:
    """Return the JSON of an attribute that holds a list, marking the record where it was cut."""
    decoded = decode(value)
    if looks_cut(value, decoded):
        record.truncated = True
        return []
    return decoded


def read_messages(value: object, record: SpanRecord, read: Reader | None = None) -> list[Message]:
    """Return the messages in an attribute; mark the record where it was cut or content left out.

    `read` reads one of them where a dialect has a form of its own.
    """
    decoded = _read_list(value, record)
    if isinstance(decoded, dict):
        inner = cast("dict[str, JSON]", decoded).get("messages")
        decoded = inner if isinstance(inner, list) else [decoded]
    if not isinstance(decoded, list):
        decoded = [{"role": "user", "content": decoded}]
    items: list[JSON] = decoded
    read = read or read_message
    return [read(item, record) for item in items if isinstance(item, dict)]


def read_history(value: object, record: SpanRecord, read: Reader | None = None) -> list[Message]:
    """Return what `read_messages` does; messages that the request before of the same conversation had are its own."""
    key = record.session_id or record.trace_id
    if key and type(value) is str and len(value) >= LEAST_CHARACTERS:
        found = histories.read(key, value, read or read_message, record)
        if found is not None:
            return found
    return read_messages(value, record, read)


def read_flat_history(
    attributes: Mapping[str, Any], prefix: str, read: Reader, record: SpanRecord
) -> tuple[list[Message], Sequence[int]]:
    """Return the messages in `prefix.N.rest` as `read` makes each of its `rest`, and N of each, in its order.

    Messages that the request before of the same conversation had are its own.
    """
    key = record.session_id or record.trace_id
    if key and prefix in FLAT:
        found = histories.read_flat(key, attributes, prefix, read, record)
        if found is not None:
            return found
    groups = indexed(attributes, prefix)
    return [read(fields, record) for fields in groups.values()], list(groups)


def read_message(item: Mapping[str, JSON], record: SpanRecord) -> Message:
    """Return a message written with parts, or in the form of the Chat Completions API."""
    get = item.get
    role, parts, name, reason = get("role"), get("parts"), get("name"), get("finish_reason")
    # Most messages are one text: to look for what else one may be costs more than the rest.
    only = parts[0] if type(parts) is list and len(parts) == 1 else None
    if type(only) is dict and only.get("type") == "text" and type(said := only.get("content")) is str:
        read: list[Part] = [Text(said)]
    else:
        read = read_parts(parts, record) if type(parts) is list else _read_chat_parts(item, record)
    return Message(
        names.ROLES.get(role, "user") if type(role) is str else "user",
        read,
        None if name is None else text(name),
        None if reason is None else text(reason),
    )


def _read_chat_parts(item: Mapping[str, JSON], record: SpanRecord) -> list[Part]:
    content, calls = item.get("content"), item.get("tool_calls")
    said = content is not None and (content != "" or not calls)  # beside calls an empty text is nobody's words
    read = read_parts(content if isinstance(content, list) else [content] if said else [], record)
    if isinstance(item.get("tool_call_id"), str):
        answer = content if content is None or isinstance(content, str) else cast("JSON", read)
        failed = item.get("status") == "error"
        return [ToolCallResponse(item["tool_call_id"], answer, text(item.get("name")), failed)]
    if isinstance(calls, list):
        read.extend(_read_chat_call(call) for call in cast("list[JSON]", calls) if isinstance(call, dict))
    return read


def _read_chat_call(call: Mapping[str, JSON]) -> ToolCall:
    function = call.get("function")
    given = cast("Mapping[str, JSON]", function) if isinstance(function, dict) else call
    return ToolCall(text(call.get("id")), text(given.get("name")) or "", decode(first(given, ("arguments", "args"))))


def read_instructions(value: object, record: SpanRecord) -> list[Part]:
    """Return the parts in `gen_ai.system_instructions`, which some write as plain text."""
    decoded = _read_list(value, record)
    if isinstance(decoded, list):
        return read_parts(cast("list[JSON]", decoded), record)
    return read_parts([decoded], record) if decoded else []


def read_parts(items: list[JSON], record: SpanRecord) -> list[Part]:
    """Return the parts of a message; mark the record where the content of one was left out."""
    parts: list[Part] = []
    for item in items:
        part = _read_part(item)
        if part is None:
            record.content = False
        else:
            parts.append(part)
    return parts


def _read_part(item: JSON) -> Part | None:
    """Return one part, None for a part whose content was left out."""
    kind = item.get("type") if type(item) is dict else None
    if type(kind) is not str:
        return Text(item) if type(item) is str else _read_untyped(item)
    reader = _PART_READERS.get(kind)
    return Opaque(kind, item) if reader is None else reader(item)


def _read_untyped(item: JSON) -> Part:
    """Return a part without a type, which the key that it has shows, as those of Google's API and of Genkit do."""
    fields = as_object(item)
    for key, reader in _KEYED_PART_READERS.items():
        if fields.get(key) is not None:
            return reader(fields[key], fields)
    return Opaque("unknown", item)


def _read_said(said: JSON, fields: dict[str, JSON]) -> Part:
    if not isinstance(said, str):
        return Opaque("unknown", fields)
    return _read_thought(said, fields) if fields.get("thought") is True else Text(said)


def _read_thought(said: JSON, fields: dict[str, JSON]) -> Part:
    signed = {**fields, **as_object(fields.get("metadata"))}
    signature = text(first(signed, ("thoughtSignature", "thought_signature")))
    return Reasoning(said, signature=signature) if isinstance(said, str) else Opaque("reasoning", fields)


def _read_keyed_call(said: JSON, _fields: dict[str, JSON]) -> Part:
    call = as_object(said)
    given = first(call, ("args", "input"))
    return ToolCall(text(first(call, ("id", "ref"))), text(call.get("name")) or "", given)


def _read_keyed_answer(said: JSON, _fields: dict[str, JSON]) -> Part:
    answer = as_object(said)
    given = first(answer, ("response", "output"))
    return ToolCallResponse(text(first(answer, ("id", "ref"))), given, text(answer.get("name")))


def _read_keyed_media(said: JSON, _fields: dict[str, JSON]) -> Part:
    medium = as_object(said)
    mime = text(first(medium, ("mimeType", "mime_type", "contentType")))
    url = text(first(medium, ("url", "fileUri", "file_uri")))
    if url is None:
        return Media(_modality({"type": ""}, mime), mime, data=text(medium.get("data")))
    return media_of_url(_modality({"type": url.removeprefix("data:")}, mime), url, mime)


_KEYED_PART_READERS: dict[str, Callable[[JSON, dict[str, JSON]], Part]] = {
    "text": _read_said,
    "reasoning": _read_thought,
    **dict.fromkeys(("functionCall", "function_call", "toolRequest"), _read_keyed_call),
    **dict.fromkeys(("functionResponse", "function_response", "toolResponse"), _read_keyed_answer),
    **dict.fromkeys(("inlineData", "inline_data", "fileData", "file_data", "media"), _read_keyed_media),
}


def _read_text(fields: dict[str, JSON]) -> Part | None:
    value = fields.get("content", fields.get("text"))
    if value is None:
        return None
    return Text(value) if isinstance(value, str) else Opaque("text", fields)


def _read_reasoning(fields: dict[str, JSON]) -> Part | None:
    value = first(fields, ("content", "text", "thinking", "summary", "reasoning"))
    encrypted = first(fields, ("encrypted_content", "data"))
    return Reasoning(
        _reasoning_text(value),
        text(fields.get("id")),
        text(fields.get("signature")),
        encrypted if isinstance(encrypted, str) else None,
        fields.get("redacted") is True or fields["type"] == "redacted_thinking",
    )


def _reasoning_text(value: JSON) -> str:
    """Return a thought's text, also out of the list of summaries that the Responses API sends."""
    if isinstance(value, str) and value.startswith("[{") and "summary_text" in value:
        value = decode(value)
    if isinstance(value, list):
        items = cast("list[JSON]", value)
        return "\n".join(item["text"] for item in items if isinstance(item, dict) and text(item.get("text")))
    return value if isinstance(value, str) else ""


def _read_media(fields: dict[str, JSON]) -> Part | None:
    data = fields.get("content", fields.get("data"))
    uri = fields.get("uri", fields.get("url"))
    mime = text(first(fields, ("mime_type", "media_type")))
    return Media(
        _modality(fields, mime),
        mime,
        text(uri),
        data if isinstance(data, str) else None,
        text(fields.get("file_id")),
        text(fields.get("name")),
    )


def _modality(fields: dict[str, JSON], mime: str | None) -> Any:
    """Return a medium's modality as said, or as its type or its MIME type shows."""
    for hint in (fields.get("modality"), fields["type"], mime):
        if isinstance(hint, str):
            for modality in ("image", "audio", "video", "document"):
                if hint.startswith(modality):
                    return modality
    return "document"


def _read_image_url(fields: dict[str, JSON]) -> Part | None:
    image = fields.get("image_url")
    url = cast("dict[str, JSON]", image).get("url") if isinstance(image, dict) else image
    return media_of_url("image", url) if isinstance(url, str) else Opaque("image_url", fields)


def media_of_url(modality: Any, url: str, mime: str | None = None, name: str | None = None) -> Media:
    """Return the medium at `url`; a base64 `data:` URL is taken apart."""
    if url.startswith("data:") and ";base64," in url:
        header, _, data = url.partition(";base64,")
        return Media(modality, header[5:].partition(";")[0] or mime, data=data, name=name)
    return Media(modality, mime, uri=url, name=name)


def _read_tool_call(fields: dict[str, JSON]) -> Part | None:
    arguments = fields.get("arguments", fields.get("input", fields.get("args")))
    return ToolCall(
        text(first(fields, ("call_id", "id"))),  # OpenAI's items have an id beside that of the call
        text(fields.get("name")) or "",
        decode(arguments) if isinstance(arguments, str) else arguments,
        type=text(fields.get("tool_type")),
    )


def _read_server_tool_call(fields: dict[str, JSON]) -> Part | None:
    call = fields.get("server_tool_call")
    arguments: JSON = call
    if isinstance(call, dict):
        inner = cast("dict[str, JSON]", call)
        rest = {key: value for key, value in inner.items() if key != "type"}
        arguments = first(inner, ("arguments", "input")) if rest.keys() & {"arguments", "input"} else rest
    kind = text(fields.get("tool_type"))
    return ToolCall(text(fields.get("id")), text(fields.get("name")) or "", arguments, True, kind)


def _read_tool_call_response(fields: dict[str, JSON]) -> Part | None:
    for key in ("response", "result", "content", "output"):
        if key in fields:
            break
    else:
        key = "response"
    return ToolCallResponse(
        text(first(fields, ("call_id", "id", "tool_use_id", "tool_call_id"))),
        _read_answer(fields.get(key)),
        text(fields.get("name")),
        fields.get("is_error") is True,
    )


def _read_server_tool_call_response(fields: dict[str, JSON]) -> Part | None:
    response = fields.get("server_tool_call_response")
    inner = cast("dict[str, JSON]", response) if isinstance(response, dict) else {}
    return ToolCallResponse(
        text(fields.get("id")),
        _read_answer(inner.get("response", response)),
        text(fields.get("name")),
        fields.get("is_error") is True,
        True,
    )


def _read_answer(value: JSON) -> JSON:
    """Return a tool's answer; a list of parts only if each item is one that we would write."""
    if isinstance(value, list) and value:
        items = cast("list[JSON]", value)
        if all(isinstance(item, dict) and _is_part(cast("dict[str, JSON]", item)) for item in items):
            return [_read_part(item) for item in items]
    return value


def _is_part(item: dict[str, JSON]) -> bool:
    needed = _PART_KEYS.get(cast("Any", item.get("type"))) if isinstance(item.get("type"), str) else None
    return needed is not None and needed in item


_PART_KEYS = {
    "text": "content",
    "reasoning": "content",
    "blob": "content",
    "uri": "uri",
    "file": "file_id",
    "generic": "of",
}


def _read_generic(fields: dict[str, JSON]) -> Part | None:
    kind = fields.get("of")
    return Opaque(kind, fields.get("data")) if isinstance(kind, str) else Opaque("generic", fields)


_PART_READERS: dict[str, Callable[[dict[str, JSON]], Part | None]] = {
    "text": _read_text,
    "input_text": _read_text,
    "output_text": _read_text,
    "reasoning": _read_reasoning,
    "thinking": _read_reasoning,
    "redacted_thinking": _read_reasoning,
    "tool_call": _read_tool_call,
    "tool_use": _read_tool_call,
    "server_tool_call": _read_server_tool_call,
    "tool_call_response": _read_tool_call_response,
    "tool_result": _read_tool_call_response,
    "server_tool_call_response": _read_server_tool_call_response,
    "blob": _read_media,
    "uri": _read_media,
    "file": _read_media,
    "binary": _read_media,
    "image-url": _read_media,
    "audio-url": _read_media,
    "video-url": _read_media,
    "document-url": _read_media,
    "image_url": _read_image_url,
    "generic": _read_generic,
}
"""The types of OpenTelemetry's parts, and other names for them that instrumentors write."""


def read_definitions(value: object, record: SpanRecord) -> list[ToolDefinition]:
    """Return the tools in `gen_ai.tool.definitions`; mark the record where the attribute was cut."""
    tools = _read_definitions_text(value) if isinstance(value, str) else _read_definitions(structure(value))
    if tools is None:
        record.truncated = True
    return [] if tools is None else list(tools)


@lru_cache(maxsize=64)
def _read_definitions_text(value: str) -> tuple[ToolDefinition, ...] | None:
    # Every call of an agent repeats the same tools, often the larger part of the span.
    decoded = decode(value)
    return None if looks_cut(value, decoded) else _read_definitions(decoded)


def _read_definitions(decoded: JSON) -> tuple[ToolDefinition, ...]:
    return tuple(tool for item in as_list(decoded) for tool in _read_tools(item))


def _read_tools(item: JSON) -> list[ToolDefinition]:
    """Return a tool, of which some write only the name, or those that Google's API has in one."""
    fields = as_object(item)
    declared = first(fields, ("function_declarations", "functionDeclarations"))
    if isinstance(declared, list):
        return [read_definition(as_object(each)) for each in cast("list[JSON]", declared)]
    return [read_definition(fields)] if fields else [ToolDefinition(item)] if isinstance(item, str) else []


def read_definition(fields: dict[str, JSON]) -> ToolDefinition:
    """Return a tool as the convention writes it, or as the provider APIs do."""
    kind = text(fields.get("type")) or "function"
    nested = first(fields, ("function", kind))
    inner = cast("dict[str, JSON]", nested) if isinstance(nested, dict) else fields
    return ToolDefinition(
        text(inner.get("name")) or text(inner.get("server_label")) or kind,
        text(inner.get("description")),
        first(inner, ("parameters", "input_schema", "inputSchema", "parameters_json_schema")),
        kind,
        fields.get("raw"),
    )
