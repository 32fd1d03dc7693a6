"""Hooks that are put into settings for good, and taken out again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.coding_agents.real import COMMANDS, needs_agents, world

from spanrelay import config
from spanrelay.cli import main
from spanrelay.coding_agents import hook_client
from spanrelay.coding_agents.agents import AGENTS

agents = pytest.mark.parametrize("agent", [name for name, agent in AGENTS.items() if agent.written is None])
"""Those whose hooks stand among settings of their users'."""
alone = pytest.mark.parametrize("agent", [name for name, agent in AGENTS.items() if agent.written is not None])
"""Those whose hooks have a file for themselves."""
OWN = b'{\n    "hooks": {"Stop": [ {"hooks": [{"type": "command", "command": "own"}]} ]},  "model": "\xc3\xa4"}'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    homes = ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "COPILOT_HOME", "XDG_CONFIG_HOME")
    for name in (*homes, "SPANRELAY_CONFIG", "OTEL_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def settings_of(agent: str, home: Path) -> Path:
    return AGENTS[agent].settings({}, home)


@agents
@pytest.mark.parametrize("before", [OWN, b"{}", None])
def test_settings_are_byte_for_byte_what_they_were_after_an_uninstall(
    agent: str, before: bytes | None, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = settings_of(agent, home)
    if before is not None:
        path.parent.mkdir()
        path.write_bytes(before)
    assert main(["install", agent, "--project", "--yes"]) == 0
    assert "+" in capsys.readouterr().out
    once = path.read_bytes()
    own = {"Stop"} if before == OWN else set[str]()
    assert set(json.loads(once)["hooks"]) == {*own, *AGENTS[agent].lasting}
    assert main(["install", agent, "--project", "--yes"]) == 0
    assert "our hooks are there already" in capsys.readouterr().out
    assert path.read_bytes() == once
    assert main(["uninstall", agent, "--project", "--yes"]) == 0
    assert (path.read_bytes() if path.exists() else None) == before
    assert [each.name for each in path.parent.iterdir()] == ([path.name] if before is not None else [])


@agents
def test_what_was_changed_since_stays_and_our_hooks_go(agent: str, home: Path) -> None:
    path = settings_of(agent, home)
    path.parent.mkdir()
    path.write_bytes(OWN)
    main(["install", agent, "--project", "--yes"])
    settings = json.loads(path.read_bytes())
    settings["theme"] = "dark"
    path.write_text(json.dumps(settings))
    main(["uninstall", agent, "--project", "--yes"])
    assert json.loads(path.read_bytes()) == {**json.loads(OWN), "theme": "dark"}


@alone
def test_a_file_of_our_hooks_alone_comes_and_goes_and_nobody_elses_is_touched(
    agent: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = settings_of(agent, home)
    assert main(["install", agent, "--project", "--yes"]) == 0
    once = path.read_bytes()
    assert f'"{agent}"' in once.decode() or f" {agent} installed" in once.decode()
    assert main(["install", agent, "--project", "--yes"]) == 0
    assert "our hooks are there already" in capsys.readouterr().out
    assert path.read_bytes() == once
    path.write_bytes(once.replace(b"python", b"python-of-yore"))  # as another version wrote it
    assert main(["install", agent, "--project", "--yes"]) == 0
    assert path.read_bytes() == once
    assert main(["uninstall", agent, "--project", "--yes"]) == 0
    assert list(path.parent.iterdir()) == []
    path.write_bytes(b"own")
    assert main(["install", agent, "--project", "--yes"]) == 1
    assert "is there already, and not ours" in capsys.readouterr().err
    assert main(["uninstall", agent, "--project", "--yes"]) == 0
    assert path.read_bytes() == b"own"


def test_nothing_is_changed_unless_that_was_agreed_to(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = settings_of("claude", home)
    assert main(["install", "claude", "--project"]) == 1
    assert not path.exists()
    path.parent.mkdir()
    path.write_text("{nonsense")
    assert main(["install", "claude", "--project", "--yes"]) == 1
    assert "is not JSON" in capsys.readouterr().err
    assert path.read_text() == "{nonsense"


def test_agents_are_listed_with_whether_hooks_are_installed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["install", "codex", "--project", "--yes"])
    capsys.readouterr()
    assert main(["agents"]) == 0
    listed = capsys.readouterr().out
    assert "Claude Code" in listed and "project" in listed.partition("Codex")[2]


def test_what_would_not_be_observed_of_an_agent_here_is_said(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "gemini").write_text("#!/bin/sh\n")
    (home / "gemini").chmod(0o755)
    home.chmod(0o777)  # so that whatever we put below is not root's alone
    monkeypatch.setenv("PATH", str(home))
    monkeypatch.setenv("GEMINI_API_KEY", "k")
    assert main(["agents"]) == 0
    listed = capsys.readouterr().out
    assert "telemetry, transcript; policy for models" in listed
    assert "Gemini CLI: no hooks: it reads no settings but root's" in listed
    main(["install", "gemini", "--yes"])
    monkeypatch.delenv("GEMINI_API_KEY")
    capsys.readouterr()
    assert main(["agents"]) == 0
    listed = capsys.readouterr().out
    assert "telemetry, hooks, transcript; policy for tools " in listed
    assert "Gemini CLI: no policy for models: " in listed and "set GEMINI_API_KEY" in listed


def test_the_client_looks_for_policy_files_where_the_settings_say(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPANRELAY_CONFIG", "/some/where.toml")
    monkeypatch.setenv("OTEL_CONFIG_FILE", "/some/otel.yaml")
    known = {os.path.abspath(path) for path in hook_client.policy_files()}
    assert known == {place.file.path for place in config.policy_places()}


@needs_agents
@pytest.mark.slow
@pytest.mark.parametrize(("agent", "tool"), [("claude", "Bash"), ("copilot", "Bash"), ("opencode", "bash")])
def test_installed_hooks_hold_policy_and_leave_a_trajectory_without_a_run(
    agent: str, tool: str, tmp_path: Path
) -> None:
    policy = f'[[plugins.policy.tools.rules]]\ntool = "{tool}"\nargument = "/command"\nmatches = "deny-json"\n'
    with world(tmp_path, policy=policy) as here:
        assert here.run(["spanrelay", "install", agent, "--yes"], bare=True).code == 0
        ran = here.run(COMMANDS[agent]("TASK-POLICY"), bare=True)
        assert ran.code == 0, ran.err
    assert not (here.project / "denied.txt").exists() and (here.project / "rewritten.txt").exists()
    calls = [call for step in ran.document["steps"] for call in step.get("tool_calls") or []]
    refused = [bool((call.get("extra") or {}).get("refused")) for call in calls]
    assert refused == [agent != "opencode", False]  # whose database tells a refusal as it tells any failure
