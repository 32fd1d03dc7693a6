"""SpanRelay instrumentor for NeMo Guardrails: runs of rails, the rails themselves, their actions and model calls.

A patch table; how a run, a rail, an action and a model call are wrapped stands in the module of that name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanrelay.instrumentation.instrumentor import Instrumentor

if TYPE_CHECKING:
    from spanrelay.instrumentation.patching import Patch
    from spanrelay.tracing import Tracing

__all__ = ["NemoGuardrailsInstrumentor"]
__version__ = "0.1.0"


class NemoGuardrailsInstrumentor(Instrumentor):
    """Instruments `nemoguardrails`: `NemoGuardrailsInstrumentor().instrument(tracer_provider=None)`, and back."""

    package = "nemoguardrails"
    requires = ("nemoguardrails >= 0.24",)
    modules = (
        "nemoguardrails.actions.action_dispatcher",
        "nemoguardrails.colang.v1_0.runtime.runtime",
        "nemoguardrails.llm.clients.base",
        "nemoguardrails.rails.llm.llmrails",
        "nemoguardrails.tracing.adapters.opentelemetry",
    )
    name = "spanrelay_nemo_guardrails"
    version = __version__

    def patches(self, tracing: Tracing) -> tuple[Patch, ...]:
        """The three ways of a run, rails side by side, actions, requests to models, and the toolkit's own spans."""
        from spanrelay_nemo_guardrails import actions, models, rails, runs

        return (
            *runs.patches(tracing),
            *rails.patches(tracing),
            *actions.patches(tracing),
            *models.patches(tracing),
        )
