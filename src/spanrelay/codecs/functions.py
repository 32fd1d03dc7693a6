"""Definitions of functions as chat APIs have them: an object named like the type, with name, description, parameters.

OpenAI's shape, which Mistral, Cohere and Ollama took over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from spanrelay.codecs.narrowing import as_mapping, as_str
from spanrelay.codecs.patching import put
from spanrelay.records import ToolDefinition


def read_function(tool: Any) -> ToolDefinition:
    """Read the definition of a tool; what has more than a record holds is kept whole."""
    if not isinstance(tool, Mapping):
        return ToolDefinition("", None, None, "unknown", tool)
    tool = cast("Mapping[str, Any]", tool)
    kind = as_str(tool.get("type")) or "function"
    function = tool.get(kind)
    if not isinstance(function, Mapping):
        return ToolDefinition(as_str(tool.get("name")) or kind, None, None, kind, tool)
    function = cast("Mapping[str, Any]", function)
    plain = kind == "function" and len(tool) <= 2 and function.keys() <= _PLAIN_TOOL_KEYS
    return ToolDefinition(
        as_str(function.get("name")) or "",
        as_str(function.get("description")),
        function.get("parameters"),
        kind,
        None if plain else tool,
    )


_PLAIN_TOOL_KEYS = frozenset({"name", "description", "parameters"})


def write_function(tool: ToolDefinition) -> list[Any]:
    """Write a definition that no wire stands behind."""
    wire = tool.raw if isinstance(tool.raw, Mapping) else {"type": tool.type}
    return patch_function(ToolDefinition("", None, None, tool.type), tool, wire)


def patch_function(old: ToolDefinition, new: ToolDefinition, wire: Any) -> list[Any]:
    """Return the definition `wire`, read as `old`, changed so that it reads as `new`."""
    if new.raw != old.raw and isinstance(new.raw, Mapping):
        wire = new.raw
    if not isinstance(wire, Mapping) or new.type != old.type:
        return [new.raw] if new.raw is not None else write_function(new)
    if new.type not in ("function", "custom"):
        return [wire]
    inner = dict(as_mapping(wire.get(new.type)))
    inner["name"] = new.name
    for key in ("description", "parameters"):
        if getattr(new, key) != getattr(old, key):
            put(inner, key, getattr(new, key))
    return [{**wire, new.type: inner}]
