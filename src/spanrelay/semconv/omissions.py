"""Histories that spans leave out: the input messages of a span's attributes, and how it says which are not there.

A history is known by a digest that goes on from span to span: of the digest of what a span leaves out, and of what it
carries. So whoever reads a span needs nothing else to know what the history with it is called.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Protocol, TypeAlias, TypeVar, cast

from spanrelay._json import dumps_text
from spanrelay.conversation import DIGEST_BYTES, Telling
from spanrelay.records import Omission
from spanrelay.semconv import names
from spanrelay.semconv.values import count, decode, indexed, text

_FLAT = f"{names.OI_INPUT_MESSAGES}."
_BLANKS = " \t\n\r"
_NEXT = re.compile(r"[ \t\n\r]*,[ \t\n\r]*(?=\{)")
"""What stands between two messages."""


K = TypeVar("K")
Known: TypeAlias = Mapping[tuple[int, bytes], K]
"""What is known of histories, by their lengths in characters and their digests."""


class History(Protocol):
    """The input messages of one span, as texts of JSON with commas between them, `length` characters in all."""

    form: str
    length: int

    def longest(self, known: Known[K]) -> K | None:
        """Return what is known of the longest of these histories that this one begins with."""
        ...

    def hash(self) -> Any:
        """Return a hash of all of it, which the caller may go on with."""
        ...

    def number_from(self, at: int) -> int | None:
        """Return how many messages stand behind the first `at` characters; None where no message ends there."""
        ...

    def without(self, at: int) -> dict[str, Any]:
        """Return the span's attributes without the messages in the first `at` characters."""
        ...

    @property
    def answer(self) -> str | None:
        """The span's answer as it will be in a request that repeats it; None where it has none, or several."""
        ...


