"""The view of a span: what is recorded of it, computed once by whoever reads it first.

Never raises, always true in `bool()`, applies the span's limits, and shows nothing that was not sanitized.
"""

from __future__ import annotations

import operator
import threading
import time
from collections.abc import ItemsView, Iterator, Mapping, Sequence
from itertools import compress, repeat
from typing import Any, cast

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, Span
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, Status, StatusCode

from spanrelay import semconv
from spanrelay._guard import failed, guarded, losses, swallow
from spanrelay._masking import mask_text, mask_values
from spanrelay.conversation import Conversation, Telling
from spanrelay.observation import sanitizing
from spanrelay.observation.mailbox import ITEM_BYTES, size_of_texts
from spanrelay.observation.observers import Frozen, Watchers
from spanrelay.pipeline.backlog import backlog
from spanrelay.records import Message, SpanRecord
from spanrelay.semconv import kind_of, names
from spanrelay.semconv.spans import describe_resource, describe_span, error_of, marks_of
from spanrelay.telemetry.attributes import extra_attributes, sanitized_attributes, sanitized_links
from spanrelay.telemetry.overheard import Heard, overheard, told_by
from spanrelay.tracing import Recorded, complete, price

_SHARE = 4
"""Of each request is kept what is new once what waits takes one in so many of the bytes that may."""
LEAST_BYTES = 4 << 20
"""So much may wait whatever the limit is: spans without payload, so that their figures are recorded."""


class Pending:
    """How many bytes wait to be read, payloads and the rest of spans.

    Beyond `limit` a span keeps its figures and loses its content; a quarter above that, it is not recorded at all.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._most = max(limit + limit // 4, LEAST_BYTES)
        self._lock = threading.Lock()
        self.size = 0

    def take(self, recorded: Recorded) -> int:
        """Count the payload of `recorded`, or drop it; return the bytes counted."""
        size = recorded.size
        if not size:
            return 0
        if self.size + size > self._limit // _SHARE:
            recorded.shorten()
            size = recorded.size
        elif backlog.latest:  # without a call: this is asked for each call
            backlog.clear()
        with self._lock:
            if self.size + size <= self._limit:
                self.size += size
                return size
        losses.add("payloads not recorded because too many were waiting")
        recorded.forget_content()
        return 0

    def admit(self, size: int) -> bool:
        """Count `size` bytes, if there is room for them."""
        with self._lock:
            if self.size + size > self._most:
                return False
            self.size += size
            return True

    def add(self, size: int) -> None:
        """Count `size` bytes, whether there is room or not."""
        with self._lock:
            self.size += size

    def give_back(self, size: int) -> None:
        """Take `size` bytes off the count."""
        with self._lock:
            self.size -= size


class Share:
    """The bytes of one payload that waits: given back once nobody holds this any more.

    An object of its own, so that a span which nobody read, dropped from a full queue, does not count for ever, and yet
    no code of ours runs when garbage is collected that was read: what a signal handler raises there Python throws away.
    """

    __slots__ = ("_pending", "size")

    def __init__(self, pending: Pending, size: int) -> None:
        self._pending = pending
        self.size = size

    def __del__(self) -> None:
        if hasattr(self, "size"):  # else a signal handler broke off its making
            self._pending.give_back(self.size)


class Face:
    """What a sanitized span shows beside its attributes."""

    __slots__ = ("events", "links", "name", "resource", "scope", "status")

    def __init__(self, span: ReadableSpan) -> None:
        """Show nothing of `span` but its status and its resource's absence: what follows fills in the rest."""
        self.name = "span"
        self.status = Status(span._status.status_code)
        self.events: Sequence[Event] = ()
        self.links: Sequence[Link] = ()
        self.resource = Resource({})
        self.scope: InstrumentationScope | None = None


