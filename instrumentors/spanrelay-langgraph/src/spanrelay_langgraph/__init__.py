"""SpanRelay instrumentor for LangGraph: runs of graphs, their nodes and tasks, interrupts, resumes and handoffs.

A patch table; how a run, a node and a mark are made stands in the module of that name.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import wrapt

from spanrelay._guard import guarded
from spanrelay.instrumentation.instrumentor import Instrumentor

if TYPE_CHECKING:
    from spanrelay.instrumentation.patching import Patch
    from spanrelay.instrumentation.subclasses import Subclasses
    from spanrelay.tracing import Tracing

__all__ = ["LangGraphInstrumentor"]
__version__ = "0.1.0"

_CHECKPOINTS = "langgraph.checkpoint.base"


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
        "langgraph.prebuilt",
    )
    name = "spanrelay_langgraph"
    version = __version__

    _checkpointers: Subclasses | None = None
    _asked: bool | None = None
    _hooked = False

    def patches(self, tracing: Tracing) -> tuple[Patch, ...]:
        """The two colours of a graph's run and of a node's, and where LangGraph decides what becomes a mark."""
        from spanrelay_langgraph import agents, nodes, runs

        return (*runs.patches(tracing), *nodes.patches(tracing), *agents.patches())

    def _instrument(self, **kwargs: Any) -> None:
        self._asked = self.asked_for("checkpoints", kwargs)
        super()._instrument(**kwargs)
        if _CHECKPOINTS in sys.modules:
            self._record_checkpoints(sys.modules[_CHECKPOINTS])
        elif not self._hooked:
            wrapt.register_post_import_hook(self._record_checkpoints, _CHECKPOINTS)
        self._hooked = True

    def _record_checkpoints(self, module: Any) -> None:
        """Patch the classes of checkpointers, which a table cannot name, if somebody asked for it."""
        in_force = self._patches is not None and self._patches.enabled
        if not in_force or self._checkpointers is not None or not self.wants("checkpoints", self._asked):
            return
        from spanrelay.instrumentation.subclasses import Subclasses
        from spanrelay.tracing import Tracing
        from spanrelay_langgraph.checkpoints import Checkpointers

        with guarded("instrumenting checkpointers"):
            checkpointers = Checkpointers(Tracing(self.name, self.version, self._provider))
            self._checkpointers = Subclasses(checkpointers.wrappers)
            self._checkpointers.patch(module.BaseCheckpointSaver)

    def _uninstrument(self, **kwargs: Any) -> None:
        super()._uninstrument(**kwargs)
        if self._checkpointers is not None:
            self._checkpointers.restore()
            self._checkpointers = None
