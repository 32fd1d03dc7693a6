"""Which graphs are agents: those that somebody marked, as the makers of ready agents are made to do here.

The mark is an attribute of the compiled graph, `__spanrelay_agent__`, an `AgentInfo`; any instrumentor may set it.
"""

from __future__ import annotations

from typing import Any

from spanrelay._guard import guarded
from spanrelay.instrumentation.patching import Patch
from spanrelay.records import AgentInfo

_MARK = "__spanrelay_agent__"
_UNNAMED = "LangGraph"
"""What LangGraph calls a graph that nobody named."""


def agent_of(graph: Any) -> AgentInfo | None:
    """Return what agent a graph is, if it is marked as one; without a name of its own it has the graph's."""
    info = getattr(graph, _MARK, None)
    if not isinstance(info, AgentInfo):
        return None
    return info if info.name else AgentInfo(name_of(graph), info.id, info.version, info.description)


def name_of(graph: Any) -> str:
    """Return a graph's name; a workflow of the functional API, which has none, is called as its function is."""
    name = graph.get_name()
    return next(iter(graph.nodes)) if name == _UNNAMED and len(graph.nodes) == 1 else name


def patches() -> tuple[Patch, ...]:
    """LangGraph's own maker of agents, by both its names, and the copies that a graph makes of itself."""
    name = "create_react_agent"
    return (
        Patch("langgraph.prebuilt.chat_agent_executor", name, _made, required=False),
        Patch("langgraph.prebuilt", name, _made, required=False),
        Patch("langgraph.pregel.main", "Pregel.copy", _copied, required=False),
    )


def _made(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    graph = wrapped(*args, **kwargs)
    with guarded("marking an agent"):
        setattr(graph, _MARK, AgentInfo(graph.get_name()))
    return graph


def _copied(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """`with_config` copies a graph, and the copy would know only what a graph is made of."""
    graph = wrapped(*args, **kwargs)
    with guarded("marking an agent"):
        info = getattr(instance, _MARK, None)
        if info is not None:
            setattr(graph, _MARK, info)
    return graph
