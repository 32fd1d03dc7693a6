"""Cohere's ranking of documents (`/v2/rerank`, `/v1/rerank`): a query, and how well each document answers it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanrelay.codecs.bodies import one_event, patch_request, whole_body
from spanrelay.codecs.cohere_shapes import read_error, read_usage, set_error
from spanrelay.codecs.narrowing import as_list, as_str
from spanrelay.codecs.offers import sift_no_tools
from spanrelay.codecs.parameters import Table, read_parameters
from spanrelay.codecs.prompts import patch_prompts, read_prompts, refuse_more
from spanrelay.errors import CodecError
from spanrelay.records import ModelRequest, ModelResponse

operation = "rerank"
required = (("model",), ("query",), ("documents",))
sift_tools = sift_no_tools
accumulator = whole_body
stream_events = one_event

_PARAMETERS: Table = {"top_n": ("top_n", None), "max_tokens_per_doc": ("max_tokens_per_doc", None)}


def decode_request(wire: Mapping[str, Any]) -> ModelRequest:
    """Read a request; the query is a user message, and the documents stay where they are."""
    parameters = read_parameters(wire, _PARAMETERS)
    documents = as_list(wire.get("documents"))
    if documents:
        parameters["document_count"] = len(documents)
    return ModelRequest(as_str(wire.get("model")), read_prompts(wire.get("query"), "query"), [], [], parameters)


def encode_request(request: ModelRequest, wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return `wire` changed where `request` differs; see `Codec.encode_request`.

    Raises:
        CodecError: the query is not one text, or there are instructions or tools.
    """
    old = decode_request(wire)
    refuse_more(request, "a request to rank")
    old.stream = request.stream
    out = patch_request(old, request, wire, _PARAMETERS)
    if request.messages != old.messages:
        out["query"] = patch_prompts(old.messages, request.messages, wire.get("query"), "a query")
    return out


def decode_response(wire: Mapping[str, Any]) -> ModelResponse:
    """Read an answer: how many documents were ranked."""
    results = as_list(wire.get("results"))
    usage = read_usage(wire.get("meta"))
    told = {"result_count": len(results)} if "results" in wire else {}
    return ModelResponse(as_str(wire.get("id")), None, [], [], usage, read_error(wire), {**told})


def encode_response(response: ModelResponse, wire: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return `wire` changed where `response` differs.

    Raises:
        CodecError: without `wire` there are no ranks to answer with, unless the answer is an error.
    """
    if wire is None:
        if response.error is None:
            raise CodecError("an answer with ranks cannot be made from a record, which holds none")
        return {"message": response.error.message}
    out = dict(wire)
    if response.error != decode_response(wire).error:
        set_error(out, response.error)
    return out
