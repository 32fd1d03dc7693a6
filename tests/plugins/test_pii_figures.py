"""What the detectors find of what people and models write, and how often they alarm on what is nobody's.

docs/pii.md tells the figures; each is a floor or a ceiling here. Every value is made from a fixed seed.
"""

from __future__ import annotations

import base64
import json
import random
import re
import string
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from spanrelay.plugins.pii import DETECTORS, Redactor, Rule

REDACTORS = {name: Redactor([Rule("redact", detector=name)]) for name in DETECTORS}
ALL = Redactor([Rule("redact", detector=name) for name in DETECTORS])

NBSP, NARROW, HYPHEN, DASH, SOFT = "\u00a0", "\u202f", "\u2011", "\u2013", "\u00ad"
WIDE = {ord(char): chr(ord(char) + 0xFEE0) for char in "0123456789@"}
LETTERS = "a1B2c3D4e5F6g7H8i9J0"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcdefghijk"
UUID = "550e8400-e29b-41d4-a716-446655440000"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA75\n-----END RSA PRIVATE KEY-----"


def token(prefix: str, length: int = 40) -> str:
    return prefix + (LETTERS * 5)[:length]


FOUND: dict[str, list[tuple[str, str]]] = {
    "email": [
        *((address, address) for address in ("bob@example.com", "b.o-b+c@mail.example.co.uk", "o'brien@example.com")),
        *((address, address) for address in ("a&b@example.com", '"john doe"@example.com', "root@localhost")),
        *((address, address) for address in ("jörg@müller.de", "bob%40example.com", "bob&#64;example.com")),
        *(
            (address, address)
            for address in ("bob@example.com".translate(WIDE), "bob@example\u3002com", "bo\u00adb@exam\u00adple.com")
        ),
        ("<bob@example.com>", "bob@example.com"),
        ("mailto:bob@example.com?subject=x", "bob@"),
        ("'bob@example.com','ann@example.com'", "bob@"),
        ("to=bob@example.com&cc=x", "bob@"),
        ('{"to": "bob\\u0040example.com", "text": "cut o', "bob"),
        ('see {"to":"bob\\u0040example.com"} there', "bob"),
        ('{"a":1}\n{"to":"bob\\u0040example.com"}', "bob"),
        ('\ufeff{"to":"bob\\u0040example.com"}', "bob"),
        ('"{\\"to\\": \\"bob\\\\u0040example.com\\"', "bob"),
    ],
    "phone": [
        *((number, number) for number in ("+1 415 555 1234", "+1-415-555-1234", "+14155551234", "+1 (415) 555-1234")),
        *((number, number) for number in ("+49 30 1234567", "+49/30/1234567", "+49 (0)30 1234567", "+49.30.1234567")),
        *((number, number) for number in ("+44 20 7946 0958", "+33 1 23 45 67 89", "+86 138 0013 8000")),
        *((number, number) for number in ("0049 30 1234567", "0044 20 7946 0958")),
        *((number, number) for number in ("(415) 555-1234", "(415)555-1234", "415-555-1234", "415.555.1234")),
        *((number, number) for number in ("415 555 1234", "415/555-1234", "1-415-555-1234", "1 (415) 555-1234")),
        *((number, number) for number in ("415  555  1234", "415 - 555 - 1234", "415-5551234")),
        *(("415-555-1234".replace("-", mark), "1234") for mark in (NBSP, NARROW, HYPHEN, DASH, "\u2212")),
        *(("+49 30 1234567".replace(" ", mark), "1234567") for mark in (NBSP, NARROW, HYPHEN, DASH)),
        ("415-555-1234".translate(WIDE), "1234".translate(WIDE)),
        ("Phone: 4155551234", "4155551234"),
        ("my phone number is 4155551234.", "4155551234"),
        ("call me on 4155551234", "4155551234"),
        ('{"phone": "4155551234"}', "4155551234"),
        ('{"mobile_phone": 4155551234}', "4155551234"),
        ('{"phone": "4155551234", "cu', "4155551234"),
    ],
    "credit_card": [
        *((card, card) for card in ("4111111111111111", "5500005555555559", "2223000048400011", "6011111111111117")),
        *((card, card) for card in ("378282246310005", "30569309025904", "3530111333300000")),
        *(("4111 1111 1111 1111".replace(" ", mark), "1111") for mark in (" ", "-", NBSP, NARROW, HYPHEN, DASH)),
        *(("4111 1111 1111 1111".replace(" ", mark), "1111") for mark in (".", "  ", " - ", "/", "_", "\n")),
        ("3782 822463 10005", "10005"),
        ("3782-822463-10005", "10005"),
        ("3056 930902 5904", "5904"),
        ("4111 1111 1111 1111".translate(WIDE), "1111".translate(WIDE)),
        ("card 4111 1111 1111 1111 12/27 737", "1111 1111"),
        ("4111 1111 1111 1111 2027", "1111 1111"),
        ("4111 1111 1111 1111 5500 0055 5555 5559", "5559"),
        ('{"card": 4111111111111111}', "4111111111111111"),
        ('{"amount": 4111111111111111.0}', "4111111111111111"),
        ('{"card_number": "4111-1111-11111111"}', "11111111"),
    ],
    "iban": [
        *((iban, iban) for iban in ("DE89370400440532013000", "DE89 3704 0044 0532 0130 00", "GB29NWBK60161331926819")),
        *((iban, iban) for iban in ("FR14 2004 1010 0505 0001 3M02 606", "NL91-ABNA-0417-1643-00")),
        *((iban, iban) for iban in ("de89370400440532013000", "CH93 0076 2011 6238 5295 7")),
        ("DE89 3704 0044 0532 0130 00".replace(" ", NBSP), "0532"),
        ("IBAN:DE89370400440532013000,", "0532"),
    ],
    "us_ssn": [
        *((number, number) for number in ("219-09-9999", "078-05-1120", "219 09 9999")),
        ("219-09-9999".replace("-", HYPHEN), "9999"),
        ("219-09-9999".replace("-", DASH), "9999"),
        ("SSN 219099999", "219099999"),
        ("social security number: 219099999", "219099999"),
        ('{"ssn": "219099999"}', "219099999"),
    ],
    "api_key": [
        *(
            (token(prefix), LETTERS)
            for prefix in ("sk-", "sk-proj-", "sk-ant-api03-", "sk-lf-", "pk-lf-", "ghp_", "gho_")
        ),
        *((token(prefix), LETTERS) for prefix in ("github_pat_11A", "glpat-", "xoxb-", "xoxp-", "xapp-1-", "gsk_")),
        *((token(prefix), LETTERS) for prefix in ("sk_" + "live_", "rk_" + "live_", "sk_" + "test_", "whsec_", "hf_")),
        *(
            (token(prefix), LETTERS)
            for prefix in ("npm_", "pypi-AgEIcHlwaS5vcmc", "dop_v1_", "r8_", "lsv2_pt_", "ya29.")
        ),
        *((token(prefix), LETTERS) for prefix in ("nvapi-", "xai-")),
        (PEM, "MIIE"),
        (json.dumps({"key": PEM}), "MIIE"),
        (PEM[:60], "MIIE"),
        ("Authorization: Basic Ym9iOmh1bnRlcjI=", "Ym9i"),
        ("curl -H 'Basic Ym9iOmh1bnRlcjI='", "Ym9i"),
        *(
            (text, "hunter2")
            for text in ("password=hunter2", "password: hunter2", 'PASSWORD="hunter2"', "passwd = hunter2")
        ),
        *(
            (text, "hunter2")
            for text in ('{"password": "hunter2"}', '{"db_password": "hunter2", "cu', "?password=hunter2&a=1")
        ),
        *((text, "correct horse") for text in ('{"password": "correct horse"}', '{"clientSecret": "correct horse"}')),
        *(
            (text, "hunter2x")
            for text in ("client_secret=hunter2x", "api_key: hunter2x", 'apiKey="hunter2x"', "token=hunter2x")
        ),
        *(
            (text, "hunter2x")
            for text in ('{"Authorization": "hunter2x"}', '{"api_key": ["hunter2x"]}', "API-KEY=hunter2x")
        ),
        ('{"access_token": "hunter2x"}', "hunter2x"),
    ],
    "bearer_token": [
        *((f"{word}abcdefgh1234", "abcdefgh1234") for word in ("Bearer ", "bearer ", "BEARER ", "bEARER ", "Bearer: ")),
        *((f"{word}abcdefgh1234", "abcdefgh1234") for word in ("Bearer\n", "Bearer  ", f"Bearer{NBSP}")),
    ],
    "uuid": [
        *((text, "550e8400") for text in (UUID, UUID.replace("-", HYPHEN), f"urn:uuid:{UUID}")),
        (UUID.upper(), "550E8400"),
        (f"uuid {UUID.replace('-', '')}", "550e8400"),
        (json.dumps({"device_uuid": UUID.replace("-", "")}), "550e8400"),
    ],
    "ip_address": [
        *(
            (text, "10.1.2.3")
            for text in ("10.1.2.3", "10.1.2.3:8080", "http://10.1.2.3/", "[10.1.2.3]", "ip=10.1.2.3.")
        ),
        ("ip-10-0-0-1", "10-0-0-1"),
        ("ip-10-0-0-1.ec2.internal", "10-0-0-1"),
        ("10.1.2.3".translate(WIDE), "10".translate(WIDE)),
    ],
    "ipv6": [
        *(
            (text, text)
            for text in ("2001:db8::8a2e:370:7334", "::1", "fe80:0:0:0:1:2:3:4", "::ffff:10.1.2.3", "fe80::1")
        ),
        ("http://[2001:db8::1]:80/", "2001:db8::1"),
        ("2001:db8::1/64", "2001:db8::1"),
    ],
    "url": [
        *(
            (text, "ex.com/a")
            for text in ("https://ex.com/a", "http://ex.com/a?b=c", "ftp://ex.com/a", "wss://ex.com/a")
        ),
        ("postgres://u:p@ex.com/a", "u:p"),
        ("www.example.com/a", "example.com/a"),
        ("see www.example.com.", "example"),
        ('{"link": "https:\\/\\/ex.com\\/a", "cu', "ex.com"),
    ],
    "jwt": [(JWT, "eyJzdWIi"), (f"token {JWT}.", "eyJzdWIi"), (f"Bearer {JWT}", "eyJzdWIi")],
    "aws_access_key_id": [("AKIAIOSFODNN7EXAMPLE", "IOSFODNN7"), ("ASIAIOSFODNN7EXAMPLE", "IOSFODNN7")],
    "aws_secret_access_key": [
        *((f"{word}{SECRET}", SECRET) for word in ("aws_secret_access_key=", "AWS_SECRET_ACCESS_KEY: ", "secret ")),
        (f"AKIAIOSFODNN7EXAMPLE {SECRET}", SECRET),
        (json.dumps({"aws_secret_access_key": SECRET}), SECRET),
    ],
    "gcp_api_key": [(token("AIza", 35), LETTERS), (f"?key={token('AIza', 35)}", LETTERS)],
    "azure_storage_account_key": [
        ("storage key " + "a1B2c3" * 14 + "ab==", "a1B2"),
        ("AccountKey=" + "a1B2c3" * 14 + "ab==", "a1B2"),
        (json.dumps({"account_key": "a1B2c3d4"}), "a1B2"),
    ],
}
"""Ordinary ways of writing what each detector names, and what must be gone of each."""

