"""SpanRelay instrumentor for the Ollama Python client: chat, completions and embeddings, sync and async.

A patch table and a route table; payloads, streams, spans and policy have their homes in `spanrelay`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanrelay.instrumentation.instrumentor import Instrumentor

if TYPE_CHECKING:
    from spanrelay.instrumentation.patching import Patch
    from spanrelay.tracing import Tracing

__all__ = ["OllamaInstrumentor"]
__version__ = "0.1.0"


class OllamaInstrumentor(Instrumentor):
    """Instruments `ollama`: `OllamaInstrumentor().instrument(tracer_provider=None)`, and `uninstrument()`."""

    package = "ollama"
    requires = ("ollama >= 0.4",)
    modules = ("ollama._client",)
    name = "spanrelay_ollama"
    version = __version__

    def patches(self, tracing: Tracing) -> tuple[Patch, ...]:
        """Both colours of `_request`, which every method of the clients calls."""
        from spanrelay_ollama.requests import Requests

        return Requests(tracing).patches("ollama._client")
