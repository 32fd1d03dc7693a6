"""Chat as those have it who do not know every key of OpenAI's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from spanrelay.codecs import openai_chat
from spanrelay.codecs.chat_dialects import capped_chat, mistral_chat

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


@pytest.mark.parametrize("codec", [capped_chat, mistral_chat], ids=["capped", "mistral"])
def test_a_key_that_a_request_has_is_the_one_that_is_changed(codec: Any) -> None:
    wire = {**ASKED, "max_completion_tokens": 90}
    asked = replace(codec.decode_request(wire), parameters={"max_tokens": 10})
    assert codec.encode_request(asked, wire) == {**ASKED, "max_completion_tokens": 10}
