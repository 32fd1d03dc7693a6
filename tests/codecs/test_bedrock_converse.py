"""The Converse API: what records hold of it, and what a change of them does to the wire."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest
from tests.shared_data import exchanges, needs_shared

from spanrelay.codecs import aws_events, bedrock_converse
from spanrelay.codecs.offers import offers_of
from spanrelay.errors import CodecError
from spanrelay.records import Media, Message, ModelResponse, Reasoning, Text, ToolCall, ToolCallResponse, Usage

CASES = [
    exchange
    for exchange in exchanges("bedrock_*.jsonl")
    if "converse" in exchange["api"] or "nova" in exchange["request"]["path"]
]
TOOL = {"toolSpec": {"name": "tide", "description": "of the sea", "inputSchema": {"json": {"type": "object"}}}}
MARK = {"cachePoint": {"type": "default"}}


def body_of(exchange: dict[str, Any]) -> dict[str, Any]:
    body = exchange["response"]["body"]
    if isinstance(body, dict):
        return body
    accumulator = bedrock_converse.accumulator()
    for event in aws_events.events(base64.b64decode(body)):
        accumulator.add(event)
    return accumulator.result()


@needs_shared
@pytest.mark.parametrize("exchange", CASES, ids=lambda exchange: exchange["id"])
def test_a_recorded_exchange_reads_as_its_truth_says(exchange: dict[str, Any]) -> None:
    request, body, truth = exchange["request"]["body"], body_of(exchange), exchange["truth"]
    assert bedrock_converse.encode_request(bedrock_converse.decode_request(request), request) == request
    response = bedrock_converse.decode_response(body)
    assert bedrock_converse.encode_response(response, body) == body
    if truth["error"]:
        assert response.error is not None
        assert response.error.message == truth["error"]["message"]
        return
    [message] = response.messages
    assert message.text == truth["text"]
    assert "".join(part.text for part in message.parts if isinstance(part, Reasoning)) == truth["reasoning_text"]
    assert response.finish_reasons == truth["finish_reasons"]
    assert [(call.id, call.name, call.arguments) for call in response.tool_calls] == [
        (call["id"], call["name"], call["arguments"]) for call in truth["tool_calls"]
    ]
    usage = response.usage or Usage()
    assert usage.input_tokens == truth["input_tokens_total"]
    assert usage.output_tokens == truth["output_tokens_total"]
    assert usage.cache_read_tokens == truth["cached_input_tokens"]
    assert usage.cache_write_tokens == truth["cache_creation_input_tokens"]


@needs_shared
@pytest.mark.parametrize("exchange", CASES, ids=lambda exchange: exchange["id"])
def test_an_answer_goes_through_frames_and_back(exchange: dict[str, Any]) -> None:
    body = body_of(exchange)
    if "output" not in body:
        return
    whole = b"".join(
        aws_events.frame(kind, payload)
        for event in bedrock_converse.stream_events(body)
        for kind, payload in event.items()
    )
    chunks = b"".join(map(aws_events.chunk, bedrock_converse.stream_events(body)))
    for data in (whole, chunks):
        accumulator = bedrock_converse.accumulator()
        for event in aws_events.events(data):
            accumulator.add(event)
        assert accumulator.result() == body


def request(**fields: Any) -> dict[str, Any]:
    return {"model": "amazon.nova-lite-v1:0", "messages": [{"role": "user", "content": [{"text": "hi"}]}], **fields}


def test_each_block_is_one_part() -> None:
    blocks = [
        {"text": "see"},
        {"image": {"format": "jpeg", "source": {"bytes": "AAAA"}}},
        {"document": {"format": "docx", "name": "letter", "source": {"s3Location": {"uri": "s3://b/k"}}}},
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "sig"}}},
        {"reasoningContent": {"redactedContent": "BBBB"}},
        {"toolUse": {"toolUseId": "1", "name": "tide", "input": {"at": "Oslo"}}},
        {"toolUse": {"toolUseId": "2", "name": "nova_grounding", "input": {}, "type": "server_tool_use"}},
        {"citationsContent": {"content": [{"text": "the sea "}, {"text": "is blue"}], "citations": [{"title": "Sea"}]}},
    ]
    [message] = bedrock_converse.decode_request(request(messages=[{"role": "assistant", "content": blocks}])).messages
    assert message.parts == [
        Text("see"),
        Media("image", "image/jpeg", None, "AAAA"),
        Media(
            "document",
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            "s3://b/k",
            name="letter",
        ),
        Reasoning("hm", signature="sig"),
        Reasoning("", encrypted="BBBB", redacted=True),
        ToolCall("1", "tide", {"at": "Oslo"}),
        ToolCall("2", "nova_grounding", {}, server=True),
        Text("the sea is blue"),
    ]


def test_results_of_tools_are_a_message_of_the_tools() -> None:
    failed = {"toolUseId": "1", "content": [{"text": "no such town"}], "status": "error"}
    found = {"toolUseId": "2", "content": [{"json": {"metres": 2}}]}
    message = {"role": "user", "content": [{"toolResult": failed}, {"toolResult": found}]}
    [read] = bedrock_converse.decode_request(request(messages=[message])).messages
    assert read == Message(
        "tool", [ToolCallResponse("1", "no such town", is_error=True), ToolCallResponse("2", {"metres": 2})]
    )
    assert bedrock_converse.encode_request(replace(bedrock_converse.decode_request({}), messages=[read]), {}) == {
        "messages": [message]
    }


def test_parameters_are_changed_where_they_stand() -> None:
    wire = request(inferenceConfig={"maxTokens": 9, "other": 1}, additionalModelRequestFields={"top_k": 5})
    read = bedrock_converse.decode_request(wire)
    assert read.parameters == {"max_tokens": 9, "top_k": 5}
    changed = replace(read, parameters={"top_k": 7, "temperature": 0.5, "max_tokens": 9})
    written = bedrock_converse.encode_request(changed, wire)
    assert written["inferenceConfig"] == {"maxTokens": 9, "other": 1, "temperature": 0.5}
    assert written["additionalModelRequestFields"] == {"top_k": 7}
    assert bedrock_converse.decode_request(written).parameters == changed.parameters


def test_a_parameter_that_the_api_does_not_have_is_refused() -> None:
    read = bedrock_converse.decode_request(request())
    with pytest.raises(CodecError, match="no parameter 'choice_count'"):
        bedrock_converse.encode_request(replace(read, parameters={"choice_count": 2}), request())


def test_tools_that_are_not_kept_go_with_what_needs_them() -> None:
    config = {"tools": [TOOL, MARK, {"systemTool": {"name": "code"}}], "toolChoice": {"tool": {"name": "tide"}}}
    wire = request(toolConfig=config)
    assert [(offer.names, offer.place) for offer in offers_of(bedrock_converse, wire)] == [
        (("tide",), "toolConfig.tools[0]"),
        (("code", "systemTool"), "toolConfig.tools[2]"),
        (("tide",), "toolConfig.toolChoice"),
    ]
    left = bedrock_converse.sift_tools(wire, lambda offer: "tide" not in offer.names)
    assert left["toolConfig"] == {"tools": [MARK, {"systemTool": {"name": "code"}}]}
    assert "toolConfig" not in bedrock_converse.sift_tools(wire, lambda _: False)
    assert bedrock_converse.sift_tools(wire, lambda _: True) is wire


@pytest.mark.parametrize("config", ["tools", {"tools": "tide"}, {"tools": [{"toolSpec": {"name": "a"}, "more": 1}]}])
def test_what_cannot_be_read_as_a_tool_is_an_offer_too(config: Any) -> None:
    assert offers_of(bedrock_converse, request(toolConfig=config))


def test_a_mark_of_what_is_cached_is_no_tool_and_stays() -> None:
    wire = request(toolConfig={"tools": [TOOL, MARK]})
    read = bedrock_converse.decode_request(wire)
    assert [tool.name for tool in read.tools] == ["tide"]
    changed = replace(read, tools=[replace(read.tools[0], description="changed")])
    tools = bedrock_converse.encode_request(changed, wire)["toolConfig"]["tools"]
    assert [tools[0]["toolSpec"]["description"], tools[1]] == ["changed", MARK]


def test_a_system_message_stands_with_the_system_prompts() -> None:
    wire = request(system=[{"text": "Be brief."}, MARK])
    read = bedrock_converse.decode_request(wire)
    changed = replace(read, messages=[Message("system", [Text("Be kind.")]), *read.messages])
    written = bedrock_converse.encode_request(changed, wire)
    assert written["system"] == [{"text": "Be kind."}, {"text": "Be brief."}, MARK]
    assert written["messages"] == wire["messages"]


def test_an_answer_of_policy_is_a_whole_body() -> None:
    calls = [Text("so"), ToolCall("1", "tide", {"at": "Oslo"})]
    body = bedrock_converse.encode_response(ModelResponse(messages=[Message("assistant", list(calls))]))
    assert body["stopReason"] == "tool_use"
    assert body["usage"] == {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0}
    assert bedrock_converse.decode_response(body).messages[0].parts == calls


def test_a_signature_does_not_outlive_its_text() -> None:
    block = {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "sig"}}}
    body = {"output": {"message": {"role": "assistant", "content": [block]}}, "stopReason": "end_turn"}
    read = bedrock_converse.decode_response(body)
    changed = replace(read, messages=[replace(read.messages[0], parts=[Reasoning("ha", signature="sig")])])
    written = bedrock_converse.encode_response(changed, body)
    [left] = written["output"]["message"]["content"]
    assert left == {"reasoningContent": {"reasoningText": {"text": "ha"}}}


def test_cached_tokens_count_as_input() -> None:
    counted = {"inputTokens": 2, "outputTokens": 5, "totalTokens": 29, "cacheWriteInputTokens": 22}
    body = {"output": {"message": {"role": "assistant", "content": []}}, "usage": counted}
    read = bedrock_converse.decode_response(body)
    assert read.usage == Usage(24, 5, 29, None, 22)
    kept = [{"ttl": "5m", "inputTokens": 2}, {"ttl": "1h", "inputTokens": 20}]
    told = bedrock_converse.decode_response({**body, "usage": {**counted, "cacheDetails": kept}})
    assert told.usage == Usage(24, 5, 29, None, 22, cache_write_1h_tokens=20)
    changed = replace(read, usage=Usage(25, 5, 30, None, 22))
    assert bedrock_converse.encode_response(changed, body)["usage"] == {**counted, "inputTokens": 3, "totalTokens": 30}


def test_a_failure_in_a_stream_keeps_what_had_come() -> None:
    accumulator = bedrock_converse.accumulator()
    accumulator.add({"messageStart": {"role": "assistant"}})
    accumulator.add({"contentBlockDelta": {"delta": {"text": "one"}, "contentBlockIndex": 0}})
    accumulator.add({"throttlingException": {"message": "too fast"}})
    read = bedrock_converse.decode_response(accumulator.result())
    assert read.text == "one"
    assert read.error is not None and (read.error.type, read.error.message) == ("throttlingException", "too fast")


@pytest.mark.parametrize("cut", range(0, 400, 7))
def test_a_stream_that_is_cut_anywhere_loses_only_its_last_frame(cut: int) -> None:
    told = [{"contentBlockDelta": {"delta": {"text": word}, "contentBlockIndex": 0}} for word in ("one ", "two")]
    data = b"".join(aws_events.frame(kind, payload) for event in told for kind, payload in event.items())
    part = aws_events.events(data[:cut])
    assert part == told[: len(part)]
    assert aws_events.events(data) == told


OWN: dict[str, Any] = {
    "model": "m",
    "messages": [],
    "inferenceConfig": {"maxTokens": 64},
    "additionalModelRequestFields": {
        "max_tokens": 9000,
        "inferenceConfig": {"topK": 3, "maxTokens": 9000},
        "tools": [{"type": "computer_20250124", "name": "computer"}, {"type": "advisor_1", "model": "other"}],
        "tool_choice": {"type": "tool", "name": "computer"},
    },
}
"""A request with fields of the model's own body, which the API merges into that."""


