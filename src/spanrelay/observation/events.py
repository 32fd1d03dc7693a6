"""What happened, as subscribers are told it: views over the start of a span, its marks, and its end.

Nothing is read where it happens; an event is built, sanitized, on the thread of the first subscriber that is told.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from typing import Any, Protocol, cast

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.trace import Span

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay._json import clean_text
from spanrelay._masking import mask_bytes
from spanrelay.observation.mailbox import ITEM_BYTES, size_of_texts
from spanrelay.observation.observers import CATEGORIES, NOBODY, Frozen, Watchers, apart, watching
from spanrelay.observation.sanitizing import sanitized_mark
from spanrelay.records import JSON, Kind, Mark, ModelRequest, ModelResponse, SpanRecord
from spanrelay.scopes import Scope
from spanrelay.semconv import kind_of, names
from spanrelay.semconv.messages import write_definition, write_messages, write_parts
from spanrelay.semconv.spans import record_of
from spanrelay.semconv.values import clean_attributes
from spanrelay.tracing import is_seen

VERSION = "0.1"
"""Of ATOF, the format of these events."""

NAMESPACE = uuid.UUID("1a3d6f0e-5b7c-5e21-9c44-3f8e2d6b7a90")
"""Of the UUIDs that are derived from trace and span ids."""

Fields = dict[str, JSON]


class Event:
    """One thing that happened, in the fields of ATOF 0.1. Each subscriber has its own; it may keep or change it.

    `sampled` says whether exporters get the span too.
    """

    __slots__ = ("_data", "_fields", "sampled")

    def __init__(self, data: bytes, *, sampled: bool) -> None:
        self._data = data
        self._fields: Fields | None = None
        self.sampled = sampled

    def to_json(self, *, content: bool = True) -> str:
        """Return the event as one line of JSON; `content=False` leaves out messages, arguments and results."""
        return (self._data if content else _json.dumps(_without_content(_json.loads(self._data)))).decode()

    def to_dict(self) -> Fields:
        """Return what `to_json` says, as a dict that nobody else has."""
        return _json.loads(self._data)

    def _get(self, key: str) -> Any:
        if self._fields is None:
            self._fields = self.to_dict()
        return self._fields[key]

    def _profile(self, key: str) -> Any:
        return (self.category_profile or {}).get(key)

    @property
    def kind(self) -> str:
        """`scope` or `mark`."""
        return self._get("kind")

    @property
    def uuid(self) -> str:
        """Of the span, the same at its start and its end; of a mark its own."""
        return self._get("uuid")

    @property
    def parent_uuid(self) -> str | None:
        """Of the span around it."""
        return self._get("parent_uuid")

    @property
    def name(self) -> str:
        """The span's name, or the mark's."""
        return self._get("name")

    @property
    def timestamp(self) -> str:
        """When it happened, RFC 3339 in UTC with nanoseconds."""
        return self._get("timestamp")

    @property
    def data(self) -> JSON:
        """What the work was given at its start, what it gave at its end; a mark's attributes."""
        return self._get("data")

    @property
    def data_schema(self) -> JSON:
        """Always None: data has no schema of its own."""
        return self._get("data_schema")

    @property
    def metadata(self) -> Fields | None:
        """The scope's metadata, session and user; at the end of a span also its status."""
        return self._get("metadata")

    @property
    def category(self) -> str | None:
        """`agent`, `function`, `tool`, `llm`, `retriever` …; None for a mark."""
        return self._get("category")

    @property
    def category_profile(self) -> Fields | None:
        """What is said of this category alone."""
        return self._get("category_profile")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self.timestamp}>"


class ScopeEvent(Event):
    """A span has started or ended."""

    __slots__ = ()

    @property
    def scope_category(self) -> str:
        """`start` or `end`."""
        return self._get("scope_category")

    @property
    def attributes(self) -> list[str]:
        """Flags: `streaming` for a model call whose answer is a stream."""
        return self._get("attributes")

    @property
    def input(self) -> JSON:
        """What the work was given."""
        if self.scope_category == "start":
            return self.data
        return self.annotated_request or self._profile("input")

    @property
    def output(self) -> JSON:
        """What the work gave; None at its start."""
        return self.data if self.scope_category == "end" else None

    @property
    def model_name(self) -> str | None:
        """Of a model call."""
        return self._profile("model_name")

    @property
    def tool_call_id(self) -> str | None:
        """Of a tool call, the model's id."""
        return self._profile("tool_call_id")

    @property
    def annotated_request(self) -> Fields | None:
        """Of a model call, the request in the form of GenAI's schemas."""
        return self._profile("annotated_request")

    @property
    def annotated_response(self) -> Fields | None:
        """Of a model call, the answer in the form of GenAI's schemas."""
        return self._profile("annotated_response")


