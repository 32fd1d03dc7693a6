"""What a dialect writes it reads back, and nothing that anybody writes makes it raise."""

from __future__ import annotations

import dataclasses
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.semconv import record_strategies as given_records

from spanrelay import semconv
from spanrelay._json import dumps_text
from spanrelay.records import (
    Message,
    ModelRequest,
    Opaque,
    SpanRecord,
    Text,
    ToolCall,
    ToolCallResponse,
    ToolDefinition,
)
from spanrelay.semconv import genai, messages, names, openinference, traceloop, vercel_ai

quick = settings(max_examples=100, deadline=None)


def through(dialect: ModuleType, record: SpanRecord) -> SpanRecord:
    attributes = {**dialect.start_attributes(record), **dialect.to_attributes(record, content=True)}
    assert_exportable(attributes)
    read = SpanRecord(record.trace_id, record.span_id)
    dialect.from_attributes(attributes, read)
    return read


def assert_exportable(attributes: dict[str, Any]) -> None:
    for key, value in attributes.items():
        for item in value if type(value) is list else [value]:
            assert type(item) in (str, int, float, bool), key
            if type(item) is str:
                item.encode()


def expected(record: SpanRecord) -> SpanRecord:
    """The record with its `content` as far as a reader can know it, and without the empty name of a status."""
    request, response = record.request, record.response
    if response is not None and response.parameters.get("status") == "":
        parameters = {name: value for name, value in response.parameters.items() if name != "status"}
        response = dataclasses.replace(response, parameters=parameters)
    if record.kind == "llm":
        said = [*(request.messages if request else ()), *(response.messages if response else ())]
        shown = bool(request and request.system) or any(message.parts for message in said)
    elif record.kind == "tool":
        answered = record.result is not None
        shown = bool(record.tool and record.tool.arguments is not None) or answered
    else:
        shown = True
    return dataclasses.replace(record, content=shown, response=response)


@quick
@given(given_records.genai_records)
def test_genai_reads_what_it_writes(record: SpanRecord) -> None:
    assert through(genai, record) == expected(record)


@quick
@given(given_records.oi_records)
def test_openinference_reads_what_it_writes(record: SpanRecord) -> None:
    assert through(openinference, record) == expected(record)


@quick
@given(given_records.genai_records)
def test_the_default_dialect_reads_what_it_writes(record: SpanRecord) -> None:
    attributes = {**semconv.write_start(record), **semconv.write(record, content=True)}
    read = SpanRecord(1, 2)
    semconv.read(attributes, read)
    assert read == dataclasses.replace(expected(record), dialect="genai")


@quick
@given(given_records.oi_records)
def test_openinference_is_read_with_the_genai_names_beside_it(record: SpanRecord) -> None:
    attributes = {
        **semconv.write_start(record, "openinference"),
        **semconv.write(record, "openinference", content=True),
    }
    read = SpanRecord(1, 2)
    semconv.read(attributes, read)
    assert dataclasses.replace(read, dialect=None) == expected(record)


@quick
@given(given_records.every_scope)
def test_the_default_dialect_carries_every_kind(record: SpanRecord) -> None:
    attributes = {**semconv.write_start(record), **semconv.write(record, content=True)}
    read = SpanRecord(1, 2)
    semconv.read(attributes, read)
    assert dataclasses.replace(read, dialect=None) == expected(record)


@quick
@given(given_records.genai_records | given_records.oi_records, st.sampled_from(semconv.DIALECTS))
def test_without_content_nothing_that_was_said_is_written(record: SpanRecord, dialect: str) -> None:
    secret = "t0p s3cret"
    record = dataclasses.replace(record, metadata={})
    if record.request is not None:
        parts = [Text(secret), ToolCall("1", "f", {secret: secret}), ToolCallResponse("1", secret)]
        record.request = ModelRequest(
            "m", [Message("user", list(parts))], [Text(secret)], [ToolDefinition("f", secret, {secret: {}})]
        )
        if record.response is not None:
            record.response.messages = [Message("assistant", list(parts))]
    if record.tool is not None:
        record.tool.arguments = {"x": secret}
    if record.result is not None:
        record.result.content = secret
    if record.input is not None:
        record.input = record.output = secret
    attributes = {**semconv.write_start(record, dialect), **semconv.write(record, dialect, content=False)}
    assert secret not in repr(attributes)


# --- losses: what the dialects' docstrings say does not survive ---------------------------------------------


def llm(*said: Message, **fields: Any) -> SpanRecord:
    request = ModelRequest("m", list(said), **fields)
    return SpanRecord(1, 2, kind="llm", request=request)


