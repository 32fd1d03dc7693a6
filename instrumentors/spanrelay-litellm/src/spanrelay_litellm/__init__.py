"""SpanRelay instrumentor for LiteLLM: completions, responses, embeddings and rankings, by its functions and its Router.

A patch table. What each function asks for stands in `functions`, how a request is made of its arguments and put back
into them in `arguments`, and the way of one call in `boundary`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanrelay.instrumentation.instrumentor import Instrumentor

if TYPE_CHECKING:
    from spanrelay.instrumentation.patching import Patch
    from spanrelay.tracing import Tracing

__all__ = ["LiteLLMInstrumentor"]
__version__ = "0.1.0"


class LiteLLMInstrumentor(Instrumentor):
    """Instruments `litellm`: `LiteLLMInstrumentor().instrument(tracer_provider=None)`, and `uninstrument()`."""

    package = "litellm"
    requires = ("litellm >= 1.110",)
    modules = ("litellm.main", "litellm.responses.main", "litellm.rerank_api.main", "litellm.ocr.dispatch", "litellm")
    name = "spanrelay_litellm"
    version = __version__

    def patches(self, tracing: Tracing) -> tuple[Patch, ...]:
        """Both colours of each function that asks a model, by both names that each has."""
        from spanrelay_litellm import functions

        return functions.patches(tracing)
