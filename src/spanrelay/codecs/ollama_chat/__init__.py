"""Ollama's chat (`/api/chat`): OpenAI's definitions of tools, and a message, counts and options of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanrelay.codecs.bodies import patch_messages, patch_tools
from spanrelay.codecs.functions import patch_function, read_function, write_function
from spanrelay.codecs.narrowing import as_list, as_mapping, as_str
from spanrelay.codecs.offers import Keeps, Sieve, read_tools
from spanrelay.codecs.offers import Table as Offers
from spanrelay.codecs.ollama_chat.messages import patch_message, read_message, write_message
from spanrelay.codecs.ollama_chat.stream import accumulator, stream_events, stream_texts
from spanrelay.codecs.ollama_shapes import (
    blank,
    is_whole,
    patch_fields,
    patch_outcome,
    read_error,
    read_options,
    read_reasons,
    read_usage,
)
from spanrelay.conversation import Turns
from spanrelay.errors import CodecError
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


def decode_request(wire: Mapping[str, Any]) -> ModelRequest:
    """Read a request; see `Codec.decode_request`."""
    return ModelRequest(
        as_str(wire.get("model")),
        turns.messages(wire.get("messages")),
        [],
        [read_function(tool) for tool in as_list(wire.get("tools"))],
        read_options(wire),
        wire.get("stream") is True,
    )


def encode_request(request: ModelRequest, wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return `wire` changed where `request` differs; `system` becomes a system message at the start.

    Raises:
        CodecError: the record holds something that a request has no form for.
    """
    old = decode_request(wire)
    out = patch_fields(old, request, wire)
    patch_messages(out, old, request, patch=patch_message, build=write_message)
    patch_tools(out, old, request, patch=patch_function, build=write_function)
    return out


OFFERS: Offers = {"tools": read_tools}
"""Every key of a request that names or offers a tool."""


def sift_tools(wire: Mapping[str, Any], keeps: Keeps) -> Mapping[str, Any]:
    """Return `wire` without the tools that are not kept; see `Codec.sift_tools`."""
    return Sieve(keeps).request(wire, OFFERS)


def decode_response(wire: Mapping[str, Any]) -> ModelResponse:
    """Read an answer; see `Codec.decode_response`."""
    reasons = read_reasons(wire)
    messages: list[Message] = []
    if isinstance(wire.get("message"), Mapping):
        message = read_message({**as_mapping(wire["message"]), "role": "assistant"})
        message.finish_reason = reasons[0] if reasons else None
        messages = [message]
    return ModelResponse(None, as_str(wire.get("model")), messages, reasons, read_usage(wire), read_error(wire))


def encode_response(response: ModelResponse, wire: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return `wire` changed where `response` differs, or a whole body; see `Codec.encode_response`.

    Raises:
        CodecError: there are several messages, or one holds something that an answer has no form for.
    """
    if wire is None:
        if response.error is not None and not response.messages:
            return {"error": response.error.message}
        wire = blank(message={"role": "assistant", "content": ""})
    old = decode_response(wire)
    out = dict(wire)
    if response.messages != old.messages:
        if len(response.messages) > 1:
            raise CodecError(f"an answer of Ollama's is one message, not {len(response.messages)}; keep one")
        was, now = (each.messages[0] if each.messages else Message("assistant") for each in (old, response))
        plain = [Message("assistant", each.parts) for each in (was, now)]
        [out["message"]] = patch_message(plain[0], plain[1], out.get("message", {"role": "assistant"}))
        if now.finish_reason is not None:
            out["done_reason"] = now.finish_reason
    patch_outcome(out, old, response)
    return out
