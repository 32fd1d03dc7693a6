"""The Converse API of Amazon Bedrock, and the bodies of Amazon's Nova models, which are its own but for spelling.

A request is what the SDK's `converse` is given, with `model` for its `modelId`, which the wire has in the path, and
`stream` where it is given to `converse_stream`. Where the SDK takes bytes there is base64, as the wire has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from spanrelay.codecs import plain
from spanrelay.codecs.bedrock_converse.messages import (
    patch_blocks,
    patch_message,
    read_blocks,
    read_message,
    write_message,
    write_part,
)
from spanrelay.codecs.bedrock_converse.stream import ConverseAccumulator, is_whole, stream_events, stream_texts
from spanrelay.codecs.naming import models_within
from spanrelay.codecs.narrowing import as_int, as_list, as_mapping, as_str
from spanrelay.codecs.offers import GONE, Keeps, Offer, Sieve, each
from spanrelay.codecs.offers import Table as Offers
from spanrelay.codecs.openai_shapes import patch_counts
from spanrelay.codecs.parameters import Table, Writer, read_parameters, without_doubles, write_parameters
from spanrelay.codecs.patching import patch_sequence, put, same_role, same_tool
from spanrelay.conversation import Turns
from spanrelay.records import (
    JSON,
    ErrorInfo,
    Message,
    ModelRequest,
    ModelResponse,
    Part,
    PromptTemplate,
    ToolDefinition,
    Usage,
)

__all__ = [
    "accumulator",
    "decode_request",
    "decode_response",
    "encode_request",
    "encode_response",
    "fails_by_status",
    "is_whole",
    "models_beside",
    "operation",
    "required",
    "sift_tools",
    "single_parameters",
    "stream_events",
    "stream_texts",
    "turns",
]

operation = "chat"
required = (("model", "modelId"),)
"""A prompt that the provider stores brings its messages along."""
fails_by_status = False
turns = Turns("messages", read_message)

# --- reading -----------------------------------------------------------------------------------------------


def _read_choice(value: JSON) -> JSON:
    """Return how tools are chosen: the word where it is one, else the object."""
    choice = as_mapping(value)
    word = next(iter(choice), None)
    return word if len(choice) == 1 and not choice.get(word or "") else value


def _write_choice(value: JSON, _old: Any) -> JSON:
    return {"any" if value == "required" else value: {}} if isinstance(value, str) else value


def _read_format(value: JSON) -> JSON:
    return "json" if as_mapping(value).get("type") == "json_schema" else None


_MORE = "additionalModelRequestFields"
_PARAMETERS: Table = {
    "inferenceConfig.maxTokens": ("max_tokens", None),
    "inferenceConfig.max_new_tokens": ("max_tokens", None),
    "inferenceConfig.temperature": ("temperature", None),
    "inferenceConfig.topP": ("top_p", None),
    "inferenceConfig.top_p": ("top_p", None),
    "inferenceConfig.stopSequences": ("stop_sequences", None),
    "additionalModelRequestFields.top_k": ("top_k", None),
    "additionalModelRequestFields.topK": ("top_k", None),
    "inferenceConfig.topK": ("top_k", None),
    "inferenceConfig.top_k": ("top_k", None),
    # What a model's own body calls what the API has a field for, merged into that body as it stands.
    f"{_MORE}.inferenceConfig.maxTokens": ("max_tokens", None),
    f"{_MORE}.inferenceConfig.max_new_tokens": ("max_tokens", None),
    f"{_MORE}.inferenceConfig.temperature": ("temperature", None),
    f"{_MORE}.inferenceConfig.topP": ("top_p", None),
    f"{_MORE}.inferenceConfig.top_p": ("top_p", None),
    f"{_MORE}.inferenceConfig.stopSequences": ("stop_sequences", None),
    f"{_MORE}.inferenceConfig.topK": ("top_k", None),
    f"{_MORE}.inferenceConfig.top_k": ("top_k", None),
    f"{_MORE}.max_tokens": ("max_tokens", None),
    f"{_MORE}.max_completion_tokens": ("max_tokens", None),
    f"{_MORE}.max_gen_len": ("max_tokens", None),
    f"{_MORE}.temperature": ("temperature", None),
    f"{_MORE}.top_p": ("top_p", None),
    f"{_MORE}.stop_sequences": ("stop_sequences", None),
    f"{_MORE}.stop": ("stop_sequences", None),
    "outputConfig.effort": ("reasoning_effort", None),
    f"{_MORE}.output_config.effort": ("reasoning_effort", None),
    "additionalModelRequestFields.reasoning_effort": ("reasoning_effort", None),
    "additionalModelRequestFields.reasoning_config": ("reasoning_config", None),
    "additionalModelRequestFields.thinking": ("thinking", None),
    "additionalModelRequestFields.seed": ("seed", None),
    "additionalModelRequestFields.frequency_penalty": ("frequency_penalty", None),
    "additionalModelRequestFields.presence_penalty": ("presence_penalty", None),
    "toolConfig.toolChoice": ("tool_choice", _read_choice),
    "outputConfig.textFormat": ("output_type", _read_format),
    "serviceTier.type": ("service_tier", None),
    "performanceConfig.latency": ("latency", None),
}
"""By the object that holds it and its key there."""
_HOLDERS = tuple(dict.fromkeys(key.rpartition(".")[0] for key in _PARAMETERS))
_WRITERS: dict[str, Writer] = {"toolConfig.toolChoice": _write_choice}


def _held(wire: Mapping[str, Any], holder: str) -> Mapping[str, Any]:
    for key in holder.split("."):
        wire = as_mapping(wire.get(key))
    return wire


def _flat(wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the holders of parameters hold, by `_PARAMETERS`."""
    return {
        place: value
        for holder in _HOLDERS
        for key, value in _held(wire, holder).items()
        if (place := f"{holder}.{key}") in _PARAMETERS
    }


