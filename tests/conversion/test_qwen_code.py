"""What Qwen Code leaves behind becomes the trajectory of its session, but for what the source lacks."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conversion.captures import converted
from tests.conversion.garbage import garbled
from tests.conversion.leavings import Left, lacking, left, shuffled, written
from tests.shared_data import needs_shared

pytestmark = needs_shared
ALL = left("qwen")


@pytest.mark.parametrize("of", ALL, ids="-".join)
def test_what_a_session_left_becomes_its_trajectory(of: Left, tmp_path: Path) -> None:
    assert lacking(of, tmp_path) == {}


@pytest.mark.parametrize("of", ALL, ids="-".join)
def test_any_order_gives_the_same_bytes(of: Left, tmp_path: Path) -> None:
    once = written(of.files, tmp_path / "once")
    (tmp_path / "lines").mkdir()
    for seed in range(3):
        assert written(shuffled(of, seed, tmp_path / "lines"), tmp_path / f"again-{seed}") == once


@pytest.mark.parametrize("of", ALL, ids="-".join)
def test_whatever_stands_in_it_is_read(of: Left, tmp_path: Path) -> None:
    (tmp_path / "lines").mkdir()
    for seed in range(8):
        assert converted(garbled(of, seed, tmp_path / "lines"), tmp_path / f"{seed}")[0]


def test_a_call_that_a_hook_refused_says_so(tmp_path: Path) -> None:
    steps = Left("qwen", "policy", "otlp").document(tmp_path)["steps"]
    refused = [call.get("extra", {}).get("refused") for step in steps for call in step.get("tool_calls") or []]
    assert refused == ["pre_hook_blocked", "pre_hook_blocked", None]


def test_what_the_program_tells_the_model_is_not_the_users(tmp_path: Path) -> None:
    steps = Left("qwen", "subagent", "otlp").document(tmp_path)["steps"]
    assert [step["source"] for step in steps] == ["system", "system", "user", "agent", "agent", "system", "agent"]
    assert steps[5]["message"].startswith("<task-notification>")
