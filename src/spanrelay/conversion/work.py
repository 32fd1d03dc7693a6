"""A whole conversion: everything is read, and each group becomes documents; nothing is lost without a word."""

from __future__ import annotations

import errno
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TypeAlias

from spanrelay.assembly.sinks import remove_unwritten
from spanrelay.conversion.crew import Crew, Read, crew
from spanrelay.conversion.documents import Folder, Written
from spanrelay.conversion.grouping import Group, Groups
from spanrelay.conversion.ledger import Ledger
from spanrelay.errors import SpanRelayError
from spanrelay.otlp_in import files
from spanrelay.otlp_in.files import Finding, Found, Piece

Source: TypeAlias = Path | tuple[str, IO[bytes]]
"""A file, or what a stream is called and the stream."""

Tell: TypeAlias = Callable[[str, int, int], object]
"""Hears how far a conversion is: `read` or `write`, how much is done, in bytes or groups, and of how much, or 0."""

_BATCH_BYTES = 2 << 20
_BATCH_PIECES = 512


@dataclass(slots=True)
class Summary:
    """What a conversion came to."""

    spans: int = 0
    logs: int = 0
    lines: int = 0
    """Lines of coding agents' transcripts."""
    sessions: int = 0
    documents: int = 0
    unchanged: int = 0
    steps: int = 0
    unknown: Counter[str] = field(default_factory=Counter[str])
    """Spans and log records of groups that no document came of, by the scope that recorded them."""
    findings: list[Finding] = field(default_factory=list[Finding])

    def count_read(self, read: Read) -> None:
        """Add what was read."""
        self.spans += read.spans
        self.logs += read.logs
        self.lines += read.lines
        self.findings += read.findings

    def count_written(self, group: Group, written: Written) -> None:
        """Add what became of a group."""
        made = written.documents + written.unchanged
        self.sessions += bool(made)
        self.documents += written.documents
        self.unchanged += written.unchanged
        self.steps += written.steps
        self.findings += [Finding(group.session or group.key, fault) for fault in written.faults]
        if not made and not written.faults:
            for trace in group.traces:
                self.unknown.update(trace.scopes)

    @property
    def silent(self) -> int:
        """How many spans and log records no document came of."""
        return self.unknown.total()


def _heard(_phase: str, _done: int, _total: int) -> None:
    """Nobody wants to know."""


def convert(
    sources: Iterable[Source],
    folder: Folder,
    *,
    form: str = "1.7",
    jobs: int = 1,
    across_services: bool = False,
    tell: Tell = _heard,
) -> Summary:
    """Convert sources into files in `folder`.

    Args:
        sources: What to read.
        folder: Where the documents go.
        form: What is written: trajectories by a version of ATIF, 1.7 or 1.8, or the same spans in another dialect,
            `genai` or `openinference`, as OTLP JSON.
        jobs: How many processes work; with 1 it is this one.
        across_services: Whether a session is one whichever service names it, as `Groups` has it.
        tell: Hears how far it is.

    Raises:
        SpanRelayError: a source cannot be opened, the folder cannot be made, or a process was killed.
    """
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        remove_unwritten(folder.path)
    except OSError as error:
        raise SpanRelayError(f"{str(folder.path)!r} cannot be written to: {error.strerror or error}") from error
    summary = Summary()
    with (
        tempfile.TemporaryDirectory(prefix="spanrelay-") as scratch,
        crew(jobs, Path(scratch), folder, form) as all_,
        closing(Groups(across_services=across_services)) as groups,
        _room(scratch),
    ):
        _read(sources, groups, all_, summary, tell)
        _write(groups, Ledger(folder.path, form), all_, summary, tell)
    summary.findings.sort(key=lambda finding: (finding.place, finding.fault))
    return summary


@contextmanager
def _room(scratch: str) -> Generator[None]:
    """Say where there is no room, if there is none."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise SpanRelayError(
            f"what is read does not fit into {os.path.dirname(scratch)!r}, where it waits ({error.strerror}): "
            "make room there, or name another folder in TMPDIR"
        ) from error


def _read(sources: Iterable[Source], groups: Groups, all_: Crew, summary: Summary, tell: Tell) -> None:
    done = 0
    for read in all_.read(_batches(sources, summary.findings.append)):
        groups.add(read.gathered)
        summary.count_read(read)
        done += read.size
        tell("read", done, 0)


def _write(groups: Groups, ledger: Ledger, all_: Crew, summary: Summary, tell: Tell) -> None:
    done = 0

    def count(group: Group, written: Written) -> None:
        nonlocal done
        done += 1
        summary.count_written(group, written)
        tell("write", done, len(groups))

    def left() -> Iterator[Group]:
        # The largest first, so that at the end no process waits long for another.
        for group in groups.groups(largest_first=True):
            known = ledger.find(group)
            if known is None:
                yield groups.fill(group)
            else:
                count(group, known)

    try:
        for group, written in all_.write(left()):
            ledger.note(group, written)
            count(group, written)
    finally:
        ledger.close()


def _batches(sources: Iterable[Source], found: Found) -> Iterator[list[Piece]]:
    """Yield pieces, as many together as are worth handing over."""
    batch: list[Piece] = []
    size = 0
    for source in sources:
        stream = (
            files.pieces_of(source, found)
            if isinstance(source, Path)
            else files.pieces_of_stream(source[1], source[0], found)
        )
        for piece in stream:
            batch.append(piece)
            size += len(piece.data)
            if size >= _BATCH_BYTES or len(batch) >= _BATCH_PIECES:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch
