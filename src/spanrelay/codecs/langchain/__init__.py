"""LangChain's messages and generations as JSON: what a chat model is asked and says, whoever the provider is.

A request is `{"model", "messages", "tools", "stop", …}` with the keyword arguments of the call, an answer is
`{"generations": [{"message", "generation_info"}], "llm_output"}`, a stream's event is a message chunk or one of
the protocol's events. One wire message is one record, in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, cast
from uuid import uuid4

from spanrelay.codecs import openai_chat
from spanrelay.codecs.bodies import patch_messages, patch_request, patch_tools
from spanrelay.codecs.langchain.messages import patch_message, read_answer, read_message, write_message
from spanrelay.codecs.langchain.stream import ChunkAccumulator, stream_events, stream_texts
from spanrelay.codecs.narrowing import as_int, as_list, as_mapping, as_str
from spanrelay.codecs.offers import GONE, Keeps, Offer, Reader, Sieve, each
from spanrelay.codecs.offers import Table as Offers
from spanrelay.codecs.openai_shapes import (
    FORMAT_WRITERS,
    SAMPLING,
    decode_usage,
    patch_counts,
    read_format,
    with_reasoning,
)
from spanrelay.codecs.parameters import Table, read_parameters, without_doubles
from spanrelay.codecs.patching import patch_sequence, put, same_role
from spanrelay.codecs.tokens import read_tokens
from spanrelay.conversation import Turns
from spanrelay.errors import CodecError
from spanrelay.records import (
    Message,
    ModelRequest,
    ModelResponse,
    ToolCallResponse,
    ToolDefinition,
    Usage,
)

__all__ = [
    "accumulator",
    "decode_request",
    "decode_response",
    "encode_request",
    "encode_response",
    "operation",
    "required",
    "sift_tools",
    "single_parameters",
    "stream_events",
    "stream_texts",
    "turns",
]

operation = "chat"
required = (("messages",),)
turns = Turns("messages", read_message)

# --- reading requests --------------------------------------------------------------------------------------


_PARAMETERS: Table = {
    **SAMPLING,
    "max_tokens": ("max_tokens", None),
    "max_completion_tokens": ("max_tokens", None),
    "reasoning_effort": ("reasoning_effort", None),
    "response_format": ("output_type", read_format),
    "tool_choice": ("tool_choice", None),
    "service_tier": ("service_tier", None),
    "parallel_tool_calls": ("parallel_tool_calls", None),
}


def decode_request(wire: Mapping[str, Any]) -> ModelRequest:
    """Read what a chat model is asked; see `Codec.decode_request`."""
    return ModelRequest(
        as_str(wire.get("model")),
        turns.messages(wire.get("messages")),
        [],
        [_read_tool(tool) for tool in as_list(wire.get("tools"))],
        read_parameters(wire, _PARAMETERS),
        wire.get("stream") is True,
    )


def _read_tool(tool: Any) -> ToolDefinition:
    fields = as_mapping(tool)
    if "input_schema" in fields and isinstance(fields.get("name"), str):
        return ToolDefinition(
            fields["name"], as_str(fields.get("description")), fields["input_schema"], "function", tool
        )
    return openai_chat.decode_request({"tools": [tool]}).tools[0]


# --- tools in requests -------------------------------------------------------------------------------------


def _read_tools(sieve: Sieve, value: Any, place: str) -> Any:
    """Read what a model was bound to, in the form of whichever provider it is of."""
    return _read_list(sieve, value, place, _read_bound)


def _read_list(sieve: Sieve, value: Any, place: str, read: Reader) -> Any:
    if not isinstance(value, (list, tuple)) or not value:
        return sieve.tools(value, place)
    return each(value, place, lambda item, here: read(sieve, item, here)) or GONE


def _read_bound(sieve: Sieve, tool: Any, place: str) -> Any:
    fields = as_mapping(tool)
    if not fields or not fields.keys().isdisjoint(("type", "name", "function")):
        return sieve.tool(tool, place)
    # Google's tools and Amazon's: an object for each kind, without a type.
    left = {key: now for key, value in fields.items() if (now := _read_keyed(sieve, key, value, place)) is not GONE}
    return tool if all(left.get(key, GONE) is value for key, value in fields.items()) else left or GONE


def _read_keyed(sieve: Sieve, key: str, value: Any, place: str) -> Any:
    if key in ("function_declarations", "functionDeclarations"):
        return sieve.tools(value, f"{place}.{key}")
    if key == "toolSpec":
        return sieve.tool(value, f"{place}.{key}")
    return value if sieve.keeps(Offer((key,), key, place)) else GONE


_OTHER_OFFERS = {key: read for key, read in openai_chat.OFFERS.items() if key != "tools"}
OFFERS: Offers = {"tools": _read_tools, **_OTHER_OFFERS}
"""Every keyword argument that names or offers a tool."""


def sift_tools(wire: Mapping[str, Any], keeps: Keeps) -> Mapping[str, Any]:
    """Return `wire` without the tools that are not kept; see `Codec.sift_tools`."""
    return openai_chat.without_leftovers(Sieve(keeps).request(wire, OFFERS), wire)


# --- reading responses -------------------------------------------------------------------------------------

_COUNTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "input_tokens": (("input_tokens",),),
    "output_tokens": (("output_tokens",),),
    "total_tokens": (("total_tokens",),),
    "cache_read_tokens": (("input_token_details", "cache_read"),),
    "cache_write_tokens": (("input_token_details", "cache_creation"),),
    "reasoning_tokens": (("output_token_details", "reasoning"),),
    "input_audio_tokens": (("input_token_details", "audio"),),
    "output_audio_tokens": (("output_token_details", "audio"),),
}


def decode_response(wire: Mapping[str, Any]) -> ModelResponse:
    """Read what a chat model says; see `Codec.decode_response`."""
    generations = [as_mapping(item) for item in as_list(wire.get("generations"))]
    messages = [_read_generation(generation) for generation in generations]
    first = as_mapping(generations[0].get("message")) if generations else {}
    said = as_mapping(first.get("response_metadata"))
    output = as_mapping(wire.get("llm_output"))
    return ModelResponse(
        as_str(said.get("id")) or as_str(output.get("id")) or _given_id(first),
        next((name for name in map(_model_of, (said, output)) if name), None),
        messages,
        [message.finish_reason for message in messages if message.finish_reason is not None],
        _read_usage(first) or decode_usage(said.get("token_usage")) or decode_usage(output.get("token_usage")),
        None,
        {key: said[key] for key in ("service_tier", "system_fingerprint") if said.get(key) is not None},
        read_tokens({}, said),
    )


def _given_id(message: Mapping[str, Any]) -> str | None:
    """Return the message's id where the provider gave it, and not LangChain."""
    message_id = as_str(message.get("id"))
    return None if message_id is None or message_id.startswith(("lc_", "run-")) else message_id


