"""Where telemetry waits between being read and being assembled: on disk, so that its size is no matter.

One file, to which spans and log records are appended, and from which they are read again by their places.
"""

from __future__ import annotations

import marshal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from spanrelay.otlp_in.telemetry import Event, LogRecord, Origin, Span, Telemetry

_FORMAT = 4
_LENGTH = 4


class Store:
    """Spans and log records in the file at `path`, which nobody else writes."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=1 << 20)
        self._size = 0
        self._dirty = False
        self._origins: list[Origin] = []
        self._numbers: dict[tuple[int, str | None, str | None], int] = {}

    def close(self) -> None:
        """Let the file go."""
        self._file.close()

    def add(self, item: Telemetry) -> int:
        """Append an item and return its place."""
        plain = _plain_span(item) if isinstance(item, Span) else _plain_log(item)
        data = marshal.dumps((self._number(item.origin), plain), _FORMAT)
        place = self._size
        self._file.write(len(data).to_bytes(_LENGTH, "little"))
        self._file.write(data)
        self._size += _LENGTH + len(data)
        self._dirty = True
        return place

    def _number(self, origin: Origin) -> int:
        """Return the number of who recorded, who is the same for many items."""
        key = (id(origin.resource), origin.scope, origin.version)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._origins)
            self._origins.append(origin)  # which keeps the resource, so that its id stays its own
        return number

    def read(self, places: Iterable[int]) -> Iterator[Telemetry]:
        """Yield the items at places."""
        if self._dirty:
            self._file.flush()
            self._dirty = False
        for place in places:
            self._file.seek(place)
            size = int.from_bytes(self._file.read(_LENGTH), "little")
            number, plain = marshal.loads(self._file.read(size))
            yield _item(plain, self._origins[number])


def _plain_span(span: Span) -> tuple[Any, ...]:
    events = [tuple(event) for event in span.events]
    return (
        *(span.trace_id, span.span_id, span.parent_id, span.remote_parent, span.name, span.start, span.end),
        *(span.attributes, events, span.error, span.truncated),
    )


def _plain_log(record: LogRecord) -> tuple[Any, ...]:
    return (record.trace_id, record.span_id, record.time, record.name, record.body, record.attributes)


def _item(plain: tuple[Any, ...], origin: Origin) -> Telemetry:
    if len(plain) == 6:
        return LogRecord(*plain, origin)
    events = [Event(*event) for event in plain[8]]
    return Span(*plain[:7], attributes=plain[7], events=events, error=plain[9], origin=origin, truncated=plain[10])
