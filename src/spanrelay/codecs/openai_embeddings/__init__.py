"""The Embeddings API (`/embeddings`) of OpenAI and of the servers compatible with it.

The vectors themselves are never read: an answer says only how many there are and how long they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from spanrelay.codecs.bodies import one_event, patch_request, whole_body
from spanrelay.codecs.narrowing import as_list, as_mapping, as_str
from spanrelay.codecs.offers import sift_no_tools
from spanrelay.codecs.openai_shapes import decode_error, decode_usage, encode_error, encode_usage
from spanrelay.codecs.parameters import Table, Writer, read_parameters
from spanrelay.codecs.patching import put
from spanrelay.codecs.prompts import patch_prompts, read_prompts, refuse_more
from spanrelay.errors import CodecError
from spanrelay.records import JSON, ModelRequest, ModelResponse

operation = "embeddings"
answers_with = "data"


def doubt_about(item: Mapping[str, Any]) -> str | None:
    """Return what an item lacks, or None."""
    return None if isinstance(item.get("embedding"), (list, str)) else "has no list or string as 'embedding'"


required = (("model",), ("input",))
sift_tools = sift_no_tools
accumulator = whole_body
stream_events = one_event


def _read_formats(value: JSON) -> JSON:
    return value if isinstance(value, list) else [value]


_PARAMETERS: Table = {
    "encoding_format": ("encoding_formats", _read_formats),
    "dimensions": ("dimensions", None),
    "output_dimension": ("dimensions", None),
    "user": ("user", None),
}

_WRITERS: dict[str, Writer] = {
    "encoding_format": lambda value, _old: value[0] if len(as_list(value)) == 1 else value,
}


def decode_request(wire: Mapping[str, Any]) -> ModelRequest:
    """Read the body of an embeddings request; each input is a user message, tokens are `Opaque`."""
    return ModelRequest(
        as_str(wire.get("model")),
        read_prompts(wire.get("input"), "input"),
        [],
        [],
        read_parameters(wire, _PARAMETERS),
    )


def encode_request(request: ModelRequest, wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return `wire` changed where `request` differs; see `Codec.encode_request`.

    Raises:
        CodecError: an input is neither one text nor one list of tokens, or there are instructions or tools.
    """
    old = decode_request(wire)
    refuse_more(request, "an embeddings request")
    out = patch_request(replace(old, stream=request.stream), request, wire, _PARAMETERS, writers=_WRITERS)
    if request.messages != old.messages:
        out["input"] = patch_prompts(old.messages, request.messages, wire.get("input"), "an embeddings input")
    return out


def decode_response(wire: Mapping[str, Any]) -> ModelResponse:
    """Read the body of an embeddings answer: usage, and number and length of the vectors."""
    parameters: dict[str, JSON] = {}
    vectors = as_list(wire.get("data"))
    if vectors:
        parameters["embedding_count"] = len(vectors)
        dimensions = _dimensions(as_mapping(vectors[0]).get("embedding"))
        if dimensions is not None:
            parameters["embedding_dimensions"] = dimensions
    return ModelResponse(
        as_str(wire.get("id")),
        as_str(wire.get("model")),
        [],
        [],
        decode_usage(wire.get("usage")),
        decode_error(wire),
        parameters,
    )


def _dimensions(vector: Any) -> int | None:
    """Return the length of a vector: a list of numbers, or base64 of 4-byte floats, which is not decoded."""
    if isinstance(vector, str):
        return (len(vector) // 4 * 3 - vector[-2:].count("=")) // 4
    return len(cast("list[Any]", vector)) if isinstance(vector, list) else None


def encode_response(response: ModelResponse, wire: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return `wire` changed where `response` differs.

    Raises:
        CodecError: without `wire` there are no vectors to answer with, unless the answer is an error.
    """
    if wire is None:
        if response.error is None:
            raise CodecError("an embeddings answer cannot be made from a record, which holds no vectors")
        return {"error": encode_error(response.error, {})}
    old = decode_response(wire)
    out = dict(wire)
    if response.model != old.model:
        put(out, "model", response.model)
    if response.usage != old.usage:
        put(out, "usage", encode_usage(old.usage, response.usage, wire.get("usage")))
    if response.error != old.error:
        put(out, "error", response.error and encode_error(response.error, wire.get("error")))
    return out
