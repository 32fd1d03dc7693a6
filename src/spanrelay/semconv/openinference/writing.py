"""Records to OpenInference's attributes: each message, part and call is flattened into attributes of its own.

What OpenInference has no name for keeps OpenTelemetry's or ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from spanrelay._json import clean_text, dumps_text
from spanrelay.conversation import Conversation
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
    SpanRecord,
    Text,
    ToolCall,
    ToolCallResponse,
    ToolDefinition,
)
from spanrelay.semconv import names
from spanrelay.semconv.fields import (
    MODEL_KINDS,
    OI_COUNTS,
    write_annotation,
    write_call_facts,
    write_scope_values,
    write_usage,
)
from spanrelay.semconv.names import AttributeValue
from spanrelay.semconv.values import write_json, write_value


def start_attributes(record: SpanRecord) -> dict[str, AttributeValue]:
    """Return what a sampler needs at span start: kind, model, provider, session, user, agent, tool."""
    attributes: dict[str, AttributeValue] = {}
    write_start_scalars(record, attributes)
    if record.user_id:
        attributes[names.USER_ID] = record.user_id
    return attributes


def write_start_scalars(record: SpanRecord, attributes: dict[str, AttributeValue]) -> None:
    """Write the scalars known at span start that OpenTelemetry has other names for."""
    kind = names.OI_KIND_OF_KIND.get(record.kind)
    if kind is not None:
        attributes[names.OI_KIND] = kind
    request = record.request
    if request is not None and request.model:
        attributes[_model_name(record.kind)] = request.model
    provider = record.provider
    if provider:
        attributes[names.OI_PROVIDER] = names.OI_PROVIDER_NAMES.get(provider, provider)
        system = names.OI_SYSTEM_NAMES.get(provider)
        if system is not None:
            attributes[names.OI_SYSTEM] = system
    if record.session_id:
        attributes[names.OI_SESSION] = record.session_id
    if record.agent is not None and record.agent.name:
        attributes[names.OI_AGENT_NAME] = record.agent.name
    tool = record.tool
    if tool is not None:
        attributes[names.OI_TOOL_NAME] = tool.name
        if tool.call_id:
            attributes[names.OI_TOOL_ID] = tool.call_id


def _model_name(kind: Kind | None) -> str:
    return names.OI_EMBEDDING_MODEL if kind == "embedder" else names.OI_MODEL


def write_end_scalars(record: SpanRecord, attributes: dict[str, AttributeValue]) -> None:
    """Write the scalars known at span end that OpenTelemetry has other names for."""
    response = record.response
    if record.session_id and record.session_id == record.kept_conversation:  # known only now
        attributes[names.OI_SESSION] = record.session_id
    if response is not None:
        if response.model:
            attributes[_model_name(record.kind)] = response.model
        if response.usage is not None:
            write_usage(response.usage, OI_COUNTS, attributes)


def to_attributes(record: SpanRecord, *, content: bool) -> dict[str, AttributeValue]:
    """Return what is known when the span ends.

    Args:
        record: The span's record; its `start_attributes` are repeated only where the end knows better.
        content: Whether to write messages, instructions, definitions, arguments, results and scope values.
    """
    attributes: dict[str, AttributeValue] = {}
    write_end_scalars(record, attributes)
    write_call_facts(record, attributes)
    if record.request is not None:
        _write_request(record, record.request, attributes)
    if record.response is not None:
        _write_response(record.response, attributes)
    _write_unnamed(record, attributes)
    if content:
        _write_content(record, attributes)
    return attributes


def _write_unnamed(record: SpanRecord, attributes: dict[str, AttributeValue]) -> None:
    """Write what OpenInference has no name for under OpenTelemetry's."""
    agent, tool = record.agent, record.tool
    if agent is not None:
        if agent.id:
            attributes[names.AGENT_ID] = agent.id
        if agent.version:
            attributes[names.AGENT_VERSION] = agent.version
    if tool is not None:
        if tool.description:
            attributes[names.OI_TOOL_DESCRIPTION] = tool.description
        if tool.type:
            attributes[names.TOOL_TYPE] = tool.type


