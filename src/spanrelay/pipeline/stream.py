"""The one home of stream endings: a stream is passed on chunk by chunk and ends its call exactly once.

Exhausted, closed, left, failed, cancelled or abandoned: what had arrived is kept. The call's context is attached
for each advance and detached after it, never held in between.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, cast

from opentelemetry.context import attach, detach

from spanrelay import _json
from spanrelay._guard import guarded, swallow
from spanrelay.codecs import Codec, sse
from spanrelay.pipeline.call import CANCELLATIONS, Call
from spanrelay.tracing import describe_error

_DONE = b"data: [DONE]"
_FAILURES = (b'data: {"error"', b"event: error", b'"type":"response.failed"', b'"type": "response.failed"')
_NOTHING = object()
_EVENT_SIZE = 200


class Arrived:
    """What has come of a stream. The call keeps this and not the stream, so that an abandoned one can end."""

    __slots__ = ("_decode", "chunks", "framed")

    def __init__(self, *, framed: bool, decode: Callable[[bytes], bytes] | None) -> None:
        self.framed = framed
        self.chunks: list[Any] = []
        self._decode = decode

    @property
    def size(self) -> int:
        """Bytes that came, or an estimate for events that are no bytes."""
        if not self.chunks or type(self.chunks[0]) is not bytes:
            return len(self.chunks) * _EVENT_SIZE
        return sum(map(len, self.chunks))

    def body(self, codec: Codec) -> dict[str, Any]:
        """Return the response body that the chunks so far add up to."""
        events: Any = self.chunks
        if self.framed or (self.chunks and type(self.chunks[0]) is bytes):
            data = b"".join(self.chunks)
            data = data if self._decode is None else self._decode(data)
            if not self.framed:
                return _whole(data)
            events = sse.events(data)
        accumulator = codec.accumulator()
        for event in events:
            accumulator.add(event)
        return accumulator.result()

    def tail(self) -> bytes:
        """The last bytes that came, enough to hold an end marker."""
        if not self.framed:
            return b""
        if self._decode is not None:
            with guarded("decompressing a stream"):
                return self._decode(b"".join(self.chunks))
            return b""
        return b"".join(self.chunks[-2:])


class Tap:
    """What sync and async streams share: what has arrived, and the one ending.

    `framed` says that chunks are bytes of server-sent events; otherwise they are bytes of one JSON body, or,
    from a managed stream, the events themselves. `decode` undoes the content encoding of bytes. `close` closes
    the source.
    """

    __slots__ = (
        "__weakref__",
        "_close",
        "_done",
        "_held",
        "_ready",
        "_resume",
        "arrived",
        "call",
        "delivered",
        "failure",
    )

    def __init__(self, call: Call, close: Any, *, framed: bool, decode: Callable[[bytes], bytes] | None) -> None:
        self.call = call
        self.arrived = Arrived(framed=framed, decode=decode)
        self._close = close
        self.delivered = False
        self.failure: BaseException | None = None
        self._done = False
        self._ready: deque[Any] | None = None
        self._held: bytes | None = None
        self._resume: Any = None

    def deliver(self, resume: Any) -> None:
        """Go out to the consumer now; `resume(error)` takes the flow on when the stream has ended."""
        self.delivered = True
        self._resume = resume

    def hand_out(self) -> None:
        """Let a drained stream be read, and end the call when it has been."""
        if self._ready is not None:
            self._done = False

    def forget(self) -> None:
        """Leave the call alone from now on: it was sent again or has ended otherwise."""
        self._done = True
        self._resume = None

    def _take(self, chunk: Any) -> Any:
        """Keep a chunk and return what the consumer gets of it now."""
        arrived = self.arrived
        if not arrived.chunks:
            self.call.record.time_to_first_chunk = (time.perf_counter_ns() - self.call.started) / 1e9
        arrived.chunks.append(chunk)
        if self._resume is None or not arrived.framed:
            return chunk
        return self._hold_back(chunk)

    def _hold_back(self, chunk: bytes) -> Any:
        """Keep the end marker until policy has resumed: consumers stop reading when they see it."""
        at = chunk.rfind(_DONE)
        if at < 0:
            return chunk
        self._held = chunk[at:]
        return chunk[:at] if at else _NOTHING

    def _saw_end(self) -> bool:
        return _DONE in self.arrived.tail()

    def _note(self, error: BaseException) -> None:
        self.failure = error
        self.call.record.incomplete = "cancelled" if isinstance(error, CANCELLATIONS) else "error"
        self.call.record.error = describe_error(error)

    def _note_error_event(self) -> None:
        """A stream may end well and still say that the call failed; the span's status must know."""
        tail = self.arrived.tail()
        if any(marker in tail for marker in _FAILURES):
            with guarded("reading the end of a stream"):
                codec = cast("Any", self.call).codec
                self.call.record.error = codec.decode_response(self.arrived.body(codec)).error

    def _end(self) -> None:
        self._note_error_event()
        self.call.finish()


