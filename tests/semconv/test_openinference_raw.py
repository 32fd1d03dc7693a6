"""What OpenInference's messages lack, and its raw values have; and streamed calls that it runs together."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spanrelay import semconv
from spanrelay.records import Message, SpanRecord, Text, ToolCall, ToolCallResponse


def constructor(kind: str, **fields: Any) -> dict[str, Any]:
    return {"lc": 1, "type": "constructor", "id": ["langchain_core", "messages", kind], "kwargs": fields}


CALL = {"name": "weather", "args": {"city": "Rome"}, "type": "tool_call", "id": "c1"}
ASKED = [
    constructor("SystemMessage", content=[{"type": "text", "text": "be brief"}]),
    constructor("HumanMessage", content="hi"),
    constructor("AIMessageChunk", content="", tool_calls=[CALL]),
    constructor("ToolMessage", content="nothing", tool_call_id="c1", status="error"),
]
CALLING = {
    "message.role": "assistant",
    "message.tool_calls.0.tool_call.function.name": "weather",
    "message.tool_calls.0.tool_call.function.arguments": '{"city": "Rome"}',
}


def read(asked: list[dict[str, str]], answered: list[dict[str, str]], **more: Any) -> SpanRecord:
    flat = {
        f"llm.{side}_messages.{number}.{key}": value
        for side, messages in (("input", asked), ("output", answered))
        for number, fields in enumerate(messages)
        for key, value in fields.items()
    }
    record = SpanRecord(1, 2, name="call")
    semconv.read(
        {"openinference.span.kind": "LLM", **flat, **{k.replace("_", "."): v for k, v in more.items()}}, record
    )
    return record


def messages_of(record: SpanRecord) -> list[Message]:
    return list(record.request.messages) if record.request is not None else []


LACKING = [
    {"message.role": "system"},
    {"message.role": "user", "message.content": "hi"},
    CALLING,
    {"message.role": "tool", "message.content": "nothing"},
]
WHOLE = [
    Message("system", [Text("be brief")]),
    Message("user", [Text("hi")]),
    Message("assistant", [ToolCall("c1", "weather", {"city": "Rome"})]),
    Message("tool", [ToolCallResponse("c1", "nothing", is_error=True)]),
]


def test_words_and_ids_are_taken_out_of_langchains_messages() -> None:
    assert messages_of(read(LACKING, [], input_value=json.dumps({"messages": [ASKED]}))) == WHOLE


def test_words_are_taken_out_of_the_items_of_the_agents_sdk() -> None:
    items = [
        {"type": "message", "role": "user", "content": "hi"},
        {"type": "function_call", "callId": "c1", "name": "weather", "arguments": '{"city": "Rome"}'},
        {"type": "function_call_result", "callId": "c1", "output": {"type": "text", "text": "nothing"}},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "no idea"}]},
    ]
    lacking = [{"message.role": "system", "message.content": "be brief"}, *LACKING[1:], {"message.role": "assistant"}]
    found = messages_of(read(lacking, [], input_value=json.dumps(items)))
    assert found == [
        *WHOLE[:3],
        Message("tool", [ToolCallResponse("c1", "nothing")]),
        Message("assistant", [Text("no idea")]),
    ]


@pytest.mark.parametrize(
    "raw", ["no JSON", "[]", '{"messages": [[1, 2, 3, 4]]}', json.dumps({"messages": [ASKED[::-1]]})]
)
def test_raw_messages_that_are_others_change_nothing(raw: str) -> None:
    found = messages_of(read(LACKING, [], input_value=raw))
    assert [message.role for message in found] == ["system", "user", "assistant", "tool"]
    assert found[2].parts == [ToolCall(None, "weather", {"city": "Rome"})]


@pytest.mark.parametrize(
    ("metadata", "about", "own", "model", "id"),
    [
        ({"model_name": "m-1-2026"}, {}, "chatcmpl-1", "m-1-2026", "chatcmpl-1"),
        ({}, {"model_name": "m-1-2026"}, "chatcmpl-1", "m-1-2026", "chatcmpl-1"),
        ({"id": "msg_1"}, {}, "run-1", "m-1", "msg_1"),
        ({}, {}, "run-1", "m-1", None),
    ],
)
def test_an_answers_ids_and_model_are_taken_out_of_langchains(
    metadata: dict[str, str], about: dict[str, str], own: str, model: str, id: str | None
) -> None:
    message = constructor("AIMessage", id=own, content="", tool_calls=[CALL], response_metadata=metadata)
    raw = {"generations": [[{"text": "", "message": message, "generationInfo": about}]]}
    attributes = {"output.value": json.dumps(raw), "output.mime_type": "application/json", "llm.model_name": "m-1"}
    flat = {f"llm.output_messages.0.{key}": value for key, value in CALLING.items()}
    record = SpanRecord(1, 2)
    semconv.read({"openinference.span.kind": "LLM", **attributes, **flat}, record)
    assert record.response is not None
    assert record.response.tool_calls == [ToolCall("c1", "weather", {"city": "Rome"})]
    assert (record.response.model, record.response.id) == (model, id)


@pytest.mark.parametrize("kind", ["text", "output_text", "input_text"])
def test_texts_of_the_responses_api_are_texts(kind: str) -> None:
    said = {"message.contents.0.message_content.type": kind, "message.contents.0.message_content.text": "hello"}
    record = read([], [{"message.role": "assistant", **said}])
    assert record.response is not None
    assert record.response.messages == [Message("assistant", [Text("hello")])]


def streamed(name: str, arguments: str, id: str = "call_1call_2", tools: tuple[str, ...] = ()) -> list[Any]:
    call = "message.tool_calls.0.tool_call"
    answer = {f"{call}.id": id, f"{call}.function.name": name, f"{call}.function.arguments": arguments}
    offered = {f"llm.tools.{n}.tool.json_schema": json.dumps({"name": tool}) for n, tool in enumerate(tools)}
    flat = {f"llm.output_messages.0.{key}": value for key, value in {"message.role": "assistant", **answer}.items()}
    record = SpanRecord(1, 2)
    semconv.read({"openinference.span.kind": "LLM", **flat, **offered}, record)
    return record.response.tool_calls if record.response is not None else []


@pytest.mark.parametrize("between", ["", " ", "\n"])
def test_calls_that_were_run_together_are_parted(between: str) -> None:
    assert streamed("weatherweather", f'{{"city": "Rome"}}{between}{{"city": "Oslo"}}') == [
        ToolCall("call_1", "weather", {"city": "Rome"}),
        ToolCall("call_2", "weather", {"city": "Oslo"}),
    ]


def test_calls_of_several_tools_are_parted_by_the_tools_on_offer() -> None:
    assert streamed("timeweather", '{}{"city": "Oslo"}', tools=("weather", "time")) == [
        ToolCall("call_1", "time", {}),
        ToolCall("call_2", "weather", {"city": "Oslo"}),
    ]


def test_ids_that_cannot_be_parted_are_left_to_the_next_request() -> None:
    assert [call.id for call in streamed("weatherweather", '{"a": 1}{"a": 2}', id="abcabd")] == [None, None]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("timeweather", '{"a": 1}{"a": 2}'),
        ("weather", '{"a": 1}{"a": '),
        ("weather", '{"a": 1} and more'),
        ("tools", '{"a": "}{"}'),
    ],
)
def test_what_is_one_call_stays_one(name: str, arguments: str) -> None:
    assert len(streamed(name, arguments)) == 1
