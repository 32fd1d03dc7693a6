"""Spans as `ReadableSpan.to_json()` prints them, made into records the way a reader of spans does it."""

from __future__ import annotations

import json
from typing import Any

from tests.shared_data import SHARED

from spanrelay.otlp_in import sdk_json
from spanrelay.otlp_in.records import record_of
from spanrelay.records import SpanRecord


def dump(name: str) -> list[dict[str, Any]]:
    """Return the spans of one recorded run."""
    assert SHARED is not None
    return json.loads((SHARED / "spans" / f"{name}.json").read_text())


def record_from_json(span: dict[str, Any]) -> SpanRecord:
    """Return the record of a printed span: its own facts first, then its attributes in any dialect."""
    return record_of(sdk_json.span_of(span))
