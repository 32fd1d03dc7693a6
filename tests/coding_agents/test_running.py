"""A run of a program that stands for an agent: what it is handed, its signals and exit status, and what kills leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.coding_agents.real import Ran
from tests.programs import environment

from spanrelay_testkit.model_server import ModelServer

AGENT = Path(__file__).with_name("fake_agent.py")


def launched(
    place: Path, *arguments: str, policy: str = "", begun: str = "exec", **settings: str
) -> subprocess.Popen[str]:
    """Start `spanrelay run` on a program called `claude` that does as its arguments say, or starts one that does."""
    programs = place / "bin"
    programs.mkdir(exist_ok=True)
    program = programs / "claude"
    program.write_text(f'#!/bin/sh\n{begun} {sys.executable} {AGENT} "$@"\nexit $?\n')
    program.chmod(0o755)
    (place / "home").mkdir(exist_ok=True)
    if policy:
        (place / "spanrelay.toml").write_text(policy)
    path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    given = environment(None, {"PATH": path, "HOME": str(place / "home"), **settings})
    given.pop("XDG_CONFIG_HOME", None)
    return subprocess.Popen(
        ["spanrelay", "run", *arguments], cwd=place, env=given, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended(process: subprocess.Popen[str], place: Path, said: str = "") -> Ran:
    out, err = process.communicate(said, timeout=60)
    return Ran(process.returncode, out, err, place)


def child_of(process: subprocess.Popen[str]) -> int:
    """The process of the program that a run has started."""
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(child)


def test_the_terminal_and_the_exit_status_are_the_programs(tmp_path: Path) -> None:
    ran = ended(launched(tmp_path, "--", "claude", "echo", "exit 7"), tmp_path, "what is typed")
    assert (ran.code, ran.out) == (7, "what is typed")


def test_a_session_is_told_with_tools_and_policy(tmp_path: Path) -> None:
    policy = '[plugins.policy]\ntools.deny = ["Write"]\n'
    ran = ended(launched(tmp_path, "claude", "session", policy=policy), tmp_path)
    assert ran.code == 0, ran.err
    steps = ran.document["steps"]
    assert [step["message"] for step in steps] == ["do it", "I write.", "I read.", "Done."]
    assert [call["function_name"] for step in steps for call in step.get("tool_calls") or []] == ["Write", "Read"]
    assert "deny" in ran.out.splitlines()[0] and ran.out.splitlines()[1] == "Read may run"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_reaches_the_program_and_is_how_it_ends(number: signal.Signals, tmp_path: Path) -> None:
    before = signal.signal(number, signal.SIG_DFL)  # under nohup, SIGHUP is ignored by all that is started
    process = launched(tmp_path, "claude", "session", "wait")
    signal.signal(number, before)
    assert process.stdout is not None
    while process.stdout.readline() != "waiting\n":
        pass
    process.send_signal(number)
    ran = ended(process, tmp_path)
    assert ran.code == -number
    assert [step["message"] for step in ran.document["steps"]][-1] == "Done."


def test_an_interrupt_at_the_terminal_is_the_programs_affair(tmp_path: Path) -> None:
    process = launched(tmp_path, "claude", "session", "heed")
    assert process.stdout is not None
    while process.stdout.readline() != "waiting\n":
        pass
    process.send_signal(signal.SIGINT)  # a terminal sends it to both
    os.kill(child_of(process), signal.SIGINT)
    ran = ended(process, tmp_path)
    assert (ran.code, ran.out) == (5, "interrupted\n")
    assert ran.documents


def test_what_a_killed_run_kept_is_told_by_the_next(tmp_path: Path) -> None:
    process = launched(tmp_path, "claude", "session", "wait")
    assert process.stdout is not None
    while process.stdout.readline() != "waiting\n":
        pass
    child = child_of(process)
    process.kill()
    os.kill(child, signal.SIGKILL)
    process.communicate()
    (folder,) = (tmp_path / ".spanrelay" / "trajectories" / ".runs").iterdir()
    ran = ended(launched(tmp_path, "claude", "exit 0"), tmp_path)
    assert "spanrelay: trajectory of a run that was killed: " in ran.err
    assert [step["message"] for step in ran.document["steps"]][-1] == "Done."
    assert not folder.exists()


@pytest.mark.parametrize(
    ("arguments", "policy", "said"),
    [
        (["no-such-program"], "", "there is no program 'no-such-program'"),
        (["claude", "session"], "[plugins.policy\n", "spanrelay.toml"),
        (["claude", "--settings", "{nonsense"], "", "--settings '{nonsense' cannot be read"),
    ],
)
def test_where_something_is_wrong_nothing_is_started_and_it_is_said(
    arguments: list[str], policy: str, said: str, tmp_path: Path
) -> None:
    ran = ended(launched(tmp_path, *arguments, policy=policy), tmp_path)
    assert (ran.code, ran.out) == (1, "")
    assert said in ran.err
    assert ran.unfinished == []


@pytest.mark.parametrize("begun", ["exec", ""], ids=["itself", "by another program"])
def test_policy_for_tools_stops_a_run_whose_program_runs_no_hooks(begun: str, tmp_path: Path) -> None:
    policy = '[plugins.policy]\ntools.deny = ["Write"]\n'
    process = launched(tmp_path, "claude", "deaf", policy=policy, begun=begun)
    ran = ended(process, tmp_path)  # which waits until nobody is left who could print anything
    assert ran.code == -signal.SIGTERM
    assert "Policy would not hold for its tools, so it is stopped" in ran.err


ASKS = """
import json, os, urllib.request
for model in ("m-1", "m-refused"):
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}]}).encode()
    url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json", "Authorization": "Bearer none"})
    try:
        with urllib.request.urlopen(request) as answer:
            print(json.load(answer)["choices"][0]["message"]["content"])
    except urllib.error.HTTPError as error:
        print(error.code)