class MarkEvent(Event):
    """Something happened during a span."""

    __slots__ = ()


def _without_content(fields: Fields) -> Fields:
    if fields["kind"] == "scope":
        fields["data"] = None
        profile: Fields | None = fields["category_profile"]
        for key in ("annotated_request", "annotated_response", "input") if profile else ():
            cast("Fields", profile).pop(key, None)
    return fields


# --- fields ------------------------------------------------------------------------------------------------


def uuid_of(trace_id: int, span_id: int | None = None, mark: str = "") -> str:
    """Return the UUID of a trace, of a span, or of a mark of a span: version 5, the same wherever it is made."""
    name = f"{trace_id:032x}" if span_id is None else f"{trace_id:032x}-{span_id:016x}{mark}"
    return str(uuid.uuid5(NAMESPACE, name))


def timestamp(nanoseconds: int) -> str:
    """Return a time since the epoch as RFC 3339 in UTC with nanoseconds."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%S}.{rest:09d}+00:00"


def start_fields(record: SpanRecord) -> Fields:
    """Return the event of a span's start."""
    return _scope_fields(record, "start", record.start, _given(record), _metadata(record))


def end_fields(record: SpanRecord) -> Fields:
    """Return the event of a span's end."""
    end = record.end or record.start
    return _scope_fields(record, "end", end, _gave(record), {**_metadata(record), **_status(record)})


def _scope_fields(record: SpanRecord, phase: str, at: int, data: JSON, metadata: Fields) -> Fields:
    return {
        "kind": "scope",
        "atof_version": VERSION,
        "scope_category": phase,
        "uuid": uuid_of(record.trace_id, record.span_id),
        "parent_uuid": uuid_of(record.trace_id, record.parent_id) if record.parent_id is not None else None,
        "timestamp": timestamp(at),
        "name": record.name,
        "data": data,
        "data_schema": None,
        "metadata": metadata or None,
        "category": CATEGORIES.get(record.kind, record.kind),
        "attributes": ["streaming"] if record.request is not None and record.request.stream else [],
        "category_profile": _profile(record, ended=phase == "end"),
        "propagation_root_uuid": uuid_of(record.trace_id),
    }


def mark_fields(trace_id: int, span_id: int, mark: Mark, number: int = 0) -> Fields:
    """Return the event of a mark, the `number`th of its span at that very time."""
    return {
        "kind": "mark",
        "atof_version": VERSION,
        "uuid": uuid_of(trace_id, span_id, f"-{mark.time}-{number}"),
        "parent_uuid": uuid_of(trace_id, span_id),
        "timestamp": timestamp(mark.time),
        "name": mark.name,
        "data": mark.attributes or None,
        "data_schema": None,
        "metadata": None,
        "category": None,
        "category_profile": None,
        "propagation_root_uuid": uuid_of(trace_id),
    }


def _given(record: SpanRecord) -> JSON:
    if record.kind in ("llm", "embedder"):
        return _request(record.request)
    return record.tool.arguments if record.tool is not None else record.input


def _gave(record: SpanRecord) -> JSON:
    if record.kind in ("llm", "embedder"):
        return _response(record.response)
    return record.result.content if record.result is not None else record.output


def _request(request: ModelRequest | None) -> Fields | None:
    if request is None or not (request.messages or request.system):
        return None
    written: Fields = {"model": request.model, "messages": write_messages(request.messages)}
    if request.system:
        written["instructions"] = write_parts(request.system)
    if request.tools:
        written["tools"] = [write_definition(tool) for tool in request.tools]
    if request.parameters:
        written["parameters"] = request.parameters
    return written


def _response(response: ModelResponse | None) -> Fields | None:
    if response is None:
        return None
    usage = response.usage
    figures = {name: getattr(usage, name) for name in usage.__slots__} if usage is not None else {}
    return {
        "id": response.id,
        "model": response.model,
        "messages": write_messages(response.messages),
        "finish_reasons": response.finish_reasons,
        "usage": {name: figure for name, figure in figures.items() if figure is not None} or None,
    }


def _profile(record: SpanRecord, *, ended: bool) -> Fields | None:
    if record.kind in ("llm", "embedder"):
        return _model_profile(record, ended=ended)
    profile: Fields = {}
    if ended and _given(record) is not None:
        profile["input"] = _given(record)
    if record.kind == "tool" and record.tool is not None:
        if ended and record.result is not None and record.result.annotation is not None:
            profile["tool_result_annotation"] = record.result.annotation
        return {"tool_call_id": record.tool.call_id, **profile}
    if record.kind == "custom":
        return {"subtype": record.name, **profile}
    return profile or None


