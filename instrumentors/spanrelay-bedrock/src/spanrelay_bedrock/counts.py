"""Tokens that a model's own body does not count: AWS does, in headers of an answer or in the last event of a stream.

They stand in the body under AWS's own key for those of streams, and count only where the body says nothing itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanrelay import _json
from spanrelay.codecs import Codec
from spanrelay.codecs.narrowing import as_int, as_mapping
from spanrelay.records import ModelResponse, Usage

KEY = "amazon-bedrock-invocationMetrics"
_HEADERS = {
    "inputTokenCount": "x-amzn-bedrock-input-token-count",
    "outputTokenCount": "x-amzn-bedrock-output-token-count",
    "cacheReadInputTokenCount": "x-amzn-bedrock-cache-read-input-token-count",
    "cacheWriteInputTokenCount": "x-amzn-bedrock-cache-write-input-token-count",
}


def with_counts(body: bytes, headers: Mapping[str, str]) -> bytes:
    """Return the JSON object `body` with the counts that stand in the headers of its answer."""
    told = {name: int(value) for name, key in _HEADERS.items() if (value := headers.get(key, "")).isdecimal()}
    data = body.rstrip()
    if not told or not data.endswith(b"}") or data.strip() == b"{}":
        return body
    return data[:-1] + b"," + _json.dumps({KEY: told})[1:]


def usage_of(wire: Mapping[str, Any]) -> Usage | None:
    """Return what AWS counted, or None."""
    told = as_mapping(wire.get(KEY))
    given, made, read, written = (as_int(told.get(name)) for name in _HEADERS)
    if given is None and made is None:
        return None
    # As everywhere at AWS, what the cache has to do with is counted apart.
    whole = None if given is None else given + (read or 0) + (written or 0)
    return Usage(whole, made, None, read, written)


class _Adding:
    """An accumulator that keeps AWS's counts beside what it adds up."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._told: Any = None

    def add(self, event: Mapping[str, Any]) -> None:
        """Take in one event."""
        if KEY in event:
            self._told = event[KEY]
        self._inner.add(event)

    def result(self) -> dict[str, Any]:
        """Return the body, with the counts."""
        body = self._inner.result()
        return body if self._told is None else {**body, KEY: self._told}


class Counting:
    """A codec that has AWS's counts where its own bodies have none."""

    def __init__(self, codec: Any) -> None:
        self._codec = codec

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codec, name)

    def decode_response(self, wire: Mapping[str, Any]) -> ModelResponse:
        """Read an answer."""
        response: ModelResponse = self._codec.decode_response(wire)
        usage = response.usage
        if usage is None or (usage.input_tokens is None and usage.output_tokens is None):
            response.usage = usage_of(wire)
        return response

    def accumulator(self) -> _Adding:
        """Return a fresh accumulator."""
        return _Adding(self._codec.accumulator())


_counting: dict[Any, Codec] = {}


def counting(codec: Any) -> Codec:
    """Return a codec with AWS's counts: always the same for the same codec."""
    made: Any = _counting.get(codec)
    if made is None:
        made = _counting[codec] = Counting(codec)  # pyright: ignore[reportArgumentType] - has what the codec has
    return made
