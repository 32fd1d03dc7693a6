"""Cohere's chat, version 1 (`/v1/chat`): one message with the history before it, and results of tools beside it.

A call of a tool has no id. A stream is objects, one a line; its last holds the whole answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast
from uuid import uuid4

from spanrelay.codecs.bodies import patch_request
from spanrelay.codecs.cohere_shapes import SAMPLING, WRITERS, patch_answer, read_error, read_usage
from spanrelay.codecs.cohere_v1.messages import patch_turn, read_turn, write_turn
from spanrelay.codecs.cohere_v1.stream import accumulator, is_whole, stream_events, stream_texts
from spanrelay.codecs.narrowing import as_list, as_mapping, as_str
from spanrelay.codecs.offers import GONE, Keeps, Offer, Sieve, drop_without, each
from spanrelay.codecs.offers import Table as Offers
from spanrelay.codecs.parameters import Table, read_parameters
from spanrelay.codecs.patching import patch_sequence, put, same_role, same_tool
from spanrelay.conversation import Turns
from spanrelay.errors import CodecError
from spanrelay.records import Message, ModelRequest, ModelResponse, Text, ToolDefinition

__all__ = [
    "accumulator",
    "decode_request",
    "decode_response",
    "encode_request",
    "encode_response",
    "fails_by_status",
    "is_whole",
    "items_beside",
    "operation",
    "required",
    "sift_tools",
    "stream_events",
    "stream_texts",
    "turns",
]

operation = "chat"
required = (("message", "tool_results"),)
fails_by_status = False
turns = Turns("chat_history", read_turn)

_PARAMETERS: Table = {
    **SAMPLING,
    "max_input_tokens": ("max_input_tokens", None),
    "prompt_truncation": ("prompt_truncation", None),
    "citation_quality": ("citation_quality", None),
    "force_single_step": ("force_single_step", None),
}


def items_beside(wire: Mapping[str, Any]) -> list[Any]:
    """Return what the request says beside its history, as turns of one."""
    message, results = wire.get("message"), wire.get("tool_results")
    said = [{"role": "USER", "message": message}] if message or ("message" in wire and not results) else []
    return [*([{"role": "TOOL", "tool_results": results}] if results else []), *said]


def decode_request(wire: Mapping[str, Any]) -> ModelRequest:
    """Read a request; see `Codec.decode_request`."""
    preamble = wire.get("preamble")
    return ModelRequest(
        as_str(wire.get("model")),
        [*turns.messages(wire.get("chat_history")), *map(read_turn, items_beside(wire))],
        [Text(preamble)] if isinstance(preamble, str) and preamble else [],
        [_read_tool(tool) for tool in as_list(wire.get("tools"))],
        read_parameters(wire, _PARAMETERS),
        wire.get("stream") is True,
    )


def _read_tool(tool: Any) -> ToolDefinition:
    fields = as_mapping(tool)
    return ToolDefinition(as_str(fields.get("name")) or "", as_str(fields.get("description")), None, "function", tool)


def encode_request(request: ModelRequest, wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return `wire` changed where `request` differs; see `Codec.encode_request`.

    Raises:
        CodecError: the record holds something that a request has no form for.
    """
    old = decode_request(wire)
    out = patch_request(old, request, wire, _PARAMETERS, writers=WRITERS)
    if request.system != old.system:
        put(out, "preamble", "".join(part.text for part in request.system if isinstance(part, Text)) or None)
    if request.messages != old.messages:
        _patch_turns(out, old, request)
    if request.tools != old.tools:
        tools = patch_sequence(
            old.tools, request.tools, as_list(wire.get("tools")), patch=_patch_tool, build=_write_tool, alike=same_tool
        )
        put(out, "tools", tools or None)
    return out


