"""Log records that carry conversation become attributes of the spans they belong to, as if they had stood there."""

from __future__ import annotations

from spanrelay.otlp_in.telemetry import LogRecord, Span


def join(spans: list[Span], logs: list[LogRecord]) -> None:
    """Give spans what the log records of theirs say."""
