"""Where a Messages request names or offers a tool: in `tools`, with its MCP servers, and in the messages themselves.

A tool that is taken away takes with it what refers to it: the API refuses a reference to what is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from spanrelay.codecs.narrowing import as_list, as_mapping, as_str, as_written
from spanrelay.codecs.offers import GONE, Offer, Sieve, Table, drop_without, each, read_choice, read_tools

# --- MCP servers -------------------------------------------------------------------------------------------


def read_servers(sieve: Sieve, value: Any, place: str) -> Any:
    """Read MCP servers, whose tools the provider runs; those of toolsets among `tools`, which are read before."""
    if not isinstance(value, (list, tuple)):
        return value if sieve.keeps(Offer((value,), "mcp", place)) else GONE
    if not value:
        return cast("Any", value)
    return each(value, place, lambda server, here: _read_server(sieve, server, here)) or GONE


def _read_server(sieve: Sieve, server: Any, place: str) -> Any:
    """Read a server whose tools the provider runs; which of them, a toolset among `tools` says, or it itself."""
    if not isinstance(server, Mapping):
        return server if sieve.keeps(Offer((server,), "mcp", place)) else GONE
    fields = cast("Mapping[str, Any]", server)
    name = fields.get("name")
    said = as_mapping(fields.get("tool_configuration"))
    listed = as_list(said.get("allowed_tools"))
    closed = said.get("enabled") is False or sieve.has_toolset(name)
    group = closed or bool(listed)
    if sieve.is_gone("mcp", name) or not sieve.keeps(
        Offer((name, "mcp"), "mcp", place, group=group, unnamed=not group)
    ):
        return GONE
    kept = [
        sieve.keeps(Offer((tool, name, "mcp"), "mcp", f"{place}.tool_configuration.allowed_tools[{index}]"))
        for index, tool in enumerate(listed)
    ]
    if all(kept):
        return server
    left = [tool for tool, keep in zip(listed, kept, strict=True) if keep]
    return {**fields, "tool_configuration": {**said, "allowed_tools": left}} if left else GONE


# --- tools in messages -------------------------------------------------------------------------------------


def _read_messages(sieve: Sieve, value: Any, place: str) -> Any:
    if not isinstance(value, (list, tuple)):
        return value
    return each(value, place, lambda item, here: _read_message(sieve, item, here))


def _read_message(sieve: Sieve, item: Any, place: str) -> Any:
    """Read the blocks of one message; one without any left is no message."""
    written = as_written(item)
    content = as_mapping(written).get("content")
    if not isinstance(content, (list, tuple)):
        return item
    left = each(content, f"{place}.content", lambda block, here: _read_block(sieve, block, here))
    if left is content:
        return item
    return {**written, "content": left} if left else GONE


def _read_block(sieve: Sieve, block: Any, place: str) -> Any:
    written = as_written(block)
    kind = as_str(as_mapping(written).get("type"))
    read = None if kind is None else _BLOCKS.get(str.__str__(kind))
    if read is None:
        return block
    left = read(sieve, written, place)
    return block if left is written else left


def _read_addition(sieve: Sieve, block: Mapping[str, Any], place: str) -> Any:
    """Read what makes a tool available from there on: its definition, or a reference to one."""
    tool = as_mapping(as_written(block.get("tool")))
    if tool.get("type") == "tool_definition":
        given = as_written(tool.get("definition"))
        left = sieve.tool(given, f"{place}.tool.definition")
        if left is given:
            return block
        return GONE if left is GONE else {**block, "tool": {**tool, "definition": left}}
    return block if _is_kept(sieve, tool, f"{place}.tool") else GONE


def _is_kept(sieve: Sieve, tool: Mapping[str, Any], place: str) -> bool:
    """Whether what a reference names is kept: a tool, one of an MCP server, or all of that."""
    server, name = tool.get("server_name"), tool.get("name", tool.get("tool_name"))
    if server is None:
        return sieve.keeps(Offer((name,), "tool", place))
    if sieve.is_gone("mcp", server):
        return False
    if tool.get("type") == "mcp_toolset_reference":
        return sieve.keeps(Offer((server, "mcp"), "mcp", place, group=True))
    return sieve.keeps(Offer((name, server, "mcp"), "mcp", place))


def _read_changes(sieve: Sieve, block: Mapping[str, Any], place: str) -> Any:
    """Read a compaction, which repeats what was changed before it."""
    changes = block.get("tool_changes")
    if not isinstance(changes, (list, tuple)):
        return block
    left = each(changes, f"{place}.tool_changes", lambda change, here: _read_block(sieve, change, here))
    return block if left is changes else {**block, "tool_changes": left}


def _read_listing(sieve: Sieve, block: Mapping[str, Any], place: str) -> Any:
    """Read what an MCP server has said that it offers."""
    server, listed = block.get("mcp_server_name"), block.get("tools")
    if not isinstance(listed, (list, tuple)):
        return block

    def read(tool: Any, here: str) -> Any:
        name = as_mapping(as_written(tool)).get("name")
        return tool if sieve.keeps(Offer((name, server, "mcp"), "mcp", here)) else GONE

    left = each(listed, f"{place}.tools", read)
    return block if left is listed else {**block, "tools": left} if left else GONE


def _read_result(sieve: Sieve, block: Mapping[str, Any], place: str) -> Any:
    """Read what a tool gave, which may refer to tools that it has found."""
    content, key = block.get("content"), "content"
    if isinstance(content, Mapping):
        found = _read_found(sieve, cast("Mapping[str, Any]", content), f"{place}.content")
        return block if found is content else {**block, key: found}
    if not isinstance(content, (list, tuple)):
        return block
    left = each(content, f"{place}.{key}", lambda part, here: _read_block(sieve, part, here))
    return block if left is content else {**block, key: left}


def _read_found(sieve: Sieve, found: Mapping[str, Any], place: str) -> Mapping[str, Any]:
    references = found.get("tool_references")
    if not isinstance(references, (list, tuple)):
        return found
    left = each(references, f"{place}.tool_references", lambda part, here: _read_block(sieve, part, here))
    return found if left is references else {**found, "tool_references": left}


def _read_reference(sieve: Sieve, block: Mapping[str, Any], place: str) -> Any:
    return block if _is_kept(sieve, block, place) else GONE


_BLOCKS: dict[str, Callable[[Sieve, Mapping[str, Any], str], Any]] = {
    "tool_addition": _read_addition,
    "compaction": _read_changes,
    "mcp_tool_listing": _read_listing,
    "tool_result": _read_result,
    "tool_search_tool_result": _read_result,
    "tool_reference": _read_reference,
}
"""Blocks of messages that name or offer tools, by type."""

# --- the request -------------------------------------------------------------------------------------------

OFFERS: Table = {
    "tools": read_tools,
    "mcp_servers": read_servers,
    "messages": _read_messages,
    "tool_choice": read_choice,
}
"""Every key of a request that names or offers a tool."""


def without_leftovers(out: Mapping[str, Any], before: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `out`, from which tools were taken, without what the API does not take without any."""
    out = without_toolsets(out, before)
    return drop_without(out, before, ("tools", "mcp_servers"), "tool_choice")


def without_toolsets(out: Mapping[str, Any], before: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `out` without the toolsets of servers that were taken away."""
    had, has = (
        {str(as_mapping(server).get("name")) for server in as_list(each.get("mcp_servers"))} for each in (before, out)
    )
    gone = had - has
    if not gone:
        return out
    left = [tool for tool in as_list(out.get("tools")) if str(as_mapping(tool).get("mcp_server_name")) not in gone]
    return {**{key: value for key, value in out.items() if key != "tools"}, **({"tools": left} if left else {})}
