"""Sends what waits for one target, from several threads, again and again until it is taken or refused for good.

Who puts something in never waits for the target: the lock is not held while anything is sent.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from spanrelay._guard import losses
from spanrelay._voice import say
from spanrelay.collecting.delivery.journal import Journal
from spanrelay.collecting.delivery.letters import Letters
from spanrelay.collecting.delivery.targets import Parcel, Target
from spanrelay.exporters.outbox import Answer, Outcome, Pace

PACE = Pace(longest=60.0, longest_asked=3600.0)
"""Seconds from half a second to a minute between attempts, and what a target may ask for at most."""
MOST = 250_000
"""Names, of some 350 bytes each, that wait for one target at most; beyond that the oldest become dead letters."""
GRACE_S = 5.0
"""Seconds that an end waits for a target that takes what it is given."""
_AT_ONCE = 8
_TOLD = 20
_FAILING = "failing"


@dataclass(frozen=True, eq=False)
class Bag:
    """What of one journal is to be delivered to one target."""

    folder: Path
    journal: Journal
    letters: Letters

    def parcel(self, name: str, state: int) -> Parcel | None:
        """Read what is to be sent; None where it is not there any more, and nobody has said that it was removed."""
        try:
            with (self.folder / name).open("rb") as file:
                return Parcel(name, file.read(), os.fstat(file.fileno()).st_mtime_ns)
        except FileNotFoundError:
            if state > 1:
                return Parcel(name, None, state)
        return self.letters.find(name)


@dataclass(slots=True, eq=False)
class _Item:
    bag: Bag
    name: str
    state: int
    failures: int = 0
    due: float = 0.0
    is_current: bool = True
    """Whether it has not been written again since it was taken."""

    @property
    def key(self) -> tuple[Bag, str]:
        return self.bag, self.name


@dataclass(slots=True)
class Figures:
    """What became of what was to be delivered, since the start; `why` it waits, where it has to."""

    delivered: int = 0
    retried: int = 0
    dead: int = 0
    waiting: int = 0
    why: str = ""


@dataclass(slots=True)
class _Health:
    failures: int = 0
    until: float = 0.0
    told: set[str] = field(default_factory=set[str])


class Courier:
    """The threads that send to one target.

    Args:
        target: Takes what is sent.
        pace: Pauses between attempts; those that a target asks for count as well.
        most: Names that may wait.
        clock: Monotonic seconds.
    """

    def __init__(
        self, target: Target, pace: Pace = PACE, most: int = MOST, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.target = target
        self._pace, self._most, self._clock = pace, most, clock
        self._figures, self._health = Figures(), _Health()
        self._changed = threading.Condition(threading.RLock())
        self._items: dict[tuple[Bag, str], _Item] = {}
        self._flying: dict[tuple[Bag, str], _Item] = {}
        self._closes_at: float | None = None
        name = f"spanrelay delivery to {target.name}"
        self._threads = [threading.Thread(target=self._work, name=name, daemon=True) for _ in range(_AT_ONCE)]
        for thread in self._threads:
            thread.start()

    @property
    def figures(self) -> Figures:
        """What became of what was to be delivered."""
        with self._changed:
            self._figures.waiting = len(self._items) + len(self._flying)
            return self._figures

    def add(self, bag: Bag, name: str, state: int) -> None:
        """Send what is in the folder now, in place of what has been taken before and not delivered."""
        with self._changed:
            self.withdraw(bag, name)
            self._items[bag, name] = _Item(bag, name, state)
            if len(self._items) > self._most:
                oldest = self._items.pop(next(iter(self._items)))
                parcel = oldest.bag.parcel(oldest.name, oldest.state)
                reason = f"more than {self._most} documents waited for {self.target.name}"
                self._settle(oldest, parcel, Answer(Outcome.REFUSED, reason))
            self._changed.notify()

    def withdraw(self, bag: Bag, name: str) -> None:
        """Leave alone what is about to be written; what is on its way already does not count as delivered."""
        with self._changed:
            self._items.pop((bag, name), None)
            if (flying := self._flying.get((bag, name))) is not None:
                flying.is_current = False

    def drop(self, bag: Bag) -> None:
        """Leave to others what of a journal waits, and wait a moment for what is on its way."""
        with self._changed:
            for key in [key for key in self._items if key[0] is bag]:
                del self._items[key]
            self._changed.wait_for(lambda: not any(key[0] is bag for key in self._flying), GRACE_S)

    def close(self) -> int:
        """Send what waits, unless that takes long or fails, and end; return how much waits still."""
        with self._changed:
            self._closes_at = self._clock() + GRACE_S
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, self._closes_at - self._clock()))
        return self.figures.waiting

    def _work(self) -> None:
        while (item := self._next()) is not None:
            parcel, answer = self._sent(item)
            with self._changed:
                del self._flying[item.key]
                if answer.outcome is not Outcome.RETRY:
                    self._recover()
                if item.is_current:
                    self._settle(item, parcel, answer)
                self._changed.notify_all()

    def _next(self) -> _Item | None:
        """Wait for what is due, and take it; None ends the thread."""
        with self._changed:
            while True:
                if self._closes_at is not None and self._has_to_end(self._closes_at):
                    return None
                if (item := self._due()) is not None:
                    del self._items[item.key]
                    self._flying[item.key] = item
                    return item
                self._changed.wait(self._pause())

    def _has_to_end(self, at: float) -> bool:
        return not self._items or self._health.failures > 0 or self._clock() >= at

    def _due(self) -> _Item | None:
        """Return what is to be sent now; of a target that fails, one is tried at a time."""
        now = self._clock()
        if self._health.failures and (self._flying or now < self._health.until):
            return None
        return next((each for key, each in self._items.items() if each.due <= now and key not in self._flying), None)

    def _pause(self) -> float | None:
        """Return the seconds until something is due; None where that takes something else to happen first."""
        if not self._items or (self._health.failures and self._flying):
            return None
        if (left := self._health.until - self._clock()) > 0:
            return left  # and whatever is due then, so that who puts something in waits for no look through all of it
        soonest = min((each.due for key, each in self._items.items() if key not in self._flying), default=None)
        return None if soonest is None else max(0.0, soonest - self._clock())

    def _sent(self, item: _Item) -> tuple[Parcel | None, Answer]:
        try:
            if (parcel := item.bag.parcel(item.name, item.state)) is None:
                return None, Answer(Outcome.DELIVERED)
            return parcel, self.target.send(parcel)
        except Exception as error:
            return None, Answer(Outcome.RETRY, f"{item.name} cannot be sent: {error!r}")

    def _settle(self, item: _Item, parcel: Parcel | None, answer: Answer) -> None:
        try:
            if answer.outcome is Outcome.RETRY:
                self._failed(item, answer)
                return
            if answer.outcome is Outcome.DELIVERED:
                item.bag.letters.remove(item.name)
            elif parcel is not None:
                item.bag.letters.add(parcel, self.target.name, answer.reason)
            item.bag.journal.done(item.name)
        except OSError as error:  # a disk that is full, as a rule
            self._failed(item, Answer(Outcome.RETRY, f"what became of {item.name} cannot be written down: {error}"))
            return
        self._count(answer, parcel)

    def _count(self, answer: Answer, parcel: Parcel | None) -> None:
        if answer.outcome is Outcome.REFUSED:
            self._figures.dead += 1
            losses.add("trajectories refused where they were delivered to")
            self._say(f"a document is refused, and kept as a dead letter: {answer.reason}")
            return
        self._figures.delivered += parcel is not None

    def _recover(self) -> None:
        if self._health.failures:
            self._health.failures, self._health.until, self._figures.why = 0, 0.0, ""
            self._health.told.discard(_FAILING)
            say(f"{self.target.name} answers again")

    def _failed(self, item: _Item, answer: Answer) -> None:
        now = self._clock()
        item.failures += 1
        item.due = now + self._pace.pause(item.failures, answer.retry_after)
        self._items.setdefault(item.key, item)
        self._figures.retried += 1
        self._figures.why = answer.reason
        if now >= self._health.until:  # else another of the same moment has been counted
            self._health.failures += 1
            self._health.until = now + self._pace.pause(self._health.failures, answer.retry_after)
        self._say(f"{self.target.name} is not taking documents, which wait on disk: {answer.reason}", once=_FAILING)

    def _say(self, text: str, once: str = "") -> None:
        told = self._health.told
        if (once or text) not in told and len(told) < _TOLD:
            told.add(once or text)
            say(text)
