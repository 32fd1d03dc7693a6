"""The ways into trajectories: a writer, or a keeper, that a processor feeds as spans start and end; a SpanExporter.

Neither ever fails the application, and neither takes in a span twice.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from spanrelay._guard import failed, guarded
from spanrelay.assembly import replay
from spanrelay.assembly.assembler import Assembler
from spanrelay.assembly.crew import Crew
from spanrelay.assembly.document import Journal
from spanrelay.assembly.duplicates import contains
from spanrelay.assembly.memory import Memory
from spanrelay.assembly.order import GRACE
from spanrelay.assembly.sinks import DirectoryJournal, TrajectoryDirectory
from spanrelay.assembly.tree import Key
from spanrelay.records import JSON, SpanRecord
from spanrelay.semconv.spans import record_of

DIRECTORY = "./.spanrelay/trajectories"

REST = 20
"""After rendering, the writer leaves the disk in peace for this many times as long as rendering took."""

MAX_PARTS = 64
"""Growing documents that a writer keeps files open for, unless more have open spans."""

MADE_ROOM = 32
"""Quiet documents that are finished together, where there would be more than that."""

MAX_WAITING = 8192
"""Spans that an exporter holds back until the root of their trace has come."""

MAX_SEEN = 65_536
"""Spans that an exporter remembers, so that none is taken in twice."""

KEPT_BYTES = 64 << 20
"""Bytes of trajectories, at most, that are kept in memory."""


class TrajectoryWriter:
    """Writes trajectories of this process into `directory`; one thread calls everything.

    `max_bytes` bounds the whole directory; `mask` is applied to every line that is written; `on_first` is called
    when the first document has been written; `version` is ATIF's, 1.7 or 1.8; `name` is the pattern of file names, in
    which `{session}`, `{trace}`, `{agent}` and `{service}` may stand.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] = DIRECTORY,
        *,
        max_bytes: int = 1 << 30,
        mask: Callable[[bytes], bytes] | None = None,
        on_first: Callable[[], None] | None = None,
        version: str = "1.7",
        name: str = "{session}",
    ) -> None:
        self.directory = TrajectoryDirectory(Path(directory), max_bytes, mask, on_first)
        self._journals: dict[int, DirectoryJournal] = {}
        self._changes: list[DirectoryJournal] = []
        self._assembler = Assembler(self._open, self.directory, self._closed, f"ATIF-v{version}", name)
        self._crew = Crew()
        self._rest_until = 0.0
        self._done = False

    def _open(self, name: str) -> Journal:
        return DirectoryJournal(self.directory, name, self._changed)

    def _changed(self, journal: DirectoryJournal) -> None:
        self._journals.pop(id(journal), None)
        if len(self._journals) >= MAX_PARTS:
            self._make_room()
        self._journals[id(journal)] = journal
        self._changes.append(journal)

    def _make_room(self) -> None:
        """Finish documents whose sessions have been quiet for longest, several at once: each part is an open file."""
        quiet: list[DirectoryJournal] = []
        for journal in self._journals.values():
            if self._assembler.complete(journal):
                quiet.append(journal)
            if len(quiet) == MADE_ROOM:
                break
        self._finish_all(quiet)

    def _closed(self, journal: Journal) -> None:
        """Finish the document of a session that is closed to make room."""
        if id(journal) in self._journals:
            self._finish(self._journals[id(journal)])

    def _finish_all(self, journals: list[DirectoryJournal], *, last: bool = False) -> bool:
        """Write documents as finished; False where one could not be."""
        for journal in journals if not last else ():
            with guarded("building a trajectory"):
                self._assembler.settle(journal)
        finished = self._crew.all_of([partial(_finished, journal, last) for journal in journals])
        for journal, is_finished in zip(journals, finished, strict=True):
            if is_finished:
                self._journals.pop(id(journal), None)
        return all(finished)

    def _finish(self, journal: DirectoryJournal, *, last: bool = False) -> bool:
        """Write a document as finished; until it changes again there is nothing to keep up to date."""
        finished = journal.finish(last=last)
        if finished:
            self._journals.pop(id(journal), None)
        return finished

    def expect(self, record: SpanRecord) -> None:
        """Hear of a complete span that will be taken in later."""
        with guarded("reading what a span carries"):
            self._assembler.expect(record)

    def start(self, record: SpanRecord) -> None:
        """Take in the start of a span."""
        try:
            self._assembler.start(record)
        except Exception as error:
            failed("taking in the start of a span", error)
        self._hand_over()

    def end(self, record: SpanRecord) -> None:
        """Take in a complete span; what it adds is the operating system's when this returns."""
        try:
            self._assembler.end(record)
        except Exception as error:
            failed("building a trajectory", error)
        self._hand_over()

    def _hand_over(self) -> None:
        if self._changes:
            changes, self._changes = self._changes, []
            for journal in changes:
                try:
                    if not journal.hand_over():
                        self._changes.append(journal)
                except Exception as error:
                    failed("writing a trajectory", error)

    @property
    def dirty(self) -> bool:
        """Whether a document on disk is behind, so that `idle` has something to do."""
        return self._assembler.waiting or any(journal.dirty for journal in self._journals.values())

    def idle(self) -> None:
        """Bring one document up to date if there is time: call this whenever there is nothing else to do."""
        with guarded("building a trajectory"):
            self._assembler.pass_time(time.time_ns())
        self._hand_over()
        now = time.monotonic()
        if now < self._rest_until:
            return
        for journal in self._journals.values():
            if journal.dirty:
                with guarded("rendering a trajectory"):
                    whole = self._assembler.complete(journal)
                    if whole:
                        self._assembler.settle(journal)
                    journal.bring_up_to_date(whole=whole)
                if journal.dirty:  # it could not be written: the others come first
                    self._journals[id(journal)] = self._journals.pop(id(journal))
                done = time.monotonic()
                self._rest_until = done + REST * (done - now)
                return

    def flush(self, timeout_s: float = 30.0) -> bool:
        """Bring all documents up to date; False where time did not suffice for all, or one could not be written.

        Documents whose spans have all ended need their parts no more; they are taken up again if more comes.
        """
        deadline = time.monotonic() + timeout_s
        with guarded("building a trajectory"):
            self._assembler.pass_time(time.time_ns() + GRACE)
        written = self._finish_all([each for each in self._journals.values() if self._assembler.complete(each)])
        for journal in list(self._journals.values()):
            if time.monotonic() > deadline:
                return False
            with guarded("rendering a trajectory"):
                written = journal.render() and written
        return written

    def documents(self, session: str | None, span: Key | None) -> list[dict[str, JSON]]:
        """Return the documents of a session, or of a span, as `flush` would write them now; of all given neither."""
        found = documents_of(self._assembler, session, span)
        self._hand_over()
        return found

    def sessions(self) -> list[str]:
        """Return the sessions that there are documents of, the latest last."""
        return self._assembler.sessions()

    def shutdown(self) -> None:
        """Write everything, what has not ended included. Nothing comes after."""
        if self._done:
            return
        self._done = True
        with guarded("closing trajectories"):
            self._assembler.close()
        self._finish_all(list(self._journals.values()), last=True)


