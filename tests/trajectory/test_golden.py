"""Golden documents load, are judged, come back as they were, and survive being told by spans."""

from pathlib import Path
from typing import Any

import pytest
from tests.shared_data import SHARED, needs_shared
from tests.trajectory.golden import Retelling, load, told, written
from tests.trajectory.program import accept, read

from spanrelay.assembly.atif import Trajectory, schema_violations, violations
from spanrelay.assembly.exporter import AtifSpanExporter, TrajectoryWriter

pytestmark = needs_shared

FILES = sorted((SHARED / "trajectories").glob("*.json")) if SHARED else []
UNTOLD = {
    "v17_embedded_subagents.json",  # its first user step is never sent to a model
    "harbor_terminus2_summarization.json",  # its sub-agents are other files
}
LINEAR = [path for path in FILES if path.name not in UNTOLD]


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_nulls(item) for name, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_golden_document_is_read_judged_and_written_back_equal(path: Path) -> None:
    document = load(path)
    assert schema_violations(document) == []
    again = Trajectory.from_json(document).to_json()
    assert again == without_nulls(document)
    accept(again)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_only_nulls_keep_a_golden_document_from_the_profile(path: Path) -> None:
    assert violations(without_nulls(load(path))) == []


def compare(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert [told(s, after["agent"]) for s in after["steps"]] == [told(s, before["agent"]) for s in before["steps"]]
    assert after["agent"]["name"] == before["agent"]["name"]
    assert after["agent"].get("tool_definitions") == before["agent"].get("tool_definitions")


@pytest.mark.parametrize("path", LINEAR, ids=lambda path: path.stem)
def test_a_golden_document_survives_records(path: Path, tmp_path: Path) -> None:
    document = load(path)
    writer = TrajectoryWriter(tmp_path)
    for record in Retelling(document).records:
        writer.end(record)
    writer.shutdown()
    (after,) = read(tmp_path).values()
    compare(document, after)


@pytest.mark.parametrize("dialect", ["genai", "openinference"])
@pytest.mark.parametrize("path", LINEAR, ids=lambda path: path.stem)
def test_a_golden_document_survives_spans_of_either_dialect(path: Path, dialect: str, tmp_path: Path) -> None:
    document = load(path)
    exporter = AtifSpanExporter(tmp_path)
    exporter.export([written(record, dialect) for record in reversed(Retelling(document).records)])
    exporter.shutdown()
    (after,) = read(tmp_path).values()
    compare(document, after)


def test_an_embedded_golden_child_survives_records(tmp_path: Path) -> None:
    document = load((SHARED or Path()) / "trajectories" / "v17_embedded_subagents.json")
    exporter = AtifSpanExporter(tmp_path)
    exporter.export([written(record, "genai") for record in Retelling(document).records])
    exporter.shutdown()
    (after,) = read(tmp_path).values()
    (child,) = after["subagent_trajectories"]
    assert child["agent"]["name"] == "researcher"
    assert [s["message"] for s in child["steps"]] == [
        s["message"] for s in document["subagent_trajectories"][0]["steps"]
    ]
    assert after["final_metrics"]["total_prompt_tokens"] == 67
