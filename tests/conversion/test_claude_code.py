"""What is told of Claude Code alone; what holds of every coding agent is in `test_coding_agents.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conversion.leavings import Left
from tests.shared_data import needs_shared

pytestmark = needs_shared


def test_telemetry_adds_to_a_transcript_what_a_call_cost_and_how_long_it_took(tmp_path: Path) -> None:
    alone = Left("claude", "basic", "session").document(tmp_path / "alone")
    both = Left("claude", "basic", "both").document(tmp_path / "both")
    assert "cost_usd" not in alone["steps"][1]["metrics"]
    assert both["steps"][1]["metrics"]["cost_usd"] == 0.0025425
    assert both["steps"][1]["metrics"]["extra"]["time_to_first_token_ms"] == 197
    assert both["steps"][1]["extra"]["duration_sec"] == pytest.approx(0.6, abs=0.3)
    assert both["extra"]["otel"]["trace_id"].startswith("58355b")


def test_a_call_that_was_asked_again_is_one_step_with_the_attempt_in_it(tmp_path: Path) -> None:
    first = Left("claude", "overload", "both").document(tmp_path)["steps"][1]
    (attempt,) = first["extra"]["otel"]["attempts"]
    assert attempt["error"] == {"type": "HTTP 529", "message": "529 Overloaded", "status_code": 529}


def test_a_trace_that_an_outer_program_began_names_its_span(tmp_path: Path) -> None:
    document = Left("claude", "traceparent", "otlp").document(tmp_path)
    assert document["extra"]["otel"] == {
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "remote_parent_span_id": "b7ad6b7169203331",
    }