def test_openinference_gives_instructions_back_as_a_system_message() -> None:
    read = through(openinference, llm(Message("user", [Text("hi")]), system=[Text("be brief")]))
    assert read.request is not None
    assert read.request.system == []
    assert read.request.messages[0] == Message("system", [Text("be brief")])


def test_openinference_gives_tool_results_back_as_messages_of_their_own() -> None:
    answers = [ToolCallResponse("1", "sunny", "w"), Text("and?"), ToolCallResponse("2", {"deg": 7}, is_error=True)]
    read = through(openinference, llm(Message("user", [*answers])))
    assert read.request is not None
    assert read.request.messages == [
        Message("tool", [ToolCallResponse("1", "sunny", "w")], "w"),
        Message("user", [Text("and?")]),
        Message("tool", [ToolCallResponse("2", '{"deg":7}')]),
    ]


def test_openinference_gives_calls_back_after_the_text_and_as_ordinary_ones() -> None:
    call = ToolCall("1", "web_search", {"q": "x"}, server=True, type="web_search_call")
    read = through(openinference, llm(Message("assistant", [call, Text("found")])))
    assert read.request is not None
    assert read.request.messages[0].parts == [Text("found"), ToolCall("1", "web_search", {"q": "x"})]


def test_openinference_keeps_a_tool_schema_that_says_more_than_the_fields() -> None:
    schema = {"type": "function", "function": {"name": "f", "parameters": {}, "strict": True}}
    read = through(openinference, llm(Message("user", []), tools=[ToolDefinition("f", parameters={}, raw=schema)]))
    assert read.request is not None
    assert read.request.tools == [ToolDefinition("f", parameters={}, raw=schema)]


@pytest.mark.parametrize("dialect", [genai, openinference])
def test_a_part_that_nobody_knows_is_one_in_a_tools_answer_too(dialect: ModuleType) -> None:
    found = Opaque("search_result", {"type": "search_result", "title": "Sky"})
    record = llm(Message("tool", [ToolCallResponse("c1", [Text("one"), found])]))
    read = through(dialect, record)
    assert read.request is not None and record.request is not None
    assert read.request.messages == record.request.messages


@pytest.mark.parametrize("reason", ["tool_calls", "tool_use", "function_call"])
def test_the_attribute_has_the_providers_word_and_a_message_opentelemetrys(reason: str) -> None:
    record = llm(Message("user", [Text("hi")]))
    asking = Message("assistant", [ToolCall("1", "f")], finish_reason=reason)
    record.response = given_records.ModelResponse("r", messages=[asking], finish_reasons=[reason])
    read = through(genai, record)
    assert read.response is not None
    assert read.response.finish_reasons == [reason]
    assert read.response.messages[0].finish_reason == "tool_call"


@pytest.mark.parametrize("word", ["tool_calls", "tool_call", "length"])
def test_either_place_is_read_alike(word: str) -> None:
    message = {"role": "assistant", "parts": [{"type": "text", "content": "a"}], "finish_reason": word}
    messages = dumps_text([message])
    for attributes in (
        {"gen_ai.response.finish_reasons": [word], "gen_ai.operation.name": "chat"},
        {"gen_ai.output.messages": messages, "gen_ai.operation.name": "chat"},
    ):
        record = SpanRecord(1, 2)
        genai.from_attributes(attributes, record)
        assert record.response is not None and record.response.finish_reasons == [word]


# --- anything at all ----------------------------------------------------------------------------------------

wire_keys = st.sampled_from(["type", "content", "text", "arguments", "id", "name", "args", "data", "uri", "response"])
wire_json = st.recursive(
    given_records.scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(wire_keys, inner, max_size=3),
    max_leaves=4,
)


