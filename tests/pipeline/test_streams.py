"""How a stream ends its call: once, whatever happens, with what had arrived."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry.trace import get_current_span

from spanrelay import MiddlewareError, execution_intercept, guardrail, use
from spanrelay.codecs import openai_chat, sse
from spanrelay.pipeline.driver import arun, run
from spanrelay.pipeline.model import ModelCall
from spanrelay.pipeline.stream import AsyncTap, SyncTap, abandon_all
from spanrelay.tracing import default_tracing, recording
from spanrelay_testkit.capture import Capture, said


def frames(*words: str) -> list[bytes]:
    chunks = [
        sse.frame({"id": "c1", "model": "m", "choices": [{"index": 0, "delta": {"content": word}}]}) for word in words
    ]
    end = sse.frame({"id": "c1", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return [*chunks, end, sse.DONE]


class Source:
    """A provider's stream, in both colours: yields, may fail in the middle, knows whether it was closed."""

    def __init__(self, chunks: list[bytes], failure: BaseException | None = None) -> None:
        self._chunks = chunks
        self._failure = failure
        self.closings = 0
        self.seen_span: list[int] = []

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self.seen_span.append(get_current_span().get_span_context().span_id)
            yield chunk
        if self._failure is not None:
            raise self._failure

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self:
            await asyncio.sleep(0)
            yield chunk

    @property
    def closed(self) -> bool:
        return self.closings > 0

    def close(self) -> None:
        self.closings += 1

    async def aclose(self) -> None:
        self.closings += 1
        await asyncio.sleep(0)


class Boundary:
    """Answers each sending with the next of its sources."""

    def __init__(self, *sources: Source) -> None:
        self.sources = list(sources)
        self.sent = 0

    def _next(self, call: ModelCall) -> Source:
        self.sent += 1
        call.sent = b'{"model": "m", "messages": []}'
        return self.sources.pop(0)

    def send(self, call: ModelCall) -> Any:
        source = self._next(call)
        tap = SyncTap(call, iter(source), source.close, form="frames", decode=None)
        call.tap = tap
        return tap

    def answer(self, call: ModelCall, body: Any) -> Any:
        return list(openai_chat.stream_events(body))


class AsyncBoundary(Boundary):
    async def send(self, call: ModelCall) -> Any:
        source = self._next(call)
        tap = AsyncTap(call, aiter(source), source.aclose, form="frames", decode=None)
        call.tap = tap
        return tap

    async def answer(self, call: ModelCall, body: Any) -> Any:
        return super().answer(call, body)


def call_with(boundary: Boundary) -> ModelCall:
    wire = {"model": "m", "messages": [], "stream": True}
    return ModelCall(openai_chat, wire, boundary, default_tracing(), provider="test")


async def consume(stream: Any) -> list[bytes]:
    return [chunk async for chunk in stream]


@pytest.fixture(params=["sync", "async"])
def read(request: pytest.FixtureRequest) -> Any:
    """Runs a call over sources and reads its stream to the end, in either colour."""

    def read_sync(*sources: Source) -> list[bytes]:
        return list(run(call_with(Boundary(*sources))))

    def read_async(*sources: Source) -> list[bytes]:
        async def go() -> list[bytes]:
            return await consume(await arun(call_with(AsyncBoundary(*sources))))

        return asyncio.run(go())

    return read_sync if request.param == "sync" else read_async


def incomplete(capture: Capture) -> Any:
    return (capture.span.attributes or {}).get("spanrelay.incomplete")


def test_a_stream_read_to_its_end_is_recorded_whole(capture: Capture, read: Any) -> None:
    assert read(Source(frames("hel", "lo"))) == frames("hel", "lo")
    assert said(capture.span) == "hello"
    assert incomplete(capture) is None
    assert (capture.span.attributes or {})["gen_ai.response.time_to_first_chunk"] > 0


