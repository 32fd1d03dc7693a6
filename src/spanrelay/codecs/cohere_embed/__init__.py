"""Cohere's embeddings (`/v2/embed`, `/v1/embed`); the vectors themselves are never read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from spanrelay.codecs.bodies import one_event, patch_request, whole_body
from spanrelay.codecs.cohere_shapes import read_error, read_usage, set_error, write_usage
from spanrelay.codecs.narrowing import as_list, as_mapping, as_str
from spanrelay.codecs.offers import sift_no_tools
from spanrelay.codecs.parameters import Table, read_parameters
from spanrelay.codecs.patching import put
from spanrelay.codecs.prompts import patch_prompts, read_prompts, refuse_more
from spanrelay.errors import CodecError
from spanrelay.records import JSON, ModelRequest, ModelResponse

operation = "embeddings"
required = (("model",), ("texts", "inputs", "images"))
sift_tools = sift_no_tools
accumulator = whole_body
stream_events = one_event

_PARAMETERS: Table = {
    "embedding_types": ("encoding_formats", None),
    "output_dimension": ("dimensions", None),
    "input_type": ("input_type", None),
    "truncate": ("truncate", None),
}


def _key(wire: Mapping[str, Any]) -> str:
    return next((key for key in ("texts", "inputs", "images") if wire.get(key)), "texts")


def decode_request(wire: Mapping[str, Any]) -> ModelRequest:
    """Read a request; each input is a user message, and what is no text is `Opaque`."""
    messages = read_prompts(wire.get(_key(wire)), "input")
    return ModelRequest(as_str(wire.get("model")), messages, [], [], read_parameters(wire, _PARAMETERS))


def encode_request(request: ModelRequest, wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return `wire` changed where `request` differs; see `Codec.encode_request`.

    Raises:
        CodecError: an input is not one text, or there are instructions or tools.
    """
    old = decode_request(wire)
    refuse_more(request, "an embeddings request")
    old.stream = request.stream
    out = patch_request(old, request, wire, _PARAMETERS)
    if request.messages != old.messages:
        key = _key(wire)
        out[key] = patch_prompts(old.messages, request.messages, as_list(wire.get(key)), "an embeddings input")
    return out


def decode_response(wire: Mapping[str, Any]) -> ModelResponse:
    """Read an answer: what was billed, and number and length of the vectors."""
    vectors = _vectors(wire.get("embeddings"))
    parameters: dict[str, JSON] = {}
    if vectors:
        parameters = {"embedding_count": len(vectors)}
        if isinstance(vectors[0], list):
            parameters["embedding_dimensions"] = len(cast("list[Any]", vectors[0]))
    usage = read_usage(wire.get("meta"))
    return ModelResponse(as_str(wire.get("id")), None, [], [], usage, read_error(wire), parameters)


def _vectors(embeddings: Any) -> list[Any]:
    """Return the vectors of the first type that was asked for."""
    if not isinstance(embeddings, Mapping):
        return as_list(embeddings)
    return next((as_list(value) for value in cast("Mapping[str, Any]", embeddings).values() if value), [])


def encode_response(response: ModelResponse, wire: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return `wire` changed where `response` differs.

    Raises:
        CodecError: without `wire` there are no vectors to answer with, unless the answer is an error.
    """
    if wire is None:
        if response.error is None:
            raise CodecError("an embeddings answer cannot be made from a record, which holds no vectors")
        return {"message": response.error.message}
    old, out = decode_response(wire), dict(wire)
    if response.usage != old.usage:
        put(out, "meta", write_usage(old.usage, response.usage, as_mapping(wire.get("meta"))))
    if response.error != old.error:
        set_error(out, response.error)
    return out
