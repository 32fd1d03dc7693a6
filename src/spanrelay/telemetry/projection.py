"""The view of a span: its attributes, computed once by whoever reads them first.

Never raises, always true in `bool()`, applies the span's limits, and masks provider keys in everything readable.
"""

from __future__ import annotations

import threading
from collections.abc import ItemsView, Iterator, Mapping
from typing import Any, cast

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import ReadableSpan

from spanrelay import semconv
from spanrelay._guard import guarded, losses
from spanrelay.records import SpanRecord
from spanrelay.semconv.spans import describe_span
from spanrelay.telemetry.masking import mask_text
from spanrelay.tracing import Recorded


class Pending:
    """How many bytes of payload wait to be read; beyond `limit` a span keeps its figures and loses its content."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self.size = 0

    def take(self, recorded: Recorded) -> int:
        """Count the payload of `recorded`, or drop it; return the bytes counted."""
        size = recorded.size
        with self._lock:
            if self.size + size <= self._limit:
                self.size += size
                return size
        losses.add("payloads not recorded because too many were waiting")
        recorded.forget_content()
        return 0

    def give_back(self, size: int) -> None:
        """Take `size` bytes off the count."""
        with self._lock:
            self.size -= size


class Ended:
    """A span that has ended and what was recorded for it; the record is made once, on the thread that asks."""

    __slots__ = ("_lock", "_pending", "_record", "_size", "attributes", "recorded", "span")

    def __init__(self, span: ReadableSpan, recorded: Recorded | None, pending: Pending) -> None:
        self.span = span
        self.recorded = recorded
        self._pending = pending
        self._size = pending.take(recorded) if recorded is not None else 0
        self.attributes: Mapping[str, Any] = span._attributes or {}
        self._lock = threading.Lock()
        self._record: SpanRecord | None = None

    @property
    def record(self) -> SpanRecord:
        """The span as a record: from what our call recorded, else read from the attributes."""
        with self._lock:
            if self._record is None:
                self._record = self._read()
            return self._record

    def _read(self) -> SpanRecord:
        if self.recorded is None:
            record = SpanRecord(0, 0)
            with guarded("reading a span's attributes"):
                describe_span(self.span, record)
                semconv.read(self.attributes, record)
            return record
        record = self.recorded.record
        with guarded("completing a record"):
            describe_span(self.span, record)
            self.recorded.complete()
        self._release()
        return record

    def _release(self) -> None:
        size, self._size = self._size, 0
        if size:
            self._pending.give_back(size)

    def __del__(self) -> None:
        # A span that nobody read, dropped from a full queue, must not count against the limit for ever.
        self._release()


class LazyAttributes(BoundedAttributes):
    """The attributes of a span of ours: those it started with, and on first read those of its record."""

    def __init__(self, ended: Ended, dialect: str, *, content: bool) -> None:
        # The base class's state is made on demand, so its constructor has nothing to do.
        self._ended: Ended | None = ended
        self._dialect = dialect
        self._content = content
        self._items: dict[str, Any] | None = None
        self._dropped = 0
        self._once = threading.Lock()
        self._lock = self._once
        self._immutable = True
        given = ended.attributes
        self.maxlen = getattr(given, "maxlen", None)
        self.max_value_len = getattr(given, "max_value_len", None)

    def _read(self) -> dict[str, Any]:
        if self._items is None:
            with self._once:
                if self._items is None:
                    self._items = self._project(cast("Ended", self._ended))
                    # It holds the span, whose attributes these are: the cycle would outlive the export.
                    self._ended = None
        return self._items

    def _project(self, ended: Ended) -> dict[str, Any]:
        items = dict(ended.attributes)
        with guarded("projecting a record"):
            record = ended.record
            # Policy may have changed what the span started with: the model, the tool.
            items.update(semconv.write_start(record, self._dialect))
            items.update(semconv.write(record, self._dialect, content=self._content))
        masked = {key: mask_text(value) if type(value) is str else value for key, value in items.items()}
        return self._limit(masked, getattr(ended.attributes, "dropped", 0))

    def _limit(self, items: dict[str, Any], dropped: int) -> dict[str, Any]:
        length = self.max_value_len
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
        self._read()
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