def test_a_stream_that_fails_keeps_what_came_and_raises_the_same_error(capture: Capture, read: Any) -> None:
    error = ConnectionError("cut")
    with pytest.raises(ConnectionError) as raised:
        read(Source(frames("hel", "lo")[:2], error))
    assert raised.value is error
    assert said(capture.span) == "hello"
    assert incomplete(capture) == "error"
    assert capture.span.status.status_code.name == "ERROR"


def test_closing_early_keeps_what_came(capture: Capture) -> None:
    source = Source(frames("hel", "lo"))
    stream = run(call_with(Boundary(source)))
    next(stream)
    stream.close()
    assert source.closed
    assert said(capture.span) == "hel"
    assert incomplete(capture) == "closed"


def test_closing_after_the_end_marker_is_no_early_end(capture: Capture) -> None:
    stream = run(call_with(Boundary(Source(frames("hello")))))
    for chunk in stream:
        if chunk == sse.DONE:
            break
    stream.close()
    assert incomplete(capture) is None


def test_an_abandoned_stream_ends_its_span(capture: Capture) -> None:
    stream = run(call_with(Boundary(Source(frames("hel", "lo")))))
    next(stream)
    del stream
    assert incomplete(capture) == "abandoned"
    assert said(capture.span) == "hel"


def test_an_abandoned_async_stream_ends_its_span(capture: Capture) -> None:
    async def go() -> None:
        stream = await arun(call_with(AsyncBoundary(Source(frames("hel", "lo")))))
        await stream.__anext__()
        del stream

    asyncio.run(go())
    assert incomplete(capture) == "abandoned"


def test_a_cancelled_reader_ends_the_span(capture: Capture) -> None:
    async def go() -> None:
        waiting = asyncio.Event()

        async def stuck() -> AsyncIterator[bytes]:
            yield frames("hel")[0]
            waiting.set()
            await asyncio.Event().wait()

        boundary = AsyncBoundary(Source([]))
        call = call_with(boundary)

        async def send(call: ModelCall) -> Any:
            tap = AsyncTap(call, aiter(stuck()), Source([]).aclose, form="frames", decode=None)
            call.tap = tap
            return tap

        boundary.send = send  # pyright: ignore[reportAttributeAccessIssue] - a source that never ends
        task = asyncio.ensure_future(consume(await arun(call)))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(go())
    assert incomplete(capture) == "cancelled"
    assert said(capture.span) == "hel"


def test_the_calls_span_is_current_in_each_advance_and_not_between(capture: Capture) -> None:
    source = Source(frames("a"))
    before = otel_context.get_current()
    stream = run(call_with(Boundary(source)))
    for _ in stream:
        assert otel_context.get_current() == before
    assert set(source.seen_span) == {capture.span.context.span_id}


def test_an_intercept_resumes_when_the_stream_has_ended(capture: Capture, read: Any) -> None:
    seen: list[str] = []

    @execution_intercept
    def looks(call: Any) -> Any:
        response = yield call
        seen.append(response.record.text)
        return response

    with use(looks):
        assert b"".join(read(Source(frames("hel", "lo")))) == b"".join(frames("hel", "lo"))
    assert seen == ["hello"]


def test_an_intercepts_exception_reaches_the_consumer_before_the_end_marker(capture: Capture) -> None:
    @execution_intercept
    def objects(call: Any) -> Any:
        yield call
        raise PermissionError("not that")

    got: list[bytes] = []
    with use(objects), pytest.raises(PermissionError):
        for chunk in run(call_with(Boundary(Source(frames("hello"))))):
            got.append(chunk)
    assert b"".join(got) == b"".join(frames("hello")[:-1])
    assert (capture.span.attributes or {})["error.type"] == "PermissionError"


def test_changing_a_delivered_stream_is_an_error(capture: Capture, read: Any) -> None:
    @execution_intercept
    def late(call: Any) -> Any:
        response = yield call
        return openai_chat.decode_response({"choices": []}) or response

    with use(late), pytest.raises(MiddlewareError, match="buffered=True"):
        read(Source(frames("hello")))


