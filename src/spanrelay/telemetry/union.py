"""Makes one of two providers of the SDK: what was built for the program goes on as the program's own.

Tracers, spans, meters, instruments and loggers that somebody holds go on with the program's resource, sampler, limits
and exporters. Touches private names of the SDK, as `front` does.
"""

from __future__ import annotations

import atexit
from typing import Any

from opentelemetry import _logs, metrics, trace

from spanrelay.telemetry.destinations import destination_of, exporter_of
from spanrelay.telemetry.front import move_processors


def unite_tracers(built: Any, own: Any) -> None:
    """Let `own` stand for both, with the processors of `built` behind its own, and what stands in front before all."""
    ours, theirs = built._active_span_processor, own._active_span_processor
    move_processors(ours, theirs)
    for scope, tracer in list(built._tracers.items()):
        _share(tracer, own.get_tracer(scope.name, scope.version, scope.schema_url, scope.attributes))
    _share(ours, theirs)
    _become(built, own)


def unite_meters(built: Any, own: Any) -> None:
    """Let `own` stand for both; readers of `built` go on with what they have added up."""
    ours, theirs = built._measurement_consumer, own._measurement_consumer
    taken = {destination_of(exporter_of(each)) for each in own._metric_readers} - {None}
    for reader, storage in ours._reader_storages.items():
        if destination_of(exporter_of(reader)) in taken:
            reader._set_collect_callback(_nothing)
            continue
        storage._sdk_config = theirs._sdk_config
        theirs._reader_storages = {**theirs._reader_storages, reader: storage}
        own._metric_readers = (*own._metric_readers, reader)
        reader._set_collect_callback(theirs.collect)
    theirs._async_instruments += ours._async_instruments
    _share(ours, theirs)
    _become(built, own)


def unite_loggers(built: Any, own: Any) -> None:
    """Let `own` stand for both, with the processors of `built` behind its own."""
    ours, theirs = built._multi_log_record_processor, own._multi_log_record_processor
    taken = {destination_of(exporter_of(each)) for each in theirs._log_record_processors} - {None}
    for processor in (each for one in ours._log_record_processors for each in getattr(one, "behind", (one,))):
        if destination_of(exporter_of(processor)) in taken:
            atexit.register(processor.shutdown)  # it may have some left
        else:
            theirs.add_log_record_processor(processor)
    for logger in list(built._active_loggers):
        scope = logger.instrumentation_scope
        _share(logger, own.get_logger(scope.name, scope.version, scope.schema_url, scope.attributes or None))
    _share(ours, theirs)
    _become(built, own)


def _share(ours: Any, theirs: Any) -> None:
    """Let two objects have the very same state, and no copy of it: what either is told later, both know."""
    if not isinstance(theirs, (trace.NoOpTracer, metrics.NoOpMeter, _logs.NoOpLogger)):
        ours.__class__, ours.__dict__ = type(theirs), theirs.__dict__


def _become(built: Any, own: Any) -> None:
    atexit.unregister(built.shutdown)
    built.__dict__ = own.__dict__


def _nothing(*args: object, **kwargs: object) -> None:
    return None
