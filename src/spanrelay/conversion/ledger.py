"""Which groups a folder has the documents of, so that a conversion goes on where the last one was broken off.

A group is known by what was gathered of it: with more of it read, or under another version, it is written again. Who
may write one under another name than before, or be killed at it, has its names announced before.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import IO, cast

from spanrelay import _json
from spanrelay.conversion.documents import Written
from spanrelay.conversion.grouping import Group
from spanrelay.records import JSON

NAME = ".spanrelay-convert"


class Ledger:
    """The file in a folder of documents that says whose they are: a line a group, and one a document announced."""

    def __init__(self, folder: Path, form: str, name: str = NAME) -> None:
        self._folder = folder
        self._path = folder / name
        self._seal = f"{version('spanrelay')} {form}"
        self._earlier = self._opened()
        self._known = self._read()
        self._file: IO[bytes] | None = None

    def _opened(self) -> IO[bytes] | None:
        try:
            return self._path.open("rb")
        except OSError:
            return None

    def _read(self) -> dict[str, int]:
        """Return where the last line of each group is, in the order of those; it is read when it is asked for."""
        known: dict[str, int] = {}
        for place, entry in self._entries():
            if "seal" in entry:
                known.pop(str(entry["group"]), None)
                known[str(entry["group"])] = place
        return known

    def _entries(self) -> Iterator[tuple[int, dict[str, JSON]]]:
        """Yield what an earlier run noted, each with its place; what was cut off, as by a kill, is left out."""
        if self._earlier is None:
            return
        place = self._earlier.seek(0)
        for line in self._earlier:
            with suppress(ValueError):
                entry = _json.loads(line)
                if isinstance(entry, dict) and "group" in entry:
                    yield place, cast("dict[str, JSON]", entry)
            place += len(line)

    def _entry(self, key: str) -> dict[str, JSON] | None:
        """Return what an earlier run noted of a group."""
        place = self._known.get(key)
        if place is None or self._earlier is None:
            return None
        self._earlier.seek(place)
        return _json.loads(self._earlier.readline())

    def find(self, group: Group) -> Written | None:
        """Return what was written of a group, where it is all there still."""
        entry = self._entry(group.key)
        if entry is None or entry.get("seal") != self._seal_of(group):
            return None
        names = entry.get("documents")
        if not isinstance(names, list) or not all((self._folder / str(name)).is_file() for name in names):
            return None
        return Written(unchanged=len(names), steps=int(entry.get("steps") or 0), names=names)

    def documents(self) -> dict[str, str]:
        """Return what earlier runs have written, by the names of documents: the key of the group that each is of.

        Among them are those that a run was killed at, and those that it had not yet removed after it wrote others.
        """
        found: dict[str, str] = {}
        for _, entry in self._entries():
            names = entry.get("documents")
            found |= dict.fromkeys(map(str, names if isinstance(names, list) else ()), str(entry["group"]))
        return {name: key for name, key in found.items() if Path(name).name == name and (self._folder / name).exists()}

    def announce(self, group: Group, name: str) -> None:
        """Remember that a document of a group is about to be there."""
        self._append({"group": group.key, "documents": [name]})

    def note(self, group: Group, written: Written) -> None:
        """Remember that a group has been written."""
        if written.faults:
            return
        seal = self._seal_of(group)
        self._append({"group": group.key, "seal": seal, "documents": written.names, "steps": written.steps})

    def _append(self, entry: dict[str, JSON]) -> None:
        if self._file is None:
            self._file = self._path.open("ab")
            self._file.write(b"\n" if self._is_torn() else b"")
        self._file.write(_json.dumps(entry) + b"\n")
        self._file.flush()

    def _is_torn(self) -> bool:
        """Whether the last line was cut off: what is written next must not go on in it."""
        if self._earlier is None or not self._earlier.seek(0, os.SEEK_END):
            return False
        self._earlier.seek(-1, os.SEEK_END)
        return self._earlier.read() != b"\n"

    def _seal_of(self, group: Group) -> str:
        """Return what is another wherever something else was gathered."""
        said = [(trace.key, trace.count, trace.start, trace.end) for trace in group.traces]
        called = [sorted(group.called.items())] if group.called else []
        return hashlib.sha256(_json.dumps([self._seal, said, *called])).hexdigest()[:32]

    def close(self) -> None:
        """Let the file go."""
        for file in (self._earlier, self._file):
            if file is not None:
                file.close()