class TrajectoryKeeper:
    """Keeps trajectories of this process in memory; one thread calls everything.

    `max_bytes` bounds what is kept; `mask` is applied to every line; `version` is ATIF's, 1.7 or 1.8.
    """

    dirty = False
    """There is no file to bring up to date."""

    def __init__(
        self, max_bytes: int = KEPT_BYTES, mask: Callable[[bytes], bytes] | None = None, version: str = "1.7"
    ) -> None:
        memory = Memory(min(max_bytes, KEPT_BYTES), mask)
        self._assembler = Assembler(memory.open, memory, None, f"ATIF-v{version}")
        self._done = False

    def start(self, record: SpanRecord) -> None:
        """Take in the start of a span."""
        with guarded("taking in the start of a span"):
            self._assembler.start(record)

    def end(self, record: SpanRecord) -> None:
        """Take in a complete span."""
        with guarded("building a trajectory"):
            self._assembler.end(record)

    def idle(self) -> None:
        """Nothing waits for its time: what is asked for is made then."""

    def flush(self, timeout_s: float = 30.0) -> bool:
        """Nothing is written."""
        return True

    def documents(self, session: str | None, span: Key | None) -> list[dict[str, JSON]]:
        """Return the documents of a session, or of a span, as they are now; of all given neither."""
        return documents_of(self._assembler, session, span)

    def sessions(self) -> list[str]:
        """Return the sessions that there are documents of, the latest last."""
        return self._assembler.sessions()

    def shutdown(self) -> None:
        """Take in what has not ended. Nothing comes after."""
        if not self._done:
            self._done = True
            with guarded("closing trajectories"):
                self._assembler.close()


def documents_of(assembler: Assembler, session: str | None, span: Key | None) -> list[dict[str, JSON]]:
    """Return documents as they are now, what waits included; one that cannot be read is left out, and counted."""
    with guarded("building a trajectory"):
        assembler.pass_time(time.time_ns() + GRACE)
    found: list[dict[str, JSON]] = []
    for journal in assembler.journals(session, span):
        with guarded("reading a trajectory"):
            if assembler.complete(journal):
                assembler.settle(journal)
            document = journal.document()
            if document is not None:
                found.append(document)
    return found


def _finished(journal: DirectoryJournal, last: bool) -> bool:
    with guarded("rendering a trajectory"):
        return journal.finish(last=last)
    return False


