"""Where a request names or offers tools: one table for each wire API, walked in one way.

A codec lists the keys of its requests and how each is read; finding the tools and taking some away are the same
walk. What nobody can read is an offer too, of something without a name: whoever judges must not miss it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from spanrelay.codecs.narrowing import as_list, as_mapping
from spanrelay.codecs.patching import put

BY_APPLICATION = frozenset({"function", "custom", "tool"})
"""Kinds of tools that the application runs, so that each execution is a call of its own; Anthropic says `tool`."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One place of a request that names or offers a tool.

    Attributes:
        names: What the tool goes by, its own name first; a provider's tool goes by its type too. Whatever the
            request has there, which may be no text.
        kind: Its type on the wire.
        place: Where it stands, such as `tools[0]`.
        group: Whether it only holds or refers to others, which are offers of their own.
        unnamed: Whether it brings tools whose names the request does not say.
    """

    names: tuple[Any, ...]
    kind: str
    place: str
    group: bool = False
    unnamed: bool = False


Keeps: TypeAlias = Callable[[Offer], bool]
Reader: TypeAlias = Callable[["Sieve", Any, str], Any]
"""`(sieve, value, place) ->` the value that is left: itself where nothing is taken away, or `GONE`."""
Table: TypeAlias = Mapping[str, Reader]
"""Keys of a request by how each is read; a key that refers to tools stands after those that offer them."""

GONE: Any = object()
"""What is left of something that is taken away whole."""


class Sieve:
    """One walk over one request, which leaves what `keeps` says."""

    __slots__ = ("_gone", "_toolsets", "keeps")

    def __init__(self, keeps: Keeps) -> None:
        self.keeps = keeps
        self._gone: list[tuple[str, Any]] = []
        self._toolsets: list[Any] = []

    def request(self, wire: Mapping[str, Any], table: Table, within: str = "") -> Mapping[str, Any]:
        """Return `wire`, which stands at the place `within`, without what is not kept; itself where everything is."""
        out: dict[str, Any] | None = None
        for key, read in (*table.items(), *_in_other_case(wire, table)):
            value = wire.get(key)
            if value is None:
                continue
            left = read(self, value, f"{within}{key}")
            if left is not value:
                out = dict(wire) if out is None else out
                put(out, key, None if left is GONE else left)
        return wire if out is None else out

    def tools(self, value: Any, place: str, within: tuple[Any, ...] = (), *, referred: bool = False) -> Any:
        """Read a list of definitions, or of references; `within`: the names of the group around."""
        if not isinstance(value, (list, tuple)):
            return self._judged(Offer((value,), "unknown", place), value)
        if not value:
            return cast("Any", value)
        return each(value, place, lambda tool, here: self.tool(tool, here, within, referred=referred)) or GONE

    def tool(self, tool: Any, place: str, within: tuple[Any, ...] = (), *, referred: bool = False) -> Any:
        """Read the definition of one tool, or what refers to one."""
        if not isinstance(tool, Mapping):
            return self._judged(Offer((tool, *within), "unknown", place), tool)
        fields = cast("Mapping[str, Any]", tool)
        kind = _kind(fields)
        readers = {"namespace": self._namespace, "mcp": self._server, "mcp_toolset": self._toolset}
        read = {**readers, "connector": self._connector}.get(kind)
        if kind.startswith("agent_toolset_"):
            read = self._toolset
        if read is None:
            kept = [self.keeps(Offer((*names, *within), kind, place)) for names in _names(fields, kind)]
            return self._within(fields, place, referred=referred) if all(kept) else GONE
        if not referred:
            return read(fields, place)
        names = (*([fields["name"]] if kind == "mcp" and fields.get("name") else ()), *_group_names(fields, kind))
        left = self._judged(Offer(names, kind, place, group=fields.get("name") is None or kind != "mcp"), tool)
        return GONE if _identity(fields) in self._gone else left

    def choice(self, choice: Any, place: str) -> Any:
        """Read which tool the model shall use, or which ones it may use."""
        if not isinstance(choice, Mapping):
            if isinstance(choice, str) and str.__str__(choice) in _MODES:
                return choice
            return self._judged(Offer((choice,), "function", place), choice)
        fields = cast("Mapping[str, Any]", choice)
        kind = _kind(fields)
        if kind in _MODES:
            return choice
        if kind != "allowed_tools":
            return self.tool(choice, place, referred=True)
        # Chat has them in an object of that name, Responses beside the type. Of none, none may be used.
        inner = fields.get("allowed_tools")
        holder, where = (fields, place) if inner is None else (as_mapping(inner), f"{place}.allowed_tools")
        left = self.tools(holder.get("tools"), f"{where}.tools", referred=True)
        if left is GONE:
            return "none"
        if left is holder.get("tools"):
            return choice
        return {**fields, "tools": left} if inner is None else {**fields, "allowed_tools": {**holder, "tools": left}}

    def listing(self, item: Mapping[str, Any], place: str) -> Any:
        """Read what an MCP server has said that it offers."""
        listed = as_list(item.get("tools"))
        called = [as_mapping(tool).get("name") for tool in listed]
        kept = self._called(called, _group_names(item, "mcp"), f"{place}.tools")
        if all(kept):
            return item
        left = [tool for tool, keep in zip(listed, kept, strict=True) if keep]
        return {**item, "tools": left} if left else GONE

    def _judged(self, offer: Offer, value: Any) -> Any:
        return value if self.keeps(offer) else GONE

    def _called(self, names: list[Any], server: tuple[Any, ...], place: str) -> list[bool]:
        """Return which tools of an MCP server are kept, of those called by name."""
        return [self.keeps(Offer((name, *server), "mcp", f"{place}[{index}]")) for index, name in enumerate(names)]

    def _within(self, tool: Mapping[str, Any], place: str, *, referred: bool) -> Any:
        """Read the tools within one of a type that has none by its API's word, as the next version's may."""
        value = tool.get("tools")
        left = value if value is None else self.tools(value, f"{place}.tools", referred=referred)
        return tool if left is value else {**tool, "tools": [] if left is GONE else left}

    def _namespace(self, tool: Mapping[str, Any], place: str) -> Any:
        names = _group_names(tool, "namespace")
        value = tool.get("tools")
        left = GONE
        if self.keeps(Offer(names, "namespace", place, group=True)):
            left = value if value is None else self.tools(value, f"{place}.tools", names[:1])
        return self._without(tool) if left is GONE else tool if left is value else {**tool, "tools": left}

    def _server(self, tool: Mapping[str, Any], place: str) -> Any:
        """Read an MCP server, whose tools the provider runs."""
        names, allowed = _group_names(tool, "mcp"), tool.get("allowed_tools")
        filtered = isinstance(allowed, Mapping)
        listed = as_list(as_mapping(allowed).get("tool_names") if filtered else allowed)
        # An empty list may mean none or all: nobody can tell.
        if not self.keeps(Offer(names, "mcp", place, group=bool(listed), unnamed=not listed)):
            return self._without(tool)
        if not listed:
            return tool if self._approves(tool, names, place) else self._without(tool)
        kept = self._called(listed, names, f"{place}.allowed_tools" + (".tool_names" if filtered else ""))
        if all(kept):
            return tool
        left = [name for name, keep in zip(listed, kept, strict=True) if keep]
        if not left:
            return self._without(tool)
        return {**tool, "allowed_tools": {**as_mapping(allowed), "tool_names": left} if filtered else left}

    def is_gone(self, kind: str, name: Any) -> bool:
        """Whether the group of a kind and name was taken away."""
        return (kind, name) in self._gone

    def has_toolset(self, server: Any) -> bool:
        """Whether a toolset has said which tools of an MCP server are offered."""
        return server in self._toolsets

    def _toolset(self, tool: Mapping[str, Any], place: str) -> Any:
        """Read Anthropic's word on which tools of an agent's set, or of an MCP server's elsewhere, are offered."""
        kind = _kind(tool)
        names: tuple[Any, ...] = (kind,)
        if kind == "mcp_toolset":
            names = (tool.get("mcp_server_name"), "mcp")
            self._toolsets.append(names[0])
        told, configs = tool.get("tools"), _configs_of(tool.get("configs"))
        others = as_mapping(tool.get("default_config")).get("enabled") is not False
        named: list[Any] = [name for name, said in configs if as_mapping(said).get("enabled", others) is not False]
        if told is not None and others:
            off = [name for name, _ in configs if name not in named]
            named = [name for each in as_list(told) if (name := as_mapping(each).get("name")) not in off]
        unnamed = told is None and others
        if not self.keeps(Offer(names, kind, place, group=not unnamed, unnamed=unnamed)):
            return self._without(tool)
        kind = "mcp" if kind == "mcp_toolset" else kind
        kept = [self.keeps(Offer((name, *names), kind, f"{place}.configs.{name}")) for name in named]
        if all(kept):
            return tool
        if not (unnamed or any(kept)):
            return self._without(tool)
        return {**tool, "configs": _configured(tool.get("configs"), list(zip(named, kept, strict=True)))}

    def _connector(self, tool: Mapping[str, Any], place: str) -> Any:
        """Read a connector of Mistral's: a server, whose tools the provider runs, those that it includes or all."""
        names = (*([tool["connector_id"]] if tool.get("connector_id") else ()), "connector")
        told = as_mapping(tool.get("tool_configuration"))
        listed = as_list(told.get("include"))
        if not self.keeps(Offer(names, "mcp", place, group=bool(listed), unnamed=not listed)):
            return GONE
        kept = self._called(listed, names, f"{place}.tool_configuration.include")
        left = [name for name, keep in zip(listed, kept, strict=True) if keep]
        if len(left) == len(listed):
            return tool
        return {**tool, "tool_configuration": {**told, "include": left}} if left else GONE

    def _approves(self, tool: Mapping[str, Any], names: tuple[Any, ...], place: str) -> bool:
        """Whether all are kept that the approvals of a server with tools of any name call by name."""
        rules = as_mapping(tool.get("require_approval"))
        return all(
            all(self._called(as_list(as_mapping(of).get("tool_names")), names, f"{place}.require_approval.{rule}"))
            for rule, of in rules.items()
        )

    def _without(self, tool: Mapping[str, Any]) -> Any:
        self._gone.append(_identity(tool))
        return GONE


