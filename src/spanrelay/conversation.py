"""Requests that repeat the one before: what is known of a conversation is recognised by its bytes and read once.

What comes out equals what reading everything gives. Where anything is in doubt everything is read: a memory that is
full, or of another conversation, costs time and never content.
"""

from __future__ import annotations

import json
import operator
import os
import secrets
import threading
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from itertools import accumulate
from typing import Any, NamedTuple, cast

from spanrelay import _json
from spanrelay.records import Message, ModelRequest

_LEAST_BYTES = 1500
"""Requests that are shorter are read faster than recognised."""
_MOST_BYTES = 4 << 20
"""Longer ones, which hold images as a rule, are not remembered."""
_BYTES_KEPT = 16 << 20
_FORKS_KEPT = 8
"""How many ways a conversation may go on that began alike."""
_BEGINNINGS_KEPT = 512
DIGEST_BYTES = 16
_SECONDS_KEPT = 120.0
_PIECE = 256
_CALL = b'"call_id"'
_KNOWN = f"spanrelay-known-{secrets.token_hex(8)}"
"""Stands for what is known where the rest of a request is read."""
_MARK = f'"{_KNOWN}"'.encode()
_item = json.JSONDecoder().raw_decode


class Turns(NamedTuple):
    """Where a request has its conversation: under which key the list of its items is, and how one of them is read.

    A codec that says so as its `turns`, and reads its requests by it, has what it read before recognised and shared.
    Nothing else of a request may depend on the items, and none of them on another, but for those of the assistant
    where `runs` is set: its neighbouring items are one message. `marks` is the key behind which an item says something.
    """

    field: str
    read: Callable[[Any], Message]
    runs: bool = False
    marks: str = "content"

    def messages(self, items: object) -> list[Message]:
        """Return the messages in the value of `field`."""
        if not isinstance(items, (list, tuple)):
            return []
        read = self.read
        messages = [read(item) for item in cast("list[Any]", items)]
        return _joined(messages) if self.runs else messages

    def groups(self, items: list[Any]) -> list[list[Any]]:
        """Return the items of each message."""
        if not self.runs:
            return [[item] for item in items]
        groups: list[list[Any]] = []
        before = None
        for item in items:
            role = self.read(item).role
            if role == before == "assistant":
                groups[-1].append(item)
            else:
                groups.append([item])
            before = role
        return groups


def _joined(messages: list[Message]) -> list[Message]:
    joined: list[Message] = []
    for message in messages:
        if joined and _goes_on(joined[-1], message):
            joined[-1].parts += message.parts
        else:
            joined.append(message)
    return joined


def _goes_on(before: Message, message: Message) -> bool:
    """Whether two neighbours are one message where runs of the assistant's are."""
    return message.role == before.role == "assistant"


class Telling:
    """A message as a dialect tells it, as JSON, behind those `before` it: `number` with it, in `length` characters.

    Nobody changes these; requests that begin alike share them. What follows from a text is worked out once.
    """

    __slots__ = ("_digest", "_hash", "_open", "before", "clean", "length", "number", "text")

    def __init__(self, before: Telling | None, text: str) -> None:
        self.before = before
        self.text = text
        self.number = 1 if before is None else before.number + 1
        self.length = len(text) if before is None else before.length + 1 + len(text)
        self.clean = False
        """Whether it is known to hold no credential, and none before it does."""
        self._open: str | None = None
        self._hash: Any = None
        self._digest: bytes | None = None

    def whole(self) -> str:
        """Return the JSON of the list that ends with this message."""
        known, text, texts = self._since(lambda each: each._open)
        whole = self._open = ",".join(texts if text is None else (text, *texts))
        if known is not None and known is not self:
            known._open = None  # it is the beginning of this one
        return f"[{whole}]"

    def behind(self, number: int) -> str:
        """Return the JSON of the list of messages behind the first `number`."""
        return f"[{','.join(self._since(lambda each: each.number <= number)[2])}]"

    def unsearched(self) -> str:
        """Return the texts in which nobody has looked for credentials yet."""
        return ",".join(self._since(lambda each: each.clean)[2])

    def found_clean(self) -> None:
        """Remember that there is no credential in what was `unsearched`."""
        each: Telling | None = self
        while each is not None and not each.clean:
            each.clean, each = True, each.before

    def digest(self) -> bytes:
        """Return the digest of all texts up to here, with commas between them."""
        if self._digest is None:
            self._digest = cast("bytes", self.hash().digest())
        return self._digest

    def hash(self) -> Any:
        """Return a hash of all texts up to here, which the caller may go on with."""
        known, before, texts = self._since(lambda each: each._hash)
        found = before.copy() if before is not None else blake2b(digest_size=DIGEST_BYTES)
        if known is not self:
            text = ",".join(texts)
            found.update((text if before is None else f",{text}").encode())
            self._hash = found.copy()
            if known is not None:
                known._hash = None  # kept where a conversation goes on from
        return found

    def _since(self, known: Callable[[Telling], Any]) -> tuple[Telling | None, Any, list[str]]:
        """Return the nearest, from here backward, of which something is known, and what; then the texts behind it."""
        texts: list[str] = []
        each: Telling | None = self
        while each is not None:
            found = known(each)  # once, since another thread may take it away
            if found is not None and found is not False:
                texts.reverse()
                return each, found, texts
            texts.append(each.text)
            each = each.before
        texts.reverse()
        return None, None, texts

    def up_to(self, number: int) -> Telling | None:
        """Return the telling of the first `number` messages."""
        each: Telling | None = self
        while each is not None and each.number > number:
            each = each.before
        return each