def _model_of(said: Mapping[str, Any]) -> str | None:
    return as_str(said.get("model_name")) or as_str(said.get("model"))


def _read_generation(generation: Mapping[str, Any]) -> Message:
    wire = as_mapping(generation.get("message"))
    message = Message("assistant", read_answer(wire), as_str(wire.get("name")))
    for said in (as_mapping(wire.get("response_metadata")), as_mapping(generation.get("generation_info"))):
        reason = as_str(said.get("finish_reason")) or as_str(said.get("stop_reason"))
        message.finish_reason = message.finish_reason or reason
    return message


def _read_usage(message: Mapping[str, Any]) -> Usage | None:
    wire = as_mapping(message.get("usage_metadata"))
    # A cached answer says only that it cost nothing.
    if not any(place[0][0] in wire for place in _COUNTS.values()):
        return None
    counts: dict[str, Any] = {}
    for name, (place, *_) in _COUNTS.items():
        value: Any = wire.get(place[0]) if len(place) == 1 else as_mapping(wire.get(place[0])).get(place[1])
        counts[name] = value if isinstance(value, int) and not isinstance(value, bool) else None
    details = as_mapping(wire.get("input_token_details"))
    minutes, hour = (as_int(details.get(f"ephemeral_{time}_input_tokens")) or 0 for time in ("5m", "1h"))
    # Where they are told apart, LangChain's models of Anthropic say that their sum is zero.
    counts["cache_write_tokens"] = counts["cache_write_tokens"] or (minutes + hour) or counts["cache_write_tokens"]
    return with_reasoning(Usage(**counts, cache_write_1h_tokens=hour or None))


# --- writing requests and responses ------------------------------------------------------------------------


