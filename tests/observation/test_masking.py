"""Provider keys never survive, and nothing else changes."""

import base64
import json
import random
import re
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanrelay._masking import MASK, mask_bytes, mask_text, mask_value, mask_values
from spanrelay._voice import say

SOURCES = Path(__file__).parents[2] / "src"
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
    "ghp_" + "a1B2" * 9,
    "github_pat_" + "a1B2" * 9,
    "glpat-" + "a1B2" * 5,
    "xoxb-" + "a1B2" * 9,
    "sk_" + "live_" + "a1B2" * 6,
    "rk_" + "test_" + "a1B2" * 6,
    "whsec_" + "a1B2" * 8,
    "pypi-" + "a1B2" * 20,
    "hf_" + "a1B2" * 9,
    "npm_" + "a1B2" * 9,
    "r8_" + "a1B2" * 9,
    "dop_v1_" + "a1b2" * 16,
    "lsv2_pt_" + "a1b2" * 10,
    "pk-lf-" + "a1b2" * 8,
    "Basic Ym9iOmh1bnRlcjI=",
    "basic Ym9iOmh1bnRlcjI=",
    "BASIC Ym9iOmh1bnRlcjI=",
    "BEARER " + "a1B2" * 8,
    *(
        prefix + "a1b2" * 12
        for prefix in (
            "csk-",
            "pplx-",
            "tvly-",
            "tvly-dev-",
            "pcsk_",
            "e2b_",
            "jina_",
            "fw_",
            "ntn_",
            "wandb_v1_",
            "tgp_v1_",
        )
    ),
    *(
        prefix + "a1b2" * 12
        for prefix in ("pylf_v1_us_", "lin_api_", "glsa_", "glc_", "shpat_", "figd_", "sbp_", "sk_")
    ),
    *(prefix + "a1b2" * 12 for prefix in ("sb_secret_", "vck_", "sntrys_", "GOCSPX-", "PMAK-")),
    "NRAK-" + "A1B2" * 7,
    "fc-" + "a1b2" * 8,
    *(prefix + "a1-b2_" * 7 for prefix in ("figd_", "sb_secret_", "tgp_v1_")),
    "re_" + "a1B2" * 2 + "_" + "a1B2" * 6,
    "SG." + "a1B2-_" * 4 + "." + "a1B2" * 10,
    *(prefix + "a1B2" * 7 for prefix in ("hvs.", "hvb.", "hvr.")),
    "ABSK" + "a1B2" * 32 + "==",
    "bedrock-api-key-" + "a1B2" * 32,
    "hf_oauth_" + "a1B2" * 9 + "." + "a1B2" * 9,
    "ya29." + "a1B2-_" * 12,
    "AQ.Ab8RN6" + "a1B2-_" * 7,
    "dapi" + "a1b2" * 8,
    "dapi" + "a1b2" * 8 + "-2",
    "1234567890:AA" + "a1B_" * 8 + "x",
    *(
        base64.b64encode(number.encode()).decode().rstrip("=") + ".G-a1B2." + "a1B_" * 9
        for number in ("12345678901234567", "987654321098765432", "1098765432109876543")
    ),
]
ESCAPED = str.maketrans({sign: f"\\u{ord(sign):04x}" for sign in "-_./"})


@pytest.mark.parametrize("key", [key for key in KEYS if key != key.translate(ESCAPED)])
@pytest.mark.parametrize("nested", [False, True], ids=["json", "json within json"])
def test_a_key_whose_signs_are_escaped_in_json_is_masked(key: str, *, nested: bool) -> None:
    text = f'{{"a": "caf\\u00e9 {key.translate(ESCAPED)} \\u0022after\\u0022"}}'
    text = json.dumps({"arguments": text}) if nested else text
    for masked in (mask_text(text), mask_bytes(text.encode()).decode(), str(mask_values({"a": text, "b": "c"})["a"])):
        read = json.loads(masked)
        read = json.loads(read["arguments"]) if nested else read
        assert read == {"a": f'café {MASK} "after"'}


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "one\\u002dtwo \\u00e9"}',
        "re_evaluate_the_function_of_all_modules",
        "core_functionality_of_everything_there_is",
        "see https://example.com/a.b-c.d?x=12345678:AAnd",
        "the module package.models.a_function_of_a_very_long_name_indeed",
        "MessageHandlerOfEverything.create.a_function_of_a_very_long_name",
        "SG.1 and hvs.2, dapi",
    ],
)
def test_what_only_looks_like_one_of_those_stays(text: str) -> None:
    assert mask_text(text) is text
    encoded = text.encode()
    assert mask_bytes(encoded) is encoded


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


