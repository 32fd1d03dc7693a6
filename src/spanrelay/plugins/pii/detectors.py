r"""What personal data and credentials look like: fourteen detectors, each with the mask that suits it.

Each takes linear time, and stays so by three rules. A run of characters is entered at its first one only (a
lookbehind on the run's own class), or is of bounded length. What follows a repeated class cannot match that class,
so there is one way to divide a text. What begins with a class begins with exactly one character of it, `[0-9]`
before `(?<![0-9]{2})`: that is where `re` skips fast.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

Span: TypeAlias = tuple[int, int]
Find: TypeAlias = Callable[[str], Iterator[Span]]
Mask: TypeAlias = Callable[[str, str], str]


@dataclass(frozen=True, slots=True)
class Detector:
    """One kind of data.

    Attributes:
        name: As a configuration names it.
        find: The places in a text, in order and apart.
        mask: `(found, mask character) ->` what may be shown of it.
        shortest: Characters of the shortest match.
        hints: Every text with a match has one of these; where there is none, every text is looked at.
        members: Endings of object keys, in lower case with `_`, whose value is such data whatever it looks like.
        numbers: Whether an integer may be such data.
    """

    name: str
    find: Find
    mask: Mask
    shortest: int
    hints: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    numbers: bool = False


def _matches(pattern: str) -> Find:
    """Return a finder of the pattern's matches, or of the one group that took part in a match."""
    compiled = re.compile(pattern)

    def find(text: str) -> Iterator[Span]:
        for match in compiled.finditer(text):
            yield match.span(match.lastindex or 0)

    return find


def keep_ends(prefix: int, suffix: int) -> Mask:
    """Return a mask that shows so many characters at either end, and none of what is no longer than both."""

    def mask(found: str, char: str) -> str:
        hidden = len(found) - prefix - suffix
        if hidden <= 0:
            return char * len(found)
        return found[:prefix] + char * hidden + found[len(found) - suffix :]

    return mask


# --- addresses of people -----------------------------------------------------------------------------------

# The run takes in every `@`: of `a@b.de+c@d.org` nothing may stay, as it would if the first address ended it.
_EMAIL = r"(?<![\w.%+@-])@*[\w.%+-][\w.%+@-]*@(?:[\w-]+\.)+(?:xn--[A-Za-z0-9-]+|[^\W\d_]{2,})"

_PHONE = (
    r"[+(0-9](?:"
    r"(?<=\+)[0-9](?:[ ().-]{0,2}[0-9]){6,14}"  # +49 30 1234567
    r"|(?<=\()[0-9]{3}\)[ .-]{0,2}[0-9]{3}[ .-]?[0-9]{4}"  # (415) 555-1234
    r"|(?<=[0-9])(?<![0-9]{2})(?:"
    r"(?:(?<=1)[ .-]\(?[0-9]{3}|[0-9]{2})\)?[ .-]{1,2}[0-9]{3}[ .-]?[0-9]{4}"  # 1-415-555-1234, 415.555.1234
    r"|(?<!\w[0-9])(?<![0-9]\.[0-9])(?:(?<=[2-9])|(?<=1)[2-9])[0-9]{2}[2-9][0-9]{6}(?!\w)"  # 4155551234
    r"))(?![0-9])"
)


def _mask_email(found: str, char: str) -> str:
    local, at, domain = found.rpartition("@")
    shown = local[0] if len(local) > 1 else ""
    return shown + char * (len(local) - len(shown)) + at + domain


def _mask_phone(found: str, char: str) -> str:
    return f"{char * 3}-{char * 3}-{found[-4:]}" if found[-4:].isdecimal() else _mask_digits(found, char)


def _mask_digits(found: str, char: str) -> str:
    """Mask all digits but the last four; what stands between them stays."""
    left = sum(map(str.isdecimal, found)) - 4
    masked: list[str] = []
    for letter in found:
        hide = letter.isdecimal() and left > 0
        left -= letter.isdecimal()
        masked.append(char if hide else letter)
    return "".join(masked)


# --- addresses of machines ---------------------------------------------------------------------------------

_IPV4 = re.compile(r"[0-9](?<![0-9]{2})(?<![0-9]\.[0-9])(?<!\b[vV][0-9])[0-9]{0,2}(?:\.[0-9]{1,3}){3}(?![0-9]|\.[0-9])")
_IPV6 = re.compile(
    r"[0-9A-Fa-f:](?<![0-9A-Fa-f]{2})(?<![0-9A-Fa-f]:)"
    r"(?:[0-9A-Fa-f]{0,3}:|(?<=:):)[0-9A-Fa-f:.]{0,40}(?![\w:])"
)
_URL = r"(?<![A-Za-z0-9+.-])[A-Za-z0-9+.-]+://[^\s<>\"'`\\^{|}]+"
_UUID = r"[0-9A-Fa-f][0-9A-Fa-f]{7}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"