def test_a_delivered_stream_is_not_sent_again(capture: Capture, read: Any) -> None:
    error = ConnectionError("cut")

    @execution_intercept
    def retry(call: Any) -> Any:
        try:
            return (yield call)
        except ConnectionError:
            return (yield call)

    with use(retry), pytest.raises(ConnectionError) as raised:
        read(Source(frames("hel")[:1], error), Source(frames("never")))
    assert raised.value is error


def test_a_buffered_stream_can_be_sent_again(capture: Capture, read: Any) -> None:
    @execution_intercept(buffered=True)
    def retry(call: Any) -> Any:
        try:
            return (yield call)
        except ConnectionError:
            return (yield call)

    with use(retry):
        chunks = read(Source(frames("hel")[:1], ConnectionError("cut")), Source(frames("second")))
    assert chunks == frames("second")
    assert said(capture.span) == "second"
    assert incomplete(capture) is None


def test_closing_a_stream_early_resumes_the_intercept_with_the_part_that_came(capture: Capture) -> None:
    seen: list[Any] = []

    @execution_intercept
    def looks(call: Any) -> Any:
        response = yield call
        seen.append((response.record.text, response.incomplete))

    with use(looks):
        stream = run(call_with(Boundary(Source(frames("hel", "lo")))))
        next(stream)
        stream.close()
    assert seen == [("hel", "closed")]


@pytest.mark.parametrize("buffered", [False, True])
def test_a_stream_of_another_model_ends_the_call_that_the_application_made(
    capture: Capture, read: Any, buffered: bool
) -> None:
    @execution_intercept(buffered=buffered)
    def other(call: Any) -> Any:
        return (yield call.with_request(replace(call.request, model="m-2")))

    with use(other):
        assert read(Source(frames("hel", "lo"))) == frames("hel", "lo")
    assert said(capture.span) == "hello"
    assert capture.span.name == "chat m-2"
    assert (capture.span.attributes or {})["gen_ai.response.time_to_first_chunk"] > 0