def decode_request(wire: Mapping[str, Any]) -> ModelRequest:
    """Read a request; see `Codec.decode_request`."""
    get = wire.get
    config = get("toolConfig")
    tools = _named(as_mapping(config).get("tools")) if config else []
    request = ModelRequest(
        as_str(get("model")) or as_str(get("modelId")),
        turns.messages(get("messages")),
        read_blocks(get("system")),
        [_read_tool(tool) for tool in tools],
        read_parameters(_flat(wire), _PARAMETERS),
        get("stream") is True,
    )
    variables = get("promptVariables")
    if isinstance(variables, Mapping):
        told = {name: as_mapping(value).get("text") for name, value in cast("Mapping[str, Any]", variables).items()}
        request.prompt = PromptTemplate(None, told)
    return request


def _named(tools: object) -> list[Any]:
    """Return what offers a tool: among them stand marks of what is cached."""
    return [tool for tool in as_list(tools) if not _is_mark(tool)]


def _is_mark(tool: Any) -> bool:
    return isinstance(tool, Mapping) and "cachePoint" in tool


def _read_tool(tool: Any) -> ToolDefinition:
    fields = as_mapping(tool)
    spec = fields.get("toolSpec")
    if isinstance(spec, Mapping):
        known = cast("Mapping[str, Any]", spec)
        plain = len(fields) == 1 and known.keys() <= _PLAIN_TOOL_KEYS
        schema = as_mapping(known.get("inputSchema")).get("json")
        name, told = as_str(known.get("name")) or "", as_str(known.get("description"))
        return ToolDefinition(name, told, schema, "function", None if plain else tool)
    kind = as_str(next(iter(fields), None)) or "unknown"
    return ToolDefinition(as_str(as_mapping(fields.get(kind)).get("name")) or kind, None, None, kind, tool)


_PLAIN_TOOL_KEYS = frozenset({"name", "description", "inputSchema"})


