"""OpenTelemetry's GenAI conventions: messages, arguments and results are one JSON string an attribute.

Writing serialises once for each attribute, never writes content it is not asked for, nor a name or an id that is
empty, as some providers' are; reading takes every shape that instrumentors write, never raises, and fills only what a
record does not hold yet.

What does not survive: kinds without an operation (chain, reranker, evaluator, custom), the provider's word in a
message for an answer that asks for tools (it becomes OpenTelemetry's `tool_call`), an error's message (the
span's status has it; an error body becomes the record's error), and a text that is the JSON of an object or an
array in arguments (it is decoded).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from spanrelay._json import clean_text, dumps_text, loads_or_text
from spanrelay.records import (
    JSON,
    Kind,
    ModelRequest,
    ModelResponse,
    Opaque,
    SpanRecord,
    ToolRequest,
    ToolResult,
)
from spanrelay.semconv import names
from spanrelay.semconv.fields import (
    GENAI_COUNTS,
    MODEL_KINDS,
    Counts,
    drop_empty_answer,
    keep_response,
    mark_hidden_content,
    read_agent,
    read_annotation,
    read_error,
    read_parameters,
    read_scalars,
    read_scope_values,
    read_tool_facts,
    read_usage,
    set_arguments,
    set_result,
    write_agent,
    write_annotation,
    write_call_facts,
    write_parameters,
    write_scope_values,
    write_usage,
)
from spanrelay.semconv.layout import Layout, layout_of
from spanrelay.semconv.messages import (
    read_definitions,
    read_history,
    read_instructions,
    read_messages,
    write_definition,
    write_messages,
    write_parts,
    written,
)
from spanrelay.semconv.names import AttributeValue
from spanrelay.semconv.values import (
    as_list,
    as_object,
    count,
    decode,
    first,
    number,
    question_of,
    structure,
    text,
    unquoted,
    write_json,
)

# --- writing -----------------------------------------------------------------------------------------------


def start_attributes(record: SpanRecord) -> dict[str, AttributeValue]:
    """Return what a sampler needs at span start: operation, provider, model, agent, session, user, tool."""
    attributes: dict[str, AttributeValue] = {}
    operation = record.operation or names.OPERATION_OF_KIND.get(record.kind)
    if operation is not None:
        attributes[names.OPERATION] = operation
    if record.provider:
        attributes[names.PROVIDER] = record.provider
    request = record.request
    if request is not None:
        if request.model:
            attributes[names.REQUEST_MODEL] = request.model
        if request.stream:
            attributes[names.REQUEST_STREAM] = True
    if record.session_id:
        attributes[names.CONVERSATION_ID] = record.session_id
    if record.user_id:
        attributes[names.USER_ID] = record.user_id
    if record.agent is not None:
        write_agent(record.agent, attributes)
    if record.tool is not None:
        _write_tool(record.tool, attributes)
    return attributes


def to_attributes(
    record: SpanRecord, *, content: bool, usage: Counts = GENAI_COUNTS, history: str | None = None
) -> dict[str, AttributeValue]:
    """Return what is known when the span ends.

    Args:
        record: The span's record; its `start_attributes` are repeated only where the end knows better.
        content: Whether to write messages, instructions, definitions, arguments, results and scope values.
        usage: The attributes of token counts, which differ between versions of the conventions.
        history: What stands in the place of the messages of a request.
    """
    attributes: dict[str, AttributeValue] = {}
    if record.session_id and record.session_id == record.kept_conversation:  # known only now
        attributes[names.CONVERSATION_ID] = record.session_id
    if record.request is not None:
        _write_request(record.request, attributes, content, history)
    if record.response is not None:
        _write_response(record.response, attributes, content, usage)
    if record.tool is not None or record.result is not None:
        _write_tool_content(record, attributes, content)
    write_call_facts(record, attributes)
    if content:
        write_scope_values(record, attributes)
    write = _WRITERS_OF_KIND.get(record.kind)
    if write is not None:
        write(record, attributes, content)
    return attributes


def _write_found(record: SpanRecord, attributes: dict[str, AttributeValue], content: bool) -> None:
    """Write what a retriever was asked, and which documents it found; what they say is in its output."""
    if not content:
        return
    question = question_of(record.input)
    if question is not None:
        attributes[names.RETRIEVAL_QUERY] = clean_text(question)
    documents = [told for each in as_list(record.output) if (told := _named_document(each))]
    if documents:
        attributes[names.RETRIEVAL_DOCUMENTS] = dumps_text(documents)


def _named_document(document: JSON) -> dict[str, JSON]:
    """Return a document's id and score, where they are known."""
    fields = as_object(document)
    inner = as_object(fields.get("metadata"))
    score = number(first(fields, _SCORES))
    told = {"id": fields.get("id"), "score": number(first(inner, _SCORES)) if score is None else score}
    return {name: value for name, value in told.items() if value is not None and value != ""}


