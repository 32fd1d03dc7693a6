"""Gemini's embeddings: `:batchEmbedContents` and `:embedContent`, and `:predict` of Vertex AI.

The path of a request names its model: what is called wire here has it as `model` beside what is in the body. The
vectors themselves are never read: an answer says only how many there are and how long they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from spanrelay.codecs.bodies import one_event, patch_request, whole_body
from spanrelay.codecs.gemini_generate_content.messages import patch_parts, read_content, write_parts
from spanrelay.codecs.gemini_shapes import both, decode_usage, field, model_name, put_field
from spanrelay.codecs.narrowing import as_int, as_list, as_mapping, as_str
from spanrelay.codecs.offers import sift_no_tools
from spanrelay.codecs.openai_shapes import decode_error
from spanrelay.codecs.parameters import Table, read_parameters, write_parameters
from spanrelay.codecs.patching import patch_sequence
from spanrelay.codecs.prompts import refuse_more
from spanrelay.errors import CodecError
from spanrelay.records import JSON, Message, ModelRequest, ModelResponse, Text, Usage

operation = "embeddings"
required = (("model",),)
sift_tools = sift_no_tools
accumulator = whole_body
stream_events = one_event

_PARAMETERS: Table = both({"outputDimensionality": ("dimensions", None), "taskType": ("task_type", None)})


def models_beside(wire: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the models that the requests of a batch name, which are to be that of the path."""
    for each in as_list(wire.get("requests")):
        model = as_mapping(each).get("model")
        if model is not None:
            yield model_name(model) if isinstance(model, str) else model


# --- requests ----------------------------------------------------------------------------------------------


def _place(wire: Mapping[str, Any]) -> str:
    """Return the key of the list of inputs; of an input alone, that of its content."""
    return next((key for key in ("requests", "instances", "content") if wire.get(key) is not None), "requests")


def _inputs(wire: Mapping[str, Any]) -> list[Any]:
    if _place(wire) == "content":
        return [wire]
    return as_list(wire.get(_place(wire)))


def _read_input(item: Any) -> Message:
    content = as_mapping(item).get("content")
    if isinstance(content, str):
        return Message("user", [Text(content)])
    return Message("user", read_content(content if isinstance(content, Mapping) else item).parts)


def _told(wire: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return where the parameters are: in each request alike, or beside the instances."""
    if _place(wire) == "instances":
        return as_mapping(wire.get("parameters"))
    return as_mapping(next(iter(_inputs(wire)), None))


def decode_request(wire: Mapping[str, Any]) -> ModelRequest:
    """Read a request for embeddings; each input is a user message."""
    parameters = read_parameters(_told(wire), _PARAMETERS)
    return ModelRequest(as_str(wire.get("model")), [_read_input(each) for each in _inputs(wire)], [], [], parameters)


def _patch_input(old: Message, new: Message, item: Any) -> list[Any]:
    content = as_mapping(item).get("content")
    if isinstance(content, str):
        return [{**item, "content": _text_of(new)}]
    known = as_mapping(content)
    return [{**as_mapping(item), "content": {**known, "parts": patch_parts(old.parts, new.parts, known.get("parts"))}}]


def _text_of(message: Message) -> str:
    if not all(isinstance(part, Text) for part in message.parts):
        raise CodecError("an embeddings input of Vertex AI is one text")
    return message.text


def encode_request(request: ModelRequest, wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return `wire` changed where `request` differs; see `Codec.encode_request`.

    Raises:
        CodecError: an input has no form here, or there are instructions or tools.
    """
    refuse_more(request, "an embeddings request")
    old = decode_request(wire)
    out = patch_request(replace(old, parameters=request.parameters, stream=request.stream), request, wire, {})
    if request.model != old.model:
        out = _rename(out, old.model, request.model)
    if request.messages != old.messages:
        out = _patch_inputs(out, old, request)
    if request.parameters != old.parameters:
        out = _patch_told(out, old.parameters, request.parameters)
    return out


def _rename(out: dict[str, Any], old: str | None, new: str | None) -> dict[str, Any]:
    """Return a batch whose requests name the new model where they named the old one."""
    requests = [
        {**each, "model": f"models/{new}"} if model_name(str(as_mapping(each).get("model"))) == old else each
        for each in as_list(out.get("requests"))
    ]
    return {**out, "requests": requests} if requests else out


def _patch_inputs(out: dict[str, Any], old: ModelRequest, new: ModelRequest) -> dict[str, Any]:
    place, known = _place(out), _inputs(out)
    like = as_mapping(known[0]) if known else {}

    def build(message: Message) -> list[Any]:
        content = _text_of(message) if place == "instances" else {"parts": write_parts(message.parts)}
        return [{**like, "content": content}]

    inputs = patch_sequence(
        old.messages, new.messages, known, patch=_patch_input, build=build, alike=lambda _a, _b: True
    )
    if place != "content":
        return {**out, place: inputs}
    if len(inputs) != 1:
        raise CodecError(f"this embeddings request takes one input, not {len(inputs)}")
    return {**out, "content": inputs[0]["content"]}


def _patch_told(out: dict[str, Any], old: Mapping[str, JSON], new: Mapping[str, JSON]) -> dict[str, Any]:
    def told(item: Any) -> dict[str, Any]:
        changed = dict(as_mapping(item))
        write_parameters(changed, old, new, _PARAMETERS, writers={}, inner_keys={})
        return changed

    place = _place(out)
    if place == "content":
        return told(out)
    if place == "instances":
        return {**out, "parameters": told(out.get("parameters"))}
    return {**out, place: [told(item) for item in _inputs(out)]}


# --- answers -----------------------------------------------------------------------------------------------


def decode_response(wire: Mapping[str, Any]) -> ModelResponse:
    """Read the body of an embeddings answer: usage, and number and length of the vectors."""
    found = [wire["embedding"]] if isinstance(wire.get("embedding"), Mapping) else as_list(wire.get("embeddings"))
    vectors = [as_mapping(each) for each in found] or [
        as_mapping(as_mapping(each).get("embeddings")) for each in as_list(wire.get("predictions"))
    ]
    parameters: dict[str, JSON] = {}
    if vectors:
        parameters["embedding_count"] = len(vectors)
        values = vectors[0].get("values")
        if isinstance(values, list):
            parameters["embedding_dimensions"] = len(as_list(values))
    return ModelResponse(
        as_str(field(wire, "responseId")),
        as_str(field(wire, "modelVersion")),
        [],
        [],
        decode_usage(field(wire, "usageMetadata")) or _usage_of(vectors),
        decode_error(wire),
        parameters,
    )


def _usage_of(vectors: list[Mapping[str, Any]]) -> Usage | None:
    """Return the tokens that Vertex AI counts for each input, added up."""
    counts = [as_int(field(as_mapping(vector.get("statistics")), "tokenCount")) for vector in vectors]
    told = [count for count in counts if count is not None]
    return Usage(sum(told)) if told else None


def encode_response(response: ModelResponse, wire: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return `wire` changed where the error or the model of `response` differs.

    Raises:
        CodecError: without `wire` there are no vectors to answer with, unless the answer is an error.
    """
    if wire is None:
        if response.error is None:
            raise CodecError("an embeddings answer cannot be made from a record, which holds no vectors")
        wire = {}
    old, out = decode_response(wire), dict(wire)
    if response.model != old.model and response.model is not None and "error" not in out:
        put_field(out, "modelVersion", response.model)
    if response.error != old.error:
        error = response.error
        out.pop("error", None)
        if error is not None:
            out["error"] = {"code": error.status_code or 500, "message": error.message, "status": error.type}
    return out
