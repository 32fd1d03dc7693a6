"""`spanrelay stats` adds up what documents say, once, and says of how much it does not know."""

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
from tests.shared_data import SHARED, needs_shared
from tests.test_cli import Terminal, agent_step, document, shown

from spanrelay.assembly.atif import Trajectory
from spanrelay.cli import main, stats
from spanrelay.evaluation import durations
from spanrelay.evaluation.durations import Durations
from spanrelay.evaluation.figures import Tally


def tally_of(*told: dict[str, Any]) -> Tally:
    tally = Tally()
    for each in told:
        tally.add(Trajectory.from_json(each))
    return tally


def of(rows: Any, name: str, *wanted: str) -> list[Any]:
    figures = rows[name].to_json()
    return [figures[each] for each in wanted]


def timed() -> dict[str, Any]:
    """`document()`, whose parts say how long they took."""
    told = document()
    told["steps"][1]["extra"] = {"duration_sec": 1.5}
    told["steps"][2]["extra"]["duration_sec"] = 0.5
    for seconds, result in zip((0.25, 2), told["steps"][1]["observation"]["results"], strict=True):
        result["extra"] = {**result.get("extra", {}), "duration_sec": seconds}
    return told


def test_calls_tokens_cost_and_failures_are_counted_by_agent_model_and_tool() -> None:
    tally = tally_of(timed(), timed())
    what = ("calls", "tool_calls", "errors", "prompt_tokens", "cached_share", "completion_tokens", "cost_usd", "runs")
    assert of(tally.agents, "demo", *what) == [4, 4, 4, 2400, 1000 / 1200, 14, 0.0246, 2]
    assert of(tally.agents, "expert", *what) == [2, 0, 0, None, None, None, None, 2]
    assert of(tally.models, "gpt-5", *what[:4]) == [4, 0, 2, 2400]
    assert of(tally.models, "unknown", "calls") == [2]
    assert of(tally.tools, "get_weather", "calls", "error_rate", "latency_p50_sec") == [2, 1.0, 0.25]
    assert of(tally.tools, "ask_expert", "calls", "error_rate", "latency_p95_sec") == [2, 0.0, 2]
    assert tally.total.calls == 6


def test_latency_is_of_calls_and_of_whole_runs() -> None:
    tally = tally_of(timed())
    times = ("latency_p50_sec", "latency_p95_sec", "timed")
    assert of(tally.models, "gpt-5", *times) == [0.5, 1.5, 2]
    assert of(tally.agents, "demo", *times) == [3.0, 3.0, 1]  # 1.5 s after the beginning a call of 1.5 s


@pytest.mark.parametrize(
    ("extra", "metrics", "seconds"),
    [
        ({"duration_sec": 2}, None, 2),
        ({"invocation": {"start_timestamp": 100.0, "end_timestamp": 102.5}}, None, 2.5),
        ({}, {"extra": {"latency_ms": 1500}}, 1.5),
        ({"duration_sec": "2"}, None, None),
        ({"duration_sec": True}, None, None),
        ({"invocation": {"start_timestamp": 100.0}}, None, None),
        ({"duration_sec": -1}, None, None),
    ],
)
def test_each_producer_says_in_its_own_way_how_long_a_call_took(extra: Any, metrics: Any, seconds: Any) -> None:
    step = agent_step(1, message="hi", extra=extra, **({"metrics": metrics} if metrics else {}))
    told = {"schema_version": "ATIF-v1.7", "agent": {"name": "a", "version": "1"}, "steps": [step]}
    assert of(tally_of(told).models, "unknown", "latency_p50_sec") == [seconds]


def test_what_no_model_did_is_no_call_of_one() -> None:
    told = document()
    told["steps"] = [
        agent_step(1, message="from the history", is_copied_context=True),
        agent_step(2, llm_call_count=0, tool_calls=[{"tool_call_id": "t", "function_name": "f", "arguments": {}}]),
        agent_step(
            3, llm_call_count=0, tool_calls=[{"tool_call_id": "subagent:x", "function_name": "x", "arguments": {}}]
        ),
        agent_step(4, message="three at once", llm_call_count=3),
    ]
    del told["subagent_trajectories"], told["final_metrics"]
    tally = tally_of(told)
    assert (tally.total.calls, tally.total.tool_calls, list(tally.tools)) == (3, 1, ["f"])


