"""Gemini's Interactions API (`/interactions`).

Neighbouring steps of the model (thoughts, output, calls) are one message, in a request as in an answer. The wire has no
finish reason; it is derived: `completed` is `tool_calls` where the client has a function to run and else `stop`, and an
interaction that `requires_action` is `tool_calls`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, cast

from spanrelay.codecs.bodies import patch_identity, patch_request, patch_tools
from spanrelay.codecs.gemini_interactions.steps import read_parts, read_step, write_parts, write_steps
from spanrelay.codecs.gemini_interactions.stream import InteractionAccumulator, stream_events, stream_texts
from spanrelay.codecs.narrowing import as_int, as_list, as_mapping, as_str
from spanrelay.codecs.offers import GONE, Keeps, Offer, Sieve, Table, drop_without, each
from spanrelay.codecs.openai_shapes import decode_error, encode_error, patch_counts
from spanrelay.codecs.parameters import Table as Parameters
from spanrelay.codecs.parameters import read_parameters, write_parameters
from spanrelay.codecs.patching import patch_sequence, put, same_role
from spanrelay.conversation import Turns
from spanrelay.errors import CodecError
from spanrelay.records import (
    JSON,
    ErrorInfo,
    Message,
    ModelRequest,
    ModelResponse,
    Part,
    Text,
    ToolCall,
    ToolDefinition,
    Usage,
)

__all__ = [
    "accumulator",
    "decode_request",
    "decode_response",
    "doubt_about",
    "encode_request",
    "encode_response",
    "is_whole",
    "operation",
    "required",
    "sift_tools",
    "stream_events",
    "stream_texts",
    "turns",
]

operation = "chat"
answers_with = "steps"
turns = Turns("input", read_step, runs=True)
required = (("model", "agent"), ("input", "previous_interaction_id"))
accumulator = InteractionAccumulator

# --- requests ----------------------------------------------------------------------------------------------

_GENERATION: Parameters = {
    "temperature": ("temperature", None),
    "top_p": ("top_p", None),
    "max_output_tokens": ("max_tokens", None),
    "seed": ("seed", None),
    "stop_sequences": ("stop_sequences", None),
    "thinking_level": ("reasoning_effort", None),
    "tool_choice": ("tool_choice", None),
}
_BESIDE: Parameters = {
    "previous_interaction_id": ("previous_response_id", None),
    "service_tier": ("service_tier", None),
    "background": ("background", None),
    "store": ("store", None),
}


def decode_request(wire: Mapping[str, Any]) -> ModelRequest:
    """Read a request for an interaction; see `Codec.decode_request`."""
    get = wire.get
    system = get("system_instruction")
    return ModelRequest(
        as_str(get("model")),
        _read_input(get("input")),
        [Text(system)] if isinstance(system, str) and system else [],
        [_read_tool(tool) for tool in as_list(get("tools"))],
        {**read_parameters(as_mapping(get("generation_config")), _GENERATION), **read_parameters(wire, _BESIDE)},
        get("stream") is True,
    )


def _read_input(value: Any) -> list[Message]:
    if isinstance(value, str):
        return [Message("user", [Text(value)])]
    if isinstance(value, Mapping):
        return [Message("user", read_parts([value]))]
    if _is_content(value):
        return [Message("user", read_parts(value))]
    return turns.messages(value)


_CONTENTS = frozenset({"text", "image", "audio", "video", "document"})


def _is_content(value: Any) -> bool:
    """Whether an input is the parts of one message, and no steps."""
    items = as_list(value)
    return bool(items) and all(as_mapping(item).get("type") in _CONTENTS for item in items)


def _read_tool(tool: Any) -> ToolDefinition:
    fields = as_mapping(tool)
    kind = as_str(fields.get("type")) or "unknown"
    plain = fields.keys() <= {"type", "name", "description", "parameters"} and kind == "function"
    raw = None if plain else {key: value for key, value in fields.items() if key != "headers"} if fields else tool
    return ToolDefinition(
        as_str(fields.get("name")) or kind, as_str(fields.get("description")), fields.get("parameters"), kind, raw
    )


def encode_request(request: ModelRequest, wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return `wire` changed where `request` differs; see `Codec.encode_request`.

    Raises:
        CodecError: the record holds something that a request for an interaction has no form for.
    """
    old = decode_request(wire)
    out = patch_request(old, ModelRequest(request.model, parameters=old.parameters, stream=request.stream), wire, {})
    if request.parameters != old.parameters:
        _patch_parameters(out, old.parameters, request.parameters)
    if request.messages != old.messages:
        out["input"] = _patch_input(old.messages, request.messages, wire.get("input"))
    if request.system != old.system:
        put(out, "system_instruction", _text_of(request.system) or None)
    patch_tools(out, old, request, patch=_patch_tool, build=_write_tool)
    return out


