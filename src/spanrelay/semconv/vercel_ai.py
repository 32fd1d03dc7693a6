"""The attributes `ai.*` that Vercel's AI SDK writes of itself, read only: up to version 6, and later where asked to.

What the same spans say in OpenTelemetry's names is read by `genai` afterwards, and fills what is missing then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from spanrelay._json import loads_or_text
from spanrelay.records import (
    JSON,
    AgentInfo,
    Kind,
    Message,
    ModelRequest,
    ModelResponse,
    Opaque,
    Part,
    Reasoning,
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
    read_parameters,
    read_usage,
    session_of,
    set_result,
)
from spanrelay.semconv.layout import Pairs
from spanrelay.semconv.messages import media_of_url, read_definition, read_history, read_parts
from spanrelay.semconv.values import as_list, as_object, decode, first, number, structure, text


def recognises(attributes: Mapping[str, Any]) -> bool:
    """Whether a span carries the name of one of the SDK's own operations."""
    return names.AI_OPERATION in attributes


def kind_of(attributes: Mapping[str, Any]) -> Kind | None:
    """Return what a span does: `doGenerate` and its like are one request, what is around them is the program's call."""
    operation = attributes.get(names.AI_OPERATION)
    if not isinstance(operation, str):
        return None
    _, _, step = operation.rpartition(".")
    if step.startswith("do"):
        return "embedder" if step == "doEmbed" else "reranker" if step == "doRerank" else "llm"
    return _KINDS.get(step, "chain")


_KINDS: dict[str, Kind] = {
    "toolCall": "tool",
    "generateText": "agent",
    "streamText": "agent",
    "generateObject": "agent",
    "streamObject": "agent",
}


def from_attributes(attributes: Mapping[str, Any], record: SpanRecord) -> None:
    """Fill `record` with what the attributes say and it does not hold yet."""
    if record.kind is None:
        record.kind = kind_of(attributes)
    record.operation = record.operation or names.OPERATION_OF_KIND.get(record.kind)
    provider = text(attributes.get(names.AI_PROVIDER))
    record.provider = record.provider or (provider and _provider(provider))
    _read_about(attributes, record)
    if record.kind == "tool":
        _read_tool(attributes, record)
    elif record.kind in MODEL_KINDS:
        _read_model_call(attributes, record)
    else:
        _read_run(attributes, record)


def _provider(word: str) -> str:
    """Return the provider that the SDK names with the API behind it, as in `openai.responses`."""
    known = word.lower()
    while "." in known and known not in names.PROVIDER_NAMES:
        known = known.rpartition(".")[0]
    return names.provider_name(known)


def _read_about(attributes: Mapping[str, Any], record: SpanRecord) -> None:
    """Read session and user, and keep what else the program says of itself as metadata."""
    record.session_id = record.session_id or session_of(attributes)
    said = {
        key[len(prefix) :]: structure(value)
        for prefix in names.AI_ABOUT
        for key, value in attributes.items()
        if key.startswith(prefix)
    }
    record.user_id = record.user_id or text(first(said, ("userId", "user_id")))
    record.metadata = {**said, **record.metadata}


def _read_run(attributes: Mapping[str, Any], record: SpanRecord) -> None:
    """Read what the program asked, and what came of it in the end; its requests tell what they took."""
    name = text(attributes.get(names.AI_FUNCTION))
    if record.kind == "agent" and record.agent is None and name is not None:
        record.agent = AgentInfo(name)
    asked = as_object(decode(attributes.get(names.AI_PROMPT)))
    if asked and record.request is None:
        messages = as_list(asked.get("messages")) or [{"role": "user", "content": asked.get("prompt")}]
        read = [read_message(as_object(item), record) for item in messages]
        system = text(asked.get("system"))
        record.request = ModelRequest(messages=read, system=[Text(system)] if system else [])
    words = text(first(attributes, (*names.AI_TEXT, *names.AI_OBJECT)))
    if words is not None and record.response is None:
        record.response = ModelResponse(messages=[Message("assistant", [Text(words)])])


def _read_tool(attributes: Mapping[str, Any], record: SpanRecord) -> None:
    """Read the run of a tool; its arguments and its result are always JSON, a text in quotes."""
    if record.tool is None:
        record.tool = ToolRequest(text(attributes.get(names.AI_TOOL_NAME)) or record.name)
    record.tool.call_id = record.tool.call_id or text(attributes.get(names.AI_TOOL_ID))
    given, answer = first(attributes, names.AI_TOOL_ARGUMENTS), first(attributes, names.AI_TOOL_RESULT)
    if record.tool.arguments is None:
        record.tool.arguments = _json(given)
    if answer is not None and record.result is None:
        set_result(_json(answer), record)
    record.content = record.content and not (given is None and answer is None)


def _json(value: object) -> JSON:
    return loads_or_text(value) if isinstance(value, str) else structure(value)


# --- a request -----------------------------------------------------------------------------------------------


def _read_model_call(attributes: Mapping[str, Any], record: SpanRecord) -> None:
    request = record.request = record.request or ModelRequest()
    request.model = request.model or text(attributes.get(names.AI_MODEL))
    request.stream = request.stream or "stream" in str(attributes.get(names.AI_OPERATION))
    if not request.messages:
        request.messages = _read_messages(attributes, record)
    if not request.tools:
        request.tools = _read_tools(attributes.get(names.AI_TOOLS))
    read_parameters(attributes, _given(attributes, _PARAMETERS), names.REQUEST_PARAMETERS, request.parameters)
    choice = decode(attributes.get(names.AI_TOOL_CHOICE))
    if choice is not None:
        request.parameters.setdefault("tool_choice", choice)
    _read_answer(attributes, record)
    mark_hidden_content(record)


