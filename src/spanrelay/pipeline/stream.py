"""The one home of stream endings: a stream is passed on chunk by chunk and ends its call exactly once.

Exhausted, closed, left, failed, cancelled or abandoned: what had arrived is kept. The call's context is attached
for each advance and detached after it, never held in between.
"""

from __future__ import annotations

import asyncio
import sys
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from typing import Any, Literal, Protocol, TypeAlias, cast

from opentelemetry.context import Context, attach, detach

from spanrelay import _json
from spanrelay._guard import guarded, pass_on, swallow
from spanrelay.codecs import Codec, sse
from spanrelay.records import SpanRecord
from spanrelay.tracing import attach_within, describe_error, detach_within

_NOTHING = object()

_CANCELLATIONS = (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt)


def is_cancellation(error: BaseException) -> bool:
    """Whether `error` ended a call from outside, which is no failure of the provider's."""
    if isinstance(error, Exception):
        return False
    trio = sys.modules.get("trio")
    return isinstance(error, _CANCELLATIONS) or (trio is not None and isinstance(error, trio.Cancelled))


class StreamedCall(Protocol):
    """The call that a stream is the answer to, as far as a stream needs to know it."""

    record: SpanRecord
    context: Context
    started: int
    rewriting: Callable[..., Any] | None

    def finish(self) -> None:
        """End the call's span with what was recorded."""
        ...


Form: TypeAlias = Literal["frames", "body", "events", "unkept"]
"""What a stream's chunks are: bytes of server-sent events, bytes of one JSON body, the events themselves, or
objects that pass unkept, because the boundary knows the answer another way."""
_TOLD = ("frames", "events")
"""Forms of an answer that may end before it is whole. What passes unkept may be kept elsewhere in such a form."""


def read_frames(data: bytes, codec: Codec) -> dict[str, Any]:
    """Return the response body that the events in `data` add up to.

    Some gateways answer a request for a stream with one JSON body, an error or the whole answer: that is it then.
    """
    if sse.is_one_body(data):
        return _json.loads_object(data)
    return _sum(sse.events(data), codec)


def _sum(events: Iterable[Any], codec: Codec) -> dict[str, Any]:
    accumulator = codec.accumulator()
    add = accumulator.add
    for event in events:
        add(event)
    return accumulator.result()


_CHUNK_BYTES = 48
"""What a chunk takes in memory beside what it says."""


class Arrived:
    """What has come of a stream, as bytes. The call keeps this and not the stream, so an abandoned one can end.

    Of a stream of events each chunk is the JSON of one event.
    """

    __slots__ = ("_decode", "chunks", "form", "is_over")

    def __init__(self, form: Form, decode: Callable[[bytes], bytes] | None) -> None:
        self.form: Form = form
        self.chunks: list[bytes] = []
        self.is_over = False
        """Whether no more came, in good order; that the answer was at its end is left for its reader to see."""
        self._decode = decode

    @property
    def size(self) -> int:
        """Bytes that what came takes, about."""
        return sum(map(len, self.chunks)) + _CHUNK_BYTES * len(self.chunks)

    def data(self) -> bytes:
        """Return all that came, readable."""
        if self.form == "events":
            return b"\n".join(self.chunks)
        if len(self.chunks) > 1:
            self.chunks = [b"".join(self.chunks)]  # asked for more than once, and one object takes less room than many
        data = self.chunks[0] if self.chunks else b""
        return data if self._decode is None else self._decode(data)

    def items(self) -> list[Any]:
        """Return the events of a stream."""
        if self.form == "frames":
            return sse.events(self.data())
        return [_json.loads(chunk) for chunk in self.chunks]

    def body(self, codec: Codec) -> dict[str, Any]:
        """Return the response body that the chunks so far add up to."""
        if self.form == "events":
            return _sum([event for event in self.items() if isinstance(event, dict)], codec)
        return _json.loads_object(self.data()) if self.form == "body" else read_frames(self.data(), codec)

    def is_whole(self, codec: Codec, body: Mapping[str, Any] | None = None) -> bool | None:
        """Whether the answer, read as `body` if it was, is at its end; None where its API says nothing of that."""
        is_whole = getattr(codec, "is_whole", None)
        return None if is_whole is None else is_whole(self.body(codec) if body is None else body)

    def tail(self) -> bytes:
        """The last bytes that came, enough to hold an end marker."""
        if self.form != "frames":
            return b""
        if self._decode is not None:
            with guarded("decompressing a stream"):
                return self.data()
            return b""
        return b"".join(self.chunks[-2:])


