"""Masks credentials of a known form in what is recorded: `sk-…`, `ghp_…`, `AKIA…`, `Bearer …`, `?key=…`, PEM keys.

Every text that a span shows comes by here, so this is also where lone surrogates go, which no exporter can carry. A
plain substring search decides first, so text without credentials costs next to nothing.
"""

from __future__ import annotations

import base64
import logging
import operator
import re
from collections.abc import Callable, Mapping
from itertools import compress, repeat
from typing import Any, cast

from spanrelay import _voice
from spanrelay._json import MAX_DEPTH, TOO_DEEP, clean_text
from spanrelay.records import JSON

MASK = "[masked key]"

# A key begins where no word goes on: behind `_` that makes it italic, and behind the last letter of what spells a sign,
# `\n`, `\u2014`, `\x1b`, `%2F`, `%252F`, of what gives a terminal's text its colour, `[1;31m`, `[K`, or moves its
# cursor, `[2K`, `[12;1H`, `[?25h`, `(B`. Behind `key_` it has a figure in it, which names of functions have not.
_BEGIN = (
    r"(?:(?<![A-Za-z0-9])(?<![A-Za-z0-9]_)|(?<=[A-Za-z0-9]_)(?=[A-Za-z0-9._:+/=-]{0,80}[0-9])|(?<=\\[abefnrtv])|(?<=\\u[0-9A-Fa-f]{4})|(?<=\\x[0-9A-Fa-f]{2})"
    r"|(?<=[0-9A-Fa-f]{2})(?:(?<=%[0-9A-Fa-f]{2})|(?<=%25[0-9A-Fa-f]{2}))|(?<=[0-9;:\[][0-9]m)|(?<=\[m)|(?<=\[K)"
    r"|(?<=[;\[(0-9][A-HJKSThl])(?:(?<=[;\[][0-9][A-HJKST])|(?<=[;\[][0-9]{2}[A-HJKST])|(?<=\x1b[\[(][A-HJK])"
    r"|(?<=1[bB][\[(][A-HJK])|(?<=033[\[(][A-HJK])|(?<=\[\?[0-9]{2}[hl])|(?<=\[\?[0-9]{4}[hl])))"
)

