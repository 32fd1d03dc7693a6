"""LangChain's messages and generations as JSON: what a chat model is asked and says, whoever the provider is.

A request is `{"model", "messages", "tools", "stop", …}` with the keyword arguments of the call, an answer is
`{"generations": [{"message", "generation_info"}], "llm_output"}`, a stream's event is a message chunk or one of
the protocol's events. One wire message is one record, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast
from uuid import uuid4

from spanrelay._json import dumps_text
from spanrelay.codecs import openai_chat
from spanrelay.codecs.langchain_stream import ChunkAccumulator, stream_events, stream_texts
from spanrelay.codecs.narrowing import as_list, as_mapping, as_str
from spanrelay.codecs.offers import GONE, Keeps, Offer, Reader, Sieve, each
from spanrelay.codecs.offers import Table as Offers
from spanrelay.codecs.openai_shapes import decode_usage, patch_counts, with_reasoning
from spanrelay.codecs.parameters import Table, Writer, read_parameters, write_parameters
from spanrelay.codecs.patching import overlay, patch_sequence, put, same_role, same_tool
from spanrelay.codecs.tokens import read_tokens
from spanrelay.errors import CodecError
from spanrelay.records import (
    JSON,
    Media,
    Message,
    ModelRequest,
    ModelResponse,
    Opaque,
    Part,
    Reasoning,
    Role,
    Text,
    ToolCall,
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
    "stream_events",
    "stream_texts",
]

operation = "chat"
required = (("messages",),)

# --- reading content ---------------------------------------------------------------------------------------

_REPEATED = frozenset({"tool_use", "tool_call", "tool_call_chunk", "function_call", "input_json_delta"})
"""Blocks that say again what stands in `tool_calls`."""


def _blocks(wire: Mapping[str, Any]) -> list[Any]:
    """Return the blocks of a message that its parts stand for."""
    blocks = as_list(wire.get("content"))
    if not (wire.get("tool_calls") or wire.get("invalid_tool_calls")):
        return blocks
    return [block for block in blocks if not _is_repeated(block)]


def _is_repeated(block: Any) -> bool:
    return as_str(as_mapping(block).get("type")) in _REPEATED


def _read_content(wire: Mapping[str, Any]) -> list[Part]:
    content = wire.get("content")
    if isinstance(content, str):
        return [Text(content)] if content else []
    if content and not isinstance(content, list):
        return [Opaque("content", content)]
    return [_read_block(block) for block in _blocks(wire)]


def _read_block(block: Any) -> Part:
    kind = as_str(as_mapping(block).get("type"))
    read = _BLOCK_READERS.get(kind) if kind is not None else None
    part = read(as_mapping(block)) if read is not None else None
    if part is not None:
        return part
    # The blocks of OpenAI's API, which LangChain passes as they are.
    parts = openai_chat.decode_request({"messages": [{"role": "user", "content": [block]}]}).messages[0].parts
    return parts[0] if parts else Opaque("unknown", block)


def _read_reasoning(block: Mapping[str, Any]) -> Part:
    text = as_str(block.get("reasoning")) or as_str(block.get("thinking"))
    if text is None:
        text = "".join(as_str(as_mapping(item).get("text")) or "" for item in as_list(block.get("summary")))
    extras = as_mapping(block.get("extras"))
    signature = as_str(block.get("signature")) or as_str(extras.get("signature"))
    return Reasoning(text, as_str(block.get("id")), signature, as_str(block.get("encrypted_content")))


def _read_thinking(block: Mapping[str, Any]) -> Part | None:
    return _read_reasoning(block) if isinstance(block.get("thinking"), str) else None


def _read_redacted(block: Mapping[str, Any]) -> Part:
    return Reasoning("", encrypted=as_str(block.get("data")), redacted=True)


def _read_media(block: Mapping[str, Any]) -> Part | None:
    """Read a medium in LangChain's forms, old and new, or in Anthropic's; None where it is neither."""
    source = as_mapping(block.get("source")) or block
    file_id = as_str(source.get("file_id")) or (as_str(source.get("id")) if "source_type" in source else None)
    data = as_str(source.get("base64")) or as_str(source.get("data"))
    url = as_str(source.get("url"))
    if file_id is None and data is None and url is None:
        return None
    mime_type = as_str(source.get("mime_type")) or as_str(source.get("media_type"))
    modality: Any = {"file": "document"}.get(block["type"], block["type"])
    return Media(modality, mime_type, url, data, file_id, as_str(source.get("filename")))


_BLOCK_READERS: dict[str, Callable[[Mapping[str, Any]], Part | None]] = {
    "reasoning": _read_reasoning,
    "thinking": _read_thinking,
    "redacted_thinking": _read_redacted,
    "image": _read_media,
    "audio": _read_media,
    "video": _read_media,
    "file": _read_media,
    "document": _read_media,
}

# --- reading messages --------------------------------------------------------------------------------------

_ROLES: dict[str, Role] = {
    "human": "user",
    "HumanMessageChunk": "user",
    "ai": "assistant",
    "AIMessageChunk": "assistant",
    "system": "system",
    "SystemMessageChunk": "system",
    "tool": "tool",
    "ToolMessageChunk": "tool",
    "function": "tool",
    "FunctionMessageChunk": "tool",
}
_KNOWN_ROLES: dict[str, Role] = {
    **_ROLES,
    "user": "user",
    "assistant": "assistant",
    "developer": "developer",
}


def _role_of(wire: Mapping[str, Any]) -> Role:
    kind = as_str(wire.get("type")) or ""
    if kind in ("chat", "ChatMessageChunk"):
        return _KNOWN_ROLES.get(as_str(wire.get("role")) or "", "user")
    if kind == "system" and as_mapping(wire.get("additional_kwargs")).get("__openai_role__") == "developer":
        return "developer"
    return _ROLES.get(kind, "user")


def _read_message(item: Any) -> Message:
    if not isinstance(item, Mapping):
        return Message("user", [Opaque("message", item)])
    wire = cast("Mapping[str, Any]", item)
    role = _role_of(wire)
    if role == "tool":
        return Message("tool", [_read_result(wire)])
    name = as_str(wire.get("name"))
    if role != "assistant":
        return Message(role, _read_content(wire), name)
    return Message(role, _read_answer(wire), name)


def _read_result(wire: Mapping[str, Any]) -> ToolCallResponse:
    content = wire.get("content")
    if isinstance(content, list):
        content = [_read_block(block) for block in cast("list[Any]", content)]
    call_id, name = as_str(wire.get("tool_call_id")), as_str(wire.get("name"))
    return ToolCallResponse(call_id, content, name, wire.get("status") == "error")


def _read_answer(wire: Mapping[str, Any]) -> list[Part]:
    extra = as_mapping(wire.get("additional_kwargs"))
    parts: list[Part] = []
    reasoning = extra.get("reasoning_content")
    if isinstance(reasoning, str) and reasoning:
        parts.append(Reasoning(reasoning))
    parts += _read_content(wire)
    if isinstance(extra.get("refusal"), str):
        parts.append(Opaque("refusal", {"type": "refusal", "refusal": extra["refusal"]}))
    for key in ("tool_calls", "invalid_tool_calls"):
        parts += [_read_call(as_mapping(call)) for call in as_list(wire.get(key))]
    return parts


def _read_call(call: Mapping[str, Any]) -> ToolCall:
    return ToolCall(as_str(call.get("id")), as_str(call.get("name")) or "", call.get("args"))


# --- reading requests --------------------------------------------------------------------------------------


def _read_stop(stop: JSON) -> JSON:
    return stop if isinstance(stop, list) else [stop]


def _read_response_format(value: JSON) -> JSON:
    kind = as_mapping(value).get("type")
    return {"json_object": "json", "json_schema": "json"}.get(kind, kind) if isinstance(kind, str) else None


_PARAMETERS: Table = {
    "temperature": ("temperature", None),
    "top_p": ("top_p", None),
    "top_k": ("top_k", None),
    "max_tokens": ("max_tokens", None),
    "max_completion_tokens": ("max_tokens", None),
    "frequency_penalty": ("frequency_penalty", None),
    "presence_penalty": ("presence_penalty", None),
    "seed": ("seed", None),
    "stop": ("stop_sequences", _read_stop),
    "n": ("choice_count", None),
    "reasoning_effort": ("reasoning_effort", None),
    "response_format": ("output_type", _read_response_format),
    "tool_choice": ("tool_choice", None),
    "service_tier": ("service_tier", None),
    "parallel_tool_calls": ("parallel_tool_calls", None),
}


def decode_request(wire: Mapping[str, Any]) -> ModelRequest:
    """Read what a chat model is asked; see `Codec.decode_request`."""
    return ModelRequest(
        as_str(wire.get("model")),
        [_read_message(item) for item in as_list(wire.get("messages"))],
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
    return tool if all(left.get(key) is value for key, value in fields.items()) else left or GONE


def _read_keyed(sieve: Sieve, key: str, value: Any, place: str) -> Any:
    if key in ("function_declarations", "functionDeclarations"):
        return sieve.tools(value, f"{place}.{key}")
    if key == "toolSpec":
        return sieve.tool(value, f"{place}.{key}")
    return value if sieve.keeps(Offer((key,), key, place)) else GONE


def _read_servers(sieve: Sieve, value: Any, place: str) -> Any:
    """Read MCP servers as Anthropic's API has them, beside the tools."""
    return _read_list(sieve, value, place, _read_server)


