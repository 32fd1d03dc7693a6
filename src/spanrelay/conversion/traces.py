"""The records of a trace: its log records joined to its spans, each read in its dialect, and all of them made whole."""

from __future__ import annotations

import heapq
import marshal
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

from spanrelay.assembly import replay
from spanrelay.conversion.grouping import Group
from spanrelay.conversion.store import Reader
from spanrelay.otlp_in import agents, logs, trajectories
from spanrelay.otlp_in.records import record_of
from spanrelay.otlp_in.repairs import Repairs
from spanrelay.otlp_in.telemetry import LogRecord, Span, Telemetry, TranscriptLine
from spanrelay.records import SpanRecord

Pair: TypeAlias = tuple[Span | None, SpanRecord]
"""A record, and the span that it was read from, if it was one."""
_Waiting: TypeAlias = tuple[replay.Moment, int, Iterator[replay.Moment]]
"""What happens next in a trace, which trace it is, and what happens then."""


def events_of(
    group: Group, store: Reader, finish: Callable[[SpanRecord], SpanRecord] | None = None
) -> Iterator[tuple[bool, SpanRecord]]:
    """Yield the starts (False) and ends (True) of a group's spans in the order they happened, as `finish` makes them.

    Only traces that go on at the same time are held.
    """
    waiting: list[_Waiting] = []
    for number, pairs in enumerate(traces_of(group, store)):
        records = [record if finish is None else finish(record) for _, record in pairs]
        begun = min((record.start for record in records), default=0)
        while waiting and waiting[0][0][0] < begun:
            yield _next(waiting)
        moments = replay.moments(records)
        moment = next(moments, None)
        if moment is not None:
            heapq.heappush(waiting, (moment, number, moments))
    while waiting:
        yield _next(waiting)


def traces_of(group: Group, store: Reader) -> Iterator[list[Pair]]:
    """Yield the traces of a group, as their spans and the records of those; that which began first before the rest.

    What a coding agent recorded is one, and its records may have no spans.
    """
    if group.agent is not None:
        yield from _of_agents(group, store)
        return
    repairs = Repairs()
    for trace in group.traces:
        yield _whole(store.read(trace.places), trace.names, repairs)


def _next(waiting: list[_Waiting]) -> tuple[bool, SpanRecord]:
    moment, number, moments = waiting[0]
    following = next(moments, None)
    if following is None:
        heapq.heappop(waiting)
    else:
        heapq.heapreplace(waiting, (following, number, moments))
    return replay.is_end(moment), moment[-1]


def _of_agents(group: Group, store: Reader) -> list[list[Pair]]:
    """Return what coding agents left, and the traces of others around it, that which began first before the rest."""
    left: dict[str, list[Telemetry]] = {}
    recorded = {name for trace in group.traces if trace.agent != trajectories.NAME for name in trace.names}
    found: list[list[Pair]] = []
    repairs = Repairs()
    for trace in group.traces:
        around: list[Telemetry] = []
        for item in store.read(trace.places):
            maker = item.agent if isinstance(item, TranscriptLine) else agents.agent_of(item.origin)
            if maker == trajectories.NAME and isinstance(item, TranscriptLine) and item.sessions[0] in recorded:
                continue  # what it was made of is here itself
            (left.setdefault(maker, []) if maker is not None else around).append(item)
        found.append(_whole(around, trace.names, repairs))
    for maker, items in left.items():
        lines = [item for item in items if isinstance(item, TranscriptLine)]
        found.append([(None, record) for record in agents.records_of(maker, *parted(items), lines)])
    return sorted(filter(None, found), key=lambda pairs: min((r.start, r.trace_id, r.span_id) for _, r in pairs))


def _whole(items: Iterable[Telemetry], sessions: set[str], repairs: Repairs) -> list[Pair]:
    spans, told = parted(items)
    logs.join(spans, told)
    records = [record_of(span) for span in spans]
    names = {str(record.session_id) for record in records if record.session_id} | sessions
    if len(names) == 1:  # a span far below, or beside, may be the only one that names it
        for record in records:
            record.session_id = record.session_id or next(iter(names))
    repairs.mend(spans, records)
    return list(zip(spans, records, strict=True))


def parted(items: Iterable[Telemetry]) -> tuple[list[Span], list[LogRecord]]:
    """Return the spans and the log records, in an order that does not depend on that of their arrival.

    None stands twice, of spans by their ids and of log records by their uid; those that have none may be said twice.
    """
    spans: dict[tuple[int, int], Span] = {}
    told: list[LogRecord] = []
    heard: set[tuple[str, int]] = set()
    for item in items:
        if isinstance(item, LogRecord):
            if item.uid is not None:
                key = (item.uid, item.time)  # a uid that stands at every record, by mistake, loses none of them
                if key in heard:
                    continue
                heard.add(key)
            told.append(item)
            continue
        if isinstance(item, TranscriptLine):
            continue
        key = (item.trace_id, item.span_id)
        known = spans.get(key)
        if known is None or _says_more(item, known):
            spans[key] = item
    told.sort(key=_place)
    return sorted(spans.values(), key=lambda span: (span.start, -span.end, span.span_id)), told


def _place(record: LogRecord) -> tuple[int, int, str, bytes]:
    """Return where a log record stands; the messages of one request have one time, and only their order tells more."""
    if logs.tells(record):
        return record.time, record.span_id or 0, "", b""
    return record.time, record.span_id or 0, record.name or "", _bytes(record.attributes)


def _says_more(one: Span, other: Span) -> bool:
    mine, theirs = (one.end, len(one.attributes)), (other.end, len(other.attributes))
    return mine > theirs or (mine == theirs and _bytes(one.attributes) > _bytes(other.attributes))


def _bytes(value: dict[str, Any]) -> bytes:
    return marshal.dumps(value, 2)
