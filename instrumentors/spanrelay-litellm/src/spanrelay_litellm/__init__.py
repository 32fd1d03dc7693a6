"""SpanRelay instrumentor for LiteLLM: every function of its that asks a model, and its Router.

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
    modules = (
        "litellm.main",
        "litellm.anthropic_interface",
        "litellm.anthropic_interface.messages",
        "litellm.chat_completions",
        "litellm.chat_completions.dispatch",
        "litellm.decisions",
        "litellm.decisions.main",
        "litellm.embeddings.dispatch",
        "litellm.evals",
        "litellm.evals.main",
        "litellm.extraction",
        "litellm.extraction.main",
        "litellm.google_genai",
        "litellm.google_genai.main",
        "litellm.images.main",
        "litellm.interactions",
        "litellm.interactions.agents",
        "litellm.interactions.agents.main",
        "litellm.interactions.main",
        "litellm.messages",
        "litellm.messages.dispatch",
        "litellm.ocr",
        "litellm.ocr.dispatch",
        "litellm.realtime_api.main",
        "litellm.rerank_api.main",
        "litellm.responses.dispatch",
        "litellm.responses.main",
        "litellm.systemone",
        "litellm.systemone.main",
        "litellm.videos",
        "litellm.videos.main",
        "litellm",
    )
    name = "spanrelay_litellm"
    version = __version__

    def patches(self, tracing: Tracing) -> tuple[Patch, ...]:
        """Both colours of each function that asks a model, by both names that each has."""
        from spanrelay_litellm import functions

        return functions.patches(tracing)
