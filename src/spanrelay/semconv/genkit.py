"""Genkit's attributes (`genkit:*`, of its libraries for JavaScript and Go), read only.

A `generate` span repeats what the model's span beneath it says, so the model's alone is a model call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanrelay._json import loads_or_text
from spanrelay.records import (
    JSON,
    AgentInfo,
    ErrorInfo,
    Kind,
    Message,
    ModelRequest,
    ModelResponse,
    SpanRecord,
    ToolRequest,
    ToolResult,
    Usage,
)
from spanrelay.semconv import names
from spanrelay.semconv.fields import (
    MODEL_KINDS,
    drop_empty_answer,
    keep_response,
    mark_hidden_content,
)
from spanrelay.semconv.messages import read_definition, read_message
from spanrelay.semconv.values import as_list, as_object, at, count, text


def recognises(attributes: Mapping[str, Any]) -> bool:
    """Whether a span is one of Genkit's."""
    return names.GK_TYPE in attributes


def kind_of(attributes: Mapping[str, Any]) -> Kind | None:
    """Return what a span does, by the kind of action that it runs; a program's outermost flow is its agent."""
    if names.GK_TYPE not in attributes:
        return None
    subtype = attributes.get(names.GK_SUBTYPE)
    if subtype == "flow" and attributes.get(names.GK_IS_ROOT):
        return "agent"
    return names.KIND_OF_GK_SUBTYPE.get(subtype) if isinstance(subtype, str) else None


def from_attributes(attributes: Mapping[str, Any], record: SpanRecord) -> None:
    """Fill `record` with what the attributes say and it does not hold yet."""
    if record.kind is None:
        record.kind = kind_of(attributes)
    name = text(attributes.get(names.GK_NAME)) or record.name
    record.session_id = record.session_id or text(attributes.get(names.GK_SESSION))
    if record.error is None and attributes.get(names.GK_STATE) == "error":
        record.error = ErrorInfo("error")
    if record.kind == "tool":
        _read_tool(attributes, name, record)
    elif record.kind == "llm":
        _read_model_call(attributes, name, record)
    elif record.kind is not None and record.kind not in MODEL_KINDS:
        _read_action(attributes, name, record)


def _value(attributes: Mapping[str, Any], key: str) -> JSON:
    value = attributes.get(key)
    return loads_or_text(value) if isinstance(value, str) else None


def _read_action(attributes: Mapping[str, Any], name: str, record: SpanRecord) -> None:
    """Read what a flow, a retriever or the like was given, and what it gave."""
    if record.kind == "agent" and record.agent is None:
        record.agent = AgentInfo(name)
    if record.input is None:
        record.input = _value(attributes, names.GK_INPUT)
    if record.output is None:
        record.output = _value(attributes, names.GK_OUTPUT)


def _read_tool(attributes: Mapping[str, Any], name: str, record: SpanRecord) -> None:
    tool = record.tool = record.tool or ToolRequest(name)
    if tool.arguments is None:
        tool.arguments = _value(attributes, names.GK_INPUT)
    if record.result is None and names.GK_OUTPUT in attributes:
        given = _value(attributes, names.GK_OUTPUT)
        wrapped = attributes.get(names.GK_SUBTYPE) == _WRAPPED
        record.result = ToolResult(_unwrapped(given) if wrapped else given)
    record.content = names.GK_INPUT in attributes or names.GK_OUTPUT in attributes


_WRAPPED = "tool.v2"


def _unwrapped(value: JSON) -> JSON:
    """Return what a tool gave out of what is around it, where it gave nothing else beside, as images."""
    return value["output"] if isinstance(value, dict) and value.keys() == {"output"} else value


def _read_model_call(attributes: Mapping[str, Any], name: str, record: SpanRecord) -> None:
    asked, told = (as_object(_value(attributes, key)) for key in (names.GK_INPUT, names.GK_OUTPUT))
    request = record.request = record.request or ModelRequest()
    response = record.response or ModelResponse()
    maker, _, model = name.rpartition("/")
    record.provider = record.provider or (names.provider_name(maker) if maker else None)
    request.model = request.model or model
    if not request.messages:
        request.messages = [_message(item, record) for item in as_list(asked.get("messages"))]
    request.tools = request.tools or [
        read_definition(item) for item in as_list(asked.get("tools")) if isinstance(item, dict)
    ]
    config = as_object(asked.get("config"))
    for key, parameter in names.GK_PARAMETER_NAMES.items():
        if config.get(key) is not None:
            request.parameters.setdefault(parameter, config[key])
    if not response.messages and isinstance(told.get("message"), dict):
        response.messages = [_message(told["message"], record)]
        drop_empty_answer(response, record)
    _read_answer_facts(told, response)
    keep_response(response, record)
    mark_hidden_content(record)


def _message(item: JSON, record: SpanRecord) -> Message:
    fields = as_object(item)
    return read_message({**fields, "parts": fields.get("content")}, record)


def _read_answer_facts(told: dict[str, JSON], response: ModelResponse) -> None:
    """Read why an answer ended, its tokens, and what the provider's own answer beside it says."""
    reason = text(told.get("finishReason"))
    if reason is not None and not response.finish_reasons:
        response.finish_reasons = [reason]
    raw = as_object(told.get("raw")) or as_object(told.get("custom"))
    response.id = response.id or text(raw.get("id")) or text(raw.get("responseId"))
    response.model = response.model or text(raw.get("model")) or text(raw.get("modelVersion"))
    found = {field: _count_at(told, places) for field, places in names.GK_USAGE_PLACES.items()}
    if response.usage is None and any(tokens is not None for tokens in found.values()):
        response.usage = Usage(**found)


def _count_at(told: dict[str, JSON], places: tuple[str, ...]) -> int | None:
    return next((tokens for place in places if (tokens := count(at(told, place))) is not None), None)
