"""Transcripts that coding agents keep of their sessions: a file each, which knows a line of its agent's and reads them.

A module has `line_of(value, file)`, which is None for what is no line of its, and `accounts_of(lines)`, one for each
session.
"""

from __future__ import annotations

from spanrelay.otlp_in.telemetry import TranscriptLine
from spanrelay.otlp_in.transcripts import claude_code, codex, copilot, gemini_cli, opencode, qwen_code
from spanrelay.records import JSON

_AGENTS = (gemini_cli, qwen_code, claude_code, codex, copilot, opencode)
_READERS = tuple(agent.line_of for agent in _AGENTS)

MARKS = tuple(mark for agent in _AGENTS for mark in agent.MARKS)
"""What stands in the first lines of transcripts, and hardly in other files."""

_ENDINGS = (".jsonl", ".json", ".meta")


def line_of(value: JSON, place: str) -> TranscriptLine | None:
    """Return the line of a transcript that a JSON value is, or None; `place` is its file, and its line there."""
    if not isinstance(value, dict):
        return None
    for read in _READERS:
        line = read(value, _file_of(place))
        if line is not None:
            return line
    return None


def _file_of(place: str) -> str:
    """Return the name of a file without its endings: what is said of a transcript beside it has the same then."""
    name, _, number = place.rpartition(":")
    file = name if name and number.isdecimal() else place
    for ending in _ENDINGS:
        file = file.removesuffix(ending)
    return file
