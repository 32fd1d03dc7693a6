"""Log records that do not come through are counted, as spans and data points are."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    InMemoryLogRecordExporter,
    LogRecordExporter,
    LogRecordExportResult,
    SimpleLogRecordProcessor,
)

from spanrelay._guard import losses
from spanrelay.telemetry.front import put_in_front_of_logs
from spanrelay.telemetry.logs import RelayLogProcessor


class Away(LogRecordExporter):
    """Takes nothing."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    def export(self, batch: Sequence[Any]) -> LogRecordExportResult:
        if self._error is not None:
            raise self._error
        return LogRecordExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 0) -> bool:
        return True

    def shutdown(self) -> None: ...


def logged(count: int, processor: Any, *, before: bool = True) -> None:
    """Emit records through a processor that stands behind ours."""
    provider = LoggerProvider(shutdown_on_exit=False)
    if before:
        provider.add_log_record_processor(processor)
    undo = put_in_front_of_logs(RelayLogProcessor(), provider)
    if not before:
        provider.add_log_record_processor(processor)
    for _ in range(count):
        provider.get_logger("any").emit(severity_number=SeverityNumber.INFO, body="said")
    provider.shutdown()
    assert undo is not None
    undo()


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("kind", [BatchLogRecordProcessor, SimpleLogRecordProcessor])
@pytest.mark.parametrize("error", [None, OSError("no")])
def test_records_that_an_exporter_does_not_deliver_are_counted(
    kind: Any, before: bool, error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.CRITICAL):
        logged(3, kind(Away(error)), before=before)
    assert losses.take() == {"log records not exported": 3}


def test_records_that_find_no_room_are_counted() -> None:
    exporter = InMemoryLogRecordExporter()
    logged(
        15, BatchLogRecordProcessor(exporter, max_queue_size=10, max_export_batch_size=10, schedule_delay_millis=1e9)
    )
    delivered = len(exporter.get_finished_logs())
    assert delivered + losses.take().get("log records not exported because too many were waiting", 0) == 15


def test_what_is_delivered_is_not_counted_and_the_answer_is_the_exporters() -> None:
    exporter = InMemoryLogRecordExporter()
    logged(3, SimpleLogRecordProcessor(exporter))
    assert len(exporter.get_finished_logs()) == 3
    exporter._stopped = False
    assert exporter.export([]) is LogRecordExportResult.SUCCESS
    assert losses.take() == {}
