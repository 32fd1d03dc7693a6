"""A request to Gemini that names a model and is none for content: tokens to count, caches, batches, images, tuning.

Of the request only the model is read, and every tool that it offers; of the answer its usage and its error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

from spanrelay.codecs import Codec, gemini_generate_content
from spanrelay.codecs.bodies import one_event, patch_request, whole_body
from spanrelay.codecs.gemini_generate_content.tools import sift_tools
from spanrelay.codecs.gemini_shapes import both, decode_usage, field, model_name
from spanrelay.codecs.gemini_shapes import models_beside as named_in
from spanrelay.codecs.narrowing import as_list, as_mapping, as_str
from spanrelay.codecs.offers import each
from spanrelay.codecs.openai_shapes import decode_error
from spanrelay.codecs.patching import put
from spanrelay.errors import CodecError
from spanrelay.records import ModelRequest, ModelResponse

__all__ = [
    "accumulator",
    "decode_request",
    "decode_response",
    "encode_request",
    "encode_response",
    "models_beside",
    "operation",
    "required",
    "sift_tools",
    "stream_events",
    "with_requests",
]

operation = "generate_content"
required = (("model",),)
accumulator = whole_body
stream_events = one_event


_HOLDERS = both(
    dict.fromkeys(
        ("generateContentRequest", "batch", "inputConfig", "requests", "request", "bidiGenerateContentSetup", "setup")
    )
)
_NAMED = (
    ("embeddingModel",),
    ("preTunedModel", "tunedModelName"),
    ("distillationSpec", "baseTeacherModel"),
    ("distillationSpec", "tunedTeacherModelSource"),
    ("evaluationConfig", "autoraterConfig", "autoraterModel"),
)
"""Where a store, or work on a model, names models."""


def models_beside(wire: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the models that this request names beside its own, and those that requests within it name."""
    yield from named_in(wire)
    yield from named_in(wire, _NAMED)
    for key in _HOLDERS:
        held = wire.get(key)
        for fields in filter(None, map(as_mapping, as_list(held) or [held])):
            model = fields.get("model")
            if model is not None:
                yield model_name(model) if isinstance(model, str) else model
            yield from models_beside(fields)


def with_requests(
    wire: Mapping[str, Any], change: Callable[[Codec, Mapping[str, Any]], Mapping[str, Any]]
) -> Mapping[str, Any]:
    """Return a batch with what `change` makes of each of its requests for content."""
    out = wire
    for key in _HOLDERS:
        held = wire.get(key)
        if held is None:
            continue
        left = _changed(held, change, is_request=key == "request")
        if left is not held:
            out = {**out, key: left}
    return out


def _changed(held: Any, change: Callable[[Codec, Mapping[str, Any]], Mapping[str, Any]], *, is_request: bool) -> Any:
    if isinstance(held, (list, tuple)):
        return each(held, "", lambda item, _: _changed(item, change, is_request=is_request))
    if not isinstance(held, Mapping):
        return held
    fields = cast("Mapping[str, Any]", held)
    if is_request and "contents" in fields:
        return change(cast("Codec", gemini_generate_content), fields)
    return with_requests(fields, change)


def decode_request(wire: Mapping[str, Any]) -> ModelRequest:
    """Read the model."""
    return ModelRequest(as_str(wire.get("model")), stream=wire.get("stream") is True)


def encode_request(request: ModelRequest, wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return `wire` with another model.

    Parameters are left out: whether the route has them, nobody knows.

    Raises:
        CodecError: something else differs, for which no form is known.
    """
    old = replace(decode_request(wire), parameters=request.parameters)
    if replace(request, model=old.model, stream=old.stream) != old:
        raise CodecError("of this request only the model can be changed; edit `call.wire` instead")
    return patch_request(old, request, wire, {})


def decode_response(wire: Mapping[str, Any]) -> ModelResponse:
    """Read the usage and the error of an answer."""
    usage = decode_usage(field(wire, "usageMetadata"))
    return ModelResponse(None, as_str(field(wire, "modelVersion")), usage=usage, error=decode_error(wire))


def encode_response(response: ModelResponse, wire: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return `wire` with another error.

    Raises:
        CodecError: something else differs, or there is no answer and none can be made of a record.
    """
    if wire is None and response.error is None:
        raise CodecError("an answer on this route cannot be made from a record; return its JSON instead")
    out: dict[str, Any] = dict(wire or {})
    old, error = decode_response(out), response.error
    if wire is not None and replace(response, error=old.error) != old:
        raise CodecError("only the error of this answer can be changed; return its JSON instead")
    if error != old.error:
        told = error and {"code": error.status_code or 500, "message": error.message, "status": error.type}
        put(out, "error", told)
    return out
