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
from typing import Any, AnyStr, cast

from spanrelay.records import JSON, Message, SpanRecord
from spanrelay.semconv.values import decode

MAX_CHARACTERS = 8_000_000
"""Characters of texts that are kept in all, each beside the messages read from it."""
LEAST_CHARACTERS = 3000
"""Texts that are shorter are read faster than recognised."""
MAX_CONVERSATIONS = 256
"""Conversations, by session or trace, of which something is kept."""
MAX_BESIDE = 4
"""Histories of one session or trace that are kept beside each other, as sub-agents have them."""

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

    __slots__ = ("ends", "hidden", "messages", "text")

    def __init__(self, text: str, messages: History, ends: array[int], hidden: int | None) -> None:
        self.text = text
        self.messages = messages
        self.ends = ends
        """Where the first messages end; the rest is looked for where it is needed."""
        self.hidden = hidden


class Histories:
    """What was read last of each conversation. Safe among threads, of which none waits for another."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, list[_Known]] = OrderedDict()
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

    def forget(self, *keys: Hashable) -> None:
        """Let go of what is known of conversations that are over."""
        with self._lock:
            for key in keys:
                for known in self._known.pop(key, ()):
                    self._size -= len(known.text)

    def _read(self, key: Hashable, text: str, read: Reader) -> _Known | None:
        beside = self._known.get(key, [])
        known, count = _likest(beside, text)
        found = _grown(known, count, text, read) if known is not None else None
        if found is None:
            known, found = None, _grown(_NOTHING, 0, text, read)
        if found is not None and len(found.text) <= MAX_CHARACTERS // 2:
            self._keep(key, beside, known if known is not None and count == len(known.messages) else None, found)
        return found

    def _keep(self, key: Hashable, beside: list[_Known], replaced: _Known | None, found: _Known) -> None:
        kept = [each for each in beside if each is not replaced]
        kept.append(found)
        self._size += len(found.text) - (len(replaced.text) if replaced is not None else 0)
        if len(kept) > MAX_BESIDE:
            self._size -= len(kept.pop(0).text)
        self._known[key] = kept
        self._known.move_to_end(key)
        while self._known and (self._size > MAX_CHARACTERS or len(self._known) > MAX_CONVERSATIONS):
            _, oldest = self._known.popitem(last=False)
            self._size -= sum(len(each.text) for each in oldest)


histories = Histories()
"""What this process has read last."""

_NOTHING = _Known("[", History(), array("q"), None)


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


def agreement(one: AnyStr, other: AnyStr) -> int:
    """Return how many characters, or bytes, two texts have in common from their beginning."""
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
