import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import pytest
from benchmarks import peers, workload
from benchmarks.environments import Environment
from benchmarks.measure import Cost, Figure, differences, mean, median
from benchmarks.peers import Outcome, Peer
from benchmarks.results import Result, against_floor, table
from benchmarks.rows import ROWS
from benchmarks.sdks import SDKS

ROOT = Path(__file__).parents[1]
IN_PROCESS = sorted(set(ROWS) - {"boot", "gateways", "kafka", *SDKS})  # which build environments, or ask for a broker


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict[str, Any]]]:
    """The table and the results of all rows, in a process of its own: rows switch the garbage collector."""
    file = tmp_path_factory.mktemp("benchmarks") / "results.json"
    command = (sys.executable, "-m", "benchmarks", "--quick", "--json", str(file), *IN_PROCESS)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(file.read_text())["results"]


@pytest.mark.slow
def test_every_row_runs_and_prints_its_figures(quick_run: tuple[str, list[dict[str, Any]]]) -> None:
    printed, results = quick_run
    assert len(results) > len(IN_PROCESS)
    for result in results:
        assert f"| {result['row']} " in printed


@pytest.mark.slow
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


def test_what_grows_from_call_to_call_is_no_error_of_the_mean() -> None:
    steady = mean([float(value) for value in range(0, 1000, 10)])
    assert steady.value == 495.0
    assert steady.error < 1.0


def test_a_growing_conversation_sends_all_that_was_said_and_the_next_question() -> None:
    conversation = workload.Conversation(60)
    conversation.begin()
    first = conversation.said
    conversation.begin()
    second = conversation.said
    assert [message["role"] for message in second] == ["user", "assistant"] * 2
    assert second[:2] == first
    assert {len(message["content"]) for message in second} == {60}
    assert len({message["content"] for message in second}) == 4
    answered: Any = conversation.ask()
    assert answered["choices"][0]["message"]["content"] == second[-1]["content"]


def test_turns_that_begin_at_once_are_as_if_the_ones_before_had_been() -> None:
    one_by_one, at_once = workload.Conversation(60), workload.Conversation(60)
    for _ in range(3):
        one_by_one.begin()
    at_once.begin(3)
    assert one_by_one.said == at_once.said


def test_the_table_is_aligned_markdown() -> None:
    lines = table([Result("chat", "wall", "µs", 120.0, 1.0, 80.0, 1.0, 2.0)]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert "≤ 2 x" in lines[2] and "1.50" in lines[2] and "yes" in lines[2]


class ThisEnvironment(Environment):
    """The one that runs the tests, in which SpanRelay is installed and no peer is."""

    def program(self, name: str) -> str:
        return sys.executable


class NoEnvironment(Environment):
    """One whose requirements cannot be met."""

    def program(self, name: str) -> str:
        raise RuntimeError("pip failed: ERROR: No matching distribution found for a-peer")


@pytest.mark.slow
def test_a_peer_is_measured_by_a_process_in_its_environment() -> None:
    outcome = peers.run(Peer("spanrelay", "SpanRelay", ThisEnvironment("here", ())), ["chat-1k", "tool"], quick=True)
    assert outcome.failures == {}
    assert [(result.row, result.figure) for result in outcome.results] == [
        ("chat, 1 KB", "wall"),
        ("chat, 1 KB", "CPU"),
        ("managed tool call", "wall"),
        ("managed tool call", "CPU"),
    ]
    assert all(result.floor is not None for result in outcome.results)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "environment", "reason"),
    [
        ("genai", NoEnvironment("none", ()), "pip failed: ERROR: No matching distribution found for a-peer"),
        ("nemo-relay", ThisEnvironment("here", ()), "ModuleNotFoundError: No module named 'nemo_relay'"),
        ("nobody", ThisEnvironment("here", ()), "exit status 2: python -m benchmarks.peer: error: "),
    ],
    ids=["cannot be installed", "cannot be set up", "cannot be run"],
)
def test_a_peer_without_figures_is_printed_with_the_reason(name: str, environment: Environment, reason: str) -> None:
    outcome = peers.run(Peer(name, "A peer", environment), ["chat-1k", "stream"], quick=True)
    assert set(outcome.failures) == {"chat-1k", "stream"}
    assert f"A peer, no chat-1k, stream: {reason}" in peers.report([outcome])


def test_a_row_that_fails_costs_a_peer_no_other_row() -> None:
    peer = Peer("peer", "A peer", NoEnvironment("none", ()))
    found = Result("chat, 1 KB", "wall", "µs", 150.0, 1.0, 50.0, 1.0)
    printed = peers.report([Outcome(peer, [found], {"tool": "records no tool calls"}), Outcome(peer)]).splitlines()
    assert "| 3.0 x (150 ± 1 µs) | -" in printed[2]
    assert "A peer, no tool: records no tool calls" in printed
    assert json.loads(json.dumps(Outcome(peers.SPANRELAY, [found]).to_json()))["versions"] == "this clone"


def test_a_peer_environment_needs_nothing_of_spanrelay() -> None:
    code = "import sys; sys.modules['spanrelay'] = sys.modules['spanrelay_openai'] = None; import benchmarks.peer"
    done = subprocess.run((sys.executable, "-c", code), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_patch_over_an_inherited_method_is_taken_out_and_put_back() -> None:
    assert "request" not in vars(openai.OpenAI)

    def request(self: openai.OpenAI, *arguments: Any, **options: Any) -> Any:
        return super(openai.OpenAI, self).request(*arguments, **options)

    patched = workload.Patched(lambda: setattr(openai.OpenAI, "request", request))
    patched.off()
    assert "request" not in vars(openai.OpenAI)
    patched.on()
    assert vars(openai.OpenAI)["request"] is request
    patched.off()
    assert "request" not in vars(openai.OpenAI)
