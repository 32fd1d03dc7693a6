"""The histories that requests repeat: what is known of a conversation from its last request is not read again.

A text is recognised by comparison, never by a hash, so that what is read is always what reading all of it would give.
What is kept is bounded, and may be let go of at any time.
"""

from __future__ import annotations

import re
import threading
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, TypeVar, cast

from spanrelay.records import JSON, Message, SpanRecord
from spanrelay.semconv import names
from spanrelay.semconv.values import decode

MAX_CHARACTERS = 8_000_000
"""Characters of texts that are kept in all, each beside the messages read from it."""
LEAST_CHARACTERS = 3000
"""Texts that are shorter are read faster than recognised."""
LEAST_ATTRIBUTES = 12
"""As for texts, where a message is attributes of its own."""
MAX_CONVERSATIONS = 256
"""Conversations, by session or trace, of which something is kept."""
MAX_BESIDE = 4
"""Histories of one session or trace that are kept beside each other, as sub-agents have them."""

_Comparable = TypeVar("_Comparable", str, bytes, list[tuple[str, str]])
Reader = Callable[[Mapping[str, JSON], SpanRecord], Message]


class History(list[Message]):
    """The messages of a request, those of the request before among them as the same objects.

    `prints` are what somebody who compares messages has worked out of the first of them. It is shared with the requests
    before and behind that begin with the same, so it may be longer than this.
    """

    __slots__ = ("prints",)

    def __init__(self, messages: Iterable[Message] = (), prints: array[int] | None = None) -> None:
        super().__init__(messages)
        self.prints: array[int] = array("q") if prints is None else prints


class _Known:
    """A text up to the end of its last message, and what was read from it; `hidden` is the first that lacks content."""

    __slots__ = ("ends", "hidden", "messages", "size", "text")

    def __init__(self, text: str, messages: History, ends: array[int], hidden: int | None) -> None:
        self.text = text
        self.size = len(text)
        self.messages = messages
        self.ends = ends
        """Where the first messages end; the rest is looked for where it is needed."""
        self.hidden = hidden


class _Flat:
    """Messages as they were flattened, and what was read from that; `hidden` and `cut` are the first that are so.

    `ends` has for each message how many of `items` there are up to its end, `numbers` the number that it has in them.
    """

    __slots__ = ("cut", "ends", "hidden", "items", "messages", "numbers", "size")

    def __init__(self, items: list[tuple[str, str]], messages: History, ends: array[int], numbers: array[int]) -> None:
        self.items = items
        self.size = 0
        self.messages = messages
        self.ends = ends
        self.numbers = numbers
        self.hidden: int | None = None
        self.cut: int | None = None


class Histories:
    """What was read last of each conversation. Safe among threads, of which none waits for another."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, list[Any]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    def read(self, key: Hashable, text: str, read: Reader, record: SpanRecord) -> History | None:
        """Return the messages in `text`, the JSON of a list of objects, as `read` reads each; None where it is none.

        Marks `record` where the content of a message was left out.
        """
        # Who cannot have the lock at once reads all by itself, and a forked child does not wait for a lost thread.
        if not self._lock.acquire(blocking=False):
            return None
        try:
            found = self._read(key, text, read)
        finally:
            self._lock.release()
        if found is None:
            return None
        if found.hidden is not None:
            record.content = False
        return found.messages

    def read_flat(
        self, key: Hashable, attributes: Mapping[str, Any], prefix: str, read: Reader, record: SpanRecord
    ) -> tuple[History, array[int]] | None:
        """Return the messages that `prefix.N.rest` tell, and N of each; None where only all of them can be read.

        That is where the attributes of a message do not stand together and in order, or are no texts, as with few of
        them. `read` is given those of one by their `rest`. Marks `record` where a message was left out or cut.
        """
        dotted = f"{prefix}."
        items = [item for item in attributes.items() if item[0].startswith(dotted)]
        if len(items) < LEAST_ATTRIBUTES or not self._lock.acquire(blocking=False):
            return None
        try:
            found = self._read_flat((key, prefix), items, len(dotted), read)
        finally:
            self._lock.release()
        if found is None:
            return None
        record.content = record.content and found.hidden is None
        record.truncated = record.truncated or found.cut is not None
        return found.messages, found.numbers

    def forget(self, *keys: Hashable) -> None:
        """Let go of what is known of conversations that are over."""
        with self._lock:
            for key in keys:
                for each in (key, *((key, prefix) for prefix in FLAT)):
                    for known in self._known.pop(each, ()):
                        self._size -= known.size

    def _read(self, key: Hashable, text: str, read: Reader) -> _Known | None:
        beside = self._known.get(key, [])
        known, count = _likest(beside, text)
        found = _grown(known, count, text, read) if known is not None else None
        if found is None:
            known, found = None, _grown(_NOTHING, 0, text, read)
        if found is not None:
            self._keep(key, beside, known if known is not None and count == len(known.messages) else None, found)
        return found

    def _read_flat(self, key: Hashable, items: list[tuple[str, str]], start: int, read: Reader) -> _Flat | None:
        beside = self._known.get(key, [])
        known, count = _likest_flat(beside, items)
        found = _grown_flat(known, count, items, start, read)
        if found is not None:
            self._keep(key, beside, known if 0 < count == len(known.messages) else None, found)
        return found

    def _keep(self, key: Hashable, beside: list[Any], replaced: Any, found: _Known | _Flat) -> None:
        if found.size > MAX_CHARACTERS // 2:
            return
        kept = [each for each in beside if each is not replaced]
        kept.append(found)
        self._size += found.size - (replaced.size if replaced is not None else 0)
        if len(kept) > MAX_BESIDE:
            self._size -= kept.pop(0).size
        self._known[key] = kept
        self._known.move_to_end(key)
        while self._known and (self._size > MAX_CHARACTERS or len(self._known) > MAX_CONVERSATIONS):
            _, oldest = self._known.popitem(last=False)
            self._size -= sum(each.size for each in oldest)


histories = Histories()
"""What this process has read last."""

_NOTHING = _Known("[", History(), array("q"), None)
_NOTHING_FLAT = _Flat([], History(), array("q"), array("q"))
FLAT = (names.OI_INPUT_MESSAGES, names.TL_PROMPT)
"""Under which histories are flattened."""
_ITEM_SIZE = 200
"""What an attribute takes beside its text, about, in characters."""


def _likest(beside: list[_Known], text: str) -> tuple[_Known | None, int]:
    """Return what is known that begins most like `text`, the latest of equals, and how many messages both share."""
    for known in reversed(beside):
        if text.startswith(known.text):
            return known, len(known.messages)
    best: tuple[_Known | None, int] = (None, 0)
    for known in reversed(beside):
        alike = agreement(known.text, text)
        count = bisect_right(_ends_of(known, alike), alike)
        if count > best[1]:
            best = known, count
    return best


def agreement(one: _Comparable, other: _Comparable) -> int:
    """Return how many characters, bytes or items two of the same kind have in common from their beginning."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle - 1)
    return low


