"""What the schema and the strict profile refuse: one probe a rule, each a good document with one thing changed."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.shared_data import SHARED, needs_shared

from spanrelay.assembly.atif import AtifError, Trajectory, schema_violations, violations

GOOD: dict[str, Any] = {
    "schema_version": "ATIF-v1.7",
    "session_id": "s",
    "trajectory_id": "t",
    "agent": {"name": "bot", "version": "1"},
    "steps": [
        {"step_id": 1, "timestamp": "2026-01-01T00:00:00Z", "source": "user", "message": "hi"},
        {
            "step_id": 2,
            "timestamp": "2026-01-01T00:00:01Z",
            "source": "agent",
            "message": "",
            "llm_call_count": 1,
            "tool_calls": [{"tool_call_id": "c1", "function_name": "f", "arguments": {}}],
            "observation": {
                "results": [
                    {
                        "source_call_id": "c1",
                        "content": "x",
                        "subagent_trajectory_ref": [{"trajectory_id": "child"}],
                    }
                ]
            },
            "metrics": {"prompt_tokens": 10, "completion_tokens": 5, "cached_tokens": 3},
        },
    ],
    "final_metrics": {
        "total_prompt_tokens": 11,
        "total_completion_tokens": 5,
        "total_cached_tokens": 3,
        "total_steps": 2,
    },
    "subagent_trajectories": [
        {
            "schema_version": "ATIF-v1.7",
            "trajectory_id": "child",
            "agent": {"name": "sub", "version": "1"},
            "steps": [{"step_id": 1, "source": "agent", "message": "x", "metrics": {"prompt_tokens": 1}}],
        }
    ],
}

Change = Callable[[dict[str, Any]], Any]
AGENT: Callable[[dict[str, Any]], dict[str, Any]] = lambda d: d["steps"][1]  # noqa: E731  # a short name for a place
PART = {"type": "image", "source": {"media_type": "image/png", "path": "images/a.png"}}

SCHEMA: dict[str, Change] = {
    "schema_version: is missing": lambda d: d.pop("schema_version"),
    "ATIF-v9.9": lambda d: d.update(schema_version="ATIF-v9.9"),
    "at least 1 item": lambda d: d.update(steps=[]),
    "is not a field of Trajectory": lambda d: d.update(cost=1),
    "is not a field of Step": lambda d: AGENT(d).update(cost=1),
    "is not a field of Metrics": lambda d: AGENT(d)["metrics"].update(total=1),
    "expected 2, got 3": lambda d: AGENT(d).update(step_id=3),
    "one of system, user, agent": lambda d: AGENT(d).update(source="tool"),
    "message: is missing": lambda d: AGENT(d).pop("message"),
    "message: expected a string or a list": lambda d: AGENT(d).update(message={"a": 1}),
    "expected a time": lambda d: AGENT(d).update(timestamp="1700000000"),
    "is for steps of the agent, not of the user": lambda d: d["steps"][0].update(model_name="m"),
    "no metrics and no reasoning": lambda d: AGENT(d).update(llm_call_count=0),
    "whole number from 0": lambda d: AGENT(d).update(llm_call_count=-1),
    "arguments: expected an object": lambda d: AGENT(d)["tool_calls"][0].update(arguments="{}"),
    "is not the id of a call of this step": lambda d: AGENT(d)["observation"]["results"][0].update(source_call_id="c9"),
    "points nowhere": lambda d: AGENT(d)["observation"]["results"][0].update(subagent_trajectory_ref=[{}]),
    "subagent_trajectory_ref: expected a list": lambda d: AGENT(d)["observation"]["results"][0].update(
        subagent_trajectory_ref={"trajectory_id": "child"}
    ),
    "content: expected a string or a list": lambda d: AGENT(d)["observation"]["results"][0].update(content=1),
    "expected a whole number": lambda d: AGENT(d)["metrics"].update(prompt_tokens=1.5),
    "expected an id of its own": lambda d: d["subagent_trajectories"][0].pop("trajectory_id"),
    "extra: expected an object": lambda d: d.update(extra=[]),
    "is not an image type": lambda d: AGENT(d).update(
        message=[{**PART, "source": {"media_type": "image/svg+xml", "path": "a"}}]
    ),
    "has a `source` and no `text`": lambda d: AGENT(d).update(message=[{**PART, "text": "x"}]),
    "has `text` and no `source`": lambda d: AGENT(d).update(message=[{"type": "text"}]),
}

PROFILE: dict[str, Change] = {
    "a document has a session": lambda d: d.pop("session_id"),
    "is null": lambda d: d["steps"][0].update(model_name=None),
    "name and version are not empty": lambda d: d["agent"].update(version=""),
    "has a `type`": lambda d: d["agent"].update(tool_definitions=[{"name": "f"}]),
    "has no time zone": lambda d: AGENT(d).update(timestamp="2026-01-01T00:00:01"),
    "earlier than the step before": lambda d: AGENT(d).update(timestamp="2025-01-01T00:00:01Z"),
    "steps of the agent and the system": lambda d: d["steps"][0].update(observation={"results": []}),
    "is for steps of the agent": lambda d: d["steps"][0].update(llm_call_count=1),
    "has a tool call": lambda d: d["steps"].append(
        {"step_id": 3, "source": "agent", "message": "", "llm_call_count": 0}
    ),
    "a copied step has none": lambda d: AGENT(d).update(is_copied_context=True),
    "media belong in files": lambda d: d["steps"][0].update(
        message=[{"type": "image", "source": {"media_type": "image/png", "path": "data:image/png;base64,AA"}}]
    ),
    "id and name are not empty": lambda d: AGENT(d)["tool_calls"][0].update(function_name=""),
    "has 2 results": lambda d: AGENT(d)["observation"]["results"].append({"source_call_id": "c1"}),
    "finite number from 0": lambda d: AGENT(d)["metrics"].update(cost_usd=float("nan")),
    "cannot be more than prompt_tokens": lambda d: AGENT(d)["metrics"].update(cached_tokens=11),
    "expected the sum": lambda d: d["final_metrics"].update(total_prompt_tokens=9),
    "expected the sum over steps, 5, or more; got None": lambda d: d["final_metrics"].pop("total_completion_tokens"),
    "total_cost_usd: expected a finite": lambda d: d["final_metrics"].update(total_cost_usd=float("nan")),
    "total_cached_tokens: expected the sum over steps, 3": lambda d: d["final_metrics"].update(total_cached_tokens=-1),
    "expected 2, got 5": lambda d: d["final_metrics"].update(total_steps=5),
    "does not have what this document uses": lambda d: d.update(schema_version="ATIF-v1.6"),
    "appears 2 times in one document": lambda d: d["steps"].append({**copy.deepcopy(AGENT(d)), "step_id": 3}),
    "trajectory id 'child' appears 2 times": lambda d: d.update(trajectory_id="child"),
    "matches no embedded": lambda d: d.pop("subagent_trajectories"),
    "is not referenced by any result": lambda d: AGENT(d).pop("observation"),
    "cannot be resolved": lambda d: AGENT(d)["observation"]["results"][0]["subagent_trajectory_ref"].append(
        {"session_id": "old"}
    ),
}


def changed(change: Change) -> dict[str, Any]:
    document = copy.deepcopy(GOOD)
    change(document)
    return document


def test_the_good_document_is_good() -> None:
    assert violations(GOOD) == []
    assert Trajectory.from_json(GOOD).to_json() == GOOD


@pytest.mark.parametrize("wrong", SCHEMA)
def test_the_schema_refuses(wrong: str) -> None:
    document = changed(SCHEMA[wrong])
    assert any(wrong in each for each in schema_violations(document))
    with pytest.raises(AtifError, match=r"^\$"):
        Trajectory.from_json(document)


@pytest.mark.parametrize("wrong", PROFILE)
def test_the_profile_refuses_what_the_schema_lets_pass(wrong: str) -> None:
    document = changed(PROFILE[wrong])
    assert schema_violations(document) == []
    assert any(wrong in each for each in violations(document))


@pytest.mark.parametrize("document", [None, [], "text", 3])
def test_what_is_no_object_is_no_trajectory(document: Any) -> None:
    assert schema_violations(document)
    with pytest.raises(AtifError):
        Trajectory.from_json(document)


@pytest.mark.parametrize("time", ["2026-01-01T00:00:00Z", "2026-01-01", "2026-01-01T00:00:00.123456789+02:00"])
def test_every_spelling_of_a_time_that_validators_take_is_read(time: str) -> None:
    assert schema_violations(changed(lambda d: d["steps"][0].update(timestamp=time))) == []


@pytest.mark.parametrize(
    "totals",
    [
        {"total_prompt_tokens": 10},  # without the embedded children
        {"total_prompt_tokens": 7802, "total_completion_tokens": 1030},  # with calls that stand elsewhere, or nowhere
        {"total_cost_usd": 0.0},  # that no step reports
    ],
)
def test_totals_may_count_more_than_the_steps_of_a_document(totals: dict[str, Any]) -> None:
    document = copy.deepcopy(GOOD)
    document["final_metrics"].update(totals)
    assert violations(document) == []


def test_notes_may_explain_another_number_of_steps() -> None:
    document = copy.deepcopy(GOOD)
    document["final_metrics"]["total_steps"] = 5
    document["notes"] = "Three steps stand in the document before."
    assert violations(document) == []


@needs_shared
def test_what_harbor_writes_is_valid() -> None:
    found = sorted(((SHARED or Path()) / "trajectories").glob("harbor_*.json"))
    assert len(found) >= 5
    assert {path.name: violations(json.loads(path.read_text())) for path in found} == {path.name: [] for path in found}
