"""What the stream of a run shows where policy answers instead of the graph: one step that ends in a state.

The chunks have the shape that the application asked for, in every mode that shows states, updates or messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage

from spanrelay_langgraph import content


def chunks_of(answer: Any, graph: Any, options: Mapping[str, Any]) -> list[Any]:
    """Return the chunks of a stream whose run ends in `answer`: the state, or the text of its last message.

    Args:
        answer: The state, or a text.
        graph: Whose run it is.
        options: What `stream` was asked for by name.
    """
    state = {"messages": [AIMessage(answer)]} if isinstance(answer, str) and _holds_messages(graph) else answer
    asked = options.get("stream_mode") or graph.stream_mode
    modes: list[str] = [asked] if isinstance(asked, str) else list(asked)
    shown = {"values": state, "updates": {graph.get_name(): state}, "messages": (_message(state), {})}
    return [_chunk(mode, shown[mode], options, alone=isinstance(asked, str)) for mode in modes if mode in shown]


def _holds_messages(graph: Any) -> bool:
    return "messages" in graph.channels


def _message(state: Any) -> BaseMessage:
    said = content.gave(state)
    return said if isinstance(said, BaseMessage) else AIMessage(str(said))


def _chunk(mode: str, payload: Any, options: Mapping[str, Any], *, alone: bool) -> Any:
    if options.get("version") == "v2":
        interrupts = {"interrupts": ()} if mode == "values" else {}
        return {"type": mode, "ns": (), "data": payload, **interrupts}
    if alone:
        return ((), payload) if options.get("subgraphs") else payload
    return ((), mode, payload) if options.get("subgraphs") else (mode, payload)
