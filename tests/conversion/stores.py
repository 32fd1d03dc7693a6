"""Recorded spans as stores give them back, and the trajectories of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from tests.conversion.captures import converted
from tests.conversion.test_polyglot import capture
from tests.shared_data import SHARED

from spanrelay.otlp_in import files
from spanrelay.otlp_in.telemetry import Span

PYTHON = ("openinference_langchain", "openinference_openai", "otel_genai_langchain", "otel_genai_openai",
          "pydantic_ai_subagents", "traceloop_langchain", "traceloop_openai")  # fmt: skip
"""Captures of Python programs."""


def at(nanoseconds: int) -> str:
    """Return a time in ISO 8601, as most stores write it: in microseconds."""
    return (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=nanoseconds // 1000)).isoformat()


def spans_in(path: Path) -> Iterator[Span]:
    """Yield the spans of a file, in which everything can be read."""
    for piece in files.pieces_of(path, pytest.fail):
        yield from (item for item in files.read(piece, pytest.fail) if isinstance(item, Span))


def both(name: str, folder: Path, save: Callable[[list[Span]], str]) -> tuple[list[Any], list[Any]]:
    """Return the documents of a capture's spans: from what `save` makes of them, and from themselves."""
    assert SHARED is not None
    source = SHARED / "spans" / f"{name}.json"
    if name not in PYTHON:
        lines = [line for line in capture(name).read_text().splitlines() if "resourceSpans" in line]
        source = folder / "spans.jsonl"
        source.write_text("\n".join(lines))
    saved = folder / "saved.json"
    saved.write_text(save(list(spans_in(source))))
    assert files.is_telemetry(saved)
    found, summary = converted([saved], folder / "saved")
    assert summary.findings == []
    expected, _ = converted([source], folder / "otlp")
    return found, expected
