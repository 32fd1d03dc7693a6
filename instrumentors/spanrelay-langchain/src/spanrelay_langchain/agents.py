"""Agents of `create_agent`: the graph says that it is one and what it is told; LangGraph's instrumentor reads it.

Nothing is read of prompts and tools here: most programs make agents that they never run.
"""

from __future__ import annotations

from typing import Any

from spanrelay._guard import guarded
from spanrelay.instrumentation.patching import Patch
from spanrelay.records import AgentInfo

MARK = "__spanrelay_agent__"
"""The attribute of a compiled graph that says which agent it is."""
BRIEF = "__spanrelay_brief__"
"""The attribute that says what its maker was given: a dict of the `system` prompt and the `tools`."""

_MADE_BY = "langchain_create_agent"


def patches() -> tuple[Patch, ...]:
    """The maker of agents, by both its names, and the last that it does to a graph.

    Whoever imported the maker before it was patched holds it as it was; the graph still tells who made it.
    """
    return (
        Patch("langchain.agents.factory", "create_agent", _made, required=False),
        Patch("langchain.agents", "create_agent", _made, required=False),
        Patch("langgraph.pregel.main", "Pregel.with_config", _configured, required=False),
    )


def _made(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    graph = wrapped(*args, **kwargs)
    with guarded("marking an agent"):
        setattr(graph, MARK, AgentInfo(kwargs.get("name")))
        tools = args[1] if len(args) > 1 else kwargs.get("tools")
        setattr(graph, BRIEF, {"system": kwargs.get("system_prompt"), "tools": tools})
    return graph


def _configured(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    graph = wrapped(*args, **kwargs)
    with guarded("marking an agent"):
        metadata = (graph.config or {}).get("metadata") or {}
        if metadata.get("ls_integration") == _MADE_BY and not hasattr(graph, MARK):
            setattr(graph, MARK, AgentInfo(metadata.get("lc_agent_name")))
            held = _held_by(graph.nodes["model"].bound.func)
            setattr(graph, BRIEF, {"system": held.get("system_message"), "tools": held.get("default_tools")})
    return graph


def _held_by(function: Any) -> dict[str, Any]:
    """Return what a function holds of the one that made it."""
    cells = function.__closure__ or ()
    return {name: cell.cell_contents for name, cell in zip(function.__code__.co_freevars, cells, strict=True)}
