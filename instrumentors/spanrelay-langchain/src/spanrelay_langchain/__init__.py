"""SpanRelay instrumentor for LangChain: models of every kind, tools, retrievers, and the agents of `create_agent`.

A patch table; how each kind of call is made stands in the module of that name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanrelay.instrumentation.instrumentor import Instrumentor

if TYPE_CHECKING:
    from spanrelay.instrumentation.patching import Patch
    from spanrelay.tracing import Tracing

__all__ = ["LangChainInstrumentor"]
__version__ = "0.1.0"


class LangChainInstrumentor(Instrumentor):
    """Instruments `langchain`: `LangChainInstrumentor().instrument(tracer_provider=None)`, and `uninstrument()`.

    With `chains=True`, or the setting `SPANRELAY_CHAINS`, each step of a chain is recorded too.
    """

    package = "langchain-core"
    requires = ("langchain-core >= 1.7",)
    modules = (
        "langchain_core.language_models.chat_models",
        "langchain_core.language_models.llms",
        "langchain_core.embeddings.embeddings",
        "langchain_core.prompt_values",
        "langchain_core.prompts.chat",
        "langchain_core.prompts.string",
        "langchain_core.tools.base",
        "langchain_core.retrievers",
        "langchain.agents.middleware.human_in_the_loop",
        "langchain.agents.middleware.tool_call_limit",
        "langchain.agents.middleware.todo",
        "langchain.agents.factory",
        "langchain.agents",
        "langchain_classic.agents.agent",
        "langgraph.pregel.main",
    )
    name = "spanrelay_langchain"
    version = __version__

    option = "chains"
    optional_modules = (
        "langchain_core.runnables.base",
        "langchain_core.runnables.fallbacks",
        "langchain_core.runnables.branch",
        "langchain_classic.chains.base",
        "langchain_classic.agents.agent",
    )

    def patches(self, tracing: Tracing) -> tuple[Patch, ...]:
        """Both colours of asking a model, running a tool and asking a retriever; makers of agents; asking people."""
        from spanrelay_langchain import agents, completions, embeddings, models, people, retrievers, templates, tools

        return (
            *models.patches(tracing),
            *completions.patches(tracing),
            *embeddings.patches(tracing),
            *tools.patches(tracing),
            *retrievers.patches(tracing),
            *agents.patches(),
            *people.patches(),
            *templates.patches(),
        )

    def optional_patches(self, tracing: Tracing) -> tuple[Patch, ...]:
        """Each step of a chain."""
        from spanrelay_langchain import chains

        return chains.patches(tracing, steps=True)

    def plain_patches(self, tracing: Tracing) -> tuple[Patch, ...]:
        """The outermost run of a chain."""
        from spanrelay_langchain import chains

        return chains.patches(tracing, steps=False)
