"""Each detector finds what it names wherever it stands, nothing like it in ordinary text, and is never slow."""

import json

import pytest

from spanrelay.plugins.pii import DETECTORS, Redactor, Rule

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcdefghijk"
KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
AZURE = "a1B2c3" * 14 + "ab=="

MASKED = [
    ("email", "bob@example.com", "b**@example.com"),
    ("email", "b@example.com", "*@example.com"),
    ("email", "a.b+c@mail.example.co.uk", "a****@mail.example.co.uk"),
    ("email", "jörg@müller.de", "j***@müller.de"),
    ("phone", "415-555-1234", "***-***-1234"),
    ("phone", "(415) 555-1234", "***-***-1234"),
    ("phone", "+1 415 555 1234", "***-***-1234"),
    ("phone", "1-415-555-1234", "***-***-1234"),
    ("phone", "phone 4155551234", "phone ***-***-1234"),
    ("phone", "+49/30/1234567", "***-***-4567"),
    ("phone", "+49 30 1234567", "***-***-4567"),
    ("api_key", "sk-abcdefghijklmnopqrstuvwx1234", "sk-" + "*" * 24 + "1234"),
    ("api_key", "sk_" + "live_abcdefghij1234", "sk_live_" + "*" * 10 + "1234"),
    ("api_key", "ghp_" + "abcdefghij" * 2 + "1234", "ghp_" + "*" * 20 + "1234"),
    ("api_key", "api_key=secret-thing-5678", "api_key=" + "*" * 13 + "5678"),
    ("ip_address", "10.1.2.3", "***.***.***.3"),
    ("ipv6", "2001:db8::8a2e:370:7334", "****:****:****:7334"),
    ("ipv6", "::1", "****:****:****:1"),
    ("ipv6", "fe80:0:0:0:1:2:3:4", "****:****:****:4"),
    ("ipv6", "::ffff:10.1.2.3", "****:****:****:3"),
    ("url", "https://ex.com/a/b?c=d", "https://ex.com/*"),
    ("url", "postgres://user:word@db.ex.com:5432/x", "postgres://***@db.ex.com:5432/*"),
    ("uuid", "550e8400-e29b-41d4-a716-446655440000", "*" * 32 + "0000"),
    ("bearer_token", "Bearer abcdefghijkl1234", "Bearer " + "*" * 12 + "1234"),
    ("jwt", JWT, "eyJhbGciOiJIUzI1NiJ9." + "*" * 21 + "fghijk"),
    ("credit_card", "4111111111111111", "*" * 12 + "1111"),
    ("credit_card", "4111 1111 1111 1111", "**** **** **** 1111"),
    ("credit_card", "3782-822463-10005", "****-******-*0005"),
    ("aws_access_key_id", "AKIAIOSFODNN7EXAMPLE", "AKIA" + "*" * 12 + "MPLE"),
    ("aws_secret_access_key", f"secret {KEY}", "secret " + "*" * 36 + "EKEY"),
    ("iban", "DE89 3704 0044 0532 0130 00", "DE89" + "*" * 19 + "0 00"),
    ("us_ssn", "219-09-9999", "***-**-9999"),
    ("api_key", "password=hunter2", "password=*******"),
    ("gcp_api_key", "AIza" + "a1B2" * 8 + "abc", "AIzaa1" + "*" * 29 + "2abc"),
    ("azure_storage_account_key", f"Azure {AZURE}", "Azure " + "*" * 84 + "ab=="),
    ("azure_storage_account_key", f"AccountKey={AZURE}", "AccountKey=" + "*" * 84 + "ab=="),
]

INNOCENT = {
    "email": ["a @ b", "user@host", "@decorated", "5 @ 3.50", "@example.com"],
    "iban": ["DE89370400440532013001", "XX89370400440532013000", "DE89"],
    "us_ssn": ["666-12-1234", "000-12-1234", "219-00-9999", "219-09-0000", "219099999", "12-34-5678"],
    "phone": [
        "4155551234",
        "1700000000",
        "2024-05-06",
        "1234",
        "12345678901234567890",
        "call_4155551234",
        "0.4155551234",
    ],
    "api_key": ["sk-short", "risk-management-framework-2024", "an api key", "sk_live_x"],
    "ip_address": ["1.2.3", "v1.2.3.4", "1.2.3.4.5", "999.1.1.1", "3.14"],
    "ipv6": ["12:34:56", "std::vector", "a::b", "::", "key: value: other", "crate::io::Read"],
    "url": ["example.com/path", "://", "a:/b"],
    "uuid": ["550e8400-e29b-41d4-a716", "deadbeef"],
    "bearer_token": ["the bearer of news", "Bearer", "bearer x"],
    "jwt": ["eyJ", "eyJhbGciOiJIUzI1NiJ9", "eyJa.b", "a.b.c"],
    "credit_card": ["4111111111111112", "1234567890123456", "0.4111111111111111", "4111"],
    "aws_access_key_id": ["AKIA", "akiaiosfodnn7example", "AKIAIOSFODNN7"],
    "aws_secret_access_key": ["da39a3ee5e6b4b0d3255bfef95601890afd80709", "a" * 40, KEY, f"secret {KEY}x"],
    "gcp_api_key": ["AIza", "AIzashort"],
    "azure_storage_account_key": ["a == b", "AccountKey=", "QUJD=="],
}


def redacted(detector: str, text: str) -> str:
    return Redactor([Rule("redact", detector=detector)]).redact(text)


