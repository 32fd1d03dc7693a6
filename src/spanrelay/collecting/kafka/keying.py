"""Which session what is in a record belongs to, and records that hold one trace each.

A trace is known by its session once any of its spans or log records has named it. Until then its records are held:
often it is the first span that names it, which ends last. A trace whose first span is there and that has named none
some seconds later is known by its service: such traces are put together by what was said.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from spanrelay import _json
from spanrelay.otlp_in.otlp_json import attributes_of as json_attributes_of
from spanrelay.otlp_in.protobuf import attributes_of, parsed
from spanrelay.semconv import names
from spanrelay.semconv.fields import service_of, session_of

HELD_S = 5.0
"""Seconds that a trace is held which has named no session, from when its first span is there."""
LONGEST_S = 600.0
"""Seconds that one is held at most."""
_KNOWN = 100_000
"""Traces whose session is remembered."""
_SESSION_KEYS = frozenset(names.SESSION_KEYS)


class Part(NamedTuple):
    """What a record has of one trace.

    Attributes:
        data: An export request of that trace alone.
        trace: The trace's id, or nothing.
        session: The session that it names.
        service: Whose it is.
        has_first: Whether the span is in it that has no parent.
    """

    data: bytes
    trace: str
    session: str | None
    service: str = ""
    has_first: bool = False


class Keyed(NamedTuple):
    """A record to be written, and its key."""

    key: str
    data: bytes


@dataclass(slots=True)
class _Held:
    until: float
    first: int
    service: str
    parts: list[bytes] = field(default_factory=list[bytes])


class Keying:
    """Keys the records of one partition, by their time in seconds. Used from one thread.

    Args:
        name: What its records are called: with the offset of each, nothing else in the cluster is.
        learned: Is told of each trace whose session has become known.
        known: The sessions of traces that were learned before.
        patience: Seconds that a trace is held which has named no session, from when its first span is there.
        longest: Seconds that one is held at most.
        room: Bytes that are held; beyond, the oldest goes by itself.
    """

    def __init__(
        self,
        name: str,
        learned: Callable[[str, str], object],
        known: Iterable[tuple[str, str]] = (),
        *,
        patience: float = HELD_S,
        longest: float = LONGEST_S,
        room: int = 64 << 20,
    ) -> None:
        self._name = name
        self._learned, self._patience, self._longest, self._room = learned, patience, longest, room
        self._sessions: OrderedDict[str, str] = OrderedDict(known)
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._size = 0

    def add(self, data: bytes, offset: int, now: float) -> Iterator[Keyed]:
        """Yield what can be written now that a record is there."""
        for part in parts_of(data, f"{self._name}@{offset}"):
            session = self._sessions.get(part.trace) or part.session
            if session is None and part.trace:
                held = self._held.setdefault(part.trace, _Held(now + self._longest, offset, part.service))
                held.parts.append(part.data)
                if part.has_first:
                    held.until = min(held.until, now + self._patience)
                self._size += len(part.data)
                continue
            if part.trace and session is not None:
                self._remember(part.trace, session)
                yield from self._let_go(part.trace, session)
            yield Keyed(session or part.service, part.data)
        while self._size > self._room:
            yield from self._let_go(next(iter(self._held)))

    def due(self, now: float) -> Iterator[Keyed]:
        """Yield what has been held for long enough."""
        for trace in [trace for trace, held in self._held.items() if now >= held.until]:
            yield from self._let_go(trace)

    @property
    def needed(self) -> int | None:
        """The offset of the oldest record that is held, if any is."""
        return min((held.first for held in self._held.values()), default=None)

    def _remember(self, trace: str, session: str) -> None:
        if trace not in self._sessions:
            self._learned(trace, session)
            self._sessions[trace] = session
        self._sessions.move_to_end(trace)
        while len(self._sessions) > _KNOWN:
            self._sessions.popitem(last=False)

    def _let_go(self, trace: str, session: str | None = None) -> Iterator[Keyed]:
        held = self._held.pop(trace, None)
        if held is not None:
            self._size -= sum(map(len, held.parts))
            yield from (Keyed(session or held.service, data) for data in held.parts)


def parts_of(data: bytes, name: str) -> list[Part]:
    """Return what a record has of each trace; where it has spans of one only that is the record itself, byte for byte.

    Log records get a uid by the record's name, unless they have one: who takes over from a member that was killed may
    write them again, and only by that are they known. A record that cannot be read is a part without a trace: whoever
    reads it next says what is wrong.
    """
    try:
        form: Any = _Json(_json.loads(data)) if data.startswith(b"{") else _protobuf(data)
        parts: dict[tuple[str, str | None], list[tuple[Any, Any, Any]]] = {}
        sessions: dict[str, str] = {}
        for number, place in enumerate(form.items()):
            if form.of_logs:
                form.mark(place[2], f"{name}.{number}")
            trace, session = form.trace_of(place[2]), session_of(form.telling(place[2]))
            if trace and session is not None:
                sessions.setdefault(trace, session)
            parts.setdefault((trace, None if trace else session), []).append(place)
    except (ValueError, TypeError, AttributeError, KeyError):
        return [Part(data, "", None)]
    if not parts:
        return [Part(data, "", None)]
    as_it_is = len(parts) == 1 and not form.of_logs
    return [
        Part(
            data if as_it_is else form.of(places),
            trace,
            session or sessions.get(trace),
            service_of(form.about(places[0][0])),
            any(form.is_first(item) for _, _, item in places),
        )
        for (trace, session), places in parts.items()
    ]


class _Protobuf:
    """An export request in protobuf."""

    def __init__(self, request: Any, resources: str, scopes: str, items: str) -> None:
        self._request, self._resources, self._scopes, self._items = request, resources, scopes, items
        self.of_logs = items != "spans"

    def items(self) -> Iterator[tuple[Any, Any, Any]]:
        """Yield each span or log record, behind its resource and its scope."""
        for resource in getattr(self._request, self._resources):
            for scope in getattr(resource, self._scopes):
                for item in getattr(scope, self._items):
                    yield resource, scope, item

    def trace_of(self, item: Any) -> str:
        """Return the id of the trace that an item is of."""
        return item.trace_id.hex()

    def is_first(self, item: Any) -> bool:
        """Whether an item is a span without a parent."""
        return not self.of_logs and not item.parent_span_id

    def about(self, resource: Any) -> Mapping[str, Any]:
        """Return the attributes of a resource."""
        return attributes_of(resource.resource.attributes)

    def telling(self, item: Any) -> Mapping[str, Any]:
        """Return the attributes that may name a session."""
        return attributes_of(pair for pair in item.attributes if pair.key in _SESSION_KEYS)

    def mark(self, item: Any, uid: str) -> None:
        """Give a log record a uid if it has none."""
        if all(pair.key != names.LOG_RECORD_UID for pair in item.attributes):
            item.attributes.add(key=names.LOG_RECORD_UID).value.string_value = uid

    def of(self, places: list[tuple[Any, Any, Any]]) -> bytes:
        """Return a request of these items."""
        request = type(self._request)()
        last_resource = last_scope = resources = scopes = None
        for resource, scope, item in places:
            if resource is not last_resource:
                resources = getattr(request, self._resources).add(schema_url=resource.schema_url)
                resources.resource.CopyFrom(resource.resource)
            if scope is not last_scope:
                scopes = getattr(resources, self._scopes).add(schema_url=scope.schema_url)
                scopes.scope.CopyFrom(scope.scope)
            getattr(scopes, self._items).append(item)
            last_resource, last_scope = resource, scope
        return request.SerializeToString()


def _protobuf(data: bytes) -> _Protobuf:
    request = parsed(data)
    if isinstance(request, ExportLogsServiceRequest):
        return _Protobuf(request, "resource_logs", "scope_logs", "log_records")
    return _Protobuf(request, "resource_spans", "scope_spans", "spans")


class _Json:
    """An export request in OTLP's JSON."""

    def __init__(self, request: Any) -> None:
        self.of_logs = of_logs = "resourceLogs" in request
        self._request = request
        self._resources = "resourceLogs" if of_logs else "resourceSpans"
        self._scopes = "scopeLogs" if of_logs else "scopeSpans"
        self._items = "logRecords" if of_logs else "spans"

    def items(self) -> Iterator[tuple[Any, Any, Any]]:
        """Yield each span or log record, behind its resource and its scope."""
        for resource in self._request[self._resources]:
            for scope in resource.get(self._scopes) or ():
                for item in scope.get(self._items) or ():
                    yield resource, scope, item

    def trace_of(self, item: Any) -> str:
        """Return the id of the trace that an item is of."""
        return str(item.get("traceId") or "").lower()

    def is_first(self, item: Any) -> bool:
        """Whether an item is a span without a parent."""
        return not self.of_logs and not item.get("parentSpanId")

    def about(self, resource: Any) -> Mapping[str, Any]:
        """Return the attributes of a resource."""
        return json_attributes_of((resource.get("resource") or {}).get("attributes"))

    def telling(self, item: Any) -> Mapping[str, Any]:
        """Return the attributes that may name a session."""
        return json_attributes_of([pair for pair in item.get("attributes") or () if pair.get("key") in _SESSION_KEYS])

    def mark(self, item: Any, uid: str) -> None:
        """Give a log record a uid if it has none."""
        attributes: list[Any] = item.get("attributes") or []
        if all(pair.get("key") != names.LOG_RECORD_UID for pair in attributes):
            item["attributes"] = [*attributes, {"key": names.LOG_RECORD_UID, "value": {"stringValue": uid}}]

    def of(self, places: list[tuple[Any, Any, Any]]) -> bytes:
        """Return a request of these items."""
        resources: list[Any] = []
        last_resource = last_scope = None
        for resource, scope, item in places:
            if resource is not last_resource:
                resources.append({**resource, self._scopes: []})
            if scope is not last_scope:
                resources[-1][self._scopes].append({**scope, self._items: []})
            resources[-1][self._scopes][-1][self._items].append(item)
            last_resource, last_scope = resource, scope
        return _json.dumps({**self._request, self._resources: resources})
