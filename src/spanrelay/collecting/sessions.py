"""Gathers what was accepted, and writes the documents of each session once it has fallen silent.

The work is that of `spanrelay convert`, so that the documents are the same bytes. What comes later opens a session
again, whose documents are then written anew, as if all of it had come in time.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Protocol

from spanrelay._guard import losses
from spanrelay._voice import say
from spanrelay.collecting.delivery.outlet import Outlet
from spanrelay.collecting.intake import Request
from spanrelay.conversion.crew import Worker
from spanrelay.conversion.documents import Folder
from spanrelay.conversion.grouping import Group, Groups
from spanrelay.conversion.ledger import NAME, Ledger
from spanrelay.otlp_in.files import Finding, Piece

_PATIENCE = 0.1
"""Of the time that a session has gone on: the silence it may make, so that a long one is not written at each pause."""
_LETTING_GO = 100
"""Times that it is looked, in as long as is kept, for what need not be kept."""
_TOLD = 100
"""Findings that are told at once, each kind once; the rest are counted."""


class Kept(Protocol):
    """What requests are kept in until nothing that may come needs them: files with numbers, or the like."""

    def numbers(self) -> list[int]:
        """Return the numbers that are there, in order; the last is being written."""
        ...

    def remove(self, number: int) -> None:
        """Remove what has a number."""

    def set_aside(self, request: Request, fault: str) -> bool:
        """Keep a request elsewhere that could not be read, or not all of it; return whether that was done."""
        ...

    def forget(self, traces: Mapping[str, int]) -> None:
        """Note traces that are not wanted any more, by their keys: each with the last number that it is in."""

    def forgotten(self) -> dict[str, int]:
        """Return what was noted."""
        ...


@dataclass(slots=True)
class _Life:
    """When a trace began to arrive and when it last did, in seconds of a clock; and the files that it is in."""

    first: float
    last: float
    files: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Wrote:
    """The documents of a group, the keys of the traces that were in it, and what its sessions were called."""

    keys: tuple[str, ...]
    names: tuple[str, ...]
    called: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(slots=True)
class Counts:
    """What has come and what became of it, since the start; `behind` says how many records are to be read, of Kafka."""

    requests: int = 0
    spans: int = 0
    logs: int = 0
    documents: int = 0
    findings: int = 0
    open_sessions: int = 0
    behind: int | None = None

    def add(self, other: Counts) -> None:
        """Count what others have counted, but for what is behind."""
        self.requests += other.requests
        self.spans += other.spans
        self.logs += other.logs
        self.documents += other.documents
        self.findings += other.findings
        self.open_sessions += other.open_sessions


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What is agreed on sessions.

    Attributes:
        silence: Seconds without anything new after which a session is written.
        keep: Seconds for which what was accepted is kept, so that what comes late is still put where it belongs.
        form: The version of ATIF.
        across_services: Whether a session is one whichever service names it.
    """

    silence: float = 10.0
    keep: float = 24 * 3600.0
    form: str = "1.7"
    across_services: bool = False


