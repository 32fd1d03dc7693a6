"""What GitHub Copilot CLI leaves behind becomes the trajectory of its session, but for what the source lacks."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conversion.captures import converted
from tests.conversion.garbage import garbled
from tests.conversion.leavings import Left, lacking, left, shuffled, written
from tests.shared_data import needs_shared

pytestmark = needs_shared
ALL = [of for of in left("copilot") if of.source not in ("session", "both")]


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
    steps = Left("copilot", "policy", "otlp").document(tmp_path)["steps"]
    refused = [call.get("extra", {}).get("refused") for step in steps for call in step.get("tool_calls") or []]
    assert refused == ["denied", "denied", None]


def test_a_sub_agent_was_asked_what_the_call_that_began_it_says(tmp_path: Path) -> None:
    (child,) = Left("copilot", "subagent", "otlp").document(tmp_path)["subagent_trajectories"]
    assert (child["agent"]["name"], child["steps"][0]["source"]) == ("general-purpose", "user")
    assert child["steps"][0]["message"] == "TASK-CHILD: read notes.txt and report the launch code."
