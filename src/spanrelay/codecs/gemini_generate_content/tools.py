"""The tools of Gemini's requests: read into definitions, written from them, and every place that names one.

One wire tool holds many functions, and each of its other keys is a tool of the provider's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

from spanrelay.codecs.gemini_shapes import both, field, put_field, snake, spelled, spellings
from spanrelay.codecs.narrowing import as_list, as_mapping, as_str
from spanrelay.codecs.offers import GONE, Keeps, Offer, Sieve, Table, each
from spanrelay.codecs.patching import patch_sequence, put, same_tool
from spanrelay.records import ToolDefinition

_FUNCTIONS = "functionDeclarations"
_SCHEMAS = ("parameters", "parametersJsonSchema")
_PLAIN = frozenset({"name", "description", *both(dict.fromkeys(_SCHEMAS))})

# --- definitions -------------------------------------------------------------------------------------------


class _Slot(NamedTuple):
    """One definition on the wire: in which of the request's tools, under which key, and what it is."""

    holder: int | None
    key: str
    value: Any


def _slots(tools: Any) -> list[_Slot]:
    found: list[_Slot] = []
    for number, tool in enumerate(as_list(tools)):
        if not isinstance(tool, Mapping):
            found.append(_Slot(number, "", tool))
            continue
        for key, value in cast("Mapping[str, Any]", tool).items():
            if snake(key) == snake(_FUNCTIONS) and isinstance(value, list):
                found += [_Slot(number, key, declared) for declared in cast("list[Any]", value)]
            elif value is not None:
                found.append(_Slot(number, key, value))
    return found


def _is_function(slot: _Slot) -> bool:
    return snake(slot.key) == snake(_FUNCTIONS)


def _read(slot: _Slot) -> ToolDefinition:
    if not _is_function(slot):
        kind = snake(slot.key) or "unknown"
        return ToolDefinition(kind, None, None, kind, {slot.key: slot.value} if slot.key else slot.value)
    declared = as_mapping(slot.value)
    schema = next((found for name in _SCHEMAS if (found := field(declared, name)) is not None), None)
    raw = None if declared.keys() <= _PLAIN and isinstance(slot.value, Mapping) else slot.value
    return ToolDefinition(
        as_str(declared.get("name")) or "", as_str(declared.get("description")), schema, "function", raw
    )


def read_definitions(tools: Any) -> list[ToolDefinition]:
    """Return a definition for each function, and for each tool of the provider's."""
    return [_read(slot) for slot in _slots(tools)] if tools else []


def _write(tool: ToolDefinition) -> list[_Slot]:
    if tool.type == "function":
        declared = dict(as_mapping(tool.raw))
        return _patch(ToolDefinition("", None, None), tool, _Slot(None, _FUNCTIONS, declared))
    raw = as_mapping(tool.raw)
    key = next(iter(raw), tool.type)
    return [_Slot(None, key, raw.get(key, {}))]


def _patch(old: ToolDefinition, new: ToolDefinition, slot: _Slot) -> list[_Slot]:
    raw = new.raw if new.raw != old.raw and isinstance(new.raw, Mapping) else None
    if not _is_function(slot):
        return [slot] if raw is None else [slot._replace(key=key, value=value) for key, value in raw.items()]
    declared = dict(as_mapping(slot.value) if raw is None else raw)
    declared["name"] = new.name
    if new.description != old.description:
        put(declared, "description", new.description)
    if new.parameters != old.parameters:
        used = next((name for name in _SCHEMAS if field(declared, name) is not None), "parametersJsonSchema")
        put_field(declared, used, new.parameters)
    return [slot._replace(value=declared)]


def patch_definitions(old: list[ToolDefinition], new: list[ToolDefinition], wire: Any) -> list[Any] | None:
    """Return the tools `wire`, read as `old`, changed so that they read as `new`; None where there are none."""
    known = cast("list[Any]", _slots(wire))
    slots: list[_Slot] = patch_sequence(old, new, known, patch=_patch, build=cast("Any", _write), alike=same_tool)
    tools: dict[int | None, Any] = {}
    functions = next((slot.holder for slot in reversed(slots) if _is_function(slot) and slot.holder is not None), None)
    for slot in slots:
        holder = slot.holder if slot.holder is not None else functions if _is_function(slot) else -1 - len(tools)
        if not slot.key:
            tools[holder] = slot.value
            continue
        tool = tools.setdefault(holder, {})
        if _is_function(slot):
            tool.setdefault(slot.key if slot.holder is not None else spelled(tool, _FUNCTIONS), []).append(slot.value)
        else:
            tool[slot.key] = slot.value
    return list(tools.values()) or None


# --- offers ------------------------------------------------------------------------------------------------


def _sift_tools(sieve: Sieve, tools: Any, place: str) -> Any:
    if not isinstance(tools, (list, tuple)):
        return tools if sieve.keeps(Offer((tools,), "unknown", place)) else GONE
    if not tools:
        return cast("Any", tools)
    return each(tools, place, lambda tool, here: _sift_tool(sieve, tool, here)) or GONE