def test_a_refused_call_has_failed() -> None:
    told = document()
    told["steps"][1]["tool_calls"][1]["extra"] = {"refused": "not allowed"}
    assert tally_of(told).tools["ask_expert"].errors == 1


def test_another_agent_that_acts_in_a_document_is_named() -> None:
    told = document()
    told["steps"][2]["extra"]["agent_name"] = "clerk"
    tally = tally_of(told)
    assert (tally.agents["demo"].calls, tally.agents["clerk"].calls, tally.agents["clerk"].runs) == (1, 1, 0)


def test_totals_stand_where_no_step_says_and_never_twice() -> None:
    told = document()
    del told["steps"][1]["metrics"]
    tally = tally_of(told)
    assert of(tally.models, "unknown", "prompt_tokens") == [1200]  # whose model's they are nobody says
    assert tally.total.cost_usd == 0.0123
    told["subagent_trajectories"][0]["agent"]["model_name"] = "gpt-5"
    assert of(tally_of(told).models, "gpt-5", "prompt_tokens", "priced_calls") == [1200, 3]
    told["steps"][1]["observation"]["results"][0]["subagent_trajectory_ref"] = [{"trajectory_path": "other.json"}]
    assert tally_of(told).total.prompt_tokens is None  # the other file's count where that is added


@needs_shared
def test_tokens_of_sub_agents_in_files_of_their_own_count_once() -> None:
    paths = sorted((SHARED or Path()).glob("trajectories/harbor_terminus2*.json"))
    tally = tally_of(*(json.loads(path.read_text()) for path in paths))
    assert len(paths) == 4
    assert tally.total.prompt_tokens == 7802  # what the first file's totals say
    assert tally.total.cost_usd == pytest.approx(0.0298, abs=1e-4)


def test_many_durations_take_little_memory_and_are_told_within_half_a_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    made = random.Random(7)
    values = [made.lognormvariate(0, 2) for _ in range(5000)]
    exact, rough = Durations(), Durations()
    for value in values:
        exact.add(value)
    monkeypatch.setattr(durations, "KEPT", 10)
    for value in values:
        rough.add(value)
    for share in (0.5, 0.95):
        assert rough.at(share) == pytest.approx(sorted(values)[int(share * 5000) - 1], rel=0.005)
    assert len(rough._buckets) < 3000
    assert rough._values == []
    assert Durations().at(0.5) is None


@pytest.mark.parametrize(("given", "p50", "p95"), [([3], 3, 3), ([1, 2, 3], 2, 3), ([0, 0, 5, 7], 0, 7)])
def test_a_percentile_is_one_of_the_durations(given: list[float], p50: float, p95: float) -> None:
    found = Durations()
    for each in given:
        found.add(each)
    assert (found.at(0.5), found.at(0.95)) == (p50, p95)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (1, 2):
        (tmp_path / f"run-{number}.json").write_text(json.dumps(timed()))
    (tmp_path / "result.json").write_text("[]")
    return tmp_path


TABLES = """\
agent   runs  calls  tool calls     in  out  cached     cost  run p50  run p95  errors  of cost
demo       2      4           4  2,400   14     83%  $0.0246   3.00 s   3.00 s   50.0%  ████████████ 100%
expert     2      2           0                                                                        0%

model    calls     in  out  cached     cost     p50     p95  errors  of cost
gpt-5        4  2,400   14     83%  $0.0246  0.50 s  1.50 s   50.0%  ████████████ 100%
unknown      2                                                                      0%

tool         calls     p50     p95  errors  of calls
ask_expert       2  2.00 s  2.00 s          ████████████  50%
get_weather      2  0.25 s  0.25 s  100.0%  ████████████  50%

2 trajectories, 6 model calls, 4 tool calls, 4 errors, 2,400 in, 14 out, 83% cached, $0.0246 cost
cost is known of 2 of 6 model calls
latency is known of 4 of 6 model calls"""