def _write_request(record: SpanRecord, request: ModelRequest, attributes: dict[str, AttributeValue]) -> None:
    if request.model:
        attributes[names.OI_REQUEST_MODEL] = request.model
    parameters: dict[str, JSON] = {} if request.model is None else {"model": request.model}
    for name, value in request.parameters.items():
        key = PROMPT_OF_PARAMETER.get(name)
        if key is not None:
            attributes[key] = clean_text(str(value))
        elif name == "encoding_formats" and isinstance(value, list) and len(cast("list[JSON]", value)) == 1:
            parameters["encoding_format"] = value[0]
        else:
            parameters[_PARAMETERS.get(name, name)] = value
    if request.stream:
        parameters["stream"] = True
    if parameters and record.kind in MODEL_KINDS:
        key = names.OI_EMBEDDING_PARAMETERS if record.kind == "embedder" else names.OI_PARAMETERS
        attributes[key] = dumps_text(parameters)


_PARAMETERS = {"choice_count": "n", "stop_sequences": "stop"}
"""The names that OpenInference's readers know for parameters of ours."""
PROMPT_OF_PARAMETER = {"prompt_id": names.OI_PROMPT_ID, "prompt_version": names.OI_PROMPT_VERSION}
"""The attributes of parameters that name a prompt which the provider keeps."""


def _write_response(response: ModelResponse, attributes: dict[str, AttributeValue]) -> None:
    if response.id:
        attributes[names.RESPONSE_ID] = response.id
    if response.model:
        attributes[names.OI_RESPONSE_MODEL] = response.model
    if response.finish_reasons and response.finish_reasons[0]:
        attributes[names.OI_FINISH_REASON] = response.finish_reasons[0]


def _write_content(record: SpanRecord, attributes: dict[str, AttributeValue]) -> None:
    request, response, tool, result = record.request, record.response, record.tool, record.result
    if request is not None:
        _write_request_content(record, request, attributes)
    if response is not None:
        if not _write_texts(record, response.messages, names.OI_CHOICES, names.OI_CHOICE_TEXT, attributes):
            _write_messages(response.messages, 0, attributes, names.OI_OUTPUT_MESSAGES)
        if record.kind == "embedder":
            _write_vectors(response, attributes)
        if response.messages:
            write_value(attributes, names.OI_OUTPUT, names.OI_OUTPUT_MIME, _preview(response.messages[0]))
    if tool is not None and tool.arguments is not None:
        write_value(attributes, names.OI_INPUT, names.OI_INPUT_MIME, tool.arguments)
    if result is not None:
        write_value(attributes, names.OI_OUTPUT, names.OI_OUTPUT_MIME, result.content)
        write_annotation(result, attributes)
    write_scope_values(record, attributes)


def _write_texts(
    record: SpanRecord, messages: list[Message], prefix: str, leaf: str, attributes: dict[str, AttributeValue]
) -> bool:
    """Write the prompts or the choices of a completion, and return whether they are that: texts without roles."""
    texts = [part.text for message in messages for part in message.parts if isinstance(part, Text)]
    if record.operation != "text_completion" or not all(len(message.parts) == 1 for message in messages):
        return False
    if len(texts) != len(messages):
        return False
    attributes.update((f"{prefix}.{index}.{leaf}", clean_text(each)) for index, each in enumerate(texts))
    return True


def _write_vectors(response: ModelResponse, attributes: dict[str, AttributeValue]) -> None:
    """Write what is kept of an embeddings answer: how many vectors there are, and how long they are."""
    told = {name: response.parameters[name] for name in VECTOR_FACTS if name in response.parameters}
    if told:
        write_value(attributes, names.OI_OUTPUT, names.OI_OUTPUT_MIME, told)


