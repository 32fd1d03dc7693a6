"""Agents of `create_agent`: the graph says that it is one, and the instrumentor of LangGraph makes its runs so."""

from __future__ import annotations

from typing import Any

from spanrelay._guard import guarded
from spanrelay.instrumentation.patching import Patch
from spanrelay.records import AgentInfo

MARK = "__spanrelay_agent__"
"""The attribute of a compiled graph that says which agent it is."""


def patches() -> tuple[Patch, ...]:
    """The maker of agents, by both its names."""
    return (
        Patch("langchain.agents.factory", "create_agent", _made, required=False),
        Patch("langchain.agents", "create_agent", _made, required=False),
    )


def _made(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    graph = wrapped(*args, **kwargs)
    with guarded("marking an agent"):
        setattr(graph, MARK, AgentInfo(kwargs.get("name")))
    return graph