class Ended:
    """A span that has ended and what was recorded for it; the record is made once, on the thread that asks.

    Args:
        span: The span as the SDK left it.
        recorded: What our call recorded; None for a span of other instrumentation.
        pending: Counts the payload until it is read.
        frozen: Who sees the record, as it was when the span ended; None where nobody is registered. Spans of other
            instrumentation have been sanitized by now.
        heard: What log records told of the call by now, where it is one of other instrumentation.
    """

    __slots__ = (
        "_face",
        "_frozen",
        "_heard",
        "_moment",
        "_record",
        "_recorded",
        "_share",
        "attributes",
        "lock",
        "span",
        "time",
        "weight",
    )

    def __init__(
        self,
        span: ReadableSpan,
        recorded: Recorded | None,
        pending: Pending,
        frozen: Frozen | None = None,
        heard: Sequence[Heard] = (),
    ) -> None:
        self.span = span
        self._heard = heard
        self._moment = frozen if recorded is None else None
        self._recorded = recorded
        self.time = time.monotonic() if recorded is None and overheard.comes else 0.0
        """When it ended, on the monotonic clock, where more may still be told of it."""
        self._frozen = frozen if frozen is not None and frozen.watchers.changes and recorded is not None else None
        if recorded is not None and frozen is not None and frozen.watchers.shows:
            recorded.show()
        size = pending.take(recorded) if recorded is not None else 0
        self._share = Share(pending, size) if size else None
        attributes: Any = span._attributes  # the SDK's mapping is asked whether it is empty with a call
        self.attributes: Mapping[str, Any] = {} if attributes is None else attributes
        self.weight = ITEM_BYTES + (0 if recorded is not None else size_of_texts(self.attributes))
        """Bytes of memory that the end takes while it waits, about, without the payload that `pending` counts."""
        self.lock = threading.RLock()
        """Held by whoever reads the record, or the attributes that are made of it."""
        self._record: SpanRecord | None = None
        self._face: Face | None = None

    @property
    def payload(self) -> int:
        """Bytes of payload that have not been read yet."""
        return self._share.size if self._share is not None else 0

    @property
    def is_unanswered(self) -> bool:
        """Whether this is a model call of other instrumentation of which nothing says what was answered."""
        if self._recorded is not None:
            return False
        record = self.record
        return record.kind == "llm" and (record.response is None or not record.response.messages)

    def hear(self, heard: Sequence[Heard]) -> None:
        """Take in what log records told since; the record is made anew."""
        with self.lock:
            if heard and self._recorded is None:
                self._heard, self._record = (*self._heard, *heard), None

    @property
    def changed(self) -> bool:
        """Whether the record differs from what the span itself says."""
        return self._frozen is not None

    @property
    def record(self) -> SpanRecord:
        """The span as a record: from what our call recorded, else read from the attributes."""
        record = self._record
        if record is None:
            with self.lock:
                record = self._record
                if record is None:
                    record = self._record = self._read()
        return record

    @property
    def face(self) -> Face:
        """What the span shows beside its attributes, where its record is sanitized."""
        _ = self.record
        return cast("Face", self._face)

    def _read(self) -> SpanRecord:
        recorded = self._recorded
        if recorded is None:
            record = SpanRecord(0, 0)
            with guarded("reading a span's attributes"):
                describe_span(self.span, record)
                semconv.read({**self._told(), **self.attributes} if self._heard else self.attributes, record)
            price(record)
            return record
        record = recorded.record
        try:
            _describe(self.span, record)
            complete(recorded)
        except Exception as error:
            failed("completing a record", error)
        if self._frozen is not None:
            record = self._frozen.run(self._finish, record, self._frozen.watchers)
            # What was recorded holds the raw content, and nobody is to find it through us.
            self._recorded = None
        self._share = None
        return record

    def _told(self) -> dict[str, Any]:
        """Return what log records told, as attributes; nothing where it cannot be made fit for others to read."""
        with guarded("reading what log records tell of a call"):
            return told_by(self._heard, mask_text(self.span.name), kind_of(self.attributes), self._moment)
        return {}

    def _finish(self, record: SpanRecord, watchers: Watchers) -> SpanRecord:
        """Return the record as observers leave it, and keep what they leave of the rest."""
        span, face = self.span, Face(self.span)
        self._face = face
        result = sanitizing.finished(record, watchers)
        face.name = result.name
        face.events = [Event(mark.name, mark.attributes, mark.time) for mark in result.marks]
        status = sanitizing.sanitized_status(span._status, record.error, result.error)
        # The error is what was raised, not what has been masked of it.
        face.status = Status(status.status_code, mask_text(status.description)) if status.description else status
        try:
            face.resource = sanitizing.sanitized_resource(span.resource, watchers)
            scope = span.instrumentation_scope
            face.scope = sanitizing.sanitized_scope(scope, watchers) if scope is not None else None
            face.links = sanitized_links(span.links, watchers, record)
            self.attributes = extra_attributes(self.attributes, watchers, record)
        except Exception as error:
            self.attributes = {}
            swallow("sanitizing a span", error)
        result.scope_name = face.scope.name if face.scope is not None else None
        result.scope_version = face.scope.version if face.scope is not None else None
        describe_resource(face.resource.attributes, result)
        return result


