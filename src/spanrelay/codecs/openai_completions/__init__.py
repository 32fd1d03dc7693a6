"""The legacy Completions API (`/completions`): a prompt of text, continued.

One prompt is one user message, one choice one message of the assistant; neither is ever split or joined.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, cast
from uuid import uuid4

from spanrelay.codecs.narrowing import as_list, as_mapping, as_str
from spanrelay.codecs.offers import sift_no_tools
from spanrelay.codecs.openai_completions.stream import CompletionsAccumulator, stream_events, stream_texts
from spanrelay.codecs.openai_shapes import (
    decode_choice_error,
    decode_error,
    decode_usage,
    encode_error,
    finished,
    patch_outcome,
)
from spanrelay.codecs.parameters import Table, Writer, read_parameters, write_parameters
from spanrelay.codecs.patching import patch_sequence, put
from spanrelay.codecs.tokens import read_tokens
from spanrelay.errors import CodecError
from spanrelay.records import JSON, Message, ModelRequest, ModelResponse, Opaque, Part, Text

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


def _read_stop(stop: JSON) -> JSON:
    return cast("list[Any]", stop) if isinstance(stop, list) else [stop]


_PARAMETERS: Table = {
    "temperature": ("temperature", None),
    "top_p": ("top_p", None),
    "top_k": ("top_k", None),
    "max_tokens": ("max_tokens", None),
    "frequency_penalty": ("frequency_penalty", None),
    "presence_penalty": ("presence_penalty", None),
    "seed": ("seed", None),
    "stop": ("stop_sequences", _read_stop),
    "n": ("choice_count", None),
    "logprobs": ("logprobs", None),
    "logit_bias": ("logit_bias", None),
    "user": ("user", None),
}

_WRITERS: dict[str, Writer] = {
    "stop": lambda value, old: value[0] if isinstance(old, str) and len(as_list(value)) == 1 else value,
}


def decode_request(wire: Mapping[str, Any]) -> ModelRequest:
    """Read the body of a completion request; tokens are `Opaque`."""
    return ModelRequest(
        as_str(wire.get("model")),
        [Message("user", _read_prompt(prompt)) for prompt in _prompts(wire.get("prompt"))],
        [],
        [],
        read_parameters(wire, _PARAMETERS),
        wire.get("stream") is True,
    )


def _prompts(value: Any) -> list[Any]:
    """Return the prompts one by one: a list of numbers is one prompt, as its tokens."""
    if value is None:
        return []
    if not isinstance(value, list) or (value and isinstance(value[0], int)):
        return [value]
    return cast("list[Any]", value)


def _read_prompt(prompt: Any) -> list[Part]:
    return [Text(prompt)] if isinstance(prompt, str) else [Opaque("tokens", prompt)]


def encode_request(request: ModelRequest, wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return `wire` changed where `request` differs; see `Codec.encode_request`.

    Raises:
        CodecError: a prompt is neither one text nor one list of tokens, or there are instructions or tools.
    """
    old = decode_request(wire)
    out = dict(wire)
    if request.system or request.tools:
        raise CodecError("a completion request has no instructions and no tools; remove `system` and `tools`")
    if request.model != old.model:
        put(out, "model", request.model)
    if request.stream != old.stream:
        out["stream"] = request.stream
    if request.messages != old.messages:
        out["prompt"] = _patch_prompts(old.messages, request.messages, wire.get("prompt"))
    if request.parameters != old.parameters:
        write_parameters(out, old.parameters, request.parameters, _PARAMETERS, writers=_WRITERS, inner_keys={})
    return out


def _patch_prompts(old: list[Message], new: list[Message], wire: Any) -> Any:
    prompts = patch_sequence(
        old,
        new,
        _prompts(wire),
        patch=lambda _old, message, _wire: [_write_prompt(message)],
        build=lambda message: [_write_prompt(message)],
        alike=lambda _old, _new: True,
    )
    return prompts[0] if len(prompts) == 1 and _prompts(wire) is not wire else prompts


def _write_prompt(message: Message) -> Any:
    parts = message.parts
    if all(isinstance(part, Text) for part in parts):
        return message.text
    if len(parts) == 1 and isinstance(parts[0], Opaque):
        return parts[0].data
    kinds = [type(part).__name__ for part in parts]
    raise CodecError(f"a prompt is one text or one list of tokens, not the parts {kinds!r}")


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
        {key: wire[key] for key in _RESPONSE_PARAMETERS if wire.get(key) is not None},
        read_tokens(wire, as_mapping(choices[0])) if choices else None,
    )


_RESPONSE_PARAMETERS = ("service_tier", "system_fingerprint")


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
        wire = _blank_response()
    old = decode_response(wire)
    out = dict(wire)
    for key in ("id", "model"):
        value = getattr(response, key)
        if value is not None and value != getattr(old, key):
            out[key] = value
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
    patch_outcome(out, old, response, _RESPONSE_PARAMETERS)
    return out


def _blank_response() -> dict[str, Any]:
    return {
        "id": f"cmpl-{uuid4().hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": "",
        "choices": [],
    }


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
