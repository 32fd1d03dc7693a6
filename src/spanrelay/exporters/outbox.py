"""What waits for a collector, and the thread that sends it, again and again, oldest first.

The lock is never held while something is being sent: whoever puts something in must not wait for the network.
"""

from __future__ import annotations

import enum
import logging
import random
import threading
import time
import weakref
from bisect import insort_left
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from opentelemetry import context
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY  # the key that the SDK's own processors set

from spanrelay._guard import has_begun, losses, swallow

_log = logging.getLogger("spanrelay")

T = TypeVar("T")


class Outcome(enum.Enum):
    """What became of one attempt to send."""

    DELIVERED = "delivered"
    RETRY = "retry"
    """The collector is away, late or busy: what was sent may be sent again as it is."""
    REFUSED = "refused"
    """The collector, or the encoder, refuses this content and always will."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An outcome and, in a few words, why.

    Attributes:
        outcome: What became of the attempt.
        reason: Why; of what was delivered, what the collector says about it.
        retry_after: Seconds that the collector asks to be left in peace for.
        rejected: How much of what was delivered the collector did not keep.
    """

    outcome: Outcome
    reason: str = ""
    retry_after: float | None = None
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """How much goes into one request and how much may wait; sizes in bytes as encoded.

    Attributes:
        parcel_bytes: Largest request, without its resource; a single item above it is sent alone. OTLP receivers
            refuse 4 MiB by default.
        parcel_items: Most items of one request.
        queue_bytes: Above this, the oldest waiting items are lost.
        queue_items: As above, by number.
    """

    parcel_bytes: int = 3_400_000
    parcel_items: int = 512
    queue_bytes: int = 64_000_000
    queue_items: int = 20_000


@dataclass(frozen=True, slots=True)
class Pace:
    """When to send again; times in seconds.

    Attributes:
        first: Pause after the first failure; it doubles with each further one.
        longest: The pause grows no longer, unless the collector asks for more.
        longest_asked: What the collector may ask for at most.
        jitter: Each pause is changed by up to this share of it, so that many programs do not return together.
        hopeless_failures: A parcel that failed this often …
        hopeless_after: … over this time, while others were delivered, counts as refused.
        patience: How long `put` waits for an idle collector to take what it is given.
    """

    first: float = 0.5
    longest: float = 5.0
    longest_asked: float = 300.0
    jitter: float = 0.25
    hopeless_failures: int = 5
    hopeless_after: float = 120.0
    patience: float = 0.5

    def pause(self, failures: int, asked: float | None = None) -> float:
        """Return the seconds to wait after this many failures in a row, and no less than the collector asked for."""
        pause = min(self.longest, self.first * 2.0 ** min(failures - 1, 16))
        return max(pause * random.uniform(1 - self.jitter, 1 + self.jitter), min(self.longest_asked, asked or 0.0))


_REFUSALS_BELIEVED = 16
"""So many in a row mean that this collector takes nothing: parcels are no longer searched for the culprit."""


@dataclass(slots=True)
class _Parcel(Generic[T]):
    number: int
    entries: deque[tuple[T, int]] = field(default_factory=lambda: deque[tuple[T, int]]())
    size: int = 0
    failures: int = 0
    failed_since: float = 0.0
    deliveries_seen: int = 0

    def add(self, item: T, size: int) -> None:
        self.entries.append((item, size))
        self.size += size

    def drop_oldest(self) -> int:
        size = self.entries.popleft()[1]
        self.size -= size
        return size

    def has_room(self, size: int, limits: Limits) -> bool:
        """Tell whether one more item fits; one that was sent before is never added to."""
        fits = len(self.entries) < limits.parcel_items and self.size + size <= limits.parcel_bytes
        return fits and not self.failures

    def halves(self) -> list[_Parcel[T]]:
        entries = list(self.entries)
        middle = len(entries) // 2
        parts = entries[:middle], entries[middle:]
        return [_Parcel(self.number, deque(part), sum(size for _, size in part)) for part in parts]


