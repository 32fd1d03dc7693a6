"""Fields of a record that more than one dialect writes or reads in the same way.

Readers here fill only what the record does not hold yet, and never raise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import compress, repeat
from operator import attrgetter, is_not
from typing import Any, TypeAlias, cast

from spanrelay._json import dumps_text, loads_or_text
from spanrelay.records import (
    JSON,
    AgentInfo,
    ErrorInfo,
    ModelResponse,
    PromptCache,
    ResponseCache,
    SpanRecord,
    ToolRequest,
    ToolResult,
    Usage,
)
from spanrelay.semconv import names
from spanrelay.semconv.layout import Layout, Pairs
from spanrelay.semconv.names import AttributeValue
from spanrelay.semconv.values import (
    attribute_value,
    count,
    decode,
    decode_loosely,
    first,
    number,
    read_value,
    structure,
    text,
    unwrap_arguments,
    unwrap_result,
    write_value,
)

MODEL_KINDS = frozenset(("llm", "embedder"))


# --- writing -----------------------------------------------------------------------------------------------


def write_scope_values(record: SpanRecord, attributes: dict[str, AttributeValue]) -> None:
    """Write what a scope was given and gave, under OpenInference's names: OpenTelemetry has none."""
    if record.input is not None:
        write_value(attributes, names.OI_INPUT, names.OI_INPUT_MIME, record.input)
    if record.output is not None:
        write_value(attributes, names.OI_OUTPUT, names.OI_OUTPUT_MIME, record.output)


Counts: TypeAlias = tuple[tuple[str, ...], Callable[[Usage], tuple[int | None, ...]]]
"""The attributes of token counts, and what takes these from a `Usage`, in the same order."""


def counts_of(table: names.UsageNames) -> Counts:
    """Return the attributes of token counts by the names of `table`."""
    return tuple(aliases[0] for _, aliases in table), attrgetter(*(field for field, _ in table))


GENAI_COUNTS = counts_of(names.USAGE_NAMES)
OI_COUNTS = counts_of(names.OI_USAGE_NAMES)


def write_usage(usage: Usage, counts: Counts, attributes: dict[str, AttributeValue]) -> None:
    """Write the token counts that were reported under the names that `counts` has, and the cost in US dollars."""
    keys, of = counts
    told = of(usage)
    written: Any = compress(zip(keys, told, strict=True), map(is_not, told, repeat(None)))  # a `cast` is a call
    attributes.update(written)
    if usage.cost_usd is not None:
        attributes[names.OI_COST_USD] = usage.cost_usd
        for name, part in (
            (names.OI_INPUT_COST_USD, usage.input_cost_usd),
            (names.OI_OUTPUT_COST_USD, usage.output_cost_usd),
        ):
            if part is not None:
                attributes[name] = part


def write_parameters(
    parameters: dict[str, JSON], table: dict[str, str], rest_key: str, attributes: dict[str, AttributeValue]
) -> None:
    """Write each parameter under its name in `table`, and those without one as one JSON object."""
    rest: dict[str, JSON] = {}
    for name, value in parameters.items():
        key = table.get(name)
        if name in names.DEFAULT_PARAMETERS and value == names.DEFAULT_PARAMETERS[name]:
            continue
        if key is None or value is None or isinstance(value, dict):
            rest[name] = value
        else:
            attributes[key] = attribute_value(value)
    if rest:
        attributes[rest_key] = dumps_text(rest)


def write_agent(agent: AgentInfo, attributes: dict[str, AttributeValue]) -> None:
    """Write the agent's name, id and version; its description may be long, and waits for the end."""
    if agent.name:
        attributes[names.AGENT_NAME] = agent.name
    if agent.id:
        attributes[names.AGENT_ID] = agent.id
    if agent.version:
        attributes[names.AGENT_VERSION] = agent.version


def write_call_facts(record: SpanRecord, attributes: dict[str, AttributeValue]) -> None:
    """Write what is known at the end of any call: agent, timing, completeness, metadata, failure."""
    agent = record.agent
    if agent is not None and agent.description:
        attributes[names.AGENT_DESCRIPTION] = agent.description
    if record.time_to_first_chunk is not None:
        attributes[names.TIME_TO_FIRST_CHUNK] = record.time_to_first_chunk
    if record.incomplete:
        attributes[names.INCOMPLETE] = record.incomplete
    if record.answered_by:
        attributes[names.ANSWERED_BY] = record.answered_by
    if record.would_refuse:
        attributes[names.WOULD_REFUSE] = list(record.would_refuse)
    if record.would_change:
        attributes[names.WOULD_CHANGE] = list(record.would_change)
    if record.prompt_cache is not None:
        _write_prompt_cache(record.prompt_cache, attributes)
    if record.response_cache is not None:
        attributes[names.RESPONSE_CACHE_DECISION] = record.response_cache.decision
        _write_told(record.response_cache, _RESPONSE_CACHE, attributes)
    if record.metadata:
        attributes[names.OI_METADATA] = dumps_text(record.metadata)
    if record.result is not None and record.result.is_error:
        attributes[names.TOOL_IS_ERROR] = True
    response = record.response
    if record.error is not None or record.result is not None or (response is not None and response.error is not None):
        _write_error(record, attributes)


