"""The former place of `exporters.otlp`, the exporters `spanrelay_otlp`: programs import it by this name.

Says nothing of its own.
"""

from spanrelay.exporters.otlp import (
    OtlpGrpcMetricExporter,
    OtlpGrpcSpanExporter,
    OtlpHttpMetricExporter,
    OtlpHttpSpanExporter,
    OtlpMetricExporter,
    OtlpSpanExporter,
)

__all__ = [
    "OtlpGrpcMetricExporter",
    "OtlpGrpcSpanExporter",
    "OtlpHttpMetricExporter",
    "OtlpHttpSpanExporter",
    "OtlpMetricExporter",
    "OtlpSpanExporter",
]