_SCORES = ("score", "relevance_score", "similarity_score")


def _write_score(record: SpanRecord, attributes: dict[str, AttributeValue], content: bool) -> None:
    """Write what an evaluator says, where it is a number or an object with a score or a label."""
    output = {"score": record.output} if number(record.output) is not None else as_object(record.output)
    score, label = number(first(output, ("score", "value"))), text(output.get("label"))
    if score is None and label is None:
        return
    attributes[names.EVALUATION_NAME] = clean_text(record.name)
    if score is not None:
        attributes[names.EVALUATION_SCORE] = score
    if label is not None:
        attributes[names.EVALUATION_LABEL] = clean_text(label)
    why = text(first(output, ("explanation", "reason", "reasoning")))
    if why is not None and content:
        attributes[names.EVALUATION_EXPLANATION] = clean_text(why)


def _write_compacted(record: SpanRecord, attributes: dict[str, AttributeValue], _content: bool) -> None:
    """Say that a request begins with a compacted conversation: the item stands before all that follows it."""
    for message in record.request.messages[:_BEGINNING] if record.request is not None else ():
        for part in message.parts:
            if type(part) is Opaque and part.type == "compaction":
                attributes[names.CONVERSATION_COMPACTED] = True


_BEGINNING = 2
"""Instructions may come first. To look further would cost the more the longer a conversation is."""

_WRITERS_OF_KIND: dict[Kind | None, Callable[[SpanRecord, dict[str, AttributeValue], bool], None]] = {
    "llm": _write_compacted,
    "retriever": _write_found,
    "evaluator": _write_score,
}


def _write_tool(tool: ToolRequest, attributes: dict[str, AttributeValue]) -> None:
    attributes[names.TOOL_NAME] = tool.name
    if tool.call_id:
        attributes[names.TOOL_CALL_ID] = tool.call_id
    if tool.type:
        attributes[names.TOOL_TYPE] = tool.type


def _write_request(
    request: ModelRequest, attributes: dict[str, AttributeValue], content: bool, history: str | None
) -> None:
    if request.parameters:
        write_parameters(request.parameters, names.PARAMETER_NAMES, names.REQUEST_PARAMETERS, attributes)
    if not content:
        return
    if request.system:
        attributes[names.SYSTEM_INSTRUCTIONS] = dumps_text(write_parts(request.system))
    if request.messages:
        attributes[names.INPUT_MESSAGES] = written(request.messages) if history is None else history
    if request.tools:
        attributes[names.TOOL_DEFINITIONS] = dumps_text([write_definition(tool) for tool in request.tools])


def _write_response(
    response: ModelResponse, attributes: dict[str, AttributeValue], content: bool, usage: Counts
) -> None:
    if response.id:
        attributes[names.RESPONSE_ID] = response.id
    if response.model:
        attributes[names.RESPONSE_MODEL] = response.model
    reasons = [reason for reason in response.finish_reasons if reason]
    if reasons:
        attributes[names.FINISH_REASONS] = reasons
    if response.usage is not None:
        write_usage(response.usage, usage, attributes)
    if response.parameters:
        said = {name: value for name, value in response.parameters.items() if value != ""}
        write_parameters(said, names.RESPONSE_PARAMETER_NAMES, names.RESPONSE_PARAMETERS, attributes)
    if content and response.messages:
        attributes[names.OUTPUT_MESSAGES] = dumps_text(write_messages(response.messages))


