"""RelayLogProcessor: stands in front of a logger provider's processors and hands each log record on, sanitized.

What events of other instrumentation tell of model calls goes to trajectories too, with the spans of these calls.

What cannot be made fit for others to read is not handed on, and the application's own record stays as it is.
"""

from __future__ import annotations

import copy
from typing import Any, cast

from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk.trace import Span
from opentelemetry.trace import get_current_span

from spanrelay._guard import guarded, losses
from spanrelay._masking import mask_cut, mask_text, mask_value, masked_mapping
from spanrelay.observation.halves import mended, without_last_word
from spanrelay.observation.observers import Watchers, apart, observation, sanitizing, watching_here
from spanrelay.observation.surroundings import masked_resource, masked_scope
from spanrelay.semconv.events import TELLING, Event, name_of
from spanrelay.semconv.values import readable
from spanrelay.telemetry.details import CallDetails, is_told_by_ours
from spanrelay.telemetry.front import count_lost_logs
from spanrelay.telemetry.overheard import Heard, overheard


class RelayLogProcessor(LogRecordProcessor):
    """Masks credentials in log records, and puts them through the sanitizers that are in force where they are made."""

    def __init__(self) -> None:
        self.behind: tuple[LogRecordProcessor, ...] = ()
        overheard.comes = True

    def add_log_record_processor(self, log_record_processor: LogRecordProcessor) -> None:
        """Add a processor behind the others; a provider's `add_log_record_processor` comes here."""
        count_lost_logs(log_record_processor)
        self.behind = (*self.behind, log_record_processor)

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Hand the record on as others may read it."""
        shown: ReadWriteLogRecord | None = None
        with guarded("masking log records"):
            name = event_of_others(log_record)
            if name is not None and is_told_by_ours(log_record):
                return
            watchers = watching_here() if observation.active else None
            whole = log_record
            if sanitizing.value:
                if not _is_ours(log_record):
                    losses.add("log records left out because a sanitizer made them")
                    return
            elif watchers is not None and watchers.sanitizers:
                with apart():
                    log_record = _sanitized(log_record, watchers)
            shown = _masked(log_record)
            if name is not None:
                _overhear(name, shown if whole is log_record else _masked(whole), watchers)
        if shown is not None:
            for processor in self.behind:
                processor.on_emit(shown)

    def enabled(self, **arguments: Any) -> bool:
        """Whether any processor behind would take such a record."""
        return any(processor.enabled(**arguments) for processor in self.behind)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flush the processors behind."""
        flushed = True
        for processor in self.behind:
            flushed = processor.force_flush(timeout_millis) is not False and flushed
        return flushed

    def shutdown(self) -> None:
        """Shut the processors behind down."""
        for processor in self.behind:
            processor.shutdown()


def event_of_others(given: ReadWriteLogRecord) -> str | None:
    """Return the name of the event of another instrumentation that carries conversation; None for any other record."""
    record = given.log_record
    name = name_of(record.event_name, record.attributes or {})
    return name if name in TELLING and not isinstance(record, CallDetails) else None


def _overhear(name: str, given: ReadWriteLogRecord, watchers: Watchers | None) -> None:
    """Keep what an event tells for its span, where that is one that is recorded here."""
    record = given.log_record
    identity = (record.trace_id or 0, record.span_id or 0)
    span = get_current_span(record.context)
    if not all(identity) or (span.get_span_context()[:2] == identity and not isinstance(span, Span)):
        return
    attributes = mended(record.attributes, record.attributes or {}, without_last_word)
    overheard.keep(identity, Heard(Event(name, readable(record.body), readable(attributes)), watchers))


def _is_ours(given: ReadWriteLogRecord) -> bool:
    """Whether this is of our own log, which says nothing of what is sanitized."""
    scope = given.instrumentation_scope
    return scope is not None and scope.name == "spanrelay"


def _masked(given: ReadWriteLogRecord) -> ReadWriteLogRecord:
    record = given.log_record
    attributes = mended(record.attributes, record.attributes or {}, mask_cut)
    texts = record.severity_text, record.event_name
    changed = {
        "body": mask_value(record.body),
        "attributes": masked_mapping(attributes) if attributes else record.attributes,
        "severity_text": mask_text(texts[0]) if texts[0] else texts[0],
        "event_name": mask_text(texts[1]) if texts[1] else texts[1],
    }
    made = _with(given, changed)
    resource, scope = given.resource, given.instrumentation_scope
    return _around(
        made,
        masked_resource(resource) if resource is not None else None,
        masked_scope(scope) if scope is not None else None,
    )


def _sanitized(given: ReadWriteLogRecord, watchers: Watchers) -> ReadWriteLogRecord:
    from spanrelay.observation.sanitizing import sanitized_resource, sanitized_scope
    from spanrelay.observation.sieve import Sieve
    from spanrelay.telemetry.attributes import sanitized_attributes  # not small, and few programs have sanitizers

    record, sieve = given.log_record, Sieve(watchers, "", None)
    left = sieve.identify({"event_name": record.event_name, "severity_text": record.severity_text})
    changed = {"body": sieve.keep("body", readable(record.body)), **left}
    if record.attributes and not isinstance(record, CallDetails):
        whole = mended(record.attributes, record.attributes, without_last_word)
        changed["attributes"] = sanitized_attributes(whole, watchers, "", {})
    resource, scope = given.resource, given.instrumentation_scope
    return _around(
        _with(given, changed),
        sanitized_resource(resource, watchers) if resource is not None else None,
        sanitized_scope(scope, watchers) if scope is not None else None,
    )


def _with(given: ReadWriteLogRecord, changed: dict[str, Any]) -> ReadWriteLogRecord:
    """Return the record with other contents: the one that is given may be the application's."""
    record = given.log_record
    if all(getattr(record, name) is value for name, value in changed.items()):
        return given
    made: LogRecord = copy.copy(record)
    for name, value in changed.items():
        setattr(made, name, value)
    if changed.get("attributes", record.attributes) is not record.attributes:
        # The SDK's own mapping, with its count of what was dropped.
        bounded: Any = copy.copy(cast("Any", record.attributes))
        bounded._dict = dict(changed["attributes"])
        made.attributes = bounded
    shown = copy.copy(given)
    shown.log_record = made
    return shown


def _around(given: ReadWriteLogRecord, resource: Any, scope: Any) -> ReadWriteLogRecord:
    if resource is given.resource and scope is given.instrumentation_scope:
        return given
    shown = copy.copy(given)
    shown.resource, shown.instrumentation_scope = resource, scope
    return shown
