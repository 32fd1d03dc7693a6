"""The exporter `atif`: trajectories from the spans of a pipeline that no writer of ours is part of.

Reads settings and nothing else; `assembly.exporter` does the work. It never writes what the process writes anyway.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from spanrelay import config
from spanrelay._masking import mask_bytes
from spanrelay.assembly.exporter import AtifSpanExporter
from spanrelay.tracing import is_adopted


class AtifExporter(AtifSpanExporter):
    """Entry point `atif` of `OTEL_TRACES_EXPORTER`; see the `SPANRELAY_TRAJECTORY_*` settings.

    Keys are masked in all that is written. Where the global provider is recorded, by a distro or in code, the process
    itself writes trajectories as the settings say, and this exporter none.

    Args:
        directory: Where to write; by default where the settings say.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None) -> None:
        settings = config.load()[0]
        self._off = settings.trajectories in ("memory", "off") or settings.content == "off"
        place = settings.trajectory_directory if directory is None else directory
        super().__init__(place, settings.trajectory_bytes, mask_bytes, settings.atif_version, settings.trajectory_name)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Take in a batch of ended spans, in any order."""
        if self._off or is_adopted(trace.get_tracer_provider()):
            return SpanExportResult.SUCCESS
        return super().export(spans)
