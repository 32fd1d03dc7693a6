"""One rule of redaction: what is looked for, where, and what stands in its place afterwards.

A rule that could leave readable what it is meant to hide is refused, never applied in part.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from spanrelay import _json
from spanrelay.errors import ConfigurationError
from spanrelay.plugins.pii.detectors import DETECTORS, Detector, is_word, keep_ends
from spanrelay.plugins.pii.patterns import compile_pattern, compile_template
from spanrelay.plugins.pii.pointers import parse_pointer
from spanrelay.plugins.pii.spelling import Spelled
from spanrelay.plugins.reading import choose

Action: TypeAlias = Literal["remove", "redact", "regex_replace", "hash", "mask"]

ACTIONS: tuple[str, ...] = get_args(Action)
SHORTEST_KEY = 16
"""Bytes of the shortest key for `hash`: what is hashed is often guessable, so the key must not be."""


@dataclass(frozen=True, slots=True)
class Rule:
    r"""One rule.

    Attributes:
        action: `remove` the match (or what is targeted), `redact` it (put `replacement` there), `regex_replace`
            (as `redact`, with `\1` and `\g<name>` for groups of the pattern), `hash` (HMAC-SHA256 in
            hexadecimal digits) or `mask`.
        detector: A name in `DETECTORS`.
        pattern: A regular expression of RE2, instead of a detector. Without either the whole string matches.
        targets: JSON pointers; none means every string, at whatever depth, and every object key.
        replacement: For `redact` and `regex_replace`.
        mask_char: One character.
        unmasked_prefix: Characters to leave at the beginning; with `unmasked_suffix` 0, as the detector does.
        unmasked_suffix: Characters to leave at the end.
        key: For `hash`, at least 16 bytes in UTF-8.
    """

    action: Action
    detector: str | None = None
    pattern: str | None = None
    targets: tuple[str, ...] = ()
    replacement: str = "[REDACTED]"
    mask_char: str = "*"
    unmasked_prefix: int = 0
    unmasked_suffix: int = 0
    key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong in a rule: the field, why, and what to do."""

    field: str
    message: str
    remedy: str


def problems(rule: Rule) -> Iterator[Problem]:
    """Yield what is wrong in `rule`; it can be applied where there is nothing."""
    if rule.action not in ACTIONS:
        yield Problem("action", f"unknown action {rule.action!r}", choose(rule.action, ACTIONS))
    yield from _finding_problems(rule)
    yield from _writing_problems(rule)
    for pointer in rule.targets:
        yield from _refusal("targets", lambda pointer=pointer: parse_pointer(pointer))


def _finding_problems(rule: Rule) -> Iterator[Problem]:
    if rule.detector is not None and rule.pattern is not None:
        yield Problem("pattern", "both a detector and a pattern are given", "keep one, or write two rules")
    elif rule.detector is not None and rule.detector not in DETECTORS:
        yield Problem("detector", f"unknown detector {rule.detector!r}", choose(rule.detector, DETECTORS))
    elif rule.pattern is not None:
        yield from _refusal("pattern", lambda: compile_pattern(rule.pattern or ""))
    elif rule.detector is None and rule.action == "regex_replace":
        yield Problem("pattern", "'regex_replace' has nothing to look for", "give a pattern or a detector")
    elif rule.detector is None and rule.action == "redact" and not rule.targets:
        yield Problem("detector", "'redact' would replace every string", "give a detector, a pattern or targets")


def _writing_problems(rule: Rule) -> Iterator[Problem]:
    if rule.action == "hash" and len((rule.key or "").encode("utf-8", "replace")) < SHORTEST_KEY:
        yield Problem(
            "key",
            f"'hash' needs a secret key of at least {SHORTEST_KEY} bytes",
            "without one, anybody who reads the hashes can guess what was hashed",
        )
    if len(rule.mask_char) != 1 or not rule.mask_char.isprintable() or rule.mask_char.isdigit():
        yield Problem(
            "mask_char", f"{rule.mask_char!r} cannot mask", "expected one printable character that is not a digit"
        )
    for name in ("unmasked_prefix", "unmasked_suffix"):
        if getattr(rule, name) < 0:
            yield Problem(name, f"{getattr(rule, name)} is negative", "expected 0 or more characters")
    if rule.action == "redact" and rule.detector in DETECTORS and any(DETECTORS[rule.detector].find(rule.replacement)):
        yield Problem("replacement", "it is itself a match of the detector", "choose other words")
    if rule.action == "regex_replace" and rule.pattern is not None:
        yield from _refusal(
            "replacement", lambda: compile_template(rule.replacement, compile_pattern(rule.pattern or ""))
        )