def _patch_turns(out: dict[str, Any], old: ModelRequest, new: ModelRequest) -> None:
    known = [*as_list(out.get("chat_history")), *items_beside(out)]
    made = patch_sequence(old.messages, new.messages, known, patch=patch_turn, build=write_turn, alike=same_role)
    results: Any = None
    message: Any = ""
    if made and _role(made[-1]) == "USER":
        message = as_mapping(made.pop()).get("message")
    if made and _role(made[-1]) == "TOOL" and (out.get("tool_results") or not message):
        results = as_mapping(made.pop()).get("tool_results")
    out["message"] = message
    put(out, "tool_results", results)
    if made or "chat_history" in out:
        out["chat_history"] = made


def _role(turn: Any) -> Any:
    return as_mapping(turn).get("role")


def _write_tool(tool: ToolDefinition) -> list[Any]:
    if tool.raw is not None:
        return [tool.raw]
    if tool.parameters:
        raise CodecError(f"tool {tool.name!r}: this API describes parameters in a form of its own; give it as `raw`")
    return [{"name": tool.name, "description": tool.description or ""}]


def _patch_tool(old: ToolDefinition, new: ToolDefinition, wire: Any) -> list[Any]:
    if new.raw != old.raw and new.raw is not None:
        return [new.raw]
    return [{**as_mapping(wire), "description": new.description or ""}] if isinstance(wire, Mapping) else [wire]


def _sift_each(sift: Callable[[Sieve, Any, str], Any], sieve: Sieve, value: Any, place: str) -> Any:
    """Return what is left of a list; what is none has one judgement."""
    if not isinstance(value, (list, tuple)):
        return sift(sieve, value, place)
    items = cast("list[Any]", value)
    return each(items, place, lambda one, here: sift(sieve, one, here)) or (GONE if items else items)


def _sift_tool(sieve: Sieve, tool: Any, place: str) -> Any:
    named = isinstance(tool, Mapping)
    name: Any = cast("Mapping[str, Any]", tool).get("name") if named else tool
    return tool if sieve.keeps(Offer((name,), "function" if named else "unknown", place)) else GONE


def _sift_connector(sieve: Sieve, connector: Any, place: str) -> Any:
    name = as_mapping(connector).get("id")
    return connector if sieve.keeps(Offer((name, "connector"), "connector", place)) else GONE


OFFERS: Offers = {"tools": partial(_sift_each, _sift_tool), "connectors": partial(_sift_each, _sift_connector)}
"""Every key of a request that names or offers a tool; a connector is a search that the provider makes."""


def sift_tools(wire: Mapping[str, Any], keeps: Keeps) -> Mapping[str, Any]:
    """Return `wire` without the tools that are not kept; see `Codec.sift_tools`."""
    return drop_without(Sieve(keeps).request(wire, OFFERS), wire, ("tools",), "force_single_step")


def decode_response(wire: Mapping[str, Any]) -> ModelResponse:
    """Read an answer; see `Codec.decode_response`."""
    reason = as_str(wire.get("finish_reason"))
    messages: list[Message] = []
    if "text" in wire or "tool_calls" in wire:
        turn = {"role": "CHATBOT", "message": wire.get("text"), "tool_calls": wire.get("tool_calls")}
        message = read_turn(turn)
        message.finish_reason = reason
        messages = [message]
    return ModelResponse(
        as_str(wire.get("generation_id")),
        None,
        messages,
        [] if reason is None else [reason],
        read_usage(wire.get("meta")),
        read_error(wire),
    )


def encode_response(response: ModelResponse, wire: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return `wire` changed where `response` differs, or a whole body; see `Codec.encode_response`.

    Raises:
        CodecError: there are several messages, or one holds something that an answer has no form for.
    """
    if wire is None:
        if response.error is not None and not response.messages:
            return {"message": response.error.message}
        wire = {"text": "", "generation_id": str(uuid4()), "finish_reason": "COMPLETE"}
    out = dict(wire)

    def patch(was: Message, now: Message) -> None:
        turn = {"role": "CHATBOT", "message": out.get("text", ""), "tool_calls": out.get("tool_calls")}
        [made] = patch_turn(was, now, turn)
        out["text"] = made.get("message") or ""
        put(out, "tool_calls", made.get("tool_calls"))

    patch_answer(out, decode_response(wire), response, patch, id_key="generation_id", usage_key="meta")
    return out