def test_a_table_for_each_shows_what_is_known_with_bars(folder: Path, capsys: Any) -> None:
    assert shown(capsys, "stats", folder, folder / "run-1.json") == (0, TABLES.splitlines())


def test_bars_are_left_out_where_a_terminal_has_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setattr("sys.stdout", terminal := Terminal())
    stats._print_tables(tally_of(timed()))
    lines = terminal.getvalue().splitlines()
    assert max(map(len, lines[:2])) <= 90
    assert "█" not in "".join(lines[:3])
    assert "█" in "".join(lines[4:])


def test_all_figures_are_there_as_json_and_as_csv(folder: Path, capsys: Any) -> None:
    assert main(["stats", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["documents"], told["total"]["calls"]) == (2, 6)
    assert main(["stats", str(folder), "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["kind"], row["name"]) for row in rows] == [
        (kind[:-1], row["name"]) for kind in ("agents", "models", "tools") for row in told[kind]
    ]
    assert float(rows[0]["cost_usd"]) == told["agents"][0]["cost_usd"] == 0.0246


def test_a_file_that_is_none_is_told_and_the_others_count(folder: Path, capsys: Any) -> None:
    (folder / "broken.json").write_text("{")
    assert main(["stats", str(folder)]) == 1
    told = capsys.readouterr()
    assert "broken.json" in told.err
    assert "2 trajectories" in told.out


def test_no_trajectory_is_told(tmp_path: Path, capsys: Any) -> None:
    assert main(["stats", str(tmp_path)]) == 1
    assert "no trajectory in" in capsys.readouterr().err


def test_without_a_place_the_folder_of_the_settings_is_meant(
    folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPANRELAY_TRAJECTORY_DIR", str(folder))
    assert shown(capsys, "stats") == (0, TABLES.splitlines())
    monkeypatch.setenv("SPANRELAY_TRAJECTORY_DIR", str(folder / "nope"))
    assert main(["stats"]) == 1
    assert "there is no folder" in capsys.readouterr().err


def test_a_name_cannot_move_the_cursor(tmp_path: Path, capsys: Any) -> None:
    told = document()
    told["agent"]["name"] = "x\x1b[2J"
    (path := tmp_path / "run.json").write_text(json.dumps(told))
    _, lines = shown(capsys, "stats", path)
    assert lines[1].startswith("x\\x1b[2J")


def cached(**told: Any) -> dict[str, Any]:
    """A document whose first answer tells of its prompt cache."""
    given = document()
    given["steps"][1]["metrics"] = {
        "prompt_tokens": 1000,
        "cached_tokens": 900,
        "extra": {"cache_creation_input_tokens": 50, "prompt_cache": told},
    }
    return given


def test_what_prompt_caches_saved_is_told_by_scaffold(tmp_path: Path, capsys: Any) -> None:
    for at, told in enumerate(
        (
            {"decision": "marked", "scaffold": "1f", "saved_tokens": 800, "saved_usd": 0.5},
            {"decision": "marked", "scaffold": "1f", "saved_tokens": -250, "saved_usd": -0.1, "missed": "first_use"},
            {"decision": "would_mark", "scaffold": "2e", "saved_tokens": 10, "missed": "expired"},
            {"decision": "unmarked", "skipped": "callers_own"},
        )
    ):
        (tmp_path / f"{at}.json").write_text(json.dumps(cached(**told)))
    lines = shown(capsys, "stats", str(tmp_path))[1]
    start = next(at for at, line in enumerate(lines) if line.startswith("prompt cache"))
    rows = [" ".join(line.split()) for line in lines[start : start + 4]]
    assert rows == [
        "prompt cache calls observed read written saved tokens saved missed by",
        "gpt-5 1f 2 90% 5% 550 $0.4000 first_use",
        "gpt-5 2e 1 1 90% 5% 10 expired",
        "gpt-5 1 90% 5% 0 callers_own",
    ]
