"""What frameworks have at hand of a model call becomes messages, whatever it is."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from spanrelay.records import SpanRecord
from spanrelay.semconv.messages import read_definitions, read_messages
from spanrelay.semconv.wrappings import answer_in, request_in, tools_in

WORDS = st.sampled_from(
    [
        "messages",
        "input",
        "contents",
        "choices",
        "generations",
        "output",
        "message",
        "content",
        "parts",
        "role",
        "type",
        "tool_calls",
        "function",
        "name",
        "arguments",
        "args",
        "lc",
        "id",
        "kwargs",
        "data",
        "text",
        "generation_info",
    ]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | WORDS
LEAVES |= st.sampled_from(
    ("tool", "assistant", "function_call", "function_call_output", "reasoning", "ai", "constructor")
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4), max_leaves=12
)


@given(VALUES)
def test_whatever_is_wrapped_becomes_messages_of_which_each_is_read(value: Any) -> None:
    for written in (json.dumps(value), value):
        for read in (request_in, answer_in):
            messages = json.loads(read(written))
            assert all(isinstance(message, dict) for message in messages)
            assert len(read_messages(messages, SpanRecord(1, 2))) == len(messages)
        read_definitions(tools_in(written), SpanRecord(1, 2))


def test_a_batch_of_messages_is_its_first() -> None:
    one = {"role": "user", "content": "look"}
    assert json.loads(request_in([[one], [{"role": "user", "content": "another"}]])) == [one]


def test_the_items_of_a_response_are_one_answer_with_its_finish_reason_elsewhere() -> None:
    items = [
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "there"}]},
        {"type": "function_call", "call_id": "call_1", "name": "search", "arguments": "{}"},
    ]
    (answer,) = read_messages(answer_in({"output": items}), SpanRecord(1, 2))
    assert (answer.text, [call.id for call in answer.tool_calls]) == ("there", ["call_1"])


def test_an_answer_of_googles_api_is_read() -> None:
    (answer,) = read_messages(answer_in({"content": {"role": "model", "parts": [{"text": "hi"}]}}), SpanRecord(1, 2))
    assert (answer.role, answer.text) == ("assistant", "hi")
