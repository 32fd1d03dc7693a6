"""SpanRelay instrumentor for LangChain: models of every kind, tools, retrievers, and the agents of `create_agent`.

A patch table; how each kind of call is made stands in the module of that name.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import wrapt

from spanrelay._guard import guarded
from spanrelay.instrumentation.instrumentor import Instrumentor
from spanrelay.instrumentation.patching import Patches

if TYPE_CHECKING:
    from spanrelay.instrumentation.patching import Patch
    from spanrelay.instrumentation.subclasses import Subclasses
    from spanrelay.tracing import Tracing

__all__ = ["LangChainInstrumentor"]
__version__ = "0.1.0"

_EMBEDDINGS = "langchain_core.embeddings.embeddings"
_CHAINS = "langchain_core.runnables.base"


class LangChainInstrumentor(Instrumentor):
    """Instruments `langchain`: `LangChainInstrumentor().instrument(tracer_provider=None)`, and `uninstrument()`.

    With `chains=True`, or the setting `SPANRELAY_CHAINS`, each step of a chain is recorded too.
    """

    package = "langchain-core"
    requires = ("langchain-core >= 1.7",)
    modules = (
        "langchain_core.language_models.chat_models",
        "langchain_core.language_models.llms",
        _EMBEDDINGS,
        "langchain_core.tools.base",
        "langchain_core.retrievers",
        "langchain.agents.middleware.human_in_the_loop",
        "langchain.agents.factory",
        "langchain.agents",
        "langgraph.pregel.main",
    )
    name = "spanrelay_langchain"
    version = __version__

    _embeddings: Subclasses | None = None
    _chains: Patches | None = None
    _asked: bool | None = None
    _hooked = False

    def patches(self, tracing: Tracing) -> tuple[Patch, ...]:
        """Both colours of asking a model, running a tool and asking a retriever; makers of agents; asking people."""
        from spanrelay.instrumentation.subclasses import Subclasses
        from spanrelay_langchain import agents, completions, embeddings, models, people, retrievers, tools

        embedding = embeddings.EmbeddingModels(tracing)
        self._embeddings = Subclasses(embedding.wrappers)
        return (
            *models.patches(tracing),
            *completions.patches(tracing),
            *embeddings.patches(embedding),
            *tools.patches(tracing),
            *retrievers.patches(tracing),
            *agents.patches(),
            *people.patches(),
        )

    def _instrument(self, **kwargs: Any) -> None:
        self._asked = self.asked_for("chains", kwargs)
        self._uninstrument_chains()
        super()._instrument(**kwargs)
        if _EMBEDDINGS in sys.modules:
            self._patch_embeddings(sys.modules[_EMBEDDINGS])
        elif not self._hooked:
            wrapt.register_post_import_hook(self._patch_embeddings, _EMBEDDINGS)
        self._hooked = True
        # A table of its own: a wrapper that is not in force would still cost every step of every chain.
        self._chains = Patches(self.package, (_CHAINS,), self._chain_table)
        self._chains.apply()

    def _patch_embeddings(self, module: Any) -> None:
        """Patch the classes of embedding models, which a table cannot name."""
        if self._embeddings is not None and self._patches is not None and self._patches.enabled:
            with guarded("instrumenting embedding models"):
                self._embeddings.patch(module.Embeddings)

    def _chain_table(self) -> tuple[Patch, ...]:
        if not self.wants("chains", self._asked):
            return ()
        from spanrelay.tracing import Tracing
        from spanrelay_langchain import chains

        return chains.patches(Tracing(self.name, self.version, self._provider))

    def _uninstrument_chains(self) -> None:
        if self._chains is not None:
            self._chains.undo()

    def _uninstrument(self, **kwargs: Any) -> None:
        super()._uninstrument(**kwargs)
        if self._embeddings is not None:
            self._embeddings.restore()
        self._uninstrument_chains()
