"""SpanRelay instrumentor for LiteLLM: each chat completion, by the SDK's functions and its Router.

A patch table; how a call is made of the arguments of a function stands in `completions`.
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
    modules = ("litellm.main", "litellm")
    name = "spanrelay_litellm"
    version = __version__

    def patches(self, tracing: Tracing) -> tuple[Patch, ...]:
        """Both colours of a completion, by both names that each has."""
        from spanrelay_litellm import completions

        return completions.patches(tracing)
