"""What Codex leaves behind becomes the trajectory of its session, but for what the source lacks."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conversion.captures import converted
from tests.conversion.leavings import Left, lacking, left, repeated, shuffled, without, written
from tests.shared_data import needs_shared

pytestmark = needs_shared
ALL = left("codex")


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
    for number, files in enumerate(without(Left("codex", "basic", source), tmp_path / "lines")):
        documents, _ = converted(files, tmp_path / f"{number}")
        assert [repeated(document) for document in documents] == [[]], number


def test_an_answer_whose_words_are_not_told_says_so(tmp_path: Path) -> None:
    steps = Left("codex", "basic", "full").document(tmp_path)["steps"]
    told = [step["extra"].get("content_captured") for step in steps if step["source"] == "agent"]
    assert told == [False, False, False, None]


def test_telemetry_adds_the_spans_to_a_rollout_that_names_its_answers_otherwise(tmp_path: Path) -> None:
    both = Left("codex", "basic", "both").document(tmp_path)
    assert [step["extra"]["otel"]["dialect"] for step in both["steps"] if step["source"] == "agent"] == ["codex"] * 4
    assert both["steps"][1]["extra"]["otel"]["span_id"] == "e695fab56ecda329"


def test_a_call_that_a_hook_blocked_says_why(tmp_path: Path) -> None:
    document = Left("codex", "policy", "session").document(tmp_path)
    refused = [
        call.get("extra", {}).get("refused") for step in document["steps"] for call in step.get("tool_calls", [])
    ]
    assert refused == [f"policy: {each} is refused. Command: echo {each}" for each in ("deny-json", "deny-exit2")] + [
        None
    ]


def test_a_session_with_other_switches_is_told_too(tmp_path: Path) -> None:
    document = Left("codex", "final-answer-log", "otlp").document(tmp_path)
    assert [step["source"] for step in document["steps"]] == ["user", "agent", "agent"]
