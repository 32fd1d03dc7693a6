"""What has been read, sorted by trace and by session, so that each session is assembled by itself.

Kept in memory are ids, times and places; what is at the places is in the store.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from spanrelay.conversion.store import Store
from spanrelay.otlp_in import agents
from spanrelay.otlp_in.telemetry import LogRecord, Origin, Span, Telemetry, TranscriptLine
from spanrelay.semconv.fields import session_of

_NEVER = 1 << 63
_TRANSCRIPT = "transcript "


@dataclass(slots=True)
class Gathered:
    """A trace, or log records without one: where its items are, when it was, and whose it is.

    `sessions` are those that its items name, `agent` the coding agent that recorded it, if one did. `nested` says
    whether any span has a parent, and `scopes` counts its items by who recorded each.
    """

    key: str
    trace_id: int | None
    service: str
    places: array[int] = field(default_factory=lambda: array("Q"))
    start: int = _NEVER
    end: int = 0
    sessions: set[str] = field(default_factory=set[str])
    agent: str | None = None
    nested: bool = False
    scopes: Counter[str] = field(default_factory=Counter[str])


@dataclass(slots=True)
class Group:
    """Traces that are assembled together: those of one session, or those of a service that name none.

    `session` is the one session that any of them names, if there is one.
    """

    traces: list[Gathered]
    session: str | None
    agent: str | None

    @property
    def key(self) -> str:
        """What names the group, the same whenever the same is read."""
        return self.traces[0].key

    @property
    def name(self) -> str:
        """What a file of it is called."""
        return self.session or self.key.removeprefix(_TRANSCRIPT)


class Gathering:
    """Takes in telemetry, in any order, and appends it to the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._traces: dict[str, Gathered] = {}
        self._known: tuple[Origin | None, str | None] = (None, None)
        """Who recorded last, and which coding agent that is."""

    def add(self, item: Telemetry) -> None:
        """Take in a span, a log record or a line of a transcript."""
        if isinstance(item, TranscriptLine):
            self._add_line(item)
            return
        session = session_of(item.attributes)
        trace = self._trace_of(item, session)
        time = item.start if isinstance(item, Span) else item.time
        trace.start = min(trace.start, time)
        trace.end = max(trace.end, item.end if isinstance(item, Span) else time)
        if session is not None:
            trace.sessions.add(session)
        if trace.agent is None:
            trace.agent = self._agent_of(item.origin)
        if isinstance(item, Span) and item.parent_id is not None:
            trace.nested = True
        trace.scopes[item.origin.scope or "no scope"] += 1
        trace.places.append(self._store.add(item))

    def _add_line(self, line: TranscriptLine) -> None:
        """Take in a line of a transcript: those of one file belong together, and with the sessions that they name."""
        key = f"{_TRANSCRIPT}{line.file}"
        trace = self._traces.get(key)
        if trace is None:
            trace = self._traces[key] = Gathered(key, None, key, agent=line.agent)
        if line.time:
            trace.start, trace.end = min(trace.start, line.time), max(trace.end, line.time)
        trace.sessions.update(line.sessions)
        trace.scopes[f"transcripts of {line.agent}"] += 1
        trace.places.append(self._store.add(line))

    def _agent_of(self, origin: Origin) -> str | None:
        if self._known[0] is not origin:
            self._known = origin, agents.agent_of(origin)
        return self._known[1]

    def _trace_of(self, item: Span | LogRecord, session: str | None) -> Gathered:
        service = str(item.origin.resource.get("service.name") or "")
        key = f"{item.trace_id:032x}" if item.trace_id else f"logs of {session or service}"
        trace = self._traces.get(key)
        if trace is None:
            trace = self._traces[key] = Gathered(key, item.trace_id, service)
        return trace

    def hand_over(self) -> list[Gathered]:
        """Return what has been taken in since the last time, which can be read from the store now."""
        self._store.flush()
        taken, self._traces = self._traces, {}
        return list(taken.values())


class Groups:
    """What has been gathered, by whoever, put together."""

    def __init__(self) -> None:
        self._traces: dict[str, Gathered] = {}

    def add(self, gathered: Iterable[Gathered]) -> None:
        """Take in what was gathered somewhere."""
        for trace in gathered:
            known = self._traces.setdefault(trace.key, trace)
            if known is not trace:
                known.places.extend(trace.places)
                known.start, known.end = min(known.start, trace.start), max(known.end, trace.end)
                known.sessions |= trace.sessions
                known.nested = known.nested or trace.nested
                known.scopes += trace.scopes
                known.agent = known.agent or trace.agent
                known.service = min(known.service, trace.service)

    def forget(self, keys: Iterable[str]) -> None:
        """Let traces go, by their keys."""
        for key in keys:
            self._traces.pop(key, None)

    def groups(self) -> list[Group]:
        """Return what belongs together, that which began first before the rest."""
        together, aside = _Together(self._traces), _within(self._traces.values())
        for trace in self._traces.values():
            for session in sorted(trace.sessions):
                together.join(trace.key, f"session {session}")
            if not trace.sessions:
                around = aside.get(trace.key)
                together.join(trace.key, around if around is not None else f"service {trace.service}")
        groups = [_group(traces) for traces in together.sets()]
        return sorted(groups, key=lambda group: (group.traces[0].start, group.key))


def _within(traces: Iterable[Gathered]) -> dict[str, str]:
    """Return which traces lie within one of a session: another instrumentor's spans of what happens there.

    Only spans without any parent, and only where they lie within no other session's too.
    """
    found: dict[str, str] = {}
    begun: dict[str, list[Gathered]] = {}
    for trace in sorted(traces, key=lambda trace: (trace.start, -trace.end, trace.key)):
        around = begun.setdefault(trace.service, [])
        around[:] = [each for each in around if each.end >= trace.start]
        if trace.sessions:
            around.append(trace)
        elif trace.trace_id is not None and not trace.nested and trace.agent is None:
            holding = [each for each in around if each.end >= trace.end]
            if len({frozenset(each.sessions) for each in holding}) == 1:
                found[trace.key] = holding[0].key
    return found


def _group(traces: Iterable[Gathered]) -> Group:
    ordered = sorted(traces, key=lambda trace: (trace.start, trace.key))
    names = {name for trace in ordered for name in trace.sessions}
    makers = {trace.agent for trace in ordered if trace.agent is not None}
    return Group(ordered, next(iter(names)) if len(names) == 1 else None, min(makers) if makers else None)


class _Together:
    """Sets of traces, joined by what they have in common."""

    def __init__(self, traces: dict[str, Gathered]) -> None:
        self._traces = traces
        self._above: dict[str, str] = {}

    def join(self, one: str, other: str) -> None:
        self._above[self._top(one)] = self._top(other)

    def _top(self, key: str) -> str:
        above = self._above.setdefault(key, key)
        while above != key:
            self._above[key] = key_above = self._above[above]
            key, above = above, key_above
        return key

    def sets(self) -> Iterator[list[Gathered]]:
        found: dict[str, list[Gathered]] = {}
        for key, trace in self._traces.items():
            found.setdefault(self._top(key), []).append(trace)
        yield from found.values()
