"""ATIF documents, whoever wrote them, as a source: spans are made of what they tell.

A document is one item, and what it refers to belongs to its session; where the telemetry that it was made of is
converted too, that is told and not the document.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from spanrelay import _json
from spanrelay.assembly.atif import AtifError, Step, Trajectory, family, moment_of
from spanrelay.otlp_in.telemetry import LogRecord, Origin, Span, TranscriptLine, Unreadable
from spanrelay.otlp_in.trajectories.telling import Source, nanoseconds, told
from spanrelay.otlp_in.transcripts.lines import in_order
from spanrelay.records import JSON, SpanRecord

NAME = "atif"

MARKS = (b'"ATIF-v1.',)
"""What stands in the beginning of a document, and hardly in other files."""


def line_of(value: JSON, place: str) -> TranscriptLine | None:
    """Return the item that a JSON value is, or None where it is no ATIF document; `place` is its file.

    Raises:
        Unreadable: it breaks the schema.
    """
    if not isinstance(value, dict) or not str(value.get("schema_version")).startswith("ATIF-v"):
        return None
    try:
        document = Trajectory.from_json(value)
    except AtifError as error:
        raise Unreadable(f"a trajectory that is not as ATIF has it: {error}") from error
    session = document.session_id or document.trajectory_id or _digest(value)
    others = {ref for each in family(document) for ref in _sessions_in(each) if ref != session}
    times = [moment for step in document.steps if (moment := _moment(step))]
    line = {"document": value, "folder": str(Path(place).parent)}
    return TranscriptLine(NAME, session, (session, *sorted(others)), min(times, default=0), line)


def is_from(_origin: Origin) -> bool:
    """Whether telemetry is a document's: none is."""
    return False


def records_of(_spans: list[Span], _logs: list[LogRecord], lines: list[TranscriptLine]) -> list[SpanRecord]:
    """Return the records of documents, each once: of those that have one id, the longest."""
    sources: dict[str, Source] = {}
    for line in in_order(lines, lambda line: (line.time, line.sessions)):
        source = _source_of(line)
        known = sources.get(source.key)
        if known is None or len(known.document.steps) < len(source.document.steps):
            sources[source.key] = source
    return told(list(sources.values()))


def _source_of(line: TranscriptLine) -> Source:
    session, document = line.sessions[0], Trajectory.from_json(line.line["document"])
    own = document.trajectory_id or _digest(line.line["document"])
    return Source(document, f"{session}\0{own}", session, Path(line.line["folder"]))


def _digest(value: JSON) -> str:
    return hashlib.sha256(_json.dumps_sorted(value).encode()).hexdigest()[:32]


def _sessions_in(document: Trajectory) -> Iterator[str]:
    """Yield the sessions that steps refer to, which are those of sub-agents' documents."""
    for step in document.steps:
        for result in step.observation.results if step.observation else []:
            for ref in result.subagent_trajectory_ref or []:
                if ref.session_id:
                    yield ref.session_id


def _moment(step: Step) -> int:
    moment = moment_of(step.timestamp) if step.timestamp else None
    return nanoseconds(moment) if moment is not None else 0
