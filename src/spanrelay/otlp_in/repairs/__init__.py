"""What a dialect cannot tell from one span, and the spans around it can: a file for each producer that needs it.

A module has `repair(spans, records)`, which changes the records of one trace; both lists are of the same order.
"""

from __future__ import annotations

from types import ModuleType

from spanrelay.otlp_in.repairs import mastra, witnesses
from spanrelay.otlp_in.repairs.roles import Roles
from spanrelay.otlp_in.telemetry import Span
from spanrelay.records import SpanRecord

_REPAIRS: tuple[ModuleType, ...] = (mastra, witnesses)


class Repairs:
    """Makes the records of traces whole that belong together, one trace after another in the order they began."""

    def __init__(self) -> None:
        self._roles = Roles()

    def mend(self, spans: list[Span], records: list[SpanRecord]) -> None:
        """Make the records of a trace whole."""
        for module in _REPAIRS:
            module.repair(spans, records)
        self._roles.repair(spans, records)
