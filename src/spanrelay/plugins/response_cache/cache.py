"""Answers what was answered before, keeps what a provider answers, and sends the same request once at a time.

A call is never lost by it: whatever goes wrong here, the request is sent as it is.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any

from spanrelay._guard import guarded
from spanrelay.pipeline.flow import Apart
from spanrelay.plugins.keeping import renewed
from spanrelay.plugins.response_cache.entries import Entry, Unkept
from spanrelay.plugins.response_cache.flights import Flight, Flights
from spanrelay.plugins.response_cache.keys import Bypassed
from spanrelay.plugins.response_cache.stores import Store
from spanrelay.records import ResponseCache


@dataclass(frozen=True, slots=True)
class _Answered:
    """An answer of a provider that is kept if the call ends well, and the flight that others wait for."""

    key: bytes
    data: bytes
    flight: Flight | None


class Cache:
    """Stands around the sending of each call, and around all that checks its answer.

    Args:
        store: Keeps the answers.
        key_of: Returns the key of a call, or raises `Bypassed`.
        entry_of: Returns what is kept of an answer, or raises `Unkept`.
        answer_of: Returns what a call is answered with.
        ttl_seconds: How old an answer may be.
        max_wait_seconds: How long a call waits at most for another that asks the same.
        applies: Whether calls are answered; else it is only told which would have been, and no answer is kept.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        store: Store,
        key_of: Callable[[Any], bytes],
        entry_of: Callable[[Any, Any, float], Entry],
        answer_of: Callable[[Any, Entry], Any],
        *,
        ttl_seconds: float,
        max_wait_seconds: float,
        applies: bool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._key_of, self._entry_of, self._answer_of = key_of, entry_of, answer_of
        self._ttl_seconds, self._max_wait_seconds = ttl_seconds, max_wait_seconds
        self._applies = applies
        self._clock = clock
        self._flights = Flights()
        renewed.add(self)
        self._open: weakref.WeakKeyDictionary[Any, list[_Answered]] = weakref.WeakKeyDictionary()
        """What was answered of calls that have not ended, so that policy around may still refuse it."""

    def after_fork(self) -> None:
        """Wait for nobody."""
        self._flights.after_fork()
        self._open = weakref.WeakKeyDictionary()

    # --- around everything else: an answer that anybody refuses is not kept ---

    def remember(self, call: Any) -> Generator[Any, Any, None]:
        """Keep what the provider has answered once the whole call has ended well; an execution intercept."""
        answered = self._open[call.root] = list[_Answered]()
        ended = False
        try:
            yield call
            ended = True
        finally:
            self._open.pop(call.root, None)
            if not ended:
                for each in answered:
                    self._flights.land(each.key, each.flight, None)
        for each in answered:
            try:
                yield from self._within(lambda each=each: self._keep(each))
            finally:
                self._flights.land(each.key, each.flight, each.data)

    # --- next to the sending ---

    def answer(self, call: Any) -> Generator[Any, Any, Any]:
        """Answer a call with what is kept for it, or send it; an execution intercept."""
        told = ResponseCache()
        key = self._asked(call, told)
        call.root.record.response_cache = told
        if key is None:
            yield call
            return None
        entry = yield from self._stored(key)
        flight: Flight | None = None
        if entry is None and self._applies:
            flight, mine = self._flights.board(key)
            if mine:  # who had it until now may have landed just before
                entry = yield from self._stored(key)
            elif flight.is_own():
                flight = None
            else:
                data = yield flight.wait(threading.get_ident(), self._max_wait_seconds)
                entry, flight = self._young(data), None
        if entry is not None:
            self._flights.land(key, flight, entry.to_bytes())
            told.decision = "hit" if self._applies else "would_hit"
            told.age_seconds, told.saved_tokens = max(round(self._clock() - entry.at, 3), 0.0), entry.tokens
            if self._applies:
                return self._answer_of(call, entry)
        yield from self._send(call, key, told, flight)
        return None

    def _asked(self, call: Any, told: ResponseCache) -> bytes | None:
        """Return the key of a call; None where it is not looked up."""
        before = call.root.record.response_cache
        if before is not None and before.decision == "hit":
            told.reason = "asked_again"  # somebody around is not content with the answer that is kept
            return None
        try:
            key = self._key_of(call)
        except Bypassed as reason:
            told.reason = str(reason)
            return None
        except Exception as error:
            told.reason = type(error).__name__
            with guarded("making the key of a response cache"):
                raise
            return None
        told.decision = "miss"
        return key

    def _send(self, call: Any, key: bytes, told: ResponseCache, flight: Flight | None) -> Generator[Any, Any, None]:
        data: bytes | None = None
        try:
            response = yield call
            with guarded("reading what a response cache is to keep"):
                try:
                    entry = self._entry_of(call, response, self._clock())
                    data = (entry if self._applies else replace(entry, body=None, events=None)).to_bytes()
                except Unkept as reason:
                    told.reason = str(reason)
        finally:
            waiting = self._open.get(call.root)
            if data is not None and waiting is not None:
                waiting.append(_Answered(key, data, flight))
            else:
                self._flights.land(key, flight, None)

    # --- the store, of which no call waits for long and none fails ---

    def _within(self, work: Callable[[], Any]) -> Generator[Any, Any, Any]:
        return (yield Apart(work)) if self._store.shared else work()

    def _stored(self, key: bytes) -> Generator[Any, Any, Entry | None]:
        return (yield from self._within(lambda: self._read(key)))

    def _read(self, key: bytes) -> Entry | None:
        with guarded("reading a response cache"):
            return self._young(self._store.get(key))
        return None

    def _young(self, data: bytes | None) -> Entry | None:
        """Return the entry that is kept as `data`; None where it is too old, of another version, or broken."""
        entry = None if data is None else Entry.of_bytes(data)
        return entry if entry is not None and 0 <= self._clock() - entry.at < self._ttl_seconds else None

    def _keep(self, answered: _Answered) -> None:
        with guarded("writing a response cache"):
            self._store.put(answered.key, answered.data, self._ttl_seconds)
