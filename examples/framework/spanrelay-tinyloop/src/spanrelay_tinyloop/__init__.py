"""SpanRelay instrumentor for tinyloop: runs of agents, and their tools.

Models are not patched here: tinyloop asks them by the OpenAI SDK, and `spanrelay-openai` records that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanrelay.instrumentation.instrumentor import Instrumentor

if TYPE_CHECKING:
    from spanrelay.instrumentation.patching import Patch
    from spanrelay.tracing import Tracing

__version__ = "0.1.0"


class TinyloopInstrumentor(Instrumentor):
    """Instruments `tinyloop`: `TinyloopInstrumentor().instrument()`, and `uninstrument()`."""

    package = "tinyloop"
    requires = ("tinyloop >= 1.0, < 2",)
    modules = ("tinyloop",)
    name = "spanrelay_tinyloop"
    version = __version__

    def patches(self, tracing: Tracing) -> tuple[Patch, ...]:
        """A run of an agent, and a call of a tool."""
        from spanrelay_tinyloop.wrappers import patches  # when tinyloop is imported, and not before

        return patches(tracing)
