r"""What personal data and credentials look like: sixteen detectors, each with the mask that suits it.

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

from spanrelay._masking import PRIVATE_KEY, TOKENS, is_basic

Span: TypeAlias = tuple[int, int]
Find: TypeAlias = Callable[[str], Iterator[Span]]
Mask: TypeAlias = Callable[[str, str], str]


def is_word(text: str) -> bool:
    """Whether a text is one word of eight letters or more."""
    return len(text) >= 8 and not any(map(str.isspace, text))


@dataclass(frozen=True, slots=True)
class Detector:
    """One kind of data.

    Attributes:
        name: As a configuration names it.
        find: The places in a text that is spelled plainly, in order and apart.
        mask: `(found, mask character) ->` what may be shown of it.
        shortest: Characters of the shortest match.
        hints: Every text with a match has one of these; where there is none, every text is looked at.
        members: Endings of object keys, in lower case with `_`, whose value is such data if it `fits`.
        fits: Whether a text under such a key is such data.
        numbers: Whether an integer may be such data, whatever its key.
    """

    name: str
    find: Find
    mask: Mask
    shortest: int
    hints: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    fits: Callable[[str], bool] = is_word
    numbers: bool = False


def _matches(pattern: str) -> Find:
    """Return a finder of the pattern's matches, or of the one group that took part in a match."""
    compiled = re.compile(pattern)

    def find(text: str) -> Iterator[Span]:
        for match in compiled.finditer(text):
            yield match.span(match.lastindex or 0)

    return find


def _behind(words: str, hints: tuple[str, ...], pattern: str, between: str = r"[^0-9\n_]{0,24}") -> Find:
    """Return a finder of what a word before it gives away, in whatever case; all is in lower case here."""
    compiled = re.compile(rf"(?<![a-z])(?:{words}){between}(?<![A-Za-z0-9_.-])({pattern})(?![A-Za-z0-9_-])")

    def find(text: str) -> Iterator[Span]:
        lowered = _lower(text)
        if any(hint in lowered for hint in hints):
            for match in compiled.finditer(lowered):
                yield match.span(1)

    return find


def _lower(text: str) -> str:
    """Return a text in lower case, letter by letter: of a few that would be two, and move all others, it stays."""
    lowered = text.lower()
    return lowered if len(lowered) == len(text) else "".join(low if len(low := c.lower()) == 1 else c for c in text)


def _any_of(*finds: Find) -> Find:
    """Return a finder of what several find; what begins first, or else is longest, takes the place."""

    def find(text: str) -> Iterator[Span]:
        end = 0
        found = {span for each in finds for span in each(text)}
        for start, stop in sorted(found, key=lambda span: (span[0], -span[1])):
            if start >= end:
                yield start, stop
                end = stop

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

# The run takes in every `@`: of `a@b.de+c@d.org` nothing may stay, as it would if the first address ended it. A quote
# may stand within a name, not before it.
_DOMAIN = r"(?:(?:[\w-]+\.)+(?:xn--[A-Za-z0-9-]+|[^\W\d_]{2,})|localhost(?![A-Za-z0-9_.-]))"
_FIND_EMAIL = _matches(
    rf"(?<![\w.%+@'&-])['&]*(@*[\w.%+-][\w.%+@'&-]*@{_DOMAIN})" + rf'|"[^"\s@][^"\r\n@]{{0,62}}"@{_DOMAIN}'
)
_NO_PERSON = re.compile(r"(?:git|hg)@|[^@]*@[0-9]x\.[a-z]+")  # a repository's place; an image at twice its size


def _find_email(text: str) -> Iterator[Span]:
    for start, end in _FIND_EMAIL(text):
        if not _NO_PERSON.match(text, start, end):
            yield start, end


