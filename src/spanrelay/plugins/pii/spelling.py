r"""How a text may spell the same letters: no-break spaces and hyphens, full width, `\u0040`, `%40`, `&#64;`, `+`.

What is looked for is looked for in the plain spelling, and what is found is replaced in the text as it stands.
"""

from __future__ import annotations

import html
import re
from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from typing import TypeAlias

_SPACES = "\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_HYPHENS = "\u2010\u2011\u2012\u2013\u2212\ufe63"
_DIGITS = ("\u0660", "\u06f0", "\u0966", "\u09e6")  # Arabic, Persian, Devanagari, Bengali: each the zero of ten
_ALIKE = {
    **dict.fromkeys(map(ord, _SPACES), " "),
    **dict.fromkeys(map(ord, _HYPHENS), "-"),
    **{wide: chr(wide - 0xFEE0) for wide in range(0xFF01, 0xFF5F)},
    **{ord(zero) + digit: str(digit) for zero in _DIGITS for digit in range(10)},
    0x3002: ".",
    0xFF61: ".",
}
"""One character for one."""

_SPELLED = re.compile(
    r"(?:\x1b|(?<!\\)\\+(?:u001[bB]|x1[bB]|033|e))\[[0-9;:]{0,16}[mK]"  # the colours of a terminal
    r"|(?<!\\)\\+(?:u([0-9A-Fa-f]{4})|([bfnrt])|([/\"]))"  # JSON in a text, or in JSON that was cut
    r"|%([2-7][0-9A-Fa-f])"
    r"|(&(?:#[0-9]{2,5}|#[xX][0-9A-Fa-f]{2,4}|commat|nbsp|period);)"
    r"|[\u00ad\u200b-\u200d\u2060\ufeff]"  # nothing to be seen
    r"|((?<=[0-9)])\+(?=[0-9A-Z(])|(?<=\+[A-Z]{4})\+)(?![\w.+-]{0,64}(?:@|%40))"  # a blank in a form
)
_CONTROLS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}

Place: TypeAlias = Callable[[int], int]
Spelled: TypeAlias = tuple[str, Place | None]
"""A text in its plain spelling, and what gives the place in the text of one there; None: it is the same place."""


def may_differ(text: str) -> bool:
    """False where a cheap look shows that `text` is spelled plainly."""
    return not text.isascii() or "\\" in text or "%" in text or "&" in text or "\x1b" in text or "+" in text


def plain(text: str) -> Spelled:
    """Return `text` in its plain spelling, and where its places are in `text`."""
    if not may_differ(text):
        return text, None
    pieces: list[str] = []
    ends: list[int] = []
    shorter: list[int] = []
    length = end = 0
    for match in _SPELLED.finditer(text):
        letter = _letter(match)
        pieces += (text[end : match.start()], letter)
        length += match.start() - end + len(letter)
        end = match.end()
        ends.append(length)
        shorter.append(end - match.start() - len(letter))
    spelled = "".join((*pieces, text[end:])) if ends else text
    if not spelled.isascii():
        spelled = spelled.translate(_ALIKE)
    if not ends:
        return spelled, None
    offsets = [0, *accumulate(shorter)]
    return spelled, lambda place: place + offsets[bisect_right(ends, place)]


def _letter(match: re.Match[str]) -> str:
    code, control, itself, percent, entity, blank = match.groups()
    if code is not None:
        return chr(int(code, 16))
    if control is not None:
        return _CONTROLS[control]
    if percent is not None:
        return chr(int(percent, 16))
    if blank is not None:
        return " "
    return itself or (html.unescape(entity)[:1] if entity else "")