def test_a_delivered_stream_counts_once_where_calls_that_are_not_sampled_count_too(
    capture: Capture, read: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[Any] = []
    monkeypatch.setattr(recording, "unrecorded", counted.append)

    @execution_intercept
    def other(call: Any) -> Any:
        return (yield call.with_request(replace(call.request, model="m-2")))

    with use(other):
        read(Source(frames("hello")))
    assert counted == []


def test_streams_are_sent_together_only_where_they_are_buffered(capture: Capture, read: Any) -> None:
    def race(call: Any) -> Any:
        first, _ = yield [call.branch(), call.branch()]
        return first

    with use(execution_intercept(race)), pytest.raises(MiddlewareError, match="buffered=True"):
        read(Source(frames("a")), Source(frames("b")))
    with use(execution_intercept(buffered=True)(race)):
        assert read(Source(frames("a")), Source(frames("b"))) in (frames("a"), frames("b"))


def test_streams_that_somebody_still_holds_end_with_the_process(capture: Capture) -> None:
    stream = run(call_with(Boundary(Source(frames("hel", "lo")))))
    assert next(stream) == frames("hel", "lo")[0]
    abandon_all()
    assert said(capture.span) == "hel"
    assert incomplete(capture) == "abandoned"


def test_the_span_of_a_guardrail_that_breaks_says_so(capture: Capture) -> None:
    @guardrail
    def broken(call: Any) -> None:
        raise LookupError("no such rule")

    with use(broken), pytest.raises(MiddlewareError):
        run(call_with(Boundary(Source(frames("x")))))
    judged = capture.spans[0]
    assert judged.status.description == "no such rule"
    assert (judged.attributes or {})["error.type"] == "LookupError"


def test_middleware_that_is_gone_is_not_kept(capture: Capture) -> None:
    def register_once() -> weakref.ref[Any]:
        class Payload:
            pass

        payload = Payload()

        @guardrail
        def asks(call: Any) -> None:
            assert payload
            list(run(call_with(Boundary(Source(frames("inner"))))))

        with use(asks):
            list(run(call_with(Boundary(Source(frames("x"))))))
        return weakref.ref(payload)

    gone = register_once()
    for number in range(70):
        with use(guardrail(name=f"g{number}")(lambda call: None)):
            list(run(call_with(Boundary(Source(frames("x"))))))
    capture.clear()
    gc.collect()
    assert gone() is None


# --- a drained stream is closed once, whatever ends it ---


@execution_intercept(buffered=True)
def drains(call: Any) -> Any:
    return (yield call)


def test_a_text_that_reads_like_the_end_marker_ends_nothing(capture: Capture) -> None:
    seen: list[str] = []

    @execution_intercept
    def looks(call: Any) -> Any:
        response = yield call
        seen.append(response.record.text)

    chunks = frames("data: [DONE]", " and more")
    cut = chunks[0].index(b"data: [DONE]")
    for pieces in (chunks, [chunks[0][:cut], chunks[0][cut:], *chunks[1:]]):
        with use(looks):
            assert b"".join(run(call_with(Boundary(Source(pieces))))) == b"".join(chunks)
    assert seen == ["data: [DONE] and more"] * 2


def test_a_drained_stream_is_closed_once(capture: Capture, read: Any) -> None:
    source = Source(frames("hello"))
    with use(drains):
        assert read(source) == frames("hello")
    assert source.closings == 1


def test_a_drained_stream_is_closed_once_where_its_replay_is_left(capture: Capture) -> None:
    source = Source(frames("hello"))
    with use(drains):
        stream = run(call_with(Boundary(source)))
        next(stream)
        stream.close()
    assert source.closings == 1


def test_a_stream_that_breaks_while_it_is_drained_is_closed_and_raises_the_same_to_its_consumer(
    capture: Capture,
) -> None:
    error = ConnectionError("cut")
    source = Source(frames("hel", "lo")[:1], error)
    with use(drains):
        stream = run(call_with(Boundary(source)))
    assert source.closings == 1
    with pytest.raises(ConnectionError) as raised:
        next(stream)
    assert raised.value is error
    assert incomplete(capture) == "error"
    assert said(capture.span) == "hel"


def test_policy_that_raises_after_a_drain_leaves_nothing_open(capture: Capture, read: Any) -> None:
    @execution_intercept(buffered=True)
    def objects(call: Any) -> Any:
        yield call
        raise PermissionError("not that")

    source = Source(frames("hello"))
    with use(objects), pytest.raises(PermissionError):
        read(source)
    assert source.closings == 1


def test_an_interrupted_drain_closes_the_stream(capture: Capture, read: Any) -> None:
    source = Source(frames("hel")[:1], KeyboardInterrupt())
    with use(drains), pytest.raises(KeyboardInterrupt):
        read(source)
    assert source.closings == 1


class Endless(Source):
    """Sends one chunk and then nothing."""

    def __init__(self) -> None:
        super().__init__(frames("hel")[:1])
        self.waiting = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._chunks[0]
        self.waiting.set()
        await asyncio.Event().wait()


@pytest.mark.parametrize("way", ["cancel", "wait_for", "GeneratorExit"])
async def test_a_drain_that_is_cancelled_closes_the_stream(capture: Capture, way: str) -> None:
    source = Endless()
    with use(drains):
        work = arun(call_with(AsyncBoundary(source)))
        if way == "GeneratorExit":
            # The coroutine is thrown away where it waits.
            assert work.send(None) is not None
            work.close()
        elif way == "wait_for":
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(work, 0.01)
        else:
            task = asyncio.ensure_future(work)
            await source.waiting.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    assert source.closings == 1
    assert incomplete(capture) == "cancelled"


def test_streams_that_may_not_be_sent_together_are_closed(capture: Capture, read: Any) -> None:
    sources = Source(frames("a")), Source(frames("b"))

    @execution_intercept
    def race(call: Any) -> Any:
        one, other = call.branch(), call.branch()
        for branch in (one, other):
            branch.original = {key: value for key, value in branch.original.items() if key != "stream"}
        first, _ = yield [one, other]
        return first

    with use(race), pytest.raises(MiddlewareError, match="buffered=True"):
        read(*sources)
    assert [source.closings for source in sources] in ([1, 1], [1, 0])