_PARAMETERS: Pairs = tuple(names.AI_PARAMETERS.items())
_USAGE: Pairs = tuple((name, field) for field, aliases in names.AI_USAGE_NAMES for name in aliases)


def _given(attributes: Mapping[str, Any], pairs: Pairs) -> Pairs:
    return tuple(pair for pair in pairs if pair[0] in attributes)


def _read_answer(attributes: Mapping[str, Any], record: SpanRecord) -> None:
    get = attributes.get
    response = record.response or ModelResponse()
    response.id = response.id or text(get(names.AI_RESPONSE_ID))
    response.model = response.model or text(get(names.AI_RESPONSE_MODEL))
    reason = text(first(attributes, names.AI_FINISH_REASON))
    if not response.finish_reasons and reason is not None:
        response.finish_reasons = [reason]
    if not response.messages:
        parts = _answer_parts(attributes)
        response.messages = [Message("assistant", parts, finish_reason=reason)] if parts is not None else []
        drop_empty_answer(response, record)
    waited = number(first(attributes, names.AI_FIRST_CHUNK))
    if record.time_to_first_chunk is None and waited is not None:
        record.time_to_first_chunk = waited / 1000
    read_usage(attributes, _given(attributes, _USAGE), response)
    keep_response(response, record)


def _answer_parts(attributes: Mapping[str, Any]) -> list[Part] | None:
    """Return the parts of an answer; None where nothing of it was recorded."""
    thought = text(attributes.get(names.AI_REASONING))
    said = first(attributes, (*names.AI_TEXT, *names.AI_OBJECT))
    calls = decode(first(attributes, names.AI_CALLS))
    if thought is None and said is None and calls is None:
        return None
    parts: list[Part] = [Reasoning(thought)] if thought is not None else []
    if isinstance(said, str) and (said or not calls):
        parts.append(Text(said))
    return [*parts, *(_read_call(as_object(call)) for call in as_list(calls))]


def _read_tools(value: object) -> list[ToolDefinition]:
    tools = [as_object(decode(tool)) for tool in as_list(decode(value))]
    return [read_definition(tool) for tool in tools if tool]


def _read_messages(attributes: Mapping[str, Any], record: SpanRecord) -> list[Message]:
    if record.kind == "embedder":
        value = first(attributes, names.AI_VALUE)
        inputs = as_list(structure(value)) if isinstance(value, (list, tuple)) else [value]
        return [Message("user", [Text(said)]) for each in inputs if isinstance(said := _json(each), str)]
    written = attributes.get(names.AI_MESSAGES)
    return read_history(written, record, read_message) if written is not None else []


def read_message(item: Mapping[str, JSON], record: SpanRecord) -> Message:
    """Return a message as the SDK has it at hand, and as others who build on it write it."""
    role, content = item.get("role"), item.get("content")
    items = as_list(content) if isinstance(content, list) else [content] if content is not None else []
    parts: list[Part] = []
    for each in items:
        fields = as_object(each)
        reader = _PART_READERS.get(str(fields.get("type")))
        parts += [reader(fields)] if reader is not None else read_parts([each], record)
    return Message(names.ROLES.get(role, "user") if isinstance(role, str) else "user", parts)


def _read_call(fields: dict[str, JSON]) -> ToolCall:
    return ToolCall(
        text(fields.get("toolCallId")),
        text(fields.get("toolName")) or "",
        _json(first(fields, ("input", "args"))),
        fields.get("providerExecuted") is True,
    )


def _read_result(fields: dict[str, JSON]) -> ToolCallResponse:
    """Return a tool's answer: newer versions say what it is, and so whether the tool failed."""
    output = as_object(fields.get("output"))
    kind = text(output.get("type")) or ""
    content = output.get("value", output.get("reason")) if kind else first(fields, ("output", "result"))
    if kind == "content":
        content = cast("JSON", [_read_piece(as_object(item)) for item in as_list(content)])
    failed = kind.startswith("error") or kind == "execution-denied" or fields.get("isError") is True
    return ToolCallResponse(text(fields.get("toolCallId")), content, text(fields.get("toolName")), failed)


def _read_piece(fields: dict[str, JSON]) -> Part:
    said = fields.get("text")
    return Text(said) if isinstance(said, str) else _read_file(fields)


def _read_file(fields: dict[str, JSON]) -> Part:
    """Return a medium: newer versions call each a file, older ones an image too."""
    mime = text(first(fields, ("mediaType", "mimeType")))
    data = first(fields, ("data", "image", "url"))
    if not isinstance(data, str):
        return Opaque(text(fields.get("type")) or "file", cast("JSON", fields))
    hint = mime or ("image" if fields.get("type") == "image" else "")
    modality = next((kind for kind in ("image", "audio", "video") if hint.startswith(kind)), "document")
    url = data if "://" in data[:16] or data.startswith("data:") else f"data:{mime or ''};base64,{data}"
    return media_of_url(modality, url, mime, text(fields.get("filename")))


_PART_READERS: dict[str, Callable[[dict[str, JSON]], Part]] = {
    "tool-call": _read_call,
    "tool-result": _read_result,
    "file": _read_file,
    "image": _read_file,
    "media": _read_file,
}
