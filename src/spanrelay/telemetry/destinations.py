"""Where span processors send spans to, so that none goes to the same place twice.

Only what is known for sure counts: processors and exporters of the SDK's that are told of every span and send each.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import urlsplit

from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

from spanrelay.telemetry.delivery import ReliableSpanExporter

_STOCK = "opentelemetry.exporter.otlp.proto."
_SENDS_ALL = (BatchSpanProcessor.on_end, SimpleSpanProcessor.on_end)
_PORTS = {4317: 4318}
"""The port of OTLP over gRPC, and that over HTTP: one collector listens to both."""
_HOSTS = {"localhost": "127.0.0.1", "::1": "127.0.0.1"}
_PATH = "/v1/traces"
_OF_REQUEST = ("content-encoding", "content-type", "user-agent")


class Destination(NamedTuple):
    """A collector, and whom it is told that spans are from."""

    host: str
    port: int | None
    path: str
    headers: frozenset[tuple[str, str]]


def without_doubles(processors: tuple[SpanProcessor, ...]) -> tuple[SpanProcessor, ...]:
    """Return the processors without those of ours that send where one of the program's sends too."""
    ours = [each for each in processors if isinstance(_exporter_of(each), ReliableSpanExporter)]
    if not ours:
        return processors
    taken = {to for each in processors if each not in ours and (to := destination_of(each)) is not None}
    return tuple(each for each in processors if each not in ours or destination_of(each) not in taken)


def destination_of(processor: SpanProcessor) -> Destination | None:
    """Return where `processor` sends every span that it is told of; None where that cannot be known."""
    found = _exporter_of(processor)
    exporter: Any = found.stock if isinstance(found, ReliableSpanExporter) else found
    if not _is_stock(exporter):
        return None
    address: str = exporter._endpoint
    parts = urlsplit(address if "://" in address else f"//{address}")
    host = _HOSTS.get(parts.hostname or "", parts.hostname or "")
    return Destination(
        host, _PORTS.get(parts.port or 0, parts.port), parts.path.rstrip("/") or _PATH, _headers(exporter)
    )


def _is_stock(exporter: Any) -> bool:
    kind = next((each for each in type(exporter).__mro__ if each.__module__.startswith(_STOCK)), None)
    return kind is not None and type(exporter).export is kind.export


def _headers(exporter: Any) -> frozenset[tuple[str, str]]:
    """Return what is sent with each request besides what describes the request itself."""
    given: Any = getattr(exporter, "_headers", None) or getattr(exporter._client, "_headers", None) or ()
    pairs: Any = given.items() if isinstance(given, dict) else given  # HTTP's and gRPC's
    named = ((str(name).lower(), str(value)) for name, value in pairs)
    return frozenset((name, value) for name, value in named if name not in _OF_REQUEST)


def _exporter_of(processor: SpanProcessor) -> Any:
    if getattr(type(processor), "on_end", None) not in _SENDS_ALL:
        return None
    batch: Any = getattr(processor, "_batch_processor", None)
    return getattr(processor, "span_exporter", None) or getattr(batch, "_exporter", None)
