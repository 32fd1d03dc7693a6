"""SpanRelay instrumentor for Pydantic AI: runs of agents, requests to models, and tools.

A patch table; how a run, a model and a tool are wrapped stands in the module of that name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanrelay.instrumentation.instrumentor import Instrumentor

if TYPE_CHECKING:
    from spanrelay.instrumentation.patching import Patch
    from spanrelay.tracing import Tracing

__all__ = ["PydanticAIInstrumentor"]
__version__ = "0.1.0"


class PydanticAIInstrumentor(Instrumentor):
    """Instruments `pydantic_ai`: `PydanticAIInstrumentor().instrument(tracer_provider=None)`, and `uninstrument()`."""

    package = "pydantic-ai-slim"
    requires = ("pydantic-ai-slim >= 2.68",)
    modules = (
        "pydantic_ai.agent",
        "pydantic_ai.models",
        "pydantic_ai.tool_manager",
        "pydantic_ai._tool_execution",
        "pydantic_ai.realtime._session",
    )
    name = "spanrelay_pydantic_ai"
    version = __version__

    def patches(self, tracing: Tracing) -> tuple[Patch, ...]:
        """The beginning of a run, both ways to ask a model, and the execution of tools."""
        from spanrelay_pydantic_ai import models, runs, tools

        return (*runs.patches(tracing), *models.patches(tracing), *tools.patches(tracing))
