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


def patches() -> tuple[Patch, ...]:
    """The maker of deep agents, by both its names."""
    return (
        Patch("deepagents.graph", "create_deep_agent", _made, required=False),
        Patch("deepagents", "create_deep_agent", _made, required=False),
    )


def _made(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    graph = wrapped(*args, **kwargs)
    with guarded("marking an agent"):
        setattr(graph, MARK, AgentInfo(kwargs.get("name") or UNNAMED))
    return graph
