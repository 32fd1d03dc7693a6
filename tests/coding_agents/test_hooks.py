"""What hooks tell and what is answered to them, by the hooks that the real agents sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conversion.test_opencode_sessions import answer, database, rows, text, user
from tests.shared_data import SHARED, needs_shared

from spanrelay._guard import losses
from spanrelay.coding_agents import judging
from spanrelay.coding_agents.agents import AGENTS
from spanrelay.coding_agents.folder import RunFolder
from spanrelay.coding_agents.hooks import Unjudged, answer_alone, answered, keep_transcripts
from spanrelay.coding_agents.judging import Verdict
from spanrelay.pipeline.middleware import execution_intercept, guardrail, request_intercept, use
from spanrelay.plugins import configured

agents = pytest.mark.parametrize("agent", list(AGENTS))


RECORDED = [
    *((agent, scenario) for agent in ("claude", "codex", "gemini", "qwen") for scenario in ("", "policy", "subagent")),
    ("copilot", "pascal-hooks"),
]
"""Agents and scenarios whose recorded hooks are in the JSON that they have here too."""


def captured(agent: str, scenario: str) -> Iterator[dict[str, Any]]:
    """Yield what an agent gave its hooks in a recorded scenario."""
    assert SHARED is not None
    lines = (SHARED / "cli-captures" / agent / scenario / "hooks.jsonl").read_text().splitlines()
    yield from (entry["stdin"] for entry in map(json.loads, lines) if "stdin" in entry)


BEFORE = {"gemini": "BeforeTool"}
"""What agents call the event before a tool, where that is not `PreToolUse`."""


def before_tool(agent: str, command: str = "echo deny-json") -> bytes:
    """A hook before a tool, as agents send it."""
    told = {
        "hook_event_name": BEFORE.get(agent, "PreToolUse"),
        "session_id": "s-1",
        "tool_name": "Bash",
        "tool_use_id": "t-1",
    }
    return json.dumps({**told, "tool_input": {"command": command, "timeout": 5}}).encode()


@needs_shared
@pytest.mark.parametrize(("agent", "scenario"), RECORDED)
def test_every_hook_is_read_and_only_those_before_tools_are_about_a_tool(agent: str, scenario: str) -> None:
    told = [hook for hook in captured(agent, scenario) if "hook_event_name" in hook]
    assert told
    for hook in told:
        event = AGENTS[agent].read(hook)
        assert (event.name, event.session) == (hook["hook_event_name"], hook["session_id"])
        assert (event.tool is not None) == (hook["hook_event_name"] == BEFORE.get(agent, "PreToolUse"))
        assert event.paths


@agents
def test_a_tool_is_refused_with_the_reason_in_the_words_of_its_agent(agent: str) -> None:
    @guardrail(kinds=["tool"])
    def no_deny(call: Any) -> str | None:
        return "not that" if "deny" in call.request.arguments["command"] else None

    with use(no_deny):
        refused = answered(AGENTS[agent], before_tool(agent))
        passed = answered(AGENTS[agent], before_tool(agent, "echo fine"))
    assert refused is not None and passed is not None
    said = json.loads(refused.answer)
    if agent == "gemini":
        assert said == {"decision": "deny", "reason": "not that"}
    elif agent == "copilot":
        assert said == {"permissionDecision": "deny", "permissionDecisionReason": "not that"}
    else:
        assert said["hookSpecificOutput"] == {
            "hookEventName": "PreToolUse",
            "permissionDecision": "deny",
            "permissionDecisionReason": "not that",
        }
    assert passed.answer == b""


@request_intercept(kinds=["tool"])
def quieter(call: Any) -> Any:
    call.request.arguments["command"] = "true"
    return call.request


@pytest.mark.parametrize("agent", ["claude", "codex", "gemini", "copilot", "opencode"])
def test_arguments_that_policy_changes_are_handed_back_whole(agent: str) -> None:
    with use(quieter):
        done = answered(AGENTS[agent], before_tool(agent))
    assert done is not None
    said = json.loads(done.answer)
    said = said.get("hookSpecificOutput", said)
    member = {"gemini": "tool_input", "copilot": "modifiedArgs"}.get(agent, "updatedInput")
    assert said[member] == {"command": "true", "timeout": 5}
    # Claude Code asks its user for what it would ask for anyway unless a hook says `allow`; Codex needs the word.
    assert said.get("permissionDecision") == {"codex": "allow"}.get(agent)


def test_a_call_whose_arguments_cannot_be_changed_is_refused_where_policy_would_change_them() -> None:
    with use(quieter):
        done = answered(AGENTS["qwen"], before_tool("qwen"))
    assert done is not None and b"does not let a hook do" in done.answer


def test_policy_that_breaks_or_answers_itself_refuses() -> None:
    @guardrail(kinds=["tool"])
    def broken(call: Any) -> str | None:
        raise RuntimeError("out of order")

    @execution_intercept(kinds=["tool"])
    def from_cache(call: Any) -> Any:
        return "seen before"
        yield

    asked = {"agent": "claude", "call_id": None, "session": None, "user": None}
    with use(broken):
        assert "policy could not check Bash" in str(judging.judged("Bash", {}, **asked).refusal)  # pyright: ignore[reportArgumentType] - as above
    with use(from_cache):
        assert judging.judged("Bash", {"self": 1}, **asked).refusal is not None  # pyright: ignore[reportArgumentType] - as above
    assert judging.judged("Bash", {"self": 1}, **asked) == Verdict()  # pyright: ignore[reportArgumentType] - as above


@agents
@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'"x"', b"\xff", b'{"hook_event_name": 3, "tool_input": []}'])
def test_what_is_no_hook_is_let_pass_and_counted_where_no_policy_holds(agent: str, data: bytes) -> None:
    done = answered(AGENTS[agent], data)
    assert done is None or done.answer == b""
    counted = losses.take()
    assert counted == ({"hooks that are no JSON object": 1} if done is None else {})


def doubtful(agent: str) -> dict[str, bytes]:
    """Hooks before a tool that cannot be read, or that may be read in two ways."""
    whole = before_tool(agent)
    return {
        "cut": whole[:-9],
        "no text": whole + b"\xff",
        "a list": b"[" + whole + b"]",
        "two": whole * 2,
        "a tool twice": whole[:-1] + b', "tool_name": "Read"}',
        "no tool": whole.replace(b"tool_name", b"tool_called"),
        "no name": whole.replace(b'"Bash"', b"7"),
    }


@agents
def test_where_policy_holds_a_hook_before_a_tool_that_cannot_be_read_lets_no_tool_run(agent: str) -> None:
    with use(quieter):
        for name, data in doubtful(agent).items():
            with pytest.raises(Unjudged):
                answered(AGENTS[agent], data)
                pytest.fail(name)
        after = before_tool(agent).replace(BEFORE.get(agent, "PreToolUse").encode(), b"Stop")
        told = json.dumps({**json.loads(after), "message": "PreToolUse"}).encode()
        done = answered(AGENTS[agent], told)
        assert done is not None and done.answer == b""
    losses.take()


def test_of_a_database_only_the_sessions_that_hooks_named_are_kept(tmp_path: Path) -> None:
    said = [user(1_000, text("Hello.")), answer(2_000, text("Hi."))]
    path = database(tmp_path / "opencode.db", rows(said), rows(said, "ses_2", parent_id="ses_1"), rows(said, "ses_3"))
    folder = RunFolder(tmp_path / "run")
    told = {"hook_event_name": "UserPromptSubmit", "session_id": "ses_1", "database": str(path)}
    for _ in range(2):
        keep_transcripts(folder, AGENTS["opencode"], AGENTS["opencode"].read(told))
    for _ in range(2):  # the second as the run that finishes what one that was killed has left
        [taken_out] = folder.sources()
        lines = [json.loads(line)["row"] for line in taken_out.read_text().splitlines()]
        assert {line.get("session_id", line["id"]) for line in lines} == {"ses_1", "ses_2"}


@pytest.mark.swallows
def test_a_database_that_is_gone_leaves_what_else_was_told(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.add_session(str(tmp_path / "gone.db"), "ses_1")
    folder.add_telemetry(b"whole", is_json=False)
    assert [source.name for source in folder.sources()] == ["telemetry.otlp"]


def test_the_events_of_each_session_of_copilot_are_named_before_a_turn_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COPILOT_HOME", str(tmp_path))
    folder = RunFolder(tmp_path / "run")
    for session in ("s-1", "s-2", "../s-3"):
        (events := tmp_path / "session-state" / session / "events.jsonl").parent.mkdir(parents=True)
        events.write_text("{}\n")
        told = {"hook_event_name": "UserPromptSubmit", "session_id": session}
        keep_transcripts(folder, AGENTS["copilot"], AGENTS["copilot"].read(told))
    assert [each.resolve().parent.name for each in folder.transcripts()] == ["s-1", "s-2"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory whose policy file is read, and is out of force again after."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    configured.forget()
    yield tmp_path
    from spanrelay.plugins.activation import current_activation

    activation = current_activation()
    if activation is not None:
        activation.close()
    configured.forget()


@agents
def test_without_a_run_the_policy_file_alone_is_asked(agent: str, place: Path) -> None:
    (place / "spanrelay.toml").write_text('[plugins.policy]\ntools.deny = ["Bash"]\n')
    assert b"deny" in answer_alone(AGENTS[agent], before_tool(agent))


@agents
def test_a_policy_file_that_is_wrong_refuses_every_tool_and_nothing_else(agent: str, place: Path) -> None:
    (place / "spanrelay.toml").write_text("[plugins.policy\n")
    assert b"policy cannot be asked" in answer_alone(AGENTS[agent], before_tool(agent))
    assert answer_alone(AGENTS[agent], b'{"hook_event_name": "Stop"}') == b""
    assert answer_alone(AGENTS[agent], b"{") == b""