class _Flat(NamedTuple):
    """What `lead` and the first `number` messages are as attributes; `clean` are those known to hold no credential.

    The next message has the number `next_index` among them. Nobody changes the mappings.
    """

    number: int
    next_index: int
    lead: list[Message]
    attributes: dict[str, Any]
    clean: dict[str, Any]


_Flatten = Callable[[list[Message], int, dict[str, Any]], int]
"""Writes messages, of which the first has that number, into attributes, and returns the number of the next."""


class _Past:
    """What is known of one conversation: a request, its messages, and where the items of each end in its list.

    The list has its first item at `begin` of the request, and ends are counted from there, in bytes.

    Nobody changes any of these, only `prints` and what is `told` and `flat` grow; a request that goes on makes another.
    """

    __slots__ = ("begin", "ends", "flat", "left", "messages", "prints", "sent", "told")

    def __init__(
        self, sent: bytes, begin: int, ends: list[int], messages: list[Message], prints: Iterable[int] = ()
    ) -> None:
        self.sent = sent
        self.begin = begin
        self.ends = ends
        self.messages = messages
        self.told: Telling | None = None
        self.flat: _Flat | None = None
        self.left: _Left | None = None
        self.prints = array("q", prints)

    def begun(self, count: int) -> _Past:
        """Return what is known of the first `count` messages, which another conversation begins with."""
        begun = _Past(b"", 0, [], self.messages[:count], self.prints[:count])
        begun.told = self.told.up_to(count) if self.told is not None else None
        if count == len(self.messages):
            begun.flat = self.flat
        return begun

    def known_in(self, sent: bytes, begin: int) -> int:
        """Return how many of these messages the list begins with that has its first item at `begin` of `sent`."""
        known = memoryview(self.sent)[self.begin :]  # what is compared is not copied
        if sent.startswith(known[: self.ends[-1]], begin):
            low = len(self.ends)
        else:
            low, high = 0, len(self.ends) - 1
            while low < high:
                middle = (low + high + 1) // 2
                if sent.startswith(known[: self.ends[middle - 1]], begin):
                    low = middle
                else:
                    high = middle - 1
        # What goes on where an item ends is another item.
        while low and not sent.startswith((b",", b"]"), begin + self.ends[low - 1]):
            low -= 1
        return low


class _Left(NamedTuple):
    """What those that stand for `by` have left of the first `number` messages."""

    by: object
    number: int
    past: _Past