def _read_server(sieve: Sieve, server: Any, place: str) -> Any:
    fields = as_mapping(server)
    told = as_mapping(fields.get("tool_configuration"))
    offer = {"type": "mcp", "server_label": fields.get("name"), "allowed_tools": told.get("allowed_tools")}
    left = sieve.tool(offer, place)
    if left is GONE or left is offer:
        return GONE if left is GONE else server
    return {**fields, "tool_configuration": {**told, "allowed_tools": left["allowed_tools"]}}


_OTHER_OFFERS = {key: read for key, read in openai_chat.OFFERS.items() if key != "tools"}
OFFERS: Offers = {"tools": _read_tools, "mcp_servers": _read_servers, **_OTHER_OFFERS}
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
    message = Message("assistant", _read_answer(wire), as_str(wire.get("name")))
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
    return with_reasoning(Usage(**counts))


# --- writing messages --------------------------------------------------------------------------------------

_OWNED = frozenset({"text", "reasoning", "thinking", "url", "base64", "data", "file_id", "id", "source"})
"""Keys of a block that its record speaks for."""


def _write_part(part: Part) -> list[Any]:
    write = _PART_WRITERS.get(type(part))
    if write is None:
        raise CodecError(f"the content of a LangChain message has no form for a {type(part).__name__!r} part")
    return [write(part)]


