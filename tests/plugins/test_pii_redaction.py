"""Nothing that a rule names survives anywhere in a value, and nothing else of the value changes."""

from __future__ import annotations

import copy
import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanrelay.errors import ConfigurationError
from spanrelay.plugins.pii import DETECTORS, Redactor, Rule, problems

EMAIL = "bob.smith+tag@mail.example.com"
KEY = "a key for tests only"


def apply(value: Any, *rules: Rule) -> Any:
    return Redactor(rules).redact(value)


# --- everywhere --------------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('@."\\{}[]:,a1 -_%+'), max_size=12)
planted = st.builds(lambda before, after: f"{before}{EMAIL}{after}", texts, texts)
strings = texts | planted
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | strings


def branches(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    as_text = st.builds(lambda value, ascii: json.dumps(value, ensure_ascii=ascii), inner, st.booleans())
    escaped = as_text.map(lambda text: text.replace("@", "\\u0040"))
    return st.lists(inner, max_size=4) | st.dictionaries(strings, inner, max_size=4) | as_text | escaped


values = st.recursive(scalars, branches, max_leaves=12)
emails = st.sampled_from(
    [
        Rule("redact", detector="email"),
        Rule("remove", detector="email"),
        Rule("mask", detector="email"),
        Rule("mask", detector="email", unmasked_suffix=4),
        Rule("hash", detector="email", key=KEY),
        Rule("regex_replace", detector="email", replacement="<email>"),
    ]
)


def strings_in(value: Any) -> Iterator[str]:
    """Every string of a value, its keys, and those of the JSON that strings hold."""
    if isinstance(value, str):
        yield value
        try:
            inner = json.loads(value)
        except ValueError:
            return
        if not isinstance(inner, (int, float)):
            yield from strings_in(inner)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from strings_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings_in(item)


@given(values, emails)
def test_no_planted_email_survives_anywhere(value: Any, rule: Rule) -> None:
    result = apply(value, rule)
    for text in strings_in(result):
        assert EMAIL not in text
        assert list(DETECTORS["email"].find(text)) == []


@given(values, emails)
def test_the_value_that_was_given_is_not_modified(value: Any, rule: Rule) -> None:
    before = copy.deepcopy(value)
    apply(value, rule)
    assert value == before


@given(values, emails)
def test_redacting_twice_is_redacting_once(value: Any, rule: Rule) -> None:
    once = apply(value, rule)
    assert apply(once, rule) is once


@given(values)
def test_what_holds_no_match_is_the_same_object(value: Any) -> None:
    if not any(list(DETECTORS["email"].find(text)) for text in strings_in(value)):
        assert apply(value, Rule("redact", detector="email")) is value


@pytest.mark.parametrize("detector", DETECTORS)
@given(value=values)
def test_no_detector_fails_on_any_value_or_finds_anything_twice(detector: str, value: Any) -> None:
    once = apply(value, Rule("redact", detector=detector))
    assert apply(once, Rule("redact", detector=detector)) is once


def test_keys_that_become_one_keep_all_their_values() -> None:
    value = {"a@x.org": 1, "b@x.org": 2, "c": 3}
    assert apply(value, Rule("redact", detector="email")) == {"[REDACTED]": 1, "[REDACTED]#2": 2, "c": 3}


def test_json_in_a_string_stays_json_and_keeps_its_numbers() -> None:
    text = '{"to": "a@x.org", "big": 123456789012345678901234567890, "f": 1.5, "n": null, "u": "é"}'
    result = apply({"arguments": text}, Rule("redact", detector="email"))["arguments"]
    assert result == text.replace("a@x.org", "[REDACTED]")


def test_json_in_a_string_in_json_in_a_string_is_looked_into() -> None:
    value = json.dumps({"a": json.dumps({"b": json.dumps(["c a\u0040x.org"])})})
    assert "x.org" not in apply(value, Rule("redact", detector="email"))


def test_a_name_that_json_in_a_string_repeats_hides_nothing() -> None:
    result = apply('{"k": "a\\u0040x.org", "k": "other"}', Rule("redact", detector="email"))
    assert json.loads(result) == {"k": "[REDACTED]", "k#2": "other"}


def test_what_is_nested_too_deep_to_be_looked_at_does_not_stay() -> None:
    value: Any = "a@x.org"
    for _ in range(300):
        value = [value]
    assert "x.org" not in json.dumps(apply(value, Rule("redact", detector="email")))
    assert "x.org" not in apply("[" * 100_000 + '"a@x.org"', Rule("redact", detector="email"))
    assert "x.org" not in apply("[" * 3000 + '"a\\u0040x.org"' + "]" * 3000, Rule("redact", detector="email"))


def test_what_is_no_json_is_taken_in_its_nearest_form() -> None:
    value = {1: ("a@x.org", b"b@x.org"), "s": {"c@x.org"}}
    assert apply(value, Rule("redact", detector="email")) == {"1": ["[REDACTED]"] * 2, "s": ["[REDACTED]"]}


# --- actions -----------------------------------------------------------------------------------------------


def test_a_hash_is_keyed_and_the_same_for_the_same_match() -> None:
    expected = hmac.new(KEY.encode(), b"a@x.org", hashlib.sha256).hexdigest()
    rule = Rule("hash", detector="email", key=KEY)
    assert apply(["from a@x.org", "a@x.org!"], rule) == [f"from {expected}", f"{expected}!"]
    assert apply("a@x.org", Rule("hash", detector="email", key="another key for tests")) != expected


def test_the_key_shows_in_no_repr() -> None:
    assert KEY not in repr(Rule("hash", detector="email", key=KEY))


def test_remove_takes_the_match_out_and_without_one_the_whole_member() -> None:
    assert apply("to a@x.org now", Rule("remove", detector="email")) == "to  now"
    value = {"keep": 1, "items": ["x", 2], "text": "y"}
    assert apply(value, Rule("remove")) == {"keep": 1, "items": [None, 2]}
    assert apply("z", Rule("remove")) is None


def test_a_mask_keeps_as_much_as_it_is_told_and_nothing_of_what_is_shorter() -> None:
    rule = Rule("mask", unmasked_prefix=2, unmasked_suffix=1, mask_char="#")
    assert apply(["abcdef", "abc", "ab", ""], rule) == ["ab###f", "###", "##", ""]


def test_several_rules_run_in_order() -> None:
    rules = [Rule("mask", detector="email"), Rule("redact", detector="ip_address"), Rule("mask", targets=("/name",))]
    value = {"name": "Bob", "text": "bob@example.com from 10.1.2.3"}
    assert apply(value, *rules) == {"name": "***", "text": "b**@example.com from [REDACTED]"}


# --- patterns ----------------------------------------------------------------------------------------------

re2 = pytest.importorskip("re2", reason="patterns of the user need google-re2")


def test_a_pattern_runs_in_linear_time() -> None:
    text = "a" * 30_000 + "!"
    assert apply(text, Rule("redact", pattern=r"^(a+)+$")) is text


def test_a_replacement_may_name_groups() -> None:
    rule = Rule("regex_replace", pattern=r"(?P<kind>id|no)-(\d+)", replacement=r"\g<kind>:\\\1")
    assert apply("é id-123, no-4", rule) == "é id:\\id, no:\\no"


def test_text_beyond_ascii_stands_on_either_side_of_a_pattern() -> None:
    rule = Rule("regex_replace", pattern=r"ü(\w|é)+", replacement=r"«\1…»")
    assert apply("ä übé, ü", rule) == "ä «é…», ü"
    assert apply("ä übé", Rule("mask", pattern="üb", mask_char="•")) == "ä ••é"


def test_a_group_that_took_no_part_is_empty() -> None:
    assert apply("b", Rule("regex_replace", pattern="(a)?b", replacement=r"<\1>")) == "<>"


def test_redact_takes_its_replacement_literally() -> None:
    assert apply("id-1", Rule("redact", pattern=r"id-(\d)", replacement=r"\1")) == r"\1"


def test_a_pattern_applies_to_keys_and_json_in_strings() -> None:
    value = {"EMP-1234": json.dumps({"who": "EMP-5678"})}
    assert "EMP" not in json.dumps(apply(value, Rule("hash", pattern=r"EMP-\d{4}", key=KEY)))


def test_a_pattern_bears_text_that_is_no_unicode() -> None:
    assert apply("\ud800 EMP-1", Rule("redact", pattern=r"EMP-\d")) == "\ufffd [REDACTED]"


# --- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "field", "words"),
    [
        (Rule("erase", detector="email"), "action", "expected one of remove"),  # type: ignore[arg-type]
        (Rule("redact", detector="mail"), "detector", "expected one of email"),
        (Rule("redact"), "detector", "give a detector, a pattern or targets"),
        (Rule("regex_replace", targets=("/a",)), "pattern", "give a pattern or a detector"),
        (Rule("redact", detector="email", pattern="x"), "pattern", "keep one"),
        (Rule("redact", pattern="("), "pattern", "missing )"),
        (Rule("redact", pattern=r"(?=x)y"), "pattern", "no lookaround"),
        (Rule("redact", pattern="x*"), "pattern", "at least one character"),
        (Rule("regex_replace", pattern="(x)", replacement=r"\2"), "replacement", "not a group"),
        (Rule("regex_replace", pattern="(x)", replacement=r"\g<a>"), "replacement", "not a group"),
        (Rule("regex_replace", pattern="(x)", replacement="\\"), "replacement", "not a group"),
        (Rule("redact", detector="email", replacement="no@reply.org"), "replacement", "itself a match"),
        (Rule("hash", detector="email"), "key", "16 bytes"),
        (Rule("hash", detector="email", key="short"), "key", "16 bytes"),
        (Rule("mask", mask_char="**"), "mask_char", "one printable character"),
        (Rule("mask", mask_char="0"), "mask_char", "not a digit"),
        (Rule("mask", unmasked_prefix=-1), "unmasked_prefix", "0 or more"),
        (Rule("mask", targets=("a",)), "targets", "must start with '/'"),
    ],
)
def test_a_rule_that_cannot_hold_is_refused_with_its_field_and_a_remedy(rule: Rule, field: str, words: str) -> None:
    found = list(problems(rule))
    assert [problem.field for problem in found] == [field]
    assert words in f"{found[0].message}: {found[0].remedy}"
    with pytest.raises(ConfigurationError, match=field):
        Redactor([rule])


def test_without_the_engine_a_pattern_is_refused_and_the_extra_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "re2", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'spanrelay\[pii\]'"):
        Redactor([Rule("redact", pattern="x+")])