def test_there_are_sixteen_detectors_and_each_is_tested() -> None:
    assert len(DETECTORS) == 16
    assert {name for name, _, _ in MASKED} == set(INNOCENT) == set(DETECTORS)


@pytest.mark.parametrize(("detector", "text", "masked"), MASKED)
def test_a_mask_shows_what_the_kind_of_data_allows(detector: str, text: str, masked: str) -> None:
    assert Redactor([Rule("mask", detector=detector)]).redact(text) == masked


@pytest.mark.parametrize(
    "frame", ["{}", "see {}.", "({})", "x:{},", "«{}»", "{}\n", "\t{}!", '"{}"', "[x {}]", "é {} é"]
)
@pytest.mark.parametrize(("detector", "text", "masked"), MASKED)
def test_a_match_is_found_whatever_stands_around_it(detector: str, text: str, masked: str, frame: str) -> None:
    result = redacted(detector, frame.format(text))
    assert text not in result
    assert "[REDACTED]" in result
    assert list(DETECTORS[detector].find(result)) == []


@pytest.mark.parametrize(("detector", "text"), [(name, text) for name, texts in INNOCENT.items() for text in texts])
def test_what_only_resembles_a_match_stays_the_same_object(detector: str, text: str) -> None:
    assert redacted(detector, text) is text


@pytest.mark.parametrize(("detector", "text", "masked"), MASKED)
def test_each_match_has_a_hint_and_the_shortest_length(detector: str, text: str, masked: str) -> None:
    found = DETECTORS[detector]
    assert not found.hints or any(hint in text for hint in found.hints)
    assert len(text) >= found.shortest


@pytest.mark.parametrize("token", ["dapi" + "a1b2" * 8, "1234567890:AA" + "a1Bc" * 8 + "x"])
def test_a_token_without_a_hyphen_is_found(token: str) -> None:
    assert redacted("api_key", f"it is {token}") == "it is [REDACTED]"


def test_addresses_that_run_into_each_other_go_together() -> None:
    assert redacted("email", "x 0@bob.smith+tag@mail.example.com y") == "x [REDACTED] y"
    assert redacted("email", "@@bob@example.com@ y") == "[REDACTED]@ y"


def test_a_card_is_found_among_other_groups_of_digits() -> None:
    assert redacted("credit_card", "order 12 4111 1111 1111 1111 737") == "order 12 [REDACTED] 737"


def test_the_shortest_matches_are_long_enough_to_be_looked_at() -> None:
    shortest = {
        "email": "a@b.cd",
        "phone": "+1234567",
        "ip_address": "1.1.1.1",
        "ipv6": "::1",
        "url": "a://b",
        "api_key": "apikey=12345678",
        "bearer_token": "Bearer 12345678",
        "jwt": "eyJa.b.",
    }
    for detector, text in shortest.items():
        assert "[REDACTED]" in redacted(detector, text), detector


HARD = {
    "one letter": "a",
    "one digit": "4",
    "digits apart": "4 ",
    "digits with hyphens": "1-",
    "labels": "a.",
    "at signs": "a@",
    "addresses without an end": "x@a.1",
    "addresses in a row": "x@a.bc",
    "heads of tokens": "eyJ",
    "heads and dots": "eyJ.",
    "schemes": "a://",
    "keys": "sk-",
    "hexadecimal": "deadbeef-",
    "colons": ":",
    "short groups": "a:",
    "octets": "1.",
    "AKIA": "AKIA",
    "slashes": "/",
    "bearers": "Bearer ",
    "bearers of dots": "Bearer .",
    "named keys": 'api_key="',
    "padding": "=",
    "almost a key": "A" * 85 + "=",
    "brackets": "(",
    "plus signs": "+1 ",
    "arrays": "[",
    "objects": '{"a":',
    "escapes": '"\\',
    "accents": "é",
    "blanks": " ",
    "backslashes": "\\",
    "spelled": "\\u0040",
    "percents": "%4",
    "entities": "&#64;",
    "no-break": "4\u00a0",
    "words": "phone ",
    "secrets": "secret:",
    "passwords": "password=",
    "keys of PEM": "-----BEGIN PRIVATE KEY-----",
    "accounts": "DE89 ",
    "four and four": "4242 ",
    "words behind hosts": "www.",
    "quotes": "'",
    "quoted": '"a ',
    "slices": "a[1::",
    "basic": "basic ",
}


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("unit", HARD.values(), ids=HARD)
def test_a_hundred_kilobytes_of_the_hardest_text_come_to_an_end(detector: str, unit: str) -> None:
    # A pattern that tries each start against the rest takes ten thousand million steps here: hours, not seconds.
    text = unit * (100_000 // len(unit))
    for end in ("", "@", "!"):
        assert isinstance(redacted(detector, text + end), str)


def test_data_is_told_by_its_key_where_it_has_no_form_of_its_own() -> None:
    rules = [Rule("redact", detector=name) for name in ("api_key", "aws_secret_access_key")]
    value = {"X-API-Key": "opaque-value", "aws_secret_access_key": "whatever", "note": "opaque-value", "api_key": 1}
    assert Redactor(rules).redact(json.dumps(value)) == json.dumps(
        {"X-API-Key": "[REDACTED]", "aws_secret_access_key": "[REDACTED]", "note": "opaque-value", "api_key": 1}
    )


def test_a_card_number_that_is_a_number_is_found() -> None:
    value = {"card": 4111111111111111, "at": 1700000000000000000, "count": 4111}
    result = Redactor([Rule("mask", detector="credit_card")]).redact(value)
    assert result == {"card": "************1111", "at": 1700000000000000000, "count": 4111}
