"""What has been gathered, put together: which traces are assembled with each other, whoever read them.

Kept in a database that goes with the process, and in memory no more than its cache and some bytes a trace, so that how
much was read is no matter.
"""

from __future__ import annotations

import errno
import sqlite3
from array import array
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeAlias

from spanrelay.conversion.gathering import TRANSCRIPT, Gathered

_SCHEMA = """
CREATE TABLE traces (
    number INTEGER PRIMARY KEY, key BLOB UNIQUE, is_trace INTEGER, service BLOB, start INTEGER, end INTEGER,
    agent TEXT, nested INTEGER, count INTEGER, named INTEGER
);
CREATE INDEX nameless ON traces (service) WHERE NOT named;
CREATE TABLE sessions (
    trace INTEGER, session BLOB, service BLOB, PRIMARY KEY (trace, session, service)
) WITHOUT ROWID;
CREATE TABLE places (trace INTEGER, places BLOB);
CREATE INDEX places_of ON places (trace);
CREATE TABLE scopes (trace INTEGER, scope BLOB, count INTEGER, PRIMARY KEY (trace, scope)) WITHOUT ROWID;
CREATE TABLE members (trace INTEGER PRIMARY KEY, together INTEGER);
CREATE TABLE groups (number INTEGER PRIMARY KEY, size INTEGER);
CREATE TABLE loose (trace INTEGER PRIMARY KEY);
"""
_TO_CHANGE = (
    "CREATE INDEX IF NOT EXISTS traces_of_service ON traces (service)",
    "CREATE INDEX IF NOT EXISTS traces_of_session ON sessions (session)",
    "CREATE INDEX IF NOT EXISTS traces_of_group ON members (together)",
)
"""What it takes to put together a part of it; whoever puts all together once does without."""

_ADD = """
INSERT INTO traces (key, is_trace, service, start, end, agent, nested, count, named)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET
    start = min(start, excluded.start), end = max(end, excluded.end), nested = max(nested, excluded.nested),
    agent = coalesce(agent, excluded.agent), service = min(service, excluded.service), count = count + excluded.count,
    named = max(named, excluded.named)
"""
_KNOWN = "SELECT number, service, together FROM traces LEFT JOIN members ON trace = number WHERE key = ?"

_TRACES = """
SELECT together, traces.number, key, is_trace, traces.service, start, end, agent, nested, count,
    sessions.service, session
FROM members JOIN traces ON traces.number = members.trace JOIN groups ON groups.number = together
    LEFT JOIN sessions ON sessions.trace = traces.number
{which} together, start, key
"""
_NOTED = """
INSERT INTO scopes VALUES (?, ?, ?) ON CONFLICT (trace, scope) DO UPDATE SET count = count + excluded.count
"""
_NAMED = """
SELECT session, sessions.service, number, agent IS NOT NULL
FROM loose JOIN sessions ON sessions.trace = loose.trace JOIN traces ON number = loose.trace
ORDER BY session, sessions.service
"""
_FIRST = """
SELECT session, min(together), max(together) > min(together)
FROM loose JOIN sessions ON sessions.trace = loose.trace JOIN members ON members.trace = loose.trace
GROUP BY session
"""
_NAMING = """
SELECT DISTINCT together FROM members WHERE trace IN (
    SELECT trace FROM sessions WHERE session IN (SELECT session FROM sessions WHERE trace IN (SELECT trace FROM loose))
)
"""
"""The groups that name what something loose names."""
_UNSETTLED = """
SELECT DISTINCT service FROM loose JOIN traces ON number = loose.trace
WHERE EXISTS (SELECT 1 FROM traces AS other WHERE other.service = traces.service AND NOT other.named)
"""
"""The services of what is loose of which a trace names no session: where that belongs depends on all the others."""
_OF_SERVICE = "SELECT DISTINCT together FROM members JOIN traces ON number = trace WHERE service = ?"
_HAS = "SELECT session, together FROM sessions JOIN members ON members.trace = sessions.trace WHERE members.trace = ?"
_BY_TIME = """
SELECT number, service, start, end, is_trace AND NOT nested AND agent IS NULL, named
FROM loose JOIN traces ON number = trace ORDER BY start, end DESC, key
"""