_PHONE = (
    r"[+(0-9](?:"
    # +49 30 1234567, and no number with a sign and a point
    r"(?<=\+)(?<![A-Za-z0-9_+)]\+)[1-9](?!(?!(?<=1)\.[0-9]{10}(?![0-9]))[0-9]{0,2}\.[0-9]{1,20}(?![0-9.\- ]))"
    # and no place on earth, +56.0612-133.5217
    r"(?![0-9]{0,2}\.[0-9]{2,20}-[0-9]{1,3}\.[0-9])"
    # and no second number with a sign, nor an amount of something
    r"(?:(?:(?! -[0-9])[ ().\-/]){0,3}[0-9]){6,14}(?! (?:bytes|tokens|rows|lines|points)\b)"
    # 0049 30 1234567
    r"|(?<=0)(?<![A-Za-z0-9_.-]0)(?<![0-9][ :,]0)0[1-9][0-9]{0,2}[ /(-]{1,2}(?=[1-9(])(?![0-9]{4}(?:[ -][0-9]{4}){2})"
    r"(?:[ ().\-/]{0,3}[0-9]){6,12}"
    # (415) 555-1234
    r"|(?<=\()[2-9][0-9]{2}\)[ .\-/]{0,3}[2-9][0-9]{2}[ .-]{0,3}[0-9]{4}"
    # 1-415-555-1234, 415.555.1234
    r"|(?<=[0-9])(?<![A-Za-z0-9_][0-9])(?<![0-9]\.[0-9])(?:(?<=1)[ .\-/]{1,3}\(?[2-9][0-9]{2}|(?<=[2-9])"
    # and no end of a sum, 3 415 920 6611
    r"(?!(?:(?<=\b[0-9] [0-9])|(?<=\b[0-9]{2} [0-9])|(?<=\b[0-9]{3} [0-9]))[0-9]{2} [0-9]{3} [0-9]{4})"
    # nor a row of a table, whose columns are as wide as their longest number
    r"(?![0-9]{2}(?:  [0-9]{3} |   [0-9]{3}  )[0-9]{4})[0-9]{2})"
    # 415-5551234, and no number of an order, whose last part is as long
    r"(?:\)?[ .\-/]{1,3}[2-9][0-9]{2}[ .\-/]{1,3}|[-/][2-9][0-9]{2}(?![0-9]{4}-[0-9]))[0-9]{4}"
    r")(?![0-9])"
)
_TEN_DIGITS = "1?[2-9][0-9]{2}[2-9][0-9]{6}"
_PHONE_WORDS = ("phone", "mobile", "tel", "fax", "sms", "whatsapp", "dial")
_PERSON = r"(?: me| us| him| her| them)"
_FIND_PHONE = _any_of(
    _matches(_PHONE),
    _behind(rf"(?:tele)?(?:{'|'.join(_PHONE_WORDS)})", _PHONE_WORDS, _TEN_DIGITS),
    _behind(
        rf"call(?:{_PERSON}| back)?(?: on| at)?"
        rf"|(?:cell|contact)(?: (?:phone|number|no\.))?(?:{_PERSON})?(?: is| on| at)?"
        rf"|(?:text|reach)(?:{_PERSON}(?: on| at)?| on| at)",
        ("call", "cell", "contact", "text", "reach"),
        _TEN_DIGITS,
        "[: #]{1,3}",
    ),
)


def _is_phone(text: str) -> bool:
    return 7 <= sum(map(str.isdecimal, text)) <= 15 and not text.strip("0123456789+()./- ")


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
_AWS_HOST = re.compile(r"i(?<![A-Za-z0-9_-]i)p-[0-9]{1,3}(?:-[0-9]{1,3}){3}(?![A-Za-z0-9_-])")
_VERSION_WORD = re.compile(
    r"(?:(?:\b(?:versions?|ver|release|rev|build|tag|sections?|chapter|clause|article|appendix)\b|§)[\"':= -]{0,4}"
    r"|[A-Z][A-Za-z]{2,}/"
    r"|[=<>~!]= ?)$",
    re.IGNORECASE,
)
_VERSION_END = re.compile(r"[.-][A-Za-z]")
_IPV6 = re.compile(
    r"[0-9A-Fa-f:](?<![0-9A-Fa-f]{2})(?<![0-9A-Fa-f]:)"
    r"(?:[0-9A-Fa-f]{0,3}:|(?<=:):)[0-9A-Fa-f:.]{0,40}(?![A-Za-z0-9_:])"
)
_FIND_SCHEME = _matches(r"(?<![A-Za-z0-9+.-])[A-Za-z0-9+.-]+://[^\s<>\"'`\\^{|}]+")
_FIND_WWW = _matches(r"w(?<![A-Za-z0-9_@./-]w)ww\.[A-Za-z0-9-]{1,63}\.[A-Za-z][^\s<>\"'`\\^{|}]*")
_FIND_URL = _any_of(
    lambda text: _FIND_SCHEME(text) if "://" in text else iter(()),
    lambda text: _FIND_WWW(text) if "www." in text else iter(()),
)
_HEX = re.compile("[0-9A-Fa-f]{32}")


