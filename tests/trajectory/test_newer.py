"""A document of a version that came later is read as far as it is understood, and nothing of it is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.view.documents import newer as later
from tests.view.documents import trip

from spanrelay.assembly import newer
from spanrelay.assembly.atif import AtifError, Trajectory, schema_violations


def leaves(value: Any) -> Iterator[str]:
    """Every text and number of a document, and the name of every member."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from (name, *leaves(each))
    elif isinstance(value, list):
        for each in value:
            yield from leaves(each)
    else:
        yield json.dumps(value).strip('"')


def test_what_is_not_understood_is_kept_and_said() -> None:
    given = later()
    before = json.dumps(given)
    found = newer.read(given)
    assert json.dumps(given) == before
    written = found.to_json()
    assert schema_violations(written) == []
    text = json.dumps(written, ensure_ascii=False)
    assert [leaf for leaf in leaves(given) if leaf not in text] == []
    assert found.steps[2].extra == {"not_understood": {"plan": ["look", "say"], "metrics.watts": 5}}
    assert (found.steps[1].source, found.steps[1].extra) == ("system", {"not_understood": {"source": "environment"}})


def test_a_step_without_words_and_an_agent_within_are_read() -> None:
    given = trip() | {"schema_version": "ATIF-v2.0"}
    del given["steps"][1]["message"]
    given["subagent_trajectories"][0] |= {"schema_version": "ATIF-v2.0", "colour": "blue"}
    found = newer.read(given)
    assert found.steps[1].message == ""
    assert (found.extra or {})["not_understood"] == {"$.subagent_trajectories[0].colour": "blue"}


@pytest.mark.parametrize("version", ["ATIF-v1.8", "ATIF-v1.x", "ATIF-v1.9 ", "OTIF-v9.9", 9, None])
def test_what_is_not_newer_is_held_to_the_schema(version: object) -> None:
    with pytest.raises(AtifError):
        newer.read(later() | {"schema_version": version})


def test_a_known_version_is_read_as_ever() -> None:
    assert newer.read(trip()) == Trajectory.from_json(trip())


WRONG: dict[str, Any] = {
    "no steps": {"steps": []},
    "an agent without a name": {"agent": {"version": "1"}},
    "a step that is no object": {"steps": [7]},
    "numbers that are not in order": {"steps": [{"step_id": 2, "source": "user", "message": "x"}]},
    "a name that looks like a place": {"agent.name": "x"},
}


@pytest.mark.parametrize("what", WRONG)
def test_what_no_version_explains_is_told(what: str) -> None:
    with pytest.raises(AtifError):
        newer.read(later() | WRONG[what])


def test_a_name_that_nobody_can_follow_is_told() -> None:
    with pytest.raises(AtifError, match="is not a field of Trajectory"):
        newer.read(later() | {"a: b": 1})