def _write_media(part: Media) -> dict[str, Any]:
    block: dict[str, Any] = {"type": {"document": "file"}.get(part.modality, part.modality)}
    for key, value in (("url", part.uri), ("base64", part.data), ("file_id", part.file_id)):
        put(block, key, value)
    put(block, "mime_type", part.mime_type)
    put(block, "filename", part.name)
    return block


_PART_WRITERS: dict[type, Callable[[Any], Any]] = {
    Text: lambda part: {"type": "text", "text": part.text},
    Reasoning: lambda part: {"type": "reasoning", "reasoning": part.text},
    Media: _write_media,
    Opaque: lambda part: part.data,
}


def _patch_part(_old: Part, new: Part, wire: Any) -> list[Any]:
    built = _write_part(new)
    if isinstance(new, Reasoning) and isinstance(as_mapping(wire).get("thinking"), str):
        return [{**wire, "thinking": new.text}]
    if isinstance(new, Opaque) or not isinstance(wire, Mapping) or wire.get("type") != built[0].get("type"):
        return built
    return [overlay(cast("Mapping[str, Any]", wire), built[0], _OWNED)]


def _same_class(old: object, new: object) -> bool:
    return type(old) is type(new)


def _patch_blocks(was: list[Part], now: list[Part], blocks: list[Any]) -> list[Any]:
    return patch_sequence(was, now, blocks, patch=_patch_part, build=_write_part, alike=_same_class)


