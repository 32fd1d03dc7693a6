"""SpanRelay instrumentor for the OpenAI Python SDK: every request that names a model, sync and async.

A patch table and a route table; payloads, streams, spans and policy have their homes in `spanrelay`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanrelay.instrumentation.instrumentor import Instrumentor

if TYPE_CHECKING:
    from spanrelay.instrumentation.patching import Patch
    from spanrelay.tracing import Tracing

__all__ = ["OpenAIInstrumentor"]
__version__ = "0.1.0"


class OpenAIInstrumentor(Instrumentor):
    """Instruments `openai`: `OpenAIInstrumentor().instrument(tracer_provider=None)`, and `uninstrument()`."""

    package = "openai"
    requires = ("openai >= 1.66",)
    modules = (
        "openai._base_client",
        "openai.resources.realtime.realtime",
        "openai.resources.beta.realtime.realtime",
        "openai.resources.realtime.translations.translations",
        "openai.resources.responses.responses",
        "openai.resources.beta.responses.responses",
        "openai.resources.live.live",
    )
    name = "spanrelay_openai"
    version = __version__

    def patches(self, tracing: Tracing) -> tuple[Patch, ...]:
        """The base client's two colours of `request`, where it makes a response its own, and each connection."""
        from spanrelay.instrumentation.apis.openai import ROUTES
        from spanrelay.instrumentation.stainless import StainlessAPI
        from spanrelay_openai import dialogues, realtime, sockets
        from spanrelay_openai.routes import deployment_of, provider_of

        return (
            *StainlessAPI(ROUTES, provider_of, tracing, deployment_of).patches("openai._base_client"),
            *sockets.patches(tracing),
            *dialogues.patches(tracing),
            *realtime.patches(tracing),
        )
