"""Coding agents, whose telemetry is their own: a file each, which makes records of all that one session left.

A module has `is_from(origin)`, whether an item is that agent's, and `records_of(spans, logs)`; where the agent's own
transcripts are read too, that takes their lines as well. Trajectories come the same way.
"""

from __future__ import annotations

from types import ModuleType

from spanrelay.otlp_in import trajectories
from spanrelay.otlp_in.agents import claude_code, codex, copilot, gemini_cli, opencode, qwen_code
from spanrelay.otlp_in.telemetry import LogRecord, Origin, Span, TranscriptLine
from spanrelay.records import SpanRecord

_AGENTS: dict[str, ModuleType] = {
    "claude_code": claude_code,
    "codex": codex,
    "copilot": copilot,
    "gemini_cli": gemini_cli,
    "opencode": opencode,
    "qwen_code": qwen_code,
    trajectories.NAME: trajectories,
}


def agent_of(origin: Origin) -> str | None:
    """Return which coding agent recorded something, or None."""
    for name, agent in _AGENTS.items():
        if agent.is_from(origin):
            return name
    return None


def records_of(
    name: str, spans: list[Span], logs: list[LogRecord], lines: list[TranscriptLine] | None = None
) -> list[SpanRecord]:
    """Return the records of a session of the coding agent `name`."""
    agent = _AGENTS[name]
    return agent.records_of(spans, logs, lines) if lines else agent.records_of(spans, logs)