def _is_uuid(text: str) -> bool:
    return _HEX.fullmatch(text) is not None


_FIND_UUID = _any_of(
    _matches(r"[0-9A-Fa-f][0-9A-Fa-f]{7}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"),
    _behind("uuid|guid", ("uuid", "guid"), "[0-9a-f]{32}", r"[\"':= ({]{0,6}"),
)


def _find_ipv4(text: str) -> Iterator[Span]:
    for match in _IPV4.finditer(text):
        start, end = match.span()
        if _are_octets(match.group().split(".")) and not _is_version(text, start, end):
            yield start, end


def _find_aws_host(text: str) -> Iterator[Span]:
    for match in _AWS_HOST.finditer(text):
        if _are_octets(match.group().split("-")[1:]):
            yield match.span()


def _are_octets(parts: list[str]) -> bool:
    are_padded = all(len(part) == 3 for part in parts)
    return all(int(part) < 256 and (are_padded or len(part) == 1 or part[0] != "0") for part in parts)


def _is_version(text: str, start: int, end: int) -> bool:
    """Whether four numbers are called a version, or are part of a file's name."""
    if _VERSION_WORD.search(text[max(0, start - 16) : start]):
        return True
    return text[max(0, start - 2) : start].endswith("-") and _VERSION_END.match(text, end) is not None


_IN_CODE = re.compile("[A-Za-z_][0-9A-Fa-f]{0,4}::(?!:)")
"""A name in a program: `crate::a4::b`."""
_PORT = re.compile(":::[0-9]{2,5}(?![0-9A-Fa-f:])")
"""Of every address, as tables of connections write it."""
_EUI64 = re.compile("(?:[0-9A-Fa-f]{2}:){7}[0-9A-Fa-f]{2}")
_IPV6_SIGN = re.compile(r":[0-9A-Fa-f]{0,4}:")


def _find_ipv6(text: str) -> Iterator[Span]:
    if not _IPV6_SIGN.search(text):
        return
    for match in _IPV6.finditer(text):
        start, end = match.span()
        if start and _IN_CODE.match(text, start - 1):
            continue
        while start < end:
            length = _ipv6_length(text[start:end])
            if length and (_is_slice(text, start, start + length) or _PORT.match(text, max(0, start - 1))):
                break
            if length:
                yield start, start + length
                break
            colon = text.find(":", start, end)
            start = colon + 1 if colon >= 0 else end


_BEFORE_SLICE = re.compile(r"[\w)\]\"']\[[0-9:, -]{0,20}$")


def _is_slice(text: str, start: int, end: int) -> bool:
    """Whether `1::2` is a part of a list in a program: it stands in brackets behind a name."""
    if sum(map(str.isdecimal, text[start:end])) + 2 < end - start or text[end : end + 1] not in "],":
        return False
    return _BEFORE_SLICE.search(text[max(0, start - 24) : start]) is not None


def _ipv6_length(text: str) -> int:
    """Return the length of the address that `text` is but for punctuation behind it; 0 where it is none."""
    return next((len(found) for found in (text.rstrip("."), text.rstrip(".:")) if _is_ipv6(found)), 0)


def _is_ipv6(text: str) -> bool:
    if _EUI64.fullmatch(text):
        return False
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


def _mask_ipv4(found: str, char: str) -> str:
    return f"{char * 3}." * 3 + re.split("[.-]", found)[-1]


def _mask_ipv6(found: str, char: str) -> str:
    return f"{char * 4}:" * 3 + re.split("[:.]", found)[-1]


def _mask_url(found: str, char: str) -> str:
    scheme, separator, rest = found.rpartition("://") if "://" in found else ("", "", found)
    host = re.split("[/?#]", rest, maxsplit=1)[0]
    user, at, host = host.rpartition("@")
    return f"{scheme}{separator}{char * 3 if user else ''}{at}{host}/{char}"