FRAMES = ("{}", "It is {}, I think.", "({})", "x: {}\nmore")


def frames(text: str) -> tuple[str, ...]:
    """JSON stands alone."""
    return ("{}",) if text[:1] in '{"[\ufeff' else FRAMES


def missed(name: str) -> Iterator[str]:
    for text, secret in FOUND[name]:
        for frame in frames(text):
            if text and secret in REDACTORS[name].redact(frame.replace("{}", text)):
                yield frame.replace("{}", text)


def test_every_detector_has_ordinary_formats() -> None:
    assert set(FOUND) == set(DETECTORS)


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_finds_what_people_and_models_write(name: str) -> None:
    tried = sum(len(frames(text)) for text, _ in FOUND[name] if text)
    lost = list(missed(name))
    assert len(lost) <= tried * 0.05, lost


AMONG = (
    "\u8bf7\u8054\u7cfb{}\u8c22\u8c22",
    "\x1b[1m{}\x1b[0m",
    "\x1b[01;31m\x1b[K{}\x1b[m\x1b[K",
    "\\u001b[1m{}\\u001b[0m",
    "\\x1b[1m{}\\x1b[0m",
)
"""Where no blank stands between words, and the colours of a terminal, also as JSON and Python spell them."""


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("frame", AMONG)
def test_a_detector_finds_it_without_blanks_around_and_in_colours(name: str, frame: str) -> None:
    texts = [(text, secret) for text, secret in FOUND[name] if text and len(frames(text)) > 1]
    lost = [text for text, secret in texts if secret in REDACTORS[name].redact(frame.replace("{}", text))]
    assert len(lost) <= len(texts) * 0.05, lost


