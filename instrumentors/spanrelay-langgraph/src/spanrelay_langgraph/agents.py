"""Which graphs are agents, and what those are told: as the makers of ready agents are made to say here.

Both are attributes of the compiled graph, which any instrumentor may set: `__spanrelay_agent__` is an `AgentInfo`, and
`__spanrelay_brief__` a dict of the `system` prompt and the `tools` that the maker was given.
"""

from __future__ import annotations

from typing import Any, cast

from langchain_core.messages import SystemMessage

from spanrelay._guard import guarded
from spanrelay.codecs import langchain
from spanrelay.instrumentation.patching import Patch
from spanrelay.records import AgentInfo, ModelRequest

_MARK = "__spanrelay_agent__"
_BRIEF = "__spanrelay_brief__"
_READ = "request"
"""Under which the brief keeps what was read of it: once, for the graph and all its copies."""
_TOOLS = "tools"
"""What both makers call the node that runs tools."""
_UNNAMED = "LangGraph"
"""What LangGraph calls a graph that nobody named."""


def agent_of(graph: Any) -> AgentInfo | None:
    """Return what agent a graph is, if it is marked as one; without a name of its own it has the graph's."""
    info = getattr(graph, _MARK, None)
    if not isinstance(info, AgentInfo):
        return None
    return info if info.name else AgentInfo(name_of(graph), info.id, info.version, info.description)


def brief_of(graph: Any) -> ModelRequest | None:
    """Return what an agent is told in every run: its instructions and the tools that it has."""
    brief: dict[str, Any] | None = getattr(graph, _BRIEF, None)
    if brief is None:
        return None
    if _READ not in brief:
        read = None
        try:
            read = _read(graph, brief)
        finally:
            brief[_READ] = read  # what cannot be read is not tried again for each run
    return brief[_READ]


def _read(graph: Any, brief: dict[str, Any]) -> ModelRequest | None:
    from langchain_core.utils.function_calling import convert_to_openai_tool  # slow to import, and for agents only

    prompt = brief.get("system")
    system = prompt.content if isinstance(prompt, SystemMessage) else prompt
    tools: list[Any] = [*_tools_in(graph), *_only_described(brief.get(_TOOLS))]
    told = langchain.decode_request(
        {
            "messages": [{"type": "system", "content": system}] if isinstance(system, (str, list)) else [],
            "tools": [tool if isinstance(tool, dict) else convert_to_openai_tool(tool) for tool in tools],
        }
    )
    parts = [part for message in told.messages for part in message.parts]
    return ModelRequest(system=parts, tools=told.tools) if parts or told.tools else None


def _tools_in(graph: Any) -> list[Any]:
    """Return the tools that the graph itself runs, those of middleware included."""
    node = graph.nodes.get(_TOOLS)
    return list(node.bound.tools_by_name.values()) if hasattr(node and node.bound, "tools_by_name") else []


def _only_described(tools: Any) -> list[Any]:
    """Return the tools that somebody else runs: all that there is of them is their description."""
    return [tool for tool in cast("list[Any]", tools) if isinstance(tool, dict)] if isinstance(tools, list) else []


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
        tools = args[1] if len(args) > 1 else kwargs.get("tools")
        setattr(graph, _BRIEF, {"system": kwargs.get("prompt"), "tools": tools})
    return graph


def _copied(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """`with_config` copies a graph, and the copy would know only what a graph is made of."""
    graph = wrapped(*args, **kwargs)
    with guarded("marking an agent"):
        for name in (_MARK, _BRIEF):
            known = getattr(instance, name, None)
            if known is not None:
                setattr(graph, name, known)
    return graph
