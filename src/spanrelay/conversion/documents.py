"""Documents of converted sessions, and the files they become: whole or not at all, and nothing outside of the folder.

A document that is there already with the same bytes is left alone; one that differs is replaced only if that was asked
for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

from spanrelay import _json
from spanrelay.assembly import spool
from spanrelay.assembly.assembler import Assembler
from spanrelay.assembly.sinks import stems, write_whole
from spanrelay.assembly.spool import Operation
from spanrelay.records import JSON, SpanRecord


@dataclass(slots=True)
class Written:
    """What became of the documents of a group: counts, and what could not be done."""

    documents: int = 0
    unchanged: int = 0
    steps: int = 0
    unwritten: int = 0
    names: list[str] = field(default_factory=list[str])
    faults: list[str] = field(default_factory=list[str])


def _unheard(_name: str) -> None:
    """Nobody wants to know."""


class Folder:
    """Where documents and their media go.

    Args:
        path: The folder.
        overwrite: Lets documents be replaced that are there and differ.
        mask: Is given whatever is written.
        finish: Is given each record before it is told, and returns what is told in its place.
    """

    def __init__(
        self,
        path: Path,
        *,
        overwrite: bool = False,
        mask: Callable[[bytes], bytes] | None = None,
        finish: Callable[[SpanRecord], SpanRecord] | None = None,
    ) -> None:
        self.path, self.finish = path, finish
        self.announce: Callable[[str], None] = _unheard
        """Hears the name of each document before it is there."""
        self.announce_medium: Callable[[str], None] = _unheard
        """Hears the path of each medium before it is there."""
        self._mask = mask
        self._overwrite = overwrite

    def _masked(self, data: bytes) -> bytes:
        return data if self._mask is None else self._mask(data)

    def names_for(self, name: str) -> Iterator[str]:
        """Yield file names for a document, the best first."""
        return stems(self._masked(name.encode("utf-8", "surrogatepass")).decode("utf-8", "replace"))

    def put(self, data: bytes, folder: str, extension: str) -> str:
        """Write media under the name of its hash, once, and return its path within the folder."""
        data = spool.masked_medium(data, self._mask)
        name = spool.path_of_media(data, folder, extension)
        path = self.path / name
        if not path.exists():
            self.announce_medium(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, data, sync=False)
        return name

    def write(self, name: str, document: dict[str, JSON], written: Written) -> None:
        """Write a document under a name, which has no suffix."""
        self._write(f"{name}.json", self._masked(_json.dumps(document)), written)

    def write_lines(self, name: str, lines: Iterable[bytes], written: Written) -> None:
        """Write a file of lines under a name near `name`."""
        self._write(f"{next(self.names_for(name))}.jsonl", b"".join(map(self._masked, lines)), written)

    def _write(self, name: str, data: bytes, written: Written) -> None:
        path = self.path / name
        written.names.append(name)
        try:
            if path.exists():
                if path.read_bytes() == data:
                    written.unchanged += 1
                    return
                if not self._overwrite:
                    written.faults.append(f"{path}: another document has this name; --overwrite replaces it")
                    return
            self.announce(name)
            write_whole(path, data, sync=False)  # what a loss of power takes is converted again
            written.documents += 1
        except OSError as error:
            written.unwritten += 1
            written.faults.append(f"{path}: cannot be written: {error.strerror or error}")


class _Journal:
    """The operations of one document, as lines."""

    __slots__ = ("full", "gone", "lines", "name")

    def __init__(self, name: str) -> None:
        self.full = self.gone = False
        self.name = name
        self.lines: list[bytes] = []

    def write(self, operation: Operation) -> None:
        self.lines.append(spool.line_of(operation))

    def document(self) -> dict[str, JSON] | None:
        return spool.replay(_json.loads(b"[%b]" % b",".join(self.lines)))


class Documents:
    """The documents of one group, from the starts and ends of its spans in order; `version` is ATIF's.

    `taken` are names, without a suffix, that none of them may have, nor two of them one; `called` says what those of
    some sessions are called in place of the session's name.
    """

    def __init__(self, folder: Folder, version: str, taken: Set[str], called: Mapping[str, str]) -> None:
        self._folder, self._called = folder, called
        self._journals: dict[int, _Journal] = {}
        self._taken, self._names = taken, set[str]()
        self._written = Written()
        self._assembler = Assembler(self._open, folder, self._closed, f"ATIF-v{version}")

    def _open(self, name: str) -> _Journal:
        journal = _Journal(name)
        self._journals[id(journal)] = journal
        return journal

    def _closed(self, journal: object) -> None:
        """Write the document of a session that is let go of."""
        known = self._journals.pop(id(journal), None)
        if known is not None:
            self._write(known)

    def add(self, events: Iterator[tuple[bool, SpanRecord]]) -> Written:
        """Assemble all of the group, write its documents, and tell what became of them."""
        for is_end, record in events:
            if is_end:
                self._assembler.end(record)
            else:
                self._assembler.start(record)
        self._assembler.close()
        for journal in list(self._journals.values()):
            self._assembler.settle(journal)
            self._write(journal)
        return self._written

    def _write(self, journal: _Journal) -> None:
        document = journal.document()
        if document is None:
            return
        self._written.steps += _steps_of(document)
        names = self._folder.names_for(self._called.get(journal.name, journal.name))
        name = next(name for name in names if name not in self._names and name not in self._taken)
        self._names.add(name)
        self._folder.write(name, document, self._written)


def _steps_of(document: dict[str, JSON]) -> int:
    children = document.get("subagent_trajectories") or []
    return len(document.get("steps") or []) + sum(_steps_of(child) for child in children)