def each(items: Any, place: str, read: Callable[[Any, str], Any]) -> Any:
    """Return what `read` leaves of each of `items`; `items` itself where that is all of it."""
    left = [read(item, f"{place}[{index}]") for index, item in enumerate(items)]
    if all(now is was for now, was in zip(left, items, strict=True)):
        return items
    return [item for item in left if item is not GONE]


_MODES = frozenset({"none", "auto", "required", "any"})
"""Choices that name no tool."""


def _in_other_case(wire: Mapping[str, Any], table: Table) -> list[tuple[str, Reader]]:
    """Return the keys of a request that differ from those of `table` in case alone, which several servers read too."""
    known = {key.casefold(): read for key, read in table.items()}
    return [(key, known[key.casefold()]) for key in wire if key not in table and key.casefold() in known]


def _kind(tool: Mapping[str, Any]) -> str:
    kind = tool.get("type")
    kind = "function" if kind is None else kind
    # A subclass of text is sent as what it holds, whatever it compares equal to.
    return str.__str__(kind) if isinstance(kind, str) else repr(kind)


def _names(tool: Mapping[str, Any], kind: str) -> list[tuple[Any, ...]]:
    """Return what a definition goes by: chat has the name in an object called like the type, Responses beside it.

    Where it is there in several places, each is a name of its own: one server reads this one, the next another.
    """
    inner = [as_mapping(tool.get(key)).get("name") for key in dict.fromkeys((kind, "function", "custom"))]
    named: list[Any] = [name for name in (*inner, tool.get("name")) if name is not None]
    if kind in BY_APPLICATION:
        return [(name,) for name in named] or [(None,)]
    return [(name, kind) for name in named] or [(kind,)]