# --- credentials -------------------------------------------------------------------------------------------

_TOKEN = re.compile(rf"(?<![A-Za-z0-9])(?:{TOKENS}|pk_(?:live|test)_[A-Za-z0-9]{{10,}})|{PRIVATE_KEY}")
_TOKEN_SIGN = re.compile(r"[-_.](?=[A-Za-z0-9_+/=-]{10})|PRIVATE KEY|dapi[0-9a-f]|:AA|ABSK")
_API_KEY_PREFIX = re.compile(
    r"sk-|pk-lf-|[spr]k_(?:live|test)_|gh[a-z]_|github_pat_|glpat-|gsk_|hf_(?:oauth_)?|npm_|nvapi-|xai-|xox[a-z]-|xapp-|pypi-"
    r"|whsec_|r8_|dop_v1_|lsv2_[a-z]{2}_|ya29\.|AQ\.|ABSK|bedrock-api-key-|pplx-|tvly-(?:[a-z]{2,5}-)?|fc-|csk-|pcsk_|e2b_|wandb_v[0-9]_|pylf_v[0-9]_[a-z]{2}_"
    r"|jina_|fw_|ntn_|lin_api_|tgp_v[0-9]_|glsa_|glc_|shp[a-z]{2}_|figd_|sbp_|sb_secret_|vck_|sntry[su]_|GOCSPX-|PMAK-|NRAK-|sk_"
)
_VALUE = r"[A-Za-z0-9._~+/-]{7,}[A-Za-z0-9_~+/-]=*"
_NO_VALUE = (
    r"(?!os\.|self\.|(?:none|null|true|false|str|string|required|optional|getpass)(?![a-z0-9_-])"
    # the name of what has it, and what a page says in its place
    r"|(?:[a-z0-9_.]{0,40}[_.\['\"-])?(?:password|passwd|secret|api[_-]?key|credentials?)(?:_value)?(?![a-z0-9_.-]))"
)
_ASSIGNED = re.compile(
    # api_key=…, api_key: "…"
    rf"api[ _-]?key[\"']?\s{{0,3}}[:=]\s{{0,3}}(?:\[[\"']|[\"']?){_NO_VALUE}({_VALUE})"
    # password=…, and behind a colon what is quoted or has a figure in it
    rf"|(?:passw(?:or)?d|passphrase|secret|secret_?key)[\"']?\s{{0,3}}(?:=\s{{0,3}}[\"']?{_NO_VALUE}"
    r"|:\s{0,3}(?:[\"']|(?=[^\s\"',;]{0,40}[0-9])))(?P<secret>[^\s\"'`,;&<>(){}\[\]$]{4,})"
    # token=…, but not that of a page
    r"|(?<!page)(?<!page_)(?<!page-)(?<!next)(?<!next_)(?<!continuation)(?<!continuation_)(?<!publickey)token[\"']?\s{0,3}[:=]\s{0,3}[\"']?"
    rf"(?=[^\s\"']{{0,40}}[0-9])({_VALUE})"
    r"|authorization[\"']?\s{0,3}[:=]\s{0,3}[\"']?(?:(?:basic|bearer|token|digest|apikey)\s{1,3})?"
    rf"{_NO_VALUE}([a-z0-9._~+/-]{{8,}}=*)"
)
_ASSIGNED_HINTS = ("passw", "passphrase", "secret", "token", "key", "authoriz")
_BASIC = re.compile(r"basic[ \t]{1,8}([A-Za-z0-9+/]{8,}={0,2})", re.IGNORECASE)


def _find_tokens(text: str) -> Iterator[Span]:
    if _TOKEN_SIGN.search(text):
        for match in _TOKEN.finditer(text):
            yield match.span()


def _find_assigned(text: str) -> Iterator[Span]:
    lowered = _lower(text)
    if any(hint in lowered for hint in _ASSIGNED_HINTS):
        for match in _ASSIGNED.finditer(lowered):
            yield match.span(match.lastindex or 0)


def _find_basic(text: str) -> Iterator[Span]:
    if "asic" in text or "ASIC" in text:
        for match in _BASIC.finditer(text):
            if is_basic(match.group(1).encode()):
                yield match.span(1)


