import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks.__main__ import ROWS
from benchmarks.measure import Cost, Figure, differences, median
from benchmarks.results import Result, against_floor, table

ROOT = Path(__file__).parents[1]
IN_PROCESS = sorted(set(ROWS) - {"boot"})  # boot builds environments, which needs a package index


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict[str, Any]]]:
    """The table and the results of all rows, in a process of its own: rows switch the garbage collector."""
    file = tmp_path_factory.mktemp("benchmarks") / "results.json"
    command = (sys.executable, "-m", "benchmarks", "--quick", "--json", str(file), *IN_PROCESS)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(file.read_text())["results"]


def test_every_row_runs_and_prints_its_figures(quick_run: tuple[str, list[dict[str, Any]]]) -> None:
    printed, results = quick_run
    assert len(results) > len(IN_PROCESS)
    for result in results:
        assert f"| {result['row']} " in printed


def test_what_has_a_floor_is_printed_as_a_ratio(quick_run: tuple[str, list[dict[str, Any]]]) -> None:
    printed, results = quick_run
    ratios = [f"{result['ratio']:.2f}" for result in results if result["floor"] is not None]
    assert len(ratios) >= 2 * 8
    assert all(f"| {ratio} " in printed for ratio in ratios)


def test_an_unknown_row_is_named_with_those_that_exist() -> None:
    command = (sys.executable, "-m", "benchmarks", "chat-2k")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "chat-2k" in done.stderr and "chat-1k" in done.stderr


def test_what_recording_adds_is_compared_with_what_the_floor_adds() -> None:
    bare, floor, ours = [Cost(100.0, 0.0, 200.0)] * 3, [Cost(110.0, 0.0, 240.0)] * 3, [Cost(115.0, 0.0, 300.0)] * 3
    wall, cpu = against_floor("row", ours, bare, floor, limit=2.0)
    assert (wall.ratio, wall.holds) == (1.5, "yes")
    assert (cpu.ratio, cpu.holds) == (2.5, "no")


def test_a_slow_round_cancels_out() -> None:
    bare = [Cost(float(slow), 0.0, 0.0) for slow in (100, 900, 100)]
    ours = [Cost(float(slow), 0.0, 0.0) for slow in (107, 907, 107)]
    assert median([cost.wall for cost in differences(ours, bare)]) == Figure(7.0, 0.0)


def test_a_budget_within_the_error_is_called_near() -> None:
    assert Result("row", "wall", "µs", 1.5, error=0.2, limit=1.6).holds == "near"
    assert Result("row", "wall", "µs", 1.5, error=0.05, limit=1.6).holds == "yes"
    assert Result("row", "rate", "", 10.0, limit=20.0, more=True).holds == "no"


def test_the_table_is_aligned_markdown() -> None:
    lines = table([Result("chat", "wall", "µs", 120.0, 1.0, 80.0, 1.0, 2.0)]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert "≤ 2 x" in lines[2] and "1.50" in lines[2] and "yes" in lines[2]