class Tap:
    """What sync and async streams share: what has arrived, and the one ending.

    `decode` undoes the content encoding of bytes; `close` closes the source. Where stream intercepts are
    registered, chunks pass through them before anybody else sees them.
    """

    __slots__ = (
        "__weakref__",
        "_broken",
        "_close",
        "_closed",
        "_done",
        "_drains",
        "_events",
        "_frames",
        "_held",
        "_keeps",
        "_over",
        "_passes",
        "_ready",
        "_resume",
        "_rewriter",
        "arrived",
        "call",
        "delivered",
        "failure",
        "refused",
    )

    def __init__(self, call: StreamedCall, close: Any, form: Form, decode: Callable[[bytes], bytes] | None) -> None:
        self.call = call
        self.arrived = Arrived(form, decode)
        self._frames, self._events, self._keeps = form == "frames", form == "events", form != "unkept"
        self._close = close
        self._closed = False
        self._drains = False
        self._passes = False
        """Whether chunks go by as they come: the first is there, and nothing is left over, held back or rewritten."""
        self._broken: Exception | None = None
        """What ended the source, for the consumer to get after what is left for it; where it was drained, only if
        policy lets that pass."""
        self.delivered = False
        self.refused = False
        """Whether middleware has been told that it cannot be sent again."""
        self.failure: BaseException | None = None
        self._done = False
        # A body that is read piece by piece is one answer, and no stream of events.
        rewriting = None if form == "body" else call.rewriting
        self._rewriter = None if rewriting is None else rewriting(call, frames=self._frames)
        self._ready: deque[Any] | None = None
        """What the consumer gets next: a drained answer, or what stream intercepts made of one chunk."""
        self._over = False
        """Whether the source is exhausted, so that the call ends with the last of `_ready`."""
        self._held: bytes | None = None
        self._resume: Any = None
        _passing.add(self)

    def deliver(self, resume: Any) -> None:
        """Go out to the consumer now; `resume(error)` takes the flow on when the stream has ended."""
        self.delivered = True
        self._passes = False
        self._resume = resume

    def hand_out(self) -> None:
        """Let a drained stream be read, and end the call when it has been."""
        if self._ready is not None or self._broken is not None:
            self._done = False

    def broke_by(self, error: Exception) -> bool:
        """Whether `error` came from the source while it was drained, and not from policy."""
        return self._broken is error

    def forget(self) -> None:
        """Leave the call alone from now on: it was sent again or has ended otherwise."""
        self._done = True
        self._resume = self._broken = None

    def _take(self, chunk: Any) -> Any:
        """Keep a chunk and return what the consumer gets of it now."""
        if not self._keeps:
            if self._rewriter is not None:
                return self._rewritten(self._rewriter.feed(chunk))
            self._passes = not self._drains
            return chunk
        chunks = self.arrived.chunks
        if not chunks:
            self.call.record.time_to_first_chunk = (time.perf_counter_ns() - self.call.started) / 1e9
        if self._rewriter is not None:
            return self._rewritten(self._rewriter.feed(chunk))
        if self._events:
            chunks.append(_json.dumps(chunk))
            return chunk
        chunks.append(chunk)
        if self._resume is not None and self._frames:
            return self._hold_back(chunk)
        self._passes = not self._drains
        return chunk

    def _rewritten(self, chunks: list[Any]) -> Any:
        """Keep what stream intercepts left of a chunk, and return the first of it."""
        out: deque[Any] = deque()
        for chunk in chunks:
            if self._keeps:
                self.arrived.chunks.append(_json.dumps(chunk) if self._events else chunk)
            kept = chunk if self._resume is None or not self._frames else self._hold_back(chunk)
            if kept is not _NOTHING:
                out.append(kept)
        if not out:
            return _NOTHING
        first = out.popleft()
        self._ready = out or None
        return first

    def _rest(self) -> Any:
        """Return what stream intercepts still hold at the end of the source, or `_NOTHING`."""
        if self._rewriter is None or self._over:
            return _NOTHING
        self._over = True
        return self._rewritten(self._rewriter.finish())

    def _collect(self, ready: deque[Any], taken: Any) -> None:
        """Put what one chunk gave into `ready`."""
        if taken is not _NOTHING:
            ready.append(taken)
        if self._ready is not None:
            ready.extend(self._ready)
            self._ready = None

    def _next_ready(self) -> Any:
        """Return what is ready for the consumer, or `_NOTHING`."""
        if self._ready:
            return self._ready.popleft()
        self._ready = None
        return _NOTHING

    def _hold_back(self, chunk: bytes) -> Any:
        """Keep the end marker until policy has resumed: consumers stop reading when they see it."""
        before = self.arrived.chunks[-2] if len(self.arrived.chunks) > 1 else b"\n"
        at = sse.find_end(chunk, begins_line=before[-1:] in b"\r\n")
        if at < 0:
            return chunk
        self._held = chunk[at:]
        return chunk[:at] if at else _NOTHING

    def _is_whole(self, *, failed: bool = False) -> bool | None:
        """Whether the answer has come to its end; None where nobody can say. An end marker comes after failures too."""
        if self.arrived.form not in _TOLD:
            return None
        if self.arrived.form == "frames" and not failed and sse.says_end(self.arrived.tail()):
            return True
        try:
            return self.arrived.is_whole(cast("Any", self.call).codec)
        except Exception as failure:  # whoever reads the record finds the same, and tells of it
            pass_on(failure)
        return None

    def _note(self, error: BaseException) -> None:
        self.failure = error
        self.call.record.incomplete = "cancelled" if is_cancellation(error) else "error"
        self.call.record.error = describe_error(error)

    def raised_by_reader(self, error: Exception) -> bool:
        """Whether `error` came out of reading this very stream, and not out of what the application does with it."""
        return False

    def _reading_error(self) -> Exception | None:
        """Return what is on its way while the stream is closed, where its reader raised it of what it had read."""
        error = sys.exc_info()[1]
        if not isinstance(error, Exception):
            return None
        with guarded("looking for the reader of a stream"):
            return error if self.raised_by_reader(error) else None
        return None

    def _note_left(self, how: str, error: Exception | None = None) -> None:
        """Record why the stream is not read on: because of `error`, or of its consumer."""
        record = self.call.record
        if error is not None:
            record.error = describe_error(error)
            record.error.status_code = cast("Any", self.call).http_status
            how = "error"
        record.incomplete = None if self._is_whole(failed=error is not None) else how

    def _note_exhausted(self) -> None:
        """Record that the connection ended, in good order, before the answer did.

        Where nobody waits to hear it, the application is not kept waiting either while its answer is read for that.
        """
        if self.call.record.incomplete is not None:
            return
        arrived = self.arrived
        if arrived.form in _TOLD and self._resume is None and not self._drains:
            arrived.is_over = arrived.form != "frames" or not sse.says_end(arrived.tail())
        elif self._is_whole() is False:
            self.call.record.incomplete = "cut"

    def _end(self) -> None:
        _passing.discard(self)
        try:
            self.call.finish()
        finally:
            # Its traceback has frames that hold this: the cycle would keep all that the application's frames hold.
            self.failure = None


