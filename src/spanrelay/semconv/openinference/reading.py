"""OpenInference's attributes to records, in every shape that its instrumentors write.

Reading never raises and fills only what a record does not hold yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from spanrelay._json import loads_or_text
from spanrelay.records import (
    JSON,
    Kind,
    Media,
    Message,
    ModelRequest,
    ModelResponse,
    Opaque,
    Part,
    PromptTemplate,
    Reasoning,
    Role,
    SpanRecord,
    Text,
    ToolCall,
    ToolCallResponse,
    ToolDefinition,
    ToolRequest,
)
from spanrelay.semconv import names
from spanrelay.semconv.fields import (
    MODEL_KINDS,
    drop_empty_answer,
    keep_response,
    mark_hidden_content,
    read_agent,
    read_annotation,
    read_error,
    read_scalars,
    read_scope_values,
    read_tool_facts,
    read_usage,
    set_arguments,
    set_result,
    unless_redacted,
)
from spanrelay.semconv.layout import Layout, layout_of
from spanrelay.semconv.messages import media_of_url, read_definition, read_flat_history, read_messages
from spanrelay.semconv.openinference import instrumentors, raw, streams
from spanrelay.semconv.openinference.writing import PROMPT_OF_PARAMETER, VECTOR_FACTS, schema_of
from spanrelay.semconv.values import as_object, decode, indexed, read_value, structure, text


def recognises(attributes: Mapping[str, Any]) -> bool:
    """Whether a span carries OpenInference's kind, which every instrumentor of theirs writes."""
    return names.OI_KIND in attributes


def adds_nothing(attributes: Mapping[str, Any]) -> bool:
    """Whether a span has at most OpenInference's kind and scalars, which repeat what GenAI's attributes say."""
    return attributes.keys().isdisjoint(_DETAILS)  # which are fewer


_DETAILS = frozenset(
    (
        names.OI_INPUT,
        names.OI_OUTPUT,
        names.OI_PARAMETERS,
        names.OI_EMBEDDING_PARAMETERS,
        names.OI_REQUEST_MODEL,
        names.OI_FINISH_REASON,
        names.OI_TOOL_DESCRIPTION,
        f"{names.OI_INPUT_MESSAGES}.0.message.role",
        f"{names.OI_INPUT_MESSAGES}.1.message.role",
        f"{names.OI_OUTPUT_MESSAGES}.0.message.role",
        f"{names.OI_PROMPTS}.0.{names.OI_PROMPT_TEXT}",
        f"{names.OI_CHOICES}.0.{names.OI_CHOICE_TEXT}",
    )
)


def kind_of(attributes: Mapping[str, Any]) -> Kind | None:
    """Return what a span does."""
    kind = attributes.get(names.OI_KIND)
    return names.KIND_OF_OI_KIND.get(kind.upper()) if isinstance(kind, str) else None


def from_attributes(attributes: Mapping[str, Any], record: SpanRecord) -> None:
    """Fill `record` with what the attributes say and it does not hold yet.

    The span's own facts come first: a caller that knows status and exception sets `record.error` before.
    """
    layout = layout_of(attributes)
    if record.kind is None:
        record.kind = kind_of(attributes)
    read_scalars(attributes, layout, record)
    _read_provider(attributes, record)
    _read_session(record)
    read_agent(attributes, layout, record)
    if record.kind == "agent" and record.agent is None:
        record.agent = instrumentors.agent_of(attributes, record)
    if record.kind == "tool":
        _read_tool(attributes, record)
    elif record.kind in MODEL_KINDS:
        _read_model_call(attributes, layout, record)
    else:
        read_scope_values(attributes, record)
    instrumentors.settle(record)
    read_error(attributes, layout, record)


def _read_provider(attributes: Mapping[str, Any], record: SpanRecord) -> None:
    system = text(attributes.get(names.OI_SYSTEM))
    provider = text(attributes.get(names.OI_PROVIDER)) or system
    if record.provider is None and provider is not None:
        record.provider = names.provider_name(provider, system)


def _read_session(record: SpanRecord) -> None:
    """Fall back to the session that a framework's metadata names."""
    for key in ("session_id", "conversation_id", "thread_id"):
        record.session_id = record.session_id or text(record.metadata.get(key))


def _read_tool(attributes: Mapping[str, Any], record: SpanRecord) -> None:
    tool = read_tool_facts(attributes, record)
    hidden = tool.arguments is None and (record.result is None or record.result.content is None)
    if tool.arguments is None:
        set_arguments(_given(attributes), tool)
    if names.OI_OUTPUT in attributes and (record.result is None or record.result.content is None):
        set_result(read_value(attributes, names.OI_OUTPUT, names.OI_OUTPUT_MIME), record)
    read_annotation(attributes, record)
    if hidden:
        record.content = tool.arguments is not None or names.OI_OUTPUT in attributes
        _drop_redacted(tool, record)


