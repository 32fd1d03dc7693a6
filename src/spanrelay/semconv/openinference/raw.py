"""What flattened messages leave out, and the raw input or output beside them has: words, ids, the answer's model.

Raw messages are those of LangChain, Python's and JavaScript's, and the items of OpenAI's Agents SDK. They are read only
where something is missing, and only where they are the same messages: as many from the end, in the same roles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from spanrelay.records import JSON, Message, Part, SpanRecord, ToolCall, ToolCallResponse
from spanrelay.semconv.messages import read_message
from spanrelay.semconv.values import as_list, as_object, first, text


def lack(messages: list[Message]) -> bool:
    """Whether messages miss what a raw form would have: any words, or the id of a call."""
    return any(_lacks(message) for message in messages)


def _lacks(message: Message) -> bool:
    parts = message.parts
    return not parts or any(isinstance(part, (ToolCall, ToolCallResponse)) and part.id is None for part in parts)


def completed(messages: list[Message], raw: list[JSON], record: SpanRecord) -> list[Message]:
    """Return messages with what the raw ones have more; those at the beginning may have no raw form."""
    apart = len(messages) - len(raw)
    beside = [_read(as_object(item), record) for item in raw]
    if apart < 0 or [each.role for each in beside] != [each.role for each in messages[apart:]]:
        return messages
    both = zip(messages[apart:], beside, strict=True)
    return messages[:apart] + [_merged(one, other) if _lacks(one) else one for one, other in both]


def _merged(message: Message, raw: Message) -> Message:
    answers = [part for part in raw.parts if isinstance(part, ToolCallResponse)]
    parts: list[Part] = []
    calls = iter(raw.tool_calls if len(raw.tool_calls) == len(message.tool_calls) else ())
    for part in message.parts or raw.parts:
        if isinstance(part, ToolCall) and part.id is None:
            parts.append(replace(part, id=next((call.id for call in calls), None)))
        elif isinstance(part, ToolCallResponse) and part.id is None and len(answers) == 1:
            parts.append(replace(part, id=answers[0].id, is_error=part.is_error or answers[0].is_error))
        else:
            parts.append(part)
    return replace(message, parts=parts)


# --- raw messages ----------------------------------------------------------------------------------------------


def asked(value: JSON) -> list[JSON]:
    """Return the raw messages of an input."""
    if isinstance(value, dict):
        messages = as_list(cast("dict[str, JSON]", value).get("messages"))
        return messages[0] if len(messages) == 1 and isinstance(messages[0], list) else messages
    return as_list(value)


def answer_of(value: JSON) -> dict[str, JSON]:
    """Return the first answer in an output of LangChain's, its `message` in it; empty where there is none."""
    generations = as_list(as_object(value).get("generations"))
    while generations and isinstance(generations[0], list):
        generations = cast("list[JSON]", generations[0])
    return as_object(generations[0]) if generations else {}


def model_of(answer: dict[str, JSON]) -> str | None:
    """Return the model that a raw answer names, beside its message where it was streamed."""
    told = as_object(_message_of(answer).get("response_metadata"))
    about = as_object(first(answer, ("generationInfo", "generation_info")))
    return text(first(told, ("model_name", "model"))) or text(about.get("model_name"))


def id_of(answer: dict[str, JSON]) -> str | None:
    """Return the provider's id of a raw answer; the framework's own, that of its run, is none."""
    fields = _message_of(answer)
    told = text(as_object(fields.get("response_metadata")).get("id")) or text(fields.get("id"))
    return None if told is None or told.startswith(_OF_RUNS) else told


_OF_RUNS = ("run-", "lc_run-")


def _message_of(answer: dict[str, JSON]) -> dict[str, JSON]:
    return _fields(as_object(answer.get("message")))


def _fields(item: dict[str, JSON]) -> dict[str, JSON]:
    return as_object(item.get("kwargs")) if "lc" in item else item


def _read(item: dict[str, JSON], record: SpanRecord) -> Message:
    fields = _fields(item)
    kind = text(fields.get("type"))
    if "lc" in item:
        kind = str((as_list(item.get("id")) or [""])[-1]).removesuffix("Chunk").removesuffix("Message").lower()
    call_id = first(fields, ("tool_call_id", "callId", "call_id"))
    message = read_message(_plain(fields, kind, call_id), record)
    failed = fields.get("status") == "error"
    parts = [replace(p, is_error=failed) if isinstance(p, ToolCallResponse) else p for p in message.parts]
    return replace(message, parts=parts)


def _plain(fields: Mapping[str, JSON], kind: str | None, call_id: JSON) -> dict[str, JSON]:
    """Return a raw message in the form of the Chat Completions API."""
    if kind == "function_call":
        call = {"id": call_id, "name": fields.get("name"), "arguments": fields.get("arguments")}
        return {"role": "assistant", "tool_calls": [call]}
    if kind in ("function_call_result", "function_call_output"):
        output = fields.get("output")
        said = cast("dict[str, JSON]", output).get("text") if isinstance(output, dict) else output
        return {"role": "tool", "content": said, "tool_call_id": call_id}
    calls = [as_object(call) for call in as_list(fields.get("tool_calls"))]
    named = [{"id": call.get("id"), "name": call.get("name"), "arguments": call.get("args")} for call in calls]
    role = first(fields, ("role",)) or kind
    return {"role": role, "content": fields.get("content"), "tool_calls": named, "tool_call_id": call_id}