@pytest.mark.parametrize(
    "text",
    [
        "415 555 1234 212 555 9876",
        "5 415-555-1234",
        "1 415 555 1234",
        "text me at 4155551234",
        "reach him on 4155551234",
        "Cell: 4155551234",
        "contact number 4155551234",
    ],
)
def test_what_is_no_sum_is_a_telephone_number(text: str) -> None:
    assert not {"1234", "9876"} & {*re.findall("[0-9]{4}", Redactor([Rule("remove", detector="phone")]).redact(text))}


@pytest.mark.parametrize(
    "text", ["ip:2001:db8::1", "date:2001:db8::1", "on ::1", "[::1]:80", "src=::1", "from fe80::1."]
)
def test_an_address_behind_a_label_is_found(text: str) -> None:
    assert "[REDACTED]" in REDACTORS["ipv6"].redact(text)


FORMS = {
    "phone": ("+1 415 555 1234", "415 555 1234", "(415) 555-1234", "+49 30 1234567"),
    "credit_card": ("4111 1111 1111 1111", "3782 822463 10005"),
    "iban": ("DE89 3704 0044 0532 0130 00", "FR14 2004 1010 0505 0001 3M02 606", "GB29 NWBK 6016 1331 9268 19"),
    "us_ssn": ("219 09 9999",),
    "email": ("bob+1+2@example.com",),
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in FORMS.items() for text in texts])
def test_a_detector_finds_it_in_a_form(name: str, text: str) -> None:
    sent = urllib.parse.urlencode({"a": "1", "to": text, "b": "x"})
    assert REDACTORS[name].redact(sent) == "a=1&to=[REDACTED]&b=x"


