"""SpanRelay instrumentor for the Google Gen AI SDK: every request that names a model, and its calls of functions.

A patch table and a route table; payloads, streams, spans and policy have their homes in `spanrelay`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanrelay.instrumentation.instrumentor import Instrumentor

if TYPE_CHECKING:
    from spanrelay.instrumentation.patching import Patch
    from spanrelay.tracing import Tracing

__all__ = ["GoogleGenAIInstrumentor"]
__version__ = "0.1.0"


class GoogleGenAIInstrumentor(Instrumentor):
    """Instruments `google.genai`: `instrument(tracer_provider=None)`, and `uninstrument()`."""

    package = "google-genai"
    requires = ("google-genai >= 1.40",)
    modules = (
        "google.genai._api_client",
        "google.genai._extra_utils",
        "google.genai._gaos.basesdk",
        "google.genai._gaos.interactions",
    )
    name = "spanrelay_google_genai"
    version = __version__

    def patches(self, tracing: Tracing) -> tuple[Patch, ...]:
        """The API client's four ways to send, and the calling of functions that a model asks for."""
        from spanrelay_google_genai import functions, interactions, requests

        return requests.patches(tracing) + functions.patches(tracing) + interactions.patches(tracing)
