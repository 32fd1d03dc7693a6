"""Provider keys never survive, and nothing else changes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanrelay.telemetry.masking import MASK, mask_bytes, mask_text, mask_value, mask_values

KEYS = [
    "sk-" + "a1B2" * 8,
    "sk-proj-" + "a1_B2-" * 8,
    "AIza" + "a1B2" * 9,
    "AIza" + "a1B2" * 5,
    "AKIA" + "A1B2" * 4,
    "ASIA" + "A1B2" * 4,
    "Bearer " + "a1B2" * 8,
    "bearer " + "a1B2" * 8,
    "?key=" + "a1B2" * 8,
]


@pytest.mark.parametrize("key", KEYS)
def test_each_kind_of_key_is_masked_in_text_and_bytes(key: str) -> None:
    secret = key.removeprefix("?key=").split(" ")[-1]
    text = f'{{"a": "before {key} after"}}'
    assert secret not in mask_text(text)
    assert MASK in mask_text(text)
    assert mask_bytes(text.encode()) == mask_text(text).encode()


@given(st.text(), st.sampled_from(KEYS), st.text())
def test_a_key_is_masked_wherever_it_stands(before: str, key: str, after: str) -> None:
    secret = key.removeprefix("?key=").split(" ")[-1]
    assert secret not in mask_text(f"{before} {key} {after}")


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("before", ["\n", "\t", "\r", "\x1b", "\x00", '"', "\\", " "])
def test_a_key_is_masked_behind_whatever_json_escapes(key: str, before: str) -> None:
    secret = key.removeprefix("?key=").split(" ")[-1]
    for text in (json.dumps({"a": f"one{before}{key}"}), json.dumps(json.dumps([f"one{before}{key}"]))):
        assert secret not in mask_text(text)
        assert secret.encode() not in mask_bytes(text.encode())


@pytest.mark.parametrize("wrap", [lambda key: key, lambda key: [1, key], lambda key: ("a", key)])
def test_keys_are_masked_in_values_of_every_shape(wrap: Any) -> None:
    value, masked = wrap(KEYS[0]), wrap(MASK)
    assert mask_value(value) == masked
    assert mask_value({"outer": [{"inner": value}, None, 1.5]}) == {"outer": [{"inner": masked}, None, 1.5]}
    assert value == wrap(KEYS[0])


@pytest.mark.parametrize("value", ["plain", 7, None, True, b"bytes", ["a", "b"], ("a", 1), {"a": {"b": ["c"]}}, []])
def test_a_value_without_keys_stays_the_same_object(value: Any) -> None:
    assert mask_value(value) is value


def test_objects_are_masked_value_by_value() -> None:
    assert mask_values({"a": [KEYS[0]], "b": 1}) == {"a": [MASK], "b": 1}
    assert mask_values(plain := {"a": ["x"], "b": 1}) == plain


def test_bytes_are_masked_as_text_is() -> None:
    assert mask_value({"raw": KEYS[0].encode()}) == {"raw": MASK.encode()}


@pytest.mark.parametrize(
    "text", ["", "plain", "a risk-averse key = value", "sk-short", "the bearer of news", "AKIA", "task-" + "a" * 20]
)
def test_what_is_no_key_stays_the_same_object(text: str) -> None:
    assert mask_text(text) is text
