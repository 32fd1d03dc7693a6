"""What is told of GitHub Copilot CLI alone; what holds of every coding agent is in `test_coding_agents.py`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.conversion.captures import converted
from tests.conversion.leavings import Left
from tests.shared_data import needs_shared

pytestmark = needs_shared


def test_a_sub_agent_was_asked_what_the_call_that_began_it_says(tmp_path: Path) -> None:
    (child,) = Left("copilot", "subagent", "otlp").document(tmp_path)["subagent_trajectories"]
    assert (child["agent"]["name"], child["steps"][0]["source"]) == ("general-purpose", "user")
    assert child["steps"][0]["message"] == "TASK-CHILD: read notes.txt and report the launch code."


def test_a_session_that_was_gone_on_with_is_one_document(tmp_path: Path) -> None:
    of = Left("copilot", "overload", "otlp")
    first = of.files[0].read_text()
    later = tmp_path / "later.jsonl"
    changed = "\n".join(json.dumps(_later(json.loads(line))) for line in first.splitlines())
    later.write_text(re.sub(r"TASK-OVERLOAD: run it\.|(?<=call_)3f56|(?<=chatcmpl-)\w{4}", "0123", changed))
    ((document,), _) = converted([*of.files, later], tmp_path / "out")
    said = [step["message"] for step in document["steps"] if step["source"] == "user"]
    assert said == ["TASK-OVERLOAD: run it.", "0123"]
    assert [step["source"] for step in document["steps"][1:]] == ["user", "agent", "agent"] * 2
    assert document["final_metrics"]["total_prompt_tokens"] == 2 * 2100
    assert "notes" not in document


def _later(value: Any) -> Any:
    """Return telemetry as if it had been recorded an hour later, in another trace."""
    if isinstance(value, list):
        return [_later(item) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {name: _later(item) for name, item in value.items()}
    for name in changed.keys() & {"startTimeUnixNano", "endTimeUnixNano"}:
        changed[name] = int(changed[name]) + 3_600_000_000_000
    return changed | ({"traceId": changed["traceId"][::-1]} if "traceId" in changed else {})
