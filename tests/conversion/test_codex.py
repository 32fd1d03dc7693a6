"""What is told of Codex alone; what holds of every coding agent is in `test_coding_agents.py`."""

from __future__ import annotations

from pathlib import Path

from tests.conversion.leavings import Left
from tests.shared_data import needs_shared

pytestmark = needs_shared


def test_an_answer_whose_words_are_not_told_says_so(tmp_path: Path) -> None:
    steps = Left("codex", "basic", "full").document(tmp_path)["steps"]
    told = [step["extra"].get("content_captured") for step in steps if step["source"] == "agent"]
    assert told == [False, False, False, None]


def test_telemetry_adds_the_spans_to_a_rollout_that_names_its_answers_otherwise(tmp_path: Path) -> None:
    both = Left("codex", "basic", "both").document(tmp_path)
    assert [step["extra"]["otel"]["dialect"] for step in both["steps"] if step["source"] == "agent"] == ["codex"] * 4
    assert both["steps"][1]["extra"]["otel"]["span_id"] == "e695fab56ecda329"


def test_a_session_with_other_switches_is_told_too(tmp_path: Path) -> None:
    document = Left("codex", "final-answer-log", "otlp").document(tmp_path)
    assert [step["source"] for step in document["steps"]] == ["user", "agent", "agent"]
