"""What Gemini says in its own way: spellings, streams of function calls, usage, reasons, blocked prompts, tools."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.shared_data import exchanges, needs_shared

from spanrelay.codecs import gemini_embeddings, gemini_generate_content, sse
from spanrelay.codecs.offers import offers_of
from spanrelay.errors import CodecError
from spanrelay.records import (
    Media,
    Message,
    ModelRequest,
    ModelResponse,
    Reasoning,
    Text,
    ToolCall,
    ToolCallResponse,
    ToolDefinition,
    Usage,
)

decode_request, encode_request = gemini_generate_content.decode_request, gemini_generate_content.encode_request
decode_response, encode_response = gemini_generate_content.decode_response, gemini_generate_content.encode_response


def answer(*parts: Any, reason: str | None = "STOP", **more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": list(parts), "role": "model"}, "finishReason": reason}], **more}


def added(*events: Any) -> dict[str, Any]:
    accumulator = gemini_generate_content.accumulator()
    for event in events:
        accumulator.add(event)
    return accumulator.result()


def parts_of(*events: Any) -> list[Any]:
    return added(*events)["candidates"][0]["content"]["parts"]


# --- recorded ---

CASES = [
    exchange
    for pattern in ("google_*generate_content.jsonl", "google_vertex_*.jsonl", "google_embeddings.jsonl")
    for exchange in exchanges(pattern)
]


@needs_shared
@pytest.mark.parametrize("exchange", CASES, ids=lambda exchange: exchange["id"])
def test_what_was_recorded_reads_as_its_truth_and_is_written_without_loss(exchange: dict[str, Any]) -> None:
    codec = gemini_embeddings if exchange["api"] == "embeddings" else gemini_generate_content
    truth, request, body = exchange["truth"], exchange["request"]["body"], exchange["response"]["body"]
    assert codec.encode_request(codec.decode_request(request), request) == request
    if isinstance(body, str):
        body = added(*sse.events(body.encode()))
    response = codec.decode_response(body)
    assert codec.encode_response(response, body) == body
    assert (response.id, response.model) == (truth["response_id"], truth["response_model"])
    assert (response.finish_reasons, response.text) == (truth["finish_reasons"], truth["text"])
    usage = response.usage or Usage()
    assert (usage.input_tokens, usage.output_tokens) == (truth["input_tokens_total"], truth["output_tokens_total"])
    assert (usage.cache_read_tokens, usage.reasoning_tokens) == (
        truth["cached_input_tokens"],
        truth["reasoning_tokens"],
    )
    if codec is gemini_generate_content:
        assert decode_response(added(*gemini_generate_content.stream_events(body))) == response


# --- spellings ---


def test_a_request_reads_the_same_in_either_spelling() -> None:
    camel = {
        "model": "m",
        "contents": [
            {
                "role": "model",
                "parts": [{"functionCall": {"name": "look", "args": {"at": 1}}, "thoughtSignature": "c2ln"}],
            },
            {"role": "user", "parts": [{"functionResponse": {"name": "look", "response": {"result": "blue"}}}]},
            {"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": "AA-_"}}]},
            {"role": "user", "parts": [{"fileData": {"mimeType": "video/mp4", "fileUri": "gs://b/v"}}]},
        ],
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "generationConfig": {"maxOutputTokens": 9, "topP": 0.5, "thinkingConfig": {"thinkingLevel": "HIGH"}},
        "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
        "tools": [{"functionDeclarations": [{"name": "look", "parametersJsonSchema": {"type": "object"}}]}],
    }
    snake = {
        "model": "m",
        "contents": [
            {
                "role": "model",
                "parts": [{"function_call": {"name": "look", "args": {"at": 1}}, "thought_signature": "c2ln"}],
            },
            {"role": "user", "parts": [{"function_response": {"name": "look", "response": {"result": "blue"}}}]},
            {"role": "user", "parts": [{"inline_data": {"mime_type": "image/png", "data": "AA+/"}}]},
            {"role": "user", "parts": [{"file_data": {"mime_type": "video/mp4", "file_uri": "gs://b/v"}}]},
        ],
        "system_instruction": {"parts": [{"text": "Be brief."}]},
        "generation_config": {"max_output_tokens": 9, "top_p": 0.5, "thinking_config": {"thinking_level": "HIGH"}},
        "tool_config": {"function_calling_config": {"mode": "ANY"}},
        "tools": [{"function_declarations": [{"name": "look", "parameters_json_schema": {"type": "object"}}]}],
    }
    read = decode_request(camel)
    assert decode_request(snake) == read
    assert read.messages == [
        Message("assistant", [ToolCall(None, "look", {"at": 1})]),
        Message("tool", [ToolCallResponse(None, "blue", "look")]),
        Message("user", [Media("image", "image/png", None, "AA+/")]),
        Message("user", [Media("video", "video/mp4", "gs://b/v")]),
    ]
    assert read.system == [Text("Be brief.")]
    assert read.tools == [ToolDefinition("look", None, {"type": "object"})]
    assert read.parameters == {
        "max_tokens": 9,
        "top_p": 0.5,
        "reasoning_effort": "high",
        "tool_choice": "required",
    }
    for wire in (camel, snake):
        changed = replace(read, parameters={**read.parameters, "max_tokens": 3, "tool_choice": "none"})
        written = encode_request(changed, wire)
        assert decode_request(written) == changed
        assert written.keys() == wire.keys()


@pytest.mark.parametrize("key", ["functionDeclarations", "function_declarations"])
def test_tools_are_found_and_changed_in_either_spelling(key: str) -> None:
    wire = {
        "contents": [],
        "tools": [{"googleSearch": {}, key: [{"name": "a"}, {"name": "b"}]}, {key: [{"name": "c"}]}],
    }
    assert [offer.names[0] for offer in offers_of(gemini_generate_content, wire)] == ["google_search", "a", "b", "c"]
    assert gemini_generate_content.sift_tools(wire, lambda offer: offer.names[0] not in ("google_search", "c"))[
        "tools"
    ] == [{key: [{"name": "a"}, {"name": "b"}]}]
    request = decode_request(wire)
    kept = [tool for tool in request.tools if tool.name != "b"]
    written = encode_request(replace(request, tools=kept), wire)
    assert written["tools"] == [{"googleSearch": {}, key: [{"name": "a"}]}, {key: [{"name": "c"}]}]
    more = encode_request(replace(request, tools=[*request.tools, ToolDefinition("d", "more")]), wire)
    assert more["tools"][1] == {key: [{"name": "c"}, {"name": "d", "description": "more"}]}


def test_a_router_may_name_the_model_that_runs() -> None:
    wire = {"generation_config": {"routingConfig": {"manual_mode": {"modelName": "publishers/google/models/g-1"}}}}
    assert list(gemini_generate_content.models_beside(wire)) == ["g-1"]


# --- answers ---


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "error"),
        ("OF_THE_FUTURE", "OF_THE_FUTURE"),
    ],
)
def test_a_finish_reason_is_told_in_the_words_of_others_and_in_geminis(reason: str, told: str) -> None:
    response = decode_response(answer({"text": "hi"}, reason=reason))
    assert (response.messages[0].finish_reason, response.finish_reasons) == (told, [reason])


def test_an_answer_that_asks_for_functions_says_so() -> None:
    response = decode_response(answer({"functionCall": {"name": "look"}}))
    assert (response.messages[0].finish_reason, response.finish_reasons) == ("tool_calls", ["STOP"])


def test_a_prompt_that_is_blocked_has_an_answer_without_words() -> None:
    response = decode_response({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}})
    assert response.messages == [Message("assistant", [], None, "content_filter")]
    assert (response.finish_reasons, response.parameters) == ([], {"block_reason": "SAFETY"})
    assert gemini_generate_content.is_whole({"promptFeedback": {"blockReason": "SAFETY"}})


def test_usage_counts_what_the_bill_counts() -> None:
    counts = {
        "promptTokenCount": 10,
        "toolUsePromptTokenCount": 5,
        "candidatesTokenCount": 7,
        "thoughtsTokenCount": 3,
        "cachedContentTokenCount": 4,
        "totalTokenCount": 25,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 8}, {"modality": "AUDIO", "tokenCount": 2}],
        "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 6}],
    }
    body = answer({"text": "hi"}, usageMetadata=counts)
    read = decode_response(body)
    assert read.usage == Usage(15, 10, 25, 4, None, 3, 2, 6)
    other = replace(read, usage=Usage(17, 12, 29, 4, None, 3, 2, 6))
    written = encode_response(other, body)
    assert (written["usageMetadata"]["promptTokenCount"], written["usageMetadata"]["candidatesTokenCount"]) == (12, 9)
    assert decode_response(written) == other


def test_log_probabilities_and_token_ids_are_kept() -> None:
    chosen = [{"token": "h", "tokenId": 5, "logProbability": -0.5}, {"token": "i", "tokenId": 6, "logProbability": -1}]
    body = answer({"text": "hi"})
    body["candidates"][0]["logprobsResult"] = {"chosenCandidates": chosen}
    tokens = decode_response(body).tokens
    assert tokens is not None
    assert (tokens.completion_ids, tokens.logprobs) == ([5, 6], [-0.5, -1.0])


def test_an_error_body_is_an_error() -> None:
    error = decode_response({"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}}).error
    assert error is not None
    assert (error.type, error.code, error.status_code) == ("RESOURCE_EXHAUSTED", "429", 429)


def test_an_answer_is_made_of_a_record() -> None:
    parts = [Reasoning("hm"), Text("hi"), ToolCall(None, "look", {"at": 1})]
    made = encode_response(ModelResponse(model="m", messages=[Message("assistant", [*parts])]))
    assert made["candidates"] == [
        {
            "content": {
                "role": "model",
                "parts": [
                    {"text": "hm", "thought": True},
                    {"text": "hi"},
                    {"functionCall": {"name": "look", "args": {"at": 1}}},
                ],
            },
            "finishReason": "STOP",
            "index": 0,
        }
    ]
    assert (
        decode_response(added(*gemini_generate_content.stream_events(made))).messages == decode_response(made).messages
    )


# --- streams ---


def piece(*parts: Any, **more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": list(parts), "role": "model"}, "index": 0, **more}]}


def test_texts_in_pieces_are_one_and_thoughts_another() -> None:
    found = parts_of(
        piece({"text": "h", "thought": True}),
        piece({"text": "m", "thought": True}),
        piece({"text": "a", "thoughtSignature": "c2ln"}),
        piece({"text": "b"}),
        piece({"text": ""}, finishReason="STOP"),
    )
    assert found == [{"text": "hm", "thought": True}, {"text": "ab", "thoughtSignature": "c2ln"}]


def test_a_signature_that_comes_last_is_that_of_the_text_before() -> None:
    assert parts_of(piece({"text": "a"}), piece({"text": "", "thoughtSignature": "s"})) == [
        {"text": "a", "thoughtSignature": "s"}
    ]


def test_the_arguments_of_a_function_call_that_are_streamed_are_put_together() -> None:
    def call(**fields: Any) -> dict[str, Any]:
        return piece({"functionCall": fields})

    found = parts_of(
        call(name="book", id="1", willContinue=True),
        call(partialArgs=[{"jsonPath": "$.city", "stringValue": "Os", "willContinue": True}], willContinue=True),
        call(partialArgs=[{"jsonPath": "$.city", "stringValue": "lo"}], willContinue=True),
        call(partialArgs=[{"jsonPath": "$.guests[1].age", "numberValue": 7}], willContinue=True),
        call(),
        call(name="other", args={"a": 1}),
    )
    assert found == [
        {"functionCall": {"name": "book", "id": "1", "args": {"city": "Oslo", "guests": [None, {"age": 7}]}}},
        {"functionCall": {"name": "other", "args": {"a": 1}}},
    ]


def test_the_last_word_on_usage_counts_and_candidates_are_told_apart() -> None:
    first = {
        "candidates": [{"index": 1, "content": {"parts": [{"text": "b"}]}}],
        "usageMetadata": {"promptTokenCount": 9},
    }
    last = {
        "candidates": [{"index": 0, "content": {"parts": [{"text": "a"}]}}],
        "usageMetadata": {"totalTokenCount": 3},
    }
    body = added(first, last)
    assert [message.text for message in decode_response(body).messages] == ["a", "b"]
    assert body["usageMetadata"] == {"totalTokenCount": 3}
    assert not gemini_generate_content.is_whole(body)


# --- requests that policy changes ---


def test_a_changed_text_keeps_its_signature_and_a_changed_result_its_key() -> None:
    wire = {
        "contents": [
            {"role": "model", "parts": [{"text": "secret", "thoughtSignature": "s"}]},
            {
                "role": "user",
                "parts": [{"functionResponse": {"id": "1", "name": "f", "response": {"output": "secret"}}}],
            },
        ]
    }
    request = decode_request(wire)
    messages = [Message("assistant", [Text("***")]), Message("tool", [ToolCallResponse("1", "***", "f")])]
    assert encode_request(replace(request, messages=messages), wire)["contents"] == [
        {"role": "model", "parts": [{"text": "***", "thoughtSignature": "s"}]},
        {"role": "user", "parts": [{"functionResponse": {"id": "1", "name": "f", "response": {"output": "***"}}}]},
    ]


@pytest.mark.parametrize(
    "message",
    [
        Message("system", [Text("hi")]),
        Message("user", [Media("image", None, None, None, "file-1")]),
        Message("tool", [ToolCallResponse("1", "blue")]),
        Message("assistant", [ToolCall("1", "look", "not JSON")]),
        Message("assistant", [ToolCall("1", "google_search", {}, True)]),
    ],
    ids=[
        "a role",
        "a file's id",
        "a result without a name",
        "arguments that are no object",
        "a call of the provider's",
    ],
)
def test_what_gemini_has_no_form_for_is_refused(message: Message) -> None:
    with pytest.raises(CodecError):
        encode_request(ModelRequest(messages=[message]), {"contents": []})


def test_a_parameter_that_is_said_in_both_spellings_is_said_once() -> None:
    generation = {"maxOutputTokens": 64, "max_output_tokens": 9000}
    wire = {"model": "m", "contents": [], "generationConfig": generation}
    single = gemini_generate_content.single_parameters(wire, ["max_tokens"])
    assert single["generationConfig"] == {"maxOutputTokens": 64}
    assert gemini_generate_content.single_parameters(single, ["max_tokens"]) is single


def test_what_holds_parameters_in_both_spellings_is_read_as_one_and_written_as_one() -> None:
    wire = {
        "model": "m",
        "contents": [],
        "generationConfig": {"temperature": 1},
        "generation_config": {"max_output_tokens": 9000},
    }
    request = gemini_generate_content.decode_request(wire)
    assert request.parameters == {"temperature": 1, "max_tokens": 9000}
    assert gemini_generate_content.encode_request(request, wire) == wire
    small = replace(request, parameters={"temperature": 1, "max_tokens": 64})
    written = gemini_generate_content.encode_request(small, wire)
    assert written["generationConfig"] == {"temperature": 1, "max_output_tokens": 64}
    assert "generation_config" not in written
    single = gemini_generate_content.single_parameters(wire, ["max_tokens"])
    assert single == {**written, "generationConfig": {"temperature": 1, "max_output_tokens": 9000}}


def test_tools_and_models_in_the_other_spelling_of_what_is_there_are_seen_too() -> None:
    calling = {"mode": "ANY", "allowedFunctionNames": ["tide"], "allowed_function_names": ["rm"]}
    config = {"functionCallingConfig": calling, "function_calling_config": {"allowed_function_names": ["rm"]}}
    tools = [{"functionDeclarations": [{"name": "tide"}]}]
    wire = {"model": "m", "contents": [], "tools": tools, "toolConfig": config}
    left = gemini_generate_content.sift_tools(wire, lambda offer: offer.names[0] != "rm")
    assert left["toolConfig"] == {
        "functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["tide"]},
        "function_calling_config": {"mode": "NONE"},
    }
    routed = {
        "generationConfig": {"routingConfig": {"manualMode": {"modelName": "one"}}},
        "generation_config": {"routing_config": {"manual_mode": {"model_name": "two"}}},
    }
    assert list(gemini_generate_content.models_beside(routed)) == ["one", "two"]
