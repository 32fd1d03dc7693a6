"""Builds the SDK's providers: OpenTelemetry's own configurator, with exporters that lose nothing on the way.

`otlp` in `OTEL_TRACES_EXPORTER` and `OTEL_METRICS_EXPORTER` means the stock exporter inside a reliable one.
"""

from __future__ import annotations

from typing import Any, ClassVar

from opentelemetry.sdk._configuration import _OTelSDKConfigurator
from opentelemetry.sdk.metrics.export import MetricExporter
from opentelemetry.sdk.trace.export import SpanExporter

from spanrelay import config
from spanrelay.telemetry.delivery import Grace, ReliableMetricExporter, ReliableSpanExporter
from spanrelay.telemetry.outbox import Limits

_OURS = {
    "otlp": "spanrelay_otlp",
    "otlp_proto_http": "spanrelay_otlp_http",
    "otlp_proto_grpc": "spanrelay_otlp_grpc",
}
_grace = Grace()


class SpanRelayConfigurator(_OTelSDKConfigurator):
    """Entry point `opentelemetry_configurator`: the standard configuration with reliable OTLP exporters."""

    def _configure(self, **kwargs: Any) -> None:
        if config.has_config_file():
            super()._configure()
            return
        with config.exporters_replaced(_OURS):
            super()._configure(**kwargs)


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


class OtlpSpanExporter(ReliableSpanExporter):
    """Exporter `spanrelay_otlp`: OTLP by the protocol of `OTEL_EXPORTER_OTLP_PROTOCOL`, delivered reliably."""

    protocol: ClassVar[str | None] = None

    def __init__(self) -> None:
        build = _grpc_spans if (self.protocol or config.otlp_protocol("traces")) == "grpc" else _http_spans
        super().__init__(build, limits=Limits(queue_bytes=config.load()[0].delivery_bytes), grace=_grace)


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
        super().__init__(build, grace=_grace)


class OtlpHttpMetricExporter(OtlpMetricExporter):
    """Exporter `spanrelay_otlp_http` for metrics."""

    protocol = "http/protobuf"


class OtlpGrpcMetricExporter(OtlpMetricExporter):
    """Exporter `spanrelay_otlp_grpc` for metrics."""

    protocol = "grpc"