class Conversation(list[Message]):
    """The messages of a request, of which others hold the first as well.

    `prints` are what somebody who compares messages has worked out of the first of them.
    """

    __slots__ = ("_flat", "_past", "prints")

    def __init__(self, past: _Past) -> None:
        super().__init__(past.messages)
        self._past = past
        self._flat: _Flat | None = None
        self.prints = past.prints

    def __reduce__(self) -> tuple[Any, ...]:
        return (list, (list(self),))

    @property
    def _is_as_read(self) -> bool:
        messages = self._past.messages
        return len(self) == len(messages) and all(map(operator.is_, self, messages))

    def told(self, write: Callable[[list[Message]], list[Any]]) -> str:
        """Return `_json.dumps_text(write(self))`, of which only what is new is written."""
        telling = self.telling(write)
        return _json.dumps_text(write(self)) if telling is None else telling.whole()

    def telling(self, write: Callable[[list[Message]], list[Any]]) -> Telling | None:
        """Return the messages as `write` has them, one by one; None where that cannot be."""
        past = self._past
        if not self or not self._is_as_read:
            return None
        told = past.told
        for message in self[told.number if told is not None else 0 :]:
            text = _json.plain_text(write([message]))
            if text is None:  # all of it is written in another way then
                return None
            told = Telling(told, text[1:-1])
        past.told = told
        return told

    def flatten(self, lead: list[Message], write: _Flatten, attributes: dict[str, Any]) -> None:
        """Do `write([*lead, *self], 0, attributes)`, of which only what is new is written; `lead` is texts alone."""
        if not self._is_as_read:
            write([*lead, *self], 0, attributes)
            return
        flat = self._past.flat
        if flat is None or flat.lead != lead:
            first: dict[str, Any] = {}
            flat = _Flat(0, write(lead, 0, first), lead, first, {})
        if flat.number < len(self):
            grown = flat.attributes.copy()
            index = write(self[flat.number :], flat.next_index, grown)
            flat = flat._replace(number=len(self), next_index=index, attributes=grown)
        self._past.flat = self._flat = flat
        attributes.update(flat.attributes)

    def through(self, by: object, change: Callable[[list[Message]], list[Message] | None]) -> Conversation | None:
        """Return what `change` leaves of the messages, of which it is given only what is new; None where it fails.

        `by` stands for what changes them: what another has left is not known.
        """
        past = self._past
        left = past.left if self._is_as_read else None
        if left is None or left.by != by:
            left = _Left(by, 0, _Past(b"", 0, [], []))
        if left.number < len(self):
            changed = change(self[left.number :])
            if changed is None:
                return None
            grown = left.past.begun(len(left.past.messages))
            grown.messages += changed
            left = _Left(by, len(self), grown)
            if self._is_as_read:
                past.left = left
        return Conversation(left.past)

    @property
    def clean(self) -> dict[str, Any]:
        """Which of the attributes that `flatten` wrote are known to hold no credential."""
        return self._flat.clean if self._flat is not None else {}

    def found_clean(self, attributes: Mapping[str, Any]) -> None:
        """Remember that there is no credential in `attributes`, if `flatten` gave them."""
        flat = self._flat
        if flat is not None and all(map(operator.is_, map(attributes.get, flat.attributes), flat.attributes.values())):
            self._past.flat = flat._replace(clean=flat.attributes)


class _Memory:
    """Conversations by how they begin, the one that was used last at the end."""

    def __init__(self) -> None:
        self._beginnings: OrderedDict[object, tuple[float, list[_Past]]] = OrderedDict()
        self._size = 0
        self.free()

    def free(self) -> None:
        """Take a lock that nobody holds: a forked child has none of its parent's threads."""
        self._lock = threading.Lock()

    def recall(self, key: object) -> list[_Past] | None:
        """Return what is known of conversations that begin so, the latest first; None for those never seen before."""
        with self._lock:
            self._expire(time.monotonic() - _SECONDS_KEPT)
            found = self._beginnings.get(key)
            return None if found is None else found[1]

    def keep(self, key: object, past: _Past | None, instead: _Past | None = None) -> None:
        """Remember a conversation, or only that one began so, and forget `instead`, which it goes on from."""
        with self._lock:
            _, kept = self._beginnings.pop(key, (0, []))
            self._size -= _size(kept)
            if past is not None:
                kept = [past, *(other for other in kept if other is not instead)][:_FORKS_KEPT]
            self._beginnings[key] = (time.monotonic(), kept)
            self._size += _size(kept)
            while self._size > _BYTES_KEPT or len(self._beginnings) > _BEGINNINGS_KEPT:
                self._forget_oldest()

    def _expire(self, before: float) -> None:
        while self._beginnings and next(iter(self._beginnings.values()))[0] < before:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        _, (_, kept) = self._beginnings.popitem(last=False)
        self._size -= _size(kept)

    def forget(self) -> None:
        """Forget everything."""
        with self._lock:
            self._beginnings.clear()
            self._size = 0

    def held(self) -> int:
        """Return about how many bytes are held."""
        return self._size


def _size(kept: list[_Past]) -> int:
    return sum(4 * len(past.sent) for past in kept)  # as it was, as messages, as sanitizers left it, as it is told


_memory = _Memory()
forget, held = _memory.forget, _memory.held
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_memory.free)


def read_request(codec: Any, data: bytes) -> ModelRequest:
    """Return `codec.decode_request` of the JSON in `data`; its messages may be shared, and nobody is to change them."""
    turns: Turns | None = getattr(codec, "turns", None)
    if turns is None or not _LEAST_BYTES <= len(data) <= _MOST_BYTES:
        return codec.decode_request(_json.loads_object(data))
    opening = f'"{turns.field}":['.encode()
    begin = data.find(opening) + len(opening)
    if begin < len(opening):
        return codec.decode_request(_json.loads_object(data))
    key = (codec, *_beginning(data, begin, f'"{turns.marks}"'.encode()))
    pasts = _memory.recall(key)
    for past, count in _most_known(pasts or [], data, begin):
        request = _continued(codec, data, begin, past, count, key)
        if request is not None:
            return request
    request = codec.decode_request(_json.loads_object(data))
    # What is asked once only is not to pay for being remembered.
    past = None if pasts is None else _past_of(turns, data, begin, request)
    _memory.keep(key, past)
    return request


