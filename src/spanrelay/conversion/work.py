"""A whole conversion: everything is read, and each group becomes documents; nothing is lost without a word."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from spanrelay.conversion.documents import Documents, Folder, Written
from spanrelay.conversion.gathering import Gathering, Group
from spanrelay.conversion.store import Store
from spanrelay.conversion.traces import events_of
from spanrelay.otlp_in import files
from spanrelay.otlp_in.files import Finding, Found

Source = Path | tuple[str, IO[bytes]]
"""A file, or a stream with what it is called."""


@dataclass(slots=True)
class Summary:
    """What a conversion came to."""

    spans: int = 0
    logs: int = 0
    sessions: int = 0
    documents: int = 0
    unchanged: int = 0
    steps: int = 0
    silent: int = 0
    """Spans and log records of groups that no document came of."""
    findings: list[Finding] = field(default_factory=list[Finding])

    def count(self, group: Group, written: Written, place: str) -> None:
        """Add what became of a group."""
        made = written.documents + written.unchanged
        self.sessions += bool(made)
        self.documents += written.documents
        self.unchanged += written.unchanged
        self.steps += written.steps
        self.findings += [Finding(place, fault) for fault in written.faults]
        if not made and not written.faults:
            self.silent += sum(len(trace.places) for trace in group.traces)


def convert(
    sources: Iterable[Source],
    folder: Folder,
    *,
    version: str = "1.7",
    tell: Callable[[str, int, int], None] = lambda phase, done, total: None,
) -> Summary:
    """Convert sources into trajectories in `folder`.

    Args:
        sources: What to read.
        folder: Where the documents go.
        version: ATIF's: 1.7 or 1.8.
        tell: Called with the phase (`read`, `write`), how much of it is done, and of how much; 0 where that is unknown.

    Raises:
        SpanRelayError: a source cannot be opened.
    """
    summary = Summary()
    with tempfile.TemporaryDirectory(prefix="spanrelay-") as scratch:
        store = Store(Path(scratch) / "items")
        try:
            gathering = Gathering(store)
            for number, source in enumerate(sources):
                _gather(source, gathering, summary.findings.append)
                tell("read", number + 1, 0)
            summary.spans, summary.logs = gathering.spans, gathering.logs
            groups = list(gathering.groups())
            for number, group in enumerate(groups):
                written = Documents(folder, version).add(events_of(group, store))
                summary.count(group, written, group.session or group.key)
                tell("write", number + 1, len(groups))
        finally:
            store.close()
    return summary


def _gather(source: Source, gathering: Gathering, found: Found) -> None:
    items = files.read(source, found) if isinstance(source, Path) else files.read_stream(source[1], source[0], found)
    for item in items:
        gathering.add(item)
