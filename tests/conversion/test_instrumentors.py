"""The same program is the same trajectory, whichever instrumentors of Python recorded it, alone or together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.conversion.captures import converted, told
from tests.shared_data import SHARED, needs_shared

LANGCHAIN = (
    "openinference_langchain",
    "openinference_langchain+openinference_openai",
    "otel_genai_langchain",
    "traceloop_langchain",
)
OPENAI = ("openinference_openai", "otel_genai_openai", "traceloop_openai")


def documents_of(name: str, folder: Path) -> list[dict[str, Any]]:
    """Return the documents that a dump of spans becomes."""
    assert SHARED is not None
    documents, summary = converted([SHARED / "spans" / f"{name}.json"], folder / name)
    assert summary.findings == []
    return documents


def everything(document: dict[str, Any]) -> list[Any]:
    """Return what a document and those beneath it tell; by which ids calls are known, and what a model thought, aside.

    One instrumentor writes the ids of items in the place of those of calls, and one leaves out reasoning.
    """
    steps = [
        {key: list(value.values()) if key in ("calls", "results") else value for key, value in step.items()}
        for step in told(document)
    ]
    for step in steps:
        step.pop("reasoning", None)
    return [steps, *(everything(child) for child in document.get("subagent_trajectories", []))]


@needs_shared
@pytest.mark.parametrize("name", LANGCHAIN[1:])
def test_an_agent_of_langchain_is_the_same_whoever_recorded_it(name: str, tmp_path: Path) -> None:
    known, found = documents_of(LANGCHAIN[0], tmp_path), documents_of(name, tmp_path)
    assert list(map(everything, found)) == list(map(everything, known))
    assert list(map(told, found)) == list(map(told, known))  # calls are known by their own ids here


@needs_shared
def test_a_client_is_the_same_whoever_recorded_it(tmp_path: Path) -> None:
    one, other, _ = (documents_of(name, tmp_path) for name in OPENAI)
    assert list(map(everything, one)) == list(map(everything, other))


@needs_shared
def test_what_an_instrumentor_does_not_record_of_one_call_changes_no_other(tmp_path: Path) -> None:
    (known,), _, (found,) = (documents_of(name, tmp_path) for name in OPENAI)
    asked_with_image = 4  # Traceloop leaves such a request out
    del known["steps"][asked_with_image], found["steps"][asked_with_image]
    del known["subagent_trajectories"][0]
    assert everything(found) == everything(known)


@needs_shared
def test_sub_agents_stand_beneath_the_agent_that_called_them(tmp_path: Path) -> None:
    chat, boss = documents_of("pydantic_ai_subagents", tmp_path)
    assert [step["source"] for step in told(chat)] == ["system", "user", "agent", "agent", "user", "agent"]
    assert len(boss["subagent_trajectories"]) == 2
