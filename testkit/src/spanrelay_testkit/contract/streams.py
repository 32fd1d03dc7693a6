# ruff: noqa: D102 - the name of a test is its sentence
"""Streams end once, and keep what had arrived."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest
from opentelemetry.trace import StatusCode

from spanrelay.semconv import names
from spanrelay_testkit.capture import Capture, said
from spanrelay_testkit.contract.checks import check_same_error, check_stream
from spanrelay_testkit.contract.subject import ANSWER, Subject
from spanrelay_testkit.exchange import reply
from spanrelay_testkit.half import Half, StreamForm


class StreamContract(Subject):
    """However a stream ends, its call ends with it."""

    async def test_a_stream_read_to_its_end_is_complete(
        self, half: Half, streaming: StreamForm, instrumented: Capture
    ) -> None:
        async with self.talking(half) as (_, client):
            stream = await half.settle(streaming.open(client, self.question("hi")))
            assert instrumented.spans == ()
            text = "".join([streaming.text_of(chunk) async for chunk in half.each(stream)])
            assert text == said(instrumented.span) == ANSWER
            await half.close(stream)
        check_stream(instrumented.span, None)

    async def test_a_closed_stream_keeps_what_had_arrived(
        self, half: Half, streaming: StreamForm, instrumented: Capture
    ) -> None:
        async with self.held_stream(half, streaming, instrumented) as stream:
            await half.close(stream)
            await half.close(stream)
        check_stream(instrumented.span, "closed")

    async def test_a_stream_left_by_its_with_block_keeps_what_had_arrived(
        self, half: Half, streaming: StreamForm, instrumented: Capture
    ) -> None:
        async with self.held_stream(half, streaming, instrumented) as stream, half.entered(stream):
            pass
        check_stream(instrumented.span, "closed")

    async def test_a_consumer_that_fails_in_its_with_block_keeps_what_had_arrived(
        self, half: Half, streaming: StreamForm, instrumented: Capture
    ) -> None:
        mine = LookupError("mine")
        async with self.held_stream(half, streaming, instrumented) as stream:
            with pytest.raises(LookupError) as caught:
                async with half.entered(stream):
                    raise mine
        assert caught.value is mine
        check_stream(instrumented.span, "closed")

    async def test_a_stream_whose_connection_drops_keeps_what_had_arrived(
        self, half: Half, streaming: StreamForm, capture: Capture
    ) -> None:
        async with self.talking(half, *[reply(ANSWER, cut_after=streaming.cut)] * 2) as (_, client):
            bare = await self.failure_while_reading(half, streaming, client)
            with self.instrumenting(capture):
                ours = await self.failure_while_reading(half, streaming, client)
        check_same_error(ours, bare)
        check_stream(capture.span, "error")
        assert capture.span.status.status_code is StatusCode.ERROR

    async def failure_while_reading(self, half: Half, streaming: StreamForm, client: Any) -> BaseException:
        """Return what reading a stream to its end raises."""
        stream = await half.settle(streaming.open(client, self.question("hi")))
        with pytest.raises(Exception) as caught:
            async for _ in half.each(stream):
                pass
        return caught.value

    async def test_a_cancelled_consumer_keeps_what_had_arrived(
        self, streaming: StreamForm, instrumented: Capture
    ) -> None:
        half = Half(asynchronous=True)
        async with self.held_stream(half, streaming, instrumented) as stream:
            reading = asyncio.ensure_future(half.read_on(stream))
            await asyncio.sleep(0.01)  # for the chunks that have come; the next one is held back
            reading.cancel()
            with pytest.raises(self.cancelled_by):
                await reading
        check_stream(instrumented.span, "cancelled")

    async def test_a_cancelled_call_is_recorded_as_such(self, capture: Capture) -> None:
        half, held = Half(asynchronous=True), threading.Event()
        with self.instrumenting(capture):
            async with self.talking(half, reply(ANSWER, hold=held)) as (server, client):
                asking = asyncio.ensure_future(self.call(client, self.question("hi")))
                while not server.requests and not asking.done():
                    await asyncio.sleep(0.001)
                asking.cancel()
                with pytest.raises(self.cancelled_by):
                    await asking
                held.set()
        assert (capture.span.attributes or {})[names.INCOMPLETE] == "cancelled"

    async def test_a_stream_that_nobody_holds_any_more_keeps_what_had_arrived(
        self, half: Half, streaming: StreamForm, instrumented: Capture
    ) -> None:
        async with self.held_stream(half, streaming, instrumented) as stream:
            del stream
            await settle_garbage()
            assert said(instrumented.span)
        check_stream(instrumented.span, "closed", "abandoned")

    async def test_a_stream_that_was_never_read_ends_its_span(
        self, half: Half, streaming: StreamForm, instrumented: Capture
    ) -> None:
        async with self.talking(half) as (_, client):
            stream = await half.settle(streaming.open(client, self.question("hi")))
            del stream
            await settle_garbage()
            assert (instrumented.span.attributes or {})[names.INCOMPLETE] in ("closed", "abandoned")

    async def test_an_error_event_in_a_stream_is_an_error_of_the_span(
        self, half: Half, streaming: StreamForm, capture: Capture
    ) -> None:
        broken = reply("one two", in_stream_error={"message": "overloaded", "type": "server_error", "code": "busy"})
        async with self.talking(half, broken, broken) as (_, client):
            bare = await self.text_and_error(half, streaming, client)
            with self.instrumenting(capture):
                ours = await self.text_and_error(half, streaming, client)
                if self.leaves_failed_streams:
                    await settle_garbage()
        assert ours == bare
        assert said(capture.span) == "one two"
        assert capture.span.status.status_code is StatusCode.ERROR
        told = capture.span.status.description or ""
        assert "overloaded" in told or told == ours[2]

    async def text_and_error(self, half: Half, streaming: StreamForm, client: Any) -> tuple[str, type | None, str]:
        """Return what a stream says, and the type and the text of what it raises."""
        text = ""
        try:
            async for chunk in half.each(await half.settle(streaming.open(client, self.question("hi")))):
                text += streaming.text_of(chunk)
        except Exception as raised:
            return text, type(raised), str(raised)
        return text, None, ""


async def settle_garbage() -> None:
    """Collect garbage, and let the event loop finish what it closes."""
    for _ in range(3):
        gc.collect()
        await asyncio.sleep(0.01)
