"""The command line shows what a trajectory holds, on any terminal, and says plainly what is wrong."""

import io
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from tests.trajectory.harbor import interpreter, needs_harbor

from spanrelay.assembly.atif import Trajectory
from spanrelay.assembly.spool import SUFFIX, Spool, line_of
from spanrelay.cli import main, printing
from spanrelay.cli.outline import Limits, outline


def agent_step(number: int, **fields: Any) -> dict[str, Any]:
    return {"step_id": number, "source": "agent", "message": "", **fields}


def document() -> dict[str, Any]:
    """A run with two calls at once, one of which failed, a sub-agent, an error and a hostile text."""
    calls = [
        {"tool_call_id": "a", "function_name": "get_weather", "arguments": {"city": "Oslo"}},
        {"tool_call_id": "b", "function_name": "ask_expert", "arguments": {}},
    ]
    results = [
        {"source_call_id": "a", "content": "no station", "extra": {"is_error": True}},
        {"source_call_id": "b", "content": "rain", "subagent_trajectory_ref": [{"trajectory_id": "child"}]},
    ]
    child = {
        "schema_version": "ATIF-v1.7",
        "trajectory_id": "child",
        "agent": {"name": "expert", "version": "2"},
        "steps": [agent_step(1, message="It will rain.")],
    }
    metrics = {"prompt_tokens": 1200, "cached_tokens": 1000, "completion_tokens": 7, "cost_usd": 0.0123}
    return {
        "schema_version": "ATIF-v1.7",
        "session_id": "s-1",
        "agent": {"name": "demo", "version": "1.0", "model_name": "gpt-5"},
        "steps": [
            {"step_id": 1, "source": "user", "message": "Weather?", "timestamp": "2026-01-01T00:00:00Z"},
            agent_step(
                2,
                timestamp="2026-01-01T00:00:01.5Z",
                tool_calls=calls,
                observation={"results": results},
                metrics=metrics,
            ),
            agent_step(3, message="clear \x1b[2J screen", extra={"error": {"type": "RateLimit", "message": "slow"}}),
        ],
        "final_metrics": {
            "total_prompt_tokens": 1200,
            "total_cached_tokens": 1000,
            "total_completion_tokens": 7,
            "total_cost_usd": 0.0123,
            "total_steps": 3,
        },
        "subagent_trajectories": [child],
    }


