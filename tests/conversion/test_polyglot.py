"""One conversation is one trajectory, whichever language, SDK and instrumentor recorded it.

What a capture lacks is in `lacks.py`; all else is the same, and no row is there that could be left out.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from tests.conversion import framework_lacks, lacks
from tests.conversion.captures import WEATHER, converted, told
from tests.shared_data import SHARED, needs_shared

pytestmark = needs_shared

LACKS = {**lacks.LACKS, **framework_lacks.LACKS}
CAPTURES = sorted(
    path.stem
    for path in (SHARED / "spans-polyglot").glob("*.jsonl")
    if ".metrics" not in path.name and path.stem not in framework_lacks.APART
) if SHARED else []  # fmt: skip

Facts = dict[str, Any]

EXPECTED: Facts = {
    "session": "session-1",
    "steps": WEATHER,
    "model": {"gpt-4.1-2025-04-14"},
    "tools": ["get_weather"],
    "reasoning tokens": [4],
}


def facts(document: dict[str, Any]) -> Facts:
    """Return what a document tells of the conversation."""
    steps = [step for step in document["steps"] if step.get("llm_call_count")]
    extras = [(step.get("metrics") or {}).get("extra") or {} for step in steps]
    tools = document["agent"].get("tool_definitions") or []
    return {
        "session": document["session_id"],
        "steps": told(document),
        "model": {step.get("model_name") for step in steps},
        "tools": [tool["function"]["name"] for tool in tools],
        "reasoning tokens": [extra["reasoning_tokens"] for extra in extras if "reasoning_tokens" in extra],
    }


def _without(field: str) -> Callable[[Facts], None]:
    def leave_out(given: Facts) -> None:
        given.pop(field, None)

    return leave_out


def _in_steps(change: Callable[[dict[str, Any]], object]) -> Callable[[Facts], None]:
    def change_all(given: Facts) -> None:
        for step in given["steps"]:
            change(step)

    return change_all


def _leave_out_cached(step: dict[str, Any]) -> None:
    if "tokens" in step:
        step["tokens"] = step["tokens"][:2]


def _leave_out_usage(given: Facts) -> None:
    given.pop("reasoning tokens", None)
    for step in given["steps"]:
        step.pop("tokens", None)


def _leave_out_error_text(step: dict[str, Any]) -> None:
    results = step.get("results") or {}
    if len(results) == 2:
        results[list(results)[1]] = "…"


def _leave_out_words(given: Facts) -> None:
    given["steps"] = [{**step, "message": ""} for step in given["steps"] if step["source"] == "agent"]


def _number_calls(given: Facts) -> None:
    """Call calls by their places."""
    for number, step in enumerate(given["steps"]):
        names = {call: f"{number}.{place}" for place, call in enumerate(step.get("calls", ()))}
        for field in ("calls", "results"):
            if field in step:
                step[field] = {names.get(call, call): value for call, value in step[field].items()}
        if "failed" in step:
            step["failed"] = {names.get(call, call) for call in step["failed"]}


ASPECTS: dict[str, Callable[[Facts], None]] = {
    "session": _without("session"),
    "model": _without("model"),
    "tools": _without("tools"),
    "reasoning tokens": _without("reasoning tokens"),
    "cached": _in_steps(_leave_out_cached),
    "usage": _leave_out_usage,
    "failed": _in_steps(lambda step: step.pop("failed", None)),
    "error text": _in_steps(_leave_out_error_text),
    "call ids": _number_calls,
    "words": _leave_out_words,
    "system": lambda given: given["steps"].pop(0) if given["steps"][0]["source"] == "system" else None,
}
"""What telemetry can lack, each with what leaves it out of what is told."""


def beside(given: Facts, lacks: Iterable[str]) -> Facts:
    """Return what is told beside what is lacking."""
    rest = copy.deepcopy(given)
    for lack in lacks:
        ASPECTS[lack](rest)
    return rest


def lacks_of(name: str) -> list[str]:
    return [lack for capture, lack in LACKS if capture == name]


def capture(name: str) -> Path:
    assert SHARED is not None
    return SHARED / "spans-polyglot" / f"{name}.jsonl"


@pytest.mark.parametrize("name", CAPTURES)
def test_a_capture_is_the_one_conversation_but_for_what_it_lacks(name: str, tmp_path: Path) -> None:
    documents, summary = converted([capture(name)], tmp_path)
    assert summary.findings == []
    (document,) = documents
    lacks = lacks_of(name)
    assert beside(facts(document), lacks) == beside(EXPECTED, lacks)


@pytest.mark.parametrize(("name", "lack"), [row for row in LACKS if row[0] in CAPTURES])
def test_what_a_capture_is_said_to_lack_it_lacks(name: str, lack: str, tmp_path: Path) -> None:
    (document,), _ = converted([capture(name)], tmp_path)
    others = [other for other in lacks_of(name) if other != lack]
    assert beside(facts(document), others) != beside(EXPECTED, others)


@pytest.mark.parametrize("name", CAPTURES)
def test_requests_may_come_in_any_order(name: str, tmp_path: Path) -> None:
    lines = capture(name).read_text().splitlines(keepends=True)
    random.Random(name).shuffle(lines)
    (tmp_path / "shuffled.jsonl").write_text("".join(lines))
    whole, _ = converted([capture(name)], tmp_path / "whole")
    assert converted([tmp_path / "shuffled.jsonl"], tmp_path / "shuffled")[0] == whole


@pytest.mark.parametrize("name", CAPTURES)
def test_what_came_twice_counts_once(name: str, tmp_path: Path) -> None:
    whole, _ = converted([capture(name)], tmp_path / "whole")
    assert converted([capture(name), capture(name)], tmp_path / "twice")[0] == whole


def test_a_row_is_of_a_capture_and_names_an_aspect() -> None:
    assert {lack for _, lack in LACKS} <= ASPECTS.keys()
    assert all(reason for reason in LACKS.values())
