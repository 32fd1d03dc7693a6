"""Trajectories that are kept in memory and written nowhere: for tests, notebooks, and disks that may not be written.

What is kept is bounded: where it grows too large, the documents that were quiet for longest go.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from spanrelay._guard import losses
from spanrelay.assembly import spool
from spanrelay.assembly.spool import Operation
from spanrelay.records import JSON


class MemoryJournal:
    """The operations of one document, as the lines that a file would have."""

    __slots__ = ("_lines", "_memory", "full", "gone", "size")

    def __init__(self, memory: Memory) -> None:
        self.full = self.gone = False
        self.size = 0
        """Bytes of its lines."""
        self._memory = memory
        self._lines: list[bytes] = []

    def write(self, operation: Operation) -> None:
        """Take in one operation."""
        line = self._memory.line_of(operation)
        self._lines.append(line)
        self.size += len(line)
        self._memory.has_grown(self, len(line))

    def document(self) -> dict[str, JSON] | None:
        """Return the document so far, or None while it has no step, or once it has gone."""
        return spool.replayed(self._lines)

    def forget(self) -> None:
        """Let all of it go."""
        self.gone, self.size = True, 0
        self._lines.clear()


class Memory:
    """The documents of a process, `max_bytes` of them; `mask` is applied to each line."""

    def __init__(self, max_bytes: int, mask: Callable[[bytes], bytes] | None = None) -> None:
        self._max_bytes, self._mask = max_bytes, mask
        self._size = 0
        self._journals: OrderedDict[int, MemoryJournal] = OrderedDict()

    def open(self, name: str) -> MemoryJournal:
        """Begin a document."""
        return MemoryJournal(self)

    def line_of(self, operation: Operation) -> bytes:
        """Return an operation as the line that is kept of it."""
        line = spool.line_of(operation)
        return line if self._mask is None else self._mask(line)

    def has_grown(self, journal: MemoryJournal, size: int) -> None:
        """Make room for what a document has come to have more."""
        if journal.gone:
            return
        self._journals[id(journal)] = journal
        self._journals.move_to_end(id(journal))
        self._size += size
        while self._size > self._max_bytes and len(self._journals) > 1:
            _, oldest = self._journals.popitem(last=False)
            self._size -= oldest.size
            oldest.forget()
            losses.add("trajectories kept in memory until there was no more room")
        journal.full = self._size > self._max_bytes

    def put(self, data: bytes, folder: str, extension: str) -> str:
        """Return the path that a medium would have beside a document; it is not kept."""
        return spool.path_of_media(spool.masked_medium(data, self._mask), folder, extension)
