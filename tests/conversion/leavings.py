"""What coding agents left of recorded sessions, source by source, and what becomes of it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.conversion import agent_lacks, agent_lacks_more
from tests.conversion.captures import converted
from tests.conversion.expected import differences, expected
from tests.shared_data import SHARED

_TELEMETRY = {"full": "otlp-full.jsonl", "default": "otlp-default.jsonl", "otlp": "otlp.jsonl"}
"""`default` is of another run of the same script."""

_TRANSCRIPTS = ("session.jsonl", "session-2.jsonl", "session-subagent.jsonl", "session-subagent.meta.jsonl")


_LACKS = {**agent_lacks.LACKS, **agent_lacks_more.LACKS}


class Left(NamedTuple):
    """One source of what one session left: telemetry by its switches, the agent's own `session` files, or `both`."""

    agent: str
    scenario: str
    source: str

    @property
    def folder(self) -> Path:
        """Where the files are."""
        assert SHARED is not None
        return SHARED / "cli-captures" / self.agent / ("" if self.scenario == "basic" else self.scenario)

    @property
    def truth(self) -> dict[str, Any]:
        """What should become of it; scenarios that only switch something on have the script of the basic one."""
        whole = (self.folder / "expected.json").exists()
        return expected(self.folder if whole else self._replace(scenario="basic").folder)

    @property
    def files(self) -> list[Path]:
        """The files of the source."""
        transcripts = [self.folder / name for name in _TRANSCRIPTS]
        names = ("full", "otlp") if self.source == "both" else (self.source,)
        telemetry = [self.folder / _TELEMETRY[name] for name in names if name in _TELEMETRY]
        wanted = telemetry + (transcripts if self.source in ("session", "both") else [])
        return [path for path in wanted if path.exists()]

    def document(self, folder: Path) -> dict[str, Any]:
        """Convert the source, of which one document must come, and nothing that cannot be read."""
        documents, summary = converted(self.files, folder)
        assert summary.findings == []
        (document,) = documents
        return document


def left(agent: str, *others: str) -> list[Left]:
    """Return all that an agent left in the scenarios whose outcome is known, and in `others` that share the basic's."""
    if SHARED is None:
        return []
    folder = SHARED / "cli-captures" / agent
    scenarios = ["basic", *sorted(path.parent.name for path in folder.glob("*/expected.json")), *others]
    every = [Left(agent, scenario, source) for scenario in scenarios for source in (*_TELEMETRY, "session", "both")]
    return [each for each in every if len(each.files) > (each.source == "both")]


def lacking(of: Left, folder: Path) -> dict[str, list[str]]:
    """Return in which aspects a source gives another trajectory than the wire did, beyond what the table says.

    What the table says, and is so no more, is among them too.
    """
    found = differences(of.document(folder), of.truth)
    known = _LACKS.get(of, {})
    news = {aspect: told for aspect, told in found.items() if aspect not in known}
    return news | {aspect: ["no longer lacking"] for aspect in known if aspect not in found}


def written(files: list[Path], folder: Path) -> dict[str, bytes]:
    """Convert files and return what stands in the folder after."""
    documents, _ = converted(files, folder)
    assert documents
    return {path.name: path.read_bytes() for path in folder.glob("*.json")}


def shuffled(of: Left, seed: int, folder: Path) -> list[Path]:
    """Write the files of a source with everything in them in another order, and each span and record by itself."""
    chance = random.Random(seed)
    found: list[Path] = []
    for path in of.files:
        lines = items(path)
        chance.shuffle(lines)
        found.append(folder / path.name)
        found[-1].write_text("\n".join(lines))
    chance.shuffle(found)
    return found


def items(path: Path) -> list[str]:
    """Return the spans, log records and lines of a file, each as one line."""
    return [item for line in path.read_text().splitlines() for item in _items(line)]


def _items(line: str) -> Iterator[str]:
    value = json.loads(line)
    found = False
    for signal, scopes, kind in (("resourceSpans", "scopeSpans", "spans"), ("resourceLogs", "scopeLogs", "logRecords")):
        for resource in value.get(signal) or []:
            for scope in resource.get(scopes) or []:
                for item in scope.get(kind) or []:
                    found = True
                    yield json.dumps({signal: [{**resource, scopes: [{**scope, kind: [item]}]}]})
    if not found and "resourceMetrics" not in value:
        yield line


def without(of: Left, folder: Path) -> Iterator[list[Path]]:
    """Yield the files of a source, each time without another one of the items that tell of its session."""
    whole = {path: items(path) for path in of.files}
    for path, lines in whole.items():
        for number, line in enumerate(lines):
            if not _tells(line):
                continue
            folder.mkdir(parents=True, exist_ok=True)
            cut = folder / path.name
            cut.write_text("\n".join(lines[:number] + lines[number + 1 :]))
            yield [cut if each is path else each for each in whole]


def _tells(line: str) -> bool:
    """Whether an item says whose it is: the noise around says nothing that could be missed."""
    return "conversation.id" in line or "session.id" in line or "resource" not in line


def repeated(document: dict[str, Any]) -> list[str]:
    """Return what a document says twice though the script did once: words, and ids of calls."""
    steps = document["steps"]
    said = [step["message"] for step in steps if isinstance(step["message"], str) and step["message"]]
    said += [call["tool_call_id"] for step in steps for call in step.get("tool_calls") or []]
    return sorted({each for each in said if said.count(each) > 1})
