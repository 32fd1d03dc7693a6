"""The legacy Completions API (`/completions`): a prompt of text, continued.

One prompt is one user message, one choice one message of the assistant; neither is ever split or joined.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanrelay.codecs.bodies import patch_identity, patch_request
from spanrelay.codecs.narrowing import as_list, as_mapping, as_str
from spanrelay.codecs.offers import sift_no_tools
from spanrelay.codecs.openai_completions.stream import CompletionsAccumulator, stream_events, stream_texts
from spanrelay.codecs.openai_shapes import (
    CHOICES_PARAMETERS,
    SAMPLING,
    blank_choices,
    decode_choice_error,
    decode_error,
    decode_usage,
    encode_error,
    finished,
    patch_outcome,
    write_stop,
)
from spanrelay.codecs.parameters import Table, Writer, read_parameters
from spanrelay.codecs.patching import patch_sequence
from spanrelay.codecs.prompts import patch_prompts, read_prompts, refuse_more
from spanrelay.codecs.tokens import read_tokens
from spanrelay.errors import CodecError
from spanrelay.records import Message, ModelRequest, ModelResponse, Text

__all__ = [
    "accumulator",
    "decode_request",
    "decode_response",
    "doubt_about",
    "encode_request",
    "encode_response",
    "is_whole",
    "operation",
    "required",
    "sift_tools",
    "stream_events",
    "stream_texts",
]

operation = "text_completion"
answers_with = "choices"


def doubt_about(choice: Mapping[str, Any]) -> str | None:
    """Return what a choice lacks, or None."""
    return None if isinstance(choice.get("text"), str) else "has no string as 'text'"


required = (("model",), ("prompt",))
sift_tools = sift_no_tools


_PARAMETERS: Table = {
    **SAMPLING,
    "max_tokens": ("max_tokens", None),
    "logprobs": ("logprobs", None),
    "logit_bias": ("logit_bias", None),
    "user": ("user", None),
}

_WRITERS: dict[str, Writer] = {"stop": write_stop}


def decode_request(wire: Mapping[str, Any]) -> ModelRequest:
    """Read the body of a completion request; tokens are `Opaque`."""
    return ModelRequest(
        as_str(wire.get("model")),
        read_prompts(wire.get("prompt"), "tokens"),
        [],
        [],
        read_parameters(wire, _PARAMETERS),
        wire.get("stream") is True,
    )


def encode_request(request: ModelRequest, wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return `wire` changed where `request` differs; see `Codec.encode_request`.

    Raises:
        CodecError: a prompt is neither one text nor one list of tokens, or there are instructions or tools.
    """
    old = decode_request(wire)
    refuse_more(request, "a completion request")
    out = patch_request(old, request, wire, _PARAMETERS, writers=_WRITERS)
    if request.messages != old.messages:
        out["prompt"] = patch_prompts(old.messages, request.messages, wire.get("prompt"), "a prompt")
    return out


def decode_response(wire: Mapping[str, Any]) -> ModelResponse:
    """Read the body of a completion answer; see `Codec.decode_response`."""
    choices = as_list(wire.get("choices"))
    messages = [_read_choice(choice) for choice in choices]
    return ModelResponse(
        as_str(wire.get("id")),
        as_str(wire.get("model")),
        messages,
        [message.finish_reason for message in messages if message.finish_reason is not None],
        decode_usage(wire.get("usage")),
        decode_error(wire) or decode_choice_error(as_list(wire.get("choices"))),
        {key: wire[key] for key in CHOICES_PARAMETERS if wire.get(key) is not None},
        read_tokens(wire, as_mapping(choices[0])) if choices else None,
    )


def _read_choice(choice: Any) -> Message:
    choice = as_mapping(choice)
    text = as_str(choice.get("text"))
    return Message("assistant", [Text(text)] if text else [], None, as_str(choice.get("finish_reason")))


def encode_response(response: ModelResponse, wire: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return `wire` changed where `response` differs, or a whole body; see `Codec.encode_response`.

    Raises:
        CodecError: a message holds anything but text.
    """
    if wire is None:
        if response.error is not None and not response.messages:
            return {"error": encode_error(response.error, {})}
        wire = blank_choices("cmpl", "text_completion")
    old = decode_response(wire)
    out = patch_identity(wire, old, response)
    if response.messages != old.messages:
        choices = patch_sequence(
            old.messages,
            response.messages,
            as_list(wire.get("choices")),
            patch=_patch_choice,
            build=lambda message: _patch_choice(Message("assistant"), message, {}),
            alike=lambda _old, _new: True,
        )
        out["choices"] = [{**choice, "index": index} for index, choice in enumerate(choices)]
    patch_outcome(out, old, response, CHOICES_PARAMETERS)
    return out


def _patch_choice(_old: Message, new: Message, choice: Any) -> list[Any]:
    if not all(isinstance(part, Text) for part in new.parts):
        kinds = [type(part).__name__ for part in new.parts]
        raise CodecError(f"a completion is one text, not the parts {kinds!r}")
    blank = {"index": 0, "logprobs": None, "finish_reason": "stop"}
    out = {**blank, **as_mapping(choice), "text": new.text}
    if new.finish_reason is not None:
        out["finish_reason"] = new.finish_reason
    return [out]


is_whole = finished


def accumulator() -> CompletionsAccumulator:
    """Return a fresh accumulator for one stream."""
    return CompletionsAccumulator()
