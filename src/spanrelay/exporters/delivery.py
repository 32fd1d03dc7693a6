"""Exporters that keep what a collector does not take and send it again, around the stock OTLP exporters.

They never encode or speak OTLP themselves, and `export` never waits for a collector that is away.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Generic, Literal, Protocol, TypeAlias, TypeVar

from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from spanrelay._guard import guarded, pass_on
from spanrelay.exporters.answers import Hearing
from spanrelay.exporters.carried import Carried, read_apart
from spanrelay.exporters.grace import Grace
from spanrelay.exporters.outbox import Answer, Limits, Outbox, Outcome, Pace
from spanrelay.telemetry.destinations import Reliable

T = TypeVar("T")


# The part that both exporters share


class _Exporter(Protocol):
    def shutdown(self) -> None: ...


E = TypeVar("E", bound=_Exporter)


class _Delivery(Generic[E, T]):
    """An outbox that sends through a stock exporter, which is built again where the old one is of no use."""

    def __init__(
        self,
        build: Callable[[], E],
        export: Callable[[E, list[T]], bool],
        name: str,
        parts: str,
        limits: Limits | None,
        pace: Pace | None,
        grace: Grace | None,
    ) -> None:
        self._build = build
        self._export = export
        self._grace = grace or Grace()
        self.exporter = build()
        self._useless = False
        self._inherited: list[E] = []
        self._hearing = Hearing(self.exporter, self._stop)
        self.outbox = Outbox(self._send, name, limits, pace, parts=parts)
        if hasattr(os, "register_at_fork"):
            method = weakref.WeakMethod(self._start_over)
            os.register_at_fork(after_in_child=lambda: (start_over := method()) and start_over())

    def _start_over(self) -> None:
        # The connection belongs to the parent too. It is kept: to drop it would be to close it.
        self._inherited.append(self.exporter)
        self._useless = True
        self.outbox.start_over()

    def _send(self, items: list[T]) -> Answer:
        if self._useless:
            self.exporter = self._build()
            self._hearing.attach(self.exporter)
            self._useless = False
        self._hearing.listen()
        return self._hearing.answer(success=self._exported(items))

    def _exported(self, items: list[T]) -> bool:
        try:
            return self._export(self.exporter, items)
        except Exception as error:
            if not (self._hearing.refused or self._useless):
                raise
            pass_on(error)
            return False  # the exporter has stumbled over what the collector says beside its refusal, which is known

    def _stop(self) -> None:
        """End a pause that the stock exporter makes between attempts of its own; it cannot be used after."""
        if not self._useless:
            # Marked first: the sending thread then makes a new one, and may do so before the old one is shut down.
            stuck, self._useless = self.exporter, True
            stuck.shutdown()

    def shutdown(self, seconds: float) -> None:
        """Deliver what waits within `seconds` and within the grace; what remains is counted as lost."""
        with self._grace.spend(seconds) as left:
            self.outbox.close()
            soon = 0.0 if self.outbox.failing else left / 4
            if not self.outbox.flush(soon):
                self._hearing.hurry()
                self.outbox.flush(left - soon)
        if self.outbox.abandon():
            self._hearing.detach()
        if not self._useless:
            self._useless = True
            self.exporter.shutdown()


# Encoded sizes


def _size_of(value: object) -> int:
    """Return an upper bound of the bytes that an attribute value takes in OTLP protobuf."""
    if isinstance(value, str):
        return 12 + (len(value) if value.isascii() else 4 * len(value))
    if isinstance(value, (bool, int, float)) or value is None:
        return 12
    if isinstance(value, (bytes, bytearray)):
        return 12 + len(value)
    if isinstance(value, Mapping):
        return 12 + _size_of_attributes(value)
    if isinstance(value, Sequence):
        return 12 + sum(map(_size_of, value))
    return 12 + 4 * len(repr(value))


def _size_of_attributes(attributes: Mapping[str, object] | None) -> int:
    if not attributes:
        return 0
    total = 0
    for key, value in attributes.items():
        total += 14 + (len(key) if key.isascii() else 4 * len(key))
        # A long text is the common case and the one that counts; the call is saved for it.
        total += 12 + len(value) if type(value) is str and value.isascii() else _size_of(value)
    return total


def _size_of_span(span: ReadableSpan, *, apart: bool = False) -> int:
    """Return an upper bound of the bytes that `span` takes in an OTLP request, without encoding it.

    `apart` counts of messages that are known one by one only those that no span had before, the rest is not its own.
    """
    total = 256 + _size_of(span.name) + _size_of(span.status.description or "")
    total += _size_of_attributes(read_apart(span)[0] if apart else span.attributes)
    for event in span.events:
        total += 32 + _size_of(event.name) + _size_of_attributes(event.attributes)
    for link in span.links:
        total += 128 + _size_of_attributes(link.attributes)
    return total


_UNKNOWN_SIZE = 100_000
"""Bytes assumed for a span that cannot be measured."""


def _measured(span: ReadableSpan, *, apart: bool) -> tuple[ReadableSpan, int]:
    size = _UNKNOWN_SIZE
    with guarded("measuring a span"):
        size = _size_of_span(span, apart=apart)
    return span, size


# The exporters


def _export_spans(exporter: SpanExporter, spans: list[ReadableSpan]) -> bool:
    return exporter.export(spans) is SpanExportResult.SUCCESS


History: TypeAlias = Literal["whole", "new"]
"""Whether spans carry the whole history of a conversation, or what earlier ones have not carried."""


class _SpanDelivery(_Delivery[SpanExporter, ReadableSpan]):
    """Spans, which may leave out what has been delivered: what that is, is known only as they are sent."""

    history: History = "whole"

    def _send(self, items: list[ReadableSpan]) -> Answer:
        if self.history == "whole":
            return super()._send(items)
        attempt = self._carried.attempt(items)
        answer = super()._send(attempt.spans)
        if answer.outcome is Outcome.DELIVERED and not answer.rejected:
            attempt.delivered()
        return answer

    @cached_property
    def _carried(self) -> Carried:
        return Carried()


class ReliableSpanExporter(SpanExporter, Reliable):
    """A span exporter that loses nothing while the collector is away and there is room.

    Batches are cut by encoded size; what fails waits in memory and is sent again from a thread of its own; at
    the end of the process it waits a few seconds at most. See `Limits`, `Pace` and `Grace` for the figures, and
    `Outbox` for what is dropped when, how it is counted and what is logged.

    Args:
        build: Makes the exporter that really sends, such as the class `OTLPSpanExporter`. Called again in a forked
            child and when a stuck exporter had to be shut down, so it must return a new one each time.
        limits: Sizes of requests and of the queue.
        pace: Pauses between attempts.
        grace: Seconds that `shutdown` may wait; one object shared by all exporters of the process bounds its exit.
        history: `new` leaves out of spans the messages that delivered ones of the same conversation have.
    """

    def __init__(
        self,
        build: Callable[[], SpanExporter],
        *,
        limits: Limits | None = None,
        pace: Pace | None = None,
        grace: Grace | None = None,
        history: History = "whole",
    ) -> None:
        self._delivery = _SpanDelivery(build, _export_spans, "spans", "spans", limits, pace, grace)
        self._delivery.history = history

    @property
    def history(self) -> History:
        """Whether spans carry the whole history of a conversation, or what is new of it."""
        return self._delivery.history

    @history.setter
    def history(self, history: History) -> None:
        self._delivery.history = history

    @property
    def stock(self) -> SpanExporter:
        """The exporter that really sends."""
        return self._delivery.exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Take spans; FAILURE only after `shutdown`. Lazy attributes are read here, on the caller's thread."""
        apart = self.history == "new"
        taken = self._delivery.outbox.put([_measured(span, apart=apart) for span in spans])
        return SpanExportResult.SUCCESS if taken else SpanExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until everything is delivered or dropped; False when `timeout_millis` passed before."""
        return self._delivery.outbox.flush(timeout_millis / 1000)

    def shutdown(self, timeout_millis: float = 30_000) -> None:
        """Deliver what waits, for as long as the grace and `timeout_millis` allow; the rest is counted as lost."""
        self._delivery.shutdown(timeout_millis / 1000)


def _export_metrics(exporter: MetricExporter, collections: list[MetricsData]) -> bool:
    return all(exporter.export(metrics) is MetricExportResult.SUCCESS for metrics in collections)


_METRIC_LIMITS = Limits(parcel_items=1, queue_items=64)


class ReliableMetricExporter(MetricExporter, Reliable):
    """A metric exporter whose collections survive a collector that is away, and whose last one is soon done with.

    Cumulative metrics need no keeping: the next collection says it all. Delta metrics do, and so does the last
    collection of a process, which the stock exporter tries for its whole timeout, 10 s by default.

    Args:
        build: Makes the exporter that really sends; called as in `ReliableSpanExporter`.
        limits: `queue_items` is the number of collections that may wait; they are not split.
        pace: Pauses between attempts.
        grace: Seconds that `shutdown` may wait, to be shared with the span exporter.
    """

    def __init__(
        self,
        build: Callable[[], MetricExporter],
        *,
        limits: Limits | None = None,
        pace: Pace | None = None,
        grace: Grace | None = None,
    ) -> None:
        self._delivery: _Delivery[MetricExporter, MetricsData] = _Delivery(
            build, _export_metrics, "metric collections", "data points", limits or _METRIC_LIMITS, pace, grace
        )
        inner = self._delivery.exporter
        # Readers read these from the exporter; there is no public name for them.
        super().__init__(inner._preferred_temporality, inner._preferred_aggregation)

    @property
    def stock(self) -> MetricExporter:
        """The exporter that really sends."""
        return self._delivery.exporter

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object) -> MetricExportResult:
        """Take a collection; FAILURE only after `shutdown`."""
        taken = self._delivery.outbox.put([(metrics_data, 0)])
        return MetricExportResult.SUCCESS if taken else MetricExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Wait until everything is delivered or dropped; False when `timeout_millis` passed before."""
        return self._delivery.outbox.flush(timeout_millis / 1000)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None:
        """Deliver what waits, for as long as the grace and `timeout_millis` allow; the rest is counted as lost."""
        self._delivery.shutdown(timeout_millis / 1000)