def _fits_secret(text: str) -> bool:
    """Whether a member called a secret holds one: not what says that there is one, or what it must be."""
    return len(text) >= 4 and text.lower() not in ("null", "none", "true", "false", "string", "required", "optional")


_BEARER = re.compile(r"[bB](?:earer|EARER):?\s{1,8}([A-Za-z0-9._~+/-]{7,}[A-Za-z0-9_~+/-]=*)")
_JWT = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+(?:(?:\.[A-Za-z0-9_-]+){1,3}|\.)")
_JWT_SEGMENT = re.compile(r"[A-Za-z0-9_-]*")
_AWS_ID = (
    # and no sequence of bases
    r"A(?<![A-Z0-9]A)(?:KIA|SIA|BIA|CCA|GPA|IDA|IPA|NPA|NVA|ROA|3T[A-Z0-9])(?![ACGTUN]{16})[A-Z0-9]{16,}"
)
_AWS_SECRET = re.compile(r"[A-Za-z0-9/+](?<![A-Za-z0-9/+_-][A-Za-z0-9/+])[A-Za-z0-9/+]{39}(?![A-Za-z0-9/+=_-])")
_AWS_WORD = re.compile(r"aws|amazon|secret|A(?:K|S)IA[A-Z0-9]{16}", re.IGNORECASE)
_GCP_KEY = r"A(?<![A-Za-z0-9]A)Iza[A-Za-z0-9_-]{30,}"  # by chance four letters stand in any base64
_FIND_AZURE_KEY = _matches(
    r"[Aa]ccount[Kk]ey=([A-Za-z0-9+/]{20,}={0,2})"
    # 64 bytes, which a digest and a signature have too
    r"|(?<![A-Za-z0-9+/])(?<![Ss][Hh][Aa]512[-:=])[A-Za-z0-9+/]{86}=="
)
_AZURE_WORD = re.compile("azure|account|storage|cosmos|secret|key", re.IGNORECASE)


def _find_bearer(text: str) -> Iterator[Span]:
    for match in _BEARER.finditer(text):
        found = match.group(1)
        if len(found) >= 20 or any(map(str.isdecimal, found)):  # the bearer authentication of a text
            yield match.span(1)


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
    if max(map(len, text.split()), default=0) < 40 or not _AWS_WORD.search(text):
        return  # any thirty bytes in base64 look so; splitting costs a fifth of the search
    for match in _AWS_SECRET.finditer(text):
        found = match.group()
        # A hash has no capitals, a path or a long word no digits.
        if any(map(str.isdecimal, found)) and not found.islower() and not found.isupper():
            yield match.span()


def _find_azure_key(text: str) -> Iterator[Span]:
    if _AZURE_WORD.search(text):
        yield from _FIND_AZURE_KEY(text)


def _mask_api_key(found: str, char: str) -> str:
    prefix = _API_KEY_PREFIX.match(found)
    if len(found) < 12 or found.startswith("-----"):
        return char * len(found)
    return keep_ends(prefix.end() if prefix else 0, 4)(found, char)


def _mask_jwt(found: str, char: str) -> str:
    header, _, rest = found.partition(".")
    return f"{header}.{keep_ends(0, 6)(rest, char)}"


# --- accounts ----------------------------------------------------------------------------------------------