def shape(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object with some of these keys, the values sometimes of another kind."""
    return st.fixed_dictionaries({}, optional={key: value | wire_json for key, value in keys.items()})


part_types = st.sampled_from([*messages._PART_READERS, "odd"])
parts = st.dictionaries(wire_keys, wire_json, max_size=4).flatmap(
    lambda part: part_types.map(lambda kind: {**part, "type": kind})
)
calls = shape(id=given_records.words, function=shape(name=given_records.words, arguments=wire_json))
said = shape(
    role=st.sampled_from(["user", "ai", "tool"]),
    parts=st.lists(parts, max_size=3),
    content=st.lists(parts, max_size=2),
    tool_calls=st.lists(calls, max_size=2),
    tool_call_id=given_records.words,
)
odd_texts = st.sampled_from(["{'a': 1}", "{'a': ", "[", "{", "[1", '[{"text": "x", "type": "summary_text"}', "nan", ""])
odd_values = wire_json | odd_texts | st.binary(max_size=3)
envelopes = shape(lc=st.just(1), type=st.just("tool"), data=wire_json, output=wire_json, kwargs=wire_json)
tool_values = envelopes | shape(input_str=odd_texts, inputs=wire_json, kwargs=wire_json) | odd_values
MESSAGES = [names.INPUT_MESSAGES, names.OUTPUT_MESSAGES, names.ALL_MESSAGES, names.SYSTEM_INSTRUCTIONS]
CONTENTS = [names.TOOL_ARGUMENTS, names.TOOL_RESULT, names.OI_INPUT, names.OI_OUTPUT, names.TL_ENTITY_INPUT]
constructor = shape(
    lc=st.just(1),
    id=st.just(["AIMessage"]),
    kwargs=shape(content=wire_json, tool_calls=st.lists(calls, max_size=2), tool_call_id=given_records.words),
)
raw = shape(
    messages=st.lists(st.lists(constructor, max_size=2), max_size=1), generations=st.lists(shape(message=constructor))
)
vercel = shape(
    role=st.sampled_from(["user", "assistant", "tool"]),
    content=st.lists(
        shape(
            type=st.sampled_from([*vercel_ai._PART_READERS, "text", "reasoning"]),
            output=shape(type=st.sampled_from(["text", "content", "error-text"]), value=wire_json),
            **dict.fromkeys(("toolCallId", "toolName", "input", "data", "mediaType"), wire_json),
        ),
        max_size=2,
    ),
)
VERCEL = [names.AI_MESSAGES, names.AI_PROMPT, names.AI_TOOLS, *names.AI_CALLS, *names.AI_TEXT, *names.AI_VALUE]
LISTS = ["llm.input_messages", "llm.output_messages", "gen_ai.prompt", "gen_ai.completion", "llm.tools"]
LEAVES = [
    *("message.role", "message.content", "message.tool_call_id", "message.tool_calls.0.tool_call.id", "role"),
    *("message.contents.0.message_content.type", "message.contents.0.message_content.image.image.url", "content"),
    *("tool.json_schema", "tool_calls.0.arguments", "reasoning"),
]
SCALARS = sorted(
    {value for value in vars(names).values() if isinstance(value, str) and "." in value and " " not in value}
    | {key for _, aliases in (*names.USAGE_NAMES, *names.OI_USAGE_NAMES) for key in aliases}
    | {names.OI_METADATA, f"{names.TL_ASSOCIATION}thread_id", *names.PARAMETER_NAMES.values()}
)


def written(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Structured, or as JSON text."""
    return values | values.map(dumps_text)


def attributes_of(keys: list[str], values: st.SearchStrategy[Any], size: int) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(keys), values, max_size=size)


leaves = st.builds("{}.{}.{}".format, st.sampled_from(LISTS), st.sampled_from([0, 1, 3]), st.sampled_from(LEAVES))
anything = st.builds(
    lambda *some: {key: value for attributes in some for key, value in attributes.items()},
    attributes_of(MESSAGES, written(st.lists(said | parts, max_size=3)), 2),
    attributes_of(CONTENTS, written(tool_values | raw), 2),
    attributes_of(VERCEL, written(st.lists(vercel, max_size=2) | shape(messages=st.lists(vercel, max_size=2))), 2),
    st.dictionaries(leaves, odd_values, max_size=4),
    attributes_of(SCALARS, odd_values, 4),
)
operations = st.sampled_from(["chat", "execute_tool", "invoke_agent", "embeddings", "odd"])
kinds = st.sampled_from(["LLM", "TOOL", "AGENT", "CHAIN", "EMBEDDING", "odd"])


@settings(max_examples=250, deadline=None)
@given(
    anything,
    st.none() | operations,
    st.none() | kinds,
    st.none() | st.sampled_from(["tool", "task", "workflow"]),
    st.none()
    | st.sampled_from(["ai.toolCall", "ai.generateText", "ai.streamText.doStream", "ai.embed.doEmbed", "odd"]),
)
def test_reading_never_raises(
    attributes: dict[str, Any], operation: str | None, kind: str | None, entity: str | None, step: str | None
) -> None:
    given = {names.OPERATION: operation, names.OI_KIND: kind, names.TL_KIND: entity, names.AI_OPERATION: step}
    attributes |= {key: value for key, value in given.items() if value is not None}
    semconv.read(attributes, SpanRecord(1, 2))
    for dialect in (genai, traceloop, openinference, vercel_ai):
        dialect.from_attributes(attributes, SpanRecord(1, 2))
