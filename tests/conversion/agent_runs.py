"""Runs of coding agents, source by source: what each becomes beside what it should, and what its source lacks."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from tests.conversion.agent_lacks_more import LACKS
from tests.conversion.captures import converted
from tests.conversion.expected import differences, expected
from tests.shared_data import SHARED

Run = tuple[str, str, str]
"""Which coding agent, which scenario, and the name of the source."""

SOURCES = {
    "full": ("otlp-full.jsonl",),
    "default": ("otlp-default.jsonl",),
    "otlp": ("otlp.jsonl",),
    "session": ("session.jsonl", "session-subagent.jsonl"),
}
"""The files of each source, in the folder of a scenario. `default` is of another run of the same prompt."""


def runs(agent: str, *sources: str) -> list[Run]:
    """Return the runs of an agent that are compared, by the sources of each scenario that are there."""
    if SHARED is None:
        return []
    scenarios = {"basic": SHARED / "cli-captures" / agent}
    scenarios |= {path.parent.name: path.parent for path in sorted(scenarios["basic"].glob("*/expected.json"))}
    return [
        (agent, scenario, source)
        for scenario, folder in scenarios.items()
        for source in sources
        if (folder / SOURCES[source][0]).exists()
    ]


def folder_of(run: Run) -> Path:
    """Return where the files of a run are."""
    assert SHARED is not None
    agent, scenario, _ = run
    return SHARED / "cli-captures" / agent / ("" if scenario == "basic" else scenario)


def files_of(run: Run) -> list[Path]:
    """Return the files of a run's source."""
    return [path for name in SOURCES[run[2]] if (path := folder_of(run) / name).exists()]


def document_of(run: Run, folder: Path) -> dict[str, Any]:
    """Convert the source of a run, which must become one document."""
    documents, summary = converted(files_of(run), folder)
    assert summary.findings == []
    (document,) = documents
    return document


def differing(run: Run, document: dict[str, Any]) -> dict[str, list[str]]:
    """Return in which aspects a run's document is not what the wire says, and how."""
    truth = expected(folder_of(run))
    document = without_preamble(document)
    if run[2] == "default":
        document, truth = _of_the_same_run(document, truth)
    return differences(document, truth)


def assert_lacks_what_the_table_says(run: Run, folder: Path) -> None:
    """Assert that a run's document differs from the truth in what the table says of its source, and in nothing else."""
    found = differing(run, document_of(run, folder))
    known = LACKS.get(run, {})
    unexpected = {aspect: told for aspect, told in found.items() if aspect not in known}
    assert unexpected == {}
    assert sorted(set(known) - set(found)) == [], "no longer lacking"


def assert_any_order_gives_the_same(run: Run, folder: Path) -> None:
    """Assert that what was recorded of a run, in other orders, gives the same bytes."""
    written = _written(files_of(run), folder / "as-it-is")
    assert written
    for seed in range(3):
        shuffled = folder / f"lines-{seed}.jsonl"
        shuffled.write_text("".join(_shuffled(run, seed)))
        assert _written([shuffled], folder / f"documents-{seed}") == written


def assert_garbled_telemetry_is_read(run: Run, folder: Path) -> None:
    """Assert that documents come of a run's source, each strict-valid, whatever stands in some of its attributes."""
    for seed in range(8):
        chance = random.Random(seed)
        garbled = folder / f"lines-{seed}.jsonl"
        garbled.write_text("".join(json.dumps(_garbled(json.loads(line), chance)) + "\n" for line in _shuffled(run, 0)))
        assert _written([garbled], folder / f"documents-{seed}")


_GARBAGE: list[Any] = [
    {"stringValue": "{"},
    {"stringValue": "[1]"},
    {"stringValue": '[{"role":1,"parts":{}}]'},
    {"stringValue": '{"response":[],"request":3}'},
    {"intValue": 7},
    {"boolValue": True},
    {"arrayValue": {"values": []}},
    None,
]


def _garbled(value: Any, chance: random.Random) -> Any:
    if isinstance(value, list):
        return [_garbled(item, chance) for item in value]
    if not isinstance(value, dict):
        return value
    if "key" in value and "value" in value and value["key"] not in _KEPT and chance.random() < 0.25:
        return {**value, "value": chance.choice(_GARBAGE)}
    return {key: _garbled(item, chance) for key, item in value.items()}


_KEPT = ("service.name", "gen_ai.operation.name", "ai.operationId", "session.id", "gen_ai.conversation.id")
"""Without these nobody would know what the rest is."""


def _written(files: list[Path], folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    converted(files, folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _shuffled(run: Run, seed: int) -> list[str]:
    lines = [line for path in files_of(run) for each in path.read_text().splitlines() for line in _items(each)]
    random.Random(seed).shuffle(lines)
    return lines


def _items(line: str) -> Iterator[str]:
    """Yield the spans and log records of an export request, each as a request of its own."""
    request = json.loads(line)
    for signal, scopes, items in (
        ("resourceSpans", "scopeSpans", "spans"),
        ("resourceLogs", "scopeLogs", "logRecords"),
    ):
        for resource in request.get(signal) or []:
            for scope in resource.get(scopes) or []:
                for item in scope.get(items) or []:
                    yield json.dumps({signal: [{**resource, scopes: [{**scope, items: [item]}]}]}) + "\n"


def without_preamble(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document without what the agent's program says to the model before the first question.

    `expected.json` has no system prompts, nor what a program tells of the project.
    """
    found = deepcopy(document)
    for each in (found, *(found.get("subagent_trajectories") or [])):
        steps = each["steps"]
        while steps and steps[0]["source"] == "system":
            del steps[0]
    return found


def _of_the_same_run(document: dict[str, Any], truth: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return both with the ids that differ from run to run replaced by their order."""
    return tuple(_with_plain_ids(each) for each in (document, truth))  # type: ignore[return-value]  # of a generator


_CHANGING = re.compile(r"(?<=PGID: )\d+")


def _with_plain_ids(document: dict[str, Any]) -> dict[str, Any]:
    ids = [call["tool_call_id"] for step in document["steps"] for call in step.get("tool_calls") or []]
    text = _CHANGING.sub("N", json.dumps(document)).replace(document["session_id"], "session")
    for number, each in enumerate(ids):
        text = text.replace(json.dumps(each), json.dumps(f"call {number}"))
    return json.loads(text)
