"""What Claude Code leaves behind becomes the trajectory of its session, but for what the source lacks."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conversion.captures import converted
from tests.conversion.leavings import Left, lacking, left, repeated, shuffled, without, written
from tests.shared_data import needs_shared

pytestmark = needs_shared
ALL = left("claude", "detailed")


@pytest.mark.parametrize("of", ALL, ids="-".join)
def test_what_a_session_left_becomes_its_trajectory(of: Left, tmp_path: Path) -> None:
    assert lacking(of, tmp_path) == {}


@pytest.mark.parametrize("of", ALL, ids="-".join)
def test_any_order_gives_the_same_bytes(of: Left, tmp_path: Path) -> None:
    once = written(of.files, tmp_path / "once")
    (tmp_path / "lines").mkdir()
    for seed in range(3):
        assert written(shuffled(of, seed, tmp_path / "lines"), tmp_path / f"again-{seed}") == once


@pytest.mark.parametrize("source", ["full", "default", "session", "both"])
def test_a_session_of_which_one_thing_was_lost_is_told_once_all_the_same(source: str, tmp_path: Path) -> None:
    for number, files in enumerate(without(Left("claude", "basic", source), tmp_path / "lines")):
        documents, _ = converted(files, tmp_path / f"{number}")
        assert [repeated(document) for document in documents] == [[]], number


def test_telemetry_adds_to_a_transcript_what_a_call_cost_and_how_long_it_took(tmp_path: Path) -> None:
    alone = Left("claude", "basic", "session").document(tmp_path / "alone")
    both = Left("claude", "basic", "both").document(tmp_path / "both")
    assert "cost_usd" not in alone["steps"][1]["metrics"]
    assert both["steps"][1]["metrics"]["cost_usd"] == 0.0025425
    assert both["steps"][1]["metrics"]["extra"]["time_to_first_token_ms"] == 197
    assert both["steps"][1]["extra"]["duration_sec"] == pytest.approx(0.6, abs=0.3)
    assert both["extra"]["otel"]["trace_id"].startswith("58355b")


@pytest.mark.parametrize(("scenario", "source"), [("policy", "otlp"), ("policy", "session"), ("denied", "both")])
def test_a_refused_call_says_who_refused_it(scenario: str, source: str, tmp_path: Path) -> None:
    document = Left("claude", scenario, source).document(tmp_path)
    refused = [
        call.get("extra", {}).get("refused") for step in document["steps"] for call in step.get("tool_calls", [])
    ]
    assert refused == (["config"] if scenario == "denied" else ["hook", "hook", None])


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
