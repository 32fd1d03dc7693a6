"""Ollama's embeddings (`/api/embed`, and `/api/embeddings` for one prompt); the vectors themselves are never read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanrelay.codecs.bodies import one_event, whole_body
from spanrelay.codecs.narrowing import as_list, as_str
from spanrelay.codecs.offers import sift_no_tools
from spanrelay.codecs.ollama_shapes import patch_fields, patch_outcome, read_error, read_options, read_usage
from spanrelay.codecs.prompts import patch_prompts, read_prompts, refuse_more
from spanrelay.errors import CodecError
from spanrelay.records import JSON, ModelRequest, ModelResponse

operation = "embeddings"
required = (("model",), ("input", "prompt"))
sift_tools = sift_no_tools
accumulator = whole_body
stream_events = one_event


def _key(wire: Mapping[str, Any]) -> str:
    return "prompt" if "prompt" in wire and "input" not in wire else "input"


def decode_request(wire: Mapping[str, Any]) -> ModelRequest:
    """Read a request; each input is a user message."""
    return ModelRequest(
        as_str(wire.get("model")), read_prompts(wire.get(_key(wire)), "input"), [], [], read_options(wire)
    )


def encode_request(request: ModelRequest, wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return `wire` changed where `request` differs; see `Codec.encode_request`.

    Raises:
        CodecError: an input is not one text, or there are instructions or tools.
    """
    old = decode_request(wire)
    refuse_more(request, "an embeddings request")
    old.stream = request.stream
    out = patch_fields(old, request, wire)
    if request.messages != old.messages:
        key = _key(wire)
        out[key] = patch_prompts(old.messages, request.messages, wire.get(key), "an embeddings input")
    return out


def decode_response(wire: Mapping[str, Any]) -> ModelResponse:
    """Read an answer: the count of the prompt, and number and length of the vectors."""
    parameters: dict[str, JSON] = {}
    vectors = as_list(wire.get("embeddings")) or ([wire["embedding"]] if wire.get("embedding") else [])
    if vectors:
        parameters = {"embedding_count": len(vectors), "embedding_dimensions": len(as_list(vectors[0]))}
    return ModelResponse(None, as_str(wire.get("model")), [], [], read_usage(wire), read_error(wire), parameters)


def encode_response(response: ModelResponse, wire: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return `wire` changed where `response` differs.

    Raises:
        CodecError: without `wire` there are no vectors to answer with, unless the answer is an error.
    """
    if wire is None:
        if response.error is None:
            raise CodecError("an embeddings answer cannot be made from a record, which holds no vectors")
        return {"error": response.error.message}
    out = dict(wire)
    patch_outcome(out, decode_response(wire), response)
    return out
