"""Streamed answers: the SDK's own objects pass, and the JSON in them is kept for whoever reads it later.

Where stream intercepts are registered, frames of events pass instead, and what they left alone is the SDK's own again.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

from spanrelay import _json
from spanrelay.codecs import sse
from spanrelay.pipeline.model import ModelCall
from spanrelay.pipeline.stream import Arrived, AsyncTap, SyncTap

MODULE = "google.genai._api_client"


class Passing(NamedTuple):
    """A stream, as policy holds it; what the SDK reads is another object, which ends when nobody else holds it.

    `given` returns what the SDK gets of a frame; None where its own objects pass.
    """

    tap: Any
    given: Callable[[bytes], list[Any]] | None


def tapped(call: ModelCall, chunks: Any, first: list[Any]) -> Passing:
    """Tap the answers that the SDK yields, of which the `first` have come."""
    given = None
    if call.rewriting is None:
        said = Said()
        tap = SyncTap(call, _kept(chain(first, chunks), said, call), chunks.close, form="unkept")
        tap.arrived = said
    else:
        source = Frames(chunks, first)
        tap, given = SyncTap(call, source, chunks.close, form="frames"), source.of
    call.tap = tap
    return Passing(tap, given)


def atapped(call: ModelCall, chunks: Any) -> Passing:
    """Tap the answers that the SDK yields."""
    given = None
    if call.rewriting is None:
        said = Said()
        tap = AsyncTap(call, _AsyncKept(chunks, said, call), chunks.aclose, form="unkept")
        tap.arrived = said
    else:
        source = AsyncFrames(chunks, [])
        tap, given = AsyncTap(call, source, chunks.aclose, form="frames"), source.of
    call.tap = tap
    return Passing(tap, given)


def read(passing: Passing) -> Iterator[Any]:
    """Yield what the SDK gets of a stream; a generator, as its own is: left early, it closes what it reads."""
    tap, given = passing
    try:
        if given is None:
            yield from tap
        else:
            for frame in tap:
                yield from given(frame)
    finally:
        tap.close()


async def aread(passing: Passing) -> AsyncIterator[Any]:
    """Yield what the SDK gets of a stream, as `read` does."""
    tap, given = passing
    try:
        async for each in tap:
            if given is None:
                yield each
            else:
                for chunk in given(each):
                    yield chunk
    finally:
        await tap.aclose()


# --- as they come ------------------------------------------------------------------------------------------


class Said(Arrived):
    """What has come of a stream, as the JSON of its events."""

    __slots__ = ("texts",)

    def __init__(self) -> None:
        super().__init__("frames", None)
        self.texts: list[str | None] = []

    @property
    def size(self) -> int:
        """Characters that came, and bytes of what was read already."""
        return super().size + sum(len(text or "") for text in self.texts)

    def data(self) -> bytes:
        """Return the events as a server sends them."""
        texts, self.texts = self.texts, []
        if texts:
            self.chunks.append(
                "".join([f"data: {text or '{}'}\n\n" for text in texts]).encode("utf-8", "surrogatepass")
            )
        return super().data()

    def tail(self) -> bytes:
        """Return nothing: no event says that it is the last."""
        return b""


def _kept(chunks: Iterator[Any], said: Said, call: ModelCall) -> Iterator[Any]:
    for chunk in chunks:
        if call.record.time_to_first_chunk is None:
            _begin(call)
        said.texts.append(chunk.body)
        yield chunk


class _AsyncKept:
    """The async twin of `_kept`; no generator, which an event loop would have to close when it is dropped."""

    __slots__ = ("_call", "_chunks", "_said")

    def __init__(self, chunks: AsyncIterator[Any], said: Said, call: ModelCall) -> None:
        self._chunks, self._said, self._call = chunks, said, call

    async def __anext__(self) -> Any:
        chunk = await self._chunks.__anext__()
        if self._call.record.time_to_first_chunk is None:
            _begin(self._call)
        self._said.texts.append(chunk.body)
        return chunk


def _begin(call: ModelCall) -> None:
    call.record.time_to_first_chunk = (time.perf_counter_ns() - call.started) / 1e9


# --- as frames, and as policy makes them --------------------------------------------------------------------


class Frames:
    """The SDK's answers to a streamed request, as frames; remembers which is which."""

    __slots__ = ("_chunks", "_first", "_known", "headers")

    def __init__(self, chunks: Any, first: list[Any]) -> None:
        self._chunks = chunks
        self._first = first
        self._known: deque[tuple[bytes, Any]] = deque()
        self.headers: Any = {}

    def __iter__(self) -> Frames:
        return self

    def __next__(self) -> bytes:
        return self._frame(self._first.pop() if self._first else next(self._chunks))

    def _frame(self, chunk: Any) -> bytes:
        self.headers = chunk.headers
        frame = b"data: %b\n\n" % (chunk.body or "{}").encode("utf-8", "surrogatepass")
        self._known.append((frame, chunk))
        return frame

    def of(self, frame: bytes) -> list[Any]:
        """Return the answers that a frame is: the SDK's own where policy has left it as it was."""
        known = self._known
        while known:
            whole, chunk = known.popleft()
            if whole is frame:
                return [chunk]
        return [made(event, self.headers) for event in sse.events(frame)]


class AsyncFrames(Frames):
    """The async twin of `Frames`."""

    __slots__ = ()

    def __aiter__(self) -> AsyncFrames:
        return self

    async def __anext__(self) -> bytes:
        return self._frame(await anext(self._chunks))


def made(body: Mapping[str, Any], headers: Any) -> Any:
    """Return an answer of the API client's."""
    text = _json.dumps(body).decode()
    return sys.modules[MODULE].SdkHttpResponse(headers=headers, body=text)


async def amade(events: Iterator[dict[str, Any]]) -> AsyncIterator[Any]:
    """Yield an answer for each event."""
    for event in events:
        yield made(event, {})
