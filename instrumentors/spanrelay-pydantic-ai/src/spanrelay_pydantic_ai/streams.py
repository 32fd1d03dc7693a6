"""Streams of a model on their way to the run: the framework's own, or one of what policy made of it.

The framework's stream stays the object that the run reads; only where its events come from is ours.
"""

from __future__ import annotations

import copy
import dataclasses
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, cast

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay.codecs import Codec
from spanrelay.codecs.narrowing import as_list, as_mapping
from spanrelay.pipeline.model import ModelCall
from spanrelay.pipeline.stream import Arrived, AsyncTap
from spanrelay_pydantic_ai import wire


class Said(Arrived):
    """What has come of a stream of the framework's, which adds it up itself."""

    __slots__ = ("_stream", "_whole")

    def __init__(self, stream: Any) -> None:
        super().__init__("unkept", None)
        self._stream = stream
        self._whole: dict[str, Any] | None = None

    def body(self, codec: Codec) -> dict[str, Any]:
        """Return the body that the events so far add up to."""
        return wire.body_of(self._stream.get()) if self._whole is None else self._whole

    def is_whole(self, codec: Codec) -> bool | None:
        """Whether the stream says that it is complete, else None: one that replays an answer asks for none here."""
        return True if self._stream.get().state == "complete" else None

    def begin_again(self) -> None:
        """Let the stream add up its events from the first one on, once more."""
        self._whole = wire.body_of(self._stream.get())
        self._stream.__dict__.pop("_parts_manager", None)

    def add_up(self, event: Any) -> None:
        """Let the stream add up `event`, which has been there before."""
        self._stream._parts_manager.apply_event(event)


class EventTap(AsyncTap):
    """The events of a model's stream on their way to the stream that adds them up."""

    __slots__ = ("_check", "_drained", "_said")

    def __init__(self, call: ModelCall, stream: Any, check: Any) -> None:
        super().__init__(call, stream._get_event_iterator(), left_open, form="unkept")
        self.arrived = self._said = Said(stream)
        self._check = check
        self._drained = False

    def _take(self, chunk: Any) -> Any:
        call = cast("ModelCall", self.call)
        if call.record.time_to_first_chunk is None:
            self._check(call)
            call.record.time_to_first_chunk = (time.perf_counter_ns() - call.started) / 1e9
        return chunk

    def _collect(self, ready: deque[Any], taken: Any) -> None:
        if getattr(taken, "event_kind", None) == "part_start":
            # The stream goes on writing into the part that it began with.
            taken = dataclasses.replace(taken, part=copy.copy(taken.part))
        super()._collect(ready, taken)

    async def drain(self) -> None:
        """Read to the end. Whoever gets the stream then is to see it come, not a stream that has come."""
        await super().drain()
        self._said.begin_again()
        self._drained = True

    def _next_ready(self) -> Any:
        event = super()._next_ready()
        if self._drained and hasattr(event, "event_kind"):
            self._said.add_up(event)
        return event

    def _is_whole(self, *, failed: bool = False) -> bool | None:
        with guarded("reading how a stream ended"):
            return self._said.is_whole(cast("ModelCall", self.call).codec)
        return None

    def _end(self) -> None:
        call = cast("ModelCall", self.call)
        if call.observed and not call.delegated:
            with guarded("keeping a model's answer"):
                call.body = _json.dumps(self.arrived.body(call.codec))
        call.arrived = None
        super()._end()


async def left_open() -> None:
    """The context manager that opened a stream closes it, in the task that entered it."""


async def chunks_of(stream: Any, model: str) -> AsyncIterator[dict[str, Any]]:
    """Pass on the events of a stream as chunks of the Chat Completions API, which stream intercepts look at."""
    async for event in stream._get_event_iterator():
        delta = _delta_of(event)
        if delta:
            yield _chunk(model, {"index": 0, "delta": delta, "finish_reason": None})
    response = stream.get()
    body = wire.body_of(response)
    last = _chunk(model, {"index": 0, "delta": {}, "finish_reason": body["choices"][0]["finish_reason"]})
    yield {**last, "usage": body["usage"]} if "usage" in body else last


def _chunk(model: str, choice: dict[str, Any]) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "model": model, "choices": [choice]}


def _delta_of(event: Any) -> dict[str, Any]:
    kind = event.event_kind
    if kind == "part_start":
        part, is_new = event.part, True
    elif kind == "part_delta":
        part, is_new = event.delta, False
    else:
        return {}
    what = getattr(part, "part_kind", None) or part.part_delta_kind
    if what == "text":
        return {"content": part.content if is_new else part.content_delta}
    if what == "thinking":
        return {"reasoning_content": (part.content if is_new else part.content_delta) or ""}
    if what in ("tool-call", "tool_call"):
        return {"tool_calls": [_call_delta(part, event.index, is_new=is_new)]}
    return {}


def _call_delta(part: Any, index: int, *, is_new: bool) -> dict[str, Any]:
    arguments = part.args if is_new else part.args_delta
    if arguments is not None and not isinstance(arguments, str):
        arguments = _json.dumps_text(arguments)
    function = {"arguments": arguments or ""}
    if not is_new:
        return {"index": index, "function": function}
    return {
        "index": index,
        "id": part.tool_call_id,
        "type": "function",
        "function": {"name": part.tool_name, **function},
    }


def said(chunks: AsyncIterator[Any], model: Any, parameters: Any) -> Any:
    """Return a `StreamedResponse` that says what `chunks` of the Chat Completions API say."""
    return _said_stream()(parameters, _chunks=chunks, _model=model)


@lru_cache(maxsize=1)
def _said_stream() -> Any:
    from pydantic_ai._utils import now_utc
    from pydantic_ai.models import StreamedResponse

    @dataclasses.dataclass
    class SaidStream(StreamedResponse):
        """A stream of chunks that are policy's, or that it has looked at."""

        _chunks: Any = None
        _model: Any = None
        _moment: datetime = dataclasses.field(default_factory=now_utc)

        async def _get_event_iterator(self) -> AsyncIterator[Any]:
            async for chunk in self._chunks:
                for event in self._read(chunk):
                    yield event

        def _read(self, chunk: Mapping[str, Any]) -> Iterator[Any]:
            if chunk.get("usage"):
                self._usage = wire.read_usage(as_mapping(chunk["usage"]))
            self.provider_response_id = chunk.get("id") or self.provider_response_id
            for choice in as_list(chunk.get("choices")):
                self.finish_reason = wire.read_reason(choice.get("finish_reason")) or self.finish_reason
                yield from _events_of(self._parts_manager, as_mapping(choice.get("delta")))

        async def close_stream(self) -> None:
            """Whoever opened the stream behind this one closes it."""

        @property
        def model_name(self) -> str:
            return self._model.model_name

        @property
        def provider_name(self) -> str | None:
            return self._model.system

        @property
        def provider_url(self) -> str | None:
            return self._model.base_url

        @property
        def timestamp(self) -> datetime:
            return self._moment

    return SaidStream


def _events_of(parts: Any, delta: Mapping[str, Any]) -> Iterator[Any]:
    if delta.get("reasoning_content"):
        yield from parts.handle_thinking_delta(vendor_part_id="reasoning", content=delta["reasoning_content"])
    if delta.get("content"):
        yield from parts.handle_text_delta(vendor_part_id="content", content=delta["content"])
    for call in as_list(delta.get("tool_calls")):
        function = as_mapping(call.get("function"))
        yield from parts.handle_tool_call_delta_events(
            vendor_part_id=call.get("index"),
            tool_name=function.get("name"),
            args=function.get("arguments"),
            tool_call_id=call.get("id"),
        )