def _begin(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` as far as it comes without waiting."""
    try:
        work.send(None)
    except StopIteration:
        return
    work.close()


_passing: weakref.WeakSet[Any] = weakref.WeakSet()


def abandon_all() -> None:
    """End every stream that somebody still holds: the process is about to end, and nobody will read on."""
    for tap in list(_passing):
        tap.abandon()


class SyncTap(Tap):
    """A sync stream on its way to its consumer: an iterator with `close()`."""

    __slots__ = ("source",)

    def __init__(
        self,
        call: StreamedCall,
        source: Any,
        close: Callable[[], None],
        *,
        form: Form,
        decode: Callable[[bytes], bytes] | None = None,
    ) -> None:
        super().__init__(call, close, form, decode)
        self.source: Iterator[Any] = source

    def __iter__(self) -> SyncTap:
        return self

    def __next__(self) -> Any:
        if self._passes:
            # Hundreds of chunks come by here: `_pull` and `_take` without what they ask.
            token = attach_within(self.call.context)
            try:
                chunk = next(self.source)
                if self._keeps:
                    self.arrived.chunks.append(chunk)
                return chunk
            except StopIteration:
                self._at_end()
            except BaseException as error:
                self._fail(error)
                raise
            finally:
                detach_within(token)
        while True:
            if self._ready is not None and (ready := self._next_ready()) is not _NOTHING:
                return ready
            if self._held is not None:
                return self._let_go()
            if self._broken is not None:
                error, self._broken = self._broken, None
                try:
                    self._fail(error)
                    raise error
                finally:
                    del error  # whose traceback has this frame
            if self._over:
                self._note_exhausted()
                self._finish()
                raise StopIteration
            taken = self._pull()
            if taken is not _NOTHING:
                return taken

    def _pull(self) -> Any:
        """Take the next chunk from the source; `_NOTHING` where the consumer gets none of it."""
        token = attach(self.call.context)
        try:
            chunk = next(self.source)
        except StopIteration:
            return self._at_end()
        except BaseException as error:
            if isinstance(error, Exception) and (self._drains or self._rewriter is not None):
                self._broken = error
                if not self._drains:
                    return self._at_end()
            self._fail(error)
            raise
        finally:
            detach(token)
        if self._rewriter is None:
            return self._take(chunk)
        try:
            return self._take(chunk)
        except BaseException as error:
            self._refuse(error)
            raise

    def _at_end(self) -> Any:
        self._passes = False
        try:
            rest = self._rest()
        except BaseException as error:
            self._refuse(error)
            raise
        self._over = True
        return rest

    def _refuse(self, error: BaseException) -> None:
        """A stream intercept refused: nothing more is read from the provider."""
        with guarded("closing a refused stream"):
            self._shut()
        self._fail(error)

    def _let_go(self) -> bytes:
        held, self._held = self._held, None
        self._finish()
        return held or b""

    def drain(self) -> None:
        """Read to the end, keeping the call open, so that policy can judge the whole answer."""
        self._done = self._drains = True
        self._passes = False
        ready: deque[Any] = deque()
        try:
            while not self._over:
                self._collect(ready, self._pull())
        except BaseException:
            with guarded("closing a stream that broke off"):
                self._shut()
            raise
        self._shut()
        self._note_exhausted()
        self._ready = ready

    def leave(self) -> None:
        """Read nothing of it: middleware may not have it."""
        self.forget()
        self._shut()

    def _shut(self) -> None:
        """Close the source, once."""
        if not self._closed:
            self._closed = True
            self._close()

    def close(self) -> None:
        """Close the source; a stream closed before its end says so."""
        error = None if self._done else self._reading_error()
        try:
            self._shut()
        finally:
            if not self._done:
                self._note_left("closed", error)
                self._finish()

    def read_failed(self, error: Exception) -> None:
        """End the call: its reader raised `error` of what it had read, and need not close the stream."""
        if not self._done:
            self._note_left("closed", error)
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
            del error  # whose traceback has this frame
            self._end()

    def __del__(self) -> None:
        self.abandon()

    def abandon(self) -> None:
        """End the call: nobody reads on. What had arrived is kept."""
        if self._done:
            return
        self._note_left("abandoned")
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
        call: StreamedCall,
        source: Any,
        close: Callable[[], Awaitable[None]],
        *,
        form: Form,
        decode: Callable[[bytes], bytes] | None = None,
    ) -> None:
        super().__init__(call, close, form, decode)
        self.source: AsyncIterator[Any] = source

    def __aiter__(self) -> AsyncTap:
        return self

    async def __anext__(self) -> Any:
        if self._passes:
            token = attach(self.call.context)
            try:
                chunk = await self.source.__anext__()
                if self._keeps:
                    self.arrived.chunks.append(chunk)
                return chunk
            except StopAsyncIteration:
                await self._at_end()
            except BaseException as error:
                await self._fail(error)
                raise
            finally:
                detach(token)
        while True:
            if self._ready is not None and (ready := self._next_ready()) is not _NOTHING:
                return ready
            if self._held is not None:
                return await self._let_go()
            if self._broken is not None:
                error, self._broken = self._broken, None
                try:
                    await self._fail(error)
                    raise error
                finally:
                    del error  # whose traceback has this frame
            if self._over:
                self._note_exhausted()
                await self._finish()
                raise StopAsyncIteration
            taken = await self._pull()
            if taken is not _NOTHING:
                return taken

    async def _pull(self) -> Any:
        """Take the next chunk from the source; `_NOTHING` where the consumer gets none of it."""
        token = attach(self.call.context)
        try:
            chunk = await self.source.__anext__()
        except StopAsyncIteration:
            return await self._at_end()
        except BaseException as error:
            if isinstance(error, Exception) and (self._drains or self._rewriter is not None):
                self._broken = error
                if not self._drains:
                    return await self._at_end()
            await self._fail(error)
            raise
        finally:
            detach(token)
        if self._rewriter is None:
            return self._take(chunk)
        try:
            return self._take(chunk)
        except BaseException as error:
            await self._refuse(error)
            raise

    async def _at_end(self) -> Any:
        self._passes = False
        try:
            rest = self._rest()
        except BaseException as error:
            await self._refuse(error)
            raise
        self._over = True
        return rest

    async def _refuse(self, error: BaseException) -> None:
        """A stream intercept refused: nothing more is read from the provider."""
        with guarded("closing a refused stream"):
            await self._shut()
        await self._fail(error)

    async def _let_go(self) -> bytes:
        held, self._held = self._held, None
        await self._finish()
        return held or b""

    async def drain(self) -> None:
        """Read to the end, keeping the call open, so that policy can judge the whole answer."""
        self._done = self._drains = True
        self._passes = False
        ready: deque[Any] = deque()
        try:
            while not self._over:
                self._collect(ready, await self._pull())
        except BaseException as error:
            # What is given up for good can wait for nothing; what is cancelled can, and the HTTP package shields it.
            with guarded("closing a stream that broke off"):
                _begin(self._shut()) if isinstance(error, GeneratorExit) else await self._shut()
            raise
        await self._shut()
        self._note_exhausted()
        self._ready = ready

    async def leave(self) -> None:
        """Read nothing of it: middleware may not have it."""
        self.forget()
        await self._shut()

    async def _shut(self) -> None:
        """Close the source, once."""
        if not self._closed:
            self._closed = True
            await self._close()

    async def aclose(self) -> None:
        """Close the source; a stream closed before its end says so."""
        error = None if self._done else self._reading_error()
        try:
            await self._shut()
        finally:
            if not self._done:
                self._note_left("closed", error)
                await self._finish()

    async def read_failed(self, error: Exception) -> None:
        """End the call: its reader raised `error` of what it had read, and need not close the stream."""
        if not self._done:
            self._note_left("closed", error)
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
            del error  # whose traceback has this frame
            self._end()

    def __del__(self) -> None:
        self.abandon()

    def abandon(self) -> None:
        """End the call: nobody reads on. What had arrived is kept."""
        # Nothing can be awaited here, so policy that waits for the end is closed instead of resumed.
        if not self._done:
            self._done = True
            self._note_left("abandoned")
            with guarded("ending an abandoned stream"):
                self._end()