class Outbox(Generic[T]):
    """A bounded queue of parcels and the daemon thread that sends them.

    Items are cut into parcels by encoded size. A parcel that fails is kept and tried again after a pause; one that
    is refused is halved until the items at fault are alone, and those are dropped. Whatever is dropped is counted
    in `losses` as `<name> not delivered to the collector`, and what the collector takes and does not keep as
    `<parts> rejected by the collector`. The log gets one line when delivery starts to fail and one when it works
    again.

    Args:
        send: Sends items; called on the thread of the outbox only, may block, may raise (counts as a failure).
        name: What the items are, in the plural, for the log and for `losses`.
        parts: What collectors count when they reject a part of what they take; the items unless given.
        limits: Sizes of parcels and of the queue.
        pace: Pauses between attempts.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        send: Callable[[list[T]], Answer],
        name: str,
        limits: Limits | None = None,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        parts: str | None = None,
    ) -> None:
        self._send = send
        self._name = name
        self._parts = parts or name
        self._limits = limits or Limits()
        self._pace = pace or Pace()
        self._clock = clock
        self._start_empty()
        self._start_thread()
        _outboxes.add(self)

    def _start_empty(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[_Parcel[T]] = []
        self._parcels = 0
        self._items = 0
        self._bytes = 0
        self._failures = 0
        self._refusals = 0
        self._deliveries = 0
        self._retry_at = 0.0
        self._closing = False
        self._last_try = False
        self._abandoned = False
        self._said: set[str] = set()
        self._thread: threading.Thread | None = None

    def start_over(self) -> None:
        """Forget everything: called in a forked child, whose parent still has and sends what waits.

        The thread is gone and the lock may be held by nobody who lives here, so both are made again.
        """
        closed = self._closing
        self._start_empty()
        self._closing = self._abandoned = closed

    def _start_thread(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._work, name=f"spanrelay {self._name}", daemon=True)
            self._thread = thread
            if not has_begun(thread):  # what waits is kept, and whatever comes next tries again
                self._thread = None

    @property
    def failing(self) -> bool:
        """Whether the last attempt failed."""
        return self._failures > 0

    # Putting in and waiting; any thread

    def put(self, entries: Sequence[tuple[T, int]]) -> bool:
        """Take items with their encoded sizes in bytes; return False, and count them, when closed.

        With nothing else under way it waits a moment for the delivery, so that a flush of a batch processor, which
        never flushes its exporter, still means delivered. It does not wait for a collector that is away or slow.
        """
        with self._changed:
            if self._closing:
                self._lose(len(entries))
                return False
            idle = not self._items
            for item, size in entries:
                self._append(item, size)
            self._drop_above_limits()
            self._start_thread()
            self._changed.notify_all()
            if idle and self._thread is not None:
                self._changed.wait_for(lambda: not self._items or self.failing, self._pace.patience)
        return True

    def _append(self, item: T, size: int) -> None:
        if not self._waiting or not self._waiting[-1].has_room(size, self._limits):
            self._parcels += 1
            self._waiting.append(_Parcel(self._parcels))
        self._waiting[-1].add(item, size)
        self._items += 1
        self._bytes += size

    def _drop_above_limits(self) -> None:
        dropped = 0
        while self._waiting and (self._items > self._limits.queue_items or self._bytes > self._limits.queue_bytes):
            oldest = self._waiting[0]
            self._bytes -= oldest.drop_oldest()
            self._items -= 1
            dropped += 1
            if not oldest.entries:
                del self._waiting[0]
        if dropped:
            self._lose(dropped)
            self._say("full", "too many %s are waiting for the collector; the oldest are dropped", self._name)

    def flush(self, seconds: float) -> bool:
        """Try again at once and wait until everything is delivered or dropped; False when time ran out.

        When closed it does not wait for an attempt that would come too late.
        """
        with self._changed:
            if self._thread is threading.current_thread():
                return False  # what Python collects here may flush, and would wait for itself
            if not self._closing:  # then it has been tried, or is about to be
                self._retry_at = 0.0
            if self._items:
                self._start_thread()
            self._changed.notify_all()
            end = self._clock() + seconds
            self._changed.wait_for(lambda: not self._items or (self._closing and self._retry_at > end), seconds)
            return not self._items

    def close(self) -> None:
        """Take nothing more, and try again at once what waits. Does not wait."""
        with self._changed:
            self._closing = True
            self._retry_at = 0.0
            self._changed.notify_all()

    def abandon(self) -> bool:
        """Give up what is not delivered yet, and count it; True when there is nothing. It takes nothing more."""
        with self._changed:
            done = not self._items
            self._closing = self._abandoned = True
            self._lose(self._items)
            self._items = self._bytes = 0
            self._waiting.clear()
            self._changed.notify_all()
        return done

    # Sending; the thread

    def _work(self) -> None:
        # The exporter's own HTTP calls must not be traced; batch processors do the same around each export.
        context.attach(context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        while (parcel := self._next()) is not None:
            answer = self._attempt(parcel)
            with self._changed:
                if not self._abandoned:
                    self._settle(parcel, answer)
                    self._changed.notify_all()

    def _next(self) -> _Parcel[T] | None:
        """Wait for the parcel that is due, and take it; None ends the thread."""
        with self._changed:
            while not self._waiting or self._clock() < self._retry_at:
                if self._closing and not self._waiting:
                    return None
                self._changed.wait(self._retry_at - self._clock() if self._waiting else None)
            # One that keeps failing must not hold up the others. `min` takes the oldest of equals.
            parcel = min(self._waiting, key=lambda parcel: parcel.failures)
            self._waiting.remove(parcel)
            self._last_try = self._closing
            return parcel

    def _attempt(self, parcel: _Parcel[T]) -> Answer:
        try:
            return self._send([item for item, _ in parcel.entries])
        except Exception as error:
            swallow(f"sending {self._name}", error)
            return Answer(Outcome.RETRY, repr(error))

    def _settle(self, parcel: _Parcel[T], answer: Answer) -> None:
        if answer.outcome is Outcome.DELIVERED:
            self._delivered(parcel, answer)
        elif answer.outcome is Outcome.REFUSED or self._is_hopeless(parcel):
            self._refused(parcel, answer.reason)
        else:
            self._failed(parcel, answer)

    def _delivered(self, parcel: _Parcel[T], answer: Answer) -> None:
        self._forget(parcel)
        self._deliveries += 1
        self._failures = self._refusals = 0
        if "failing" in self._said:
            _log.warning("the collector accepts %s again", self._name)
        self._said -= {"failing", "full"}
        if answer.rejected:
            most = len(parcel.entries) if self._parts == self._name else answer.rejected
            losses.add(f"{self._parts} rejected by the collector", min(answer.rejected, most))
            self._say("rejected", "the collector rejects some %s: %s", self._parts, answer.reason or "no reason given")
        elif answer.reason:
            self._say("warned", "the collector accepts %s and says: %s", self._name, answer.reason)

    def _failed(self, parcel: _Parcel[T], answer: Answer) -> None:
        now = self._clock()
        self._failures += 1
        # There is no time for a long pause when the process ends; what the collector asked for before counts no more.
        asked = answer.retry_after if self._last_try or not self._closing else None
        self._retry_at = now + self._pace.pause(1 if self._closing else self._failures, asked)
        parcel.failed_since = parcel.failed_since if parcel.failures else now
        parcel.failures += 1
        parcel.deliveries_seen = self._deliveries
        self._put_back(parcel)
        self._drop_above_limits()
        self._say("failing", "the collector is not accepting %s, which wait in memory: %s", self._name, answer.reason)

    def _is_hopeless(self, parcel: _Parcel[T]) -> bool:
        return (
            parcel.failures + 1 >= self._pace.hopeless_failures
            and self._clock() - parcel.failed_since >= self._pace.hopeless_after
            and self._deliveries > parcel.deliveries_seen
        )

    def _refused(self, parcel: _Parcel[T], reason: str) -> None:
        if len(parcel.entries) > 1 and self._refusals < _REFUSALS_BELIEVED:
            for half in reversed(parcel.halves()):
                self._put_back(half)
            return
        self._refusals += 1
        self._forget(parcel)
        self._lose(len(parcel.entries))
        self._say("refused", "the collector permanently rejects some %s: %s", self._name, reason)

    def _put_back(self, parcel: _Parcel[T]) -> None:
        # In front of its equals: a half is searched to the end before the other one is tried.
        insort_left(self._waiting, parcel, key=lambda other: other.number)

    def _forget(self, parcel: _Parcel[T]) -> None:
        self._items -= len(parcel.entries)
        self._bytes -= parcel.size

    def _lose(self, count: int) -> None:
        if count:
            losses.add(f"{self._name} not delivered to the collector", count)

    def _say(self, topic: str, message: str, *arguments: object) -> None:
        """Log a message once per topic, until delivery works again."""
        if topic not in self._said:
            self._said.add(topic)
            _log.warning(message, *arguments)


_outboxes: weakref.WeakSet[Outbox[Any]] = weakref.WeakSet()


def abandon_deliveries() -> None:
    """Give up what waits in any outbox, and count it."""
    for outbox in list(_outboxes):
        outbox.abandon()