_NEXT = re.compile(r"[ \t\n\r]*(?:,[ \t\n\r]*(?=\{)|(?=\][ \t\n\r]*\Z))")
"""What stands behind a message that another follows, or none."""
_FIRST = re.compile(r"[ \t\n\r]*(?=\{)")
_BLANKS = " \t\n\r"
_SIGN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}]', re.DOTALL)


def _grown(known: _Known, count: int, text: str, read: Reader) -> _Known | None:
    """Read what follows the first `count` messages, which are known; None where `text` is not a list of objects."""
    start = 1 if not count else len(known.text) if count == len(known.messages) else known.ends[count - 1]
    behind = (_NEXT if count else _FIRST).match(text, start)
    whole = text.rstrip(_BLANKS)
    if behind is None or text[:1] != "[" or whole[-1:] != "]":
        return None
    items = decode("[" + text[behind.end() :])
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in cast("list[Any]", items)):
        return None
    prints = known.messages.prints if 0 < count == len(known.messages) else known.messages.prints[:count]
    messages = History(known.messages[:count], prints)
    hidden = known.hidden if known.hidden is not None and known.hidden < count else None
    scratch = SpanRecord(0, 0)
    for item in cast("list[dict[str, JSON]]", items):
        messages.append(read(item, scratch))
        if hidden is None and not scratch.content:
            hidden = len(messages) - 1
    return _Known(whole[:-1].rstrip(_BLANKS), messages, known.ends[:count], hidden)


def _ends_of(known: _Known, until: int) -> array[int]:
    """Return where the messages of a text end, as far as `until` at least; the text is that of a list of objects."""
    ends, depth = known.ends, 0
    if len(ends) < len(known.messages) and not (ends and ends[-1] >= until):
        for sign in _SIGN.finditer(known.text, ends[-1] if ends else 0):
            depth += {"{": 1, "}": -1}.get(sign.group(), 0)
            if not depth and sign.group() == "}":
                ends.append(sign.end())
                if ends[-1] >= until:
                    break
    return ends


def _likest_flat(beside: list[_Flat], items: list[tuple[str, str]]) -> tuple[_Flat, int]:
    """As `_likest`, for what is flattened."""
    best = _NOTHING_FLAT, 0
    for known in reversed(beside):
        if items[: len(known.items)] == known.items:
            return known, len(known.messages)
        count = bisect_right(known.ends, agreement(known.items, items))
        if count > best[1]:
            best = known, count
    return best


def _grown_flat(known: _Flat, count: int, items: list[tuple[str, str]], start: int, read: Reader) -> _Flat | None:
    """Read what follows the first `count` messages, which are known; the names of all begin alike up to `start`."""
    begin = known.ends[count - 1] if count else 0
    groups = _groups(items[begin:], start, known.numbers[count - 1] if count else -1)
    if groups is None:
        return None
    prints = known.messages.prints if 0 < count == len(known.messages) else known.messages.prints[:count]
    found = _Flat(items, History(known.messages[:count], prints), known.ends[:count], known.numbers[:count])
    found.hidden = known.hidden if known.hidden is not None and known.hidden < count else None
    found.cut = known.cut if known.cut is not None and known.cut < count else None
    scratch = SpanRecord(0, 0)
    for number, fields in groups:
        found.messages.append(read(fields, scratch))
        begin += len(fields)
        found.ends.append(begin)
        found.numbers.append(number)
        if found.hidden is None and not scratch.content:
            found.hidden = len(found.messages) - 1
        if found.cut is None and scratch.truncated:
            found.cut = len(found.messages) - 1
    whole = 0 < count == len(known.messages)
    new = items[len(known.items) :] if whole else items
    found.size = (known.size if whole else 0) + sum(len(text) for _, text in new) + _ITEM_SIZE * len(new)
    return found


def _groups(items: list[tuple[str, str]], start: int, last: int) -> list[tuple[int, dict[str, str]]] | None:
    """Return the attributes of each message by what is behind its number, which is more than `last`; None where odd."""
    groups: list[tuple[int, dict[str, str]]] = []
    for name, text in items:
        number, _, rest = name[start:].partition(".")
        if type(text) is not str or not number.isdecimal() or len(number) >= _MOST_DIGITS:
            return None
        here = int(number)
        if groups and here == last and rest not in groups[-1][1]:
            groups[-1][1][rest] = text
        elif here > last:
            groups.append((here, {rest: text}))
            last = here
        else:
            return None
    return groups


_MOST_DIGITS = 10