def decode_response(wire: Mapping[str, Any]) -> ModelResponse:
    """Read an answer; see `Codec.decode_response`."""
    get = wire.get
    told = as_mapping(get("output")).get("message")
    message = Message("assistant", read_blocks(as_mapping(told).get("content")))
    reason = message.finish_reason = as_str(get("stopReason"))
    return ModelResponse(
        None,
        None,
        [message] if isinstance(told, Mapping) else [],
        [reason] if reason is not None else [],
        _read_usage(get("usage")),
        _read_error(wire),
        {name: value for name, (holder, key) in _TOLD.items() if (value := _told(wire, holder, key)) is not None},
    )


_TOLD = {"service_tier": ("serviceTier", "type"), "latency": ("performanceConfig", "latency")}
"""What an answer says of how it was made, and where."""


def _told(wire: Mapping[str, Any], holder: str, key: str) -> JSON:
    return as_mapping(wire.get(holder)).get(key)


def _read_usage(wire: object) -> Usage | None:
    if not isinstance(wire, Mapping) or not wire:
        return None
    get = cast("Mapping[str, Any]", wire).get
    read, written = (
        as_int(get(f"cache{what}InputTokens", get(f"cache{what}InputTokenCount"))) for what in ("Read", "Write")
    )
    given = as_int(get("inputTokens"))
    # What is read from the cache, or written to it, is counted apart.
    whole = None if given is None else given + (read or 0) + (written or 0)
    kept = [as_mapping(each) for each in as_list(get("cacheDetails"))]
    hour = sum(as_int(each.get("inputTokens")) or 0 for each in kept if each.get("ttl") == "1h")
    made, total = as_int(get("outputTokens")), as_int(get("totalTokens"))
    return Usage(whole, made, total, read, written, cache_write_1h_tokens=hour or None)


def _read_error(wire: Mapping[str, Any]) -> ErrorInfo | None:
    kind, told = as_str(wire.get("__type")), wire.get("message")
    if kind is None and not ("output" not in wire and isinstance(told, str)):
        return None
    kind = (kind or "error").rpartition("#")[2]
    return ErrorInfo(kind, as_str(told) or "", kind if kind != "error" else None)


# --- writing requests --------------------------------------------------------------------------------------


