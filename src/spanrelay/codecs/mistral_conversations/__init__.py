"""Mistral's conversations (`/conversations`): the provider keeps them, and runs tools of its own in them.

What a request says goes on where the conversation stood; its parameters are an object, `completion_args`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from spanrelay.codecs.bodies import patch_request, patch_tools
from spanrelay.codecs.functions import patch_function, read_function, write_function
from spanrelay.codecs.mistral_conversations.messages import read_entry
from spanrelay.codecs.mistral_conversations.stream import accumulator, is_whole, stream_events, stream_texts
from spanrelay.codecs.narrowing import as_list, as_mapping, as_str
from spanrelay.codecs.offers import Keeps, Sieve, read_tools
from spanrelay.codecs.offers import Table as Offers
from spanrelay.codecs.openai_shapes import (
    FORMAT_WRITERS,
    SAMPLING,
    decode_error,
    decode_usage,
    encode_error,
    read_format,
    write_stop,
)
from spanrelay.codecs.parameters import Table, Writer, read_parameters, write_parameters
from spanrelay.codecs.patching import put
from spanrelay.conversation import Turns
from spanrelay.errors import CodecError
from spanrelay.records import Message, ModelRequest, ModelResponse, Part, Text, ToolCall

__all__ = [
    "accumulator",
    "approvals_asked",
    "approvals_in",
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
required = (("inputs", "tool_confirmations"),)
fails_by_status = False
turns = Turns("inputs", read_entry, runs=True)

_PARAMETERS: Table = {
    "random_seed": ("seed", None),
    "max_tokens": ("max_tokens", None),
    "reasoning_effort": ("reasoning_effort", None),
    "response_format": ("output_type", read_format),
    "tool_choice": ("tool_choice", None),
    **{key: row for key, row in SAMPLING.items() if key not in ("seed", "n", "top_k")},
}
_WRITERS: dict[str, Writer] = {**FORMAT_WRITERS, "stop": write_stop}


def decode_request(wire: Mapping[str, Any]) -> ModelRequest:
    """Read a request; see `Codec.decode_request`."""
    said, told = wire.get("inputs"), wire.get("instructions")
    return ModelRequest(
        as_str(wire.get("model")),
        [Message("user", [Text(said)])] if isinstance(said, str) else turns.messages(said),
        [Text(told)] if isinstance(told, str) and told else [],
        [read_function(tool) for tool in as_list(wire.get("tools"))],
        read_parameters(as_mapping(wire.get("completion_args")), _PARAMETERS),
        wire.get("stream") is True,
    )


def encode_request(request: ModelRequest, wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return `wire` changed where `request` differs; see `Codec.encode_request`.

    Raises:
        CodecError: what is said differs, and is not one text; or the API has no such parameter.
    """
    old = decode_request(wire)
    out = patch_request(replace(old, parameters=request.parameters), request, wire, {})
    if request.parameters != old.parameters:
        inner = dict(as_mapping(wire.get("completion_args")))
        write_parameters(inner, old.parameters, request.parameters, _PARAMETERS, writers=_WRITERS, inner_keys={})
        put(out, "completion_args", inner or None)
    if request.system != old.system:
        put(out, "instructions", "".join(part.text for part in request.system if isinstance(part, Text)) or None)
    if request.messages != old.messages:
        out["inputs"] = _text_of(request.messages)
    patch_tools(out, old, request, patch=patch_function, build=write_function)
    return out


def _text_of(messages: list[Message]) -> str:
    if len(messages) == 1 and messages[0].role == "user" and all(isinstance(each, Text) for each in messages[0].parts):
        return messages[0].text
    raise CodecError("what is said in a conversation of Mistral's can be changed to one text; edit `call.wire` instead")


OFFERS: Offers = {"tools": read_tools}
"""Every key of a request that names or offers a tool; a choice names none."""


def sift_tools(wire: Mapping[str, Any], keeps: Keeps) -> Mapping[str, Any]:
    """Return `wire` without the tools that are not kept; see `Codec.sift_tools`."""
    return Sieve(keeps).request(wire, OFFERS)


def approvals_in(wire: Mapping[str, Any]) -> Iterator[tuple[str, ToolCall | None]]:
    """Yield the calls that a request lets Mistral make; the answer that asked for them said of what."""
    for item in as_list(wire.get("tool_confirmations")):
        fields = as_mapping(item)
        if fields.get("confirmation") != "deny":
            yield str(fields.get("tool_call_id")), None


def approvals_asked(parts: Iterable[Part]) -> Iterator[ToolCall]:
    """Yield none: a call that waits to be approved looks as any other."""
    return iter(())


def decode_response(wire: Mapping[str, Any]) -> ModelResponse:
    """Read an answer; see `Codec.decode_response`. Its entries are one message."""
    entries = [read_entry(entry) for entry in as_list(wire.get("outputs"))]
    messages = [Message("assistant", [part for entry in entries for part in entry.parts])] if entries else []
    models = (as_str(as_mapping(entry).get("model")) for entry in as_list(wire.get("outputs")))
    model = next((model for model in models if model), None)
    usage = decode_usage(wire.get("usage"))
    return ModelResponse(as_str(wire.get("conversation_id")), model, messages, [], usage, decode_error(wire))


def encode_response(response: ModelResponse, wire: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return `wire` with another error.

    Raises:
        CodecError: something else differs, or there is no answer and none can be made of a record.
    """
    if wire is None:
        if response.error is None:
            raise CodecError("an answer in a conversation that Mistral keeps cannot be made; return its JSON instead")
        return {"error": encode_error(response.error, {})}
    old, out = decode_response(wire), dict(wire)
    if response.error != old.error:
        put(out, "error", response.error and encode_error(response.error, wire.get("error")))
    if replace(response, error=old.error, model=old.model) != old:
        raise CodecError("only the error of this answer can be changed; return its JSON instead")
    return out
