"""Every line of a transcript is known for its agent's, and what other files of coding agents hold is known for none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.shared_data import SHARED, needs_shared

from spanrelay.otlp_in import transcripts

AGENTS = {
    "claude": "claude_code",
    "codex": "codex",
    "gemini": "gemini_cli",
    "qwen": "qwen_code",
    "copilot": "copilot",
    "opencode": "opencode",
}
FOLDER = SHARED / "cli-captures" if SHARED is not None else Path()
KEPT = [path for agent in AGENTS for path in sorted((FOLDER / agent).rglob("session*.jsonl"))]
OTHERS = [path for agent in AGENTS for name in ("hooks", "gateway") for path in (FOLDER / agent).rglob(f"{name}.jsonl")]

pytestmark = needs_shared


def known_in(path: Path) -> set[str | None]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    found = [transcripts.line_of(line, f"{path}:{number}") for number, line in enumerate(lines)]
    return {line.agent if line is not None else None for line in found}


@pytest.mark.parametrize("path", KEPT, ids=lambda path: "-".join(path.relative_to(FOLDER).parts))
def test_a_line_of_a_transcript_is_its_agents(path: Path) -> None:
    assert known_in(path) == {AGENTS[path.relative_to(FOLDER).parts[0]]}


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: "-".join(path.relative_to(FOLDER).parts))
def test_what_hooks_and_a_gateway_were_told_is_no_transcript(path: Path) -> None:
    assert known_in(path) == {None}
