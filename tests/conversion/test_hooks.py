"""What hooks add to the trajectory of a session: nothing that else tells is told twice, and gaps are filled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.conversion.captures import converted
from tests.conversion.expected import differences
from tests.conversion.leavings import Left, repeated
from tests.shared_data import needs_shared

pytestmark = needs_shared

_NO_MODEL = {"agent", "words", "tokens", "token_details"}
_AS_GIVEN = {"calls", "arguments", "results", "exit_codes"}
"""Codex gives hooks other names and arguments of its tools than the model gives, and bare output."""

LACKS: dict[tuple[str, str, str], set[str]] = {
    ("claude", "basic", "hooks"): {*_NO_MODEL, "reasoning"},
    ("claude", "basic", "hooks and telemetry"): {"reasoning"},
    ("claude", "policy", "hooks"): {*_NO_MODEL, "failures"},
    ("claude", "denied", "hooks"): {*_NO_MODEL, "failures"},
    ("claude", "subagent", "hooks"): _NO_MODEL,
    ("claude", "overload", "hooks"): {*_NO_MODEL, "attempts"},
    ("claude", "overload", "hooks and telemetry"): {"attempts"},
    ("codex", "basic", "hooks"): {"agent", "words", "reasoning", *_AS_GIVEN},
    ("codex", "basic", "hooks and telemetry"): {"words", "reasoning"},
    ("codex", "policy", "hooks"): {"agent", "words", *_AS_GIVEN},
    ("codex", "policy", "hooks and telemetry"): {"words", "arguments", "results"},
    ("codex", "subagent", "hooks"): {"agent", "words", *_AS_GIVEN},
    ("codex", "subagent", "hooks and telemetry"): {"words"},
    ("codex", "overload", "hooks"): {"agent", "words", "attempts", *_AS_GIVEN},
    ("codex", "overload", "hooks and telemetry"): {"words"},
    ("codex", "overload", "hooks and session"): {"attempts"},
}
SCENARIOS = {
    "claude": ("basic", "policy", "denied", "subagent", "overload"),
    "codex": ("basic", "policy", "subagent", "overload"),
}
SOURCES = {"hooks": "", "hooks and telemetry": "telemetry", "hooks and session": "session", "all": "both"}


def kept(of: Left, folder: Path) -> Path:
    """Write the hooks of a scenario as a run keeps them."""
    lines: list[str] = []
    for entry in map(json.loads, (of.folder / "hooks.jsonl").read_text().splitlines()):
        if "stdin" in entry:
            hook = {"agent": of.agent, "time": int(entry["t"] * 1e9), "hook": entry["stdin"]}
            said = (entry.get("answer") or {}).get("stdout")
            lines.append(json.dumps({"_spanrelay_hook": {**hook, **({"answer": json.dumps(said)} if said else {})}}))
    path = folder / "hooks.jsonl"
    path.write_text("\n".join(lines))
    return path


def files(of: Left, source: str) -> list[Path]:
    """The files beside hooks that a source is."""
    if source == "telemetry":
        return of._replace(source="full" if of.scenario == "basic" else "otlp").files
    return of._replace(source=source).files if source else []


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(("agent", "scenario"), [(agent, each) for agent, all_ in SCENARIOS.items() for each in all_])
def test_a_session_of_which_hooks_tell_lacks_only_what_nothing_told(
    agent: str, scenario: str, source: str, tmp_path: Path
) -> None:
    of = Left(agent, scenario, "")
    documents, summary = converted([kept(of, tmp_path), *files(of, SOURCES[source])], tmp_path / "made")
    assert summary.findings == []
    (document,) = documents
    assert set(differences(document, of.truth)) == LACKS.get((agent, scenario, source), set())
    assert repeated(document) == []
