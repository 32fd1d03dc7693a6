"""What is told of Qwen Code alone; what holds of every coding agent is in `test_coding_agents.py`."""

from __future__ import annotations

from pathlib import Path

from tests.conversion.leavings import Left
from tests.shared_data import needs_shared

pytestmark = needs_shared


def test_what_the_program_tells_the_model_is_not_the_users(tmp_path: Path) -> None:
    steps = Left("qwen", "subagent", "otlp").document(tmp_path)["steps"]
    assert [step["source"] for step in steps] == ["system", "system", "user", "agent", "agent", "system", "agent"]
    assert steps[5]["message"].startswith("<task-notification>")