SPELLED_BEFORE = (
    json.dumps("\u5bc6\u94a5")[1:-1],
    json.dumps("\U0001f511")[1:-1],
    json.dumps("\u201c")[1:-1],
    json.dumps("\u00a0")[1:-1],
    "%2F",
    "%3d",
    "\\x0a",
    "\x1b[m",
    "\x1b[1m",
    "\x1b[01;31m\x1b[K",
    "\x1b[38;5;196m",
    "\x1b[2K\x1b[1G",
    "\x1b[12;1H",
    "\x1b[J",
    "\x1b[?25h",
    "\x1b(B",
    json.dumps("\x1b(B")[1:-1],
    "%252F",
    json.dumps("\x1b[32m")[1:-1],
    repr("\x1b[0;32m")[1:-1],
    "_",
    "**_",
)
"""Letters that spell a sign or a colour, and the sign of what is in italics."""


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("before", SPELLED_BEFORE)
def test_a_key_is_masked_behind_the_last_letter_of_what_spells_a_sign(key: str, before: str) -> None:
    for masked in (mask_text(before + key), mask_bytes((before + key).encode()).decode()):
        assert MASK in masked
        assert "a1B2" not in masked
        assert "A1B2" not in masked
        assert "a1-b2" not in masked


@pytest.mark.parametrize("text", ["\u8c22AKIA{}\u8c22", "_AKIA{}_"])
def test_a_key_of_fixed_length_is_masked_before_letters_of_other_scripts(text: str) -> None:
    assert "A1B2" not in mask_text(text.format("A1B2" * 4))


def test_a_secret_of_aws_is_masked_in_a_query_that_is_escaped() -> None:
    assert "wJal" not in mask_text("x=aws_secret_access_key%3DwJalrXUtnFEMIxK7MDENGxbPxRfiCYEXAMPLEKEY%26b")


@pytest.mark.parametrize("name", ["ask_sk-{}", "xsk-{}", "risk-{}", "core_{}_{}", "brfc-{}"])
def test_the_end_of_a_word_begins_no_key(name: str) -> None:
    assert mask_text(name.format("a" * 20, "b" * 20)) == name.format("a" * 20, "b" * 20)


@pytest.mark.parametrize("key", [key for key in KEYS if key[0] not in "Bb?"])
@pytest.mark.parametrize("before", ["key_", "MY_API_KEY_", "a_"])
def test_a_key_is_masked_behind_a_word_that_an_underscore_joins_to_it(key: str, before: str) -> None:
    assert mask_text(f"the {before}{key} one") == f"the {before}{MASK} one"
    assert mask_bytes(f"{before}{key}".encode()) == f"{before}{MASK}".encode()


@pytest.mark.parametrize("hyphen", "\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d")
@pytest.mark.parametrize("key", [key for key in KEYS if "-" in key])
def test_a_key_is_masked_whatever_its_hyphens_are(key: str, hyphen: str) -> None:
    text = f"ü {key} ü".replace("-", hyphen)
    assert mask_text(text) == f"ü {MASK} ü"
    assert mask_values({"a": text, "b": "c"}) == {"a": f"ü {MASK} ü", "b": "c"}
    assert mask_bytes(text.encode()) == f"ü {MASK} ü".encode()
    assert mask_bytes(b"\xff" + key.encode()) == b"\xff" + MASK.encode()
    for nested in (json.dumps(text), json.dumps({"a": json.dumps(text)})):
        for masked in (mask_text(nested), mask_bytes(nested.encode()).decode()):
            assert MASK in masked
            assert key[-4:] not in masked
            json.loads(masked)


@pytest.mark.parametrize(
    "text", ["1990\u20132000 ü", "risk\u2011averse ü", "Basic authentication \u2013 ü", "\u2013" * 20]
)
def test_other_hyphens_alone_are_no_keys(text: str) -> None:
    assert mask_text(text) is text


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


def test_names_in_objects_are_masked_and_none_of_them_is_lost() -> None:
    assert mask_values({f"a {KEYS[0]}": 1, f"a {KEYS[1]}": 2, "b": 3}) == {f"a {MASK}": 1, f"a {MASK}#2": 2, "b": 3}
    assert mask_value({"outer": {KEYS[0]: 1}}) == {"outer": {MASK: 1}}


@pytest.mark.parametrize(
    "text", ["aws_secret_access_key={}", 'AWS_SECRET_ACCESS_KEY="{}"', '{{"aws_secret_access_key": "{}"}}']
)
def test_a_secret_of_aws_is_told_by_its_name(text: str) -> None:
    assert "wJalr" not in mask_text(text.format("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"))


@pytest.mark.parametrize("end", ["", "\n-----END EC PRIVATE KEY-----"])
def test_a_private_key_is_masked_also_in_json_and_also_when_it_is_cut(end: str) -> None:
    key = f"-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMHQCAQEEIA+/=\nMHQC{end}"
    for text in (f"before {key}", json.dumps({"key": key, "after": "kept"})):
        assert "MHQC" not in mask_text(text)
        assert b"MHQC" not in mask_bytes(text.encode())
    assert "kept" in mask_text(json.dumps({"key": key, "after": "kept"}))


