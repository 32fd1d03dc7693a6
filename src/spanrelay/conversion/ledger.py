"""Which groups a folder has the documents of, so that a conversion goes on where the last one was broken off.

A group is known by what was gathered of it: with more of it read, or under another version, it is written again.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import IO

from spanrelay import _json
from spanrelay.conversion.documents import Written
from spanrelay.conversion.grouping import Group
from spanrelay.records import JSON

NAME = ".spanrelay-convert"


class Ledger:
    """The file in a folder of documents that says whose they are, a line a group."""

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
        place = 0
        for line in self._earlier or ():
            try:
                key = str(_json.loads(line)["group"])
                known.pop(key, None)
                known[key] = place
            except (ValueError, TypeError, KeyError):  # cut off as the process was killed: that group is done again
                pass
            place += len(line)
        return known

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
        """Return what an earlier run wrote, by the names of documents: the key of the group that each is of."""
        found: dict[str, str] = {}
        for key in self._known:
            names = (self._entry(key) or {}).get("documents")
            found |= dict.fromkeys(map(str, names if isinstance(names, list) else ()), key)
        return {name: key for name, key in found.items() if Path(name).name == name}

    def note(self, group: Group, written: Written) -> None:
        """Remember that a group has been written."""
        if written.faults:
            return
        if self._file is None:
            self._file = self._path.open("ab")
        entry = {
            "group": group.key,
            "seal": self._seal_of(group),
            "documents": written.names,
            "steps": written.steps,
        }
        self._file.write(_json.dumps(entry) + b"\n")
        self._file.flush()

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
