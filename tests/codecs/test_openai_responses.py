"""What the Responses codec keeps, changes and adds up, case by case."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
from openai.types.responses import Response

from spanrelay.codecs import openai_responses
from spanrelay.errors import CodecError
from spanrelay.records import (
    ErrorInfo,
    Media,
    Message,
    ModelResponse,
    Reasoning,
    Text,
    ToolCall,
    ToolCallResponse,
    Usage,
)

REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
CALL = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "ring",
    "arguments": "{}",
    "status": "x",
}
TEXT = {"type": "output_text", "text": "old", "annotations": [{"type": "url_citation"}]}
MESSAGE = {"type": "message", "id": "msg_1", "role": "assistant", "content": [TEXT]}
USER = {"role": "user", "content": "hi", "x": 1}


def request(*items: Any, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-5", "input": list(items), **more}


def changed(wire: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return openai_responses.encode_request(replace(openai_responses.decode_request(wire), **fields), wire)


def answer(*events: dict[str, Any]) -> ModelResponse:
    accumulator = openai_responses.accumulator()
    for event in events:
        accumulator.add(event)
    return openai_responses.decode_response(accumulator.result())


def test_items_of_one_answer_are_one_message_there_and_back() -> None:
    items = [REASONING, MESSAGE, CALL]
    expected = [
        Reasoning("", "rs_1", None, "gAAA", redacted=True),
        Text("old"),
        ToolCall("call_1", "ring", {}),
    ]
    response = openai_responses.decode_response({"output": items, "status": "completed"})
    assert response.messages == [Message("assistant", expected, None, "tool_calls")]
    history = openai_responses.decode_request(request(USER, *items))
    assert history.messages[1] == Message("assistant", expected)


def test_changed_text_keeps_reasoning_annotations_and_calls() -> None:
    wire = request(USER, REASONING, MESSAGE, CALL)
    messages = openai_responses.decode_request(wire).messages
    parts = [messages[1].parts[0], Text("new"), messages[1].parts[2]]
    written = changed(wire, messages=[messages[0], replace(messages[1], parts=parts)])["input"]
    assert written == [USER, REASONING, {**MESSAGE, "content": [{**TEXT, "text": "new"}]}, CALL]
    assert [new is old for new, old in zip(written, wire["input"], strict=True)] == [True, True, False, True]


def test_a_call_taken_out_takes_its_item_out() -> None:
    other = {**CALL, "id": "fc_2", "call_id": "call_2"}
    wire = request(USER, CALL, other)
    messages = openai_responses.decode_request(wire).messages
    written = changed(wire, messages=[messages[0], replace(messages[1], parts=messages[1].parts[1:])])
    assert written["input"] == [USER, other]


def test_a_plain_text_input_stays_plain_until_it_cannot() -> None:
    wire = {"model": "gpt-5", "input": "hi"}
    assert changed(wire, messages=[Message("user", [Text("ho")])])["input"] == "ho"
    more = [Message("user", [Text("hi")]), Message("assistant", [Text("ho")])]
    assert changed(wire, messages=more)["input"] == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "ho"},
    ]


def test_results_keep_their_kind() -> None:
    result = {"type": "custom_tool_call_output", "call_id": "c", "output": "secret", "id": "o"}
    written = changed(request(result), messages=[Message("tool", [ToolCallResponse("c", "***")])])
    assert written["input"] == [{**result, "output": "***"}]


def test_instructions_and_nested_parameters_are_patched_in_place() -> None:
    wire = request(
        instructions="old",
        reasoning={"effort": "low", "summary": "auto"},
        text={"format": {"type": "json_schema", "name": "x"}, "verbosity": "low"},
        conversation={"id": "conv_1"},
    )
    written = changed(
        wire,
        system=[Text("new")],
        parameters={"reasoning_effort": "high", "output_type": "text", "conversation_id": "conv_2"},
    )
    assert written == request(
        instructions="new",
        reasoning={"effort": "high", "summary": "auto"},
        text={"format": {"type": "text"}, "verbosity": "low"},
        conversation={"id": "conv_2"},
    )


def test_credentials_of_a_connector_are_sent_and_never_recorded() -> None:
    tool = {"type": "mcp", "server_label": "charts", "headers": {"Authorization": "x"}, "authorization": "y"}
    wire = request(tools=[tool])
    [definition] = openai_responses.decode_request(wire).tools
    assert definition.raw == {"type": "mcp", "server_label": "charts"}
    narrowed = replace(definition, raw={**definition.raw, "allowed_tools": ["find"]})
    assert changed(wire, tools=[narrowed])["tools"] == [{**tool, "allowed_tools": ["find"]}]


@pytest.mark.parametrize(
    ("body", "reasons"),
    [
        ({"status": "completed"}, ["stop"]),
        ({"status": "completed", "output": [CALL]}, ["tool_calls"]),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, ["content_filter"]),
        ({"status": "failed", "error": {"code": "server_error", "message": "m"}}, ["failed"]),
        ({"status": "in_progress"}, []),
    ],
)
def test_finish_reasons_are_derived_from_the_status(body: dict[str, Any], reasons: list[str]) -> None:
    assert openai_responses.decode_response(body).finish_reasons == reasons


def test_what_the_api_has_no_form_for_is_refused() -> None:
    with pytest.raises(CodecError, match="no server tool 'bash'"):
        changed(request(), messages=[Message("assistant", [ToolCall("1", "bash", {}, True, "bash")])])
    with pytest.raises(CodecError, match="no call before it"):
        changed(request(), messages=[Message("assistant", [ToolCallResponse("1", "x", server=True)])])


def test_a_stream_cut_before_its_end_is_rebuilt_from_its_parts() -> None:
    start = {"id": "resp_1", "status": "in_progress", "output": [], "model": "gpt-5"}
    response = answer(
        {"type": "response.created", "response": start},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**REASONING, "encrypted_content": None},
        },
        {"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "One."},
        {"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 1, "delta": "Two."},
        {"type": "response.output_item.done", "output_index": 1, "item": MESSAGE},
        {"type": "response.output_item.added", "output_index": 2, "item": {**CALL, "arguments": ""}},
        {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": '{"ti'},
    )
    parts = [Reasoning("One.\n\nTwo.", "rs_1"), Text("old"), ToolCall("call_1", "ring", '{"ti')]
    assert response.messages == [Message("assistant", parts)]
    assert (response.id, response.finish_reasons, response.parameters["status"]) == ("resp_1", [], "in_progress")


def test_text_whose_item_was_never_announced_is_not_lost() -> None:
    delta = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0}
    assert answer({**delta, "delta": "a"}, {**delta, "delta": "b"}).text == "ab"


def test_an_error_event_is_an_error() -> None:
    response = answer({"type": "error", "code": "rate_limit", "message": "m", "sequence_number": 3})
    assert response.error == ErrorInfo("rate_limit", "m", "rate_limit")


def test_an_answer_from_a_bare_record_is_one_the_sdk_takes() -> None:
    parts = [Reasoning("hm"), Text("hi"), ToolCall("call_1", "ring", {"times": 2})]
    record = ModelResponse(messages=[Message("assistant", parts)], usage=Usage(3, 4))
    body = openai_responses.encode_response(record)
    response = Response.model_validate(body)
    assert response.output_text == "hi"
    assert response.usage is not None
    assert response.usage.total_tokens == 7
    kinds = [type(part) for part in openai_responses.decode_response(body).messages[0].parts]
    assert kinds == [Reasoning, Text, ToolCall]


@pytest.mark.parametrize(("said", "kind"), [({"output_format": "webp"}, "image/webp"), ({}, "image/png")])
def test_a_generated_image_is_of_the_kind_that_the_item_says(said: dict[str, str], kind: str) -> None:
    item = {"type": "image_generation_call", "id": "ig", "status": "completed", "result": "UklGRg==", **said}
    [message] = openai_responses.decode_response({"id": "r", "output": [item]}).messages
    [_, result] = message.parts
    assert isinstance(result, ToolCallResponse)
    [image] = cast("list[Media]", result.content)
    assert image.mime_type == kind


def test_a_search_for_tools_that_the_client_runs_is_a_call_with_its_result() -> None:
    tools = [{"type": "function", "name": "ring", "parameters": {}}]
    call = {
        "type": "tool_search_call",
        "id": "tsc_1",
        "call_id": "c1",
        "execution": "client",
        "arguments": {"q": "bell"},
    }
    found = {"type": "tool_search_output", "call_id": "c1", "execution": "client", "tools": tools}
    wire = {"model": "m", "input": [call, found]}
    request = openai_responses.decode_request(wire)
    assert [message.parts for message in request.messages] == [
        [ToolCall("c1", "tool_search", {"q": "bell"}, False, "tool_search_call")],
        [ToolCallResponse("c1", tools)],
    ]
    assert openai_responses.encode_request(request, wire) == wire
    asked = replace(
        request.messages[0], parts=[ToolCall("c1", "tool_search", {"q": "gong"}, False, "tool_search_call")]
    )
    given = replace(request.messages[1], parts=[ToolCallResponse("c1", [])])
    written = openai_responses.encode_request(replace(request, messages=[asked, given]), wire)
    assert written["input"] == [{**call, "arguments": {"q": "gong"}}, {**found, "tools": []}]


def test_a_search_for_tools_that_the_provider_runs_is_a_call_of_the_server() -> None:
    call = {
        "type": "tool_search_call",
        "id": "tsc_1",
        "call_id": None,
        "execution": "server",
        "arguments": {"q": "bell"},
    }
    [message] = openai_responses.decode_response({"id": "r", "output": [call]}).messages
    assert message.parts == [ToolCall("tsc_1", "tool_search", {"q": "bell"}, True, "tool_search_call")]