def _drop_redacted(tool: ToolRequest, record: SpanRecord) -> None:
    tool.arguments = unless_redacted(tool.arguments, record)
    if record.result is not None and record.result.content == names.OI_REDACTED:
        record.result = None
        record.content = False


def _given(attributes: Mapping[str, Any]) -> JSON:
    """Return a tool's arguments: its parameters, unless some instrumentor put the tool's schema there."""
    parameters = decode(attributes.get(names.OI_TOOL_PARAMETERS))
    schema = parameters if isinstance(parameters, dict) else {}
    properties = schema.get("properties")
    schema = properties if isinstance(properties, dict) else schema
    bound = _bound(decode(attributes.get(names.OI_INPUT)), schema)
    if bound is not None:
        return bound
    if isinstance(parameters, dict) and not {"properties", "parameters"} & parameters.keys():
        return parameters
    return read_value(attributes, names.OI_INPUT, names.OI_INPUT_MIME)


def _bound(given: JSON, schema: dict[str, JSON]) -> JSON:
    """Return the arguments of a Python call that is recorded as `args` and `kwargs`, or None for any other input.

    The schema has a name for each positional argument, in their order.
    """
    if not isinstance(given, dict) or (given.keys() == {"kwargs"} <= schema.keys()):
        return None
    positional, named = given.get("args", [] if given.keys() == {"kwargs"} else None), given.get("kwargs")
    if not isinstance(positional, list) or not isinstance(named, dict) or len(positional) > len(schema):
        return None
    return {**dict(zip(schema, positional, strict=False)), **named}


def _read_model_call(attributes: Mapping[str, Any], layout: Layout, record: SpanRecord) -> None:
    request = record.request = record.request or ModelRequest()
    response = record.response or ModelResponse()
    hidden = not request.messages and not request.system and not response.messages
    _read_parameters(attributes, request)
    _read_models(attributes, request, response, record)
    if not request.messages:
        request.messages = _read_input(attributes, record)
    if not request.tools:
        request.tools = _read_tools(attributes)
    request.prompt = request.prompt or _read_prompt(attributes)
    if not response.messages:
        response.messages = streams.parted(_read_output(attributes, record), request.tools)
        drop_empty_answer(response, record)
    if record.kind == "embedder":
        _read_vectors(attributes, response)
    _read_answer_facts(attributes, response)
    read_usage(attributes, layout.openinference_usage, response)
    keep_response(response, record)
    record.content = record.content or (hidden and bool(request.messages or response.messages))
    mark_hidden_content(record)


def _read_prompt(attributes: Mapping[str, Any]) -> PromptTemplate | None:
    template = text(attributes.get(names.OI_PROMPT_TEMPLATE))
    variables = decode(attributes.get(names.OI_PROMPT_VARIABLES))
    if template is None and not isinstance(variables, dict):
        return None
    return PromptTemplate(template, cast("dict[str, JSON]", variables) if isinstance(variables, dict) else {})


def _read_models(
    attributes: Mapping[str, Any], request: ModelRequest, response: ModelResponse, record: SpanRecord
) -> None:
    """Read the models; the older name means the answer's model where there is an answer."""
    model = text(attributes.get(names.OI_MODEL)) or text(attributes.get(names.OI_EMBEDDING_MODEL))
    request.model = request.model or text(attributes.get(names.OI_REQUEST_MODEL)) or model
    response.model = response.model or text(attributes.get(names.OI_RESPONSE_MODEL))
    if response.model is None and record.error is None and names.OI_REQUEST_MODEL not in attributes:
        response.model = model


def _read_parameters(attributes: Mapping[str, Any], request: ModelRequest) -> None:
    for name, attribute in PROMPT_OF_PARAMETER.items():
        if attribute in attributes:
            request.parameters.setdefault(name, structure(attributes[attribute]))
    key = names.OI_PARAMETERS if names.OI_PARAMETERS in attributes else names.OI_EMBEDDING_PARAMETERS
    given = decode(attributes.get(key))
    if not isinstance(given, dict):
        return
    parameters = cast("dict[str, JSON]", given)
    request.model = request.model or text(parameters.get("model")) or text(parameters.get("model_name"))
    request.stream = request.stream or parameters.get("stream") is True
    for word, value in parameters.items():
        name = _PARAMETER_WORDS.get(word, word)
        if value is not None and name in _PARAMETER_NAMES:
            if name in names.LIST_PARAMETERS and not isinstance(value, list):
                value = [value]
            request.parameters.setdefault(name, value)
    effort = _effort(parameters)
    if effort is not None:
        request.parameters.setdefault("reasoning_effort", effort)