VECTOR_FACTS = ("embedding_count", "embedding_dimensions")
"""What the output of an embeddings call says in place of the vectors."""


def _write_prompt(prompt: PromptTemplate, attributes: dict[str, AttributeValue]) -> None:
    if prompt.template is not None:
        attributes[names.OI_PROMPT_TEMPLATE] = clean_text(prompt.template)
    if prompt.variables:
        attributes[names.OI_PROMPT_VARIABLES] = dumps_text(prompt.variables)


def _write_request_content(record: SpanRecord, request: ModelRequest, attributes: dict[str, AttributeValue]) -> None:
    if record.kind == "embedder":
        for index, message in enumerate(request.messages):
            attributes[f"{names.OI_EMBEDDINGS}.{index}.{names.OI_EMBEDDING_TEXT}"] = clean_text(message.text)
    elif not _write_texts(record, request.messages, names.OI_PROMPTS, names.OI_PROMPT_TEXT, attributes):
        _write_history(request, attributes)
    if request.prompt is not None:
        _write_prompt(request.prompt, attributes)
    for index, tool in enumerate(request.tools):
        attributes[f"{names.OI_TOOLS}.{index}.{names.OI_TOOL_SCHEMA}"] = schema_of(tool)
    if request.messages:
        write_value(attributes, names.OI_INPUT, names.OI_INPUT_MIME, _preview(request.messages[-1]))


def _preview(message: Message) -> JSON:
    """Return what a list of spans shows of a message; the whole is in the flattened attributes."""
    calls = message.tool_calls
    if calls and not message.text:
        return [{"name": call.name, "arguments": call.arguments} for call in calls]
    answers = [part.content for part in message.parts if isinstance(part, ToolCallResponse)]
    return answers[0] if answers and isinstance(answers[0], str) else message.text


def schema_of(tool: ToolDefinition) -> str:
    """Return the JSON of a tool's definition as it was given, else in the form of Chat Completions."""
    if tool.raw is not None:
        return dumps_text(tool.raw)
    function: dict[str, JSON] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.parameters is not None:
        function["parameters"] = tool.parameters
    if tool.type == "function":
        return dumps_text({"type": "function", "function": function})
    return dumps_text({"type": tool.type, **function})


def _write_history(request: ModelRequest, attributes: dict[str, AttributeValue]) -> None:
    messages, system = request.messages, request.system
    lead = [Message("system", system)] if system else []
    if type(messages) is Conversation and all(type(part) is Text for part in system):
        messages.flatten(lead, _write_messages, attributes)
    else:
        _write_messages([*lead, *messages], 0, attributes)


def _write_messages(
    messages: list[Message],
    index: int,
    attributes: dict[str, AttributeValue],
    prefix: str = names.OI_INPUT_MESSAGES,
) -> int:
    """Write messages from the number `index` on, and return the number of the next."""
    for message in messages:
        for single in _split(message):
            _write_message(single, f"{prefix}.{index}.message", attributes)
            index += 1
    return index


def _split(message: Message) -> Iterator[Message]:
    """Yield the message, or several where it holds tool results beside other parts."""
    others: list[Part] = []
    for part in message.parts:
        if not isinstance(part, ToolCallResponse):
            others.append(part)
            continue
        if others:
            yield Message(message.role, others, message.name)
            others = []
        yield Message("tool", [part], part.name or message.name)
    if others or not message.parts:
        yield Message(message.role, others, message.name)


def _write_message(message: Message, base: str, attributes: dict[str, AttributeValue]) -> None:
    attributes[f"{base}.role"] = message.role
    if message.name is not None:
        attributes[f"{base}.name"] = message.name
    parts = message.parts
    if len(parts) == 1 and isinstance(parts[0], ToolCallResponse):
        _write_answer(parts[0], base, attributes)
        return
    shown: list[Part] = []
    calls = 0
    for part in parts:
        if isinstance(part, ToolCall) and part.type == "function_call" and part.id is None:
            _write_function_call(part, base.removesuffix("message"), attributes)
        elif isinstance(part, ToolCall):
            _write_tool_call(part, f"{base}.tool_calls.{calls}.tool_call", attributes)
            calls += 1
        else:
            shown.append(part)
    _write_contents(shown, base, attributes)