def _write_error(record: SpanRecord, attributes: dict[str, AttributeValue]) -> None:
    error = record.error
    if error is None and record.response is not None:
        error = record.response.error
    if error is not None:
        attributes[names.ERROR_TYPE] = error.type
        if error.code:
            attributes[names.ERROR_CODE] = error.code
        # An error body may name a status of its own, which is not HTTP's.
        if error is record.error and error.status_code is not None:
            attributes[names.HTTP_STATUS_CODE] = error.status_code
    elif record.result is not None and record.result.is_error:
        attributes[names.ERROR_TYPE] = names.TOOL_ERROR


# --- reading -----------------------------------------------------------------------------------------------


def mark_hidden_content(record: SpanRecord) -> None:
    """Say that content was not recorded, where a model call shows neither a question nor an answer.

    Messages without any part are neither: an empty text is a part. What is left out was carried elsewhere.
    """
    if record.omitted is not None and record.omitted.count:
        return
    request, response = record.request, record.response
    if request is not None and (request.system or any(message.parts for message in request.messages)):
        return
    if response is None or not any(message.parts for message in response.messages):
        record.content = False


def read_scope_values(attributes: Mapping[str, Any], record: SpanRecord) -> None:
    """Read what a scope was given and gave."""
    if record.input is None and names.OI_INPUT in attributes:
        record.input = unless_redacted(read_value(attributes, names.OI_INPUT, names.OI_INPUT_MIME), record)
    if record.output is None and names.OI_OUTPUT in attributes:
        record.output = unless_redacted(read_value(attributes, names.OI_OUTPUT, names.OI_OUTPUT_MIME), record)


def unless_redacted(value: JSON, record: SpanRecord) -> JSON:
    """Return `value`, or None where OpenInference put its mark for hidden content in its place."""
    if value == names.OI_REDACTED:
        record.content = False
        return None
    return value


def read_parameters(attributes: Mapping[str, Any], given: Pairs, rest_key: str, parameters: dict[str, JSON]) -> None:
    """Read the parameters that are `given`, by attribute, and the JSON object under `rest_key`."""
    for key, name in given:
        value = structure(attributes[key])
        if type(value) is str and name in names.NUMBER_PARAMETERS:
            value = loads_or_text(value)
        if name in names.LIST_PARAMETERS and not isinstance(value, list):
            value = [value]
        parameters.setdefault(name, value)
    if rest_key in attributes:
        rest = decode(attributes[rest_key])
        for name, value in cast("dict[str, JSON]", rest).items() if isinstance(rest, dict) else ():
            parameters.setdefault(name, value)


def read_usage(attributes: Mapping[str, Any], given: Pairs, response: ModelResponse) -> None:
    """Read the token counts that are `given`, by attribute, and the cost, where the response has none yet."""
    usage = response.usage or Usage()
    found = response.usage is not None
    for name, field in given:
        if getattr(usage, field) is None:
            found = True
            setattr(usage, field, count(attributes[name]))
    cost = first(attributes, names.COST_USD)
    if cost is not None and usage.cost_usd is None:
        found = True
        usage.cost_usd = number(cost)
        usage.input_cost_usd = number(attributes.get(names.OI_INPUT_COST_USD))
        usage.output_cost_usd = number(attributes.get(names.OI_OUTPUT_COST_USD))
    response.usage = usage if found else None
    cached = (usage.cache_read_tokens or 0) + (usage.cache_write_tokens or 0)
    if usage.input_tokens is not None and cached > usage.input_tokens:
        usage.input_tokens += cached  # some instrumentors pass on Anthropic's count, which leaves these out


def keep_response(response: ModelResponse, record: SpanRecord) -> None:
    """Set the record's response if it says anything of an answer; some repeat the model on a failed call."""
    said = response.messages or response.id or response.usage or response.finish_reasons
    if said or response.parameters or (response.model and record.error is None):
        record.response = response
    else:
        record.response = None


def drop_empty_answer(response: ModelResponse, record: SpanRecord) -> None:
    """Drop an answer of a failed call that has no part: some frameworks make one up."""
    if record.error is not None and not any(message.parts for message in response.messages):
        response.messages = []


