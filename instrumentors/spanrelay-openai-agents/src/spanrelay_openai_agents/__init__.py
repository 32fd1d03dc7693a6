"""SpanRelay instrumentor for the OpenAI Agents SDK: runs, handoffs, tools, guardrails, and blocks of your own.

A patch table; how a run, a turn, a tool, a guardrail and a block are wrapped stands in the module of that name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanrelay.instrumentation.instrumentor import Instrumentor

if TYPE_CHECKING:
    from spanrelay.instrumentation.patching import Patch
    from spanrelay.tracing import Tracing

__all__ = ["OpenAIAgentsInstrumentor"]
__version__ = "0.1.0"


class OpenAIAgentsInstrumentor(Instrumentor):
    """Instruments `agents`: `OpenAIAgentsInstrumentor().instrument(tracer_provider=None)`, and `uninstrument()`."""

    package = "openai-agents"
    requires = ("openai-agents >= 0.24",)
    modules = (
        "agents.run_internal.run_loop",
        "agents",
        "agents.guardrail",
        "agents.run",
        "agents.run_internal.tool_actions",
        "agents.run_internal.tool_execution",
        "agents.run_internal.turn_resolution",
        "agents.tool",
        "agents.tool_guardrails",
        "agents.tracing",
        "agents.tracing.spans",
        "agents.tracing.traces",
    )
    name = "spanrelay_openai_agents"
    version = __version__

    def patches(self, tracing: Tracing) -> tuple[Patch, ...]:
        """The two ways of a run, its turns and handoffs, the execution of tools, guardrails, traces and spans."""
        from spanrelay_openai_agents import blocks, guardrails, local_tools, models, runs, tools, turns

        return (
            *runs.patches(tracing),
            *turns.patches(),
            *models.patches(tracing),
            *tools.patches(tracing),
            *local_tools.patches(tracing),
            *guardrails.patches(tracing),
            *blocks.patches(tracing),
        )