def _sift_tool(sieve: Sieve, tool: Any, place: str) -> Any:
    """Read one wire tool, which holds several; one of which nothing is left is none."""
    if not isinstance(tool, Mapping):
        return tool if sieve.keeps(Offer((tool,), "unknown", place)) else GONE
    out: dict[str, Any] = {}
    for key, value in cast("Mapping[str, Any]", tool).items():
        left = value if value is None else _sift_key(sieve, key, value, f"{place}.{key}")
        if left is not GONE:
            out[key] = left
    if all(out.get(key, GONE) is value for key, value in tool.items()):
        return cast("Any", tool)
    return out if any(value is not None for value in out.values()) else GONE


def _sift_key(sieve: Sieve, key: Any, value: Any, place: str) -> Any:
    kind = snake(key) if isinstance(key, str) else repr(key)
    if kind == snake(_FUNCTIONS):
        return _sift_list(value, place, lambda name, here: Offer((name,), "function", here), sieve)
    if kind == "mcp_servers":
        return _sift_list(value, place, lambda name, here: Offer((name, "mcp"), "mcp", here, unnamed=True), sieve)
    return value if sieve.keeps(Offer(tuple(dict.fromkeys((kind, key))), kind, place)) else GONE


def _sift_list(value: Any, place: str, offer: Callable[[Any, str], Offer], sieve: Sieve) -> Any:
    """Read a list of objects that have a name; an object alone is judged too, whoever would read it."""

    def left(one: Any, here: str) -> Any:
        return one if sieve.keeps(offer(as_mapping(one).get("name"), here)) else GONE

    if not isinstance(value, (list, tuple)):
        return left(value, place)
    return (each(value, place, left) or GONE) if value else cast("Any", value)


def _sift_config(sieve: Sieve, config: Any, place: str) -> Any:
    """Read which functions the model may call; of those none of which is left it may call none."""
    return _sift_spelled(sieve, config, place, "functionCallingConfig", _sift_calling)


def _sift_calling(sieve: Sieve, calling: Any, place: str) -> Any:
    out = _sift_spelled(sieve, calling, place, "allowedFunctionNames", _sift_names)
    if out is calling or spellings(out, "allowedFunctionNames"):
        return out
    return {**out, "mode": "NONE"}


def _sift_names(sieve: Sieve, names: Any, place: str) -> Any:
    if not isinstance(names, (list, tuple)) or not names:
        return names
    return each(names, place, lambda name, here: name if sieve.keeps(Offer((name,), "function", here)) else GONE)


def _sift_spelled(sieve: Sieve, value: Any, place: str, name: str, sift: Callable[[Sieve, Any, str], Any]) -> Any:
    """Read the field `name` of an object, in both spellings; an empty list that is left of one is none."""
    out = value
    for key in spellings(as_mapping(value), name):
        left = sift(sieve, value[key], f"{place}.{key}")
        if left is not value[key]:
            out = dict(out)
            put(out, key, left or None)
    return out


def _sift_cache(sieve: Sieve, name: Any, place: str) -> Any:
    """Read a reference to a cache, in which tools may be that nobody sees here."""
    return name if sieve.keeps(Offer((), "cached_content", place, unnamed=True)) else GONE


def _sift_holder(sieve: Sieve, value: Any, place: str) -> Any:
    """Read what holds requests: a batch, or what tokens are to be counted of."""
    if isinstance(value, (list, tuple)):
        return each(value, place, lambda one, here: _sift_holder(sieve, one, here))
    return _sifted(sieve, cast("Mapping[str, Any]", value), f"{place}.") if isinstance(value, Mapping) else value


OFFERS: Table = both(
    {
        "tools": _sift_tools,
        "toolConfig": _sift_config,
        "cachedContent": _sift_cache,
        "generateContentRequest": _sift_holder,
        "batch": _sift_holder,
        "inputConfig": _sift_holder,
        "requests": _sift_holder,
        "request": _sift_holder,
        "bidiGenerateContentSetup": _sift_holder,
        "setup": _sift_holder,
    }
)
"""Every key of a request that names or offers a tool, or holds requests that do."""


def _sifted(sieve: Sieve, wire: Mapping[str, Any], within: str = "") -> Mapping[str, Any]:
    out = sieve.request(wire, OFFERS, within)
    if out is wire or any(_is_function(slot) for slot in _slots(out.get("tools"))):
        return out
    # Of functions that are not there nothing may be said.
    left = dict(out)
    for key in both({"toolConfig": None}):
        config = as_mapping(left.get(key))
        if spellings(config, "functionCallingConfig"):
            rest = {name: value for name, value in config.items() if snake(name) != "function_calling_config"}
            put(left, key, rest or None)
    return left


def sift_tools(wire: Mapping[str, Any], keeps: Keeps) -> Mapping[str, Any]:
    """Return `wire` without the tools that are not kept; see `Codec.sift_tools`."""
    return _sifted(Sieve(keeps), wire)
