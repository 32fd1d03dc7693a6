"""Chat as those have it who do not know every key of OpenAI's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from spanrelay.codecs import openai_chat
from spanrelay.codecs.chat_dialects import capped_chat, chat_of, mistral_chat

ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("codec", "written"),
    [
        (openai_chat, {"max_completion_tokens": 10, "seed": 7}),
        (capped_chat, {"max_tokens": 10, "seed": 7}),
        (mistral_chat, {"max_tokens": 10, "random_seed": 7}),
    ],
    ids=["OpenAI", "Together and Perplexity", "Mistral and Writer"],
)
def test_what_policy_sets_has_the_keys_that_are_known_there(codec: Any, written: dict[str, Any]) -> None:
    asked = replace(codec.decode_request(ASKED), parameters={"max_tokens": 10, "seed": 7})
    assert codec.encode_request(asked, ASKED) == {**ASKED, **written}


@pytest.mark.parametrize(
    ("provider", "model", "codec"),
    [
        ("openai", "my-own", openai_chat),
        ("azure.ai.openai", "my-deployment", openai_chat),
        ("mistral_ai", "mistral-large", mistral_chat),
        ("deepseek", "deepseek-chat", capped_chat),
        ("openrouter", "openai/gpt-5", openai_chat),
        ("openrouter", "openai/gpt-oss-120b", capped_chat),
        (None, "o4-mini", openai_chat),
        (None, "us.openai.gpt-5", openai_chat),
        (None, "gpt-oss:20b", capped_chat),
        (None, "llama3.2", capped_chat),
        (None, "o1abc", capped_chat),
        (None, None, capped_chat),
    ],
)
def test_who_answers_and_which_model_say_which_keys_are_known(
    provider: str | None, model: str | None, codec: Any
) -> None:
    assert chat_of(provider, model) is codec


@pytest.mark.parametrize("codec", [capped_chat, mistral_chat], ids=["capped", "mistral"])
def test_a_key_that_a_request_has_is_the_one_that_is_changed(codec: Any) -> None:
    wire = {**ASKED, "max_completion_tokens": 90}
    asked = replace(codec.decode_request(wire), parameters={"max_tokens": 10})
    assert codec.encode_request(asked, wire) == {**ASKED, "max_completion_tokens": 10}