EXPECTED = """\
demo  1.0 · gpt-5 · session s-1
├── 1 user  +0.0 s
│   Weather?
├── 2 agent  1,200 in (1,000 cached), 7 out, $0.0123 · +1.5 s
│   ├── get_weather(city="Oslo")
│   │   ✗ no station
│   └── ask_expert()
│       → rain
│       └── expert  2
│           ├── 1 agent
│           │   It will rain.
│           └── 1 step · 0 tool calls · tokens not reported
├── 3 agent
│   clear \\x1b[2J screen
│   ✗ RateLimit: slow
└── 2 conversations · 4 steps · 2 tool calls · 2 errors · 1,200 in (1,000 cached), 7 out, $0.0123"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(document()))
    return path


def shown(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[str]]:
    status = main([str(argument) for argument in arguments])
    return status, [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_a_trajectory_is_shown_as_a_tree(file: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert shown(capsys, "show", file) == (0, [*EXPECTED.splitlines(), str(file)])


def test_a_call_that_policy_refuses_says_so_unless_its_result_does(capsys: Any, tmp_path: Path) -> None:
    told = document()
    calls = told["steps"][1]["tool_calls"]
    calls[0]["extra"] = calls[1]["extra"] = {"refused": "tool 'x' is denied by 'x'"}
    (path := tmp_path / "run.json").write_text(json.dumps(told))
    _, lines = shown(capsys, "show", path)
    assert [line for line in lines if "refused by policy" in line] == [
        "│       ✗ refused by policy: tool 'x' is denied by 'x'"
    ]


def test_without_rich_the_tree_is_the_same(file: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(printing, "find_spec", lambda name: None)
    assert shown(capsys, "show", file) == (0, [*EXPECTED.splitlines(), str(file)])


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ({"type": "KeyboardInterrupt", "message": ""}, "✗ KeyboardInterrupt"),
        ({"type": "asyncio.exceptions.CancelledError"}, "✗ asyncio.exceptions.CancelledError"),
        ({"message": "slow"}, "✗ slow"),
    ],
)
def test_an_error_shows_what_is_known_of_it(error: dict[str, str], line: str) -> None:
    long = document()
    long["steps"][2]["extra"]["error"] = error
    assert f"│   {line}" in list(printing.plain_lines(outline(Trajectory.from_json(long), Limits()), 100))


@pytest.mark.parametrize(
    ("cost", "shown"),
    [
        (1.25, "$1.2500"),
        (0.01, "$0.0100"),
        (0.00123456, "$0.00123"),
        (0.0000021, "$0.0000021"),
        (0, "$0"),
    ],
)
def test_small_costs_keep_their_significant_digits(cost: float, shown: str) -> None:
    long = document()
    long["steps"][1]["metrics"]["cost_usd"] = long["final_metrics"]["total_cost_usd"] = cost
    lines = list(printing.plain_lines(outline(Trajectory.from_json(long), Limits()), 100))
    assert [line for line in lines if line.endswith(f"7 out, {shown}")] == lines[-1:]
    assert any(f"7 out, {shown} ·" in line for line in lines[:-1])


def test_no_name_moves_the_terminal(file: Path, capsys: Any) -> None:
    hostile = document()
    hostile["agent"]["name"] = hostile["subagent_trajectories"][0]["agent"]["name"] = "x\x1b[2J"
    hostile["steps"][1]["tool_calls"] = [agent_call("a", "\x1b[2J")]
    hostile["steps"][1]["observation"]["results"] = []
    file.write_text(json.dumps(hostile))
    text = "\n".join(shown(capsys, "show", file)[1])
    assert "\x1b" not in text
    assert r"2 \x1b[2J" in text


def agent_call(name: str, dispatch: str) -> dict[str, Any]:
    return {"tool_call_id": name, "function_name": name, "arguments": {}, "extra": {"dispatch": dispatch}}


@pytest.mark.parametrize("width", [20, 34])
def test_a_narrow_terminal_loses_no_words(width: int) -> None:
    tree = outline(Trajectory.from_json(document()), Limits())
    narrow = [line.rstrip() for line in printing.plain_lines(tree, width)]
    assert all(len(line) <= max(width, 16 + printing.NARROWEST) for line in narrow)
    for word in ("Weather?", "RateLimit:", "errors", "rain."):
        assert any(word in line for line in narrow), word


def test_wide_characters_take_two_columns(capsys: Any) -> None:
    long = document()
    long["steps"][0]["message"] = "日本語のテキスト、" * 9 + " cafe\u0301s and more"
    tree = outline(Trajectory.from_json(long), Limits())
    narrow = list(printing.plain_lines(tree, 40))
    assert max(map(printing.columns, narrow)) <= 40
    text = "".join(line[4:] for line in narrow if line.startswith("│   "))
    assert "日本語のテキスト、" * 9 in text
    assert any("cafe\u0301s and" in line for line in narrow)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        ("  indented", ["  indented"]),
        ("e\u0301" * 11, ["e\u0301" * 5, "e\u0301" * 5, "e\u0301"]),
        ("one two three", ["one two ", "three"]),
        ("one  " + "x" * 23, ["one  ", "x" * 10, "x" * 10, "xxx"]),
        ("日本語" * 3, ["日本語日本", "語日本語"]),
        ("a" * 10 + " b", ["a" * 10, "b"]),
    ],
)
def test_lines_are_cut_between_words_where_they_can_be(text: str, lines: list[str]) -> None:
    assert [line.rstrip() for line in printing.wrap([(text, "")], 10)] == [line.rstrip() for line in lines]


PLAIN = "import sys; sys.modules['rich'] = None; from spanrelay.cli import main; raise SystemExit(main())"


@pytest.mark.parametrize("program", [PLAIN, PLAIN.replace("sys.modules['rich'] = None; ", "")])
def test_a_terminal_that_has_few_characters_is_shown_others_for_the_rest(program: str, file: Path) -> None:
    japanese = document()
    japanese["steps"][0]["message"] = "天気 now"
    file.write_text(json.dumps(japanese))
    done = subprocess.run(
        [sys.executable, "-c", program, "show", str(file)],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"?? now" in done.stdout


def test_without_rich_a_poor_terminal_still_gets_a_tree(file: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "100"}
    command = [sys.executable, "-c", PLAIN, "show", str(file)]
    lines = subprocess.run(command, env=environment, capture_output=True, check=True).stdout.decode("ascii")
    assert "|-- 1 user  +0.0 s\n|   Weather?\n" in lines
    assert "|   |   x no station" in lines


@pytest.mark.parametrize(
    ("arguments", "named"), [((), "plugins"), (("plugins",), "validate")], ids=["no command", "no action"]
)
def test_a_command_that_is_not_finished_is_answered_with_help(
    arguments: tuple[str, ...], named: str, capsys: Any
) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.splitlines()[0].split()[:2]) == ("", ["usage:", "spanrelay"])
    assert any(line.split()[:1] == [named] for line in told.err.splitlines())


def test_the_version_is_told(capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"spanrelay {version('spanrelay')}\n"


def test_long_texts_are_cut_unless_all_is_asked_for(file: Path, capsys: Any) -> None:
    long = document()
    long["steps"][0]["message"] = "word " * 1000 + "end"
    file.write_text(json.dumps(long))
    assert any("(+4403 characters)" in line for line in shown(capsys, "show", file)[1])
    assert any(line.endswith("end") for line in shown(capsys, "show", file, "--full")[1])


def test_latest_is_the_newest_file_of_the_settings_folder(
    file: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = file.with_name("older.json")
    older.write_text("{}")
    os.utime(older, (1, 1))
    monkeypatch.setenv("SPANRELAY_TRAJECTORY_DIR", str(file.parent))
    assert shown(capsys, "show")[1][-1] == str(file)
    assert shown(capsys, "show", file.parent)[1][-1] == str(file)


@pytest.mark.parametrize(
    ("content", "complaint"), [("{}", "is not an ATIF trajectory"), ("not json", "is not JSON"), (None, "there is no")]
)
def test_what_is_no_trajectory_gets_one_clear_line(
    content: str | None, complaint: str, tmp_path: Path, capsys: Any
) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(content)
    assert main(["show", str(path)]) == 1
    error = capsys.readouterr().err
    assert complaint in error
    assert str(path) in error
    assert error.count("\n") == 1


def with_another_conversation(call_id: str, extra: dict[str, str] | None) -> dict[str, Any]:
    """A run that ends with a conversation which no tool call began."""
    whole = document()
    child = {**whole["subagent_trajectories"][0], "trajectory_id": "aside"}
    child["agent"] = {"name": "titles", "version": "unknown"}
    call = {"tool_call_id": call_id, "function_name": "titles", "arguments": {}}
    result = {"source_call_id": call_id, "content": "x", "subagent_trajectory_ref": [{"trajectory_id": "aside"}]}
    begins = agent_step(4, llm_call_count=0, tool_calls=[call | ({"extra": extra} if extra else {})])
    whole["steps"].append(begins | {"observation": {"results": [result]}})
    whole["subagent_trajectories"].append(child)
    whole["final_metrics"]["total_steps"] = 4
    return whole


@pytest.mark.parametrize(
    ("call_id", "extra", "label"),
    [("any", {"dispatch": "side conversation"}, "side conversation"), ("subagent:x", None, "sub-agent")],
)
def test_a_conversation_that_no_tool_began_is_no_tool_call(
    call_id: str, extra: Any, label: str, file: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    file.write_text(json.dumps(with_another_conversation(call_id, extra)))
    assert shown(capsys, "show", file)[1][-7:-1] == [
        f"├── 4 {label}",
        "│   └── titles",
        "│       ├── 1 agent",
        "│       │   It will rain.",
        "│       └── 1 step · 0 tool calls · tokens not reported",
        "└── 3 conversations · 6 steps · 2 tool calls · 2 errors · 1,200 in (1,000 cached), 7 out, $0.0123",
    ]


def test_an_answer_of_a_middleware_says_whose_it_is(file: Path, capsys: Any) -> None:
    answered = document()
    answered["steps"][2] |= {"llm_call_count": 0, "extra": {"answered_by": "cache"}}
    file.write_text(json.dumps(answered))
    assert "├── 3 agent  answered by cache, no model call" in shown(capsys, "show", file)[1]


def test_what_is_not_whole_and_what_was_noted_is_said_at_the_head(file: Path, capsys: Any) -> None:
    partial = document() | {"notes": "Tools ran.", "extra": {"status": "partial", "recovered": True}}
    file.write_text(json.dumps(partial))
    lines = shown(capsys, "show", file)[1]
    assert [line.lstrip("│ ") for line in lines[1:3]] == ["partial, recovered after a sudden end", "Tools ran."]


def test_whom_a_run_was_for_and_how_long_each_part_took_is_shown(file: Path, capsys: Any) -> None:
    whole = document()
    extra = {"user": "ann", "metadata": {"case": 17, "odd": {"deep": []}}, "environment": "prod"}
    whole["extra"] = {**whole.get("extra", {}), **extra}
    step = next(step for step in whole["steps"] if step.get("tool_calls"))
    step["extra"] = {**step.get("extra", {}), "duration_sec": 1.84}
    step["observation"]["results"][0]["extra"] = {"duration_sec": 0.21}
    step["observation"]["results"][1]["extra"] = {"duration_sec": 0.0213}
    file.write_text(json.dumps(whole))
    lines = shown(capsys, "show", file)[1]
    assert lines[1].lstrip("│ ") == "user ann · case 17 · environment prod"
    assert any("agent  1.8 s" in line for line in lines)
    assert any(line.endswith(")  0.2 s") for line in lines)
    assert any(line.endswith(")  21 ms") for line in lines)


def test_an_agent_is_named_where_another_begins_to_act(file: Path, capsys: Any) -> None:
    steps = [
        agent_step(1),
        agent_step(2, extra={"agent_name": "expert"}),
        agent_step(3, extra={"agent_name": "expert"}),
    ]
    file.write_text(json.dumps(document() | {"steps": [*steps, agent_step(4)], "final_metrics": {"total_steps": 4}}))
    headings = [line for line in shown(capsys, "show", file)[1] if " agent" in line]
    assert headings == ["├── 1 agent", "├── 2 agent  expert", "├── 3 agent", "├── 4 agent  demo"]


@pytest.mark.parametrize(
    ("scope", "dialect", "remedy"),
    [
        ("openinference.instrumentation.openai", "openinference", "OPENINFERENCE_HIDE_INPUTS=false"),
        ("opentelemetry.instrumentation.openai", "traceloop", "TRACELOOP_TRACE_CONTENT=true"),
        ("com.anthropic.sdk.python", "genai", "ANTHROPIC_OPEN_TELEMETRY_TRACES_CONTENT_MODE=content in its"),
        ("spanrelay_openai", "genai", "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=span_only"),
    ],
)
def test_content_that_was_not_captured_is_told_with_who_left_it_out_and_what_captures_it(
    scope: str, dialect: str, remedy: str, file: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    without = document()
    without["steps"][2] |= {"extra": {"content_captured": False, "otel": {"scope": scope, "dialect": dialect}}}
    file.write_text(json.dumps(without))
    lines = shown(capsys, "show", file)[1]
    assert lines[1].startswith(f"content not captured by {scope}; {remedy}")
    assert f"├── 3 agent  content not captured by {scope} · tokens not reported" in lines


def test_a_model_that_reports_no_tokens_is_told_unless_it_failed(file: Path, capsys: Any) -> None:
    mixed = document()
    mixed["steps"].append(agent_step(4, message="Done."))
    mixed["final_metrics"]["total_steps"] = 4
    file.write_text(json.dumps(mixed))
    lines = shown(capsys, "show", file)[1]
    assert [line for line in lines if "tokens not reported" in line] == [
        "│           └── 1 step · 0 tool calls · tokens not reported",
        "├── 4 agent  tokens not reported",
    ]


@pytest.fixture
def several_runs(folder: Path) -> Path:
    """A session that went on in three runs, and one other run."""
    for number in range(1, 4):
        run = {**document(), "session_id": "Ticket 42/a"}
        run["steps"][0]["message"] = f"question {number}"
        (folder / f"Ticket_42-{number}.json").write_text(json.dumps(run))
        os.utime(folder / f"Ticket_42-{number}.json", (20 + number, 20 + number))
    return folder


def test_several_runs_of_a_session_are_listed_as_such(several_runs: Path, capsys: Any) -> None:
    _, lines = shown(capsys, "list")
    assert [f"Ticket 42/a ({number} of 3)" in line for number, line in zip((3, 2, 1), lines[1:4], strict=True)] == [
        True
    ] * 3
    assert "ticket-beta  " in lines[4]


def test_several_runs_of_a_session_are_shown_as_one(several_runs: Path, capsys: Any) -> None:
    assert main(["show", "Ticket 42/a"]) == 0
    told = capsys.readouterr()
    newest = several_runs / "Ticket_42-3.json"
    assert told.out.splitlines()[-1] == str(newest)
    assert told.err == (
        f"spanrelay: run 3 of 3 of session 'Ticket 42/a'; `spanrelay show --session {newest}` shows them as one\n"
    )
    assert main(["show", "--session", "Ticket 42/a"]) == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert lines[0] == "session Ticket 42/a  3 runs"
    assert [line.split()[-1] for line in lines if "question" in line] == ["1", "2", "3"]
    assert lines[-3:] == [str(several_runs / f"Ticket_42-{number}.json") for number in (1, 2, 3)]
    assert (
        "6 conversations · 12 steps · 6 tool calls · 6 errors · 3,600 in (3,000 cached), 21 out, $0.0369" in lines[-4]
    )
    assert told.err == ""


def test_a_list_fits_a_terminal_and_is_whole_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    rows = [["1", "a long name of an agent", "天気 " * 10]]
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        printing.print_table(["", "agent", "first words"], rows, stream, right={0}, elastic={1, 2})
    assert max(map(printing.columns, terminal.getvalue().splitlines())) <= 40
    assert terminal.getvalue().count("天") == pipe.getvalue().count("天") == 10
    assert pipe.getvalue().count("\n") == 2


class Terminal(io.StringIO):
    """A terminal of 40 columns."""

    def isatty(self) -> bool:
        return True


def test_validate_names_each_violation(file: Path, capsys: Any) -> None:
    assert shown(capsys, "validate", file) == (0, [f"{file}: valid"])
    broken = document()
    broken["steps"][1]["step_id"] = 7
    file.write_text(json.dumps(broken))
    status, lines = shown(capsys, "validate", file)
    assert status == 1
    assert "  $.steps[1].step_id: expected 2, got 7" in lines


def test_validate_judges_every_file_whatever_the_others_are(file: Path, capsys: Any) -> None:
    broken, missing = file.with_name("broken.json"), file.with_name("missing.json")
    broken.write_text("not json")
    assert main(["validate", str(missing), str(broken), str(file)]) == 1
    told = capsys.readouterr()
    assert told.out == f"{file}: valid\n"
    assert [name in line for name, line in zip(("missing", "broken"), told.err.splitlines(), strict=True)] == [True] * 2


def test_validate_judges_every_trajectory_of_a_folder_by_path_and_rule(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "deeper").mkdir()
    for number in (1, 2):
        (tmp_path / f"good-{number}.json").write_text(json.dumps(document()))
    (tmp_path / "result.json").write_text(json.dumps({"reward": 1}))
    broken = document()
    broken["steps"][1]["observation"]["results"][1]["subagent_trajectory_ref"][0]["trajectory_path"] = None
    broken["steps"][1]["metrics"]["extra"] = None
    (tmp_path / "deeper" / "bad.json").write_text(json.dumps(broken))
    status, lines = shown(capsys, "validate", tmp_path, tmp_path / "good-1.json")
    assert status == 1
    assert sorted(lines[:-1]) == [
        "  $.steps[1].metrics.extra: is null; leave it out",
        "  $.steps[1].observation.results[1].subagent_trajectory_ref[0].trajectory_path: is null; leave it out",
        f"{tmp_path / 'deeper' / 'bad.json'}: 2 violations",
        f"{tmp_path / 'good-1.json'}: valid",
        f"{tmp_path / 'good-2.json'}: valid",
    ]
    assert lines[-1] == "2 of 3 files valid"


def test_a_folder_without_a_trajectory_is_told(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "result.json").write_text("{}")
    assert main(["validate", str(tmp_path)]) == 1
    assert f"no trajectory in {str(tmp_path)!r}" in capsys.readouterr().err


def test_validate_says_how_harbor_is_installed_where_it_is_not(
    file: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    for options in (["--harbor"], ["--harbor-python", sys.executable], ["--harbor-python", str(file)]):
        assert main(["validate", str(file), *options]) == 1
        told = capsys.readouterr()
        assert told.out == f"{file}: valid\n"
        assert "pip install harbor" in told.err


def stand_in(folder: Path, program: str) -> Path:
    """A command `harbor` with a Python beside it that answers as the program says."""
    for name in ("harbor", "python"):
        (folder / name).write_text(f"#!{sys.executable}\n{program}")
        (folder / name).chmod(0o755)
    return folder / "python"


def test_harbor_is_asked_in_the_environment_of_its_command(
    file: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = 'import sys\nprint("0.26.0")\nfor line in sys.stdin: print(["[]", "[\\"agent: bad\\"]"]["two" in line])\n'
    (folder := file.parent / "bin").mkdir()
    stand_in(folder, answers)
    monkeypatch.setenv("PATH", str(folder))
    assert shown(capsys, "validate", "--harbor", file)[0] == 0
    (two := file.with_name("two.json")).write_text(file.read_text())
    status, lines = shown(capsys, "validate", "--harbor", file, two)
    assert status == 1
    assert lines[2:] == [
        f"{two}: 1 violation to Harbor",
        "  agent: bad",
        "Harbor 0.26.0 accepts 1 of 2 files",
    ]


@needs_harbor
def test_harbor_itself_says_what_it_has_against_a_file(file: Path, capsys: Any) -> None:
    broken = document() | {"colour": "red"}
    (bad := file.with_name("bad.json")).write_text(json.dumps(broken))
    status, lines = shown(capsys, "validate", file, bad, "--harbor-python", interpreter())
    assert status == 1
    assert any("colour" in line for line in lines[lines.index(f"{bad}: 1 violation to Harbor") :])
    assert lines[-1].endswith("accepts 1 of 2 files")


@pytest.mark.parametrize(
    ("steps", "numbers"),
    [("2", [2]), ("1-2", [1, 2]), ("2-", [2, 3]), ("-2", [2, 3]), ("3-9", [3]), ("-7", [1, 2, 3])],
)
def test_only_some_steps_are_shown(file: Path, capsys: Any, steps: str, numbers: list[int]) -> None:
    status, lines = shown(capsys, "show", file, "--steps", steps)
    assert status == 0
    assert [int(line[4]) for line in lines if line[:4] == "├── "] == numbers
    many = f"step {numbers[0]} of 3" if len(numbers) == 1 else f"steps {numbers[0]}-{numbers[-1]} of 3"
    assert (many in " ".join(lines)) is (numbers != [1, 2, 3])


@pytest.mark.parametrize("steps", ["0", "-0", "3-2", "x", "1-0", "", "1,2", "٣"])
def test_what_is_no_range_of_steps_is_wrong_usage(file: Path, capsys: Any, steps: str) -> None:
    with pytest.raises(SystemExit) as left:
        main(["show", str(file), "--steps", steps])
    assert left.value.code == 2
    assert "not a range of steps" in capsys.readouterr().err


def test_steps_that_a_trajectory_has_not_are_told(file: Path, capsys: Any) -> None:
    assert main(["show", str(file), "--steps", "4-9"]) == 1
    assert "there are no such steps" in capsys.readouterr().err


def test_recover_says_that_there_is_no_such_folder(tmp_path: Path, capsys: Any) -> None:
    assert main(["recover", str(tmp_path / "nope")]) == 1
    assert "there is no folder" in capsys.readouterr().err


def test_recover_finishes_what_a_killed_process_left(tmp_path: Path, capsys: Any) -> None:
    part = Spool(tmp_path / f"run{SUFFIX}")
    part.write(line_of({"op": "base", "document": {**document(), "trajectory_id": "root"}}))
    part.close()
    finished = tmp_path / "run.json"
    assert shown(capsys, "recover", tmp_path) == (0, [str(finished), f"1 recovered in {tmp_path}"])
    assert shown(capsys, "show", finished)[0] == 0
    assert shown(capsys, "recover", tmp_path) == (0, [f"0 recovered in {tmp_path}"])


def test_a_reader_that_stops_early_gets_no_complaint(file: Path) -> None:
    long = document()
    long["steps"][0]["message"] = "word " * 200_000
    file.write_text(json.dumps(long))
    command = [sys.executable, "-c", "from spanrelay.cli import main; raise SystemExit(main())", "show", "--full"]
    with subprocess.Popen([*command, str(file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        complaint = process.stderr.read()
    assert complaint == b""
    assert process.returncode == 0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three runs, the newest last in the alphabet, and something else."""
    monkeypatch.setenv("SPANRELAY_TRAJECTORY_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "160")
    for number, name in enumerate(("alpha", "alto", "beta")):
        run = {**document(), "session_id": f"ticket-{name}"}
        run["steps"][0]["message"] = f"Is it\nraining in {name}?"
        (tmp_path / f"{name}.json").write_text(json.dumps(run))
        os.utime(tmp_path / f"{name}.json", (number, number))
    return tmp_path


def test_runs_are_listed_newest_first(folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    (folder / "broken.json").write_text("{")
    status, lines = shown(capsys, "list")
    assert status == 0
    assert [line.split() for line in lines[:1]] == [
        ["started", "agent", "session", "first", "words", "steps", "tokens", "cost", "errors"]
    ]
    assert "broken.json" in lines[1] and "is not JSON" in lines[1]
    assert [line.split()[0] for line in lines[2:5]] == ["2", "3", "4"]
    assert [line.split("raining in ")[1].split()[0] for line in lines[2:5]] == ["beta?", "alto?", "alpha?"]
    assert lines[2].split()[-4:] == ["3", "1,207", "$0.0123", "2"]
    assert lines[5] == f"4 in {folder}"


def test_the_run_that_began_last_is_the_newest_whenever_the_files_were_written(folder: Path, capsys: Any) -> None:
    for number, (name, begun) in enumerate((("alpha", 12), ("alto", 11), ("beta", 10)), 100):
        run = json.loads((folder / f"{name}.json").read_text())
        for step in run["steps"]:
            step["timestamp"] = f"2026-01-01T{begun}:00:00Z"
        if name == "beta":  # not as ours begin
            run["steps"][0] = dict(reversed(run["steps"][0].items()))
        (folder / f"{name}.json").write_text(json.dumps(run))
        os.utime(folder / f"{name}.json", (number, number))
    _, lines = shown(capsys, "list")
    assert [line.split("raining in ")[1].split()[0] for line in lines[1:4]] == ["alpha?", "alto?", "beta?"]
    assert shown(capsys, "show", folder)[1][-1] == str(folder / "alpha.json")


def test_first_words_are_those_of_a_conversation_beneath_where_nobody_spoke_above(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    asked = [{"step_id": 1, "source": "user", "message": f"Question {number}"} for number in (1, 2)]
    above = document()
    above["steps"] = [agent_step(1, message="", llm_call_count=0)]
    child = above["subagent_trajectories"][0]
    above["subagent_trajectories"] = [
        {**child, "trajectory_id": step["message"], "steps": [step], "subagent_trajectories": None} for step in asked
    ]
    (tmp_path / "fan.json").write_text(json.dumps(above))
    status, lines = shown(capsys, "list", tmp_path)
    assert status == 0 and "Question 1" in lines[1]


def test_a_folder_with_nothing_finished_says_what_finishes_it(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "killed.atif.part").write_text("")
    assert main(["list", str(tmp_path)]) == 1
    assert "1 not finished; `spanrelay.flush()` writes those" in capsys.readouterr().err


def test_a_long_list_says_that_there_is_more(folder: Path, capsys: Any) -> None:
    _, lines = shown(capsys, "list", "-n", "1")
    assert lines[2:] == [f"3 in {folder}, 2 of them not shown; use -n 3"]
    assert main(["show"]) == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[-1] == str(folder / "beta.json")
    assert told.err == "spanrelay: 2 more in this folder: `spanrelay list`\n"


@pytest.mark.parametrize(
    ("which", "name"),
    [
        ("1", "beta"),
        ("3", "alpha"),
        ("alto", "alto"),
        ("alp", "alpha"),
        ("ticket-beta", "beta"),
        ("ticket-be", "beta"),
    ],
)
def test_a_run_is_shown_by_number_name_or_session(folder: Path, capsys: Any, which: str, name: str) -> None:
    status, lines = shown(capsys, "show", which)
    assert (status, lines[-1]) == (0, str(folder / f"{name}.json"))


@pytest.mark.parametrize(
    ("which", "words"),
    [
        ("al", "2 trajectories begin with 'al': alto, alpha; write more of it"),
        ("4", "there is no file '4', and in"),
        ("gamma", "see `spanrelay list`"),
    ],
)
def test_a_name_of_none_or_several_is_told(folder: Path, capsys: Any, which: str, words: str) -> None:
    assert main(["show", which]) == 1
    assert words in capsys.readouterr().err


def test_the_package_runs_as_the_command() -> None:
    told = subprocess.run([sys.executable, "-m", "spanrelay", "--version"], capture_output=True, text=True, check=True)
    assert told.stdout == f"spanrelay {version('spanrelay')}\n"