_GROUP_OF = "SELECT together FROM members WHERE trace = ?"
_NUMBER_OF = "SELECT together FROM members JOIN traces ON number = trace WHERE key = ?"

_LAST = (1 << 63) - 1
"""The latest time that a database tells apart, in nanoseconds: of the year 2262."""

_Execute: TypeAlias = Callable[[str, tuple[Any, ...]], sqlite3.Cursor]
_Row: TypeAlias = tuple[int, int, bytes, int, bytes, int, int, str | None, int, int, bytes | None, bytes | None]


@dataclass(slots=True)
class Group:
    """Traces that are assembled together: those of one session, or those of a service that name none.

    `session` is the one session that any of them names, if there is one. `called` says what files are called of those
    sessions whose name a group that began before has as well: that of another service.
    """

    traces: list[Gathered]
    session: str | None
    agent: str | None
    called: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def key(self) -> str:
        """What names the group, the same whenever the same is read."""
        return self.traces[0].key

    @property
    def name(self) -> str:
        """What a file of it is called."""
        name = self.session or self.key.removeprefix(TRANSCRIPT)
        return self.called.get(name, name)


class Groups:
    """What has been gathered, by whoever, put together. Used from one thread at a time.

    Args:
        across_services: Whether a session is one whichever service names it. Else those of two services are two, unless
            a trace has spans of both that name it, or a coding agent names it: its ids are its own everywhere.

    Raises:
        OSError: there is no room for it, from any method.
    """

    def __init__(self, *, across_services: bool = False) -> None:
        # Without a name it is a file that only this connection has, and none at all while the cache holds it.
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.executescript(_SCHEMA)
        self._number = self._last = 0
        self._changed: set[int] = set()
        """Groups of which a trace has changed since they were put together."""
        self._left: set[bytes] = set()
        """Services that a trace was of before another of its spans came."""
        self._across_services = across_services
        self._first: dict[bytes, int] = {}
        """The group that has the name of a session which more than one has; 0 is one that was let go of."""

    def __len__(self) -> int:
        """Return how many groups there were when they were put together last."""
        return self._number

    def close(self) -> None:
        """Let what was gathered go."""
        self._database.close()

    @contextmanager
    def _change(self) -> Generator[_Execute]:
        """Change all or nothing."""
        try:
            self._database.execute("BEGIN")
            with self._database:
                yield self._database.execute
        except sqlite3.OperationalError as error:
            raise OSError(errno.ENOSPC, str(error)) from error

    def add(self, gathered: Iterable[Gathered]) -> None:
        """Take in what was gathered somewhere."""
        with self._change() as execute:
            for trace in gathered:
                key, service = _blob(trace.key), _blob(trace.service)
                start, end, named = min(trace.start, _LAST), min(trace.end, _LAST), bool(trace.sessions)
                known = execute(_KNOWN, (key,)).fetchone()
                values = (key, trace.is_trace, service, start, end, trace.agent, trace.nested, trace.count, named)
                number = execute(_ADD, values).lastrowid
                if known is not None:
                    number, before, together = known
                    if before > service:
                        self._left.add(before)
                    if together is not None:
                        self._changed.add(together)
                execute("INSERT OR IGNORE INTO loose VALUES (?)", (number,))
                if trace.places:
                    execute("INSERT INTO places VALUES (?, ?)", (number, trace.places.tobytes()))
                for by, session in trace.sessions:
                    execute("INSERT OR IGNORE INTO sessions VALUES (?, ?, ?)", (number, _blob(session), _blob(by)))
                for scope, count in trace.scopes.items():
                    execute(_NOTED, (number, _blob(scope), count))

    def forget(self, keys: Iterable[str]) -> None:
        """Let traces go, by their keys: all of a group."""
        with self._change() as execute:
            for key in map(_blob, keys):
                for (number,) in execute("SELECT number FROM traces WHERE key = ?", (key,)).fetchall():
                    for session, group in execute(_HAS, (number,)):
                        if self._first.get(session) == group:
                            self._first[session] = 0
                    self._changed.update(each for (each,) in execute(_GROUP_OF, (number,)))
                    execute("DELETE FROM traces WHERE number = ?", (number,))
                    for table in ("sessions", "places", "scopes", "members", "loose"):
                        execute(f"DELETE FROM {table} WHERE trace = ?", (number,))

    def clear(self) -> None:
        """Let all traces go."""
        self._first, self._changed, self._left, self._number = {}, set(), set(), 0
        with self._change() as execute:
            for table in ("traces", "sessions", "places", "scopes", "members", "groups", "loose"):
                execute(f"DELETE FROM {table}", ())

    def groups(self, *, largest_first: bool = False) -> Iterator[Group]:
        """Put together what there is, and yield it: that which began first before the rest, of what was added at once.

        Where the items of a group are, `fill` tells.
        """
        self.renew()
        return self._groups("ORDER BY size DESC," if largest_first else "ORDER BY")

    def group(self, number: int) -> Group:
        """Return the group of a number that `renew` has returned."""
        return next(self._groups("WHERE together = ? ORDER BY", number))

    def groups_of(self, numbers: range) -> Iterator[tuple[int, Group]]:
        """Yield the groups that `renew` has made, each behind its number, in their order."""
        return zip(numbers, self._groups("WHERE together >= ? ORDER BY", numbers.start), strict=True)

    def number_of(self, key: str) -> int:
        """Return the number of the group that a trace was in when they were put together last."""
        ((number,),) = self._database.execute(_NUMBER_OF, (_blob(key),))
        return number

    def _groups(self, which: str, *given: int) -> Iterator[Group]:
        rows = self._database.execute(_TRACES.format(which=which), given)
        for number, traces in groupby(rows, itemgetter(0)):
            group = _group([_trace(list(named)) for _, named in groupby(traces, itemgetter(1))])
            group.called = self._called(group, number) if self._first else {}
            yield group

    def _called(self, group: Group, number: int) -> dict[str, str]:
        """Return what files are called of sessions whose name another group has."""
        services: dict[str, str] = {}
        for service, name in sorted((each for trace in group.traces for each in trace.sessions), reverse=True):
            services[name] = service
        return {
            name: f"{name} of {service}"
            for name, service in services.items()
            if self._first.get(_blob(name), number) != number
        }

    def fill(self, group: Group) -> Group:
        """Put into the traces of a group where their items are, and who recorded those; and return it."""
        execute = self._database.execute
        for trace in group.traces:
            ((number,),) = execute("SELECT number FROM traces WHERE key = ?", (_blob(trace.key),))
            for (places,) in execute("SELECT places FROM places WHERE trace = ? ORDER BY rowid", (number,)):
                trace.places.frombytes(places)
            for scope, count in execute("SELECT scope, count FROM scopes WHERE trace = ?", (number,)):
                trace.scopes[_text(scope)] = count
        return group

    def renew(self) -> tuple[set[int], range]:
        """Put together what has changed, and what that may concern.

        Returns the numbers of groups that are no more, and of those that there are instead, in the order in which they
        began; all others are as they were.
        """
        last = self._last
        with self._change() as execute:
            gone = self._loosen(execute) if self._number or self._changed else set[int]()
            self._join(execute)
            execute("DELETE FROM loose", ())
        self._changed, self._left = set(), set()
        return gone, range(last + 1, self._last + 1)

    def _loosen(self, execute: _Execute) -> set[int]:
        """Take apart every group that has changed, or that a trace may belong to now; return which."""
        for index in _TO_CHANGE:
            execute(index, ())
        gone, services, found = set[int](), set[bytes](), set(self._changed)
        while True:
            for number in found:
                execute("INSERT OR IGNORE INTO loose SELECT trace FROM members WHERE together = ?", (number,))
                execute("DELETE FROM groups WHERE number = ?", (number,))
            gone |= found
            self._number -= len(found)
            found = {number for (number,) in execute(_NAMING, ())}
            unsettled = {service for (service,) in execute(_UNSETTLED, ())} | self._left
            for service in unsettled - services:
                found.update(number for (number,) in execute(_OF_SERVICE, (service,)))
            services |= unsettled
            found -= gone
            if not found:
                return gone

    def _join(self, execute: _Execute) -> None:
        """Write down which of what is loose is in which group, numbered on."""
        ((least, most),) = execute("SELECT coalesce(min(trace), 0), coalesce(max(trace), 0) FROM loose", ())
        together = self._together(execute, least, most)
        numbers = array("q", bytes(8 * (most - least + 1)))
        sizes, last = array("q"), self._last
        for number, count in execute(
            "SELECT number, count FROM loose JOIN traces ON number = trace ORDER BY start, key", ()
        ):
            top = together.top(number) - least
            if not numbers[top]:
                sizes.append(0)
                numbers[top] = last + len(sizes)
            sizes[numbers[top] - last - 1] += count
            execute("INSERT OR REPLACE INTO members VALUES (?, ?)", (number, numbers[top]))
        self._database.executemany("INSERT INTO groups VALUES (?, ?)", enumerate(sizes, start=last + 1))
        self._last += len(sizes)
        self._number += len(sizes)
        for session, first, is_shared in execute(_FIRST, ()):
            if self._first.get(session) != 0:
                if is_shared:
                    self._first[session] = first
                else:
                    self._first.pop(session, None)

    def _together(self, execute: _Execute, least: int, most: int) -> _Together:
        """Join the traces of each session, and what names none with what it lies within, or with its service's."""
        joined = _Together(least, most)
        for _, named in groupby(execute(_NAMED, ()), itemgetter(0)):
            rows = list(named)
            is_one = self._across_services or any(of_agent for *_, of_agent in rows)
            last: tuple[bytes, int] | None = None
            for _, service, number, _ in rows:
                if last is not None and (is_one or last[0] == service):
                    joined.join(number, last[1])
                last = service, number
        services: dict[bytes, int] = {}
        for number, around, service in self._nameless(joined):
            joined.join(number, services.setdefault(service, number) if around is None else around)
        return joined

    def _nameless(self, joined: _Together) -> Iterator[tuple[int, int | None, bytes]]:
        """Yield the traces that name no session: each with one of a session that it lies within, and its service.

        Within are another instrumentor's spans of what happens there: only those without any parent, and only where
        they lie within no other session's too.
        """
        begun: dict[bytes, list[tuple[int, int]]] = {}
        for number, service, start, end, alone, named in self._database.execute(_BY_TIME):
            around = begun.setdefault(service, [])
            around[:] = [each for each in around if each[0] >= start]
            if named:
                around.append((end, number))
                continue
            holding = [each for each_end, each in around if each_end >= end] if alone else []
            yield number, holding[0] if len({joined.top(each) for each in holding}) == 1 else None, service


