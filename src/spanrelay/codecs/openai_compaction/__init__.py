"""Compaction of a conversation (`/responses/compact`) of OpenAI: asked as the Responses API is.

The answer repeats what users said; what the model made of the rest is the item that counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from spanrelay.codecs import openai_responses
from spanrelay.codecs.bodies import one_event as stream_events
from spanrelay.codecs.bodies import whole_body as accumulator
from spanrelay.codecs.narrowing import as_list, as_mapping
from spanrelay.codecs.openai_responses import decode_request, sift_tools, turns
from spanrelay.codecs.openai_shapes import encode_error
from spanrelay.errors import CodecError
from spanrelay.records import ModelRequest, ModelResponse

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
    "turns",
]

operation = "chat"
required = (("model",), ("input", "previous_response_id"))
_PARAMETERS = frozenset({"service_tier"})


def encode_request(request: ModelRequest, wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return `wire` changed where `request` differs; parameters that a compaction has none of are left out."""
    known = decode_request(wire).parameters
    kept = {name: value for name, value in request.parameters.items() if name in known or name in _PARAMETERS}
    return openai_responses.encode_request(replace(request, parameters=kept), wire)


def decode_response(wire: Mapping[str, Any]) -> ModelResponse:
    """Read the body of an answer: the items that the model made, usage, error."""
    made = [item for item in as_list(wire.get("output")) if as_mapping(item).get("type") == "compaction"]
    return openai_responses.decode_response({**wire, "output": made})


def encode_response(response: ModelResponse, wire: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return `wire`, which only an error can take the place of.

    Raises:
        CodecError: the answer differs: only the provider can read what it made.
    """
    if wire is not None and response == decode_response(wire):
        return dict(wire)
    if response.error is None:
        raise CodecError("a compaction can be read by the provider alone; return its JSON as it is")
    return {"error": encode_error(response.error, {})}
