"""What becomes of objects that JSON has no form for, and of numbers that its readers cut."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from spanrelay import _json


@pytest.mark.parametrize("number", [0, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63) - 1, 2**70, 10**300])
@pytest.mark.parametrize("shape", ["{}", "[{}]", '{{"a": {{"b": [1.5, {}, "x"]}}}}'])
def test_an_integer_keeps_all_its_digits(number: int, shape: str) -> None:
    text = shape.format(number)
    for read in (_json.loads, _json.loads_strict, _json.loads_or_text):
        assert read(text) == json.loads(text)
    assert _json.loads(_json.dumps(json.loads(text))) == json.loads(text)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_an_integer_is_read_whole_from_any_kind_of_bytes(kind: Any) -> None:
    assert _json.loads(kind(b"[12345678901234567890123]")) == [12345678901234567890123]


def test_digits_in_a_text_stay_a_text() -> None:
    assert _json.loads_or_text('"12345678901234567890123"') == "12345678901234567890123"


def test_a_number_that_python_does_not_write_out_is_described() -> None:
    assert _json.loads(_json.dumps({"n": 1 << 100_000, "m": 2**64})) == {"n": "<int>", "m": 2**64}


def test_a_number_of_more_digits_than_python_reads_is_no_json() -> None:
    text = "[" + "1" * 10_000 + "]"
    assert _json.loads_or_text(text) is text
    assert _json.loads_object(text.encode()) == {}


def test_bytes_are_text_where_they_can_be_and_else_base64() -> None:
    @dataclasses.dataclass
    class Picture:
        data: bytes
        media_type: str = "image/png"

    assert json.loads(_json.dumps(Picture(b"\x89PNG\xff"))) == {"data": "iVBOR/8=", "media_type": "image/png"}
    assert json.loads(_json.dumps({"a": b"caf\xc3\xa9", "b": [memoryview(b"\xff")]})) == {"a": "café", "b": ["/w=="]}
