"""`spanrelay diff` says what two runs did differently, and nothing of what is another in every run."""

import json
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from tests.shared_data import SHARED, needs_shared
from tests.test_cli import agent_step, document, shown

from spanrelay.assembly.atif import Trajectory
from spanrelay.cli import main
from spanrelay.evaluation import alignment
from spanrelay.evaluation.alignment import aligned
from spanrelay.evaluation.comparison import compare


def written(folder: Path, name: str, told: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(told))
    return path


@pytest.fixture
def told(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Tells how a document differs from `document()`: the status, and the lines but for the names of the files."""
    monkeypatch.setenv("COLUMNS", "100")

    def tell(other: dict[str, Any], *options: str, left: dict[str, Any] | None = None) -> tuple[int, list[str]]:
        mine = written(tmp_path, "a", document() if left is None else left)
        status, lines = shown(capsys, "diff", mine, written(tmp_path, "b", other), *options)
        return status, lines[2:] if status else lines

    return tell


def another_run() -> dict[str, Any]:
    """The same run at another time, under other ids, with another `extra`."""
    other = document()
    other["session_id"], other["trajectory_id"] = "s-2", "other"
    for step in other["steps"]:
        step["timestamp"] = "2027-05-05T00:00:00Z"
        step["extra"] = {**step.get("extra", {}), "duration_sec": 9.5, "otel": {"span_id": "77"}}
    step = other["steps"][1]
    for call, result in zip(step["tool_calls"], step["observation"]["results"], strict=True):
        call["tool_call_id"] = result["source_call_id"] = f"other-{call['tool_call_id']}"
    other["subagent_trajectories"][0]["trajectory_id"] = "other-child"
    step["observation"]["results"][1]["subagent_trajectory_ref"][0]["trajectory_id"] = "other-child"
    return other


@pytest.mark.parametrize("options", [[], ["--all"]])
def test_ids_and_times_are_no_difference(told: Any, options: list[str]) -> None:
    assert told(another_run(), *options) == (0, ["equal: 3 steps"])


def test_a_difference_is_told_by_step_and_field_with_both_values(told: Any) -> None:
    other = another_run()
    other["steps"][1]["tool_calls"][0]["arguments"]["city"] = "Bergen"
    other["steps"][1]["observation"]["results"][0]["content"] = "rain \x1b[2J"
    assert told(other) == (
        1,
        [
            "1 step differs",
            "└── step 2 agent",
            "    ├── tool_calls[0].arguments.city",
            '    │   - "Oslo"',
            '    │   + "Bergen"',
            "    └── tool_calls[0].results[0].content",
            '        - "no station"',
            '        + "rain \\u001b[2J"',
        ],
    )


def test_a_step_that_one_has_more_does_not_make_the_others_differ(told: Any) -> None:
    other = another_run()
    other["steps"].insert(1, {"step_id": 2, "source": "user", "message": "Really?"})
    other["steps"][2]["step_id"], other["steps"][3]["step_id"] = 3, 4
    del other["final_metrics"]["total_steps"]
    left = document()
    del left["final_metrics"]["total_steps"]
    assert told(other, left=left) == (
        1,
        ["1 step differs", "└── step 2 user  only in B", "    + Really?"],
    )


def test_steps_that_differ_are_compared_with_those_that_call_the_same_tools() -> None:
    left, right = Trajectory.from_json(document()), Trajectory.from_json(document())
    right.steps[1].message = "changed"
    right.steps.insert(1, Trajectory.from_json(document()).steps[2])
    right.steps[1].message = "more"
    found = compare(left, right).steps
    assert [(step.left and step.left.step_id, step.right and step.right.message) for step in found] == [
        (None, "more"),
        (2, "changed"),
    ]


def test_a_sub_agent_is_compared_beneath_its_step(told: Any) -> None:
    other = another_run()
    other["subagent_trajectories"][0]["steps"][0]["message"] = "It will snow."
    status, lines = told(other)
    assert status == 1
    assert lines[1:4] == ["└── step 2 agent", "    └── expert", "        └── step 1 agent"]
    assert lines[-1].strip() == '+ "It will snow."'


def test_a_sub_agent_that_only_one_has_is_told(told: Any) -> None:
    other = another_run()
    del other["subagent_trajectories"], other["steps"][1]["observation"]["results"][1]["subagent_trajectory_ref"]
    assert told(other)[1][-1].strip() == "└── expert  sub-agent only in A"


def test_a_sub_agent_that_no_step_refers_to_is_compared_too(told: Any) -> None:
    left, right = document(), document()
    for each in (left, right):
        del each["steps"][1]["observation"]["results"][1]["subagent_trajectory_ref"]
    right["subagent_trajectories"][0]["steps"][0]["message"] = "It will snow."
    status, lines = told(right, left=left)
    assert (status, lines[:2]) == (1, ["1 sub-agent differs", "└── expert"])


def test_extra_counts_only_where_it_is_asked_for(told: Any) -> None:
    other = another_run()
    other["steps"][2]["extra"]["error"]["message"] = "slower"
    assert told(other)[0] == 0
    status, lines = told(other, "--all")
    assert (status, lines[2].strip()) == (1, "└── extra.error.message")


def test_a_long_value_is_cut_to_where_it_differs_unless_all_is_asked_for(told: Any) -> None:
    left, right = document(), document()
    left["steps"][0]["message"] = "word " * 200 + "one" + " more" * 200
    right["steps"][0]["message"] = "word " * 200 + "two" + " more" * 200
    lines = told(right, left=left)[1]
    assert max(map(len, lines)) <= 100
    assert ["one" in lines[-2], "two" in lines[-1]] == [True, True]
    assert len(told(right, "--full", left=left)[1]) > len(lines)


def test_the_head_is_compared_too_and_tools_by_their_names(told: Any) -> None:
    tool = {"type": "function", "function": {"name": "get_weather", "description": "old"}}
    left, right = document(), document()
    left["agent"]["tool_definitions"] = [tool]
    right["agent"]["tool_definitions"] = [{"type": "function", "function": {"name": "new"}}, deepcopy(tool)]
    right["agent"]["tool_definitions"][1]["function"]["description"] = "new"
    lines = told(right, left=left)[1]
    assert lines[0] == "the head differs"
    assert [line.split()[-1] for line in lines if "tool_definitions" in line] == ["agent.tool_definitions.new"]


def test_how_a_tool_is_described_and_which_build_ran_count_where_all_is_asked_for(told: Any) -> None:
    left, right = document(), document()
    for given, words in ((left, "old"), (right, "new")):
        tool = {"type": "function", "function": {"name": "get_weather", "description": words}}
        given["agent"] |= {"tool_definitions": [tool], "version": words}
    assert told(right, left=left)[0] == 0
    assert [line.split()[-1] for line in told(right, "--all", left=left)[1] if "agent." in line] == [
        "agent.version",
        "agent.tool_definitions.get_weather.function.description",
    ]


@pytest.mark.parametrize(
    ("left", "right", "words"),
    [
        ("a.json", "nope", "there is no file 'nope'"),
        (".", "a.json", "one of the two is a folder"),
        ("a.json", "broken.json", "is not JSON"),
        ("a.json", "other.json", "is not an ATIF trajectory"),
    ],
)
def test_what_cannot_be_compared_is_neither_equal_nor_different(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, left: str, right: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "a", document())
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "other.json").write_text("{}")
    assert main(["diff", left, right]) == 2
    assert words in capsys.readouterr().err


def test_folders_are_compared_by_session_and_nameless_runs_in_their_order(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    left, right = tmp_path / "left", tmp_path / "right"
    changed = another_run() | {"session_id": "s-1"}
    changed["steps"][0]["message"] = "Rain?"
    written(left, "named", document())
    written(right, "called-otherwise", changed)
    written(left, "traced", document() | {"session_id": "0" * 31 + "1"})
    written(right, "traced-too", another_run() | {"session_id": "0" * 31 + "2"})
    written(right, "more", document() | {"session_id": "new"})
    (right / "result.json").write_text("{}")
    status, lines = shown(capsys, "diff", left, right)
    assert status == 1
    assert lines[0] == f"- {left / 'named.json'}"
    assert lines[-2:] == [f"only in {right}: more.json", f"1 equal, 1 different, 1 only in {right}"]


def test_equal_folders_are_equal(tmp_path: Path, capsys: Any) -> None:
    written(tmp_path / "left", "one", document())
    shutil.copytree(tmp_path / "left", tmp_path / "right")
    assert shown(capsys, "diff", tmp_path / "left", tmp_path / "right") == (0, ["1 equal"])


def test_what_would_take_too_many_comparisons_is_paired_by_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "MOST_COMPARISONS", 5)
    assert list(aligned("aaa", "aa", [str])) == [("a", "a"), ("a", "a"), ("a", None)]


def test_no_pair_crosses_another() -> None:
    assert list(aligned("abcx", "axb", [str])) == [("a", "a"), (None, "x"), ("b", "b"), ("c", None), ("x", None)]


def test_numbers_are_the_same_where_only_a_sum_of_floats_went_another_way(told: Any) -> None:
    left, right = document(), document()
    left["steps"][1]["metrics"]["cost_usd"], right["steps"][1]["metrics"]["cost_usd"] = 0.1 + 0.2, 0.3
    assert told(right, left=left)[0] == 0
    right["steps"][1]["tool_calls"][0]["arguments"]["city"] = 1
    left["steps"][1]["tool_calls"][0]["arguments"]["city"] = True
    assert told(right, left=left)[0] == 1


def test_what_is_nested_deep_is_compared(told: Any) -> None:
    left, right = document(), document()
    deep: Any = 1
    for _ in range(400):
        deep = {"in": deep}
    left["steps"][1]["tool_calls"][0]["arguments"] = deep
    right["steps"][1]["tool_calls"][0]["arguments"] = json.loads(json.dumps(deep).replace("1", "2"))
    assert told(right, left=left)[0] == 1
    assert told(left, left=left)[0] == 0


@needs_shared
def test_each_real_trajectory_is_equal_to_itself_and_to_no_other() -> None:
    found = [
        Trajectory.from_json(json.loads(path.read_text()))
        for path in sorted((SHARED or Path()).glob("trajectories/*.json"))
    ]
    assert len(found) >= 8
    for left in found:
        for right in found:
            assert bool(compare(left, right, everything=True)) is (left is not right)


def test_steps_without_a_call_of_the_same_name_are_said_to_be_missing(told: Any) -> None:
    other = document()
    other["steps"][2] = agent_step(3, tool_calls=[{"tool_call_id": "z", "function_name": "stop", "arguments": {}}])
    status, lines = told(other)
    assert (status, lines[1]) == (1, "└── step 3 agent")
