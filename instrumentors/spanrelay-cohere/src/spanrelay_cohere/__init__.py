"""SpanRelay instrumentor for the Cohere Python SDK: chat of both versions, embeddings and ranks, sync and async.

A patch table and a route table; payloads, streams, spans and policy have their homes in `spanrelay`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanrelay.instrumentation.instrumentor import Instrumentor

if TYPE_CHECKING:
    from spanrelay.instrumentation.patching import Patch
    from spanrelay.tracing import Tracing

__all__ = ["CohereInstrumentor"]
__version__ = "0.1.0"


class CohereInstrumentor(Instrumentor):
    """Instruments `cohere`: `CohereInstrumentor().instrument(tracer_provider=None)`, and `uninstrument()`."""

    package = "cohere"
    requires = ("cohere >= 5.18",)
    modules = ("cohere.core.http_client", "cohere.raw_base_client", "cohere.v2.raw_client")
    name = "spanrelay_cohere"
    version = __version__

    def patches(self, tracing: Tracing) -> tuple[Patch, ...]:
        """Where the SDK sends a request, whole or streamed, and the methods around it."""
        from spanrelay_cohere.requests import Requests

        return Requests(tracing).patches()