def _group_names(tool: Mapping[str, Any], kind: str) -> tuple[Any, ...]:
    """Return what a namespace or an MCP server goes by; the label of a server is the application's choice."""
    if kind == "namespace":
        return (tool.get("name"), kind)
    connector = tool.get("connector_id")
    return (tool.get("server_label", kind), *(() if connector is None else (connector,)), kind)


def _configs_of(configs: Any) -> list[tuple[Any, Any]]:
    """Return what a set says of its tools, by name: messages have an object of them, agents a list."""
    if isinstance(configs, Mapping):
        return list(cast("Mapping[Any, Any]", configs).items())
    return [(as_mapping(each).get("name"), each) for each in as_list(configs)]


def _configured(configs: Any, verdicts: list[tuple[Any, bool]]) -> Any:
    """Return what a set says of its tools with those alone enabled that are kept, of the ones judged."""
    if configs is None or isinstance(configs, Mapping):
        given = as_mapping(configs)
        return {**given, **{name: {**as_mapping(given.get(name)), "enabled": keep} for name, keep in verdicts}}
    refused = [name for name, keep in verdicts if not keep]
    return [{**as_mapping(each), "enabled": False} if name in refused else each for name, each in _configs_of(configs)]


def _identity(tool: Mapping[str, Any]) -> tuple[str, Any]:
    """Return what a reference finds a group by."""
    kind = _kind(tool)
    if kind == "mcp_toolset":
        return "mcp", tool.get("mcp_server_name")
    return kind, tool.get("server_label") if kind == "mcp" else tool.get("name")


def read_tools(sieve: Sieve, value: Any, place: str) -> Any:
    """Read a list of definitions."""
    return sieve.tools(value, place)


def read_choice(sieve: Sieve, value: Any, place: str) -> Any:
    """Read a choice."""
    return sieve.choice(value, place)


def offers_of(codec: Any, wire: Mapping[str, Any]) -> list[Offer]:
    """Return every tool that a request names or offers, in the order of the codec's table."""
    found: list[Offer] = []

    def note(offer: Offer) -> bool:
        found.append(offer)
        return True

    codec.sift_tools(wire, note)
    return found


def sift_no_tools(wire: Mapping[str, Any], _keeps: Keeps) -> Mapping[str, Any]:
    """Leave the request of an API that has no tools as it is."""
    return wire


def drop_without(out: Mapping[str, Any], before: Mapping[str, Any], offers: tuple[str, ...], *keys: str) -> Any:
    """Return `out` without `keys`, which no API takes without tools, where none of `offers` is left of `before`."""
    if out is before or any(out.get(key) for key in offers):
        return out
    return {key: value for key, value in out.items() if key not in keys}
