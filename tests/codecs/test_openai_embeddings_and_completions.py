"""What the small codecs of the OpenAI family keep and change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from openai.types import Completion

from spanrelay.codecs import openai_completions, openai_embeddings
from spanrelay.errors import CodecError
from spanrelay.records import Message, ModelResponse, Opaque, Text, ToolCall, Usage


@pytest.mark.parametrize(
    ("value", "messages"),
    [
        ("one", [Message("user", [Text("one")])]),
        (["one", "two"], [Message("user", [Text("one")]), Message("user", [Text("two")])]),
        ([1, 2], [Message("user", [Opaque("tokens", [1, 2])])]),
        ([[1], [2]], [Message("user", [Opaque("tokens", [1])]), Message("user", [Opaque("tokens", [2])])]),
    ],
)
def test_every_input_of_an_embedding_is_one_user_message(value: Any, messages: list[Message]) -> None:
    wire = {"model": "m", "input": value, "encoding_format": "base64", "dimensions": 8}
    request = openai_embeddings.decode_request(wire)
    assert request.messages == messages
    assert request.parameters == {"encoding_formats": ["base64"], "dimensions": 8}
    changed = replace(request, messages=[Message("user", [Text("new")]), *messages[1:]])
    written = openai_embeddings.encode_request(changed, wire)
    assert openai_embeddings.decode_request(written) == changed
    assert isinstance(written["input"], list) == (isinstance(value, list) and value != [1, 2])


@pytest.mark.parametrize(("vector", "length"), [([0.5] * 3, 3), ("AAAAAAAAAAA=", 2), ("AAAAAA==", 1), (None, None)])
def test_vectors_are_measured_and_not_read(vector: Any, length: int | None) -> None:
    body = {"data": [{"embedding": vector}] * 2, "usage": {"prompt_tokens": 4, "total_tokens": 4}}
    response = openai_embeddings.decode_response(body)
    assert response.parameters["embedding_count"] == 2
    assert response.parameters.get("embedding_dimensions") == length
    assert response.usage == Usage(4, None, 4)


def test_an_embedding_cannot_be_made_up() -> None:
    with pytest.raises(CodecError, match="no vectors"):
        openai_embeddings.encode_response(ModelResponse())


def test_a_changed_prompt_stays_in_its_list() -> None:
    wire = {"model": "m", "prompt": ["a", "b"], "stop": "x"}
    request = openai_completions.decode_request(wire)
    written = openai_completions.encode_request(
        replace(request, messages=[Message("user", [Text("new")]), request.messages[1]]), wire
    )
    assert written == {"model": "m", "prompt": ["new", "b"], "stop": "x"}


def test_completion_chunks_add_up_by_choice() -> None:
    accumulator = openai_completions.accumulator()
    for index, text in [(0, "a"), (1, "x"), (0, "b")]:
        accumulator.add({"id": "c", "choices": [{"index": index, "text": text, "finish_reason": None}]})
    accumulator.add({"id": "c", "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]})
    response = openai_completions.decode_response(accumulator.result())
    assert [message.text for message in response.messages] == ["ab", "x"]
    assert response.finish_reasons == ["stop"]


def test_a_completion_from_a_bare_record_is_one_the_sdk_takes() -> None:
    record = ModelResponse(model="m", messages=[Message("assistant", [Text("hi")])], usage=Usage(1, 2, 3))
    body = openai_completions.encode_response(record)
    assert Completion.model_validate(body).choices[0].text == "hi"
    with pytest.raises(CodecError, match="ToolCall"):
        openai_completions.encode_response(replace(record, messages=[Message("assistant", [ToolCall("1", "f")])]))
