"""Traceloop's (OpenLLMetry's) attributes, read only: the indexed `gen_ai.prompt.N.*` and `traceloop.*`.

Its newer JSON form uses OpenTelemetry's names, which `genai` reads first; this fills what is missing then.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, cast

from spanrelay._json import loads_or_text
from spanrelay.records import (
    JSON,
    AgentInfo,
    Kind,
    Message,
    ModelRequest,
    ModelResponse,
    SpanRecord,
    ToolCall,
    ToolDefinition,
)
from spanrelay.semconv import names
from spanrelay.semconv.fields import (
    MODEL_KINDS,
    drop_empty_answer,
    keep_response,
    mark_hidden_content,
    read_error,
    read_parameters,
    read_scalars,
    read_tool_facts,
    read_usage,
    set_arguments,
    set_result,
)
from spanrelay.semconv.layout import Layout, layout_of
from spanrelay.semconv.messages import read_flat_history, read_message
from spanrelay.semconv.values import decode, first, indexed, structure, text, unquoted


def recognises(attributes: Mapping[str, Any]) -> bool:
    """Whether a span carries an attribute that only Traceloop's instrumentors write."""
    return not attributes.keys().isdisjoint(_MARKS)  # which are fewer


_MARKS = frozenset(
    (
        names.TL_KIND,
        names.TL_ENTITY_NAME,
        names.TL_WORKFLOW_NAME,
        names.TL_REQUEST_TYPE,
        f"{names.TL_PROMPT}.0.role",
        f"{names.TL_PROMPT}.0.content",
        f"{names.TL_COMPLETION}.0.role",
        f"{names.TL_COMPLETION}.0.content",
    )
)


def kind_of(attributes: Mapping[str, Any]) -> Kind | None:
    """Return what a span does, by Traceloop's kind, its request type, or its first prompt."""
    kind = attributes.get(names.TL_KIND)
    if isinstance(kind, str):
        return names.KIND_OF_TL_KIND.get(kind)
    request = attributes.get(names.TL_REQUEST_TYPE)
    if isinstance(request, str):
        return names.KIND_OF_TL_REQUEST.get(request)
    return "llm" if f"{names.TL_PROMPT}.0.role" in attributes else None


def from_attributes(attributes: Mapping[str, Any], record: SpanRecord) -> None:
    """Fill `record` with what the attributes say and it does not hold yet.

    The span's own facts come first: a caller that knows status and exception sets `record.error` before.
    """
    layout = layout_of(attributes)
    if record.kind is None:
        record.kind = kind_of(attributes)
    _read_association(attributes, record)
    read_scalars(attributes, layout, record)
    if record.kind == "tool":
        _read_tool(attributes, record)
    elif record.kind in MODEL_KINDS:
        _read_model_call(attributes, layout, record)
    else:
        _read_entity(attributes, record)
    read_error(attributes, layout, record)


def _read_association(attributes: Mapping[str, Any], record: SpanRecord) -> None:
    """Read session and user, and keep the other properties as metadata."""
    start = len(names.TL_ASSOCIATION)
    found = {key[start:]: structure(attributes[key]) for key in attributes if key.startswith(names.TL_ASSOCIATION)}
    for key in ("session_id", "conversation_id", "chat_id", "thread_id"):
        record.session_id = record.session_id or text(found.get(key))
    record.user_id = record.user_id or text(found.get("user_id"))
    record.metadata = {**found, **record.metadata}


def _read_tool(attributes: Mapping[str, Any], record: SpanRecord) -> None:
    tool = read_tool_facts(attributes, record)
    if tool.arguments is None:
        set_arguments(_unwrap_call(decode(attributes.get(names.TL_ENTITY_INPUT))), tool)
    if names.TL_ENTITY_OUTPUT in attributes and (record.result is None or record.result.content is None):
        set_result(unquoted(attributes[names.TL_ENTITY_OUTPUT]), record)
    record.content = tool.arguments is not None or record.result is not None