"""


def test_any_program_is_told_and_held_by_policy_where_a_gateway_stands_between(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn", reason="the gateway's packages are not installed")
    (tmp_path / "program.py").write_text(ASKS)
    with ModelServer() as server:
        settings = {"OPENAI_BASE_URL": server.url}
        command = ["--gateway", "--session", "s-1", "--metadata", "team=red", sys.executable, "program.py"]
        policy = '[plugins.policy]\nmodels.deny = ["*-refused"]\n'
        ran = ended(launched(tmp_path, *command, policy=policy, **settings), tmp_path)
        assert [request.model for request in server.requests] == ["m-1"]
    assert (ran.code, ran.out) == (0, "You said: hello\n403\n"), ran.err
    assert ran.document["session_id"] == "s-1"
    assert [step["message"] for step in ran.document["steps"]][:2] == ["hello", "You said: hello"]
    assert "spanrelay: trajectory: " in ran.err


def test_a_session_a_user_and_metadata_are_those_that_were_said(tmp_path: Path) -> None:
    said = ["--session", "s-1", "--user", "ann", "--metadata", "team=red"]
    ran = ended(launched(tmp_path, *said, "claude", "session"), tmp_path)
    assert ran.document["session_id"] == "s-1"
    assert (tmp_path / ".spanrelay" / "trajectories" / "s-1.json").exists()
    assert '"ann"' in json.dumps(ran.document) and '"team": "red"' in json.dumps(ran.document)


def test_what_sanitizers_take_away_is_in_no_trajectory(tmp_path: Path) -> None:
    policy = '[[plugins.pii_redaction.profiles]]\naction = "mask"\ndetector = ["email"]\n'
    ran = ended(launched(tmp_path, "claude", "session", "email", policy=policy), tmp_path)
    assert ran.code == 0, ran.err
    assert "ann@example.com" not in json.dumps(ran.document)
    assert "I wrote to" in json.dumps(ran.document)


def test_a_dry_run_says_what_would_be_set_and_starts_nothing(tmp_path: Path) -> None:
    given = json.dumps({"hooks": {"Stop": [{"hooks": [{"type": "command", "command": "own"}]}]}, "model": "opus"})
    command = ["--dry-run", "claude", "--settings", given, "-p", "hi", "--", "--settings", "no"]
    ran = ended(launched(tmp_path, *command), tmp_path)
    assert ran.code == 0, ran.err
    assert "TRACEPARENT=00-" in ran.out and '"command": "own"' in ran.out and '"model": "opus"' in ran.out
    assert ran.out.splitlines()[-1].endswith("claude-settings.json -p hi -- --settings no")
    assert not (tmp_path / ".spanrelay").exists()


def test_telemetry_goes_on_to_whom_the_user_sends_it(tmp_path: Path) -> None:
    from tests.coding_agents.test_receiver import Heard

    from spanrelay.coding_agents.receiver import Receiver

    heard = Heard()
    there = Receiver(heard.on_telemetry, heard.on_hook)
    settings = {
        "CLAUDE_CODE_ENABLE_TELEMETRY": "1",
        "OTEL_LOGS_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_ENDPOINT": there.otlp,
    }
    ran = ended(launched(tmp_path, "claude", "session", **settings), tmp_path)
    there.close()
    assert ran.code == 0, ran.err
    assert {signal for signal, _, _ in heard.telemetry} == {"logs"}
    assert "OTEL_LOG_USER_PROMPTS" not in ran.out