_CARD_RUN = re.compile(r"[0-9](?<![0-9]{2})(?<![0-9]\.[0-9])(?<!1Z[0-9])(?:[ \-./_\t\r\n]{0,3}[0-9]){12,}")
_DIGITS = re.compile(r"[0-9]+")
_CARD_BEGINNINGS: dict[int, tuple[str, ...]] = {
    14: ("300", "301", "302", "303", "304", "305", "36", "38", "39"),
    15: ("34", "37"),
    16: (
        *("4", "51", "52", "53", "54", "55", *map(str, range(223, 272)), "2221", "2222", "2223", "2224", "2225"),
        *("2226", "2227", "2228", "2229", "2720", "6011", "644", "645", "646", "647", "648", "649", "65", "62"),
        *(str(jcb) for jcb in range(3528, 3590)),
        *("5018", "5020", "5038", "5893", "6304", "6759", "6761", "6762", "6763"),
    ),
    19: ("4", "62", "6011", "65"),
}
"""The beginnings of the issuers' numbers, by length."""
_PRINTED = ((4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (4, 4, 4, 4))
"""How digits are grouped on cards."""
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
_YEARS = ("19", "20")
_MOST_FOURS = 19
"""Groups of four up to which a list of them is looked at: as many are no cards."""


def _find_card(text: str) -> Iterator[Span]:
    for run in _CARD_RUN.finditer(text):
        groups = [found.span() for found in _DIGITS.finditer(text, *run.span())]
        at = 0
        while at < len(groups):
            count = _card_at(text, groups, at)
            if count:
                yield groups[at][0], groups[at + count - 1][1]
            at += count or 1


def _card_at(text: str, groups: list[Span], at: int) -> int:
    """Return of how many groups the card number is that begins with the group `at`; 0 where none does."""
    start, end = groups[at]
    if 14 <= end - start <= 16:
        is_fraction = text[start - 1 : start] == "." or (
            text[end : end + 1] == "." and text[end + 1 : end + 2].isdigit()
        )
        return int(not is_fraction and _is_card(text[start:end]))
    if end - start != 4:
        return 0
    for form in _PRINTED:
        chosen = groups[at : at + len(form)]
        if tuple(stop - first for first, stop in chosen) != form or not _is_card(_joined(text, chosen)):
            continue
        return len(form) if form[1] == 6 or _stands_alone(text, groups, at) else 0
    return 0


def _joined(text: str, groups: list[Span]) -> str:
    return "".join(text[start:end] for start, end in groups)


def _stands_alone(text: str, groups: list[Span], at: int) -> bool:
    """Whether four groups of four are no part of a longer list of such, but for a year, or for further cards."""
    first, last = at, at + 4
    while first and at - first < _MOST_FOURS and groups[first - 1][1] - groups[first - 1][0] == 4:
        first -= 1
    while last < len(groups) and last - at < _MOST_FOURS and groups[last][1] - groups[last][0] == 4:
        last += 1
    if last - first == 5:
        return text[groups[last - 1 if first == at else first][0] :].startswith(_YEARS)
    cards = [_joined(text, groups[card : card + 4]) for card in range(first, last, 4)]
    return (at - first) % 4 == 0 and last - first in (4, 8, 12, 16) and all(map(_is_card, cards))


def _is_card(digits: str) -> bool:
    return digits.startswith(_CARD_BEGINNINGS.get(len(digits), ())) and _passes_luhn(digits)


def _passes_luhn(digits: str) -> bool:
    values = [int(digit) for digit in reversed(digits)]
    return (sum(values[::2]) + sum(_DOUBLED[value] for value in values[1::2])) % 10 == 0


def _fits_card(text: str) -> bool:
    digits = re.sub(r"[^0-9]", "", text)
    return 12 <= len(digits) <= 19 and _passes_luhn(digits)


_IBAN_START = re.compile(
    r"[0-9](?<=[A-Za-z]{2}[0-9])(?<![A-Za-z0-9][A-Za-z]{2}[0-9])[0-9][ -]?[A-Za-z0-9]{4}"  # behind the country
)
_ALNUM = re.compile("[A-Za-z0-9]")
_IBAN_LETTER = re.compile(r"[ -]?([A-Za-z0-9])")
_COUNTRIES = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29  "
    "ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20  "
    "LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29  "
    "PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20  "
    "YE30 "
)
_IBAN_LENGTHS = {found[:2]: int(found[2:]) for found in re.findall(r"\w+", _COUNTRIES)}
"""Characters of an account's number, by country."""


def _find_iban(text: str) -> Iterator[Span]:
    end = 0
    for match in _IBAN_START.finditer(text):
        start = match.start() - 2
        length = _IBAN_LENGTHS.get(text[start : start + 2].upper())
        if length is not None and start >= end:
            stop = _end_of_iban(text, start, length)
            if stop is not None:
                yield start, stop
                end = stop


