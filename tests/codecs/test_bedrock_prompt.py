"""Bodies of one text at Amazon Bedrock: each maker's spelling reads alike, and is kept where something changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from spanrelay._json import dumps
from spanrelay.codecs import bedrock_prompt
from spanrelay.errors import CodecError
from spanrelay.records import Message, ModelRequest, ModelResponse, Text, ToolDefinition, Usage

REQUESTS: dict[str, dict[str, Any]] = {
    "titan": {"inputText": "hi", "textGenerationConfig": {"maxTokenCount": 9, "topP": 0.5}},
    "llama": {"prompt": "hi", "max_gen_len": 9, "top_p": 0.5},
    "mistral": {"prompt": "hi", "max_tokens": 9, "top_p": 0.5},
    "cohere": {"prompt": "hi", "max_tokens": 9, "p": 0.5},
    "command-r": {"message": "hi", "max_tokens": 9, "p": 0.5},
    "jurassic": {"prompt": "hi", "maxTokens": 9, "topP": 0.5},
    "claude": {"prompt": "hi", "max_tokens_to_sample": 9, "top_p": 0.5},
}
ANSWERS: dict[str, dict[str, Any]] = {
    "titan": {
        "inputTextTokenCount": 3,
        "results": [{"tokenCount": 2, "outputText": "one two", "completionReason": "FINISH"}],
    },
    "llama": {
        "generation": "one two",
        "prompt_token_count": 3,
        "generation_token_count": 2,
        "stop_reason": "FINISH",
    },
    "mistral": {"outputs": [{"text": "one two", "stop_reason": "FINISH"}]},
    "cohere": {"id": "1", "generations": [{"id": "2", "text": "one two", "finish_reason": "FINISH"}]},
    "command-r": {"text": "one two", "finish_reason": "FINISH", "response_id": "1"},
    "jurassic": {"id": 1, "completions": [{"data": {"text": "one two"}, "finishReason": {"reason": "FINISH"}}]},
    "claude": {"completion": "one two", "stop_reason": "FINISH"},
}
STREAMS: dict[str, list[dict[str, Any]]] = {
    "titan": [
        {"outputText": "one ", "index": 0, "completionReason": None, "inputTextTokenCount": 3},
        {"outputText": "two", "index": 0, "totalOutputTextTokenCount": 2, "completionReason": "FINISH"},
    ],
    "llama": [
        {"generation": "one ", "prompt_token_count": 3, "generation_token_count": 1, "stop_reason": None},
        {"generation": "two", "prompt_token_count": None, "generation_token_count": 2, "stop_reason": "FINISH"},
    ],
    "mistral": [
        {"outputs": [{"text": "one ", "stop_reason": None}]},
        {"outputs": [{"text": "two", "stop_reason": "FINISH"}]},
    ],
    "cohere": [{"text": "one ", "is_finished": False}, {"text": "two"}, {"finish_reason": "FINISH"}],
    "claude": [{"completion": "one ", "stop_reason": None}, {"completion": "two", "stop_reason": "FINISH"}],
}


@pytest.mark.parametrize("wire", REQUESTS.values(), ids=REQUESTS)
def test_a_request_of_any_maker_reads_alike(wire: dict[str, Any]) -> None:
    read = bedrock_prompt.decode_request(wire)
    assert read.messages == [Message("user", [Text("hi")])]
    assert read.parameters == {"max_tokens": 9, "top_p": 0.5}
    assert bedrock_prompt.encode_request(read, wire) == wire
    assert bedrock_prompt.is_prompt(wire)


@pytest.mark.parametrize("wire", REQUESTS.values(), ids=REQUESTS)
def test_what_changes_keeps_the_makers_spelling(wire: dict[str, Any]) -> None:
    before = dumps(wire)
    read = bedrock_prompt.decode_request(wire)
    changed = replace(read, messages=[Message("user", [Text("bye")])], parameters={"max_tokens": 7, "top_p": 0.25})
    written = bedrock_prompt.encode_request(changed, wire)
    assert bedrock_prompt.decode_request(written) == changed
    assert list(written) == list(wire)
    assert dumps(wire) == before


@pytest.mark.parametrize(("maker", "wire"), REQUESTS.items(), ids=REQUESTS)
def test_a_parameter_that_was_not_there_is_spelled_as_its_maker_does(maker: str, wire: dict[str, Any]) -> None:
    place = "inputText" if maker == "titan" else "message" if maker == "command-r" else "prompt"
    telling = {key: wire[key] for key in wire if key in ("max_gen_len", "max_tokens_to_sample", "maxTokens")}
    bare = {place: "hi", **telling}
    read = bedrock_prompt.decode_request(bare)
    written = bedrock_prompt.encode_request(replace(read, parameters={**read.parameters, "max_tokens": 9}), bare)
    assert dumps(written.get("textGenerationConfig", written)).count(b"9") == 1
    spelled = {"titan": "maxTokenCount", "llama": "max_gen_len", "jurassic": "maxTokens"}.get(maker)
    assert spelled is None or spelled in dumps(written).decode()


@pytest.mark.parametrize("wire", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_of_any_maker_reads_alike(wire: dict[str, Any]) -> None:
    read = bedrock_prompt.decode_response(wire)
    assert read.messages == [Message("assistant", [Text("one two")], finish_reason="FINISH")]
    assert read.finish_reasons == ["FINISH"]
    assert read.usage in (None, Usage(3, 2))
    assert bedrock_prompt.encode_response(read, wire) == wire
    changed = replace(read, messages=[replace(read.messages[0], parts=[Text("three")])])
    assert bedrock_prompt.decode_response(bedrock_prompt.encode_response(changed, wire)).text == "three"


@pytest.mark.parametrize("events", STREAMS.values(), ids=STREAMS)
def test_a_stream_of_any_maker_adds_up(events: list[dict[str, Any]]) -> None:
    accumulator = bedrock_prompt.accumulator()
    for event in events:
        accumulator.add(event)
    read = bedrock_prompt.decode_response(accumulator.result())
    assert read.messages == [Message("assistant", [Text("one two")], finish_reason="FINISH")]
    assert read.usage in (None, Usage(3, 2))


def test_a_conversation_or_tools_are_no_one_text() -> None:
    assert not bedrock_prompt.is_prompt({"message": "hi", "tools": [{"name": "rm"}]})
    assert not bedrock_prompt.is_prompt({"message": "hi", "chat_history": []})
    assert not bedrock_prompt.is_prompt({"messages": []})


@pytest.mark.parametrize(
    "request_",
    [
        ModelRequest(messages=[Message("user", [Text("one")]), Message("user", [Text("two")])]),
        ModelRequest(tools=[ToolDefinition("tide")]),
        ModelRequest(messages=[Message("user", [Text("hi")])], parameters={"reasoning_effort": "low"}),
    ],
    ids=["two messages", "tools", "a parameter"],
)
def test_what_has_no_form_is_refused(request_: ModelRequest) -> None:
    with pytest.raises(CodecError):
        bedrock_prompt.encode_request(request_, {"prompt": "hi"})


def test_an_answer_of_nobodys_cannot_be_made() -> None:
    with pytest.raises(CodecError, match="whose body"):
        bedrock_prompt.encode_response(ModelResponse(messages=[Message("assistant", [Text("hi")])]))


def test_a_parameter_that_is_said_under_two_keys_is_said_once() -> None:
    wire = {"prompt": "a", "max_tokens": 64, "max_gen_len": 9000}
    assert bedrock_prompt.single_parameters(wire, ["max_tokens"]) == {"prompt": "a", "max_tokens": 64}
    assert bedrock_prompt.single_parameters(wire, ["temperature"]) is wire