@pytest.mark.parametrize("text", ["tel:0049 30 1234567", "x,0049 30 1234567,y"])
def test_a_national_prefix_is_found_behind_a_sign(text: str) -> None:
    assert "1234567" not in REDACTORS["phone"].redact(text)


# --- false alarms ------------------------------------------------------------------------------------------

Make = Callable[[random.Random], Any]


def digits(count: int) -> Make:
    return lambda r: str(r.randrange(10 ** (count - 1), 10**count))


def from_alphabet(alphabet: str, count: int, before: str = "") -> Make:
    return lambda r: before + "".join(r.choices(alphabet, k=count))


HEX, BASE62, CROCKFORD = "0123456789abcdef", string.ascii_letters + string.digits, "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
SAID = (
    "the model called a tool and then it answered with a table of the basic results for every bearer of a token "
    "password policy secret garden card index phone book text field version of key value pairs"
)
WORDS = SAID.split()


def version(r: random.Random) -> str:
    number = ".".join(str(r.randrange(120)) for _ in range(4))
    return r.choice(("version {}", "v{}", "pkg=={}", ">= {}", "pkg-{}.tar.gz", 'version: "{}"', "release {}")).format(
        number
    )


ORDINARY: dict[str, Make] = {
    "numbers of 10 digits": digits(10),
    "numbers of 9 digits": digits(9),
    "numbers of 11 digits": digits(11),
    "integers of 63 bits": lambda r: r.getrandbits(63),
    "integers of 63 bits, as text": lambda r: str(r.getrandbits(63)),
    "snowflakes": lambda r: str((r.randrange(10**12, 2 * 10**12) << 22) | r.getrandbits(22)),
    "EAN-13": digits(13),
    "lists of 20 small numbers": lambda r: " ".join(str(r.randrange(1000)) for _ in range(20)),
    "rows of a table of numbers": lambda r: " ".join(f"{r.randrange(10000):4}" for _ in range(20)),
    "rows of a wide table of numbers": lambda r: " ".join(
        f"{r.randrange(10 ** r.randrange(3, 6)):5}" for _ in range(20)
    ),
    "names of assemblies": lambda r: f"X, Version=9.0.2.0, Culture=neutral, PublicKeyToken={r.getrandbits(64):016x}",
    "lists of 20 small numbers, with commas": lambda r: ", ".join(str(r.randrange(1000)) for _ in range(20)),
    "eight groups of four": lambda r: " ".join(f"{r.randrange(10**4):04d}" for _ in range(8)),
    "slices": lambda r: r.choice(("a[{}::{}]", "rows[::{}]", "x[:, {}::2]", "a[{}::]")).format(
        r.randrange(9), r.randrange(9)
    ),
    "versions of four parts": version,
    "base64 of 30 bytes": lambda r: base64.b64encode(r.randbytes(30)).decode(),
    "base64 of 100 bytes": lambda r: base64.b64encode(r.randbytes(100)).decode(),
    "repositories": lambda r: f"git@github.com:{r.choice(WORDS)}/{r.choice(WORDS)}.git",
    "images at twice their size": lambda r: f"{r.choice(WORDS)}@2x.png",
    "floats": lambda r: repr(r.uniform(-1000, 1000)),
    "signed floats": lambda r: f"{r.uniform(-1000, 1000):+.7f}",
    "prices": lambda r: f"${r.randrange(10**7):,}.{r.randrange(100):02d}",
    "times in seconds": lambda r: r.randrange(1_500_000_000, 1_900_000_000),
    "times in seconds, as text": lambda r: str(r.randrange(1_500_000_000, 1_900_000_000)),
    "times in milliseconds": lambda r: r.randrange(1_500_000_000_000, 1_900_000_000_000),
    "times in microseconds": lambda r: str(r.randrange(1_500_000_000_000_000, 1_900_000_000_000_000)),
    "times in nanoseconds": lambda r: r.randrange(15 * 10**17, 19 * 10**17),
    "ISO times": lambda r: (
        f"20{r.randrange(10, 40)}-{r.randrange(1, 13):02d}-11T{r.randrange(24):02d}:05:09.{r.randrange(10**6):06d}Z"
    ),
    "ULIDs": from_alphabet(CROCKFORD, 25, "0"),
    "ids of calls": from_alphabet(BASE62, 24, "call_"),
    "ids of answers": from_alphabet(HEX, 48, "resp_"),
    "32 hexadecimal digits": from_alphabet(HEX, 32),
    "SHA-1": from_alphabet(HEX, 40),
    "SHA-256": from_alphabet(HEX, 64),
    "short ids of commits": from_alphabet(HEX, 8),
    "MAC addresses": lambda r: ":".join(f"{r.randrange(256):02x}" for _ in range(6)),
    "paths": lambda r: "/" + "/".join(r.choices(WORDS, k=5)) + f"/{r.randrange(999)}.txt",
    "versions of browsers": lambda r: f"Chrome/{r.randrange(90, 140)}.0.{r.randrange(4000, 7000)}.{r.randrange(256)}",
    "coordinates": lambda r: f"{r.uniform(-90, 90):.6f}, {r.uniform(-180, 180):.6f}",
    "ISBN": lambda r: f"978-{r.randrange(10)}-{r.randrange(100, 1000)}-{r.randrange(10**5):05d}-{r.randrange(10)}",
    "traceparent": lambda r: f"00-{r.getrandbits(128):032x}-{r.getrandbits(64):016x}-01",
    "digests of images": lambda r: f"repo/image@sha256:{r.getrandbits(256):064x}",
    "sentences": lambda r: " ".join(r.choices(WORDS, k=25)),
    "snake case": lambda r: "_".join(r.choices(WORDS, k=6)),
    "kebab case": lambda r: "-".join(r.choices(WORDS, k=6)),
    "names of models": lambda r: (
        f"gpt-{r.randrange(9)}-mini-20{r.randrange(20, 30)}-{r.randrange(10, 13)}-{r.randrange(10, 29)}"
    ),
    "settings": lambda r: (
        f"max_tokens={r.randrange(9000)}, top_k={r.randrange(99)}, next_page_token=CAUQ{r.randrange(10**6)}"
    ),
    "code": lambda r: f"password = getpass(); api_key = os.environ['{r.choice(WORDS).upper()}']; token = None",
    "numbers of orders": lambda r: f"{r.choice(('', 'ORD-'))}{digits(3)(r)}-{digits(7)(r)}-{digits(7)(r)}",
    "numbers of invoices": lambda r: f"INV-{r.randrange(2019, 2027)}-{digits(6)(r)}",
    "lines changed": lambda r: f"+{r.randrange(1, 9999)} -{r.randrange(1, 9999)}",
    "amounts with a sign": lambda r: f"+{digits(9)(r)} {r.choice(('bytes', 'tokens'))}",
    "sections": lambda r: (
        f"{r.choice(('section ', 'see clause ', '§ '))}{'.'.join(str(r.randrange(1, 20)) for _ in range(4))}"
    ),
    "digests in lock files": lambda r: f'"integrity": "sha512-{base64.b64encode(r.randbytes(64)).decode()}"',
    "tables": lambda r: ",".join((str(r.randrange(10**4)), r.choice(WORDS), f"{r.random():.3f}", "2024-05-01")),
    "sums with blanks": lambda r: f"{r.randrange(2, 1000)} {digits(3)(r)} {digits(3)(r)} {digits(4)(r)}",
    "parcels": lambda r: "1Z" + digits(16)(r),
    "addresses of devices": lambda r: ":".join(f"{r.randrange(256):02x}" for _ in range(8)),
    "places on earth": lambda r: f"+{r.uniform(10, 90):.4f}-{r.uniform(10, 180):.4f}/",
    "signatures of 64 bytes": lambda r: base64.b64encode(r.randbytes(64)).decode(),
    "products and versions": lambda r: (
        r.choice(("Chrome/{}.0.{}.{} Safari", 'Version="{}.0.{}.{}"', "System.Text, Version={}.0.{}.{}, Culture"))
    ).format(r.randrange(200), r.randrange(200), r.randrange(200)),
    "names in programs": lambda r: f"{r.choice(('crate', 'node'))}::a{r.randrange(9)}::b::C{r.randrange(9)}",
    "tables of connections": lambda r: f"tcp 0 0 :::{r.randrange(10, 65536)} :::* LISTEN",
    "sums with points": lambda r: f"{r.randrange(1, 10)}.0{digits(2)(r)}.{digits(3)(r)}.{digits(3)(r)}",
    "places in lists": lambda r: json.dumps({"page_token": token("", 20), "continuation_token": token("", 20)}) + ".",
    "amounts behind words of the telephone": lambda r: (
        r.choice(("text file of {} bytes", "the total may reach {}", "Text {}", "contact form {}", "cell B7 has {}"))
    ).format(f"{r.randrange(2, 10)}{digits(2)(r)}{r.randrange(2, 10)}{digits(6)(r)}"),
    "bases": from_alphabet("ACGT", 200),
    "code that has passwords": lambda r: r.choice(
        ("password=password", "secret=secret,", "self.pw_password = key_password", "authorization: Optional[str]")
    ),
    "encrypted reasoning": lambda r: base64.urlsafe_b64encode(r.randbytes(600)).decode(),
    "diffs": lambda r: (
        f"@@ -{r.randrange(999)},{r.randrange(99)} +{r.randrange(999)},{r.randrange(99)} @@ std::{r.choice(WORDS)}"
    ),
}
"""Values that are nobody's, as agents carry them."""


def alarms(make: Make, redactor: Redactor = ALL, count: int = 400) -> list[Any]:
    r = random.Random(20)
    return [value for value in (make(r) for _ in range(count)) if redactor.redact(value) != value]


@pytest.mark.parametrize("kind", ORDINARY)
def test_what_is_nobodys_stays_as_it_is(kind: str) -> None:
    changed = alarms(ORDINARY[kind])
    assert len(changed) <= 4, changed[:5]


def test_sixteen_digits_at_random_are_taken_for_a_card_as_often_as_their_check_digit_fits() -> None:
    assert len(alarms(digits(16), count=4000)) / 4000 <= 0.03
