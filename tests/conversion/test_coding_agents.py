"""What a coding agent leaves behind becomes the trajectory of its session, but for what the source lacks.

What is one agent's own is in a file named after it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conversion.captures import converted
from tests.conversion.garbage import garbled
from tests.conversion.leavings import Left, lacking, left, repeated, shuffled, without, written
from tests.conversion.sources import AGENTS
from tests.shared_data import needs_shared

pytestmark = needs_shared

ALL = [of for agent in AGENTS for of in left(agent, *(["detailed"] if agent == "claude" else []))]


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


@pytest.mark.parametrize("source", ["full", "default", "session", "both"])
@pytest.mark.parametrize("agent", ["claude", "codex"])
def test_a_session_of_which_one_thing_was_lost_is_told_once_all_the_same(
    agent: str, source: str, tmp_path: Path
) -> None:
    for number, files in enumerate(without(Left(agent, "basic", source), tmp_path / "lines")):
        documents, _ = converted(files, tmp_path / f"{number}")
        assert [repeated(document) for document in documents] == [[]], number


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (Left("claude", "policy", "otlp"), ["hook", "hook", None]),
        (Left("claude", "policy", "session"), ["hook", "hook", None]),
        (Left("claude", "denied", "both"), ["config"]),
        (Left("gemini", "policy", "otlp"), ["policy_violation", "policy_violation", None]),
        (Left("qwen", "policy", "otlp"), ["pre_hook_blocked", "pre_hook_blocked", None]),
        (Left("copilot", "policy", "otlp"), ["denied", "denied", None]),
        (
            Left("codex", "policy", "session"),
            [*(f"policy: {each} is refused. Command: echo {each}" for each in ("deny-json", "deny-exit2")), None],
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, Left) else "",
)
def test_a_refused_call_says_who_refused_it_or_why(of: Left, said: list[str | None], tmp_path: Path) -> None:
    steps = of.document(tmp_path)["steps"]
    assert [call.get("extra", {}).get("refused") for step in steps for call in step.get("tool_calls") or []] == said