def _set_content(out: dict[str, Any], was: list[Part], now: list[Part]) -> None:
    content = out.get("content")
    if isinstance(content, list):
        repeated = [block for block in cast("list[Any]", content) if _is_repeated(block)]
        kept = repeated if len(_blocks(out)) != len(cast("list[Any]", content)) else []
        out["content"] = [*_patch_blocks(was, now, _blocks(out)), *kept]
    elif not now:
        out["content"] = ""
    elif len(now) == 1 and isinstance(now[0], Text):
        out["content"] = now[0].text
    else:
        out["content"] = [block for part in now for block in _write_part(part)]


def _write_call(call: ToolCall) -> list[Any]:
    if not isinstance(call.arguments, Mapping):
        return [{"name": call.name, "args": _text_of(call.arguments), "id": call.id, "type": "invalid_tool_call"}]
    return [{"name": call.name, "args": call.arguments, "id": call.id, "type": "tool_call"}]


def _patch_call(old: ToolCall, new: ToolCall, wire: Any) -> list[Any]:
    if isinstance(old.arguments, Mapping) != isinstance(new.arguments, Mapping):
        return _write_call(new)
    return [{**as_mapping(wire), "name": new.name, "args": new.arguments, "id": new.id}]


def _text_of(value: JSON) -> str:
    return value if isinstance(value, str) else "" if value is None else dumps_text(value)


def _set_calls(out: dict[str, Any], was: list[ToolCall], now: list[ToolCall]) -> None:
    wire = [*as_list(out.get("tool_calls")), *as_list(out.get("invalid_tool_calls"))]
    calls = patch_sequence(was, now, wire, patch=_patch_call, build=_write_call, alike=_same_class)
    # The provider's own forms of the calls would contradict these, and some models prefer them.
    content = out.get("content")
    if isinstance(content, list):
        out["content"] = [block for block in cast("list[Any]", content) if not _is_repeated(block)]
    if "tool_calls" in as_mapping(out.get("additional_kwargs")):
        out["additional_kwargs"] = {k: v for k, v in out["additional_kwargs"].items() if k != "tool_calls"}
    out["tool_calls"] = [call for call in calls if as_mapping(call).get("type") != "invalid_tool_call"]
    out["invalid_tool_calls"] = [call for call in calls if as_mapping(call).get("type") == "invalid_tool_call"]


def _sorted_parts(
    parts: list[Part], wire: Mapping[str, Any]
) -> tuple[list[Part], list[ToolCall], list[Part], list[Part]]:
    """Return content, calls, and what stands in `additional_kwargs`: the reasoning and the refusal."""
    extra = as_mapping(wire.get("additional_kwargs"))
    content: list[Part] = []
    calls: list[ToolCall] = []
    reasoning: list[Part] = []
    refusal: list[Part] = []
    for part in parts:
        if isinstance(part, ToolCall):
            calls.append(part)
        elif isinstance(part, Reasoning) and extra.get("reasoning_content") and not reasoning:
            reasoning.append(part)
        elif isinstance(part, Opaque) and part.type == "refusal" and "refusal" in extra:
            refusal.append(part)
        else:
            content.append(part)
    return content, calls, reasoning, refusal


def _set_extra(out: dict[str, Any], reasoning: list[Part], refusal: list[Part]) -> None:
    extra = dict(as_mapping(out.get("additional_kwargs")))
    if "reasoning_content" in extra:
        put(
            extra, "reasoning_content", reasoning[0].text if reasoning and isinstance(reasoning[0], Reasoning) else None
        )
    if "refusal" in extra:
        data = refusal[0].data if refusal and isinstance(refusal[0], Opaque) else None
        put(extra, "refusal", as_str(as_mapping(data).get("refusal")))
    if extra != out.get("additional_kwargs"):
        out["additional_kwargs"] = extra