def _write_contents(parts: list[Part], base: str, attributes: dict[str, AttributeValue]) -> None:
    if len(parts) == 1 and isinstance(parts[0], Text):
        attributes[f"{base}.content"] = clean_text(parts[0].text)
        return
    for index, part in enumerate(parts):
        _write_part(part, f"{base}.contents.{index}.message_content", attributes)


def _write_answer(part: ToolCallResponse, base: str, attributes: dict[str, AttributeValue]) -> None:
    if part.id is not None:
        attributes[f"{base}.tool_call_id"] = part.id
    content = part.content
    if _is_parts(content):
        _write_contents(cast("list[Part]", content), base, attributes)
    elif content is not None:
        attributes[f"{base}.content"] = clean_text(content) if isinstance(content, str) else dumps_text(content)


def _is_parts(content: JSON) -> bool:
    return isinstance(content, list) and bool(content) and isinstance(content[0], Part)


def _write_tool_call(part: ToolCall, base: str, attributes: dict[str, AttributeValue]) -> None:
    if part.id is not None:
        attributes[f"{base}.id"] = part.id
    attributes[f"{base}.function.name"] = part.name
    if part.arguments is not None:
        attributes[f"{base}.function.arguments"] = write_json(part.arguments)


def _write_function_call(part: ToolCall, base: str, attributes: dict[str, AttributeValue]) -> None:
    """Write the one call that an answer of OpenAI's older API may have, in place of a list of them."""
    attributes[f"{base}{names.OI_FUNCTION_NAME}"] = part.name
    if part.arguments is not None:
        attributes[f"{base}{names.OI_FUNCTION_ARGUMENTS}"] = write_json(part.arguments)


def _write_part(part: Part, base: str, attributes: dict[str, AttributeValue]) -> None:
    if isinstance(part, Text):
        attributes[f"{base}.type"] = "text"
        attributes[f"{base}.text"] = clean_text(part.text)
    elif isinstance(part, Reasoning):
        _write_reasoning(part, base, attributes)
    elif isinstance(part, Media):
        _write_media(part, base, attributes)
    elif isinstance(part, Opaque):
        attributes[f"{base}.type"] = part.type
        attributes[f"{base}.data"] = dumps_text(part.data)


def _write_reasoning(part: Reasoning, base: str, attributes: dict[str, AttributeValue]) -> None:
    attributes[f"{base}.type"] = "reasoning"
    attributes[f"{base}.text"] = clean_text(part.text)
    for key, value in (
        ("id", part.id),
        ("signature", part.signature),
        ("data" if part.redacted else "encrypted_content", part.encrypted),
    ):
        if value is not None:
            attributes[f"{base}.{key}"] = value


def _write_media(part: Media, base: str, attributes: dict[str, AttributeValue]) -> None:
    kind = part.modality
    attributes[f"{base}.type"] = kind
    inner = f"{base}.{kind}.{kind}"
    url = part.uri
    if part.data is not None:
        url = f"data:{part.mime_type or 'application/octet-stream'};base64,{part.data}"
    elif url is None and kind != "document":
        url = part.file_id
    if url is not None:
        attributes[f"{inner}.url"] = url
    if part.mime_type is not None and kind in ("audio", "document"):
        attributes[f"{inner}.mime_type"] = part.mime_type
    if kind == "document" and part.file_id is not None:
        attributes[f"{inner}.id"] = part.file_id
    if kind == "document" and part.name is not None:
        attributes[f"{inner}.name"] = part.name
