"""Provider keys never survive, and nothing else changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanrelay.telemetry.masking import MASK, mask_bytes, mask_text

KEYS = [
    "sk-" + "a1B2" * 8,
    "sk-proj-" + "a1_B2-" * 8,
    "AIza" + "a1B2" * 9,
    "AKIA" + "A1B2" * 4,
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


@pytest.mark.parametrize("text", ["", "plain", "a risk-averse key = value", "sk-short", "the bearer of news", "AKIA"])
def test_what_is_no_key_stays_the_same_object(text: str) -> None:
    assert mask_text(text) is text