def encode_request(request: ModelRequest, wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return `wire` changed where `request` differs; see `Codec.encode_request`.

    A message of the system's stands with the system prompts, as the API takes none among the others.

    Raises:
        CodecError: the record holds something that a request has no form for.
    """
    old = decode_request(wire)
    out = dict(wire)
    if request.model != old.model:
        put(out, "model" if "model" in out or "modelId" not in out else "modelId", request.model)
    if request.stream != old.stream:
        out["stream"] = request.stream
    if request.parameters != old.parameters:
        _patch_parameters(out, old, request)
    _patch_conversation(out, old, request)
    if request.tools != old.tools:
        _patch_tools(out, old, request)
    return out


def _patch_parameters(out: dict[str, Any], old: ModelRequest, new: ModelRequest) -> None:
    before = _flat(out)
    after = dict(before)
    write_parameters(after, old.parameters, new.parameters, _PARAMETERS, writers=_WRITERS, inner_keys={})
    _put_flat(out, before, after)


def _put_flat(out: dict[str, Any], before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Write into `out`, whose parameters are `before`, those that differ `after`."""
    for place in {**before, **after}:
        if before.get(place) is not after.get(place):
            _put_at(out, place.split("."), after.get(place))


def _put_at(out: dict[str, Any], path: list[str], value: Any) -> None:
    key, *rest = path
    if rest:
        inner = dict(as_mapping(out.get(key)))
        _put_at(inner, rest, value)
        value = inner or None
    put(out, key, value)


def single_parameters(wire: Mapping[str, Any], names: Iterable[str]) -> Mapping[str, Any]:
    """Return `wire` with each of `names` said once; see `Codec`."""
    before = _flat(wire)
    after = without_doubles(before, names, _PARAMETERS, inner_keys={})
    if after is before:
        return wire
    out = dict(wire)
    _put_flat(out, before, after)
    return out


def _patch_conversation(out: dict[str, Any], old: ModelRequest, new: ModelRequest) -> None:
    known = {id(message) for message in old.messages}
    added = [each for each in new.messages if each.role in ("system", "developer") and id(each) not in known]
    added = [each for each in added if each not in old.messages]
    system: list[Part] = [*(part for message in added for part in message.parts), *new.system]
    if system != old.system:
        put(out, "system", patch_blocks(old.system, system, out.get("system")) or None)
    messages = [message for message in new.messages if message not in added]
    if messages != old.messages:
        out["messages"] = patch_sequence(
            old.messages,
            messages,
            as_list(out.get("messages")),
            patch=patch_message,
            build=write_message,
            alike=same_role,
        )


def _patch_tools(out: dict[str, Any], old: ModelRequest, new: ModelRequest) -> None:
    config = dict(as_mapping(out.get("toolConfig")))
    given = as_list(config.get("tools"))
    tools = patch_sequence(old.tools, new.tools, _named(given), patch=_patch_tool, build=_write_tool, alike=same_tool)
    if not tools:
        out.pop("toolConfig", None)
        return
    # What is cached is all that stands before the mark.
    config["tools"] = [*tools, *filter(_is_mark, given)]
    out["toolConfig"] = config


def _write_tool(tool: ToolDefinition) -> list[Any]:
    if tool.type != "function":
        return [tool.raw if tool.raw is not None else {tool.type: {"name": tool.name}}]
    spec: dict[str, Any] = {"name": tool.name}
    put(spec, "description", tool.description)
    spec["inputSchema"] = {"json": tool.parameters if tool.parameters is not None else {"type": "object"}}
    return [{"toolSpec": spec}]


def _patch_tool(old: ToolDefinition, new: ToolDefinition, wire: Any) -> list[Any]:
    if new.raw != old.raw and new.raw is not None:
        return [new.raw]
    if new.type != "function" or not isinstance(wire, Mapping):
        return [wire]
    spec = dict(as_mapping(cast("Mapping[str, Any]", wire).get("toolSpec")))
    if new.description != old.description:
        put(spec, "description", new.description)
    if new.parameters != old.parameters:
        spec["inputSchema"] = {**as_mapping(spec.get("inputSchema")), "json": new.parameters}
    return [{**wire, "toolSpec": spec}]


# --- tools in requests -------------------------------------------------------------------------------------


def _sift_config(sieve: Sieve, value: Any, place: str) -> Any:
    if not isinstance(value, Mapping):
        return value if sieve.keeps(Offer((value,), "unknown", place)) else GONE
    out: Any = sieve.request(cast("Mapping[str, Any]", value), _CONFIG, f"{place}.")
    if out is value:
        return value
    # No model takes a choice, or a mark of what is cached, without tools.
    return out if _named(out.get("tools")) else GONE


def _sift_list(sieve: Sieve, value: Any, place: str) -> Any:
    if not isinstance(value, (list, tuple)):
        return value if sieve.keeps(Offer((value,), "unknown", place)) else GONE
    return each(value, place, lambda tool, here: _sift_tool(sieve, tool, here)) or GONE


def _sift_tool(sieve: Sieve, tool: Any, place: str) -> Any:
    if _is_mark(tool) and len(tool) == 1:
        return tool
    fields = as_mapping(tool)
    spec, system = fields.get("toolSpec"), fields.get("systemTool")
    if isinstance(spec, Mapping) and len(fields) == 1:
        offer = Offer((cast("Mapping[str, Any]", spec).get("name"),), "function", place)
    elif isinstance(system, Mapping) and len(fields) == 1:
        offer = Offer((cast("Mapping[str, Any]", system).get("name"), "systemTool"), "systemTool", place)
    else:
        offer = Offer((next(iter(fields), tool),), "unknown", place)
    return tool if sieve.keeps(offer) else GONE


def _sift_choice(sieve: Sieve, value: Any, place: str) -> Any:
    tool = as_mapping(value).get("tool")
    if tool is None:
        return value
    return value if sieve.keeps(Offer((as_mapping(tool).get("name"),), "function", place)) else GONE


_CONFIG: Offers = {"tools": _sift_list, "toolChoice": _sift_choice}
OFFERS: Offers = {"toolConfig": _sift_config, _MORE: plain.read_holder}
"""Every key of a request that names or offers a tool."""


def sift_tools(wire: Mapping[str, Any], keeps: Keeps) -> Mapping[str, Any]:
    """Return `wire` without the tools that are not kept; see `Codec.sift_tools`."""
    return Sieve(keeps).request(wire, OFFERS)


def models_beside(wire: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the models that the fields of a model's own name, as those of its tools."""
    more = as_mapping(wire.get(_MORE))
    yield from (more["model"],) if more.get("model") is not None else ()
    yield from models_within(more)


# --- writing answers ---------------------------------------------------------------------------------------


_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "tool_call": "tool_use",
    "content_filter": "content_filtered",
}
"""What other APIs say for the words of this one."""


def encode_response(response: ModelResponse, wire: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return `wire` changed where `response` differs, or a whole body; see `Codec.encode_response`.

    Raises:
        CodecError: the record holds something that an answer has no form for.
    """
    made = wire is None
    if wire is None:
        if response.error is not None and not response.messages:
            return {"__type": response.error.type, "message": response.error.message}
        wire = _blank(response)
    old = decode_response(wire)
    out = dict(wire)
    if response.messages != old.messages:
        _patch_answer(out, old, response)
    reasons = response.finish_reasons
    if reasons != old.finish_reasons and len(reasons) == 1:
        out["stopReason"] = _REASONS.get(reasons[0], reasons[0])
    if response.usage != old.usage and not (made and response.usage is None):
        put(out, "usage", _write_usage(old.usage, response.usage, out.get("usage")))
    if response.error != old.error:
        put(out, "__type", response.error and response.error.type)
        put(out, "message", response.error and response.error.message)
    for name, (holder, key) in _TOLD.items():
        if response.parameters.get(name) != old.parameters.get(name):
            inner = dict(as_mapping(out.get(holder)))
            put(inner, key, response.parameters.get(name))
            put(out, holder, inner or None)
    return out


def _blank(response: ModelResponse) -> dict[str, Any]:
    message = response.messages[0] if response.messages else Message("assistant")
    reason = message.finish_reason or ("tool_use" if message.tool_calls else "end_turn")
    return {
        "output": {"message": {"role": "assistant", "content": []}},
        "stopReason": _REASONS.get(reason, reason),
        "usage": {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0},
        "metrics": {"latencyMs": 0},
    }


def _patch_answer(out: dict[str, Any], old: ModelResponse, new: ModelResponse) -> None:
    output = dict(as_mapping(out.get("output")))
    if not new.messages:
        output.pop("message", None)
        out["output"] = output
        return
    now, was = new.messages[0], old.messages[0] if old.messages else Message("assistant")
    message = {"role": "assistant", **as_mapping(output.get("message"))}
    if now.parts != was.parts:
        message["content"] = (
            [write_part(part) for part in now.parts]
            if not was.parts
            else patch_blocks(was.parts, now.parts, message.get("content"))
        )
    output["message"] = message
    out["output"] = output
    if now.finish_reason is not None and now.finish_reason != was.finish_reason:
        out["stopReason"] = _REASONS.get(now.finish_reason, now.finish_reason)


def _write_usage(old: Usage | None, new: Usage | None, wire: object) -> dict[str, Any] | None:
    """Return the usage that reads as `new`; the wire's input leaves out what the cache has to do with."""
    if new is None:
        return None
    out = patch_counts(old, new, wire, _COUNTS) or {}
    if new.input_tokens is not None:
        out["inputTokens"] = max(0, new.input_tokens - (new.cache_read_tokens or 0) - (new.cache_write_tokens or 0))
    return out


_COUNTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "output_tokens": (("outputTokens",),),
    "total_tokens": (("totalTokens",),),
    "cache_read_tokens": (("cacheReadInputTokens",), ("cacheReadInputTokenCount",)),
    "cache_write_tokens": (("cacheWriteInputTokens",), ("cacheWriteInputTokenCount",)),
}


def accumulator() -> ConverseAccumulator:
    """Return a fresh accumulator for one stream."""
    return ConverseAccumulator()
