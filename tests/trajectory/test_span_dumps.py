"""What real instrumentors recorded of one program gives one trajectory, whoever recorded it."""

import random
from pathlib import Path
from typing import Any

import pytest
from tests.shared_data import SHARED, needs_shared
from tests.trajectory.program import read
from tests.trajectory.spans import load, story

from spanrelay.trajectory.exporter import AtifSpanExporter

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
    exporter = AtifSpanExporter(directory)
    spans = load((SHARED or Path()) / "spans" / f"{name}.json")
    if shuffled:
        random.Random(shuffled).shuffle(spans)
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
