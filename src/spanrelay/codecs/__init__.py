"""Wire JSON of one provider API to records and back: each folder is one codec, named after the wire API.

In a codec's `__init__` is how it reads and writes bodies, in `messages` how one message, in `stream` how the events of
a stream; `plain` is for routes that no codec knows. What several share stands beside them.

Pure: no I/O, no OpenTelemetry, no SDK. A codec never mutates the wire it is given.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Protocol, cast

from spanrelay.codecs.offers import Keeps
from spanrelay.errors import ConfigurationError
from spanrelay.records import ModelRequest, ModelResponse


class Accumulator(Protocol):
    """Adds up the events of one streamed answer."""

    def add(self, event: Mapping[str, Any]) -> None:
        """Take in one event of the stream."""
        ...

    def result(self) -> dict[str, Any]:
        """Return the wire body that a call without streaming would have got, as far as events have come."""
        ...


class Codec(Protocol):
    """What every codec module offers."""

    operation: str
    """The `gen_ai.operation.name` of the API: `chat`, `text_completion`, `embeddings`."""
    required: tuple[tuple[str, ...], ...]
    """What a request must have: of each tuple of keys, one."""

    def decode_request(self, wire: Mapping[str, Any], /) -> ModelRequest:
        """Read a request body. Never raises on JSON; what it cannot place becomes `Opaque` or is left out."""
        ...

    def encode_request(self, request: ModelRequest, wire: Mapping[str, Any], /) -> dict[str, Any]:
        """Return `wire` changed only where `request` differs from `decode_request(wire)`.

        Everything else (unknown fields, order, signatures) survives byte for byte.

        Raises:
            CodecError: the record holds something that this API has no form for.
        """
        ...

    def sift_tools(self, wire: Mapping[str, Any], keeps: Keeps, /) -> Mapping[str, Any]:
        """Return `wire` without the tools that `keeps` says no to; `wire` itself where there are none.

        `keeps` is asked about every place that names or offers a tool. What is left is a request that the API
        takes; what cannot be taken out of one, such as what a stored prompt holds, stays.
        """
        ...

    def decode_response(self, wire: Mapping[str, Any], /) -> ModelResponse:
        """Read a response body, an error body included. Never raises on JSON."""
        ...

    def encode_response(self, response: ModelResponse, wire: Mapping[str, Any] | None = None, /) -> dict[str, Any]:
        """Return `wire` changed where `response` differs from it; without `wire`, a whole new valid body."""
        ...

    def accumulator(self) -> Accumulator:
        """Return a fresh accumulator for one stream."""
        ...

    def stream_events(self, wire: Mapping[str, Any], /) -> Iterator[dict[str, Any]]:
        """Yield the stream events that add up to the body `wire`, for answers not from the provider."""
        ...

    # A codec of an API that names models in places of its own has `models_beside(wire)`, which yields them.
    # A codec of an API whose streams say when they are over also has `is_whole(wire)`: whether an answer, as far as its
    # events have come, is at its end. One whose streams hold text has `stream_texts(event)`. One of an API that has no
    # status "failed" says `fails_by_status = False`. One whose answers are a list says under which key, `answers_with`,
    # and what an object in it lacks that every SDK reads, `doubt_about(item)`: a text, or None.
    # One that knows several places for one parameter has `single_parameters(wire, names)`: `wire` with each of the
    # parameters `names` in the place that counts alone, or `wire` itself.
    # One whose requests let a provider run tools has `approvals_in(wire)`, the ids and calls that one approves, and
    # `approvals_asked(parts)`, the calls that an answer asks it to.
    # One whose requests repeat a conversation has `turns = Turns(key, read_one)`, by which it reads them: whatever an
    # earlier request of the conversation said is then not read, written or compared again. One whose requests say
    # the end of it elsewhere has `items_beside(wire)`: that, as such items.


def may_say_failed(data: bytes, codec: Codec) -> bool:
    """Whether the JSON in `data`, a body or the events of a stream, may say that the call failed.

    A search of bytes, since it is made for each answer before its span ends; a codec then has the last word.
    """
    at = data.find(_ERROR)
    while at >= 0:
        at += len(_ERROR)
        if _NO_ERROR.match(data, at) is None:
            return True
        at = data.find(_ERROR, at)
    return getattr(codec, "fails_by_status", True) and _FAILED in data


_ERROR, _FAILED = b'"error"', b'"failed"'
_NO_ERROR = re.compile(rb'\s*:\s*(?:null|""|\{\s*\}|false)')


def load(name: str) -> Codec:
    """Return the codec `name`: `openai_chat`, `openai_responses` and its siblings here.

    A codec is also found by the name that it had before.

    Raises:
        ConfigurationError: there is none.
    """
    try:
        module = import_module(f"{__name__}.{_RENAMED.get(name, name)}")
    except ModuleNotFoundError:
        module = None
    if module is None or not hasattr(module, "decode_request"):
        known = ", ".join(entry.name for entry in pkgutil.iter_modules(__path__) if _is_codec(entry.name))
        raise ConfigurationError(f"there is no codec {name!r}; use one of {known}")
    return cast("Codec", module)


_RENAMED = {"langchain_messages": "langchain"}


def _is_codec(name: str) -> bool:
    return hasattr(import_module(f"{__name__}.{name}"), "decode_request")