_PARAMETER_NAMES = {*names.PARAMETER_NAMES, "tool_choice", "conversation_id"}
_PARAMETER_WORDS = {
    "n": "choice_count",
    "candidate_count": "choice_count",
    "stop": "stop_sequences",
    "max_completion_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "encoding_format": "encoding_formats",
}
"""Providers' words for parameters of ours."""


def _effort(parameters: dict[str, JSON]) -> JSON:
    """Return how hard a model is asked to think, where a provider nests it."""
    for outer, inner in (("reasoning", "effort"), ("thinking", "budget_tokens")):
        nested = parameters.get(outer)
        if isinstance(nested, dict) and inner in nested:
            return cast("dict[str, JSON]", nested)[inner]
    return None


def _read_tools(attributes: Mapping[str, Any]) -> list[ToolDefinition]:
    tools: list[ToolDefinition] = []
    for fields in indexed(attributes, names.OI_TOOLS).values():
        schema = decode(fields.get(names.OI_TOOL_SCHEMA))
        if isinstance(schema, dict):
            tools.append(_read_schema(cast("dict[str, JSON]", schema)))
    return tools


def _read_schema(schema: dict[str, JSON]) -> ToolDefinition:
    """Return a tool; its whole schema is kept where it says more than the fields do."""
    tool = read_definition(schema)
    if loads_or_text(schema_of(tool)) != schema:
        tool.raw = schema
    return tool


def _read_input(attributes: Mapping[str, Any], record: SpanRecord) -> list[Message]:
    if record.kind == "embedder":
        texts = indexed(attributes, names.OI_EMBEDDINGS).values()
        found = [text(fields.get(names.OI_EMBEDDING_TEXT)) for fields in texts]
        return [Message("user", [Text(item)]) for item in found if item is not None]
    messages = _read_messages(attributes, names.OI_INPUT_MESSAGES, record)
    if record.omitted is not None and record.omitted.count:
        return messages  # the rest was carried by other spans, if there is one
    if raw.lack(messages):
        messages = raw.completed(messages, raw.asked(decode(attributes.get(names.OI_INPUT))), record)
    if not messages:
        prompts = indexed(attributes, names.OI_PROMPTS).values()
        messages = [Message("user", [Text(_plain(fields.get(names.OI_PROMPT_TEXT)))]) for fields in prompts]
    return messages or _read_raw(attributes, names.OI_INPUT, names.OI_INPUT_MIME, "user", record)


def _read_output(attributes: Mapping[str, Any], record: SpanRecord) -> list[Message]:
    messages = _read_messages(attributes, names.OI_OUTPUT_MESSAGES, record)
    if raw.lack(messages) and record.error is None:
        answer = raw.answer_of(decode(attributes.get(names.OI_OUTPUT)))
        messages = raw.completed(messages, [answer["message"]] if "message" in answer else [], record)
    if record.request is None or record.request.parameters.get("choice_count", 1) == 1:
        messages = _fold(messages)
    if not messages:
        choices = indexed(attributes, names.OI_CHOICES).values()
        messages = [Message("assistant", [Text(_plain(fields.get(names.OI_CHOICE_TEXT)))]) for fields in choices]
    if messages or record.kind == "embedder":
        return messages
    return _read_raw(attributes, names.OI_OUTPUT, names.OI_OUTPUT_MIME, "assistant", record)


def _read_vectors(attributes: Mapping[str, Any], response: ModelResponse) -> None:
    """Read how many vectors an embeddings answer had, and how long they were, where only that was kept."""
    written = attributes.get(names.OI_OUTPUT)
    told = decode(written) if isinstance(written, str) and len(written) < _LENGTH_OF_NO_VECTOR else None
    if isinstance(told, dict):
        for name in VECTOR_FACTS:
            if type(told.get(name)) is int:
                response.parameters.setdefault(name, told[name])


_LENGTH_OF_NO_VECTOR = 200  # others write the vectors themselves, which are not read


def _plain(value: object) -> str:
    return value if isinstance(value, str) else ""


def _read_raw(attributes: Mapping[str, Any], key: str, mime_key: str, role: Role, record: SpanRecord) -> list[Message]:
    """Return the messages of a call whose instrumentor wrote only its raw input or output."""
    value = unless_redacted(read_value(attributes, key, mime_key), record)
    if isinstance(value, str) and value:
        return [Message(role, [Text(value)])]
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        return read_messages(value, record)
    return []


def _fold(messages: list[Message]) -> list[Message]:
    """Return one answer for the several messages that the items of an answer become."""
    if len(messages) < 2:
        return messages
    return [Message("assistant", [part for message in messages for part in message.parts], messages[0].name)]


