"""What a dialect cannot tell from one span, and the spans around it can: a file for each producer that needs it.

A module has `repair(spans, records)`, which changes the records of one trace; both lists are of the same order.
"""

from __future__ import annotations

from types import ModuleType

from spanrelay.otlp_in.repairs import copilot
from spanrelay.otlp_in.telemetry import Span
from spanrelay.records import SpanRecord

_REPAIRS: tuple[ModuleType, ...] = (copilot,)


def repair(spans: list[Span], records: list[SpanRecord]) -> None:
    """Make the records of a trace whole."""
    for module in _REPAIRS:
        module.repair(spans, records)