def _write_tool_content(record: SpanRecord, attributes: dict[str, AttributeValue], content: bool) -> None:
    tool, result = record.tool, record.result
    if tool is not None and tool.description:
        attributes[names.TOOL_DESCRIPTION] = tool.description
    if not content:
        return
    if tool is not None and tool.arguments is not None:
        attributes[names.TOOL_ARGUMENTS] = write_json(tool.arguments)
    if result is not None:
        _write_result(result.content, attributes)
        write_annotation(result, attributes)


def _write_result(value: JSON, attributes: dict[str, AttributeValue]) -> None:
    """Write a text as it is and other JSON as JSON, and say which where the reader would guess wrong."""
    if type(value) is str:
        attributes[names.TOOL_RESULT] = clean_text(value)
        if value.lstrip()[:1] in ("{", "[", '"'):
            attributes[names.TOOL_RESULT_TYPE] = "text"
        return
    attributes[names.TOOL_RESULT] = dumps_text(value)
    if type(value) not in (dict, list):
        attributes[names.TOOL_RESULT_TYPE] = "json"


# --- reading -----------------------------------------------------------------------------------------------


def recognises(attributes: Mapping[str, Any]) -> bool:
    """Whether a span carries GenAI attributes that say something of a call."""
    return (
        names.OPERATION in attributes
        or names.INPUT_MESSAGES in attributes
        or names.PROVIDER in attributes
        or names.SYSTEM in attributes
        or names.REQUEST_MODEL in attributes
        or names.CONVERSATION_ID in attributes
    )


def kind_of(attributes: Mapping[str, Any]) -> Kind | None:
    """Return what a span does, by its operation, or by the model it asks for."""
    operation = attributes.get(names.OPERATION)
    if isinstance(operation, str):
        return names.KIND_OF_OPERATION.get(operation)
    if names.INPUT_MESSAGES in attributes or names.REQUEST_MODEL in attributes:
        return "llm"
    return None


def from_attributes(attributes: Mapping[str, Any], record: SpanRecord) -> None:
    """Fill `record` with what the attributes say and it does not hold yet.

    The span's own facts come first: a caller that knows status and exception sets `record.error` before.
    """
    layout = layout_of(attributes)
    if record.kind is None:
        record.kind = kind_of(attributes)
    read_scalars(attributes, layout, record)
    read_agent(attributes, layout, record)
    if record.kind == "tool":
        _read_tool(attributes, record)
    elif record.kind in MODEL_KINDS:
        _read_request(attributes, layout, record)
        _read_response(attributes, layout, record)
        mark_hidden_content(record)
    else:
        _read_conversation(attributes, layout, record)
        read_scope_values(attributes, record)
        _read_found_and_scored(attributes, record)
    read_error(attributes, layout, record)


def _read_tool(attributes: Mapping[str, Any], record: SpanRecord) -> None:
    get = attributes.get
    tool = read_tool_facts(attributes, record)
    given, answer = get(names.TOOL_ARGUMENTS), get(names.TOOL_RESULT)
    if given is not None and tool.arguments is None:
        set_arguments(loads_or_text(given) if isinstance(given, str) else structure(given), tool)
    if answer is not None and record.result is None:
        set_result(_read_result(answer, text(get(names.TOOL_RESULT_TYPE))), record)
    read_annotation(attributes, record)
    code = count(get(names.EXIT_CODE))
    if code is not None:
        record.result = record.result or ToolResult()
        record.result.exit_code = code
    if given is None and answer is None:
        record.content = False


def _read_result(value: object, kind: str | None) -> JSON:
    if kind == "text":
        return value
    return loads_or_text(value) if kind == "json" and isinstance(value, str) else unquoted(value)