class _Text:
    """A history that is one text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.length = len(text)
        self._hash = blake2b(digest_size=DIGEST_BYTES)
        self._hashed = 0

    def longest(self, known: Known[K]) -> K | None:
        best: K | None = None
        for length, digest in sorted(known):
            if length > self.length:
                break
            self._go_on(length)
            if self._hash.digest() == digest:
                best = known[length, digest]
        return best

    def hash(self) -> Any:
        self._go_on(self.length)
        return self._hash.copy()

    def _go_on(self, to: int) -> None:
        self._hash.update(self.text[self._hashed : to].encode(errors="replace"))
        self._hashed = to


class _Listed(_Text):
    """Messages as OpenTelemetry has them: the JSON of a list in one attribute."""

    form = "listed"

    def __init__(self, attributes: Mapping[str, Any], inner: str) -> None:
        super().__init__(inner)
        self._attributes = attributes

    @property
    def answer(self) -> str | None:
        return _listed_answer(self._attributes)

    def number_from(self, at: int) -> int | None:
        rest = self._rest(at)
        items = None if rest is None else decode(f"[{rest}]")
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in cast("list[Any]", items)):
            return None
        return len(cast("list[Any]", items))

    def _rest(self, at: int) -> str | None:
        if at in (0, len(self.text)):
            return self.text[at:]
        border = _NEXT.match(self.text, at)
        return None if border is None else self.text[border.end() :]

    def without(self, at: int) -> dict[str, Any]:
        kept = {**self._attributes}
        if at:
            kept[names.INPUT_MESSAGES] = f"[{self._rest(at)}]"
        return kept


class _Flattened(_Text):
    """Messages as OpenInference has them: spread over attributes that are numbered."""

    form = "flattened"

    def __init__(self, attributes: Mapping[str, Any], groups: Mapping[int, Mapping[str, Any]]) -> None:
        self._attributes = attributes
        self._ends: list[int] = []
        told: list[str] = []
        end = -1
        for fields in groups.values():
            told.append(dumps_text(sorted(fields.items())))
            end += len(told[-1]) + 1
            self._ends.append(end)
        super().__init__(",".join(told))

    @property
    def answer(self) -> str | None:
        return _flattened_answer(self._attributes)

    def number_from(self, at: int) -> int | None:
        if not at:
            return len(self._ends)
        index = bisect_left(self._ends, at)
        return len(self._ends) - index - 1 if index < len(self._ends) and self._ends[index] == at else None

    def without(self, at: int) -> dict[str, Any]:
        if not at:
            return {**self._attributes}
        gone = bisect_left(self._ends, at) + 1
        kept: dict[str, Any] = {}
        for key, value in self._attributes.items():
            if not key.startswith(_FLAT):
                kept[key] = value
                continue
            index, _, rest = key[len(_FLAT) :].partition(".")
            if int(index) >= gone:
                kept[f"{_FLAT}{int(index) - gone}.{rest}"] = value
        return kept


class _Linked:
    """Messages as OpenTelemetry has them, known one by one, apart from the other attributes."""

    form = "listed"

    def __init__(self, attributes: Mapping[str, Any], telling: Telling) -> None:
        self._attributes = attributes
        self._telling = telling
        self._passed: dict[int, int] = {0: 0}
        self.length = telling.length

    @property
    def answer(self) -> str | None:
        return _listed_answer(self._attributes)

    def longest(self, known: Known[K]) -> K | None:
        lengths = {length for length, _ in known}
        shortest = min(lengths, default=self.length + 1)
        each: Telling | None = self._telling
        while each is not None and each.length >= shortest:
            if each.length in lengths and (each.length, each.digest()) in known:
                self._passed[each.length] = each.number
                return known[each.length, each.digest()]
            each = each.before
        return None

    def hash(self) -> Any:
        return self._telling.hash()

    def number_from(self, at: int) -> int | None:
        return self._telling.number - self._passed[at]

    def without(self, at: int) -> dict[str, Any]:
        return {**self._attributes, names.INPUT_MESSAGES: self._telling.behind(self._passed[at])}


def history_in(attributes: Mapping[str, Any], telling: Telling) -> History | None:
    """Return the input messages of a span that are known one by one, apart from its other attributes."""
    return None if names.HISTORY_OMITTED in attributes else _Linked(attributes, telling)


def history_of(attributes: Mapping[str, Any]) -> History | None:
    """Return the input messages of a span; None where it has none, has them twice, or already leaves some out."""
    if names.HISTORY_OMITTED in attributes:
        return None
    listed = attributes.get(names.INPUT_MESSAGES)
    groups = indexed(attributes, names.OI_INPUT_MESSAGES)
    if listed is not None:
        inner = listed.strip(_BLANKS) if isinstance(listed, str) and not groups else ""
        inner = inner[1:-1].strip(_BLANKS) if inner[:1] == "[" and inner[-1:] == "]" else ""
        return _Listed(attributes, inner) if inner else None
    return _Flattened(attributes, groups) if groups and list(groups) == list(range(len(groups))) else None


def _listed_answer(attributes: Mapping[str, Any]) -> str | None:
    answers = decode(attributes.get(names.OUTPUT_MESSAGES))
    if not isinstance(answers, list) or len(cast("list[Any]", answers)) != 1 or not isinstance(answers[0], dict):
        return None
    told = cast("dict[str, Any]", answers[0])
    return dumps_text({key: value for key, value in told.items() if key != "finish_reason"})


def _flattened_answer(attributes: Mapping[str, Any]) -> str | None:
    groups = indexed(attributes, names.OI_OUTPUT_MESSAGES)
    return dumps_text(sorted(groups[0].items())) if list(groups) == [0] else None


def digest_of(before: str, text: str) -> str:
    """Return the digest of a history that goes on from `before`, the digest of another, with `text`."""
    return blake2b(f"{before}{text}".encode(errors="replace"), digest_size=DIGEST_BYTES).hexdigest()


def carried_by(attributes: Mapping[str, Any]) -> str:
    """Return the messages that a span carries, as its digest is made of them."""
    listed = attributes.get(names.INPUT_MESSAGES)
    if isinstance(listed, str):
        return listed
    return dumps_text(sorted((key, value) for key, value in attributes.items() if key.startswith(_FLAT)))


def omission_of(attributes: Mapping[str, Any]) -> Omission | None:
    """Return what a span says of the history that it leaves out; None where that is not what it should be."""
    number = count(attributes.get(names.HISTORY_OMITTED))
    given, digest = attributes.get(names.HISTORY_CARRIERS), text(attributes.get(names.HISTORY_DIGEST)) or ""
    carriers = cast("list[object]", given) if isinstance(given, (list, tuple)) else []
    if number is None or number < 0:
        return None
    ids = tuple(int(each, 16) for each in carriers if isinstance(each, str) and _ID.fullmatch(each))
    carried = carried_by(attributes)
    answer = (_listed_answer if names.INPUT_MESSAGES in attributes else _flattened_answer)(attributes)
    total = digest_of(digest, carried)
    return Omission(number, digest, ids, total, digest_of(total, answer) if answer else "", len(carried))


_ID = re.compile("[0-9a-f]{16}")


def said_of(omission: Omission) -> dict[str, Any]:
    """Return the attributes by which a span says what it leaves out."""
    if not omission.count:
        return {names.HISTORY_OMITTED: 0}
    return {
        names.HISTORY_OMITTED: omission.count,
        names.HISTORY_DIGEST: omission.digest,
        names.HISTORY_CARRIERS: tuple(f"{each:016x}" for each in omission.carriers),
    }