class Sessions:
    """What is known of every session. Used from one thread.

    Args:
        folder: Where documents go.
        kept: Where requests are kept.
        scratch: Where telemetry waits to be assembled; nothing of it is needed after a kill.
        terms: What is agreed on.
        ledger: The file in the folder that says whose its documents are.
        outlet: Hears of what is written and removed, and delivers it elsewhere.
        clock: Tells seconds, and never goes back.
    """

    def __init__(
        self,
        folder: Folder,
        kept: Kept,
        scratch: Path,
        terms: Terms,
        *,
        ledger: str = NAME,
        outlet: Outlet | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts = Counts()
        self._folder, self._kept, self._scratch = folder, kept, scratch
        self._terms, self._clock = terms, clock
        self._outlet = outlet or Outlet(())
        folder.announce_medium = partial(self._outlet.begin, is_medium=True)
        self._reader: Worker | None = None
        """Keeps the telemetry of one file of requests in scratch, under its number: they come one after the other."""
        self._reading = 0
        self._writer = self._new_worker(0)
        self._groups = Groups(across_services=terms.across_services)
        self._lives: dict[str, _Life] = {}
        """By the keys of traces; that to which something has come last is the last."""
        self._changed: set[str] = set()
        self._open: set[int] = set()
        """The groups that are not written as they are, by their numbers."""
        self._waiting: list[tuple[float, int]] = []
        """When each of them will have been silent for long enough, in a heap."""
        self._next_letting_go = 0.0
        self._wrote: dict[str, _Wrote] = {}
        """By the keys of traces, what was written of the group that each was in."""
        self._owners: dict[str, _Wrote] = {}
        """By the names of documents, what they were written with last."""
        self._left_alone: set[str] = set()
        """Documents of sessions that were let go of, without suffix, which what comes later does not replace."""
        self._forgotten = kept.forgotten()
        self._ledger = Ledger(folder.path, terms.form, ledger)
        self._unread: set[int] = set()
        """Files of requests that could not be gathered."""
        self._told: set[str] = set()

    def resume(self) -> None:
        """Know the documents of earlier runs, once what was kept before has been gathered again."""
        for name, key in self._ledger.documents().items():
            if key in self._lives:
                wrote = self._wrote.get(key, _Wrote((), ()))
                self._wrote[key] = self._owners[name] = _Wrote((), (*wrote.names, name))
                self._owners |= dict.fromkeys(wrote.names, self._wrote[key])
            else:
                self._left_alone.add(Path(name).stem)

    def close(self) -> None:
        """Let go of what is open."""
        self._ledger.close()
        self._groups.close()
        for worker in filter(None, (self._writer, self._reader)):
            worker.close()

    def _new_worker(self, number: int) -> Worker:
        return Worker(self._scratch, number, self._folder, self._terms.form)

    def gather(self, requests: list[Request]) -> None:
        """Take in requests that are kept, each of which the same file has."""
        try:
            self._read(requests)
        except Exception as error:
            if len(requests) > 1:  # what can be read is
                for request in requests:
                    self.gather([request])
            elif self._kept.set_aside(requests[0], repr(error)):
                self._tell([Finding(_place_of(requests[0]), f"cannot be read ({error!r}): it is set aside")])
            else:
                self._unread.add(requests[0].file)  # which is not let go of
                fault = f"cannot be gathered now ({error!r}): it is kept, and read again at the next start"
                self._tell([Finding(_place_of(requests[0]), fault)])

    def _read(self, requests: list[Request]) -> None:
        file = requests[0].file
        if self._reader is None or file > self._reading:
            if self._reader is not None:
                self._reader.close()
            self._reader, self._reading = self._new_worker(file), file
        read = self._reader.read([Piece(_place_of(each), each.data, each.is_json) for each in requests])
        self.counts.requests += len(requests)
        self.counts.spans += read.spans
        self.counts.logs += read.logs
        self._tell(read.findings)
        named = {_place_of(each): each for each in requests}
        for finding in read.findings:
            self._kept.set_aside(named[finding.place], finding.fault)
        gathered = [trace for trace in read.gathered if file > self._forgotten.get(trace.key, 0)]
        self._groups.add(gathered)
        now = self._clock()
        for trace in gathered:
            life = self._touch(trace.key, now)
            if file not in life.files:
                life.files = (*life.files, file)
            self._changed.add(trace.key)

    def _touch(self, key: str, now: float) -> _Life:
        life = self._lives[key] = self._lives.pop(key, None) or _Life(now, now)
        life.last = now
        return life

    def write_due(self, *, everything: bool = False) -> bool:
        """Write the documents of sessions that have changed and fallen silent, and let go of what is old.

        Returns whether any was due.
        """
        now, due = self._clock(), deque[int]()
        self._look(now)
        while self._waiting and (everything or self._waiting[0][0] <= now):
            _, number = heapq.heappop(self._waiting)
            if number in self._open:
                due.append(number)
        any_due = bool(due)
        try:
            while due:
                group = self._groups.group(due[0])
                if self._write(group, keys := [trace.key for trace in group.traces], now):
                    self._open.discard(due[0])
                else:
                    self._wait(due[0], self._silent_at(keys))
                due.popleft()
        finally:
            for number in due:  # which a failure kept from being written, and nothing may come that has it looked at
                self._wait(number, now)
        self.counts.open_sessions = len(self._open)
        self._let_go(now)
        return any_due

    def _look(self, now: float) -> None:
        """Have groups wait for silence to which something has come since the last look, or that are others now."""
        gone, made = self._groups.renew()
        self._open -= gone
        unseen = deque(made)
        try:
            for number, group in self._groups.groups_of(made):
                keys = [trace.key for trace in group.traces]
                if not (self._changed.isdisjoint(keys) and self._is_as_written(group, keys)):
                    self._wait(number, self._silent_at(keys))
                unseen.popleft()
        finally:
            for number in unseen:
                self._wait(number, now)

    def _wait(self, number: int, until: float) -> None:
        self._open.add(number)
        heapq.heappush(self._waiting, (until, number))

    def _silent_at(self, keys: list[str]) -> float:
        """Return when traces will have been silent for long enough, if nothing more comes."""
        first = min(self._lives[key].first for key in keys)
        last = max(self._lives[key].last for key in keys)
        return last + max(self._terms.silence, _PATIENCE * (last - first))

    def _is_as_written(self, group: Group, keys: list[str]) -> bool:
        """Whether a group has the traces that it had: what comes to another session may show where a trace belongs."""
        wrote = self._wrote.get(keys[0])
        return wrote is not None and wrote.keys == tuple(keys) and wrote.called == group.called

    def _write(self, group: Group, keys: list[str], now: float) -> bool:
        """Write a group and return whether it is written; one that is not is tried again once it is silent again."""
        written = self._ledger.find(group)  # before a kill, and nothing has come since
        if written is None:
            self._folder.announce = partial(self._announce, group)
            try:
                written = self._writer.write(self._groups.fill(group), self._left_alone)
                self._ledger.note(group, written)
            except Exception as error:
                self._tell([Finding(group.name, f"cannot be written: {error!r}")])
                written = None
            else:
                self.counts.documents += written.documents
                self._tell([Finding(group.name, fault) for fault in written.faults])
            finally:
                self._outlet.settle()
        if written is None or written.unwritten:
            for key in keys:
                self._touch(key, now)
            self._changed.update(keys)
            return False
        self._changed.difference_update(keys)
        self._replace(_Wrote(tuple(keys), tuple(written.names), group.called))
        return True

    def _announce(self, group: Group, name: str) -> None:
        self._outlet.begin(name)
        self._ledger.announce(group, name)

    def _replace(self, wrote: _Wrote) -> None:
        """Remember what was written, and remove what its traces were in before and nobody has written since."""
        before = [self._wrote[key] for key in wrote.keys if key in self._wrote]
        self._wrote |= dict.fromkeys(wrote.keys, wrote)
        self._owners |= dict.fromkeys(wrote.names, wrote)
        for old in before:
            for name in old.names:
                if self._owners.get(name) is old:
                    del self._owners[name]
                    self._remove(name)

    def _remove(self, name: str) -> None:
        try:
            self._outlet.begin(name, removed=True)
            (self._folder.path / name).unlink(missing_ok=True)
        finally:
            self._outlet.settle()

    def _tell(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self.counts.findings += 1
            losses.add("findings in what was collected")
            if finding.fault not in self._told and len(self._told) < _TOLD:
                self._told.add(finding.fault)
                say(str(finding))

    def _let_go(self, now: float) -> None:
        """Forget sessions to which nothing has come for as long as is kept, and the files that have nothing else."""
        if now < self._next_letting_go:
            return
        self._next_letting_go = now + self._terms.keep / _LETTING_GO
        numbers = self._kept.numbers()
        forgotten: dict[str, int] = {}
        for number in self._oldest(now):
            group = self._groups.group(number)
            keys = [trace.key for trace in group.traces]
            if self._changed.isdisjoint(keys) and self._is_old(keys, now, numbers[-1]):
                self._groups.forget(keys)
                for key in keys:
                    forgotten[key] = max(self._lives.pop(key).files)
                    wrote = self._wrote.pop(key, None)
                    for name in () if wrote is None else wrote.names:
                        if self._owners.get(name) is wrote:
                            del self._owners[name]
                            self._left_alone.add(Path(name).stem)
        if not forgotten:
            return
        self._kept.forget(forgotten)  # before any file goes: a part of a session is not read again
        needed = self._unread.union(*(life.files for life in self._lives.values()))
        for number in numbers[:-1]:  # the last is being written
            if number not in needed:
                self._kept.remove(number)
                if (scratch := self._scratch / str(number)).exists():
                    scratch.unlink()
                    self._writer.close()  # it may hold that file open, whose room is free only then
                    self._writer = self._new_worker(0)

    def _oldest(self, now: float) -> set[int]:
        """Return the groups of traces to which nothing has come for as long as is kept, by their numbers."""
        old = takewhile(lambda each: now - each[1].last > self._terms.keep, self._lives.items())
        return {self._groups.number_of(key) for key, _ in old}

    def _is_old(self, keys: list[str], now: float, writing: int) -> bool:
        """Whether nothing has come to a group for as long as is kept, and nothing of it is where more may come."""
        lives = [self._lives[key] for key in keys]
        return all(now - life.last > self._terms.keep and writing not in life.files for life in lives)


def _place_of(request: Request) -> str:
    return request.name or "a request"