def _find_ipv4(text: str) -> Iterator[Span]:
    for match in _IPV4.finditer(text):
        if all(int(part) < 256 for part in match.group().split(".")):
            yield match.span()


_IPV6_SIGN = re.compile(r":[0-9A-Fa-f]{0,4}:")


def _find_ipv6(text: str) -> Iterator[Span]:
    if not _IPV6_SIGN.search(text):
        return
    for match in _IPV6.finditer(text):
        start, end = match.span()
        while start < end:
            length = _ipv6_length(text[start:end])
            if length:
                yield start, start + length
                break
            colon = text.find(":", start, end)
            start = colon + 1 if colon >= 0 else end


def _ipv6_length(text: str) -> int:
    """Return the length of the address that `text` is but for punctuation behind it; 0 where it is none."""
    return next((len(found) for found in (text.rstrip("."), text.rstrip(".:")) if _is_ipv6(found)), 0)


def _is_ipv6(text: str) -> bool:
    if not any(map(str.isdecimal, text)) and text.count(":") < 4:
        return False  # `a::b` is more often a name in a program
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _find_url(text: str) -> Iterator[Span]:
    for start, end in _FIND_URL(text):
        yield start, start + len(text[start:end].rstrip(".,;:!?)]"))


_FIND_URL = _matches(_URL)


def _mask_ipv4(found: str, char: str) -> str:
    return f"{char * 3}." * 3 + found.rpartition(".")[2]


def _mask_ipv6(found: str, char: str) -> str:
    return f"{char * 4}:" * 3 + re.split("[:.]", found)[-1]


def _mask_url(found: str, char: str) -> str:
    scheme, _, rest = found.partition("://")
    host = re.split("[/?#]", rest, maxsplit=1)[0]
    user, at, host = host.rpartition("@")
    return f"{scheme}://{char * 3 if user else ''}{at}{host}/{char}"


# --- credentials -------------------------------------------------------------------------------------------

_API_KEY = (
    r"s(?<![A-Za-z0-9]s)k-[A-Za-z0-9_-]{16,}"
    r"|sk_(?:live|test)_[A-Za-z0-9]{10,}"
    r"|pk_(?:live|test)_[A-Za-z0-9]{10,}"
    r"|rk_(?:live|test)_[A-Za-z0-9]{10,}"
    r"|gh[a-z]_[A-Za-z0-9]{20,}"
    r"|github_pat_[A-Za-z0-9_]{20,}"
    r"|glpat-[A-Za-z0-9_-]{16,}"
    r"|gsk_[A-Za-z0-9]{20,}"
    r"|hf_[A-Za-z0-9]{20,}"
    r"|npm_[A-Za-z0-9]{20,}"
    r"|nvapi-[A-Za-z0-9_-]{20,}"
    r"|xai-[A-Za-z0-9]{20,}"
    r"|xox[a-z]-[A-Za-z0-9-]{10,}"
    r"|api[ _-]?[Kk]ey[\"']?\s{0,3}[:=]\s{0,3}[\"']?([A-Za-z0-9._~+/-]{7,}[A-Za-z0-9_~+/-]=*)"
    r"|A(?:pi|PI)[ _-]?(?:[Kk]ey|KEY)[\"']?\s{0,3}[:=]\s{0,3}[\"']?([A-Za-z0-9._~+/-]{7,}[A-Za-z0-9_~+/-]=*)"
)
_API_KEY_PREFIX = re.compile(
    r"sk-|[spr]k_(?:live|test)_|gh[a-z]_|github_pat_|glpat-|gsk_|hf_|npm_|nvapi-|xai-|xox[a-z]-"
)
_BEARER = r"(?:[Bb]earer|BEARER):?[ \t]{1,8}([A-Za-z0-9._~+/-]{7,}[A-Za-z0-9_~+/-]=*)"
_JWT = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+(?:(?:\.[A-Za-z0-9_-]+){1,3}|\.)")
_JWT_SEGMENT = re.compile(r"[A-Za-z0-9_-]*")
_AWS_ID = r"A(?:KIA|SIA|BIA|CCA|GPA|IDA|IPA|NPA|NVA|ROA|3T[A-Z0-9])[A-Z0-9]{16,}"
_AWS_SECRET = re.compile(r"[A-Za-z0-9/+](?<![A-Za-z0-9/+]{2})[A-Za-z0-9/+]{39}(?![A-Za-z0-9/+=])")
_GCP_KEY = r"A(?<![A-Za-z0-9]A)Iza[A-Za-z0-9_-]{30,}"  # by chance four letters stand in any base64
_AZURE_KEY = (
    r"[Aa]ccount[Kk]ey=([A-Za-z0-9+/]{20,}={0,2})"
    r"|(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{86}=="
)


