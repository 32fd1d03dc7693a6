"""What real instrumentors recorded of one program gives one trajectory, whoever recorded it."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from tests.shared_data import SHARED, needs_shared
from tests.trajectory.program import read
from tests.trajectory.spans import load, story

from spanrelay.assembly.exporter import AtifSpanExporter

pytestmark = needs_shared

LANGCHAIN = [
    "openinference_langchain+openinference_openai",
    "openinference_langchain",
    "otel_genai_langchain",
    "traceloop_langchain",
]
OPENAI = ["openinference_openai", "otel_genai_openai", "traceloop_openai"]
METRICS = {"prompt_tokens": 50, "completion_tokens": 10, "cached_tokens": 20}
SYSTEM = "system You are a weather bot."
BOTH = [("get_weather", {"city": "SF"}), ("get_weather", {"city": "NY"})]
LOOP = [
    SYSTEM,
    "user weather in SF and NY?",
    f"agent {BOTH} {[('sunny', False, False), ('rain', False, False)]} {METRICS}",
    f"agent It is sunny in SF and raining in NY. {METRICS}",
]
FAILED = [SYSTEM, "user ERR429", "agent failed"]


def documents(name: str, directory: Path, batches: int = 1, shuffled: int = 0) -> list[dict[str, Any]]:
    """Return the documents of a dump, the longest first."""
    spans = dump(name)
    if shuffled:
        random.Random(shuffled).shuffle(spans)
    return written(spans, directory, batches)


def dump(name: str) -> list[ReadableSpan]:
    return load((SHARED or Path()) / "spans" / f"{name}.json")


def written(spans: Sequence[ReadableSpan], directory: Path, batches: int = 1) -> list[dict[str, Any]]:
    """Return the documents of spans, the longest first."""
    exporter = AtifSpanExporter(directory)
    size = -(-len(spans) // batches)
    for start in range(0, len(spans), size):
        exporter.export(spans[start : start + size])
    exporter.shutdown()
    return sorted(read(directory).values(), key=lambda document: -len(document["steps"]))


@pytest.mark.parametrize("name", LANGCHAIN)
def test_an_agent_tells_the_same_story_under_every_combination(name: str, tmp_path: Path) -> None:
    main, failed = documents(name, tmp_path)
    assert story(main) == [
        *LOOP,
        "user thanks, hello",
        f"agent Hello there. {METRICS}",
        "user please fail",
        f"agent {[('explode', {'x': 1})]} {[('boom', True, False)]} {METRICS}",
    ]
    assert story(failed) == FAILED
    assert main["final_metrics"]["total_prompt_tokens"] == 200


@pytest.mark.parametrize("name", LANGCHAIN)
@pytest.mark.parametrize("batches", [2, 5, 30])
def test_batches_do_not_change_the_story(name: str, batches: int, tmp_path: Path) -> None:
    whole = [story(d) for d in documents(name, tmp_path / "whole")]
    assert [story(d) for d in documents(name, tmp_path / "parts", batches)] == whole


@pytest.mark.parametrize("name", [*LANGCHAIN, *OPENAI, "pydantic_ai_subagents"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_order_of_arrival_does_not_change_the_story(name: str, seed: int, tmp_path: Path) -> None:
    whole = [story(d) for d in documents(name, tmp_path / "whole")]
    assert [story(d) for d in documents(name, tmp_path / "shuffled", shuffled=seed)] == whole


@pytest.mark.parametrize("name", OPENAI)
def test_a_client_loop_is_the_main_line_and_single_calls_stand_beside_it(name: str, tmp_path: Path) -> None:
    (document,) = documents(name, tmp_path)
    assert story(document)[:4] == LOOP
    children = [story(child) for child in document["subagent_trajectories"]]
    assert ["user ERR429", "agent failed"] in children
    assert ["system Be brief.", LOOP[1], f"agent {BOTH} {METRICS}"] in children
    assert document["final_metrics"]["total_prompt_tokens"] == 200


@pytest.mark.parametrize("name", OPENAI[:2])
def test_an_image_that_a_client_sent_is_a_file(name: str, tmp_path: Path) -> None:
    (document,) = documents(name, tmp_path)
    parts = document["subagent_trajectories"][0]["steps"][0]["message"]
    assert (tmp_path / parts[1]["source"]["path"]).read_bytes().startswith(b"\x89PNG")


def test_sub_agents_are_embedded_below_the_calls_that_started_them(tmp_path: Path) -> None:
    chat, boss = documents("pydantic_ai_subagents", tmp_path)
    assert story(chat) == [*LOOP, "user thanks, hello", f"agent Hello there. {METRICS}"]
    step = boss["steps"][1]
    asked = {
        r["subagent_trajectory_ref"][0]["trajectory_id"]: r["source_call_id"] for r in step["observation"]["results"]
    }
    told = {c["trajectory_id"]: c["steps"][1]["message"] for c in boss["subagent_trajectories"]}
    assert {asked[name]: text for name, text in told.items()} == {"call_sf": "hello SF", "call_ny": "hello NY"}
    assert boss["final_metrics"]["extra"]["subagents"]["prompt_tokens"] == 100


ONE_NAME = [*LANGCHAIN[:3], *OPENAI, "pydantic_ai_subagents"]
"""Dumps whose other spans name the session that a root names."""


@pytest.mark.parametrize("name", [*ONE_NAME, LANGCHAIN[3]])
@pytest.mark.parametrize("batches", [1, 30])
def test_a_lost_span_takes_nothing_with_it_but_what_only_it_said(name: str, batches: int, tmp_path: Path) -> None:
    spans = dump(name)
    whole = written(spans, tmp_path / "whole")
    for lost, span in enumerate(spans):
        if is_model_call(span) or (span.parent is None and name not in ONE_NAME):
            continue
        rest = written([*spans[:lost], *spans[lost + 1 :]], tmp_path / str(lost), batches)
        assert sorted(d["session_id"] for d in rest) == sorted(d["session_id"] for d in whole), span.name
        assert said(rest) == said(whole), span.name


def is_model_call(span: ReadableSpan) -> bool:
    attributes = span.attributes or {}
    return "LLM" in attributes.values() or "chat" in attributes.values()


def said(documents: list[dict[str, Any]]) -> list[tuple[str, str, bool]]:
    """Return all that was said in documents and their children, copies included, whoever's turn it was."""
    steps = [step for document in documents for step in document["steps"]]
    inner = [said(document.get("subagent_trajectories", [])) for document in documents]
    own = [(s["source"], str(s["message"]), bool(s.get("is_copied_context"))) for s in steps if s["message"]]
    return sorted([*own, *(each for told in inner for each in told)])


@pytest.mark.parametrize("name", [*LANGCHAIN[1:], "pydantic_ai_subagents"])
@pytest.mark.parametrize("late", [10_000_000, 3_600_000_000_000])
def test_a_clock_that_is_behind_does_not_tear_what_ran_within_from_its_parent(
    name: str, late: int, tmp_path: Path
) -> None:
    whole = [(d["session_id"], story(d)) for d in written(dump(name), tmp_path / "whole")]
    spans = dump(name)
    for span in spans:
        if span.parent is None:
            span._start_time = (span.start_time or 0) + late
            span._end_time = (span.end_time or 0) + late
    assert [(d["session_id"], story(d)) for d in written(spans, tmp_path / "late")] == whole