def _model_profile(record: SpanRecord, *, ended: bool) -> Fields:
    models = (record.response and record.response.model, record.request and record.request.model)
    profile: Fields = {"model_name": next((model for model in models if model), None)}
    if ended:
        profile["annotated_request"] = _request(record.request)
        profile["annotated_response"] = _response(record.response)
        profile["time_to_first_chunk"] = record.time_to_first_chunk
    return {key: value for key, value in profile.items() if value is not None}


def _metadata(record: SpanRecord) -> Fields:
    identity = {names.OI_SESSION: record.session_id, names.USER_ID: record.user_id}
    return {**{key: value for key, value in identity.items() if value is not None}, **record.metadata}


def _status(record: SpanRecord) -> Fields:
    error = record.error
    if error is None:
        status: Fields = {"otel.status_code": "OK"}
    else:
        status = {"otel.status_code": "ERROR", "otel.status_description": error.message, "error.type": error.type}
    if record.incomplete is not None:
        status[names.INCOMPLETE] = record.incomplete
    return status


# --- occasions ---------------------------------------------------------------------------------------------

Told = tuple[type[Event], bytes]


_locks = [threading.Lock() for _ in range(64)]


def _lock_of(thing: object) -> threading.Lock:
    """Return the lock under which `thing` is read: one of a few, since making one for each event costs too much."""
    return _locks[(id(thing) >> 6) & 63]


def _renew_locks() -> None:
    """A forked child has none of the threads that may hold a lock."""
    _locks[:] = [threading.Lock() for _ in _locks]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


class _Told:
    """One occasion: read once for all subscribers, each of which is given events of its own."""

    __slots__ = ("_told", "content", "sampled", "weight")

    def __init__(self, content: bool, *, sampled: bool, weight: int = ITEM_BYTES) -> None:
        self.content = content
        self.weight = weight
        self.sampled = sampled
        self._told: list[Told] | None = None

    def events(self) -> list[Event]:
        """The events; none where they cannot be read."""
        with _lock_of(self):
            if self._told is None:
                told: list[Told] = []
                with guarded("reading what subscribers are told"):
                    told = [self._as_json(fields) for fields in self._fields()]
                self._told = told
                self._let_go()
            return [kind(data, sampled=self.sampled) for kind, data in self._told]

    def _as_json(self, fields: Fields) -> Told:
        shown = fields if self.content else _without_content(fields)
        return (ScopeEvent if fields["kind"] == "scope" else MarkEvent), mask_bytes(_json.dumps(shown))

    def _fields(self) -> Iterable[Fields]:
        raise NotImplementedError  # pragma: no cover - each kind of occasion has its own

    def _let_go(self) -> None:
        """Keep nothing of what has been read."""


class Started(Protocol):
    """A span that has started, and what is recorded of it so far, made once on the thread that asks."""

    sampled: bool

    @property
    def record(self) -> SpanRecord:
        """The record, sanitized."""
        ...


class Ended(Protocol):
    """A span that has ended, and what is recorded of it, made once on the thread that asks."""

    span: ReadableSpan
    weight: int

    @property
    def payload(self) -> int:
        """Bytes of payload that have not been read yet."""
        ...

    @property
    def record(self) -> SpanRecord:
        """The record, sanitized."""
        ...


class SpanStart(_Told):
    """A span has started."""

    __slots__ = ("_started",)

    def __init__(self, started: Started, content: bool) -> None:
        super().__init__(content, sampled=started.sampled)
        self._started: Started | None = started

    def _fields(self) -> Iterable[Fields]:
        return [start_fields(cast("Started", self._started).record)]

    def _let_go(self) -> None:
        self._started = None


class SpanEnd(_Told):
    """A span has ended; `told` are the times of marks that subscribers know of."""

    __slots__ = ("_ended", "_times")

    def __init__(self, ended: Ended, told: Iterable[int], content: bool) -> None:
        context = ended.span.context
        sampled = context is not None and context.trace_flags.sampled
        super().__init__(content, sampled=sampled, weight=ended.weight + ended.payload)
        self._ended: Ended | None = ended
        self._times = tuple(told)

    def _fields(self) -> Iterable[Fields]:
        record = cast("Ended", self._ended).record
        return [*mark_events(record, self._times), end_fields(record)]

    def _let_go(self) -> None:
        self._ended = None


class WholeSpan(_Told):
    """A span of which nobody was told before its end."""

    __slots__ = ("_span",)

    def __init__(self, span: ReadableSpan) -> None:
        context = span.get_span_context()
        sampled = context is not None and context.trace_flags.sampled
        super().__init__(True, sampled=sampled, weight=2 * ITEM_BYTES + size_of_texts(span.attributes or {}))
        self._span: ReadableSpan | None = span

    def _fields(self) -> Iterable[Fields]:
        record = record_of(self._span)
        return [start_fields(record), *mark_events(record), end_fields(record)]

    def _let_go(self) -> None:
        self._span = None