def _patch_parameters(out: dict[str, Any], old: Mapping[str, JSON], new: Mapping[str, JSON]) -> None:
    beside = {row[0] for row in _BESIDE.values()}
    generation = dict(as_mapping(out.get("generation_config")))
    for holder, table, mine in ((out, _BESIDE, True), (generation, _GENERATION, False)):
        was, now = ({name: value for name, value in all_.items() if (name in beside) is mine} for all_ in (old, new))
        write_parameters(holder, was, now, table, writers={}, inner_keys={})
    put(out, "generation_config", generation or None)


def _text_of(parts: list[Part]) -> str:
    if not all(isinstance(part, Text) for part in parts):
        raise CodecError("the system instruction of an interaction is text alone; put other parts into a message")
    return "\n\n".join(part.text for part in parts if isinstance(part, Text))


def _patch_input(old: list[Message], new: list[Message], wire: Any) -> Any:
    if len(new) == 1 and new[0].role == "user" and (isinstance(wire, str) or _is_content(wire)):
        return new[0].text if isinstance(wire, str) and _is_text(new[0]) else write_parts(new[0].parts)
    groups = turns.groups(as_list(wire)) if not isinstance(wire, str) and not _is_content(wire) else []
    found = patch_sequence(
        old,
        new,
        cast("list[Any]", groups),
        patch=lambda _old, message, _wire: [write_steps(message)],
        build=lambda message: [write_steps(message)],
        alike=same_role,
    )
    return list(chain.from_iterable(found))


def _is_text(message: Message) -> bool:
    return [type(part) for part in message.parts] == [Text]


def _write_tool(tool: ToolDefinition) -> list[Any]:
    wire: dict[str, Any] = dict(as_mapping(tool.raw)) or {"type": tool.type}
    return _patch_tool(ToolDefinition("", None, None, tool.type), tool, wire)


def _patch_tool(old: ToolDefinition, new: ToolDefinition, wire: Any) -> list[Any]:
    if not isinstance(wire, Mapping):
        return [new.raw]
    out = dict(cast("Mapping[str, Any]", wire))
    if new.raw != old.raw and isinstance(new.raw, Mapping):
        out.update(cast("Mapping[str, Any]", new.raw))
    for key in ("name", "description", "parameters"):
        if new.type == "function" and getattr(new, key) != getattr(old, key):
            put(out, key, getattr(new, key))
    return [out]


# --- tools in requests -------------------------------------------------------------------------------------


def _sift_tools(sieve: Sieve, tools: Any, place: str) -> Any:
    if not isinstance(tools, (list, tuple)):
        return tools if sieve.keeps(Offer((tools,), "unknown", place)) else GONE
    return (each(tools, place, lambda tool, here: _sift_tool(sieve, tool, here)) or GONE) if tools else tools


def _sift_tool(sieve: Sieve, tool: Any, place: str) -> Any:
    if not isinstance(tool, Mapping) or cast("Mapping[str, Any]", tool).get("type") != "mcp_server":
        return sieve.tool(tool, place)
    server = (cast("Mapping[str, Any]", tool).get("name"), "mcp_server", "mcp")
    return cast("Any", tool) if sieve.keeps(Offer(server, "mcp", place, unnamed=True)) else GONE


def _sift_config(sieve: Sieve, config: Any, place: str) -> Any:
    choice = as_mapping(as_mapping(config).get("tool_choice"))
    allowed = as_mapping(choice.get("allowed_tools"))
    names = allowed.get("tools")
    if not isinstance(names, (list, tuple)) or not names:
        return config
    where = f"{place}.tool_choice.allowed_tools.tools"
    left = each(names, where, lambda name, here: name if sieve.keeps(Offer((name,), "function", here)) else GONE)
    if left is names:
        return config
    return {**config, "tool_choice": {**choice, "allowed_tools": {**allowed, "tools": left}} if left else "none"}


def _sift_cache(sieve: Sieve, name: Any, place: str) -> Any:
    return name if sieve.keeps(Offer((), "cached_content", place, unnamed=True)) else GONE


def _sift_agent(sieve: Sieve, config: Any, place: str) -> Any:
    """Read what an agent is told, which may bring a tool that is none of `tools`."""
    key = "enable_bigquery_tool"
    if not as_mapping(config).get(key) or sieve.keeps(Offer(("bigquery", key), "bigquery", f"{place}.{key}")):
        return config
    return {**config, key: False}


OFFERS: Table = {
    "tools": _sift_tools,
    "generation_config": _sift_config,
    "cached_content": _sift_cache,
    "agent_config": _sift_agent,
}
"""Every key of a request that names or offers a tool."""


