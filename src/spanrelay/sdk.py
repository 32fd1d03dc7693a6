"""Builds the SDK's providers: OpenTelemetry's own configurator, with exporters that lose nothing on the way.

`otlp` in `OTEL_TRACES_EXPORTER` and `OTEL_METRICS_EXPORTER` means the stock exporter inside a reliable one.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk._configuration import _OTelSDKConfigurator

from spanrelay import config

_OURS = {
    "otlp": "spanrelay_otlp",
    "otlp_proto_http": "spanrelay_otlp_http",
    "otlp_proto_grpc": "spanrelay_otlp_grpc",
}


class SpanRelayConfigurator(_OTelSDKConfigurator):
    """Entry point `opentelemetry_configurator`: the standard configuration with reliable OTLP exporters."""

    def _configure(self, **kwargs: Any) -> None:
        if config.has_config_file():
            super()._configure()
            return
        with config.exporters_replaced(_OURS):
            super()._configure(**kwargs)
