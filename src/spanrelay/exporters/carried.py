"""What an exporter has carried of each conversation, so that later spans leave it out.

A span has carried something once it is delivered; where anything is in doubt the whole history is sent. What is kept
are digests, never a text.
"""

from __future__ import annotations

import copy
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

from spanrelay._guard import guarded
from spanrelay.conversation import Telling
from spanrelay.records import Omission
from spanrelay.semconv import names
from spanrelay.semconv.omissions import History, carried_by, digest_of, history_in, history_of, said_of
from spanrelay.telemetry.projection import LazyAttributes

MAX_CONVERSATIONS = 2048
"""Conversations of which is known what was carried; the one that was quiet for longest is forgotten first."""
MAX_BESIDE = 32
"""States of one conversation, as forks and calls at the same time leave them, that a span may go on from."""
MAX_CARRIERS = 3
"""Spans that are named as carriers, so that what went before is found though the last of them is lost."""
SECONDS_KEPT = 3600.0
"""A conversation that is quiet for longer is forgotten."""
LEAST_CHARACTERS = 300
"""What is shorter is carried again: to say that it is left out takes as much."""

_Key = tuple[str, str]


class _State(NamedTuple):
    """A history that a span has carried, with what it left out, and when that span ended.

    `text` is the digest of all its text, of `length` characters; `digest` is what spans call it, and `digest_before`
    the one that it goes on from.
    """

    end: int
    length: int
    text: bytes
    number: int
    digest: str
    digest_before: str
    carriers: tuple[int, ...]


class Carried:
    """What one exporter has carried. Safe among threads."""

    def __init__(self) -> None:
        self._begin()
        if hasattr(os, "register_at_fork"):
            method = weakref.WeakMethod(self._begin)
            os.register_at_fork(after_in_child=lambda: (begin := method()) and begin())

    def _begin(self) -> None:
        """Know of nothing: what a parent process has carried, or has not yet, is not its child's to know."""
        self._states: OrderedDict[_Key, tuple[float, tuple[_State, ...]]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._states)

    def attempt(self, spans: Iterable[ReadableSpan]) -> Attempt:
        """Return `spans` as they are to be sent now."""
        return Attempt(self, spans)

    def states(self, key: _Key) -> tuple[_State, ...]:
        """Return what was carried of a conversation."""
        with self._lock:
            return self._states.get(key, (0.0, ()))[1]

    def keep(self, new: Mapping[_Key, Sequence[_State]], over: Iterable[_Key]) -> None:
        """Remember what has been carried, and forget the conversations that are over."""
        now = time.monotonic()
        with self._lock:
            for key, states in new.items():
                known = (*self._states.pop(key, (0.0, ()))[1], *states)
                # What has been gone on from is needed for forks only.
                passed = {state.digest_before for state in known}
                ranked = sorted(known, key=lambda state: state.digest not in passed)
                self._states[key] = now, tuple(ranked[-MAX_BESIDE:])
            for key in over:
                self._states.pop(key, None)
            while self._states:
                seen, _ = next(iter(self._states.values()))
                if len(self._states) <= MAX_CONVERSATIONS and seen > now - SECONDS_KEPT:
                    break
                self._states.popitem(last=False)


class Attempt:
    """Spans on their way: each without what was delivered before, or goes before it in the same request."""

    def __init__(self, carried: Carried, spans: Iterable[ReadableSpan]) -> None:
        self._carried = carried
        self._new: dict[_Key, list[_State]] = {}
        self._over: list[_Key] = []
        self.spans = [self._told(span) for span in spans]

    def delivered(self) -> None:
        """Note that what was sent has arrived."""
        self._carried.keep(self._new, self._over)

    def _told(self, span: ReadableSpan) -> ReadableSpan:
        with guarded("leaving out what was sent before"):
            context = span.context
            if context is None:
                return span
            if span.parent is None:
                self._over += [(form, f"{context.trace_id:032x}") for form in ("listed", "flattened")]
            attributes, telling = read_apart(span)
            history = history_of(attributes) if telling is None else history_in(attributes, telling)
            if history is not None:
                return self._without(span, context, attributes, history)
        return span

    def _without(
        self, span: ReadableSpan, context: SpanContext, attributes: Mapping[str, Any], history: History
    ) -> ReadableSpan:
        named = attributes.get(names.CONVERSATION_ID) or attributes.get(names.OI_SESSION)
        key = history.form, str(named or f"{context.trace_id:032x}")
        found = history.longest(self._known(key, span.start_time or 0)) or _NOTHING
        number = history.number_from(found.length)
        if number is None:
            found, number = _NOTHING, history.number_from(0)
        if number is None:
            return span  # they are no messages
        told = history.without(found.length)
        total = digest_of(found.digest, carried_by(told))
        told.update(said_of(Omission(found.number, found.digest, found.carriers)))
        carriers = (context.span_id, *found.carriers)[:MAX_CARRIERS]
        digest = history.hash()
        state = _State(
            span.end_time or 0, history.length, digest.digest(), found.number + number, total, found.digest, carriers
        )
        states = self._new.setdefault(key, [])
        states.append(state)
        answer = history.answer
        if answer is not None:
            states.append(_answered(state, digest, answer))
        return _with(span, told)

    def _known(self, key: _Key, start: int) -> dict[tuple[int, bytes], _State]:
        """Return what was carried of a conversation by spans that had ended at `start`.

        Whoever reads spans in the order in which they happened has those by then.
        """
        states = (*self._carried.states(key), *self._new.get(key, ()))
        return {
            (state.length, state.text): state
            for state in states
            if state.length >= LEAST_CHARACTERS and state.end <= start
        }


_NOTHING = _State(0, 0, b"", 0, "", "", ())


def read_apart(span: ReadableSpan) -> tuple[Mapping[str, Any], Telling | None]:
    """Return the attributes of a span, and apart from them its messages where they are known one by one.

    Of those no whole text is made; in their place stand the messages that no span had before.
    """
    attributes: Any = span._attributes
    told = attributes.told() if isinstance(attributes, LazyAttributes) else None
    return (span.attributes or {}, None) if told is None else told


def _answered(state: _State, digest: Any, answer: str) -> _State:
    """Return the history of `state`, hashed in `digest`, with the answer that the same span has carried."""
    digest.update(f",{answer}".encode(errors="replace"))
    return state._replace(
        length=state.length + 1 + len(answer),
        text=digest.digest(),
        number=state.number + 1,
        digest=digest_of(state.digest, answer),
        digest_before=state.digest,
    )


class _Told(BoundedAttributes):
    """Attributes as they are sent, which need not be looked at again."""

    def __init__(self, items: dict[str, Any], dropped: int) -> None:
        super().__init__(immutable=False)
        self._dict, self.dropped, self._immutable = items, dropped, True


def _with(span: ReadableSpan, attributes: dict[str, Any]) -> ReadableSpan:
    """Return a copy of `span` with other attributes."""
    told = copy.copy(span)
    told._attributes = _Told(attributes, span.dropped_attributes)
    return told
