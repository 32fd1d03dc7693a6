"""The OTLP exporters of OpenTelemetry, delivered reliably: exporter names `spanrelay_otlp` and its two protocols.

They speak no OTLP themselves; the stock exporters do, inside `exporters.delivery`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar

from opentelemetry.sdk.metrics.export import MetricExporter
from opentelemetry.sdk.trace.export import SpanExporter

from spanrelay import config
from spanrelay._guard import pass_on
from spanrelay.config import Settings
from spanrelay.exporters.answers import Hearing
from spanrelay.exporters.delivery import History, ReliableMetricExporter, ReliableSpanExporter
from spanrelay.exporters.grace import grace
from spanrelay.exporters.outbox import Answer, Limits

if TYPE_CHECKING:
    from opentelemetry.sdk._logs.export import LogRecordExporter

    Stock: TypeAlias = SpanExporter | MetricExporter | LogRecordExporter

E = TypeVar("E")


def _http_spans() -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


def _grpc_spans() -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


def _http_metrics() -> MetricExporter:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    return OTLPMetricExporter()


def _grpc_metrics() -> MetricExporter:
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

    return OTLPMetricExporter()


def _http_logs() -> LogRecordExporter:
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter

    return OTLPLogExporter()


def _grpc_logs() -> LogRecordExporter:
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter

    return OTLPLogExporter()


_STOCK: dict[str, tuple[Callable[[], Stock], Callable[[], Stock]]] = {
    "traces": (_http_spans, _grpc_spans),
    "metrics": (_http_metrics, _grpc_metrics),
    "logs": (_http_logs, _grpc_logs),
}


def stock(signal: str, protocol: str) -> Stock:
    """Return the exporter of OpenTelemetry for one of `config.SIGNALS`, as the environment says."""
    return _STOCK[signal][protocol == "grpc"]()


def _as_at_first(build: Callable[[], E]) -> Callable[[], E]:
    """Let what is built again, in a forked child for instance, go where the first went.

    Programs take addresses and keys out of their environment once they have been read.
    """
    known = config.otlp_variables()

    def built() -> E:
        with config.replaced(known):
            return build()

    return built


def ask_once(exporter: Stock, batch: Any) -> Answer:
    """Send a batch once by a stock exporter, which is shut down, and return what is answered; nothing is kept."""
    begun = False

    def stop() -> None:
        nonlocal begun
        if begun:  # by itself it would try again for a minute
            begun = False
            exporter.shutdown()

    hearing = Hearing(exporter, stop)
    hearing.hurry()
    begun = True
    hearing.listen()
    try:
        taken = exporter.export(batch).name == "SUCCESS"
    except Exception as error:
        if not hearing.refused:
            raise
        pass_on(error)
        taken = False
    finally:
        hearing.detach()
        stop()
    return hearing.answer(success=taken)


class OtlpSpanExporter(ReliableSpanExporter):
    """Exporter `spanrelay_otlp`: OTLP by the protocol of `OTEL_EXPORTER_OTLP_PROTOCOL`, delivered reliably.

    `destination` says where spans go, without credentials.

    Args:
        history: `whole` or `new`, for this exporter alone; by default what the settings say.

    Raises:
        ConfigurationError: `history` is neither.
    """

    protocol: ClassVar[str | None] = None

    def __init__(self, history: History | None = None) -> None:
        protocol = self.protocol or config.otlp_protocol("traces")
        self.destination = config.destination(protocol)
        self.follows_settings = history is None
        settings = config.load()[0]
        chosen = settings if history is None else Settings(history=history)
        build = _grpc_spans if protocol == "grpc" else _http_spans
        limits = Limits(queue_bytes=settings.delivery_bytes)
        super().__init__(_as_at_first(build), limits=limits, grace=grace, history=chosen.history)


class OtlpHttpSpanExporter(OtlpSpanExporter):
    """Exporter `spanrelay_otlp_http`: as `spanrelay_otlp`, always over HTTP."""

    protocol = "http/protobuf"


class OtlpGrpcSpanExporter(OtlpSpanExporter):
    """Exporter `spanrelay_otlp_grpc`: as `spanrelay_otlp`, always over gRPC."""

    protocol = "grpc"


class OtlpMetricExporter(ReliableMetricExporter):
    """Exporter `spanrelay_otlp` for metrics."""

    protocol: ClassVar[str | None] = None

    def __init__(self) -> None:
        build = _grpc_metrics if (self.protocol or config.otlp_protocol("metrics")) == "grpc" else _http_metrics
        super().__init__(_as_at_first(build), grace=grace)


class OtlpHttpMetricExporter(OtlpMetricExporter):
    """Exporter `spanrelay_otlp_http` for metrics."""

    protocol = "http/protobuf"


class OtlpGrpcMetricExporter(OtlpMetricExporter):
    """Exporter `spanrelay_otlp_grpc` for metrics."""

    protocol = "grpc"