def mark_events(record: SpanRecord, told: Iterable[int] = ()) -> list[Fields]:
    """Return the events of a span's marks, in the order of their times, without those at the times of `told`.

    The exception of a span of ours is no mark: the event of its end tells of it.
    """
    left, seen = Counter(told), Counter[int]()
    found: list[Fields] = []
    ours = (record.scope_name or "").startswith("spanrelay")
    marks = [mark for mark in record.marks if not (ours and mark.name == names.EXCEPTION_EVENT)]
    for mark in sorted(marks, key=lambda mark: mark.time):
        number = seen[mark.time]
        seen[mark.time] += 1
        if number >= left[mark.time]:
            found.append(mark_fields(record.trace_id, record.span_id, mark, number))
    return found


class Marked(_Told):
    """A mark was made."""

    __slots__ = ("_frozen", "_kind", "_mark", "_number", "_span", "_span_name")

    def __init__(self, span: SdkSpan, mark: Mark, number: int, frozen: Frozen, kind: Kind | None) -> None:
        super().__init__(content=True, sampled=span.get_span_context().trace_flags.sampled)
        self._number = number
        self._span, self._mark, self._frozen, self._kind = span, mark, frozen, kind
        self._span_name = span._name

    def _fields(self) -> Iterable[Fields]:
        mark: Mark | None = self._mark
        if self._frozen.watchers.sanitizers:
            mark = self._frozen.run(sanitized_mark, mark, self._frozen.watchers, self._span_name, self._kind)
        context = self._span.get_span_context()
        return [] if mark is None else [mark_fields(context.trace_id, context.span_id, mark, self._number)]


TOLD = "_spanrelay_told"
"""On a span that has ended: the subscribers that are told of it."""


def tell(watchers: Watchers, occasion: Callable[..., _Told], *arguments: Any) -> None:
    """Send subscribers what happened; it is read on their threads."""
    if watchers.subscribers:
        told = occasion(*arguments)
        for subscriber in watchers.subscribers:
            if subscriber.mailbox is not None:
                subscriber.mailbox.put(told)


# --- marks -------------------------------------------------------------------------------------------------


_WATCH = "_spanrelay_watch"


class Watch:
    """What a span that is open must remember: its scope, who saw it start, and the marks they were told of."""

    __slots__ = ("scope", "settled", "told", "watchers")

    def __init__(self, scope: Scope | None, watchers: Watchers) -> None:
        self.scope = scope
        self.watchers = watchers
        self.settled: Mapping[str, Any] = {}
        self.told: list[int] = []

    @staticmethod
    def of(span: SdkSpan, scope: Scope | None, watchers: Watchers) -> Watch:
        """Attach a watch to `span`: what it remembers goes with the span."""
        watch = Watch(scope, watchers)
        setattr(span, _WATCH, watch)
        return watch

    @staticmethod
    def at(span: SdkSpan) -> Watch | None:
        """Return the watch attached to `span`."""
        return getattr(span, _WATCH, None)


class _Clock:
    """Nanoseconds since the epoch, never the same twice: a mark is known by its span and its time."""

    def __init__(self) -> None:
        self.begin()
        self._last = 0

    def begin(self) -> None:
        """Take a lock that nobody holds: a child has none of its parent's threads. A signal handler may mark, too."""
        self._lock = threading.RLock()

    def now(self) -> int:
        with self._lock:
            self._last = max(time.time_ns(), self._last + 1)
            return self._last


_clock = _Clock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_clock.begin)


def add_mark(
    span: Span, scope: Scope | None, name: str, attributes: Mapping[str, Any], time: int | None = None
) -> None:
    """Add a mark to `span` in `scope`, and tell subscribers at once."""
    mark = Mark(name, _clock.now() if time is None else time, dict(attributes))
    watch = Watch.at(span) if isinstance(span, SdkSpan) else None
    scope = scope or (watch.scope if watch is not None else None)
    watchers = watching(scope) or NOBODY
    kind = scope.record.kind if scope is not None else _kind(span)
    recorded: Mark | None = mark
    if watchers.sanitizers and not is_seen(span):
        # Nobody will sanitize it later.
        with apart():
            recorded = sanitized_mark(mark, watchers, getattr(span, "name", ""), kind)
    if recorded is not None:
        span.add_event(clean_text(recorded.name), clean_attributes(recorded.attributes), recorded.time)
    if watchers.subscribers and isinstance(span, SdkSpan) and span.is_recording():
        watch = watch or Watch.of(span, scope, NOBODY)
        number = watch.told.count(mark.time) if time is not None else 0  # ours are never the same twice
        watch.told.append(mark.time)
        tell(watchers, Marked, span, mark, number, watchers.freeze(), kind)


def _kind(span: Span) -> Kind | None:
    return kind_of(span.attributes or {}) if isinstance(span, SdkSpan) else None
