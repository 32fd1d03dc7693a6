"""The Embeddings API (`/embeddings`) of OpenAI and of the servers compatible with it.

The vectors themselves are never read: an answer says only how many there are and how long they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from spanrelay.codecs.narrowing import as_list, as_mapping, as_str
from spanrelay.codecs.offers import sift_no_tools
from spanrelay.codecs.openai_shapes import decode_error, decode_usage, encode_error, encode_usage
from spanrelay.codecs.parameters import Table, Writer, read_parameters, write_parameters
from spanrelay.codecs.patching import patch_sequence, put
from spanrelay.errors import CodecError
from spanrelay.records import JSON, Message, ModelRequest, ModelResponse, Opaque, Part, Text

operation = "embeddings"
answers_with = "data"


def doubt_about(item: Mapping[str, Any]) -> str | None:
    """Return what an item lacks, or None."""
    return None if isinstance(item.get("embedding"), (list, str)) else "has no list or string as 'embedding'"


required = (("model",), ("input",))
sift_tools = sift_no_tools


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
        [Message("user", _read_input(item)) for item in _inputs(wire.get("input"))],
        [],
        [],
        read_parameters(wire, _PARAMETERS),
    )


def _inputs(value: Any) -> list[Any]:
    """Return the inputs one by one: a list of numbers is one input, as its tokens."""
    if value is None:
        return []
    if not isinstance(value, list) or _is_tokens(value):
        return [value]
    return cast("list[Any]", value)


def _is_tokens(value: Any) -> bool:
    items = as_list(value)
    return bool(items) and isinstance(items[0], int)


def _read_input(item: Any) -> list[Part]:
    if isinstance(item, str):
        return [Text(item)]
    return [Opaque("tokens" if _is_tokens(item) else "input", item)]


def encode_request(request: ModelRequest, wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return `wire` changed where `request` differs; see `Codec.encode_request`.

    Raises:
        CodecError: an input is neither one text nor one list of tokens, or there are instructions or tools.
    """
    old = decode_request(wire)
    out = dict(wire)
    if request.system or request.tools:
        raise CodecError("an embeddings request has no instructions and no tools; remove `system` and `tools`")
    if request.model != old.model:
        put(out, "model", request.model)
    if request.messages != old.messages:
        inputs = patch_sequence(
            old.messages,
            request.messages,
            _inputs(wire.get("input")),
            patch=lambda _old, new, _wire: [_write_input(new)],
            build=lambda message: [_write_input(message)],
            alike=lambda _old, _new: True,
        )
        alone = len(inputs) == 1 and len(old.messages) == 1 and _inputs(wire.get("input")) is not wire["input"]
        out["input"] = inputs[0] if alone else inputs
    if request.parameters != old.parameters:
        write_parameters(out, old.parameters, request.parameters, _PARAMETERS, writers=_WRITERS, inner_keys={})
    return out


def _write_input(message: Message) -> Any:
    parts = message.parts
    if all(isinstance(part, Text) for part in parts):
        return message.text
    if len(parts) == 1 and isinstance(parts[0], Opaque):
        return parts[0].data
    kinds = [type(part).__name__ for part in parts]
    raise CodecError(f"an embeddings input is one text or one list of tokens, not the parts {kinds!r}")


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


class WholeBody:
    """The accumulator of an API that does not stream: the last event is the body."""

    __slots__ = ("_body",)

    def __init__(self) -> None:
        self._body: Mapping[str, Any] = {}

    def add(self, event: Mapping[str, Any]) -> None:
        """Take in the body."""
        self._body = event

    def result(self) -> dict[str, Any]:
        """Return the body."""
        return dict(self._body)


def accumulator() -> WholeBody:
    """Return an accumulator for the one event of `stream_events`."""
    return WholeBody()


def stream_events(wire: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the body itself: embeddings do not stream."""
    yield dict(wire)
