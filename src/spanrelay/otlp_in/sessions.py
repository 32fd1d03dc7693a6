"""Which session an item of telemetry names, in whatever attribute its producer says it."""

from __future__ import annotations

from spanrelay.otlp_in.telemetry import Telemetry
from spanrelay.semconv.fields import session_of as session_of_attributes


def session_of(item: Telemetry) -> str | None:
    """Return the session that a span or a log record names, or None."""
    return session_of_attributes(item.attributes)