def _read_answer_facts(attributes: Mapping[str, Any], response: ModelResponse) -> None:
    """Read the finish reason, and the response's id and model, where they are only in the raw answer."""
    reason = text(attributes.get(names.OI_FINISH_REASON))
    if not response.finish_reasons and reason is not None:
        response.finish_reasons = [reason]
    response.id = response.id or text(attributes.get(names.RESPONSE_ID))
    named = names.OI_RESPONSE_MODEL in attributes or names.RESPONSE_MODEL in attributes
    if (response.id is None or not named) and attributes.get(names.OI_OUTPUT_MIME) == names.JSON_MIME:
        _read_raw_facts(as_object(decode(attributes.get(names.OI_OUTPUT))), response, named=named)


def _read_raw_facts(answer: dict[str, JSON], response: ModelResponse, *, named: bool) -> None:
    """Read a response's id and model from a provider's answer, or from LangChain's result around it."""
    told, outer = raw.answer_of(answer), as_object(answer.get("llm_output")) or answer
    response.id = response.id or text(outer.get("id")) or raw.id_of(told)
    if not named:
        response.model = raw.model_of(told) or response.model


def _read_messages(attributes: Mapping[str, Any], prefix: str, record: SpanRecord) -> list[Message]:
    messages, numbers = read_flat_history(attributes, prefix, _read_message, record)
    # An attribute limit evicts the oldest; one instrumentor counts from 1 where it has no instructions.
    if numbers and (numbers[0] > 1 or numbers[-1] - numbers[0] + 1 != len(numbers)):
        record.truncated = True
    return messages


def _read_message(fields: Mapping[str, Any], record: SpanRecord) -> Message:
    role, name = fields.get("message.role"), text(fields.get("message.name"))
    call_id = text(fields.get("message.tool_call_id"))
    parts = _read_contents(fields, record)
    if role is None:
        record.truncated = True
    if call_id is not None or role in ("tool", "function"):
        return Message("tool", [_read_answer(fields, parts, call_id, name)], name)
    calls = _read_tool_calls(fields)
    known = names.ROLES.get(role, "user") if isinstance(role, str) else "assistant" if calls else "user"
    return Message(known, [*parts, *calls], name)


def _read_answer(
    fields: Mapping[str, Any], parts: list[Part], call_id: str | None, name: str | None
) -> ToolCallResponse:
    """Return a tool's answer: a text where it was written as one."""
    content = fields.get("message.content")
    return ToolCallResponse(call_id, content if isinstance(content, str) else parts or None, name)


def _read_contents(fields: Mapping[str, Any], record: SpanRecord) -> list[Part]:
    content = unless_redacted(fields.get("message.content"), record)
    if isinstance(content, str):
        return [Text(content)] if content or "message.tool_calls.0.tool_call.function.name" not in fields else []
    contents = indexed(fields, "message.contents").values()
    return [_read_part(part, record) for part in contents]


def _read_part(fields: dict[str, Any], record: SpanRecord) -> Part:
    kind = text(fields.get("message_content.type")) or "text"
    said = unless_redacted(fields.get("message_content.text"), record)
    if kind in ("text", "output_text", "input_text"):
        return Text(_plain(said))
    if kind == "reasoning":
        return _read_reasoning(fields, _plain(said))
    if kind in ("image", "audio", "video", "document"):
        return _read_media(fields, kind)
    data = fields.get("message_content.data")
    return Opaque(kind, loads_or_text(data) if isinstance(data, str) else structure(fields))


def _read_reasoning(fields: dict[str, Any], said: str) -> Reasoning:
    hidden = text(fields.get("message_content.data"))
    return Reasoning(
        said,
        text(fields.get("message_content.id")),
        text(fields.get("message_content.signature")),
        hidden or text(fields.get("message_content.encrypted_content")),
        hidden is not None,
    )


def _read_media(fields: dict[str, Any], kind: Any) -> Media:
    base = f"message_content.{kind}.{kind}"
    url, mime = fields.get(f"{base}.url"), text(fields.get(f"{base}.mime_type"))
    name, file_id = text(fields.get(f"{base}.name")), text(fields.get(f"{base}.id"))
    medium = Media(kind, mime, name=name) if not isinstance(url, str) else media_of_url(kind, url, mime, name)
    medium.file_id = file_id
    return medium


def _read_tool_calls(fields: Mapping[str, Any]) -> list[ToolCall]:
    calls = [_read_tool_call(call) for call in indexed(fields, "message.tool_calls").values()]
    name = text(fields.get(names.OI_FUNCTION_NAME))
    if name is not None:
        given = _arguments(fields.get(names.OI_FUNCTION_ARGUMENTS))
        calls.append(ToolCall(None, name, given, type="function_call"))
    return calls


def _read_tool_call(fields: dict[str, Any]) -> ToolCall:
    return ToolCall(
        text(fields.get("tool_call.id")),
        text(fields.get("tool_call.function.name")) or "",
        _arguments(fields.get("tool_call.function.arguments")),
    )


def _arguments(value: object) -> JSON:
    return loads_or_text(value) if isinstance(value, str) else structure(value)
