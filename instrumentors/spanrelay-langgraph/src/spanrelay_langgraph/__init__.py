"""SpanRelay instrumentor for LangGraph: runs of graphs, their nodes and tasks, interrupts, resumes and handoffs.

A patch table; how a run, a node and a mark are made stands in the module of that name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanrelay.instrumentation.instrumentor import Instrumentor

if TYPE_CHECKING:
    from spanrelay.instrumentation.patching import Patch
    from spanrelay.tracing import Tracing

__all__ = ["LangGraphInstrumentor"]
__version__ = "0.1.0"


class LangGraphInstrumentor(Instrumentor):
    """Instruments `langgraph`: `LangGraphInstrumentor().instrument(tracer_provider=None)`, and `uninstrument()`.

    With `checkpoints=True`, or the setting `SPANRELAY_CHECKPOINTS`, calls of checkpointers are recorded too.
    """

    package = "langgraph"
    requires = ("langgraph >= 1.0",)
    modules = (
        "langgraph.pregel._retry",
        "langgraph.pregel._loop",
        "langgraph.pregel._runner",
        "langgraph.pregel.main",
        "langgraph.graph.state",
        "langgraph.prebuilt.chat_agent_executor",
        "langgraph.prebuilt.tool_node",
        "langgraph.prebuilt",
    )
    name = "spanrelay_langgraph"
    version = __version__

    option = "checkpoints"
    optional_modules = ("langgraph.checkpoint.base",)

    def patches(self, tracing: Tracing) -> tuple[Patch, ...]:
        """The two colours of a graph's run and of a node's, and where LangGraph decides what becomes a mark."""
        from spanrelay_langgraph import agents, nodes, runs

        return (*runs.patches(tracing), *nodes.patches(tracing), *agents.patches())

    def optional_patches(self, tracing: Tracing) -> tuple[Patch, ...]:
        """What checkpointers are asked."""
        from spanrelay_langgraph import checkpoints

        return checkpoints.patches(tracing)