def _beginning(sent: bytes, begin: int, mark: bytes) -> tuple[bytes, bytes]:
    """Return what tells conversations apart that begin with the same instructions: a piece of the second message."""
    second = sent.find(mark, sent.find(mark, begin) + len(mark))
    if second < 0:  # an item of the Responses API may have none
        second = max(sent.find(_CALL, begin), begin)
    return _piece(sent, begin), _piece(sent, second)


def _piece(sent: bytes, start: int) -> bytes:
    """Return a piece of an item, and nothing of what follows it: that changes while a conversation grows."""
    end = sent.find(b"}", start, start + _PIECE)
    return sent[start : end if end >= 0 else start + _PIECE]


def _most_known(pasts: list[_Past], sent: bytes, begin: int) -> list[tuple[_Past, int]]:
    """Return the conversation that `sent` goes on from, or goes on from as far as can be, and how far."""
    best: list[tuple[_Past, int]] = []
    for past in pasts:
        count = past.known_in(sent, begin)
        if count and (not best or count > best[0][1]):
            best = [(past, count)]
            if count == len(past.ends):
                break
    return best


def _continued(codec: Any, sent: bytes, begin: int, past: _Past, count: int, key: object) -> ModelRequest | None:
    """Return the request in `sent`, of which `past` knows the first `count` messages; None where it does not."""
    turns: Turns = codec.turns
    known = past.ends[count - 1]
    rest = sent[begin + known :]
    wire = _without(turns.field, sent[:begin], rest)
    if wire is None:
        return None
    request: ModelRequest = codec.decode_request(wire)
    new = request.messages
    if turns.runs and new and _goes_on(past.messages[count - 1], new[0]):
        return _continued(codec, sent, begin, past, count - 1, key) if count > 1 else None
    ends = _ends(turns, wire[turns.field], rest, known)
    if ends is None or len(ends) != len(new):
        return None
    whole = count == len(past.ends)
    if whole and not new:
        request.messages = Conversation(past)
        _memory.keep(key, past, past)
        return request
    # Prints are of its own, since several requests may go on from one.
    now = _Past(sent, begin, past.ends[:count] + ends, past.messages[:count] + new, past.prints[:count])
    left = past.left
    now.told = past.told.up_to(count) if past.told is not None else None
    if whole:
        now.flat, now.left = past.flat, left
    elif left is not None and left.number == len(left.past.messages):
        number = min(count, left.number)
        now.left = _Left(left.by, number, left.past.begun(number))
    request.messages = Conversation(now)
    _memory.keep(key, now, past if whole else None)
    return request


def _without(field: str, before: bytes, rest: bytes) -> dict[str, Any] | None:
    """Return the request without the items between `before` and `rest`; None where they are not its first messages."""
    sent = b"".join((before, _MARK, rest))
    if not _is_text(sent):
        return None
    wire = _json.loads_object(sent)
    items = wire.get(field)
    if type(items) is not list or not items or cast("list[Any]", items)[0] != _KNOWN:
        return None
    wire[field] = cast("list[Any]", items)[1:]
    return wire


def _is_text(sent: bytes) -> bool:
    try:
        sent.decode()
    except UnicodeDecodeError:
        return False
    return True


def _ends(turns: Turns, items: list[Any], rest: bytes, begin: int) -> list[int] | None:
    """Return where each message of `items` ends; None where that is odd.

    The items stand in `rest`, a comma before each, and then the list ends; `rest` has `begin` bytes of it before.
    """
    text = rest.decode("latin-1")  # a character for each byte, and those that mean something in JSON are what they are
    found: list[int] = []
    end = 0
    try:
        while text.startswith(",", end):
            _, end = _item(text, end + 1)
            found.append(begin + end)
    except (ValueError, RecursionError):
        return None
    if len(found) != len(items) or not text.startswith("]", end):
        return None
    return [found[last - 1] for last in accumulate(map(len, turns.groups(items)))] if turns.runs else found


def _past_of(turns: Turns, sent: bytes, begin: int, request: ModelRequest) -> _Past | None:
    """Return what is to be known of a request that was read; None where its items are not the messages."""
    rest = sent[begin:]
    try:
        first, length = _item(rest.decode("latin-1"))
    except (ValueError, RecursionError):
        return None
    wire = _without(turns.field, sent[:begin], rest[length:])
    if wire is None or not _is_text(rest[:length]):
        return None
    ends = _ends(turns, [first, *wire[turns.field]], b"," + rest, -1)
    if ends is None or len(ends) != len(request.messages):
        return None
    return _Past(sent, begin, ends, list(request.messages))