def _read_found_and_scored(attributes: Mapping[str, Any], record: SpanRecord) -> None:
    """Read what a retriever was asked and found, and what an evaluator says, where the scope's values are not there."""
    if record.input is None:
        record.input = text(attributes.get(names.RETRIEVAL_QUERY))
    if record.output is None and names.RETRIEVAL_DOCUMENTS in attributes:
        record.output = decode(attributes[names.RETRIEVAL_DOCUMENTS])
    if record.output is None and names.EVALUATION_NAME in attributes:
        told = {key: structure(attributes[name]) for key, name in _EVALUATION.items() if name in attributes}
        record.output = told or None


_EVALUATION = {
    "score": names.EVALUATION_SCORE,
    "label": names.EVALUATION_LABEL,
    "explanation": names.EVALUATION_EXPLANATION,
}


def _read_conversation(attributes: Mapping[str, Any], layout: Layout, record: SpanRecord) -> None:
    """Read the messages of a span that is no model call, without usage: its model calls report that."""
    everything = attributes.get(names.ALL_MESSAGES)
    if everything is not None and names.INPUT_MESSAGES not in attributes:
        messages = read_messages(everything, record)
        answered = bool(messages) and messages[-1].role == "assistant"
        record.response = ModelResponse(messages=messages[-1:] if answered else [])
        record.request = ModelRequest(messages=messages[:-1] if answered else messages)
    if names.OUTPUT_MESSAGES in attributes and record.response is None:
        record.response = ModelResponse(messages=read_messages(attributes[names.OUTPUT_MESSAGES], record))
    if not attributes.keys().isdisjoint(_CONVERSATION):
        _read_request(attributes, layout, record)


_CONVERSATION = frozenset((names.INPUT_MESSAGES, names.SYSTEM_INSTRUCTIONS, names.TOOL_DEFINITIONS))


def _read_request(attributes: Mapping[str, Any], layout: Layout, record: SpanRecord) -> None:
    get = attributes.get
    request = record.request = record.request or ModelRequest()
    request.model = request.model or text(get(names.REQUEST_MODEL))
    request.stream = request.stream or first(attributes, names.STREAM) in (True, "true")
    if not request.messages and names.INPUT_MESSAGES in attributes:
        request.messages = read_history(attributes[names.INPUT_MESSAGES], record)
    if not request.system and names.SYSTEM_INSTRUCTIONS in attributes:
        request.system = read_instructions(attributes[names.SYSTEM_INSTRUCTIONS], record)
    if not request.tools and names.TOOL_DEFINITIONS in attributes:
        request.tools = read_definitions(attributes[names.TOOL_DEFINITIONS], record)
    read_parameters(attributes, layout.request, names.REQUEST_PARAMETERS, request.parameters)


def _read_response(attributes: Mapping[str, Any], layout: Layout, record: SpanRecord) -> None:
    get = attributes.get
    response = record.response or ModelResponse()
    response.id = response.id or text(get(names.RESPONSE_ID))
    response.model = response.model or text(get(names.RESPONSE_MODEL))
    if not response.messages and names.OUTPUT_MESSAGES in attributes:
        response.messages = read_messages(attributes[names.OUTPUT_MESSAGES], record)
        drop_empty_answer(response, record)
    if not response.finish_reasons:
        response.finish_reasons = _read_finish_reasons(get(names.FINISH_REASONS), response)
    read_parameters(attributes, layout.response, names.RESPONSE_PARAMETERS, response.parameters)
    read_usage(attributes, layout.genai_usage, response)
    keep_response(response, record)


def _read_finish_reasons(value: object, response: ModelResponse) -> list[str]:
    if isinstance(value, str):
        value = decode(value)  # some write the list as JSON
    if isinstance(value, str):
        return [value]
    if isinstance(value, (list, tuple)):
        return [item for item in cast("list[object]", value) if isinstance(item, str)]
    return [message.finish_reason for message in response.messages if message.finish_reason]