def _whole(data: bytes) -> dict[str, Any]:
    """Return the JSON object in `data`; nothing where it was cut or is something else."""
    with contextlib.suppress(ValueError):
        body = _json.loads(data)
        if isinstance(body, dict):
            return cast("dict[str, Any]", body)
    return {}


class SyncTap(Tap):
    """A sync stream on its way to its consumer: an iterator with `close()`."""

    __slots__ = ("source",)

    def __init__(
        self,
        call: Call,
        source: Any,
        close: Callable[[], None],
        *,
        framed: bool,
        decode: Callable[[bytes], bytes] | None = None,
    ) -> None:
        super().__init__(call, close, framed=framed, decode=decode)
        self.source: Iterator[Any] = source

    def __iter__(self) -> SyncTap:
        return self

    def __next__(self) -> Any:
        if self._ready is not None:
            return self._replay()
        if self._held is not None:
            return self._let_go()
        token = attach(self.call.context)
        try:
            chunk = next(self.source)
        except StopIteration:
            self._finish()
            raise
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            detach(token)
        taken = self._take(chunk)
        return taken if taken is not _NOTHING else self._let_go()

    def _replay(self) -> Any:
        if not self._ready:
            self._finish()
            raise StopIteration
        return self._ready.popleft()

    def _let_go(self) -> bytes:
        held, self._held = self._held, None
        self._finish()
        return held or b""

    def drain(self) -> None:
        """Read to the end, keeping the call open, so that policy can judge the whole answer."""
        self._done = True
        for chunk in self.source:
            self._take(chunk)
        self._close()
        self._ready = deque(self.arrived.chunks)

    def close(self) -> None:
        """Close the source; a stream closed before its end says so."""
        try:
            self._close()
        finally:
            if not self._done:
                self.call.record.incomplete = None if self._saw_end() else "closed"
                self._finish()

    def _finish(self) -> None:
        if self._done:
            return
        self._done = True
        resume, self._resume = self._resume, None
        try:
            if resume is not None:
                resume(None)
        except BaseException as error:
            self.call.record.error = describe_error(error)
            raise
        finally:
            self._end()

    def _fail(self, error: BaseException) -> None:
        if self._done:
            return
        self._done = True
        self._note(error)
        resume, self._resume = self._resume, None
        try:
            if resume is not None:
                resume(error)
        finally:
            self._end()

    def __del__(self) -> None:
        if self._done:
            return
        self.call.record.incomplete = "abandoned"
        try:
            self._finish()
        except BaseException as error:
            # Nobody is left to catch what policy raises here.
            swallow("ending an abandoned stream", error)


class AsyncTap(Tap):
    """The async twin of `SyncTap`: an async iterator with `aclose()`."""

    __slots__ = ("source",)

    def __init__(
        self,
        call: Call,
        source: Any,
        close: Callable[[], Awaitable[None]],
        *,
        framed: bool,
        decode: Callable[[bytes], bytes] | None = None,
    ) -> None:
        super().__init__(call, close, framed=framed, decode=decode)
        self.source: AsyncIterator[Any] = source

    def __aiter__(self) -> AsyncTap:
        return self

    async def __anext__(self) -> Any:
        if self._ready is not None:
            return await self._replay()
        if self._held is not None:
            return await self._let_go()
        token = attach(self.call.context)
        try:
            chunk = await self.source.__anext__()
        except StopAsyncIteration:
            await self._finish()
            raise
        except BaseException as error:
            await self._fail(error)
            raise
        finally:
            detach(token)
        taken = self._take(chunk)
        return taken if taken is not _NOTHING else await self._let_go()

    async def _replay(self) -> Any:
        if not self._ready:
            await self._finish()
            raise StopAsyncIteration
        return self._ready.popleft()

    async def _let_go(self) -> bytes:
        held, self._held = self._held, None
        await self._finish()
        return held or b""

    async def drain(self) -> None:
        """Read to the end, keeping the call open, so that policy can judge the whole answer."""
        self._done = True
        async for chunk in self.source:
            self._take(chunk)
        await self._close()
        self._ready = deque(self.arrived.chunks)

    async def aclose(self) -> None:
        """Close the source; a stream closed before its end says so."""
        try:
            await self._close()
        finally:
            if not self._done:
                self.call.record.incomplete = None if self._saw_end() else "closed"
                await self._finish()

    async def _finish(self) -> None:
        if self._done:
            return
        self._done = True
        resume, self._resume = self._resume, None
        try:
            if resume is not None:
                await resume(None)
        except BaseException as error:
            self.call.record.error = describe_error(error)
            raise
        finally:
            self._end()

    async def _fail(self, error: BaseException) -> None:
        if self._done:
            return
        self._done = True
        self._note(error)
        resume, self._resume = self._resume, None
        try:
            if resume is not None:
                await resume(error)
        finally:
            self._end()

    def __del__(self) -> None:
        # Nothing can be awaited here, so policy that waits for the end is closed instead of resumed.
        if not self._done:
            self._done = True
            self.call.record.incomplete = "abandoned"
            with guarded("ending an abandoned stream"):
                self._end()
