"""Cohere's chat, version 2 (`/v2/chat`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from spanrelay.codecs.bodies import patch_messages, patch_request, patch_tools
from spanrelay.codecs.cohere_shapes import SAMPLING, WRITERS, patch_answer, read_error, read_usage
from spanrelay.codecs.cohere_v2.messages import patch_message, read_message, write_message
from spanrelay.codecs.cohere_v2.stream import accumulator, is_whole, stream_events, stream_texts
from spanrelay.codecs.functions import patch_function, read_function, write_function
from spanrelay.codecs.narrowing import as_list, as_mapping, as_str
from spanrelay.codecs.offers import Keeps, Sieve, drop_without, read_tools
from spanrelay.codecs.offers import Table as Offers
from spanrelay.codecs.parameters import Table, read_parameters
from spanrelay.conversation import Turns
from spanrelay.records import Message, ModelRequest, ModelResponse

__all__ = [
    "accumulator",
    "decode_request",
    "decode_response",
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
]

operation = "chat"
required = (("model",), ("messages",))
fails_by_status = False
turns = Turns("messages", read_message)

_PARAMETERS: Table = {
    **SAMPLING,
    "tool_choice": ("tool_choice", None),
    "logprobs": ("logprobs", None),
    "thinking": ("thinking", None),
    "priority": ("priority", None),
}


def decode_request(wire: Mapping[str, Any]) -> ModelRequest:
    """Read a request; see `Codec.decode_request`."""
    return ModelRequest(
        as_str(wire.get("model")),
        turns.messages(wire.get("messages")),
        [],
        [read_function(tool) for tool in as_list(wire.get("tools"))],
        read_parameters(wire, _PARAMETERS),
        wire.get("stream") is True,
    )


def encode_request(request: ModelRequest, wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return `wire` changed where `request` differs; `system` becomes a system message at the start.

    Raises:
        CodecError: the record holds something that a request has no form for.
    """
    old = decode_request(wire)
    out = patch_request(old, request, wire, _PARAMETERS, writers=WRITERS)
    patch_messages(out, old, request, patch=patch_message, build=write_message)
    patch_tools(out, old, request, patch=patch_function, build=write_function)
    return out


OFFERS: Offers = {"tools": read_tools}
"""Every key of a request that names or offers a tool; a choice names none."""


def sift_tools(wire: Mapping[str, Any], keeps: Keeps) -> Mapping[str, Any]:
    """Return `wire` without the tools that are not kept; see `Codec.sift_tools`."""
    return drop_without(Sieve(keeps).request(wire, OFFERS), wire, ("tools",), "tool_choice", "strict_tools")


def decode_response(wire: Mapping[str, Any]) -> ModelResponse:
    """Read an answer; see `Codec.decode_response`."""
    reason = as_str(wire.get("finish_reason"))
    messages: list[Message] = []
    if isinstance(wire.get("message"), Mapping):
        message = read_message({**as_mapping(wire["message"]), "role": "assistant"})
        message.finish_reason = reason
        messages = [message]
    return ModelResponse(
        as_str(wire.get("id")),
        as_str(wire.get("model")),
        messages,
        [] if reason is None else [reason],
        read_usage(wire.get("usage")),
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
        wire = {"id": str(uuid4()), "finish_reason": "COMPLETE", "message": {"role": "assistant", "content": []}}
    out = dict(wire)

    def patch(was: Message, now: Message) -> None:
        message = {"role": "assistant", "content": [], **as_mapping(out.get("message"))}
        [out["message"]] = patch_message(was, now, message)

    patch_answer(out, decode_response(wire), response, patch, id_key="id", usage_key="usage")
    return out
