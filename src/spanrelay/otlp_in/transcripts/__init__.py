"""Transcripts that coding agents keep of their sessions: a file each, which knows a line of its agent's and reads them.

A module has `line_of(value, file)`, which is None for what is no line of its, and `accounts_of(lines)`, one for each
session.
"""

from __future__ import annotations

from spanrelay.otlp_in.telemetry import TranscriptLine
from spanrelay.otlp_in.transcripts import claude_code, codex, gemini_cli, qwen_code
from spanrelay.records import JSON

_READERS = (gemini_cli.line_of, qwen_code.line_of, claude_code.line_of, codex.line_of)

MARKS = (*claude_code.MARKS, *codex.MARKS, *gemini_cli.MARKS, *qwen_code.MARKS)
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