def _find_jwt(text: str) -> Iterator[Span]:
    start = text.find("eyJ")
    while start >= 0:
        match = _JWT.match(text, start)
        if match:
            yield match.span()
        # Where one `eyJ` of a run of letters begins no token, no later one of that run does.
        end = match.end() if match else _end_of_segment(text, start)
        start = text.find("eyJ", end)


def _end_of_segment(text: str, start: int) -> int:
    segment = _JWT_SEGMENT.match(text, start)
    return segment.end() if segment else start


def _find_aws_secret(text: str) -> Iterator[Span]:
    if max(map(len, text.split()), default=0) < 40:
        return  # splitting costs a fifth of the search
    for match in _AWS_SECRET.finditer(text):
        found = match.group()
        # A hash has no capitals, a path or a long word no digits.
        if any(map(str.isdecimal, found)) and not found.islower() and not found.isupper():
            yield match.span()


def _mask_api_key(found: str, char: str) -> str:
    prefix = _API_KEY_PREFIX.match(found)
    return keep_ends(prefix.end() if prefix else 0, 4)(found, char)


def _mask_jwt(found: str, char: str) -> str:
    header, _, rest = found.partition(".")
    return f"{header}.{keep_ends(0, 6)(rest, char)}"


# --- cards -------------------------------------------------------------------------------------------------

_CARD_RUN = re.compile(r"[0-9](?<![0-9]{2})(?<![0-9]\.[0-9])(?:[ -]?[0-9]){12,}")
_DIGITS = re.compile(r"[0-9]+")
_CARD_BEGINNINGS: dict[int, tuple[str, ...]] = {
    13: ("4",),
    14: ("30", "36", "38", "39"),
    15: ("34", "37", "2131", "1800"),
    16: ("22", "23", "24", "25", "26", "27", "35", "4", "5", "6"),
    17: ("5", "6"),
    18: ("5", "6"),
    19: ("4", "5", "6"),
}
"""The beginnings of the issuers' numbers, by length."""
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def _find_card(text: str) -> Iterator[Span]:
    for run in _CARD_RUN.finditer(text):
        groups = [found.span() for found in _DIGITS.finditer(text, *run.span())]
        first = 0
        while first < len(groups):
            last = _card_from(text, groups, first)
            if last is not None:
                yield groups[first][0], groups[last][1]
            first = first + 1 if last is None else last + 1


def _card_from(text: str, groups: list[Span], first: int) -> int | None:
    """Return the group with which the longest card number that begins with the group `first` ends."""
    digits, longest = "", None
    for last in range(first, min(first + 19, len(groups))):
        digits += text[slice(*groups[last])]
        if len(digits) > 19:
            break
        if digits.startswith(_CARD_BEGINNINGS.get(len(digits), ())) and _passes_luhn(digits):
            longest = last
    return longest


def _passes_luhn(digits: str) -> bool:
    values = [int(digit) for digit in reversed(digits)]
    return (sum(values[::2]) + sum(_DOUBLED[value] for value in values[1::2])) % 10 == 0


# --- the table ---------------------------------------------------------------------------------------------

_LAST_FOUR = keep_ends(0, 4)

DETECTORS: dict[str, Detector] = {
    detector.name: detector
    for detector in (
        Detector("email", _matches(_EMAIL), _mask_email, 6, ("@",)),
        Detector("phone", _matches(_PHONE), _mask_phone, 8),
        Detector("api_key", _matches(_API_KEY), _mask_api_key, 12, ("-", "_", "ey", "EY"), ("api_key", "apikey")),
        Detector("ip_address", _find_ipv4, _mask_ipv4, 7, (".",)),
        Detector("ipv6", _find_ipv6, _mask_ipv6, 3, (":",)),
        Detector("url", _find_url, _mask_url, 5, ("://",)),
        Detector("uuid", _matches(_UUID), _LAST_FOUR, 36, ("-",)),
        Detector("bearer_token", _matches(_BEARER), _LAST_FOUR, 15, ("earer", "EARER")),
        Detector("jwt", _find_jwt, _mask_jwt, 7, ("eyJ",)),
        Detector("credit_card", _find_card, _mask_digits, 13, numbers=True),
        Detector("aws_access_key_id", _matches(_AWS_ID), keep_ends(4, 4), 20, ("A",)),
        Detector("aws_secret_access_key", _find_aws_secret, _LAST_FOUR, 40, members=("secret_access_key",)),
        Detector("gcp_api_key", _matches(_GCP_KEY), keep_ends(6, 4), 34, ("AIza",)),
        Detector(
            "azure_storage_account_key",
            _matches(_AZURE_KEY),
            _LAST_FOUR,
            31,
            ("==", "ccountKey=", "ccountkey="),
            ("account_key", "accountkey", "azure_storage_key"),
        ),
    )
}
"""The detectors by name."""
