"""What was recorded, whatever form it came in: spans and log records with who recorded them, and transcripts.

Plain data: attribute values are text, booleans, numbers, bytes, and lists and dicts of these. Times are nanoseconds
since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from spanrelay.semconv import names


class Origin(NamedTuple):
    """Who recorded: the attributes of the resource, the instrumentation scope's name and version."""

    resource: dict[str, Any]
    scope: str | None = None
    version: str | None = None


class Event(NamedTuple):
    """An event of a span."""

    name: str
    time: int
    attributes: dict[str, Any]


@dataclass(slots=True)
class Span:
    """A span that has ended. `error` is the text of its status where that says that it failed."""

    trace_id: int
    span_id: int
    parent_id: int | None
    remote_parent: bool
    name: str
    start: int
    end: int
    attributes: dict[str, Any]
    events: list[Event]
    error: str | None
    origin: Origin
    truncated: bool = False


@dataclass(slots=True)
class LogRecord:
    """A log record; `name` is that of its event. It is of a span where it has the ids of one.

    `uid` is what it and its duplicates have alone (OpenTelemetry's `log.record.uid`), which `attributes` are without.
    """

    trace_id: int | None
    span_id: int | None
    time: int
    name: str | None
    body: Any
    attributes: dict[str, Any]
    origin: Origin = field(default=Origin({}))
    uid: str | None = None


def taken_uid(attributes: dict[str, Any]) -> str | None:
    """Return the uid that a log record's attributes say, and take it from them: none where it is no text."""
    uid = attributes.pop(names.LOG_RECORD_UID, None)
    return uid if isinstance(uid, str) else None


@dataclass(slots=True)
class TranscriptLine:
    """A line of the transcript that a coding agent keeps of a session itself.

    `file` is what all lines of one file have in common, and those of a file of its own that says what it is;
    `sessions` are those that the line names.
    """

    agent: str
    file: str
    sessions: tuple[str, ...]
    time: int
    line: dict[str, Any]


Telemetry: TypeAlias = Span | LogRecord | TranscriptLine


class Unreadable(ValueError):
    """Data that is not what it should be; its text says what it is instead, and what was expected."""