def sift_tools(wire: Mapping[str, Any], keeps: Keeps) -> Mapping[str, Any]:
    """Return `wire` without the tools that are not kept; see `Codec.sift_tools`."""
    out = Sieve(keeps).request(wire, OFFERS)
    config = as_mapping(out.get("generation_config"))
    if out is wire or out.get("tools") or "tool_choice" not in config:
        return out
    return {**out, "generation_config": drop_without(config, {}, (), "tool_choice")}


# --- answers -----------------------------------------------------------------------------------------------

_USAGE_PLACES: dict[str, tuple[tuple[str, ...], ...]] = {
    "total_tokens": (("total_tokens",),),
    "cache_read_tokens": (("total_cached_tokens",),),
    "reasoning_tokens": (("total_thought_tokens",),),
}


def _sum(*counts: int | None) -> int | None:
    told = [count for count in counts if count is not None]
    return sum(told) if told else None


def _read_usage(wire: Any) -> Usage | None:
    if not isinstance(wire, Mapping) or not wire:
        return None
    get = cast("Mapping[str, Any]", wire).get
    thoughts = as_int(get("total_thought_tokens"))
    return Usage(
        _sum(as_int(get("total_input_tokens")), as_int(get("total_tool_use_tokens"))),
        _sum(as_int(get("total_output_tokens")), thoughts),
        as_int(get("total_tokens")),
        as_int(get("total_cached_tokens")),
        None,
        thoughts,
        _of_audio(get("input_tokens_by_modality")),
        _of_audio(get("output_tokens_by_modality")),
    )


def _of_audio(listed: Any) -> int | None:
    counts = (as_mapping(each) for each in as_list(listed))
    return _sum(*(as_int(count.get("tokens")) for count in counts if count.get("modality") == "audio"))


def decode_response(wire: Mapping[str, Any]) -> ModelResponse:
    """Read an interaction; see `Codec.decode_response`. What was asked is among its steps where that was asked for."""
    parts = [part for step in as_list(wire.get("steps")) for part in _said(read_step(step))]
    status = as_str(wire.get("status"))
    waiting = any(isinstance(part, ToolCall) and not part.server for part in parts)
    reason = {"completed": "tool_calls" if waiting else "stop", "requires_action": "tool_calls"}.get(status or "")
    error = decode_error(wire) or (ErrorInfo("failed", "the interaction failed") if status == "failed" else None)
    return ModelResponse(
        as_str(wire.get("id")),
        as_str(wire.get("model")),
        [Message("assistant", parts, None, reason)] if parts else [],
        [] if reason is None else [reason],
        _read_usage(wire.get("usage")),
        error,
        {key: wire[key] for key in ("status", "service_tier") if wire.get(key) is not None},
    )


def _said(message: Message) -> list[Part]:
    return message.parts if message.role == "assistant" else []


def is_whole(wire: Mapping[str, Any]) -> bool:
    """Whether an interaction has come to its end; see `Codec.is_whole`."""
    return wire.get("status") not in (None, "in_progress", "queued")


def doubt_about(step: Mapping[str, Any]) -> str | None:
    """Return what a step lacks, or None."""
    return None if isinstance(step.get("type"), str) else "has no string as 'type'"


def encode_response(response: ModelResponse, wire: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return `wire` changed where `response` differs, or a whole body; see `Codec.encode_response`.

    Raises:
        CodecError: the record holds something that an interaction has no form for.
    """
    if wire is None:
        if response.error is not None and not response.messages:
            return {"error": encode_error(response.error, {})}
        wire = {"id": "interaction", "object": "interaction", "status": "completed", "steps": []}
    old = decode_response(wire)
    out = patch_identity(wire, old, response)
    if [message.parts for message in response.messages] != [message.parts for message in old.messages]:
        asked = [step for step in as_list(wire.get("steps")) if not _said(read_step(step))]
        out["steps"] = [*asked, *(step for message in response.messages for step in write_steps(message))]
    if response.usage != old.usage:
        put(out, "usage", _write_usage(old.usage or Usage(), response.usage, wire.get("usage")))
    if response.error != old.error:
        put(out, "error", response.error and encode_error(response.error, wire.get("error")))
    return out


def _write_usage(old: Usage, new: Usage | None, wire: Any) -> dict[str, Any] | None:
    out = patch_counts(old, new, wire, _USAGE_PLACES)
    if out is None or new is None:
        return None
    if new.input_tokens != old.input_tokens:
        put(out, "total_input_tokens", _less(new.input_tokens, as_int(out.get("total_tool_use_tokens"))))
    if (new.output_tokens, new.reasoning_tokens) != (old.output_tokens, old.reasoning_tokens):
        put(out, "total_output_tokens", _less(new.output_tokens, new.reasoning_tokens))
    return out


def _less(total: int | None, part: int | None) -> int | None:
    return None if total is None else max(total - (part or 0), 0)


def models_beside(wire: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the agent that a request names in the place of a model."""
    if wire.get("agent") is not None:
        yield wire["agent"]
