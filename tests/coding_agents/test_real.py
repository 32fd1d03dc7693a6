"""The real coding agents under `spanrelay run`, against a scripted model: told whole, and held by policy."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.coding_agents.real import COMMANDS, claude, copilot, gemini, needs_agents, opencode, qwen, world
from tests.conversion.expected import differences, expected
from tests.shared_data import SHARED, needs_shared

pytestmark = [needs_agents, pytest.mark.slow]

REFUSES = """
[[plugins.policy.tools.rules]]
tool = "Bash"
argument = "/command"
matches = "deny-json"
[[plugins.policy.tools.rules]]
tool = "run_shell_command"
argument = "/command"
matches = "deny-json"
[[plugins.policy.tools.rules]]
tool = "bash"
argument = "/command"
matches = "deny-json"
"""

agents = pytest.mark.parametrize("agent", list(COMMANDS))
EVERY = ("TASK-OVERLOAD", "TASK-SUB", "TASK-BASIC --gateway")
DEEPLY = {"claude": EVERY, "codex": EVERY, "copilot": ("TASK-SUB --gateway",), "opencode": ("TASK-SUB --gateway",)}
"""What is run here beside the first scenario; what is not is told from recordings."""
TASKS = [(agent, task) for agent in COMMANDS for task in ("TASK-BASIC", *DEEPLY.get(agent, ()))]


LACKING = {
    ("copilot", ""): {"results"},  # of a failed call it tells nobody but its model more than a short form of the error
}
"""In which aspects a trajectory is not what the wire tells, by agent and scenario."""

ADOPTING = ("claude", "codex")
"""Agents that go on in the trace that they are handed; the others begin traces of their own."""
TELLING = (*ADOPTING, "copilot")
"""Agents whose session is one trace."""


def truth(agent: str, scenario: str) -> dict[str, Any]:
    assert SHARED is not None
    return expected(SHARED / "cli-captures" / agent / scenario)


def traces(value: Any) -> set[str]:
    """The traces that anything in a document is of."""
    if isinstance(value, dict):
        own = {value["trace_id"]} if isinstance(value.get("trace_id"), str) else set[str]()
        return own.union(*map(traces, value.values()))
    return set[str]().union(*map(traces, value)) if isinstance(value, list) else set()


def results(document: dict[str, Any]) -> list[str]:
    observed = [step.get("observation") or {} for step in document["steps"]]
    return [str(result.get("content")) for each in observed for result in each.get("results") or []]


def plain(out: str) -> list[tuple[Any, ...]]:
    """What a program said, line by line, without what is another in each run."""
    lines = [json.loads(line) for line in out.splitlines()]
    lines = [line for line in lines if line.get("subtype") not in ("thinking_tokens",) and not line.get("ephemeral")]
    said = [line.get("result") or (line.get("data") or line.get("part") or {}).get("text") for line in lines]
    return [
        (line.get("type"), line.get("subtype"), re.sub(r"\W", "", str(each)))
        for line, each in zip(lines, said, strict=True)
    ]


@pytest.mark.observes("claude", "model calls", "tools", "sub-agents")
@pytest.mark.observes("codex", "model calls", "tools", "sub-agents")
@pytest.mark.observes("gemini", "model calls", "tools")
@pytest.mark.observes("qwen", "model calls", "tools")
@pytest.mark.observes("copilot", "model calls", "tools", "sub-agents")
@pytest.mark.observes("opencode", "model calls", "tools", "sub-agents")
@needs_shared
@pytest.mark.parametrize(("agent", "task"), TASKS)
def test_a_run_is_one_trace_and_the_trajectory_that_the_wire_tells(agent: str, task: str, tmp_path: Path) -> None:
    task, *options = task.split()
    scenario = {"TASK-BASIC": "", "TASK-OVERLOAD": "overload", "TASK-SUB": "subagent"}[task]
    with world(tmp_path) as here:
        ran = here.run(COMMANDS[agent](task), options=options)
    assert ran.code == 0, ran.err
    assert set(differences(ran.document, truth(agent, scenario))) == LACKING.get((agent, scenario), set())
    assert len(traces(ran.document)) == 1 or agent not in TELLING
    assert ran.unfinished == []
    assert "spanrelay: trajectory: " in ran.err


@pytest.mark.parametrize("agent", ["claude", "codex", "copilot", "opencode"])
def test_a_program_prints_and_ends_and_leaves_what_it_does_without_us(agent: str, tmp_path: Path) -> None:
    with world(tmp_path / "bare") as bare, world(tmp_path / "under") as under:
        settings = {"hooks": {"Stop": [{"hooks": [{"type": "command", "command": "echo own >> ~/own.txt"}]}]}}
        for here in (bare, under):
            (here.home / ".claude").mkdir()
            (here.home / ".claude" / "settings.json").write_text(json.dumps(settings))
        alone, ran = (here.run(COMMANDS[agent]("TASK-SHORT"), bare=here is bare) for here in (bare, under))
        assert (ran.code, plain(ran.out)) == (alone.code, plain(alone.out))
        for name in (".claude/settings.json", ".codex/config.toml"):
            assert (under.home / name).read_text().replace(str(under.home), "").replace(under.server.url, "") == (
                bare.home / name
            ).read_text().replace(str(bare.home), "").replace(bare.server.url, "")
        assert kinds(under.files()) == kinds(bare.files())


def kinds(files: set[str]) -> set[str]:
    """The files, without the ids and times in their names."""
    ids = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{6,}|\d+")
    # What each start of `codex app-server` makes, and what SQLite leaves where it was not closed.
    own = (file for file in files if not file.startswith(".codex/.tmp/") and not file.endswith(("-wal", "-shm")))
    return {ids.sub("N", re.sub(r"-?[\w.-]*(bare|under)[\w.-]*", "P", file)) for file in own}


@pytest.mark.observes("claude", "policy")
@pytest.mark.observes("codex", "policy")
@pytest.mark.observes("gemini", "policy")
@pytest.mark.observes("qwen", "policy")
@pytest.mark.observes("copilot", "policy")
@pytest.mark.observes("opencode", "policy")
@agents
def test_a_tool_that_policy_refuses_does_not_run_and_the_model_is_told_why(agent: str, tmp_path: Path) -> None:
    with world(tmp_path, policy=REFUSES) as here:
        if agent == "gemini":
            here.run(["spanrelay", "install", "gemini", "--yes"], bare=True)
        ran = here.run(COMMANDS[agent]("TASK-POLICY"))
        assert ran.code == 0, ran.err
        told = json.dumps(here.said_to_model()[-1])
    assert not (here.project / "denied.txt").exists()
    assert (here.project / "rewritten.txt").read_text() == "rewrite-me\n"
    assert "is refused by tools.rules[" in told
    calls = [call for step in ran.document["steps"] for call in step.get("tool_calls") or []]
    assert [bool((call.get("extra") or {}).get("refused")) for call in calls] == [True, False]
    assert "is refused by tools.rules[" in results(ran.document)[0]


@pytest.mark.parametrize("agent", ADOPTING)
def test_a_trace_that_is_handed_in_goes_on_in_the_program(agent: str, tmp_path: Path) -> None:
    given = "0af7651916cd43dd8448eb211c80319c"
    with world(tmp_path) as here:
        ran = here.run(COMMANDS[agent]("TASK-SHORT"), TRACEPARENT=f"00-{given}-b7ad6b7169203331-01")
    assert traces(ran.document) == {given}


AGAIN = {
    "claude": claude("TASK-AGAIN", "--continue"),
    "codex": ["codex", "exec", "--skip-git-repo-check", "--json", "resume", "--last", "TASK-AGAIN"],
    "gemini": gemini("TASK-AGAIN", "--resume", "latest"),
    "qwen": qwen("TASK-AGAIN", "--continue"),
    "copilot": copilot("TASK-AGAIN", "--continue"),
    "opencode": opencode("TASK-AGAIN", "--continue"),
}


@pytest.mark.observes("copilot", "resume")
@pytest.mark.observes("opencode", "resume")
@pytest.mark.observes("claude", "resume")
@pytest.mark.observes("codex", "resume")
@pytest.mark.observes("gemini", "resume")
@pytest.mark.observes("qwen", "resume")
@agents
def test_a_session_that_is_resumed_is_one_trajectory(agent: str, tmp_path: Path) -> None:
    with world(tmp_path) as here:
        first = here.run(COMMANDS[agent]("TASK-SHORT")).document
        again = here.run(AGAIN[agent]).document
    assert again["session_id"] == first["session_id"]
    assert [step["message"] for step in again["steps"] if step["source"] == "user"] == ["TASK-SHORT", "TASK-AGAIN"]


REFUSES_MODELS = """
[plugins.policy]
models.deny = ["claude-sonnet-*", "gpt-5*", "gemini-*", "qwen*", "mock-*"]
"""


@pytest.mark.observes("copilot", "policy")
@pytest.mark.observes("opencode", "policy")
@pytest.mark.observes("claude", "policy")
@pytest.mark.observes("codex", "policy")
@pytest.mark.observes("gemini", "policy")
@pytest.mark.observes("qwen", "policy")
@agents
def test_a_model_that_policy_refuses_is_never_asked(agent: str, tmp_path: Path) -> None:
    with world(tmp_path, policy=REFUSES_MODELS) as here:
        ran = here.run(COMMANDS[agent]("TASK-SHORT"))
        assert here.said_to_model() == []
    assert ran.code != 0
    assert "guardrail 'policy.models' refused the call" in ran.out + ran.err
    if agent != "gemini":  # which ends before it has told anything
        [failed] = [step for step in ran.document["steps"] if step["source"] == "agent"]  # however often it was tried
        assert "error" in json.dumps(failed.get("extra"))
        assert agent == "qwen" or "is denied by" in json.dumps(failed)  # Qwen Code tells "API call failed", no more


REWRITES = """
import sys
import spanrelay
from spanrelay.cli import main

