"""Whatever is killed, and whenever: what was reported before is in the trajectory, and at most the open turn is not."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.coding_agents.real import COMMANDS, Ran, needs_agents, world
from tests.coding_agents.test_running import child_of, ended, launched

pytestmark = pytest.mark.slow

MOMENTS = range(1, 11)
"""After how many lines of the program something is killed: each tells that it has just asked or done something."""


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("victim", ["the run", "the program"])
def test_what_was_reported_before_a_kill_is_told(victim: str, moment: int, tmp_path: Path) -> None:
    process = launched(tmp_path, "claude", *["turn"] * 12, "wait")
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(moment)]
    program = child_of(process)
    os.kill(process.pid if victim == "the run" else program, signal.SIGKILL)
    if victim == "the run":
        process.wait()
        os.kill(program, signal.SIGKILL)  # it would go on by itself
    out, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    if victim == "the run":
        ended(launched(tmp_path, "claude", "exit 0"), tmp_path)
    told = [step["message"] for step in Ran(0, out, err, tmp_path).document["steps"]]
    whole = [line.strip() for line in lines if line.startswith("said ")]
    assert [message for message in told if message.startswith("said ")][: len(whole)] == whole
    assert Ran(0, out, err, tmp_path).unfinished == []


@needs_agents
@pytest.mark.parametrize("victim", ["the run", "the program"])
@pytest.mark.parametrize("agent", ["claude", "codex"])
def test_a_real_agent_that_is_killed_with_or_without_its_run_is_told(agent: str, victim: str, tmp_path: Path) -> None:
    with world(tmp_path) as here:
        process = subprocess.Popen(
            ["spanrelay", "run", *COMMANDS[agent]("TASK-BASIC")],
            cwd=here.project,
            env=here.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while len(here.said_to_model()) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        program = child_of(process)
        os.kill(process.pid if victim == "the run" else program, signal.SIGKILL)
        process.wait()
        if victim == "the run":
            os.kill(program, signal.SIGKILL)
            here.run(["true"])  # the next run finishes what this one left
        ran = Ran(0, "", "", here.project)
        calls = [call["function_name"] for step in ran.document["steps"] for call in step.get("tool_calls") or []]
    assert len(calls) >= 3
    assert ran.unfinished == []
