"""What agents run at each hook: how it finds its run, what it does without one, and what that costs."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.programs import environment

from spanrelay.coding_agents import hook_client
from spanrelay.coding_agents.receiver import Receiver

CLIENT = str(hook_client.__file__)
BEFORE_TOOL = json.dumps(
    {"hook_event_name": "PreToolUse", "session_id": "s", "tool_name": "Bash", "tool_input": {"command": "ls"}}
).encode()


def told(place: Path, hook: bytes, **settings: str) -> subprocess.CompletedProcess[bytes]:
    """Run the client as agents do."""
    command = [sys.executable, "-I", "-S", CLIENT, "claude"]
    given = environment(None, {"XDG_CONFIG_HOME": str(place / "none"), **settings})
    return subprocess.run(command, input=hook, env=given, cwd=place, capture_output=True, timeout=60, check=False)


def nothing(signal: str, request: bytes, kind: str, headers: Mapping[str, str]) -> None:
    """Nobody reports telemetry here."""


@pytest.fixture
def listening() -> Iterator[Receiver]:
    made = Receiver(nothing, lambda agent, hook: agent.encode() + b" " + hook[:20])
    yield made
    made.close()


def test_the_run_that_is_under_way_answers(listening: Receiver, tmp_path: Path) -> None:
    done = told(tmp_path, b"x" * 3_000_000, SPANRELAY_HOOKS=listening.hooks)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"claude " + b"x" * 20, b"")


@pytest.mark.parametrize("place", ["", "nonsense", "1/secret"])
def test_where_nobody_answers_the_policy_file_of_the_run_does(place: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "spanrelay.toml").write_text('[plugins.policy]\ntools.deny = ["Bash"]\n')
    there = {"SPANRELAY_HOOKS": place, "SPANRELAY_RUN_DIRECTORY": str(tmp_path / "run"), "SPANRELAY_HOOKS_HOLD": "1"}
    done = told(tmp_path, BEFORE_TOOL, **there)
    assert json.loads(done.stdout)["hookSpecificOutput"]["permissionDecision"] == "deny"
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_hook_before_a_tool_that_cannot_be_read_refuses_it_by_the_exit_status(tmp_path: Path) -> None:
    (tmp_path / "spanrelay.toml").write_text('[plugins.policy]\ntools.deny = ["Bash"]\n')
    done = told(tmp_path, BEFORE_TOOL[:-9])
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"cannot be read without doubt, so no tool may run" in done.stderr


def test_where_there_is_no_policy_and_no_run_a_hook_is_let_pass(tmp_path: Path) -> None:
    done = told(tmp_path, BEFORE_TOOL)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_where_nothing_can_be_asked_no_tool_runs_and_all_else_goes_on(tmp_path: Path) -> None:
    gone = {"SPANRELAY_RUN_DIRECTORY": str(tmp_path / "gone"), "SPANRELAY_HOOKS": "1/x"}
    held = told(tmp_path, BEFORE_TOOL, SPANRELAY_HOOKS_HOLD="1", **gone)
    assert (held.returncode, held.stdout) == (2, b"")
    assert held.stderr == b"spanrelay: the policy cannot be asked, so no tool may run\n"
    for hook, settings in ((b'{"hook_event_name": "Stop"}', {"SPANRELAY_HOOKS_HOLD": "1"}), (BEFORE_TOOL, {})):
        assert told(tmp_path, hook, **gone, **settings).returncode == 0


@pytest.mark.slow
def test_a_hook_costs_little_more_than_a_python_that_does_nothing(listening: Receiver, tmp_path: Path) -> None:
    given = environment(None, {"SPANRELAY_HOOKS": listening.hooks})
    commands = {"hook": [sys.executable, "-I", "-S", CLIENT, "claude"], "nothing": [sys.executable, "-c", "pass"]}
    took: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(30):
        for name, command in commands.items():
            begun = time.perf_counter()
            subprocess.run(command, input=BEFORE_TOOL, env=given, capture_output=True, check=True)
            took[name].append(time.perf_counter() - begun)
    assert statistics.median(took["hook"]) <= 1.5 * statistics.median(took["nothing"])
