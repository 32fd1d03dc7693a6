"""What is being read, sorted by trace, with what tells whose it is.

Kept in memory are ids, times and places; what is at the places is in the store.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field

from spanrelay.conversion.store import Store
from spanrelay.otlp_in import agents
from spanrelay.otlp_in.telemetry import LogRecord, Origin, Span, Telemetry, TranscriptLine
from spanrelay.semconv.fields import service_of, session_of

_NEVER = 1 << 63
TRANSCRIPT = "transcript "
"""How the keys of transcripts begin."""


@dataclass(slots=True)
class Gathered:
    """A trace, or what belongs together without one: where its items are, when it was, and whose it is.

    `sessions` are those that its items name, each behind the service whose item it was, `agent` the coding agent that
    recorded it, if one did. `nested` says whether any span has a parent, `scopes` counts its items by who recorded
    each, and `count` is how many they are.
    """

    key: str
    is_trace: bool
    service: str
    places: array[int] = field(default_factory=lambda: array("Q"))
    start: int = _NEVER
    end: int = 0
    sessions: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    agent: str | None = None
    nested: bool = False
    scopes: Counter[str] = field(default_factory=Counter[str])
    count: int = 0

    @property
    def names(self) -> set[str]:
        """The sessions, whichever service names them."""
        return {name for _, name in self.sessions}


class Gathering:
    """Takes in telemetry, in any order, and appends it to the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._traces: dict[str, Gathered] = {}
        self._known: tuple[Origin | None, str | None, str] = (None, None, "")
        """Who recorded last, which coding agent that is, and which service."""

    def add(self, item: Telemetry) -> None:
        """Take in a span, a log record or a line of a transcript."""
        if isinstance(item, TranscriptLine):
            self._add_line(item)
            return
        session = session_of(item.attributes)
        agent, service = self._maker_of(item.origin)
        trace = self._trace_of(item, session, service)
        time = item.start if isinstance(item, Span) else item.time
        trace.start = min(trace.start, time)
        trace.end = max(trace.end, item.end if isinstance(item, Span) else time)
        if session is not None:
            trace.sessions.add((service, session))
        trace.agent = trace.agent or agent
        if isinstance(item, Span) and item.parent_id is not None:
            trace.nested = True
        trace.scopes[item.origin.scope or "no scope"] += 1
        trace.count += 1
        trace.places.append(self._store.add(item))

    def _add_line(self, line: TranscriptLine) -> None:
        """Take in a line of a transcript: those of one file belong together, and with the sessions that they name."""
        key = f"{TRANSCRIPT}{line.file}"
        trace = self._traces.get(key)
        if trace is None:
            trace = self._traces[key] = Gathered(key, False, key, agent=line.agent)
        if line.time:
            trace.start, trace.end = min(trace.start, line.time), max(trace.end, line.time)
        trace.sessions.update(("", session) for session in line.sessions)
        trace.scopes[f"transcripts of {line.agent}"] += 1
        trace.count += 1
        trace.places.append(self._store.add(line))

    def _maker_of(self, origin: Origin) -> tuple[str | None, str]:
        if self._known[0] is not origin:
            self._known = origin, agents.agent_of(origin), service_of(origin.resource)
        return self._known[1:]

    def _trace_of(self, item: Span | LogRecord, session: str | None, service: str) -> Gathered:
        if item.trace_id:
            key = f"{item.trace_id:032x}"
        else:
            key = f"logs of {service if session is None else (service, session)}"
        trace = self._traces.get(key)
        if trace is None:
            trace = self._traces[key] = Gathered(key, bool(item.trace_id), service)
        return trace

    def hand_over(self) -> list[Gathered]:
        """Return what has been taken in since the last time, which can be read from the store now."""
        self._store.flush()
        taken, self._traces = self._traces, {}
        return list(taken.values())
