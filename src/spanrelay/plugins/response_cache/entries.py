"""What is kept of an answer: the provider's JSON, and of a stream each event as it came.

Only a whole answer that ended as the model meant it is kept: half an answer would be given again and again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from spanrelay import _json
from spanrelay.codecs import sse
from spanrelay.pipeline.stream import read_frames
from spanrelay.plugins.response_cache.keys import VERSION
from spanrelay.records import ModelResponse
from spanrelay.semconv.names import FINISH_REASON_NAMES

_ENDS = frozenset({"stop", "tool_call", "STOP"})


class Unkept(Exception):
    """An answer is not kept; the text says why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer: when it was given, in seconds since the epoch, and how many tokens the provider counted for it."""

    at: float
    tokens: int | None
    body: Any
    events: list[dict[str, Any]] | None = None

    def to_bytes(self) -> bytes:
        """Return it as it is kept."""
        return _json.dumps([VERSION, self.at, self.tokens, self.body, self.events])

    @classmethod
    def of_bytes(cls, data: bytes) -> Entry | None:
        """Return the entry that was kept as `data`; None where it is none of this version."""
        told: Any = _json.loads(data)
        return cls(*told[1:]) if isinstance(told, list) and told[:1] == [VERSION] else None


def entry_of(call: Any, response: Any, now: float) -> Entry:
    """Return what is kept of an answer.

    Raises:
        Unkept: it is not to be given again.
    """
    if call.record.incomplete is not None or call.record.error is not None:
        raise Unkept("incomplete" if call.record.error is None else "error")
    if call.http_status not in (None, 200) or call.rewriting is not None:
        raise Unkept("error" if call.rewriting is None else "stream_intercepts")
    body, events = _said(call, response)
    if not body or getattr(call.codec, "is_whole", bool)(body) is False:
        raise Unkept("incomplete")
    answer: ModelResponse = call.codec.decode_response(body)
    if answer.error is not None:
        raise Unkept("error")
    ends = [message.finish_reason or "" for message in answer.messages]
    unlike = next((end for end in ends if FINISH_REASON_NAMES.get(end, end) not in _ENDS), None)
    if unlike is not None or not ends:
        raise Unkept(unlike or "incomplete")
    usage = answer.usage
    counts = () if usage is None else (usage.input_tokens, usage.output_tokens)
    tokens = sum(count for count in counts if count is not None) if any(counts) else None
    return Entry(now, tokens, body, events)


def _said(call: Any, response: Any) -> tuple[dict[str, Any], list[dict[str, Any]] | None]:
    """Return the body of an answer, and the events that it came in if it came so."""
    arrived = response.arrived
    if arrived is not None and arrived.form != "body":
        return arrived.body(call.codec), arrived.items()
    data = response.body if arrived is None else arrived.data()
    if not data:
        return {}, None
    if call.streams and not sse.is_one_body(data):
        return read_frames(data, call.codec), sse.events(data)
    return _json.loads_object(data), None