class AtifSpanExporter(SpanExporter):
    """Exports any spans, of whatever instrumentation, as ATIF trajectories into `directory`.

    Traces wait until their root has ended, since only then their shape is known; `force_flush` and `shutdown`
    write what is there. `max_bytes`, `mask`, `version` and `name` are as `TrajectoryWriter` takes them.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] = DIRECTORY,
        max_bytes: int = 1 << 30,
        mask: Callable[[bytes], bytes] | None = None,
        version: str = "1.7",
        name: str = "{session}",
    ) -> None:
        self._directory, self._max_bytes, self._mask = directory, max_bytes, mask
        self._version, self._name = version, name
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._writer = TrajectoryWriter(
            self._directory, max_bytes=self._max_bytes, mask=self._mask, version=self._version, name=self._name
        )
        self._waiting: OrderedDict[int, list[SpanRecord]] = OrderedDict()
        self._rooted: OrderedDict[int, None] = OrderedDict()
        self._seen: OrderedDict[tuple[int, int], None] = OrderedDict()
        self._young: set[int] = set()

    def _alone(self) -> threading.Lock:
        """Return the lock to hold while spans are taken in or written: who flushes is another thread, as a rule."""
        if os.getpid() != self._process:  # a forked child: what stands here is its parent's to write
            self._begin()
        return self._lock

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Take in a batch of ended spans, in any order."""
        with self._alone(), guarded("exporting spans to trajectories"):
            self._take_in(record_of(span) for span in spans)
            self._feed(self._ready())
            self._writer.idle()
        return SpanExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Write all that is there; False where time did not suffice."""
        with self._alone():
            with guarded("flushing trajectories"):
                self._feed(list(self._waiting))
            return self._writer.flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        """Write all that is there; nothing comes after."""
        with self._alone():
            with guarded("closing trajectories"):
                self._feed(list(self._waiting))
            self._writer.shutdown()

    def _take_in(self, records: Iterable[SpanRecord]) -> None:
        self._young = set[int]()
        for record in records:
            key = (record.trace_id, record.span_id)
            if record.omitted is not None:
                self._writer.expect(record)  # one that is sent again may carry something else
            if key in self._seen:
                continue
            self._seen[key] = None
            self._waiting.setdefault(record.trace_id, []).append(record)
            if record.parent_id is None or record.remote_parent:
                self._rooted[record.trace_id] = None
                self._young.add(record.trace_id)
        _shorten(self._seen, MAX_SEEN)
        _shorten(self._rooted, MAX_SEEN)

    def _ready(self) -> list[int]:
        """Return the traces that can be written: their root has come, is lost, or there is no more room to wait."""
        self._rooted.update(dict.fromkeys(self._rootless()))
        ready = [trace for trace in self._waiting if trace in self._rooted and not self._may_be_double(trace)]
        excess = sum(map(len, self._waiting.values())) - MAX_WAITING
        for trace, records in self._waiting.items():
            if excess <= 0:
                break
            if trace not in ready:
                ready.append(trace)
            excess -= len(records)
        return ready

    def _rootless(self) -> list[int]:
        """Return the traces whose root is lost: a later turn of their session has come whole, and has to follow them.

        Nothing of such a trace is younger than the beginning of that turn; one that still runs goes on waiting.
        """
        later: dict[str, int] = {}
        for trace in self._young:
            records = self._waiting.get(trace, ())
            start = min((record.start for record in records), default=0)
            for name in {str(record.session_id) for record in records if record.session_id}:
                later[name] = max(later.get(name, 0), start)
        if not later:
            return []
        waiting = ((trace, records) for trace, records in self._waiting.items() if trace not in self._rooted)
        return [trace for trace, records in waiting if any(_precedes(records, *each) for each in later.items())]

    def _may_be_double(self, trace: int) -> bool:
        """Whether a lone model call may belong to a framework's span whose trace has not come as a whole."""
        records = self._waiting[trace]
        if len(records) != 1 or records[0].kind != "llm" or records[0].session_id is not None:
            return False
        around = [
            name
            for name, others in self._waiting.items()
            if name != trace and any(o.kind == "llm" and contains(o, records[0]) for o in others)
        ]
        if any(name in self._rooted for name in around):
            return False
        return bool(around) or trace in self._young

    def _feed(self, traces: list[int]) -> None:
        records = [record for trace in traces for record in self._waiting.pop(trace)]
        for is_end, record in replay.in_order(records):
            if is_end:
                self._writer.end(record)
            else:
                self._writer.start(record)


def _precedes(records: list[SpanRecord], session: str, start: int) -> bool:
    """Whether all that has come of a trace ended before `start`, and some of it names the session."""
    if any((record.end or 0) > start for record in records):
        return False
    return any(record.session_id and str(record.session_id) == session for record in records)


def _shorten(table: OrderedDict[int, None] | OrderedDict[tuple[int, int], None], limit: int) -> None:
    while len(table) > limit:
        table.popitem(last=False)
