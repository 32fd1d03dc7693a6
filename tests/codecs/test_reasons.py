"""Policy says once why its answer ends; each API is told so in a word of its own."""

from __future__ import annotations

from typing import Any

import pytest

from spanrelay.codecs import anthropic_messages, bedrock_converse, cohere_v1, cohere_v2, openai_chat
from spanrelay.records import Message, ModelResponse, Text

WORDS: Any = {
    "anthropic": (anthropic_messages, "stop_reason", ("end_turn", "max_tokens", "tool_use", "refusal")),
    "converse": (bedrock_converse, "stopReason", ("end_turn", "max_tokens", "tool_use", "content_filtered")),
    "cohere v1": (cohere_v1, "finish_reason", ("COMPLETE", "MAX_TOKENS", "TOOL_CALL", "ERROR")),
    "cohere v2": (cohere_v2, "finish_reason", ("COMPLETE", "MAX_TOKENS", "TOOL_CALL", "ERROR")),
}
SAID = ("stop", "length", "tool_calls", "content_filter")


def answer(reason: str) -> ModelResponse:
    return ModelResponse(None, None, [Message("assistant", [Text("No.")], None, reason)], [reason])


@pytest.mark.parametrize(("codec", "key", "words"), WORDS.values(), ids=WORDS)
def test_a_reason_goes_out_in_the_words_of_the_api(codec: Any, key: str, words: tuple[str, ...]) -> None:
    made = [codec.encode_response(answer(reason)) for reason in SAID]
    assert tuple(body[key] for body in made) == words
    assert [codec.encode_response(answer(reason), made[-1])[key] for reason in SAID] == list(words)


@pytest.mark.parametrize(("codec", "key", "words"), WORDS.values(), ids=WORDS)
def test_a_word_of_the_api_goes_out_as_it_is(codec: Any, key: str, words: tuple[str, ...]) -> None:
    assert [codec.encode_response(answer(word))[key] for word in (*words, "NEW")] == [*words, "NEW"]


def test_a_reason_of_openai_is_its_own_word() -> None:
    for reason in SAID:
        assert openai_chat.encode_response(answer(reason))["choices"][0]["finish_reason"] == reason


@pytest.mark.parametrize(("codec", "key"), [(cohere_v1, "generation_id"), (cohere_v2, "id")], ids=["v1", "v2"])
def test_an_id_that_policy_gives_goes_out(codec: Any, key: str) -> None:
    response = answer("stop")
    response.id = "mine"
    assert codec.encode_response(response)[key] == "mine"