def test_tools_in_fields_of_the_models_own_are_offers() -> None:
    assert [offer.names for offer in offers_of(bedrock_converse, OWN)] == [
        ("computer", "computer_20250124"),
        ("advisor_1",),
        ("computer",),
    ]
    left = bedrock_converse.sift_tools(OWN, lambda offer: offer.names[0] != "computer")
    assert left["additionalModelRequestFields"]["tools"] == [{"type": "advisor_1", "model": "other"}]
    assert "tool_choice" not in left["additionalModelRequestFields"]


def test_models_in_fields_of_the_models_own_are_named() -> None:
    assert list(bedrock_converse.models_beside(OWN)) == ["other"]
    assert list(bedrock_converse.models_beside({"additionalModelRequestFields": {"model": "one"}})) == ["one"]


def test_a_parameter_in_fields_of_the_models_own_is_said_once() -> None:
    assert bedrock_converse.decode_request(OWN).parameters == {"max_tokens": 64, "top_k": 3}
    single = bedrock_converse.single_parameters(OWN, ["max_tokens"])
    assert single["inferenceConfig"] == {"maxTokens": 64}
    assert single["additionalModelRequestFields"] == {
        "inferenceConfig": {"topK": 3},
        "tools": OWN["additionalModelRequestFields"]["tools"],
        "tool_choice": OWN["additionalModelRequestFields"]["tool_choice"],
    }
    assert bedrock_converse.single_parameters(single, ["max_tokens"]) is single


def test_the_effort_is_read_and_written_where_it_stands() -> None:
    wire = {"model": "m", "messages": [], "outputConfig": {"effort": "low"}}
    request = bedrock_converse.decode_request(wire)
    assert request.parameters == {"reasoning_effort": "low"}
    changed = bedrock_converse.encode_request(replace(request, parameters={"reasoning_effort": "high"}), wire)
    assert changed["outputConfig"] == {"effort": "high"}
