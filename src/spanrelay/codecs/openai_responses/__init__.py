"""The Responses API (`/responses`) of OpenAI and of the servers compatible with it.

One item is read into a fixed run of parts: encoding finds the items that a message came from by that.

Neighbouring items of the assistant (reasoning, text, calls) are one message, in a request as in an answer, so
that an answer reads the same when it comes back as history. The wire has no finish reason; it is derived:
`completed` is `tool_calls` where the client has a tool to run and else `stop`, `incomplete` is the wire's own
reason, `failed` and `cancelled` are themselves, and an answer still running has none. Writing one does nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, cast
from uuid import uuid4

from spanrelay._json import loads_or_text
from spanrelay.codecs.bodies import patch_identity, patch_request, patch_tools
from spanrelay.codecs.narrowing import as_float, as_int, as_list, as_mapping, as_str, as_written
from spanrelay.codecs.offers import (
    GONE,
    Keeps,
    Offer,
    Sieve,
    drop_without,
    each,
    read_choice,
    read_tools,
)
from spanrelay.codecs.offers import (
    Table as Offers,
)
from spanrelay.codecs.openai_responses.messages import (
    ITEM_PATCHES,
    PART_WRITERS,
    ItemPatch,
    patch_items,
    patch_message,
    read_content,
    read_item,
    write_items,
)
from spanrelay.codecs.openai_responses.stream import ResponsesAccumulator, stream_events, stream_texts
from spanrelay.codecs.openai_shapes import (
    decode_error,
    encode_error,
    patch_counts,
    read_format,
    write_format,
)
from spanrelay.codecs.parameters import Table, Writer, read_parameters, write_parameters
from spanrelay.codecs.patching import patch_sequence, put, same_role
from spanrelay.codecs.tokens import read_item_tokens
from spanrelay.conversation import Turns
from spanrelay.errors import CodecError
from spanrelay.records import (
    JSON,
    ErrorInfo,
    Message,
    ModelRequest,
    ModelResponse,
    Opaque,
    Part,
    PromptTemplate,
    Text,
    ToolCall,
    ToolCallResponse,
    ToolDefinition,
    Usage,
)

__all__ = [
    "accumulator",
    "approvals_asked",
    "approvals_in",
    "decode_request",
    "decode_response",
    "doubt_about",
    "encode_request",
    "encode_response",
    "is_whole",
    "operation",
    "required",
    "sift_tools",
    "single_parameters",
    "stream_events",
    "stream_texts",
    "turns",
]

operation = "chat"
answers_with = "output"
turns = Turns("input", read_item, runs=True)
required = (("model", "prompt"), ("input", "prompt", "previous_response_id", "conversation"))

# --- reading requests and responses ------------------------------------------------------------------------


def _read_text_format(text: JSON) -> JSON:
    return read_format(as_mapping(text).get("format"))


def _read_conversation(conversation: JSON) -> JSON:
    return conversation if isinstance(conversation, str) else as_mapping(conversation).get("id")


_PARAMETERS: Table = {
    "temperature": ("temperature", None),
    "top_p": ("top_p", None),
    "max_output_tokens": ("max_tokens", None),
    "reasoning": ("reasoning_effort", lambda value: as_mapping(value).get("effort")),
    "text": ("output_type", _read_text_format),
    "tool_choice": ("tool_choice", None),
    "previous_response_id": ("previous_response_id", None),
    "conversation": ("conversation_id", _read_conversation),
    "service_tier": ("service_tier", None),
    "parallel_tool_calls": ("parallel_tool_calls", None),
    "max_tool_calls": ("max_tool_calls", None),
    "top_logprobs": ("top_logprobs", None),
    "truncation": ("truncation", None),
    "background": ("background", None),
    "store": ("store", None),
    "user": ("user", None),
}


def decode_request(wire: Mapping[str, Any]) -> ModelRequest:
    """Read the body of a Responses request; see `Codec.decode_request`."""
    get = wire.get
    tools = get("tools")
    return ModelRequest(
        as_str(get("model")),
        _read_input(get("input")),
        _read_instructions(get("instructions")),
        [_read_tool_definition(tool) for tool in as_list(tools)] if tools else [],
        {**read_parameters(wire, _PARAMETERS), **_read_stored_prompt(as_mapping(get("prompt")))},
        get("stream") is True,
        _read_variables(as_mapping(get("prompt")).get("variables")),
    )


def _read_variables(variables: Any) -> PromptTemplate | None:
    """Return what is put into a stored prompt; its template is the provider's alone."""
    return PromptTemplate(variables=dict(as_mapping(variables))) if variables else None