def read_tool_facts(attributes: Mapping[str, Any], record: SpanRecord) -> ToolRequest:
    """Read a tool's name, type, description and call id under any name; return the record's tool request."""
    tool = record.tool
    if tool is None:
        name = text(first(attributes, _TOOL_NAMES)) or record.name.removeprefix("execute_tool ")
        tool = record.tool = ToolRequest(name)
    tool.call_id = tool.call_id or text(first(attributes, (names.TOOL_CALL_ID, names.OI_TOOL_ID)))
    tool.description = tool.description or text(first(attributes, (names.TOOL_DESCRIPTION, names.OI_TOOL_DESCRIPTION)))
    tool.type = tool.type or text(attributes.get(names.TOOL_TYPE))
    return tool


_TOOL_NAMES = (names.TOOL_NAME, names.OI_TOOL_NAME, names.TL_ENTITY_NAME)


def set_arguments(value: JSON, tool: ToolRequest) -> None:
    """Set a tool's arguments, and the call's id where a framework wrapped both together."""
    arguments, call_id = unwrap_arguments(decode_loosely(value))
    tool.arguments = arguments
    tool.call_id = tool.call_id or call_id


def set_result(value: JSON, record: SpanRecord) -> None:
    """Set a tool's result, and what a framework's message says of the call and of its failure."""
    content, call_id, is_error = unwrap_result(value)
    record.result = ToolResult(content, is_error or (record.result is not None and record.result.is_error))
    if record.tool is not None:
        record.tool.call_id = record.tool.call_id or call_id


def write_annotation(result: ToolResult, attributes: dict[str, AttributeValue]) -> None:
    """Write what is said about a tool's result."""
    if result.annotation is not None:
        attributes[names.TOOL_ANNOTATION] = dumps_text(result.annotation)


def read_annotation(attributes: Mapping[str, Any], record: SpanRecord) -> None:
    """Read what is said about a tool's result, where there is one."""
    written = attributes.get(names.TOOL_ANNOTATION)
    if written is not None and record.result is not None:
        record.result.annotation = decode(written)


def read_error(attributes: Mapping[str, Any], layout: Layout, record: SpanRecord) -> None:
    """Read the type of a failure; what the caller knows from the span's exception is better, and stays."""
    if record.error is None and not layout.failure:
        return
    kind = text(attributes.get(names.ERROR_TYPE))
    answered = kind == names.TOOL_ERROR and record.kind == "tool"
    if answered or attributes.get(names.TOOL_IS_ERROR) is True or text(attributes.get(names.TOOL_OUTCOME)) in _FAILED:
        record.result = record.result or ToolResult()
        record.result.is_error = True
    if kind is not None and not answered:
        record.error = record.error or ErrorInfo(kind)
        if record.error.type in _UNTYPED:
            record.error.type = kind
    error = record.error
    if error is not None:
        error.code = error.code or text(attributes.get(names.ERROR_CODE))
        error.status_code = error.status_code or count(attributes.get(names.HTTP_STATUS_CODE))


def read_raised(record: SpanRecord) -> None:
    """Read the failure of a tool that gave nothing from the exception that its span tells, whatever its status."""
    error = record.error
    if record.result is not None or (error is not None and error.message):
        return
    for mark in reversed(record.marks):
        if mark.name == names.EXCEPTION_EVENT:
            kind = str(mark.attributes.get(names.EXCEPTION_TYPE) or "error")
            record.error = error or ErrorInfo(kind)
            record.error.message = str(mark.attributes.get(names.EXCEPTION_MESSAGE) or "")
            return


_FAILED = frozenset(("error", "failure", "failed"))

_UNTYPED = frozenset(("", "error", "_OTHER"))
"""What an error's type is called where only the span's status says that it failed."""


def read_scalars(attributes: Mapping[str, Any], layout: Layout, record: SpanRecord) -> None:
    """Read what OpenTelemetry or both conventions name for a call of any kind."""
    get = attributes.get
    record.operation = record.operation or text(get(names.OPERATION))
    if record.operation is None:
        record.operation = names.OPERATION_OF_KIND.get(record.kind)
    if record.provider is None:
        provider = text(get(names.PROVIDER)) or text(get(names.SYSTEM))
        record.provider = provider and names.provider_name(provider)
    if record.session_id is None:
        record.session_id = text(get(names.OI_SESSION)) or text(get(names.CONVERSATION_ID))
    if layout.seldom:
        _read_seldom(attributes, record)


def session_of(attributes: Mapping[str, Any]) -> str | None:
    """Return the session that a span or a log record names, in whichever attribute its producer says it."""
    for key in names.SESSION_KEYS:
        if key in attributes:
            found = text(attributes[key])
            if found:
                return found
    return None


