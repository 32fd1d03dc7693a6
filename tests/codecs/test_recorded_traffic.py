"""Every recorded exchange reads as its neutral ground truth says."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from tests.shared_data import exchanges, needs_shared

from spanrelay._json import loads_or_text
from spanrelay.codecs import (
    anthropic_messages,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_responses,
    sse,
)
from spanrelay.records import Message, ModelResponse, Opaque, Reasoning, ToolCall

CODECS: dict[str, ModuleType] = {
    "chat_completions": openai_chat,
    "responses": openai_responses,
    "embeddings": openai_embeddings,
    "completions": openai_completions,
    "messages": anthropic_messages,
}
FOREIGN_EMBEDDINGS = {"cohere", "google", "voyageai"}
CASES = [
    exchange
    for api in CODECS
    for exchange in exchanges(f"*_{api}.jsonl")
    if exchange["api"] == api and not (api == "embeddings" and exchange["provider"] in FOREIGN_EMBEDDINGS)
]
USAGE = {
    "input_tokens_total": "input_tokens",
    "output_tokens": "output_tokens",
    "total_tokens": "total_tokens",
    "cached_input_tokens": "cache_read_tokens",
    "cache_creation_input_tokens": "cache_write_tokens",
    "reasoning_tokens": "reasoning_tokens",
}

pytestmark = needs_shared


def body_of(exchange: dict[str, Any], codec: ModuleType) -> dict[str, Any]:
    """The body, added up from its stream where the answer was streamed."""
    body = exchange["response"]["body"]
    if not isinstance(body, str):
        return body
    accumulator = codec.accumulator()
    for event in sse.events(body.encode()):
        accumulator.add(event)
    return accumulator.result()


def reasoning_of(message: Message) -> str:
    return "".join(part.text for part in message.parts if isinstance(part, Reasoning))


def refusal_of(message: Message) -> str:
    refusals = [part.data for part in message.parts if isinstance(part, Opaque) and part.type == "refusal"]
    return "".join(refusal["refusal"] for refusal in refusals)


def calls_of(message: Message, server: bool) -> list[ToolCall]:
    return [call for call in message.tool_calls if call.server is server]


def expected_calls(truth: dict[str, Any]) -> list[tuple[str | None, str, Any]]:
    # A server of Snowflake sends a nameless call with every message: that is no call.
    return [(call["id"], call["name"], given_in(call)) for call in truth["tool_calls"] if call["name"]]


def given_in(call: dict[str, Any]) -> Any:
    """The arguments, which some APIs have as text."""
    if call["arguments_raw"] is None and call["arguments"] is not None:
        return call["arguments"]
    return loads_or_text(call["arguments_raw"]) if call["arguments_raw"] else ""


def check_choice(message: Message, truth: dict[str, Any]) -> None:
    assert message.text == truth["text"]
    # The truth runs paragraphs of a summary together.
    assert reasoning_of(message).replace("\n", "") == truth["reasoning_text"].replace("\n", "")
    assert refusal_of(message) == (truth["refusal"] or "")
    found = [(call.id, call.name, call.arguments) for call in calls_of(message, server=False)]
    assert found == expected_calls(truth)


def check_error(response: ModelResponse, truth: dict[str, Any]) -> None:
    error = truth["error"]
    assert (response.error is None) == (error is None)
    if error is not None and response.error is not None:
        assert response.error.message == error["message"]
        assert error["type"] in (None, response.error.type)
        assert response.error.code == (None if error["code"] is None else str(error["code"]))


def is_result(call: dict[str, Any]) -> bool:
    return call["type"].endswith("_tool_result")


@pytest.mark.parametrize("exchange", CASES, ids=lambda exchange: exchange["id"])
def test_response_reads_as_its_ground_truth(exchange: dict[str, Any]) -> None:
    codec, truth = CODECS[exchange["api"]], exchange["truth"]
    response: ModelResponse = codec.decode_response(body_of(exchange, codec))
    assert response.id == truth["response_id"]
    assert response.model == truth["response_model"]
    for name, field in USAGE.items():
        # The truth does not know Together's place for cached tokens.
        expected = (truth["usage_raw"] or {}).get("cached_tokens") if name == "cached_input_tokens" else None
        assert getattr(response.usage, field, None) == (truth[name] if expected is None else expected), name
    if exchange["api"] != "responses":
        assert response.finish_reasons == [reason for reason in truth["finish_reasons"] if reason is not None]
    check_error(response, truth)
    for message, expected in zip(response.messages, truth["choices"] or [truth], strict=False):
        check_choice(message, expected)
    if response.messages:
        server_calls = [(call.type, call.id) for call in calls_of(response.messages[0], server=True)]
        assert server_calls == [
            (call["type"], call["id"]) for call in truth["server_tool_calls"] if not is_result(call)
        ]
    assert response.parameters.get("embedding_count") == truth.get("embedding_count")
    assert response.parameters.get("embedding_dimensions") == truth.get("embedding_dimensions")


@pytest.mark.parametrize("exchange", CASES, ids=lambda exchange: exchange["id"])
def test_request_reads_and_writes_without_loss(exchange: dict[str, Any]) -> None:
    codec, wire = CODECS[exchange["api"]], exchange["request"]["body"]
    request = codec.decode_request(wire)
    if "model" in wire:
        assert request.model == exchange["truth"]["request_model"]
    assert request.stream == bool(wire.get("stream"))
    written = codec.encode_request(request, wire)
    assert written == wire
    assert list(written) == list(wire)
    assert all(written[key] is wire[key] for key in wire)


@pytest.mark.parametrize("exchange", CASES, ids=lambda exchange: exchange["id"])
def test_response_writes_without_loss_and_streams_to_the_same_record(exchange: dict[str, Any]) -> None:
    codec = CODECS[exchange["api"]]
    body = body_of(exchange, codec)
    response = codec.decode_response(body)
    assert codec.encode_response(response, body) == body
    accumulator = codec.accumulator()
    for event in sse.events(b"".join(map(sse.frame, codec.stream_events(body)))):
        accumulator.add(event)
    assert codec.decode_response(accumulator.result()) == response
