"""The messages that spans leave out of their requests: who carried them, and requests made whole again.

What cannot be found is said to be missing, and never guessed. What is kept has a bound.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import NamedTuple

from spanrelay.records import Message, Omission, SpanRecord
from spanrelay.semconv.fields import mark_hidden_content
from spanrelay.semconv.histories import History

MAX_CHARACTERS = 64 << 20
"""Characters of messages that are kept in all."""
MAX_CARRIERS = 65_536
"""Spans whose messages are kept."""


class _Carrier:
    """A span that carried messages, of the conversation `key`.

    `whole` is its request, until another has taken that over to go on from it; `hides` says whether content of it was
    left out for good.
    """

    __slots__ = ("hides", "key", "messages", "omitted", "whole")

    def __init__(self, omitted: Omission, messages: list[Message], key: object, *, hides: bool) -> None:
        self.omitted, self.messages, self.key, self.hides = omitted, messages, key, hides
        self.whole: History | None = None

    @property
    def number(self) -> int:
        """How many messages its request has."""
        return self.omitted.count + len(self.messages)


class _Conversation(NamedTuple):
    carriers: list[_Carrier]
    spans: list[int]


class Omitted:
    """What spans carried that others may leave out, by conversation: the one that was quiet for longest goes first."""

    def __init__(self) -> None:
        self._conversations: OrderedDict[object, _Conversation] = OrderedDict()
        self._by_digest: dict[str, _Carrier] = {}
        self._by_span: dict[int, _Carrier] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self._by_digest)

    def note(self, record: SpanRecord) -> None:
        """Keep what a span carries: of its request, and its answer, which later requests repeat."""
        omitted, request = record.omitted, record.request
        if omitted is None or request is None:
            return
        key = record.session_id or record.trace_id
        asked = self._keep(key, omitted, request.messages, hides=not record.content)
        answers = record.response.messages if record.response is not None else []
        if omitted.answered and len(answers) == 1:
            behind = Omission(asked.number, omitted.total, (record.span_id,), omitted.answered)
            self._keep(key, behind, [replace(answers[0], finish_reason=None)], hides=asked.hides)
        self._by_span[record.span_id] = asked
        self._conversations[key].spans.append(record.span_id)
        while self._size > MAX_CHARACTERS or len(self._by_span) > MAX_CARRIERS:
            self._forget_oldest()

    def _keep(self, key: object, omitted: Omission, messages: list[Message], *, hides: bool) -> _Carrier:
        carrier = self._by_digest.get(omitted.total)
        if carrier is None:
            carrier = self._by_digest[omitted.total] = _Carrier(omitted, messages, key, hides=hides)
            self._size += omitted.size
        carrier.key = key
        self._conversations.setdefault(key, _Conversation([], [])).carriers.append(carrier)
        self._conversations.move_to_end(key)
        return carrier

    def restore(self, record: SpanRecord) -> None:
        """Put back what a span leaves out of its request; say how much of it is missing."""
        self.note(record)
        omitted, record.omitted = record.omitted, None
        if omitted is None or record.request is None or not omitted.count:
            return
        before, record.missing = self._before(omitted)
        record.truncated = record.truncated or record.missing > 0
        if before is not None:
            known = self._whole(before)
            record.request.messages = whole = History((*known, *record.request.messages), known.prints)
            record.content = record.content and not before.hides
            own = self._by_digest.get(omitted.total)
            if own is not None:
                own.whole, own.hides = whole, not record.content
        mark_hidden_content(record)

    def _before(self, omitted: Omission) -> tuple[_Carrier | None, int]:
        """Return the span whose request begins what was left out, and how many messages behind that are missing."""
        found = self._by_digest.get(omitted.digest)
        if found is not None:
            return found, 0
        for span_id in omitted.carriers[1:]:
            found = self._by_span.get(span_id)
            if found is not None and found.number <= omitted.count:
                return found, omitted.count - found.number
        return None, omitted.count

    def _whole(self, carrier: _Carrier) -> History:
        """Return the messages of a carrier's request; who asks goes on from it, so that it is not kept twice."""
        line: dict[int, _Carrier] = {}
        known, each = History(), carrier
        while each is not None and id(each) not in line:  # what was written by others may lead in a circle
            if each.whole is not None:
                known, each.whole = each.whole, None
                break
            line[id(each)] = each
            each = self._before(each.omitted)[0] if each.omitted.count else None
        behind = [message for each in reversed(line.values()) for message in each.messages]
        return History((*known, *behind), known.prints)

    def _forget_oldest(self) -> None:
        key, conversation = self._conversations.popitem(last=False)
        for carrier in conversation.carriers:
            if carrier.key == key and self._by_digest.pop(carrier.omitted.total, None) is not None:
                self._size -= carrier.omitted.size
        for span_id in conversation.spans:
            self._by_span.pop(span_id, None)
