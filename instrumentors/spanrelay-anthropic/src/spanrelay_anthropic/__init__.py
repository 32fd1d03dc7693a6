"""SpanRelay instrumentor for the Anthropic Python SDK: every request that names a model, and tools that a runner runs.

A patch table and a route table; payloads, streams, spans and policy have their homes in `spanrelay`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanrelay.instrumentation.instrumentor import Instrumentor

if TYPE_CHECKING:
    from spanrelay.instrumentation.patching import Patch
    from spanrelay.tracing import Tracing

__all__ = ["AnthropicInstrumentor"]
__version__ = "0.1.0"


class AnthropicInstrumentor(Instrumentor):
    """Instruments `anthropic`: `AnthropicInstrumentor().instrument(tracer_provider=None)`, and `uninstrument()`."""

    package = "anthropic"
    requires = ("anthropic >= 0.60",)
    modules = (
        "anthropic._base_client",
        "anthropic.lib.tools._beta_functions",
        "anthropic.lib.tools._beta_runner",
        "anthropic.lib.tools._beta_session_runner",
    )
    name = "spanrelay_anthropic"
    version = __version__

    def patches(self, tracing: Tracing) -> tuple[Patch, ...]:
        """The base client, where a body is plain JSON, the start of the SDK's own spans, and each call of a tool."""
        from spanrelay_anthropic import clients, tools

        return clients.patches(tracing) + tools.patches(tracing)