def _describe(span: ReadableSpan, record: SpanRecord) -> None:
    """As `describe_span`, of a span of ours that the SDK has ended: its properties would be a call each."""
    identity, parent, scope = cast("SpanContext", span._context), span._parent, span._instrumentation_scope
    record.trace_id, record.span_id = identity[:2]
    if parent is not None:
        _, record.parent_id, record.remote_parent = parent[:3]
    record.name, record.start, record.end = span._name, span._start_time or 0, span._end_time
    if scope is not None:
        record.scope_name, record.scope_version = scope._name, scope._version or None
    describe_resource(span._resource._attributes, record)
    attributes: Any = span._attributes
    if type(attributes) is BoundedAttributes and attributes.dropped > 0:
        record.truncated = True
    if span._events:
        record.marks = marks_of(span._events)
    if record.error is None and span._status._status_code is StatusCode.ERROR:
        record.error = error_of(span, record.marks)


class Started:
    """A span that has started under observers; the record is made once, on the thread that asks.

    `settled` are the attributes that have been sanitized.
    """

    __slots__ = ("_attributes", "_frozen", "_lock", "_name", "_record", "_settled", "sampled", "span")

    def __init__(self, span: Span, frozen: Frozen, settled: Mapping[str, Any]) -> None:
        self.span = span
        self._frozen = frozen
        self._settled = settled
        # The span goes on: what is said of its start is what it says now.
        self._name = span._name
        self._attributes = span._attributes._dict.copy()
        self._lock = threading.Lock()
        self._record: SpanRecord | None = None
        self.sampled = span.get_span_context().trace_flags.sampled

    @property
    def record(self) -> SpanRecord:
        """What is recorded of the span so far, sanitized."""
        with self._lock:
            if self._record is None:
                self._record = self._read() if not self._frozen.watchers.changes else self._frozen.run(self._read)
            return cast("SpanRecord", self._record)

    def _read(self) -> SpanRecord:
        watchers, resource = self._frozen.watchers, self.span.resource
        name, attributes = self._name, self._attributes
        try:
            if watchers.sanitizers:
                resource = sanitizing.sanitized_resource(resource, watchers)
                attributes = sanitized_attributes(attributes, watchers, name, self._settled)
                name = sanitizing.sanitized_name(name, watchers, kind_of(attributes))
        except Exception as error:
            swallow("sanitizing the start of a span", error)
            name, attributes, resource = "span", {}, Resource({})
        return record_of_start(self.span, name, attributes, resource)


def record_of_start(span: Span, name: str, attributes: Mapping[str, Any], resource: Resource) -> SpanRecord:
    """Return the record of a span that has only started and says what is given."""
    record = SpanRecord(0, 0)
    describe_span(span, record)
    record.end, record.error, record.marks = None, None, []
    record.name = name
    describe_resource(resource.attributes, record)
    semconv.read(attributes, record)
    return record


class SanitizedView(ReadableSpan):
    """A span of ours as observers leave it: everything that can be read is made when it is first read."""

    # The SDK's own properties, and its `to_json`, read these.
    _ended: Ended

    def __init__(self, ended: Ended, attributes: LazyAttributes) -> None:
        self.__dict__.update(ended.span.__dict__)
        self.__dict__["_ended"] = ended
        self.__dict__["_attributes"] = attributes

    @property
    def _name(self) -> str:
        return mask_text(self._ended.face.name)

    @property
    def _status(self) -> Status:
        return self._ended.face.status

    @property
    def _events(self) -> Sequence[Event]:
        return self._ended.face.events

    @property
    def _links(self) -> Sequence[Link]:
        return self._ended.face.links

    @property
    def _resource(self) -> Resource:
        return self._ended.face.resource

    @property
    def _instrumentation_scope(self) -> InstrumentationScope | None:
        return self._ended.face.scope


