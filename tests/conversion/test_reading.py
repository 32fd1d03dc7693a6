"""Telemetry is read in whatever form it was recorded, and what cannot be read is named with its place."""

from __future__ import annotations

from pathlib import Path

from tests.conversion.captures import WEATHER, converted, told
from tests.shared_data import SHARED, needs_shared


@needs_shared
def test_a_capture_of_spans_becomes_the_trajectory_of_its_conversation(tmp_path: Path) -> None:
    assert SHARED is not None
    documents, summary = converted([SHARED / "spans-polyglot" / "vercel_ai_generate.jsonl"], tmp_path)
    assert [step["source"] for step in told(documents[0])] == [step["source"] for step in WEATHER]
    assert (len(documents), summary.spans, summary.findings) == (1, 10, [])
