"""What is known of the documents of a folder, in a file beside them, so that they need not all be read again.

It is never needed: a document that has changed since is read, and so are all where the index is damaged or of another
version. What stands in it is text, as what stands in documents, since anybody may have written either.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import stat
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import orjson

from spanrelay import _json
from spanrelay.assembly.sinks import write_whole
from spanrelay.evaluation.caches import CacheFigures
from spanrelay.evaluation.durations import Durations
from spanrelay.evaluation.figures import Figures, Tally
from spanrelay.view.entries import CALLS, Entry
from spanrelay.view.summary import Summary

NAME = ".spanrelay-index"
LEAST = 200
"""Documents of a folder that an index is worth."""
_LARGEST = 1 << 30
"""Bytes of an index that is read."""

T = TypeVar("T")

State = tuple[int, int]
"""The size and the time of a file, in nanoseconds: what is known of it holds as long as both stay."""


class Index:
    """What is known of the documents in a folder, and in those within it.

    Args:
        folder: It need not be there, nor have an index.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._prefix = b"" if folder == Path() else os.fsencode(folder / "x")[:-1]
        self._known = _read(folder / NAME)
        self._seen: dict[bytes, tuple[State, bytes]] = {}
        self._new = False

    def entry(self, path: Path) -> Entry | None:
        """Return what is kept of a document; None where it is to be read."""
        name = self._name(path)
        known = self._known.get(name)
        if known is None or known[0] != state_of(path):
            return None
        entry = _unpacked(known[1])
        if entry is not None:
            self._seen[name] = known
        return entry

    def begun(self, path: Path) -> float | None:
        """Return when a document began, in seconds since the epoch; None where it is to be read."""
        known = self._known.get(self._name(path))
        if known is None or known[0] != state_of(path):
            return None
        with contextlib.suppress(ValueError):
            begun = float(known[1][1 : known[1].find(b",")])
            return begun if math.isfinite(begun) else None
        return None

    def keep(self, path: Path, state: State | None, entry: Entry) -> None:
        """Keep what is to be kept of a document; `state` is that from before it was read."""
        name = self._name(path)
        with contextlib.suppress(ValueError, OverflowError, TypeError):  # a time or a number beyond all measure
            if state is not None and b"\n" not in name:
                data = _json.fitting(orjson.dumps(_packed(entry)))
                self._known[name] = self._seen[name] = state, data
                self._new = True

    def save(self) -> None:
        """Write what was asked for or kept since the folder was read, where that is much, and other than before.

        A folder that cannot be written to has no index.
        """
        if len(self._seen) < LEAST or not (self._new or len(self._seen) < len(self._known)):
            return
        lines = (b"%d\t%d\t%s\t%s\n" % (*state, data, name) for name, (state, data) in self._seen.items())
        with contextlib.suppress(OSError):
            write_whole(self.folder / NAME, chain([_HEAD], lines), sync=False)
            self._new = False

    def _name(self, path: Path) -> bytes:
        return os.fsencode(path).removeprefix(self._prefix)


def state_of(path: Path) -> State | None:
    """Return the state of a file; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _read(path: Path) -> dict[bytes, tuple[State, bytes]]:
    """Return what an index says, by the names of files; nothing where any of it is not as we write it."""
    known: dict[bytes, tuple[State, bytes]] = {}
    try:
        # Never through a link, nor waiting for the other end of a pipe: the folder may be shared.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with io.BufferedReader(io.FileIO(handle)) as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST or file.readline(len(_HEAD)) != _HEAD:
                return {}
            for line in file:
                size, changed, data, name = line[:-1].split(b"\t", 3)
                known[name] = (int(size), int(changed)), data
    except (OSError, ValueError):
        return {}
    return known


# ── entries as JSON


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError
    return value


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError
    return value


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError
    return value


def _optional(read: Callable[[Any], T]) -> Callable[[Any], T | None]:
    return lambda value: None if value is None else read(value)


def _durations(value: Any) -> Durations:
    found = Durations()
    for seconds, times in value:
        found.add(_number(seconds), _count(times))
    return found


def _counter(value: Any) -> Counter[str]:
    return Counter({_text(name): _count(times) for name, times in value.items()})


Table = Mapping[str, Callable[[Any], Any]]
"""The fields of what is kept, each with what reads it again; it raises where it is not as we write it."""

LINE: Table = {
    "agent": _text,
    "model": _text,
    "session": _text,
    "words": _text,
    "steps": _count,
    "tokens": _optional(_whole),
    "cost": _optional(_number),
    "errors": _count,
}
"""Of a `Summary`, but for when it began."""

FIGURES: Table = {
    **dict.fromkeys(("runs", "calls", "tool_calls", "errors", "priced_calls"), _count),
    **dict.fromkeys(("prompt_tokens", "completion_tokens", "cached_tokens"), _optional(_whole)),
    "cost_usd": _optional(_number),
    "durations": _durations,
}
CACHES: Table = {
    **dict.fromkeys(("calls", "observed"), _count),
    **dict.fromkeys(("prompt_tokens", "read_tokens", "written_tokens", "saved_tokens"), _whole),
    "saved_usd": _optional(_number),
    "missed": _counter,
}
TALLY = {
    "agents": (Figures, FIGURES),
    "models": (Figures, FIGURES),
    "tools": (Figures, FIGURES),
    "caches": (CacheFigures, CACHES),
}
"""The rows of a `Tally`, beside its `total`."""

_HEAD = orjson.dumps([NAME, 1, *map(list, (LINE, FIGURES, CACHES, TALLY))]) + b"\n"
"""The first line, which is another where the rest is to be read otherwise."""


def _packed(entry: Entry) -> list[Any]:
    tally = entry.tally
    rows = [
        {name: _values(row, table) for name, row in getattr(tally, kind).items()} for kind, (_, table) in TALLY.items()
    ]
    return [entry.line.begun.timestamp(), _values(entry.line, LINE), _values(tally.total, FIGURES), rows, entry.growth]


def _values(row: object, table: Table) -> list[Any]:
    found = [getattr(row, name) for name in table]
    return [list(value.items()) if isinstance(value, Durations) else value for value in found]


def _unpacked(data: bytes) -> Entry | None:
    """Return an entry; None where any of it is not as we write it."""
    try:
        begun, line, total, rows, growth = orjson.loads(data)
        begun = datetime.fromtimestamp(_number(begun)).astimezone()
        kinds = zip(TALLY.items(), rows, strict=True)
        tally: dict[str, dict[str, Any]] = {
            kind: {_text(name): of(**_read_values(row, table)) for name, row in each.items()}
            for (kind, (of, table)), each in kinds
        }
        counts = [(_count(prompt), _count(cached), _count(written)) for prompt, cached, written in growth[:CALLS]]
        summary = Summary(begun=begun, **_read_values(line, LINE))
        return Entry(summary, Tally(documents=1, total=Figures(**_read_values(total, FIGURES)), **tally), counts)
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError, OSError):
        return None


def _read_values(given: list[Any], table: Table) -> dict[str, Any]:
    return {name: read(value) for (name, read), value in zip(table.items(), given, strict=True)}
