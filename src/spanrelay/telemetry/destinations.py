"""Where spans, metrics and logs are sent to, so that nothing goes to the same place twice.

Only what is known for sure counts: processors and exporters of the SDK's that are told of everything and send it all.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import urlsplit

from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

_STOCK = "opentelemetry.exporter.otlp.proto."
_SENDS_ALL = (BatchSpanProcessor.on_end, SimpleSpanProcessor.on_end)
_PORTS = {4317: 4318}
"""The port of OTLP over gRPC, and that over HTTP: one collector listens to both."""
_HOSTS = {"localhost": "127.0.0.1", "::1": "127.0.0.1"}
_PATHS = ("/v1/traces", "/v1/metrics", "/v1/logs")
_OF_REQUEST = ("content-encoding", "content-type", "user-agent")


class Reliable:
    """An exporter of ours that stands before one of the SDK's, which really sends."""

    @property
    def stock(self) -> Any:
        """The exporter that really sends."""
        raise NotImplementedError  # pragma: no cover - each has its own


class Destination(NamedTuple):
    """A collector, and whom it is told that spans are from."""

    host: str
    port: int | None
    path: str
    headers: frozenset[tuple[str, str]]


def without_doubles(processors: tuple[SpanProcessor, ...]) -> tuple[SpanProcessor, ...]:
    """Return the processors without those of ours that send where one of the program's sends too."""
    ours = [each for each in processors if isinstance(exporter_of(each), Reliable)]
    if not ours:
        return processors
    taken = {destination_of(exporter_of(each)) for each in processors if each not in ours} - {None}
    return tuple(each for each in processors if each not in ours or destination_of(exporter_of(each)) not in taken)


def destination_of(exporter: Any) -> Destination | None:
    """Return where `exporter` sends all that it is given; None where that cannot be known."""
    if isinstance(exporter, Reliable):
        exporter = exporter.stock
    if not _is_stock(exporter):
        return None
    address: str = exporter._endpoint
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        port = parts.port
    except ValueError:  # it leads nowhere, and who sends there says so
        return None
    host = _HOSTS.get(parts.hostname or "", parts.hostname or "")
    path = parts.path.rstrip("/")
    return Destination(host, _PORTS.get(port or 0, port), "" if path in _PATHS else path, _headers(exporter))


def _is_stock(exporter: Any) -> bool:
    kind = next((each for each in type(exporter).__mro__ if each.__module__.startswith(_STOCK)), None)
    return kind is not None and type(exporter).export is kind.export


def _headers(exporter: Any) -> frozenset[tuple[str, str]]:
    """Return what is sent with each request besides what describes the request itself."""
    given: Any = getattr(exporter, "_headers", None) or getattr(exporter._client, "_headers", None) or ()
    pairs: Any = given.items() if isinstance(given, dict) else given  # HTTP's and gRPC's
    named = ((str(name).lower(), str(value)) for name, value in pairs)
    return frozenset((name, value) for name, value in named if name not in _OF_REQUEST)


def exporter_of(part: Any) -> Any:
    """Return the exporter of a processor or reader of the SDK's that gives it everything, else None."""
    if not part.__class__.__module__.startswith("opentelemetry.sdk.") and not _is_told_all(part):
        return None
    batch = getattr(part, "_batch_processor", None)
    return getattr(part, "span_exporter", None) or getattr(part, "_exporter", None) or getattr(batch, "_exporter", None)


def _is_told_all(processor: Any) -> bool:
    """Whether a processor that somebody derived from one of the SDK's leaves nothing out."""
    return getattr(type(processor), "on_end", None) in _SENDS_ALL
