"""Mistral's completion of what stands in the middle (`/fim/completions`): a prompt, and an answer as chat has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanrelay.codecs.bodies import patch_request
from spanrelay.codecs.narrowing import as_str
from spanrelay.codecs.offers import sift_no_tools
from spanrelay.codecs.openai_chat import (
    accumulator,
    answers_with,
    decode_response,
    doubt_about,
    encode_response,
    fails_by_status,
    is_whole,
    stream_events,
    stream_texts,
)
from spanrelay.codecs.openai_shapes import SAMPLING, write_stop
from spanrelay.codecs.parameters import Table, Writer, read_parameters
from spanrelay.codecs.prompts import patch_prompts, read_prompts, refuse_more
from spanrelay.records import ModelRequest

__all__ = [
    "accumulator",
    "answers_with",
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
]

operation = "text_completion"
required = (("model",), ("prompt",))
sift_tools = sift_no_tools

_PARAMETERS: Table = {"random_seed": ("seed", None), "max_tokens": ("max_tokens", None), **SAMPLING}
_WRITERS: dict[str, Writer] = {"stop": write_stop}


def decode_request(wire: Mapping[str, Any]) -> ModelRequest:
    """Read a request; what stands behind the middle, its `suffix`, stays where it is."""
    messages = read_prompts(wire.get("prompt"), "prompt")
    parameters = read_parameters(wire, _PARAMETERS)
    return ModelRequest(as_str(wire.get("model")), messages, [], [], parameters, wire.get("stream") is True)


def encode_request(request: ModelRequest, wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return `wire` changed where `request` differs; see `Codec.encode_request`.

    Raises:
        CodecError: the prompt is not one text, or there are instructions or tools.
    """
    old = decode_request(wire)
    refuse_more(request, "a completion request")
    out = patch_request(old, request, wire, _PARAMETERS, writers=_WRITERS)
    if request.messages != old.messages:
        out["prompt"] = patch_prompts(old.messages, request.messages, wire.get("prompt"), "a prompt")
    return out
