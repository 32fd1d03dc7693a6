"""Targets are JSON pointers as RFC 6901 defines them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanrelay.errors import ConfigurationError
from spanrelay.plugins.pii import Redactor, Rule
from spanrelay.plugins.pii.pointers import index_of, parse_pointer

DOCUMENT = {
    "foo": ["bar", "baz"],
    "": "s0",
    "a/b": "s1",
    "c%d": "s2",
    "e^f": "s3",
    "g|h": "s4",
    "i\\j": "s5",
    'k"l': "s6",
    " ": "s7",
    "m~n": "s8",
}
"""The document of the RFC's section 5."""


def hidden(value: Any, *targets: str) -> Any:
    return Redactor([Rule("redact", targets=targets, replacement="X")]).redact(value)


@pytest.mark.parametrize(
    ("pointer", "key"),
    [
        ("/", ""),
        ("/a~1b", "a/b"),
        ("/c%d", "c%d"),
        ("/e^f", "e^f"),
        ("/g|h", "g|h"),
        ("/i\\j", "i\\j"),
        ('/k"l', 'k"l'),
        ("/ ", " "),
        ("/m~0n", "m~n"),
    ],
)
def test_a_pointer_of_the_rfc_hides_its_member_alone(pointer: str, key: str) -> None:
    assert hidden(DOCUMENT, pointer) == {**DOCUMENT, key: "X"}


def test_a_pointer_into_an_array_hides_one_item_and_one_to_it_hides_all() -> None:
    assert hidden(DOCUMENT, "/foo/0") == {**DOCUMENT, "foo": ["X", "baz"]}
    assert hidden(DOCUMENT, "/foo") == {**DOCUMENT, "foo": ["X", "X"]}


def test_the_empty_pointer_is_the_whole_document() -> None:
    assert hidden({"a": ["b", {"c": "d"}], "n": 1}, "") == {"a": ["X", {"c": "X"}], "n": 1}


@pytest.mark.parametrize(
    "pointer", ["/nope", "/foo/2", "/foo/-", "/foo/00", "/foo/01", "/foo/-1", "/foo/x", "/foo/0/x"]
)
def test_a_pointer_that_leads_nowhere_changes_nothing(pointer: str) -> None:
    assert hidden(DOCUMENT, pointer) is DOCUMENT


@pytest.mark.parametrize("pointer", ["a", "a/b", "/~", "/~2", "/a~", "#/a"])
def test_what_is_no_pointer_is_refused(pointer: str) -> None:
    with pytest.raises(ConfigurationError, match="JSON pointer"):
        parse_pointer(pointer)


def test_the_escape_of_a_tilde_is_read_last() -> None:
    assert parse_pointer("/~01") == ("~1",)


@given(st.lists(st.text(max_size=5), min_size=1, max_size=4))
def test_every_path_of_keys_has_a_pointer_that_leads_to_it(keys: list[str]) -> None:
    value: Any = "secret"
    for key in reversed(keys):
        value = {key: value, key + "other": "kept"}
    pointer = "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in keys)
    expected = json.dumps(value).replace('"secret"', '"X"')
    assert json.dumps(hidden(value, pointer)) == expected


def test_an_index_has_no_sign_no_zero_in_front_and_no_foreign_digits() -> None:
    assert [index_of(token, 12) for token in ("0", "7", "10", "12", "-", "+1", "07", "٣", "9" * 5000)] == [
        0,
        7,
        10,
        *[None] * 6,
    ]


def test_several_targets_are_found_in_the_value_as_it_was_given() -> None:
    value = {"a": ["x", "y", "z"], "b": "w"}
    rule = Rule("remove", targets=("/a/0", "/a/1", "/b"))
    assert Redactor([rule]).redact(value) == {"a": [None, None, "z"]}


def test_a_removed_container_goes_as_a_whole() -> None:
    value = {"user": {"id": 7, "name": "Bob"}, "text": "hi"}
    assert Redactor([Rule("remove", targets=("/user",))]).redact(value) == {"text": "hi"}
    assert Redactor([Rule("remove", targets=("",))]).redact(value) is None


def test_a_target_inside_the_json_of_a_string_is_found() -> None:
    value = {"arguments": '{"user": {"name": "Bob", "age": 7}}'}
    assert hidden(value, "/arguments/user/name") == {"arguments": '{"user": {"name": "X", "age": 7}}'}
    assert Redactor([Rule("remove", targets=("/arguments/user",))]).redact(value) == {"arguments": "{}"}


def test_a_number_that_is_pointed_at_is_hidden() -> None:
    value = {"ssn": 123456789, "other": 123456789}
    assert Redactor([Rule("mask", targets=("/ssn",), unmasked_suffix=4)]).redact(value) == {
        "ssn": "*****6789",
        "other": 123456789,
    }


def test_a_detector_with_targets_looks_nowhere_else() -> None:
    value = {"to": ["a@x.org"], "cc": "b@x.org"}
    assert Redactor([Rule("redact", detector="email", targets=("/to",))]).redact(value) == {
        "to": ["[REDACTED]"],
        "cc": "b@x.org",
    }


@pytest.mark.parametrize(
    "text", ['{"ssn":"a","ssn":"CANARY"}', '{"ssn":"CANARY","ssn":"a"}', '{"ssn":{"x":"CANARY"},"ssn":1}']
)
def test_a_target_means_each_member_of_that_name(text: str) -> None:
    assert "CANARY" not in hidden(text, "/ssn")
    assert "CANARY" not in hidden({"given": text}, "/given/ssn")


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"ssn":"CANARY',
        '{"ssn":"CANARY"} and so on',
        '\ufeff{"ssn":"CANARY"}',
        ' [{"ssn":"CANARY"',
        '{"ssn":CANARY}',
    ],
)
def test_json_that_is_none_any_more_is_redacted_as_a_whole_where_it_has_what_is_targeted(text: str) -> None:
    target = "/0/ssn" if "[" in text else "/ssn"
    for action in ("redact", "remove", "mask"):
        assert "CANARY" not in str(Redactor([Rule(action, targets=(target,))]).redact({"a": 1, "b": text}["b"]))
    assert hidden(text, "/other") is text
    assert hidden(f"plain text, {text}", "/ssn") == f"plain text, {text}"


def test_a_member_that_is_repeated_is_told_by_its_name() -> None:
    redactor = Redactor([Rule("redact", detector="api_key")])
    assert "correct horse" not in redactor.redact('{"password":"a b c d","password":"correct horse"}')