def _copied(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `attributes` as a dict; the SDK's own mapping is looked into item by item otherwise."""
    return {**attributes._dict} if type(attributes) is BoundedAttributes else dict(attributes)


def _masked(items: dict[str, Any], messages: Conversation) -> dict[str, Any]:
    """Return `items` without credentials; of a conversation that is known, only what is new is searched."""
    masked = mask_values(items, 0, messages.clean)
    messages.found_clean(masked)
    return masked


class LazyAttributes(BoundedAttributes):
    """The attributes of a span of ours: those it started with, and on first read those of its record."""

    def __init__(self, ended: Ended, dialect: str, *, content: bool) -> None:
        # The base class's state is made on demand, so its constructor has nothing to do.
        self._ended: Ended | None = ended
        self._dialect = dialect
        self._content = content
        self._rest: dict[str, Any] | None = None
        self._telling: Telling | None = None
        self._items: dict[str, Any] | None = None
        self._dropped = 0
        self._lock = ended.lock
        self._immutable = True

    def _read(self) -> dict[str, Any]:
        if self._items is None:
            with self._lock:
                if self._items is None:
                    rest, telling = self._projected()
                    self._items = rest if telling is None else {**rest, names.INPUT_MESSAGES: telling.whole()}
        return self._items

    def told(self) -> tuple[dict[str, Any], Telling] | None:
        """Return the attributes, and apart from them the messages of a request, where these are known one by one.

        Where the messages belong stands another text.
        """
        with self._lock:
            rest, telling = self._projected()
        return None if telling is None else (rest, telling)

    def _projected(self) -> tuple[dict[str, Any], Telling | None]:
        if self._rest is None:
            ended: Any = self._ended
            self._rest = self._project(ended)
            # It holds the span, whose attributes these are: the cycle would outlive the export.
            self._ended = None
        return self._rest, self._telling

    def _project(self, ended: Ended) -> dict[str, Any]:
        changed = ended.changed
        items = {} if changed else _copied(ended.attributes)
        messages: list[Message] | None = None
        telling = history = None
        try:
            record = ended.record
            if changed:
                items = _copied(ended.attributes)
            # Policy may have changed what the span started with: the model, the tool.
            items.update(semconv.write_start(record, self._dialect))
            if self._content and getattr(ended.attributes, "max_value_len", None) is None:
                telling = semconv.telling_of(record, self._dialect)
                history = telling.unsearched() if telling is not None else None
            items.update(semconv.write(record, self._dialect, content=self._content, history=history))
            messages = record.request.messages if record.request is not None else None
        except Exception as error:
            failed("projecting a record", error)
        items = _masked(items, messages) if type(messages) is Conversation else mask_values(items)
        if telling is not None and names.INPUT_MESSAGES in items:
            if items[names.INPUT_MESSAGES] is history:
                telling.found_clean()
                self._telling = telling
            else:
                items[names.INPUT_MESSAGES] = mask_text(telling.whole())
        for key in list(compress(items, map(operator.is_, map(type, items.values()), repeat(list)))):
            items[key] = tuple(items[key])  # as the SDK has sequences: nobody changes them
        return self._limit(items, ended.attributes)

    def _limit(self, items: dict[str, Any], given: Any) -> dict[str, Any]:
        self.maxlen, length = getattr(given, "maxlen", None), getattr(given, "max_value_len", None)
        self.max_value_len, dropped = length, getattr(given, "dropped", 0)
        if length is not None:
            items = {k: v[:length] if isinstance(v, str) else v for k, v in items.items()}
        self._dropped = dropped
        if self.maxlen is not None and len(items) > self.maxlen:
            self._dropped += len(items) - self.maxlen
            items = dict(list(items.items())[: self.maxlen])
        return items

    @property
    def _dict(self) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleVariableOverride] - made on demand
        return self._read()

    @property
    def dropped(self) -> int:
        """How many attributes the span's limits cut off."""
        with self._lock:
            self._projected()
        return self._dropped

    def __bool__(self) -> bool:
        # The SDK asks `self._attributes or {}` on the caller's thread; that must not read.
        return True

    def __len__(self) -> int:
        return len(self._read())

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __getitem__(self, key: str) -> Any:
        return self._read()[key]

    def __contains__(self, key: object) -> bool:
        return key in self._read()

    def __repr__(self) -> str:
        return repr(self._read())

    def items(self) -> ItemsView[str, Any]:
        """The attributes as a plain dict's items, which is faster than the base class's view."""
        return self._read().items()

    def copy(self) -> dict[str, Any]:
        """A plain dict of the attributes."""
        return dict(self._read())

    def __deepcopy__(self, memo: dict[int, Any]) -> BoundedAttributes:
        return BoundedAttributes(None, cast("Any", self._read()), immutable=True)

    def __reduce__(self) -> tuple[Any, ...]:
        return (BoundedAttributes, (None, self._read(), True))
