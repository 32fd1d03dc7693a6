"""SpanRelay instrumentor for the NeMo Agent Toolkit: runs of workflows, their agents and functions, and questions.

A patch table; how a run, a function and a step are wrapped stands in the module of that name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanrelay.instrumentation.instrumentor import Instrumentor

if TYPE_CHECKING:
    from spanrelay.instrumentation.patching import Patch
    from spanrelay.tracing import Tracing

__all__ = ["NemoAgentToolkitInstrumentor"]
__version__ = "0.1.0"


class NemoAgentToolkitInstrumentor(Instrumentor):
    """Instruments `nat`: `NemoAgentToolkitInstrumentor().instrument(tracer_provider=None)`, and `uninstrument()`."""

    package = "nvidia-nat-core"
    requires = ("nvidia-nat-core >= 1.9",)
    modules = (
        "nat.builder.function",
        "nat.builder.intermediate_step_manager",
        "nat.builder.user_interaction_manager",
        "nat.runtime.runner",
    )
    name = "spanrelay_nemo_agent_toolkit"
    version = __version__

    def patches(self, tracing: Tracing) -> tuple[Patch, ...]:
        """The two ways of a run, the two of a function, the steps that nobody else records, and questions to people."""
        from spanrelay_nemo_agent_toolkit import functions, runs, steps

        return (*runs.patches(tracing), *functions.patches(tracing), *steps.patches())