def service_of(resource: Mapping[str, Any]) -> str:
    """Return what tells a service from others, by the attributes of its resource: its name, within its namespace."""
    name, namespace = (text(resource.get(key)) or "" for key in ("service.name", "service.namespace"))
    return f"{namespace}/{name}" if namespace else name


def _read_seldom(attributes: Mapping[str, Any], record: SpanRecord) -> None:
    get = attributes.get
    record.user_id = record.user_id or text(get(names.USER_ID))
    record.incomplete = record.incomplete or text(get(names.INCOMPLETE))
    record.answered_by = record.answered_by or text(get(names.ANSWERED_BY))
    record.would_refuse = record.would_refuse or _texts(get(names.WOULD_REFUSE))
    record.would_change = record.would_change or _texts(get(names.WOULD_CHANGE))
    record.prompt_cache = record.prompt_cache or _read_prompt_cache(attributes)
    record.response_cache = record.response_cache or _read_response_cache(attributes)
    if record.time_to_first_chunk is None:
        record.time_to_first_chunk = number(get(names.TIME_TO_FIRST_CHUNK))
    if names.OI_METADATA in attributes and not record.metadata:
        metadata = decode(attributes[names.OI_METADATA])
        record.metadata = cast("dict[str, JSON]", metadata) if isinstance(metadata, dict) else {}


_PROMPT_CACHE: dict[str, tuple[str, Callable[[object], Any]]] = {
    names.PROMPT_CACHE_SCAFFOLD: ("scaffold", text),
    names.PROMPT_CACHE_EXPECTED: ("expected_read_tokens", count),
    names.PROMPT_CACHE_HIT_RATIO: ("hit_ratio", number),
    names.PROMPT_CACHE_SAVED_TOKENS: ("saved_tokens", count),
    names.PROMPT_CACHE_SAVED_USD: ("saved_usd", number),
    names.PROMPT_CACHE_MISSED: ("missed", text),
    names.PROMPT_CACHE_SKIPPED: ("skipped", text),
}
"""Attributes by the field of `PromptCache` that they are, and by what reads it."""
_RESPONSE_CACHE: dict[str, tuple[str, Callable[[object], Any]]] = {
    names.RESPONSE_CACHE_REASON: ("reason", text),
    names.RESPONSE_CACHE_AGE: ("age_seconds", number),
    names.RESPONSE_CACHE_SAVED_TOKENS: ("saved_tokens", count),
}
"""The same for `ResponseCache`."""


def _write_prompt_cache(told: PromptCache, attributes: dict[str, AttributeValue]) -> None:
    attributes[names.PROMPT_CACHE_DECISION] = told.decision
    if told.marks:
        attributes[names.PROMPT_CACHE_MARKS] = list(told.marks)
    _write_told(told, _PROMPT_CACHE, attributes)


def _write_told(
    told: object, table: dict[str, tuple[str, Callable[[object], Any]]], attributes: dict[str, AttributeValue]
) -> None:
    for name, (field, _) in table.items():
        value = getattr(told, field)
        if value is not None:
            attributes[name] = value


def _read_prompt_cache(attributes: Mapping[str, Any]) -> PromptCache | None:
    decision = attributes.get(names.PROMPT_CACHE_DECISION)
    if decision not in ("marked", "would_mark", "unmarked"):
        return None
    told = {field: read(attributes.get(name)) for name, (field, read) in _PROMPT_CACHE.items()}
    return PromptCache(decision, marks=_texts(attributes.get(names.PROMPT_CACHE_MARKS)), **told)


def _read_response_cache(attributes: Mapping[str, Any]) -> ResponseCache | None:
    decision = attributes.get(names.RESPONSE_CACHE_DECISION)
    if decision not in ("hit", "would_hit", "miss", "bypass"):
        return None
    return ResponseCache(
        decision, **{field: read(attributes.get(name)) for name, (field, read) in _RESPONSE_CACHE.items()}
    )


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(str, cast("list[Any]", value))) if isinstance(value, (list, tuple)) else ()


def read_agent(attributes: Mapping[str, Any], layout: Layout, record: SpanRecord) -> None:
    """Read the agent's name, id, version and description."""
    if record.agent is not None or not layout.agent:
        return
    get = attributes.get
    name = text(get(names.AGENT_NAME)) or text(get(names.OI_AGENT_NAME))
    agent_id, version = text(get(names.AGENT_ID)), text(get(names.AGENT_VERSION))
    description = text(get(names.AGENT_DESCRIPTION))
    if name or agent_id or version or description:
        record.agent = AgentInfo(name, agent_id, version, description)
