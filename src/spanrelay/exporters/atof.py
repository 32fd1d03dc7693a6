"""The exporter `atof`: lifecycle events as lines of JSON, where the settings say.

Reads settings and nothing else; `exporters.jsonl` does the work.
"""

from __future__ import annotations

import os

from spanrelay import config
from spanrelay.config import Settings
from spanrelay.exporters.jsonl import FileSink, HttpSink, JsonlSpanExporter, Sink

FILE = "./.spanrelay/events/events.jsonl"


class AtofSpanExporter(JsonlSpanExporter):
    """Entry point `atof` of `OTEL_TRACES_EXPORTER`; see the `SPANRELAY_ATOF_*` settings."""

    def __init__(self) -> None:
        settings, problems = config.load()
        for problem in problems:
            if "SPANRELAY_ATOF_" in problem:
                config.tell(problem)
                super().__init__([])
                return
        super().__init__(sinks(settings))


def sinks(settings: Settings) -> list[Sink]:
    """Return where `settings` say that events go; content leaves the machine only where spans carry it too."""
    chosen: list[Sink] = []
    if settings.atof_file or not settings.atof_url:
        chosen.append(
            FileSink(settings.atof_file or os.path.abspath(FILE), settings.atof_mode, content=settings.content != "off")
        )
    if settings.atof_url:
        headers = config.headers(settings.atof_headers)
        chosen.append(HttpSink(settings.atof_url, headers, content=settings.spans_have_content))
    return chosen