class _Together:
    """Sets of numbers, joined by what they have in common; each is known by one that is in it."""

    def __init__(self, least: int, most: int) -> None:
        self._least = least
        self._above = array("q", range(most - least + 1))

    def join(self, one: int, other: int) -> None:
        self._above[self.top(one) - self._least] = self.top(other) - self._least

    def top(self, number: int) -> int:
        above, at = self._above, number - self._least
        while (higher := above[at]) != at:
            above[at] = above[higher]
            at = higher
        return at + self._least


def _trace(rows: list[_Row]) -> Gathered:
    """Return a trace from its rows, one for each session that it names."""
    _, _, key, is_trace, service, start, end, agent, nested, count, *_ = rows[0]
    sessions = {(_text(by), _text(name)) for *_, by, name in rows if by is not None and name is not None}
    trace = Gathered(_text(key), bool(is_trace), _text(service), start=start, end=end, sessions=sessions, count=count)
    trace.agent, trace.nested = agent, bool(nested)
    return trace


def _group(traces: list[Gathered]) -> Group:
    names = {name for trace in traces for name in trace.names}
    makers = {trace.agent for trace in traces if trace.agent is not None}
    return Group(traces, next(iter(names)) if len(names) == 1 else None, min(makers) if makers else None)


def _blob(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # the name of a file may be no text


def _text(blob: bytes) -> str:
    return blob.decode("utf-8", "surrogatepass")
