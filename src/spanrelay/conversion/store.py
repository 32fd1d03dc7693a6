"""Where telemetry waits between being read and being assembled: on disk, so that its size is no matter.

A folder of files, one for each process that reads. Spans, log records and lines of transcripts are appended, and read
again by their places. Where one process does all, what comes first is held as it is, as much as memory has room for.
"""

from __future__ import annotations

import marshal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol, TypeAlias

from spanrelay.otlp_in.telemetry import Event, LogRecord, Origin, Span, Telemetry, TranscriptLine

_FORMAT = 4
_LENGTH = 4
_BITS = 44
"""Of a place: where in its file it is; the higher ones are the file's number."""
_HELD = 1 << (_BITS - 1)
"""Of a place: whether what is there is held, and no file has it."""
_ROOM = 48 << 20
"""Bytes that what is held may come to."""
_BARE = 2_048
"""Bytes that an item has beside its texts, more or less."""
_MAX_ORIGINS = 4096
_MAX_FILES = 32
"""Files that are held open to be read."""

_NOBODY = Origin({})

Held: TypeAlias = dict[int, Telemetry]


class Store(Protocol):
    """Keeps items until they are read by their places."""

    def add(self, item: Telemetry) -> int:
        """Keep an item and return its place."""
        ...

    def flush(self) -> None:
        """Let what is kept be read."""
        ...


class Writer:
    """Appends to the file with a number, which is another for each process; `held` is where what is held goes."""

    def __init__(self, folder: Path, number: int, held: Held | None = None) -> None:
        self._held, self._room = held, 0 if held is None else _ROOM
        self._file = (folder / str(number)).open("wb", buffering=1 << 20)
        self._base = number << _BITS
        self._size = 0
        self._origins: dict[tuple[int, str | None, str | None], tuple[int, Origin]] = {}

    def expect(self, size: int) -> None:
        """Make room for items that are read from `size` bytes, which their texts come to at most."""
        self._room -= size

    def add(self, item: Telemetry) -> int:
        """Append an item and return its place."""
        if self._held is not None and self._room > 0:
            self._room -= _BARE
            place = self._base | _HELD | len(self._held)
            self._held[place] = item
            return place
        if isinstance(item, TranscriptLine):
            return self._append((None, _plain(item)))
        return self._append((self._origin(item.origin), _plain(item)))

    def _append(self, value: Any) -> int:
        data = marshal.dumps(value, _FORMAT)
        place = self._base + self._size
        self._file.write(len(data).to_bytes(_LENGTH, "little"))
        self._file.write(data)
        self._size += _LENGTH + len(data)
        return place

    def _origin(self, origin: Origin) -> int:
        """Return the place of who recorded, who is the same for many items."""
        key = (id(origin.resource), origin.scope, origin.version)
        known = self._origins.get(key)
        if known is None:
            if len(self._origins) > _MAX_ORIGINS:
                self._origins.clear()
            # With the origin itself, which keeps its resource, so that the id of that stays its own.
            known = self._origins[key] = self._append(tuple(origin)), origin
        return known[0]

    def flush(self) -> None:
        """Let what has been appended be read."""
        self._file.flush()

    def close(self) -> None:
        """Let the file go."""
        self._file.close()


class Reader:
    """Reads what has been appended to the files of a folder, and what is held: once, and then no longer."""

    def __init__(self, folder: Path, held: Held | None = None) -> None:
        self._folder = folder
        self._held: Held = {} if held is None else held
        self._files: dict[int, IO[bytes]] = {}
        self._origins: dict[int, Origin] = {}

    def read(self, places: Iterable[int]) -> Iterator[Telemetry]:
        """Yield the items at places."""
        for place in places:
            if place & _HELD:
                yield self._held.pop(place)
                continue
            at, plain = self._value(place)
            if at is None:
                yield _item(plain, _NOBODY)
                continue
            origin = self._origins.get(at)
            if origin is None:
                if len(self._origins) > _MAX_ORIGINS:
                    self._origins.clear()
                origin = self._origins[at] = Origin(*self._value(at))
            yield _item(plain, origin)

    def _value(self, place: int) -> Any:
        number = place >> _BITS
        file = self._files.get(number)
        if file is None:
            while len(self._files) >= _MAX_FILES:
                self._files.pop(next(iter(self._files))).close()
            file = self._files[number] = (self._folder / str(number)).open("rb")
        file.seek(place & ((1 << _BITS) - 1))
        return marshal.loads(file.read(int.from_bytes(file.read(_LENGTH), "little")))

    def close(self) -> None:
        """Let the files go."""
        for file in self._files.values():
            file.close()


def packed(items: Iterable[Telemetry]) -> bytes:
    """Return items as bytes, which `unpacked` of the same Python reads."""
    origins: dict[int, tuple[int, Origin]] = {}
    found: list[tuple[int, tuple[Any, ...]]] = []
    for item in items:
        origin = _NOBODY if isinstance(item, TranscriptLine) else item.origin
        number, _ = origins.setdefault(id(origin), (len(origins), origin))
        found.append((number, _plain(item)))
    return marshal.dumps(([tuple(origin) for _, origin in origins.values()], found), _FORMAT)


def unpacked(data: bytes) -> Iterator[Telemetry]:
    """Yield the items that are `packed` in data."""
    origins, found = marshal.loads(data)
    known = [Origin(*origin) for origin in origins]
    for number, plain in found:
        yield _item(plain, known[number])


def _plain(item: Telemetry) -> tuple[Any, ...]:
    if isinstance(item, Span):
        events = [tuple(event) for event in item.events]
        return (
            *(item.trace_id, item.span_id, item.parent_id, item.remote_parent, item.name, item.start, item.end),
            *(item.attributes, events, item.error, item.truncated),
        )
    if isinstance(item, LogRecord):
        return (item.trace_id, item.span_id, item.time, item.name, item.body, item.attributes, item.uid)
    return (item.agent, item.file, item.sessions, item.time, item.line)


def _item(plain: tuple[Any, ...], origin: Origin) -> Telemetry:
    if len(plain) == 5:
        return TranscriptLine(*plain)
    if len(plain) == 7:
        return LogRecord(*plain[:6], origin, plain[6])
    events = [Event(*event) for event in plain[8]]
    return Span(*plain[:7], attributes=plain[7], events=events, error=plain[9], origin=origin, truncated=plain[10])
