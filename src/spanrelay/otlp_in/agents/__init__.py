"""Coding agents, whose telemetry is their own: a file each, which makes records of all that one session left.

A module has `is_from(origin)`, whether an item is that agent's, and `records_of(spans, logs)`.
"""

from __future__ import annotations

from types import ModuleType

from spanrelay.otlp_in.telemetry import LogRecord, Origin, Span
from spanrelay.records import SpanRecord

_AGENTS: dict[str, ModuleType] = {}


def agent_of(origin: Origin) -> str | None:
    """Return which coding agent recorded something, or None."""
    for name, agent in _AGENTS.items():
        if agent.is_from(origin):
            return name
    return None


def records_of(name: str, spans: list[Span], logs: list[LogRecord]) -> list[SpanRecord]:
    """Return the records of a session of the coding agent `name`."""
    return _AGENTS[name].records_of(spans, logs)
