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
    _chain_tracing: Tracing | None = None
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
        chains = self.wants("chains", kwargs)
        super()._instrument(**kwargs)
        if _EMBEDDINGS in sys.modules:
            self._patch_embeddings(sys.modules[_EMBEDDINGS])
        elif not self._hooked:
            wrapt.register_post_import_hook(self._patch_embeddings, _EMBEDDINGS)
        self._hooked = True
        if chains:
            self._record_chains()

    def _patch_embeddings(self, module: Any) -> None:
        """Patch the classes of embedding models, which a table cannot name."""
        if self._embeddings is not None and self._patches is not None and self._patches.enabled:
            with guarded("instrumenting embedding models"):
                self._embeddings.patch(module.Embeddings)

    def _record_chains(self) -> None:
        # A table of its own: a wrapper that is never in force would still cost every step of every chain.
        if self._chains is None:
            self._chains = Patches(self.package, (_CHAINS,), self._chain_table)
        elif self._chain_tracing is not None:
            self._chain_tracing.use(self._provider)
        self._chains.apply()

    def _chain_table(self) -> tuple[Patch, ...]:
        from spanrelay.tracing import Tracing
        from spanrelay_langchain import chains

        self._chain_tracing = Tracing(self.name, self.version, self._provider)
        return chains.patches(self._chain_tracing)

    def _uninstrument(self, **kwargs: Any) -> None:
        super()._uninstrument(**kwargs)
        if self._embeddings is not None:
            self._embeddings.restore()
        if self._chains is not None:
            self._chains.undo()
