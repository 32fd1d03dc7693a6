"""The Messages API (`/v1/messages`) of Anthropic, and of the clouds that serve its bodies.

One wire message is one record, in order: encoding patches the wire message by message and relies on it.

What has no field of its own in a record is `Opaque`: a document that is text, a search result, an upload to a
container, a change of tools, what a server lists, a compaction, a fallback to another model. The provider's word for
why an answer ended is kept; what stands for it elsewhere (`stop`, `length`) is written as the API's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast
from uuid import uuid4

from spanrelay.codecs.anthropic_messages.messages import (
    patch_blocks,
    patch_content,
    patch_message,
    read_content,
    read_message,
    write_message,
)
from spanrelay.codecs.anthropic_messages.offers import OFFERS, without_leftovers, without_toolsets
from spanrelay.codecs.anthropic_messages.stream import MessagesAccumulator, stream_events, stream_texts
from spanrelay.codecs.bodies import patch_identity, patch_request, patch_tools
from spanrelay.codecs.narrowing import as_int, as_list, as_mapping, as_str
from spanrelay.codecs.offers import Keeps, Sieve
from spanrelay.codecs.openai_shapes import decode_error, encode_error, read_format
from spanrelay.codecs.parameters import Table, Writer, read_parameters, write_parameters
from spanrelay.codecs.patching import patch_sequence, put, same_role
from spanrelay.conversation import Turns
from spanrelay.errors import CodecError
from spanrelay.records import JSON, Message, ModelRequest, ModelResponse, Part, ToolDefinition, Usage

__all__ = [
    "OFFERS",
    "accumulator",
    "decode_request",
    "decode_response",
    "doubt_about",
    "encode_request",
    "encode_response",
    "fails_by_status",
    "is_whole",
    "operation",
    "required",
    "sift_tools",
    "stream_events",
    "stream_texts",
    "turns",
    "without_toolsets",
]

operation = "chat"
answers_with = "content"
required = (("model",), ("messages",), ("max_tokens",))
fails_by_status = False
turns = Turns("messages", read_message)

# --- reading requests and responses ------------------------------------------------------------------------


def _in_object(key: str) -> Callable[[JSON], JSON]:
    def read(value: JSON) -> JSON:
        return as_mapping(value).get(key)

    return read


_PARAMETERS: Table = {
    "max_tokens": ("max_tokens", None),
    "temperature": ("temperature", None),
    "top_p": ("top_p", None),
    "top_k": ("top_k", None),
    "stop_sequences": ("stop_sequences", None),
    "output_config": ("reasoning_effort", _in_object("effort")),
    "tool_choice": ("tool_choice", None),
    "thinking": ("thinking", None),
    "thread": ("previous_response_id", _in_object("previous_message_id")),
    "service_tier": ("service_tier", None),
    "speed": ("speed", None),
    "inference_geo": ("inference_geo", None),
    "container": ("container", None),
    "metadata": ("user", _in_object("user_id")),
}
_INNER_KEYS = {"output_config": "effort", "metadata": "user_id"}


def decode_request(wire: Mapping[str, Any]) -> ModelRequest:
    """Read the body of a Messages request; see `Codec.decode_request`."""
    get = wire.get
    tools = get("tools")
    return ModelRequest(
        as_str(get("model")),
        turns.messages(get("messages")),
        read_content(get("system")),
        [_read_tool_definition(tool) for tool in as_list(tools)] if tools else [],
        {**read_parameters(wire, _PARAMETERS), **_read_output_type(wire)},
        get("stream") is True,
    )


def _read_output_type(wire: Mapping[str, Any]) -> dict[str, JSON]:
    asked = as_mapping(wire.get("output_config")).get("format") or wire.get("output_format")
    kind = read_format(asked)
    return {"output_type": kind} if kind else {}


def _read_tool_definition(tool: Any) -> ToolDefinition:
    if not isinstance(tool, Mapping):
        return ToolDefinition("", None, None, "unknown", tool)
    wire = cast("Mapping[str, Any]", tool)
    kind = as_str(wire.get("type")) or "custom"
    own = kind == "custom"
    name = as_str(wire.get("name")) or as_str(wire.get("mcp_server_name")) or ("" if own else kind)
    return ToolDefinition(
        name,
        as_str(wire.get("description")),
        wire.get("input_schema"),
        "function" if own else kind,
        None if own and wire.keys() <= _PLAIN_TOOL_KEYS else wire,
    )


_PLAIN_TOOL_KEYS = frozenset({"type", "name", "description", "input_schema"})


def decode_response(wire: Mapping[str, Any]) -> ModelResponse:
    """Read the body of an answer; see `Codec.decode_response`."""
    get = wire.get
    reason = as_str(get("stop_reason"))
    content = get("content")
    usage = as_mapping(get("usage"))
    tier = usage.get("service_tier")
    return ModelResponse(
        as_str(get("id")),
        as_str(get("model")),
        [Message("assistant", read_content(content), None, reason)] if content or reason else [],
        [] if reason is None else [reason],
        _read_usage(usage),
        decode_error(wire),
        {**read_parameters(wire, _RESPONSE_PARAMETERS), **({"service_tier": tier} if tier is not None else {})},
    )


_RESPONSE_PARAMETERS: Table = {
    "stop_sequence": ("stop_sequence", None),
    "stop_details": ("stop_details", None),
    "container": ("container", _in_object("id")),
}


def is_whole(wire: Mapping[str, Any]) -> bool:
    """Whether an answer has come to its end; see `Codec.is_whole`."""
    return isinstance(wire.get("stop_reason"), str) and not wire.get("error")


def _read_usage(usage: Mapping[str, Any]) -> Usage | None:
    """Read counts, of which the API's input leaves out what was read from a cache or written to one."""
    if not usage:
        return None
    fresh, made, read, written = (as_int(usage.get(key)) for key in _COUNTS)
    thought = as_int(as_mapping(usage.get("output_tokens_details")).get("thinking_tokens"))
    given = None if fresh is None else fresh + (read or 0) + (written or 0)
    hour = as_int(as_mapping(usage.get("cache_creation")).get("ephemeral_1h_input_tokens")) or None
    return Usage(given, made, None, read, written, thought, cache_write_1h_tokens=hour)