def _read_stored_prompt(prompt: Mapping[str, Any]) -> dict[str, JSON]:
    """Return which of the provider's stored prompts is asked for, without what is put into it."""
    told = (("prompt_id", as_str(prompt.get("id"))), ("prompt_version", as_str(prompt.get("version"))))
    return {name: value for name, value in told if value}


def _read_input(items: Any) -> list[Message]:
    if isinstance(items, str):
        return [Message("user", [Text(items)])]
    return turns.messages(items)


def _read_instructions(instructions: Any) -> list[Part]:
    if isinstance(instructions, list):
        return [part for item in cast("list[Any]", instructions) for part in read_item(item).parts]
    return read_content(instructions)


def _read_tool_definition(tool: Any) -> ToolDefinition:
    if not isinstance(tool, Mapping):
        return ToolDefinition("", None, None, "unknown", tool)
    tool = cast("Mapping[str, Any]", tool)
    kind = as_str(tool.get("type")) or "function"
    name = as_str(tool.get("name")) or as_str(tool.get("server_label")) or kind
    raw = None
    if kind != "function" or not tool.keys() <= _PLAIN_TOOL_KEYS:
        raw = {key: value for key, value in tool.items() if key not in _SECRET_KEYS}
    return ToolDefinition(name, as_str(tool.get("description")), tool.get("parameters"), kind, raw)


_PLAIN_TOOL_KEYS = frozenset({"type", "name", "description", "parameters"})
_SECRET_KEYS = frozenset({"headers", "authorization"})
"""What an MCP server is authorised with: it is sent, but is in no record."""


def decode_response(wire: Mapping[str, Any]) -> ModelResponse:
    """Read the body of a Responses answer; see `Codec.decode_response`. All items are one message."""
    get = wire.get
    parts: list[Part] = []
    for item in as_list(get("output")):
        parts += read_item(item).parts
    reason = _finish_reason(wire, parts)
    return ModelResponse(
        as_str(get("id")),
        as_str(get("model")),
        [Message("assistant", parts, None, reason)] if parts else [],
        [] if reason is None else [reason],
        _read_usage(get("usage")),
        decode_error(wire) or (ErrorInfo("failed", "the response failed") if get("status") == "failed" else None),
        read_parameters(wire, _RESPONSE_PARAMETERS),
        read_item_tokens(as_list(get("output"))),
    )


def is_whole(wire: Mapping[str, Any]) -> bool:
    """Whether an answer has come to its end; see `Codec.is_whole`."""
    return wire.get("status") in ("completed", "incomplete", "failed", "cancelled")


_RESPONSE_PARAMETERS: Table = {
    "status": ("status", None),
    "incomplete_details": ("incomplete_reason", lambda value: as_mapping(value).get("reason")),
    "service_tier": ("service_tier", None),
    "conversation": ("conversation_id", _read_conversation),
    "previous_response_id": ("previous_response_id", None),
}


def _finish_reason(wire: Mapping[str, Any], parts: list[Part]) -> str | None:
    status = wire.get("status")
    if status == "completed":
        waiting = any(isinstance(part, ToolCall) and not part.server for part in parts)
        return "tool_calls" if waiting else "stop"
    if status == "incomplete":
        return as_str(as_mapping(wire.get("incomplete_details")).get("reason")) or "incomplete"
    return status if status in ("failed", "cancelled") else None


_USAGE_PLACES: dict[str, tuple[tuple[str, ...], ...]] = {
    "input_tokens": (("input_tokens",),),
    "output_tokens": (("output_tokens",),),
    "total_tokens": (("total_tokens",),),
    "cache_read_tokens": (("input_tokens_details", "cached_tokens"),),
    "cache_write_tokens": (("input_tokens_details", "cache_write_tokens"),),
    "reasoning_tokens": (("output_tokens_details", "reasoning_tokens"),),
    "input_audio_tokens": (("input_tokens_details", "audio_tokens"),),
    "output_audio_tokens": (("output_tokens_details", "audio_tokens"),),
    "cost_usd": (("cost",),),
}


