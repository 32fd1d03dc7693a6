"""Agents of `create_deep_agent` that nobody named, which LangGraph would call by its own name.

The mark is that of LangChain's agents; which runs are agents is for the instrumentor of LangGraph to say.
"""

from __future__ import annotations

from typing import Any

from spanrelay._guard import guarded
from spanrelay.instrumentation.patching import Patch
from spanrelay.records import AgentInfo
from spanrelay_langchain.agents import MARK

UNNAMED = "DeepAgent"

_MADE_BY = "deepagents"


def patches() -> tuple[Patch, ...]:
    """The last that the maker of deep agents does to a graph, which tells who made it, whenever it was imported."""
    return (Patch("langgraph.pregel.main", "Pregel.with_config", _configured, required=False),)


def _configured(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    graph = wrapped(*args, **kwargs)
    with guarded("marking an agent"):
        metadata = (graph.config or {}).get("metadata") or {}
        if metadata.get("ls_integration") == _MADE_BY and not metadata.get("lc_agent_name"):
            setattr(graph, MARK, AgentInfo(UNNAMED))
    return graph
