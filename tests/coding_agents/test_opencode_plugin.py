"""The plugin of opencode by itself: what becomes of a tool where the command that it asks answers, or does not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.coding_agents.real import needs_agents, programs

from spanrelay.coding_agents import opencode

pytestmark = [needs_agents, pytest.mark.slow]

CALLS = """
import { SpanRelay } from "./plugin.mjs"
const plugin = await SpanRelay()
const output = { args: { command: "ls", timeout: 5 } }
try {
  await plugin["tool.execute.before"]({ tool: "bash", sessionID: "ses_1", callID: "c1" }, output)
  console.log(JSON.stringify({ args: output.args }))
} catch (error) {
  console.log(JSON.stringify({ refused: error.message }))
}
"""
"""Calls the plugin as opencode does, and says what that comes to."""


def decided(**output: Any) -> str:
    """A command that prints a decision."""
    return f"print({json.dumps(json.dumps({'hookSpecificOutput': output}))})"


@pytest.mark.parametrize(
    ("answers", "held", "comes_to"),
    [
        ("pass", True, {"args": {"command": "ls", "timeout": 5}}),
        (
            decided(permissionDecision="deny", permissionDecisionReason="not that"),
            False,
            {"refused": "not that"},
        ),
        (decided(updatedInput={"command": "true"}), False, {"args": {"command": "true"}}),
        ("import sys; print('why', file=sys.stderr); sys.exit(2)", False, {"refused": "why"}),
        ("raise RuntimeError('broken')", False, {"args": {"command": "ls", "timeout": 5}}),
        ("print('nonsense')", False, {"args": {"command": "ls", "timeout": 5}}),
    ],
)
def test_a_tool_runs_as_the_command_says(answers: str, held: bool, comes_to: dict[str, Any], tmp_path: Path) -> None:
    assert called(tmp_path, [sys.executable, "-c", answers], held) == comes_to


@pytest.mark.parametrize(
    "command",
    [[sys.executable, "-c", "raise RuntimeError"], [sys.executable, "-c", "print('{}')"], ["/no/such/program"]],
)
def test_where_policy_holds_and_cannot_be_asked_no_tool_runs(command: list[str], tmp_path: Path) -> None:
    assert called(tmp_path, command, held=True)["refused"].startswith("policy cannot be asked, so no tool may run: ")


def called(folder: Path, command: list[str], held: bool) -> dict[str, Any]:
    """Call the plugin with a command of our own; returns what became of the tool."""
    text = opencode.plugin_of(command)
    (folder / "plugin.mjs").write_text(text)
    (folder / "program.mjs").write_text(CALLS)
    given = {"HOME": str(folder), **({"SPANRELAY_HOOKS_HOLD": "1"} if held else {})}
    done = subprocess.run(
        [str(programs() / "node"), "program.mjs"], cwd=folder, env=given, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)
