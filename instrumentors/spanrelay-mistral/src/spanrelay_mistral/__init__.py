"""SpanRelay instrumentor for the Mistral Python SDK: every request that names a model or an agent, sync and async.

A patch table and a route table; payloads, streams, spans and policy have their homes in `spanrelay`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanrelay.instrumentation.instrumentor import Instrumentor

if TYPE_CHECKING:
    from spanrelay.instrumentation.patching import Patch
    from spanrelay.tracing import Tracing

__all__ = ["MistralInstrumentor"]
__version__ = "0.1.0"

_CLIENTS = ("mistralai.client", "mistralai.azure.client", "mistralai.gcp.client")
_RESOURCES = ("agents", "chat", "classifiers", "conversations", "embeddings", "fim", "ocr")


class MistralInstrumentor(Instrumentor):
    """Instruments `mistralai`: `MistralInstrumentor().instrument(tracer_provider=None)`, and `uninstrument()`."""

    package = "mistralai"
    requires = ("mistralai >= 2.9.2",)
    modules = tuple(f"{client}.{part}" for client in _CLIENTS for part in ("basesdk", *_RESOURCES))
    name = "spanrelay_mistral"
    version = __version__

    def patches(self, tracing: Tracing) -> tuple[Patch, ...]:
        """Where the SDK sends a request, and the methods around it, which make its answer or its error."""
        from spanrelay_mistral.requests import patches

        return patches(tracing, _CLIENTS)
