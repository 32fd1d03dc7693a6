"""Answers on their way: the events of a stream, and the body of a model's own, in objects that the SDK made.

Bytes are kept as they come; what the application holds stays the SDK's own object, and its errors are the SDK's.
"""

from __future__ import annotations

import http.client
import io
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

from spanrelay import _json
from spanrelay.codecs import Codec, aws_events
from spanrelay.pipeline.model import ModelCall
from spanrelay.pipeline.stream import Arrived, AsyncTap, SyncTap, Tap
from spanrelay_bedrock.counts import KEY
from spanrelay_bedrock.operations import as_given, as_json

_STOP = b"\x0bmessageStop"
"""How the header of Converse's last word ends."""


class Frames(Arrived):
    """What has come of an event stream, as its bytes."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("frames", None)

    def data(self) -> bytes:
        """Return nothing to look for failures in: the SDK raises them."""
        return b""

    def items(self) -> list[Any]:
        """Return the events."""
        return aws_events.events(b"".join(self.chunks))

    def body(self, codec: Codec) -> dict[str, Any]:
        """Return the body that the events so far add up to."""
        accumulator = codec.accumulator()
        for event in self.items():
            accumulator.add(event)
        return accumulator.result()

    def tail(self) -> bytes:
        """Return nothing: no server-sent event ends these."""
        return b""

    def is_whole(self, codec: Codec, body: Mapping[str, Any] | None = None) -> bool | None:
        """Whether the last word has come: of Converse, or AWS's counts in the last event of a model's own."""
        data = b"".join(self.chunks)
        if _STOP in data:
            return True
        last = next(iter(aws_events.events(aws_events.last(data))), {})
        return KEY in last


class _Event(dict[str, Any]):
    """An event as its codec reads it; `native` is what the SDK hands out."""

    native: Any = None


class Reading:
    """How the events of one stream are read for stream intercepts, and handed out again."""

    def __init__(self, shape: Any, *, chunks: bool) -> None:
        self._shape = shape
        self._chunks = chunks

    def read(self, native: Any) -> _Event:
        """Return an event as its codec reads it."""
        told = _json.loads_object(native.get("chunk", {}).get("bytes") or b"") if self._chunks else native
        event = _Event(told if self._chunks else as_json(self._shape, told))
        event.native = native
        return event

    def given(self, event: Any) -> Any:
        """Return an event as the SDK hands it out: its own object, unless an intercept made another of it."""
        if isinstance(event, _Event):
            return event.native
        return {"chunk": {"bytes": _json.dumps(event)}} if self._chunks else as_given(self._shape, event)


class _Whole(Tap):
    """What both colours share: where the bytes are kept that have come."""

    __slots__ = ()

    @property
    def kept(self) -> list[bytes] | None:
        """Where bytes that have come are kept; None where the events that are made of them are."""
        return self.arrived.chunks if isinstance(self.arrived, Frames) else None

    def begin(self) -> None:
        """Note that the first bytes have come."""
        self.call.record.time_to_first_chunk = (time.perf_counter_ns() - self.call.started) / 1e9


class EventTap(_Whole, SyncTap):
    """The events of a stream."""

    __slots__ = ()


class AsyncEventTap(_Whole, AsyncTap):
    """The events of a stream of aiobotocore's, which closes without waiting."""

    __slots__ = ()

    def close(self) -> None:
        """Close the source, and end the call as far as that goes without waiting."""
        work = self.aclose()
        try:
            work.send(None)
        except StopIteration:
            return
        work.close()


class _StandIn:
    """Has what the raw response has that it stands for."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)


class _RawEvents(_StandIn):
    tap: EventTap

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        kept = self.tap.kept
        for chunk in self._raw.stream(*args, **kwargs):
            if kept is not None:
                if not kept:
                    self.tap.begin()
                kept.append(chunk)
            yield chunk

    def close(self) -> None:
        self.tap.close()


class _AsyncRawEvents(_StandIn):
    tap: AsyncEventTap

    @property
    def content(self) -> _AsyncRawEvents:
        return self

    async def iter_chunks(self) -> AsyncIterator[Any]:
        kept = self.tap.kept
        async for chunk in self._raw.content.iter_chunks():
            if kept is not None:
                if not kept:
                    self.tap.begin()
                kept.append(chunk[0])
            yield chunk

    def close(self) -> None:
        self.tap.close()


def tap_events(call: ModelCall, stream: Any, reading: Reading) -> None:
    """Put a tap into an event stream that nobody has begun to read."""
    raw, rewritten = stream._raw_stream, call.rewriting is not None
    stand_in = stream._raw_stream = _RawEvents(raw)
    source = _parsed(stream._event_generator, stream._parse_event, reading.read if rewritten else None)
    tap = EventTap(call, source, raw.close, form="events" if rewritten else "unkept")
    stand_in.tap = _set(call, stream, tap)
    stream._parse_event = reading.given if rewritten else _same


def tap_aio_events(call: ModelCall, stream: Any, reading: Reading) -> None:
    """Put a tap into an event stream of aiobotocore's that nobody has begun to read."""
    raw, rewritten = stream._raw_stream, call.rewriting is not None

    async def shut() -> None:
        raw.close()

    async def given(event: Any) -> Any:
        return reading.given(event) if rewritten else event

    stand_in = stream._raw_stream = _AsyncRawEvents(raw)
    source = _aparsed(stream._event_generator, stream._parse_event, reading.read if rewritten else None)
    tap = AsyncEventTap(call, source, shut, form="events" if rewritten else "unkept")
    stand_in.tap = _set(call, stream, tap)
    stream._parse_event = given


