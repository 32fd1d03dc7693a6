"""SpanRelay instrumentor for LangChain: models of every kind, tools, retrievers, and the agents of `create_agent`.

A patch table; how each kind of call is made stands in the module of that name.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import wrapt

from spanrelay._guard import guarded
from spanrelay.instrumentation.instrumentor import Instrumentor

if TYPE_CHECKING:
    from spanrelay.instrumentation.patching import Patch
    from spanrelay.tracing import Tracing
    from spanrelay_langchain.embeddings import Classes

__all__ = ["LangChainInstrumentor"]
__version__ = "0.1.0"

_EMBEDDINGS = "langchain_core.embeddings.embeddings"


class LangChainInstrumentor(Instrumentor):
    """Instruments `langchain`: `LangChainInstrumentor().instrument(tracer_provider=None)`, and `uninstrument()`."""

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

    _embeddings: Classes | None = None
    _hooked = False

    def patches(self, tracing: Tracing) -> tuple[Patch, ...]:
        """Both colours of asking a model, running a tool and asking a retriever; makers of agents; asking people."""
        from spanrelay_langchain import agents, completions, embeddings, models, people, retrievers, tools

        embedding = embeddings.EmbeddingModels(tracing)
        self._embeddings = embeddings.Classes(embedding, lambda: self._patches is not None and self._patches.enabled)
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
        super()._instrument(**kwargs)
        if _EMBEDDINGS in sys.modules:
            self._patch_embeddings(sys.modules[_EMBEDDINGS])
        elif not self._hooked:
            wrapt.register_post_import_hook(self._patch_embeddings, _EMBEDDINGS)
        self._hooked = True

    def _patch_embeddings(self, module: Any) -> None:
        """Patch the classes of embedding models, which a table cannot name."""
        if self._embeddings is not None and self._patches is not None and self._patches.enabled:
            with guarded("instrumenting embedding models"):
                self._embeddings.patch(module.Embeddings)

    def _uninstrument(self, **kwargs: Any) -> None:
        super()._uninstrument(**kwargs)
        if self._embeddings is not None:
            self._embeddings.restore()