TOKENS = (
    # not the classes of scikit-learn's HTML
    r"c?sk-(?!estimator-doc|toggleable__|text-repr)[A-Za-z0-9_-]{16,}"
    r"|pk-lf-[A-Za-z0-9_-]{16,}"
    r"|xox[a-z]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{20,}"
    r"|glpat-[A-Za-z0-9_-]{16,}|nvapi-[A-Za-z0-9_-]{20,}|xai-[A-Za-z0-9]{20,}|pypi-[A-Za-z0-9_-]{32,}"
    r"|gh[a-z]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}"
    r"|[sr]k_(?:live|test)_[A-Za-z0-9]{10,}|whsec_[A-Za-z0-9+/]{16,}=*"
    r"|hf_[A-Za-z0-9]{20,}|npm_[A-Za-z0-9]{20,}|gsk_[A-Za-z0-9]{20,}|r8_[A-Za-z0-9]{20,}"
    r"|dop_v1_[A-Za-z0-9]{20,}|lsv2_[a-z]{2}_[A-Za-z0-9_]{20,}"
    r"|pplx-[A-Za-z0-9]{20,}|tvly-[A-Za-z0-9-]{20,}|fc-[0-9a-f]{32}(?![0-9a-z])"
    r"|pcsk_[A-Za-z0-9_]{20,}|e2b_[0-9a-f]{20,}|jina_[A-Za-z0-9]{40,}|fw_[A-Za-z0-9]{20,}|ntn_[A-Za-z0-9]{20,}"
    r"|wandb_v[0-9]_[A-Za-z0-9_]{20,}|pylf_v[0-9]_[a-z]{2}_[A-Za-z0-9]{20,}|tgp_v[0-9]_[A-Za-z0-9_-]{20,}"
    r"|lin_api_[A-Za-z0-9]{20,}|glsa_[A-Za-z0-9_]{20,}|glc_[A-Za-z0-9+/=]{20,}|shp[a-z]{2}_[0-9a-f]{20,}"
    r"|figd_[A-Za-z0-9_-]{20,}|sbp_[0-9a-f]{20,}|sb_secret_[A-Za-z0-9_-]{20,}|vck_[A-Za-z0-9]{20,}"
    r"|sntry[su]_[A-Za-z0-9+/=_]{20,}|sk_[0-9a-f]{40,}|GOCSPX-[A-Za-z0-9_-]{20,}|PMAK-[0-9a-f-]{20,}|NRAK-[A-Z0-9]{20,}"
    r"|re_[A-Za-z0-9]{6,12}_[A-Za-z0-9]{20,}|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}|hv[sbr]\.[A-Za-z0-9_-]{24,}"
    r"|ABSK[A-Za-z0-9+/]{40,}={0,2}|bedrock-api-key-[A-Za-z0-9+/]{40,}={0,2}|hf_oauth_[A-Za-z0-9._-]{20,}"
    r"|ya29\.[A-Za-z0-9_-]{20,}|AQ\.Ab[A-Za-z0-9_-]{24,}"
    r"|dapi[0-9a-f]{32}(?:-[0-9]+)?|[0-9]{8,10}:AA[A-Za-z0-9_-]{33}"
    # the number of a bot in base64
    r"|(?:[MNO][DTjz][AEIMQUYcgk][w-z0-5]){5,6}[A-Za-z0-9_-]{0,3}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}"
)
"""Credentials that their first letters give away; each is to stand where a word begins."""
PRIVATE_KEY = (
    r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY(?: BLOCK)?-----(?:(?!-----)[^\"])*"
    r"(?:-----END [A-Z ]{0,20}PRIVATE KEY(?: BLOCK)?-----)?"
)
"""A private key as PEM, also one that is cut off."""

_PATTERN = (
    _BEGIN + rf"(?:{TOKENS}|AIza[A-Za-z0-9_-]{{20,}}|A[KS]IA[A-Z0-9]{{16}}(?![A-Za-z0-9]))"
    # not the bearer authentication of a text
    r"|(?:(?<=[Bb]earer[ +])|(?<=BEARER )|(?<=[Bb]earer%20))"
    r"(?:(?=[A-Za-z0-9._~+/-]{20}|[A-Za-z._~+/-]{0,19}[0-9])|(?<=ion: [Bb]earer )|(?<=ion=[Bb]earer[ +])"
    r"|(?<=ion=[Bb]earer%20)|(?<=ion['\"]: ['\"][Bb]earer )|(?<=ion['\"]:['\"][Bb]earer )"
    r"|(?<=ion\\\": \\\"[Bb]earer )|(?<=ion\\\":\\\"[Bb]earer ))"
    r"[A-Za-z0-9._~+/-]{8,}=*"
    r"|(?<=[?&]key=)[A-Za-z0-9._~-]{8,}"
    r"|(?<=[?&]api_key=)[A-Za-z0-9._~-]{8,}"
    r"|(?:(?<=[Bb]asic )|(?<=BASIC ))(?P<basic>[A-Za-z0-9+/]{8,}={0,2})"
    r"|(?:(?<=secret_access_key)|(?<=SECRET_ACCESS_KEY))[\\\"' ]{0,4}(?:[:=]|%3[AaDd])[\\\"' ]{0,4}"
    r"[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])"
    rf"|{PRIVATE_KEY}"
)
_TEXT = re.compile(_PATTERN)
_BYTES = re.compile(_PATTERN.encode())

_SHORTEST = 13
# What credentials have in them, behind a letter without which no text has it: looking for one letter costs a tenth of
# looking for several, and a compiled search for several half of what `in` does. No credential is without any of these.
_SIGNS = (
    ("A", r"A(?:Iza|[KS]IA|BSK|A(?<=:AA))"),
    ("b", r"b(?:earer|asic |edrock-api-key-)"),
    ("B", r"B(?:earer|EARER |asic |ASIC |EGIN [A-Z ]{0,20}PRIVATE KEY)"),
    ("=", r"key="),
    ("d", r"dapi"),
    (
        ".",
        r"\.(?=[A-Za-z0-9_-]{6}(?:\.|[A-Za-z0-9_-]{10}))(?:(?<=SG\.)|(?<=hv[sbr]\.)|(?<=ya29\.)|(?<=AQ\.)|.{6}\.[A-Za-z0-9_-]{27})",
    ),
    ("\\", r"\\u(?:00(?:2[013-9a-fA-F]|[3467]|5[0-9abABd-fD-F])|201[0-3]|2212|[fF][eE]63|[fF][fF]0)"),
    # The others end their prefix with one of two signs: one search for each, with a word behind it, does for them all.
    # by two letters at first, which most words have not
    (
        "-",
        r"-(?<=[slxpafPA][a-zXK]-)(?=[A-Za-z0-9_-]{10})(?:(?<=sk-)|(?<=lf-)|(?<=xox[a-z]-)|(?<=xapp-)|(?<=lpat-)|(?<=vapi-)|(?<=xai-)|(?<=ypi-)"
        r"|(?<=plx-)|(?<=tvly-)|(?<=fc-)(?=[0-9a-f]{32})|(?<=CSPX-)|(?<=PMAK-)|(?<=NRAK-))",
    ),
    (
        "_",
        r"_(?=[A-Za-z0-9_+/=-]{10})(?:(?<=gh[a-z]_)|(?<=pat_)|(?<=k_live_)|(?<=k_test_)|(?<=hsec_)|(?<=hf_)|(?<=npm_)"
        r"|(?<=gsk_)|(?<=r8_)|(?<=[bfp]_v[0-9]_)|(?<=csk_)|(?<=e2b_)|(?<=jina_)|(?<=fw_)|(?<=ntn_)|(?<=n_api_)"
        r"|(?<=glsa_)|(?<=glc_)|(?<=shp[a-z][a-z]_)|(?<=figd_)|(?<=sbp_)|(?<=b_secret_)|(?<=vck_)|(?<=ntry[su]_)|(?<=sk_)"
        r"|(?<=lsv2_[a-z][a-z]_)|(?<=ecret_)access_key|(?<=CRET_)ACCESS_KEY"
        r"|(?<=re_)(?=[A-Za-z0-9]{6,12}_[A-Za-z0-9]{20}))",
    ),
)
_TEXT_SIGNS = tuple((letter, re.compile(sign).search) for letter, sign in _SIGNS)
_BYTE_SIGNS = tuple((letter.encode(), re.compile(sign.encode()).search) for letter, sign in _SIGNS)


def is_basic(found: bytes) -> bool:
    """Whether `found`, a word behind `Basic`, is what HTTP sends there: a name and a password in base64."""
    try:
        decoded = base64.b64decode(found + b"=" * (-len(found) % 4), validate=True)
    except ValueError:
        return False
    return b":" in decoded and decoded.isascii() and decoded.decode().isprintable()


def _mask_match(match: re.Match[str]) -> str:
    return match.group() if match.lastgroup == "basic" and not is_basic(match["basic"].encode()) else MASK


def _mask_match_in_bytes(match: re.Match[bytes]) -> bytes:
    return match.group() if match.lastgroup == "basic" and not is_basic(match["basic"]) else MASK.encode()


def _masked_text(text: str) -> str:
    plain = _ESCAPE.sub(_unescape, text) if "\\u" in text else text
    masked = _TEXT.sub(_mask_match, plain)
    return text if masked == plain else masked


def _masked_bytes(data: bytes) -> bytes:
    plain = _BYTE_ESCAPE.sub(_unescape_bytes, data) if b"\\u" in data else data
    masked = _BYTES.sub(_mask_match_in_bytes, plain)
    return data if masked == plain else masked


# Some writers of JSON escape signs that need it not. In JSON within JSON, the backslash is escaped too.
_ESCAPES = r"\\+u(?:00(2[013-9a-fA-F]|[3467][0-9a-fA-F]|5[0-9abABd-fD-F])|201[0-3]|2212|[fF][eE]63|[fF][fF]0[dD])"
_ESCAPE, _BYTE_ESCAPE = re.compile(_ESCAPES), re.compile(_ESCAPES.encode())


def _unescape(match: re.Match[str]) -> str:
    return chr(int(match[1], 16)) if match[1] else "-"


def _unescape_bytes(match: re.Match[bytes]) -> bytes:
    return bytes((int(match[1], 16),)) if match[1] else b"-"


def mask_text(text: str) -> str:
    """Return `text` as valid UTF-8, with every credential in it replaced by `MASK`."""
    if not text.isascii():
        text = clean_text(text)
    typed = _as_typed(text)
    if len(text) < _SHORTEST or not _hints(typed):
        return text
    return _masked_text(text) if typed is text else _masked_with_other_hyphens(text, typed)


_HYPHENS = "\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d"
"""What models and word processors put in the place of a hyphen."""
_BYTE_HYPHENS = [sign.encode() for sign in _HYPHENS]


def _as_typed(text: str) -> str:
    """Return `text` with the hyphens of a keyboard, and the same object where it has no others."""
    if not text.isascii():
        for sign in _HYPHENS:
            if sign in text:
                text = text.replace(sign, "-")
    return text


def _masked_with_other_hyphens(text: str, typed: str) -> str:
    parts: list[str] = []
    at = 0
    for match in _TEXT.finditer(typed):
        if _mask_match(match) is MASK:
            parts += text[at : match.start()], MASK
            at = match.end()
    return _masked_text("".join((*parts, text[at:])))


_REST = "0" * 64
_NEXT_PART = "0" * 16 + "." + "0" * 27
"""What may follow of a credential in parts."""
_TAIL = 80
"""Characters at the end of a text in which a credential begins that is too short to be known for one."""


def mask_cut(text: str) -> str:
    """As `mask_text`, for a text whose end was cut off: also what is left there of a credential is replaced."""
    text = mask_text(text)
    at = max(0, len(text) - _TAIL)
    tail = text[at:]
    if not (_hints(tail + _REST) or _hints(tail + _NEXT_PART)):
        return text
    # The rest of it may have been of any length that fits.
    for rest in (_NEXT_PART, *(_REST[:count] for count in range(1, len(_REST) + 1))):
        for match in _TEXT.finditer(tail + rest):
            if match.start() < len(tail) < match.end() and _mask_match(match) is MASK:
                return text[: at + match.start()] + MASK
    return text


def _hints(text: str) -> bool:
    """Whether `text` may hold a credential."""
    for letter, found in _TEXT_SIGNS:  # noqa: SIM110 - a generator would be a call more for each letter
        if letter in text and found(text):
            return True
    return False


def mask_bytes(data: bytes) -> bytes:
    """Return `data` with every credential in it replaced by `MASK`."""
    if len(data) < _SHORTEST:
        return data
    if not data.isascii() and any(sign in data for sign in _BYTE_HYPHENS):
        return _masked_as_text(data)
    return _masked_where_hinted(data)


def _masked_as_text(data: bytes) -> bytes:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return _masked_where_hinted(data)
    masked = mask_text(text)
    return data if masked is text else masked.encode()


def _masked_where_hinted(data: bytes) -> bytes:
    for letter, found in _BYTE_SIGNS:
        if letter in data and found(data):
            return _masked_bytes(data)
    return data


_SCALARS = frozenset((int, float, bool, type(None)))
_TEXTS = frozenset((str,))
_PLAIN = _SCALARS | _TEXTS
_SEQUENCES = frozenset((list, tuple))


def mask_value(value: JSON, depth: int = 0) -> JSON:
    """Return `value`, JSON or an attribute, with every credential in its texts replaced by `MASK`.

    Lists, tuples and objects are looked into, and so are the names of an object; what is nested too deep for that is
    left out. What holds no credential is returned as the same object, and nothing is changed in place.
    """
    if type(value) in _SCALARS:
        return value
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, bytes):
        return mask_bytes(value)
    if isinstance(value, (list, tuple, Mapping)) and depth > MAX_DEPTH:
        return TOO_DEEP
    if isinstance(value, (list, tuple)):
        return _masked_items(cast("list[Any] | tuple[Any, ...]", value), depth + 1)
    return masked_mapping(cast("Mapping[str, Any]", value), depth + 1) if isinstance(value, Mapping) else value


def _masked_items(items: list[Any] | tuple[Any, ...], depth: int) -> list[Any] | tuple[Any, ...]:
    masked = [mask_value(item, depth) for item in items]
    if all(map(operator.is_, masked, items)):
        return items
    return tuple(masked) if isinstance(items, tuple) else masked


def masked_mapping(items: Mapping[str, Any], depth: int = 0) -> Mapping[str, Any]:
    """Return `items` as `mask_values` leaves them, and the same object where nothing is masked."""
    masked = mask_values(items, depth)
    same = masked.keys() == items.keys() and all(map(operator.is_, masked.values(), items.values()))
    return items if same else masked


_NONE: dict[str, Any] = {}


def mask_values(items: Mapping[str, Any], depth: int = 0, clean: Mapping[str, Any] = _NONE) -> dict[str, Any]:
    """Return a copy of `items` with each value as `mask_value` leaves it, and credentials in names masked.

    Those of `items` that are in `clean` are known to hold none.
    """
    # This runs for every span, whose attributes are texts and figures as a rule: no loop where none is needed. What is
    # in none of the texts together is in none of them.
    masked = {**items}
    kinds = list(map(type, masked.values()))
    texts = list(compress(masked.values(), map(operator.is_, kinds, repeat(str))))
    if clean:
        texts = [item for name, item in masked.items() if type(item) is str and clean.get(name) is not item]
    nested = set(kinds).difference(_PLAIN)
    if nested:
        for name in list(compress(masked, map(nested.__contains__, kinds))):
            item = masked[name]
            if depth == 0 and type(item) in _SEQUENCES and _TEXTS.issuperset(map(type, item)):
                texts += item
            else:
                masked[name] = mask_value(item, depth)
    together = _BORDER.join(texts)
    if _hints(_as_typed(together)) or clean_text(together) is not together:
        looked_into = {str, *_SEQUENCES}
        masked = {name: mask_value(item, depth) if type(item) in looked_into else item for name, item in masked.items()}
    if masked.keys() <= _names or all(_masked_name(name) is name for name in masked.keys() - _names):
        return masked
    return renamed(masked, _masked_name)


_BORDER = "\n"
"""Stands between texts that are searched together: no hint has it in it."""


_names: set[str] = set()
"""Names of attributes that are known to hold nothing: programs use few, and the same again and again."""
_NAMES_KEPT = 1 << 14


def _masked_name(name: str) -> str:
    masked = mask_text(name) if type(name) is str else name
    if masked is name:
        if len(_names) >= _NAMES_KEPT:
            _names.clear()
        _names.add(name)
    return masked


def renamed(items: Mapping[str, Any], new_name: Callable[[str], str]) -> dict[str, Any]:
    """Return `items` under new names; where two become one, the later has a number behind it."""
    result: dict[str, Any] = {}
    for name, item in items.items():
        wanted = new_name(name)
        result[wanted if wanted not in result else next_name(wanted, result)] = item
    return result


def next_name(name: str, items: Mapping[str, Any]) -> str:
    """Return `name` with the first number behind it, from 2, under which `items` has nothing."""
    number = 2
    while f"{name}#{number}" in items:
        number += 1
    return f"{name}#{number}"


def _mask_our_log(record: logging.LogRecord) -> bool:
    """Mask what we say ourselves: the words of a collector or of the program's own exception may hold a credential."""
    said = record.getMessage()
    masked = mask_text(said)
    if masked is not said:
        record.msg, record.args = masked, None
    return True


logging.getLogger("spanrelay").addFilter(_mask_our_log)
_voice.mask = mask_text