def _set(call: ModelCall, stream: Any, tap: Any) -> Any:
    if call.rewriting is None:
        tap.arrived = Frames()
    stream._event_generator = call.tap = tap
    return tap


def _same(event: Any) -> Any:
    return event


def _parsed(events: Any, parse: Any, read: Callable[[Any], Any] | None) -> Iterator[Any]:
    for event in events:
        parsed = parse(event)
        if parsed:
            yield parsed if read is None else read(parsed)


async def _aparsed(events: Any, parse: Any, read: Callable[[Any], Any] | None) -> AsyncIterator[Any]:
    async for event in events:
        parsed = await parse(event)
        if parsed:
            yield parsed if read is None else read(parsed)


# --- bodies ------------------------------------------------------------------------------------------------


class Kept(_StandIn):
    """The raw response of a body that was read: the same bytes, in whatever pieces, and the same failure at its end."""

    def __init__(self, raw: Any, data: bytes, failure: Exception | None = None, missing: int = 0) -> None:
        super().__init__(raw)
        self._data = io.BytesIO(data)
        self._failure = failure
        self._missing = missing

    def _taken(self, size: int | None) -> bytes:
        data = self._data.read(size)
        if self._failure is not None and (size is None or size < 0 or (not data and size > 0)):
            raise self._failure
        if self._missing and (size is None or size < 0):
            raise _broken(data, self._missing)
        return data


def _broken(data: bytes, missing: int) -> Exception:
    """Return what urllib3 raises where it is asked for all that there is, and less than was announced comes.

    Whoever asks for pieces is not told by it.
    """
    error = http.client.IncompleteRead(data, missing)
    return import_module("urllib3.exceptions").ProtocolError(f"Connection broken: {error!r}", error)


class KeptBody(Kept):
    """That of botocore."""

    def read(self, amt: int | None = None, **_: Any) -> bytes:
        """Return the next bytes."""
        return self._taken(amt)

    def readinto(self, buffer: Any) -> int:
        """Put the next bytes into `buffer`."""
        data = self._taken(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readlines(self) -> list[bytes]:
        """Return the lines that are left."""
        return self._taken(None).splitlines(keepends=True)

    def stream(self, amt: int = 2**16, **_: Any) -> Iterator[bytes]:
        """Yield the bytes that are left, in pieces."""
        while data := self._taken(amt):
            yield data

    def readable(self) -> bool:
        """Whether it can be read."""
        return True

    def tell(self) -> int:
        """Return how much was read."""
        return self._data.tell()


class AsyncKeptBody(Kept):
    """That of aiobotocore, whose bytes stand in its `content`."""

    @property
    def content(self) -> AsyncKeptBody:
        """The reader of the bytes."""
        return self

    async def read(self, amt: int = -1) -> bytes:
        """Return the next bytes."""
        return self._taken(amt)

    async def iter_chunks(self) -> AsyncIterator[tuple[bytes, bool]]:
        """Yield the bytes that are left."""
        if data := self._taken(-1):
            yield data, True

    def at_eof(self) -> bool:
        """Whether nothing is left."""
        return self._failure is None and self._data.tell() == len(self._data.getbuffer())


def read_whole(body: Any) -> tuple[bytes, Exception | None]:
    """Read a body to its end, and let the application read it again; where that fails, as far as it goes.

    The failure is the SDK's own of what happened.
    """
    raw, pieces, failure = body._raw_stream, list[bytes](), None
    try:
        while piece := raw.read(2**16):
            pieces.append(piece)
    except Exception as error:
        failure = error
    data = b"".join(pieces)
    missing = max(0, int(body._content_length or 0) - len(data)) if failure is None else 0
    body._raw_stream = KeptBody(raw, data, failure, missing)
    try:
        type(body)(KeptBody(raw, data, failure, missing), body._content_length).read()
    except Exception as error:
        return data, error
    return data, None


async def aread_whole(body: Any) -> tuple[bytes, Exception | None]:
    """Read a body of aiobotocore's as `read_whole` does."""
    if hasattr(body, "_stream_exhausted"):  # over httpx, whose bodies keep what was read ahead
        body._buffer, body._amount_read = await body.read(), 0
        return body._buffer, None
    raw, pieces, failure = body._raw_stream, list[bytes](), None
    try:
        while piece := await raw.content.read(2**16):
            pieces.append(piece)
    except Exception as error:
        failure = error
    data = b"".join(pieces)
    body._raw_stream = AsyncKeptBody(raw, data, failure)
    try:
        await type(body)(AsyncKeptBody(raw, data, failure), body._content_length).read()
    except Exception as error:
        return data, error
    return data, None