@spanrelay.request_intercept(kinds=["tool"])
def elsewhere(call):
    call.request.arguments["command"] = call.request.arguments["command"].replace("rewritten", "changed")
    return call.request

with spanrelay.use(elsewhere):
    sys.exit(main())
"""


@pytest.mark.observes("claude", "rewrite")
@pytest.mark.observes("codex", "rewrite")
@pytest.mark.observes("gemini", "rewrite")
@pytest.mark.observes("copilot", "rewrite")
@pytest.mark.observes("opencode", "rewrite")
@pytest.mark.parametrize("agent", ["claude", "codex", "gemini", "copilot", "opencode"])
def test_a_tool_runs_with_the_arguments_that_policy_left(agent: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(REWRITES)
    with world(tmp_path) as here:
        if agent == "gemini":
            here.run(["spanrelay", "install", "gemini", "--yes"], bare=True)
        ran = here.run(COMMANDS[agent]("TASK-POLICY"), by=[sys.executable, str(tmp_path / "program.py")])
    assert ran.code == 0, ran.err
    assert (here.project / "changed.txt").exists() and not (here.project / "rewritten.txt").exists()


@pytest.mark.observes("claude", "cost")
@pytest.mark.observes("opencode", "cost")
@pytest.mark.parametrize("agent", ["claude", "opencode"])
def test_the_costs_that_a_program_tells_are_in_its_trajectory(agent: str, tmp_path: Path) -> None:
    with world(tmp_path) as here:
        ran = here.run(COMMANDS[agent]("TASK-SHORT"))
    assert ran.document["final_metrics"]["total_cost_usd"] > 0
    assert re.search(r"cost \$0\.\d", ran.err)


@pytest.mark.parametrize("flag", ["--bare", "--safe-mode"])
def test_nothing_is_started_where_policy_holds_for_tools_and_no_hooks_can_come(flag: str, tmp_path: Path) -> None:
    with world(tmp_path, policy=REFUSES) as here:
        ran = here.run(claude("TASK-POLICY", flag))
        assert (ran.code, here.server.requests) == (1, [])
    assert f"Claude Code runs no hooks: {flag} is given" in ran.err
    assert ran.unfinished == []
