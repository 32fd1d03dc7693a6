"""Spans as `ReadableSpan.to_json()` prints them, made into records the way a reader of spans does it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from tests.shared_data import SHARED

from spanrelay import semconv
from spanrelay.records import ErrorInfo, Mark, SpanRecord

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def dump(name: str) -> list[dict[str, Any]]:
    """Return the spans of one recorded run."""
    assert SHARED is not None
    return json.loads((SHARED / "spans" / f"{name}.json").read_text())


def record_from_json(span: Mapping[str, Any]) -> SpanRecord:
    """Return the record of a printed span: its own facts first, then its attributes in any dialect."""
    parent = span["parent_id"]
    resource = span["resource"]["attributes"]
    record = SpanRecord(
        trace_id=int(span["context"]["trace_id"], 16),
        span_id=int(span["context"]["span_id"], 16),
        parent_id=int(parent, 16) if parent else None,
        name=span["name"],
        start=_nanoseconds(span["start_time"]),
        end=_nanoseconds(span["end_time"]),
        marks=[Mark(event["name"], _nanoseconds(event["timestamp"]), event["attributes"]) for event in span["events"]],
        service_name=resource.get("service.name"),
        service_version=resource.get("service.version"),
    )
    record.error = _error(span["status"], record.marks)
    semconv.read(span["attributes"], record)
    return record


def _nanoseconds(time: str) -> int:
    since = datetime.fromisoformat(time.replace("Z", "+00:00")) - _EPOCH
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000


def _error(status: Mapping[str, Any], marks: list[Mark]) -> ErrorInfo | None:
    if status["status_code"] != "ERROR":
        return None
    for mark in marks:
        if mark.name == "exception":
            return ErrorInfo(mark.attributes["exception.type"], mark.attributes["exception.message"])
    return ErrorInfo("", status.get("description", ""))