@pytest.mark.parametrize(
    "unit", ["sk-", "-----BEGIN PRIVATE KEY-----", "gh_", "xoxa-", "Basic ", "_secret_access_key=", "-a"]
)
def test_half_a_megabyte_of_beginnings_comes_to_an_end(unit: str) -> None:
    assert mask_bytes(unit.encode() * (500_000 // len(unit)))


@pytest.mark.parametrize("sent", ["Authorization=Bearer%20{}&a=1", "authorization=bearer+{}"])
def test_a_bearer_is_known_in_a_query(sent: str) -> None:
    text = sent.format("a1B2" * 8)
    assert "a1B2" not in mask_text(text)
    assert mask_bytes(text.encode()) == mask_text(text).encode()


@pytest.mark.parametrize(
    "text", ["bearer authentication", "Bearer credentials", "cup-bearer returned", "Bearer scheme."]
)
def test_a_bearer_in_a_sentence_is_no_key(text: str) -> None:
    assert mask_text(f"the {text} of a text") == f"the {text} of a text"


AUTHORIZATION = {"Authorization": "Bearer secretword"}


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer secretword",
        "authorization=bearer+secretword",
        json.dumps(AUTHORIZATION),
        json.dumps(AUTHORIZATION, separators=(",", ":")),
        json.dumps(json.dumps(AUTHORIZATION)),
        repr(AUTHORIZATION),
    ],
)
def test_a_bearer_in_a_header_is_one_whatever_it_is(text: str) -> None:
    assert "secretword" not in mask_text(text)


@pytest.mark.parametrize("name", ["sk-estimator-doc-link", "sk-toggleable__label-arrow", "sk-text-repr-fallback"])
def test_classes_of_a_page_are_no_keys(name: str) -> None:
    assert mask_text(f'<div class="{name}">') == f'<div class="{name}">'


def test_bytes_are_masked_as_text_is() -> None:
    assert mask_value({"raw": KEYS[0].encode()}) == {"raw": MASK.encode()}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        "Basic authentication",
        "a gh_" + "a" * 30,
        "the-basic-rules-of-a-task",
        "hf_hub_download_of_it",
        "a risk-averse key = value",
        "sk-short",
        "the bearer of news",
        "AKIA",
        "task-" + "a" * 20,
    ],
)
def test_what_is_no_key_stays_the_same_object(text: str) -> None:
    assert mask_text(text) is text


@pytest.mark.parametrize("seed", range(40))
def test_looking_for_signs_of_keys_first_changes_nothing_of_what_is_masked(seed: int) -> None:
    chance = random.Random(seed)
    pieces = [*KEYS, *(key[: len(key) // 2] for key in KEYS), *BORDERS]
    for _ in range(50):
        text = "".join(_piece(chance, pieces) for _ in range(chance.randint(1, 6)))
        # The sign of another key has the whole text searched.
        assert mask_text(f"AKIA\n{text}") == f"AKIA\n{mask_text(text)}"
        assert mask_bytes(f"AKIA\n{text}".encode()) == b"AKIA\n" + mask_bytes(text.encode())


BORDERS = [
    "Bearer ",
    "basic ",
    "?key=",
    "clearer ",
    "-----BEGIN ",
    "PRIVATE KEY-----",
    ".G",
    "\n",
    "\\n",
    '"',
    " ",
    "é",
    "-",
    ".",
]


def _piece(chance: random.Random, pieces: list[str]) -> str:
    """Return a key, a part of one or what may stand beside it, at times with some of its letters escaped."""
    piece = chance.choice(pieces)
    if chance.random() < 0.3:
        piece = "".join(f"\\u{ord(sign):04x}" if chance.random() < 0.2 and sign.isascii() else sign for sign in piece)
    if chance.random() < 0.2:
        piece = "".join(chance.choices(string.ascii_letters + string.digits, k=chance.choice([6, 10, 16, 27, 40])))
    return piece


def test_what_we_say_ourselves_is_masked_in_every_logger_and_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"lost because of {KEYS[0]}")
    assert capsys.readouterr().err == f"spanrelay: lost because of {MASK}\n"
    # The text of an exception that a handler formats itself is masked by nobody.
    assert not [
        path for path in SOURCES.rglob("*.py") if re.search(r"exc_info=|_log\.exception", path.read_text("utf-8"))
    ]
    loggers = {
        found
        for path in SOURCES.rglob("*.py")
        for found in re.findall(r"getLogger\(([^)]*)\)", path.read_text("utf-8"))
    }
    # The others are OpenTelemetry's, which we listen to, and that of librdkafka, which says nothing.
    assert loggers == {'"spanrelay"', "name", "_LOADER", '"spanrelay.kafka"'}
