"""SpanRelay instrumentor for Deep Agents: the name of an agent and its skills.

Everything else of a deep agent is LangChain's and LangGraph's, and recorded by the packages for these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanrelay.instrumentation.instrumentor import Instrumentor

if TYPE_CHECKING:
    from spanrelay.instrumentation.patching import Patch
    from spanrelay.tracing import Tracing

__all__ = ["DeepAgentsInstrumentor"]
__version__ = "0.1.0"


class DeepAgentsInstrumentor(Instrumentor):
    """Instruments `deepagents`: `DeepAgentsInstrumentor().instrument(tracer_provider=None)`, and `uninstrument()`."""

    package = "deepagents"
    requires = ("deepagents >= 0.7",)
    modules = (
        "deepagents.middleware.skills",
        "langgraph.pregel.main",
    )
    name = "spanrelay_deepagents"
    version = __version__

    def patches(self, tracing: Tracing) -> tuple[Patch, ...]:
        """What marks a graph as a deep agent, and where skills are found; none of them opens a span."""
        from spanrelay_deepagents import agents, skills

        return (*agents.patches(), *skills.patches())