def _patch_message(old: Message, new: Message, wire: Any) -> list[Any]:
    """Return the wire message for `new`, or several where tool results stand beside other parts."""
    if any(isinstance(part, ToolCallResponse) for part in (*old.parts, *new.parts)):
        return _patch_results(old, new, wire)
    if not isinstance(wire, Mapping):
        return _write_message(new)
    out = dict(cast("Mapping[str, Any]", wire))
    if new.name != old.name:
        out["name"] = new.name
    if new.parts != old.parts:
        _set_parts(out, old.parts, new.parts)
    return [out]


def _set_parts(out: dict[str, Any], old: list[Part], new: list[Part]) -> None:
    was, now = _sorted_parts(old, out), _sorted_parts(new, out)
    if was[0] != now[0]:
        _set_content(out, was[0], now[0])
    if was[1] != now[1]:
        _set_calls(out, was[1], now[1])
    if was[2:] != now[2:]:
        _set_extra(out, now[2], now[3])


_TYPES: dict[Role, str] = {"user": "human", "assistant": "ai", "system": "system", "developer": "system"}


def _write_message(message: Message) -> list[Any]:
    wire: dict[str, Any] = {"type": _TYPES.get(message.role, "human"), "content": ""}
    if message.role == "developer":
        wire["additional_kwargs"] = {"__openai_role__": "developer"}
    return _patch_message(Message(message.role), message, wire)


def _patch_results(old: Message, new: Message, wire: Any) -> list[Any]:
    out: list[Any] = []
    before = old.parts[0] if len(old.parts) == 1 else None
    for part in new.parts:
        if not isinstance(part, ToolCallResponse):
            out += _write_message(Message("user" if new.role == "tool" else new.role, [part], new.name))
        elif isinstance(before, ToolCallResponse) and isinstance(wire, Mapping):
            out.append(_patch_result(before, part, cast("Mapping[str, Any]", wire)))
            before = None
        else:
            out.append(_patch_result(ToolCallResponse(None, ""), part, {"type": "tool", "content": ""}))
    return out


def _patch_result(old: ToolCallResponse, new: ToolCallResponse, wire: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(wire)
    if new.id != old.id:
        out["tool_call_id"] = new.id
    if new.name != old.name:
        out["name"] = new.name
    if new.is_error != old.is_error:
        out["status"] = "error" if new.is_error else "success"
    if new.content != old.content:
        out["content"] = _result_content(old.content, new.content, wire.get("content"))
    return out


def _result_content(old: Any, new: Any, wire: Any) -> Any:
    parts = as_list(new)
    if not parts or not all(type(part) in _PART_WRITERS for part in parts):
        return _text_of(new)
    if isinstance(wire, list) and isinstance(old, list):
        return _patch_blocks(cast("list[Part]", old), parts, cast("list[Any]", wire))
    return [block for part in parts for block in _write_part(part)]


# --- writing requests and responses ------------------------------------------------------------------------

_WRITERS: dict[str, Writer] = {
    "response_format": lambda value, _old: {"type": "json_object" if value == "json" else value},
}


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


def encode_request(request: ModelRequest, wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return `wire` changed where `request` differs; see `Codec.encode_request`.

    `system` becomes a system message at the start.

    Raises:
        CodecError: the record holds something that LangChain's messages have no form for.
    """
    old, out = decode_request(wire), dict(wire)
    if request.model != old.model:
        put(out, "model", request.model)
    messages = [Message("system", request.system), *request.messages] if request.system else request.messages
    if messages != old.messages:
        items = as_list(wire.get("messages"))
        out["messages"] = patch_sequence(
            old.messages, messages, items, patch=_patch_message, build=_write_message, alike=same_role
        )
    if request.tools != old.tools:
        items = as_list(wire.get("tools"))
        tools = patch_sequence(old.tools, request.tools, items, patch=_patch_tool, build=_write_tool, alike=same_tool)
        put(out, "tools", tools or None)
    write_parameters(out, old.parameters, request.parameters, _PARAMETERS, writers=_WRITERS, inner_keys={})
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
    message = dict(_patch_message(old, new, as_mapping(generation.get("message")))[0])
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