def _refusal(name: str, attempt: Callable[[], object]) -> Iterator[Problem]:
    """Yield the refusal of what is attempted, if there is one; its message ends with the remedy."""
    try:
        attempt()
    except ConfigurationError as error:
        message, _, remedy = str(error).rpartition(": ")
        yield Problem(name, message, remedy)


class _Gone:
    """What `remove` leaves of a whole string."""

    __slots__ = ()


GONE = _Gone()
Writer: TypeAlias = Callable[[str], Any]


class Step:
    """A rule, ready to run.

    Attributes:
        shortest: Characters of the shortest string that it may change.
        whole: Whether it takes whole strings, whatever they hold.
        removes: Whether what it takes whole is removed.
        members: Endings of object keys, in small letters alone, whose values it takes whole where they `fits`.
        fits: Whether a value under such a key is what it looks for.
        numbers: Whether it looks at integers.
        write: What stands in the place of one match.
    """

    __slots__ = ("_hints", "_rewrite", "fits", "members", "numbers", "removes", "shortest", "whole", "write")

    def __init__(self, rule: Rule) -> None:
        detector = DETECTORS[rule.detector] if rule.detector is not None else None
        self.write = _writer(rule, detector)
        self.whole = detector is None and rule.pattern is None
        self.removes = self.whole and rule.action == "remove"
        self.members = tuple(name.replace("_", "") for name in detector.members) if detector is not None else ()
        self.fits = detector.fits if detector is not None else is_word
        self.numbers = detector is not None and detector.numbers
        self.shortest = detector.shortest if detector is not None else 0
        self._hints = detector.hints if detector is not None else ()
        self._rewrite = _rewriter(rule, detector, self.write)

    def may_change(self, text: str) -> bool:
        """False where a cheap look shows that `text` stays as it is."""
        if len(text) < self.shortest:
            return False
        # A loop, not `any`: this is all that most strings meet, and a generator would double it.
        for hint in self._hints:
            if hint in text:
                return True
        return not self._hints

    def apply(self, text: str, spelled: Spelled) -> str:
        """Return `text`, which `plain` has `spelled`, with each match replaced; the same object where there is none."""
        if not self.may_change(spelled[0]):
            return text
        changed = self._rewrite(text, spelled)
        return text if changed == text else changed


def prepare(rule: Rule) -> Step:
    """Return `rule`, ready to run.

    Raises:
        ConfigurationError: something is wrong in it.
    """
    for problem in problems(rule):
        raise ConfigurationError(f"{problem.field} of a redaction rule: {problem.message}: {problem.remedy}")
    return Step(rule)


def _writer(rule: Rule, detector: Detector | None) -> Writer:
    if rule.action == "mask":
        ends = keep_ends(rule.unmasked_prefix, rule.unmasked_suffix)
        asked = rule.unmasked_prefix or rule.unmasked_suffix
        mask = ends if asked or detector is None else detector.mask
        return lambda found: mask(found, rule.mask_char)
    if rule.action == "hash":
        key = (rule.key or "").encode("utf-8", "replace")
        return lambda found: hmac.digest(key, found.encode("utf-8", "surrogatepass"), "sha256").hex()
    replacement = "" if rule.action == "remove" else rule.replacement
    return lambda found: replacement


def _rewriter(rule: Rule, detector: Detector | None, write: Writer) -> Callable[[str, Spelled], str]:
    if detector is not None:
        return lambda text, spelled: _rewrite_matches(text, spelled, detector, write)
    if rule.pattern is None:
        return lambda text, spelled: write(text)
    pattern = compile_pattern(rule.pattern)
    is_template = rule.action == "regex_replace"
    written = compile_template(rule.replacement, pattern) if is_template else _of_match(write)
    return lambda text, spelled: pattern.sub(written, _json.clean_text(text))


def _of_match(write: Writer) -> Callable[[Any], str]:
    return lambda match: write(match.group())


def _rewrite_matches(text: str, spelled: Spelled, detector: Detector, write: Writer) -> str:
    plainly, place = spelled
    pieces: list[str] = []
    end = 0
    for start, stop in detector.find(plainly):
        first, last = (start, stop) if place is None else (place(start), place(stop))
        pieces += (text[end:first], write(plainly[start:stop]))
        end = last
    return "".join((*pieces, text[end:])) if pieces else text