def _unwrap_call(value: JSON) -> JSON:
    """Return a decorated function's arguments by name, where all of them were given so."""
    if isinstance(value, dict) and value.keys() == {"args", "kwargs"} and not value["args"]:
        return cast("dict[str, JSON]", value)["kwargs"]
    return value


def _read_entity(attributes: Mapping[str, Any], record: SpanRecord) -> None:
    """Read a workflow, an agent or a task."""
    name = text(first(attributes, (names.TL_ENTITY_NAME, names.TL_WORKFLOW_NAME)))
    if record.kind == "agent" and record.agent is None and name is not None:
        record.agent = AgentInfo(name)
    if record.input is None:
        record.input = decode(attributes.get(names.TL_ENTITY_INPUT))
    if record.output is None:
        record.output = decode(attributes.get(names.TL_ENTITY_OUTPUT))


def _read_model_call(attributes: Mapping[str, Any], layout: Layout, record: SpanRecord) -> None:
    request = record.request = record.request or ModelRequest()
    response = record.response or ModelResponse()
    hidden = not request.messages and not request.system and not response.messages
    request.model = request.model or text(attributes.get(names.REQUEST_MODEL))
    response.model = response.model or text(attributes.get(names.RESPONSE_MODEL))
    response.id = response.id or text(attributes.get(names.RESPONSE_ID))
    if not request.messages:
        request.messages = _read_messages(attributes, names.TL_PROMPT, "user", record)
    if not request.tools:
        request.tools = _read_functions(attributes)
    if not response.messages:
        response.messages = _read_messages(attributes, names.TL_COMPLETION, "assistant", record)
        drop_empty_answer(response, record)
    if not response.finish_reasons:
        response.finish_reasons = [m.finish_reason for m in response.messages if m.finish_reason]
    read_parameters(attributes, layout.request, names.REQUEST_PARAMETERS, request.parameters)
    read_usage(attributes, layout.genai_usage, response)
    keep_response(response, record)
    record.content = record.content or (hidden and bool(request.messages or response.messages))
    mark_hidden_content(record)


def _read_messages(attributes: Mapping[str, Any], prefix: str, role: str, record: SpanRecord) -> list[Message]:
    messages, numbers = read_flat_history(attributes, prefix, _READERS[role], record)
    if numbers and numbers[-1] + 1 != len(numbers):
        record.truncated = True
    return messages


def _read_message(fields: Mapping[str, Any], record: SpanRecord, role: str) -> Message:
    """Return a message; its content may be the JSON of a list of parts."""
    item = {"role": role, **{key: structure(value) for key, value in fields.items()}}
    content = decode(item.get("content"))
    item["content"] = content if _is_parts(content) else item.get("content")
    reasoning = text(item.get("reasoning"))
    if reasoning is not None:
        said = [] if not item["content"] else item["content"]
        said = [said] if isinstance(said, str) else said
        item["content"] = [{"type": "reasoning", "content": reasoning}, *said]
    message = read_message(item, record)
    message.parts.extend(_read_calls(fields))
    return message


_READERS = {role: partial(_read_message, role=role) for role in ("user", "assistant")}


def _is_parts(content: JSON) -> bool:
    return isinstance(content, list) and all(isinstance(part, dict) and "type" in part for part in content)


def _read_calls(fields: Mapping[str, Any]) -> list[ToolCall]:
    return [
        ToolCall(text(call.get("id")), text(call.get("name")) or "", _read_arguments(call.get("arguments")))
        for call in indexed(fields, "tool_calls").values()
    ]


def _read_arguments(value: object) -> JSON:
    return loads_or_text(value) if isinstance(value, str) else structure(value)


def _read_functions(attributes: Mapping[str, Any]) -> list[ToolDefinition]:
    return [
        ToolDefinition(
            text(fields.get("name")) or "function",
            text(fields.get("description")),
            decode(first(fields, ("parameters", "input_schema"))),
        )
        for fields in indexed(attributes, names.TL_FUNCTIONS).values()
    ]