def _read_usage(usage: Any) -> Usage | None:
    if not isinstance(usage, Mapping) or not usage:
        return None
    get = cast("Mapping[str, Any]", usage).get
    given = as_mapping(get("input_tokens_details"))
    made = as_mapping(get("output_tokens_details"))
    return Usage(
        as_int(get("input_tokens")),
        as_int(get("output_tokens")),
        as_int(get("total_tokens")),
        as_int(given.get("cached_tokens")),
        as_int(given.get("cache_write_tokens")),
        as_int(made.get("reasoning_tokens")),
        as_int(given.get("audio_tokens")),
        as_int(made.get("audio_tokens")),
        as_float(get("cost")),
    )


# --- writing requests --------------------------------------------------------------------------------------

_WRITERS: dict[str, Writer] = {
    "text": write_format,
    "conversation": lambda value, old: {"id": value} if isinstance(old, Mapping) else value,
}

_RESPONSE_WRITERS: dict[str, Writer] = {"conversation": lambda value, _old: {"id": value}}

_INNER_KEYS = {"reasoning": "effort", "text": "format", "incomplete_details": "reason"}


def encode_request(request: ModelRequest, wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return `wire` changed where `request` differs; see `Codec.encode_request`.

    Raises:
        CodecError: the record holds something that a Responses request has no form for.
    """
    old = decode_request(wire)
    out = patch_request(old, request, wire, _PARAMETERS, writers=_WRITERS, inner_keys=_INNER_KEYS)
    if request.messages != old.messages:
        out["input"] = _patch_input(old.messages, request.messages, wire.get("input"))
    if request.system != old.system:
        put(out, "instructions", _write_instructions(request.system))
    patch_tools(out, old, request, patch=_patch_tool_definition, build=_write_tool_definition)
    return out


def _patch_input(old: list[Message], new: list[Message], wire: Any) -> Any:
    if isinstance(wire, str):
        if len(new) == 1 and new[0].role == "user" and [type(part) for part in new[0].parts] == [Text]:
            return new[0].text
        wire = [{"role": "user", "content": wire}]
    groups = patch_sequence(
        old,
        new,
        turns.groups(as_list(wire)),
        patch=_patch_turn,
        build=lambda message: [write_items(message, answer=False)],
        alike=same_role,
    )
    return list(chain.from_iterable(groups))


def _patch_turn(old: Message, new: Message, items: list[Any]) -> list[Any]:
    if new.role == old.role == "assistant" and new.name == old.name:
        return [patch_items(items, new, answer=False)]
    item = items[0]
    # Anybody else's turn is one item: it must not become two.
    patch = ITEM_PATCHES.get(as_mapping(item).get("type") or "message")
    if len(items) > 1 or patch is None or not isinstance(item, dict) or not _fits(new, patch):
        return [write_items(new, answer=False)]
    item = cast("dict[str, Any]", item)
    if patch is patch_message:
        item = dict(item)
        if new.role != old.role:
            item["role"] = new.role
        if new.name != old.name:
            put(item, "name", new.name)
    return [[item if new.parts == old.parts else patch(old.parts, new.parts, item, new.role)]]


def _fits(message: Message, patch: ItemPatch) -> bool:
    """Tell whether the parts of a message can stand in the item that `patch` changes."""
    if patch is patch_message:
        return all(type(part) in PART_WRITERS for part in message.parts)
    return [type(part) for part in message.parts] == [ToolCallResponse]


def _write_instructions(system: list[Part]) -> Any:
    texts = [part.text for part in system if isinstance(part, Text)]
    if len(texts) != len(system):
        kinds = sorted({type(part).__name__ for part in system})
        raise CodecError(f"`instructions` take text only, not {kinds!r}; put the others in a message")
    return "\n\n".join(texts) or None


def _write_tool_definition(tool: ToolDefinition) -> list[Any]:
    if isinstance(tool.raw, Mapping):
        return _patch_tool_definition(_read_tool_definition(tool.raw), tool, tool.raw)
    wire: dict[str, Any] = {"type": tool.type, "name": tool.name}
    put(wire, "description", tool.description)
    put(wire, "parameters", tool.parameters)
    return [wire]


def _patch_tool_definition(old: ToolDefinition, new: ToolDefinition, wire: Any) -> list[Any]:
    if new.raw != old.raw and isinstance(new.raw, Mapping):
        secrets = {key: value for key, value in as_mapping(wire).items() if key in _SECRET_KEYS}
        wire, old = {**new.raw, **secrets}, _read_tool_definition(new.raw)
    if not isinstance(wire, Mapping):
        return [new.raw]
    out = dict(cast("Mapping[str, Any]", wire))
    for key in ("type", "name", "description", "parameters"):
        if getattr(new, key) != getattr(old, key):
            put(out, key, getattr(new, key))
    return [out]


# --- tools in requests -------------------------------------------------------------------------------------


def _read_item_tools(sieve: Sieve, item: Mapping[str, Any], place: str) -> Any:
    """Read an item that brings tools; one without any left is no item."""
    value = item.get("tools")
    left = value if value is None else sieve.tools(value, f"{place}.tools")
    return item if left is value else GONE if left is GONE else {**item, "tools": left}


def _read_found_tools(sieve: Sieve, item: Mapping[str, Any], place: str) -> Any:
    """Read the answer to a search for tools, which must stay, and may have found none."""
    left = _read_item_tools(sieve, item, place)
    return {**item, "tools": []} if left is GONE else left


_ITEM_OFFERS: dict[str, Callable[[Sieve, Mapping[str, Any], str], Any]] = {
    "additional_tools": _read_item_tools,
    "tool_search_output": _read_found_tools,
    "mcp_list_tools": Sieve.listing,
}
"""Items of the input that name or offer tools, by type."""


def _read_input_tools(sieve: Sieve, value: Any, place: str) -> Any:
    if not isinstance(value, (list, tuple)):
        return value
    return each(value, place, lambda item, here: _read_input_item(sieve, item, here))


def _read_input_item(sieve: Sieve, item: Any, place: str) -> Any:
    written = as_written(item)
    kind = as_str(as_mapping(written).get("type"))
    read = None if kind is None else _ITEM_OFFERS.get(str.__str__(kind))
    if read is None:
        return item
    left = read(sieve, written, place)
    return item if left is written else left


def _read_prompt(sieve: Sieve, value: Any, place: str) -> Any:
    """Read a reference to a stored prompt: the tools in it are the provider's secret, and cannot be taken out."""
    sieve.keeps(Offer((), "prompt", place, unnamed=True))
    return value


OFFERS: Offers = {
    "tools": read_tools,
    "input": _read_input_tools,
    "prompt": _read_prompt,
    "tool_choice": read_choice,
}
"""Every key of a request that names or offers a tool."""


def sift_tools(wire: Mapping[str, Any], keeps: Keeps) -> Mapping[str, Any]:
    """Return `wire` without the tools that are not kept; see `Codec.sift_tools`."""
    out = Sieve(keeps).request(wire, OFFERS)
    items = as_list(out.get("input"))
    if any(as_mapping(item).get("type") in ("additional_tools", "tool_search_output") for item in items):
        return out
    return drop_without(out, wire, ("tools", "prompt"), "tool_choice", "parallel_tool_calls", "max_tool_calls")


# --- parameters that the conversation sets -----------------------------------------------------------------


def single_parameters(wire: Mapping[str, Any], names: Iterable[str]) -> Mapping[str, Any]:
    """Return `wire` with each of `names` said once; see `Codec`. Items of the input may set the effort anew."""
    items = wire.get("input")
    if "reasoning_effort" not in names or not isinstance(items, (list, tuple)):
        return wire
    left = each(items, "input", lambda item, _: _without_effort(item))
    return wire if left is items else {**wire, "input": left}


def _without_effort(item: Any) -> Any:
    fields = as_mapping(as_written(item))
    if fields.get("type") != "configuration_update" or as_mapping(fields.get("reasoning")).get("effort") is None:
        return item
    left = dict(fields)
    put(left, "reasoning", {key: value for key, value in fields["reasoning"].items() if key != "effort"} or None)
    return left if left.get("reasoning") or left.get("text") else GONE


# --- approvals ---------------------------------------------------------------------------------------------

_ASKS, _APPROVES, _RAN = "mcp_approval_request", "mcp_approval_response", "mcp_call"


def approvals_in(wire: Mapping[str, Any]) -> Iterator[tuple[str, ToolCall | None]]:
    """Yield the calls that a request newly lets a server's tools be run for, with what is asked where it says so.

    New is what no call behind it has come of: whatever else stands there, the provider makes the call.
    """
    asked: dict[str, ToolCall] = {}
    approved: dict[str, None] = {}
    for item in as_list(wire.get("input")):
        fields = as_mapping(as_written(item))
        kind = fields.get("type")
        if kind == _ASKS:
            call = _read_approval_request(fields)
            asked[str(call.id)] = call
        elif kind == _APPROVES and fields.get("approve") is not False:
            approved[str(fields.get("approval_request_id"))] = None
        elif kind == _RAN and approved:
            made = _approval_of(fields, approved, asked)
            approved.pop(made or "", None)
    for call_id in approved:
        yield call_id, asked.get(call_id)


def _approval_of(made: Mapping[str, Any], approved: Iterable[str], asked: Mapping[str, ToolCall]) -> str | None:
    """Return which approval a call that a server's tool was run for has come of: by its id, else by the tool."""
    told = made.get("approval_request_id")
    if told is not None:
        return str(told)
    tool = as_str(made.get("name")) or "", as_str(made.get("server_label"))
    calls = ((call_id, asked.get(call_id)) for call_id in approved)
    return next((call_id for call_id, call in calls if call and (call.name, call.namespace) == tool), None)


def approvals_asked(parts: Iterable[Part]) -> Iterator[ToolCall]:
    """Yield the calls that an answer asks the client to approve."""
    for part in parts:
        if isinstance(part, Opaque) and part.type == _ASKS:
            yield _read_approval_request(as_mapping(part.data))


def _read_approval_request(item: Mapping[str, Any]) -> ToolCall:
    arguments = item.get("arguments")
    given = loads_or_text(arguments) if isinstance(arguments, str) else arguments
    return ToolCall(
        as_str(item.get("id")), as_str(item.get("name")) or "", given, True, _ASKS, as_str(item.get("server_label"))
    )


# --- what an answer lacks -----------------------------------------------------------------------------------


def doubt_about(item: Mapping[str, Any]) -> str | None:
    """Return what an item of the output lacks, or None."""
    if item.get("type") != "message":
        return None
    parts = item.get("content")
    if not isinstance(parts, list) or not all(isinstance(part, Mapping) for part in cast("list[Any]", parts)):
        return "has no list of objects as 'content'"
    texts = (part for part in cast("list[Mapping[str, Any]]", parts) if part.get("type") == "output_text")
    return None if all(isinstance(part.get("text"), str) for part in texts) else "has a part without a string as 'text'"


# --- writing responses -------------------------------------------------------------------------------------


def encode_response(response: ModelResponse, wire: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return `wire` changed where `response` differs, or a whole body; see `Codec.encode_response`.

    Raises:
        CodecError: the record holds something that a Responses answer has no form for.
    """
    if wire is None:
        return _write_response(response)
    old = decode_response(wire)
    out = patch_identity(wire, old, response)
    was, now = ([part for m in r.messages for part in m.parts] for r in (old, response))
    if was != now:
        out["output"] = patch_items(as_list(wire.get("output")), Message("assistant", now), answer=True)
    if response.usage != old.usage:
        put(out, "usage", patch_counts(old.usage, response.usage, wire.get("usage"), _USAGE_PLACES))
    if response.error != old.error:
        out["error"] = response.error and encode_error(response.error, wire.get("error"))
    if response.parameters != old.parameters:
        write_parameters(
            out,
            old.parameters,
            response.parameters,
            _RESPONSE_PARAMETERS,
            writers=_RESPONSE_WRITERS,
            inner_keys=_INNER_KEYS,
        )
    return out


def _write_response(response: ModelResponse) -> dict[str, Any]:
    if response.error is not None and not response.messages:
        return {"error": encode_error(response.error, {})}
    blank: dict[str, Any] = {
        "id": f"resp_{uuid4().hex}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": "",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": None,
    }
    parameters = {key: response.parameters[key] for key in _names() & response.parameters.keys()}
    parameters.setdefault("status", "completed")
    response = ModelResponse(
        response.id, response.model, response.messages, [], response.usage, response.error, parameters
    )
    out = encode_response(response, blank)
    if out["usage"] is not None:
        out["usage"] = _whole_usage(out["usage"])
    return out


def _names() -> set[str]:
    return {row[0] for row in _RESPONSE_PARAMETERS.values()}


def _whole_usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Return `usage` with what the API always sends."""
    given, made = usage.get("input_tokens", 0), usage.get("output_tokens", 0)
    return {
        "input_tokens": given,
        "output_tokens": made,
        "total_tokens": given + made,
        **usage,
        "input_tokens_details": {
            "cached_tokens": 0,
            "cache_write_tokens": 0,
            **as_mapping(usage.get("input_tokens_details")),
        },
        "output_tokens_details": {"reasoning_tokens": 0, **as_mapping(usage.get("output_tokens_details"))},
    }


def accumulator() -> ResponsesAccumulator:
    """Return a fresh accumulator for one stream."""
    return ResponsesAccumulator()