def _end_of_iban(text: str, start: int, length: int) -> int | None:
    """Return where an account's number of `length` ends that begins at `start`; None where its check digits fail."""
    letters, end = "", start
    while len(letters) < length:
        match = _IBAN_LETTER.match(text, end)
        if match is None:
            return None
        letters, end = letters + match.group(1), match.end()
    if _ALNUM.match(text, end):
        return None
    return end if int("".join(str(int(letter, 36)) for letter in letters[4:] + letters[:4])) % 97 == 1 else None


_SSN = "(?!000|666|9)[0-9]{3}%s(?!00)[0-9]{2}%s(?!0000)[0-9]{4}"
_SSN_GROUPS = re.compile(r"[0-9](?<![A-Za-z0-9_.-][0-9])[0-9]{2}([ -])[0-9]{2}[ -][0-9]{4}(?![A-Za-z0-9_-])")


def _find_ssn_groups(text: str) -> Iterator[Span]:
    for match in _SSN_GROUPS.finditer(text):
        start, end = match.span()
        mark = match.group(1)
        in_list = mark == " " and (text[max(0, start - 2) : start - 1].isdigit() or text[end + 1 : end + 2].isdigit())
        if text[start + 6] == mark and _fits_ssn(match.group()) and not in_list:
            yield start, end


_FIND_SSN = _any_of(
    _find_ssn_groups,
    _behind("ssn|social security", ("ssn", "social security"), _SSN % ("[ .-]?", "[ .-]?")),
)
_IS_SSN = re.compile(_SSN % ("[ .-]?", "[ .-]?"))


def _fits_ssn(text: str) -> bool:
    return _IS_SSN.fullmatch(text) is not None


# --- the table ---------------------------------------------------------------------------------------------

_LAST_FOUR = keep_ends(0, 4)
_SECRETS = (
    "api_key",
    "password",
    "passwd",
    "passphrase",
    "secret",
    "authorization",
    "private_key",
    "secret_key",
    "access_token",
    "refresh_token",
    "auth_token",
    "session_token",
    "api_token",
    "id_token",
)

DETECTORS: dict[str, Detector] = {
    detector.name: detector
    for detector in (
        Detector("email", _find_email, _mask_email, 6, ("@",)),
        Detector(
            "phone",
            _FIND_PHONE,
            _mask_phone,
            8,
            members=("phone", "phone_number", "phonenumber", "mobile", "telephone", "tel", "fax", "msisdn"),
            fits=_is_phone,
        ),
        Detector(
            "api_key",
            _any_of(_find_tokens, _find_assigned, _find_basic),
            _mask_api_key,
            8,
            members=_SECRETS,
            fits=_fits_secret,
        ),
        Detector("ip_address", _any_of(_find_ipv4, _find_aws_host), _mask_ipv4, 7, (".", "ip-")),
        Detector("ipv6", _find_ipv6, _mask_ipv6, 3, (":",)),
        Detector("url", _find_url, _mask_url, 5, ("://", "www.")),
        Detector("uuid", _FIND_UUID, _LAST_FOUR, 32, members=("uuid", "guid"), fits=_is_uuid),
        Detector("bearer_token", _find_bearer, _LAST_FOUR, 15, ("earer", "EARER")),
        Detector("jwt", _find_jwt, _mask_jwt, 7, ("eyJ",)),
        Detector(
            "credit_card",
            _find_card,
            _mask_digits,
            13,
            members=("card", "card_number", "cardnumber", "credit_card", "pan"),
            fits=_fits_card,
            numbers=True,
        ),
        Detector("iban", _find_iban, keep_ends(4, 4), 15),
        Detector("us_ssn", _FIND_SSN, _mask_digits, 9, members=("ssn", "social_security_number"), fits=_fits_ssn),
        Detector("aws_access_key_id", _matches(_AWS_ID), keep_ends(4, 4), 20, ("A",)),
        Detector("aws_secret_access_key", _find_aws_secret, _LAST_FOUR, 40, members=("secret_access_key",)),
        Detector("gcp_api_key", _matches(_GCP_KEY), keep_ends(6, 4), 34, ("AIza",)),
        Detector(
            "azure_storage_account_key",
            _find_azure_key,
            _LAST_FOUR,
            31,
            ("==", "ccountKey=", "ccountkey="),
            ("account_key", "accountkey", "azure_storage_key"),
        ),
    )
}
"""The detectors by name."""
