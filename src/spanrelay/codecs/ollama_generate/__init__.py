"""Ollama's completion of a prompt (`/api/generate`): one prompt, which may have images, and one text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanrelay.codecs.narrowing import as_list, as_str
from spanrelay.codecs.offers import sift_no_tools
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
from spanrelay.codecs.patching import put
from spanrelay.errors import CodecError
from spanrelay.records import Media, Message, ModelRequest, ModelResponse, Opaque, Part, Reasoning, Text

__all__ = [
    "accumulator",
    "decode_request",
    "decode_response",
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
required = (("model",),)
sift_tools = sift_no_tools


def decode_request(wire: Mapping[str, Any]) -> ModelRequest:
    """Read a request; see `Codec.decode_request`."""
    system = wire.get("system")
    return ModelRequest(
        as_str(wire.get("model")),
        _read_prompt(wire),
        [Text(system)] if isinstance(system, str) and system else [],
        [],
        read_options(wire),
        wire.get("stream") is True,
    )


def _read_prompt(wire: Mapping[str, Any]) -> list[Message]:
    prompt = wire.get("prompt")
    parts: list[Part] = []
    if prompt:
        parts.append(Text(prompt) if isinstance(prompt, str) else Opaque("prompt", prompt))
    parts += [
        Media("image", None, None, image) if isinstance(image, str) else Opaque("image", image)
        for image in as_list(wire.get("images"))
    ]
    return [Message("user", parts)] if parts else []


def encode_request(request: ModelRequest, wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return `wire` changed where `request` differs; see `Codec.encode_request`.

    Raises:
        CodecError: there is more than one message, or tools, or a part that is neither text nor an image.
    """
    old = decode_request(wire)
    out = patch_fields(old, request, wire)
    if request.tools:
        raise CodecError("a completion has no tools; remove `tools`")
    if request.system != old.system:
        put(out, "system", "".join(part.text for part in request.system if isinstance(part, Text)) or None)
    if request.messages != old.messages:
        if len(request.messages) > 1:
            raise CodecError(f"a completion has one prompt, not {len(request.messages)} messages; keep one")
        _write_prompt(out, request.messages[0].parts if request.messages else [])
    return out


def _write_prompt(out: dict[str, Any], parts: list[Part]) -> None:
    images: list[Any] = []
    out["prompt"] = "".join(part.text for part in parts if isinstance(part, Text))
    for part in parts:
        if isinstance(part, Media) and part.data is not None:
            images.append(part.data)
        elif isinstance(part, Opaque) and part.type in ("image", "prompt"):
            images.append(part.data) if part.type == "image" else out.update(prompt=part.data)
        elif not isinstance(part, Text):
            raise CodecError(f"a prompt has text and images as base64, not a part of {type(part).__name__!r}")
    put(out, "images", images or None)


def decode_response(wire: Mapping[str, Any]) -> ModelResponse:
    """Read an answer; see `Codec.decode_response`."""
    reasons, text, thinking = read_reasons(wire), wire.get("response"), wire.get("thinking")
    parts: list[Part] = [Reasoning(thinking)] if isinstance(thinking, str) and thinking else []
    if isinstance(text, str) and text:
        parts.append(Text(text))
    messages = [Message("assistant", parts, None, reasons[0] if reasons else None)] if "response" in wire else []
    return ModelResponse(None, as_str(wire.get("model")), messages, reasons, read_usage(wire), read_error(wire))


def encode_response(response: ModelResponse, wire: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return `wire` changed where `response` differs, or a whole body; see `Codec.encode_response`.

    Raises:
        CodecError: there are several messages, or one holds anything but text and thinking.
    """
    if wire is None:
        if response.error is not None and not response.messages:
            return {"error": response.error.message}
        wire = blank(response="")
    old = decode_response(wire)
    out = dict(wire)
    if response.messages != old.messages:
        parts = [part for message in response.messages for part in message.parts]
        if len(response.messages) > 1 or not all(isinstance(part, (Text, Reasoning)) for part in parts):
            raise CodecError("a completion is one text; answer with one message of text")
        out["response"] = "".join(part.text for part in parts if isinstance(part, Text))
        put(out, "thinking", "".join(part.text for part in parts if isinstance(part, Reasoning)) or None)
        reason = response.messages[0].finish_reason if response.messages else None
        if reason is not None:
            out["done_reason"] = reason
    patch_outcome(out, old, response)
    return out