def _write_tool(tool: ToolDefinition) -> list[Any]:
    if isinstance(tool.raw, Mapping) and "input_schema" in tool.raw:
        return _patch_tool(tool, tool, cast("Mapping[str, Any]", tool.raw))
    return openai_chat.encode_request(ModelRequest(tools=[tool]), {})["tools"]


def _patch_tool(old: ToolDefinition, new: ToolDefinition, wire: Any) -> list[Any]:
    if "input_schema" not in as_mapping(wire):
        return openai_chat.encode_request(ModelRequest(tools=[new]), {"tools": [wire]})["tools"]
    out = {**wire, "name": new.name, "input_schema": new.parameters}
    put(out, "description", new.description)
    return [out]


def single_parameters(wire: Mapping[str, Any], names: Iterable[str]) -> Mapping[str, Any]:
    """Return `wire` with each of `names` said once; see `Codec`."""
    return without_doubles(wire, names, _PARAMETERS, inner_keys={})


def encode_request(request: ModelRequest, wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return `wire` changed where `request` differs; see `Codec.encode_request`.

    `system` becomes a system message at the start.

    Raises:
        CodecError: the record holds something that LangChain's messages have no form for.
    """
    old = decode_request(wire)
    out = patch_request(replace(old, stream=request.stream), request, wire, _PARAMETERS, writers=FORMAT_WRITERS)
    patch_messages(out, old, request, patch=patch_message, build=write_message)
    patch_tools(out, old, request, patch=_patch_tool, build=_write_tool)
    if request.stream != old.stream:
        put(out, "stream", request.stream or None)
    return out


def encode_response(response: ModelResponse, wire: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return `wire` changed where `response` differs; without `wire`, a whole answer that says it.

    Raises:
        CodecError: the record holds something that LangChain's messages have no form for.
    """
    out: dict[str, Any] = dict(wire) if wire is not None else {"generations": []}
    old = decode_response(out)
    if response.messages != old.messages:
        out["generations"] = patch_sequence(
            old.messages,
            response.messages,
            as_list(out.get("generations")),
            patch=_patch_generation,
            build=_write_generation,
            alike=same_role,
        )
    changed = replace(response, messages=[], finish_reasons=[]) != replace(old, messages=[], finish_reasons=[])
    if changed and out.get("generations"):
        first, *rest = as_list(out["generations"])
        out["generations"] = [_with_facts(as_mapping(first), old, response), *rest]
    return out


def _patch_generation(old: Message, new: Message, wire: Any) -> list[Any]:
    generation = dict(as_mapping(wire))
    if any(isinstance(part, ToolCallResponse) for part in new.parts):
        raise CodecError("a model's answer has no form for a 'ToolCallResponse' part; leave it out")
    message = dict(patch_message(old, new, as_mapping(generation.get("message")))[0])
    if new.finish_reason != old.finish_reason:
        said = dict(as_mapping(message.get("response_metadata")))
        put(said, "stop_reason" if "stop_reason" in said else "finish_reason", new.finish_reason)
        message["response_metadata"] = said
    generation["message"] = message
    return [generation]


def _write_generation(message: Message) -> list[Any]:
    wire = {"message": {"type": "ai", "content": "", "id": f"lc_run--{uuid4()}"}, "generation_info": None}
    return _patch_generation(Message("assistant"), message, wire)


def _with_facts(generation: Mapping[str, Any], old: ModelResponse, new: ModelResponse) -> dict[str, Any]:
    """Return the generation with the id, the model and the usage that differ."""
    message = dict(as_mapping(generation.get("message")))
    said = dict(as_mapping(message.get("response_metadata")))
    if new.id != old.id:
        put(said, "id", new.id)
    if new.model != old.model:
        put(said, "model_name", new.model)
    for key in {*old.parameters, *new.parameters}:
        put(said, key, new.parameters.get(key))
    message["response_metadata"] = said
    if new.usage != old.usage:
        message["usage_metadata"] = _whole(patch_counts(old.usage, new.usage, message.get("usage_metadata"), _COUNTS))
    return {**generation, "message": message}


def _whole(usage: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the counts with those that LangChain requires."""
    if usage is None:
        return None
    counts: dict[str, Any] = {"input_tokens": 0, "output_tokens": 0, **usage}
    return {**counts, "total_tokens": counts.get("total_tokens") or counts["input_tokens"] + counts["output_tokens"]}


def accumulator() -> ChunkAccumulator:
    """Return a fresh accumulator; see `Codec.accumulator`."""
    return ChunkAccumulator()