_COUNTS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")

# --- writing requests --------------------------------------------------------------------------------------

_WRITERS: dict[str, Writer] = {
    "thread": lambda value, _old: {"type": "continue", "previous_message_id": value},
}


def encode_request(request: ModelRequest, wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return `wire` changed where `request` differs; see `Codec.encode_request`.

    Raises:
        CodecError: the record holds something that a Messages request has no form for.
    """
    old = decode_request(wire)
    parameters = _with_output_type(old, request)
    out = patch_request(old, parameters, wire, _PARAMETERS, writers=_WRITERS, inner_keys=_INNER_KEYS)
    if "output_type" in old.parameters and "output_type" not in request.parameters:
        _drop_output_type(out)
    if request.messages != old.messages:
        known = as_list(wire.get("messages"))
        out["messages"] = patch_sequence(
            old.messages, request.messages, known, patch=patch_message, build=write_message, alike=same_role
        )
    if request.system != old.system:
        put(out, "system", patch_content(old.system, request.system, wire.get("system")) or None)
    patch_tools(out, old, request, patch=_patch_tool_definition, build=_write_tool_definition)
    return out


def _with_output_type(old: ModelRequest, new: ModelRequest) -> ModelRequest:
    """Return `new` with the type of answer of `old`, which stands in no place of its own.

    Raises:
        CodecError: it is another one, for which a request needs a schema.
    """
    asked, kind = new.parameters.get("output_type"), old.parameters.get("output_type")
    if asked == kind:
        return new
    if asked is not None:
        raise CodecError(f"an answer of type {asked!r} needs a schema; write `call.wire['output_config']` instead")
    return ModelRequest(new.model, [], [], [], {**new.parameters, "output_type": kind}, new.stream)


def _drop_output_type(out: dict[str, Any]) -> None:
    out.pop("output_format", None)
    config = {key: value for key, value in as_mapping(out.get("output_config")).items() if key != "format"}
    if "output_config" in out:
        put(out, "output_config", config or None)


def _write_tool_definition(tool: ToolDefinition) -> list[Any]:
    if isinstance(tool.raw, Mapping):
        return _patch_tool_definition(_read_tool_definition(tool.raw), tool, tool.raw)
    if tool.type != "function":
        return [{"type": tool.type, "name": tool.name}]
    wire: dict[str, Any] = {"name": tool.name}
    put(wire, "description", tool.description)
    wire["input_schema"] = tool.parameters if tool.parameters is not None else {"type": "object"}
    return [wire]


def _patch_tool_definition(old: ToolDefinition, new: ToolDefinition, wire: Any) -> list[Any]:
    if new.raw != old.raw and isinstance(new.raw, Mapping):
        wire, old = new.raw, _read_tool_definition(new.raw)
    if not isinstance(wire, Mapping):
        return [new.raw]
    out = dict(cast("Mapping[str, Any]", wire))
    for key, name in (("name", "name"), ("description", "description"), ("input_schema", "parameters")):
        if getattr(new, name) != getattr(old, name):
            put(out, key, getattr(new, name))
    return [out]


# --- tools in requests -------------------------------------------------------------------------------------


def sift_tools(wire: Mapping[str, Any], keeps: Keeps) -> Mapping[str, Any]:
    """Return `wire` without the tools that are not kept; see `Codec.sift_tools`."""
    return without_leftovers(Sieve(keeps).request(wire, OFFERS), wire)


# --- what an answer lacks -----------------------------------------------------------------------------------


def doubt_about(block: Mapping[str, Any]) -> str | None:
    """Return what a block of an answer lacks, or None."""
    kind = block.get("type")
    if not isinstance(kind, str):
        return "has no string as 'type'"
    if kind == "text" and not isinstance(block.get("text"), str):
        return "has no string as 'text'"
    if kind == "tool_use" and not (isinstance(block.get("name"), str) and isinstance(block.get("input"), Mapping)):
        return "has no string as 'name', or no object as 'input'"
    return None


# --- writing responses -------------------------------------------------------------------------------------

_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "tool_call": "tool_use",
    "content_filter": "refusal",
}
"""What other APIs say for the words of this one."""


def encode_response(response: ModelResponse, wire: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return `wire` changed where `response` differs, or a whole body; see `Codec.encode_response`.

    Raises:
        CodecError: the record holds something that an answer has no form for.
    """
    if wire is None:
        if response.error is not None and not response.messages:
            return {"type": "error", "error": encode_error(response.error, {})}
        wire = _blank(response)
    old = decode_response(wire)
    out = patch_identity(wire, old, response)
    was, now = (_parts_of(each) for each in (old, response))
    if was != now:
        out["content"] = patch_blocks(was, now, as_list(wire.get("content")))
    said = [message.finish_reason for message in response.messages] + response.finish_reasons
    reason = next((each for each in said if each is not None and each not in old.finish_reasons), None)
    if reason is not None:
        out["stop_reason"] = _REASONS.get(reason, reason)
    if response.usage != old.usage:
        put(out, "usage", _patch_usage(old.usage, response.usage, wire.get("usage")))
    if response.error != old.error:
        put(out, "error", response.error and encode_error(response.error, wire.get("error")))
    _patch_parameters(out, old.parameters, response.parameters)
    return out


def _blank(response: ModelResponse) -> dict[str, Any]:
    calls = any(message.tool_calls for message in response.messages)
    return {
        "id": f"msg_{uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": "",
        "content": [],
        "stop_reason": "tool_use" if calls else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }


def _parts_of(response: ModelResponse) -> list[Part]:
    """Return what an answer says, of which the API has one."""
    return [part for message in response.messages for part in message.parts]


def _patch_usage(old: Usage | None, new: Usage | None, wire: Any) -> dict[str, Any] | None:
    if new is None:
        return {"input_tokens": 0, "output_tokens": 0}
    before, out = old or Usage(), dict(as_mapping(wire))
    cached = (new.cache_read_tokens or 0) + (new.cache_write_tokens or 0)
    counts = (
        ("input_tokens", before.input_tokens, new.input_tokens),
        ("output_tokens", before.output_tokens, new.output_tokens),
        ("cache_read_input_tokens", before.cache_read_tokens, new.cache_read_tokens),
        ("cache_creation_input_tokens", before.cache_write_tokens, new.cache_write_tokens),
    )
    for key, was, now in counts:
        if was != now:
            put(out, key, now)
    if new.input_tokens is not None:
        out["input_tokens"] = max(new.input_tokens - cached, 0)
    inner = (
        ("output_tokens_details", "thinking_tokens", before.reasoning_tokens, new.reasoning_tokens),
        ("cache_creation", "ephemeral_1h_input_tokens", before.cache_write_1h_tokens, new.cache_write_1h_tokens),
    )
    for key, name, was, now in inner:
        if was != now:
            details = dict(as_mapping(out.get(key)))
            put(details, name, now)
            put(out, key, details or None)
    return out


def _patch_parameters(out: dict[str, Any], old: Mapping[str, JSON], new: Mapping[str, JSON]) -> None:
    tier = new.get("service_tier")
    if tier != old.get("service_tier"):
        usage = dict(as_mapping(out.get("usage")))
        put(usage, "service_tier", tier)
        out["usage"] = usage
    rest, was = ({key: value for key, value in each.items() if key != "service_tier"} for each in (new, old))
    if rest != was:
        write_parameters(out, was, rest, _RESPONSE_PARAMETERS, writers={}, inner_keys={"container": "id"})


def accumulator() -> MessagesAccumulator:
    """Return a fresh accumulator for one stream."""
    return MessagesAccumulator()
