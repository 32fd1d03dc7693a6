# ruff: noqa: D102 - the name of a test is its sentence
"""Many calls at once are told apart."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from spanrelay_testkit.capture import Capture, asked, said
from spanrelay_testkit.contract.subject import ANSWER, CallSubject, Subject
from spanrelay_testkit.half import Half

MANY = 500
THREADS = 64


class CallConcurrencyContract(CallSubject):
    """No call is taken for another."""

    async def test_many_calls_under_way_each_have_their_own_parent(self, capture: Capture) -> None:
        half = self.halves["async"]

        async def ask(client: Any, number: int) -> None:
            with capture.tracer().start_as_current_span(f"ask {number}"):
                await half.settle(self.call(client, self.question(str(number))))

        async with self.talking(half, timeout=60) as (_, client):
            with self.instrumenting(capture):
                await asyncio.gather(*(ask(client, number) for number in range(THREADS)))
        self.check_parents(capture, THREADS)

    def check_parents(self, capture: Capture, count: int) -> None:
        """Each call is the child of the span that asked its number."""
        askers = {span.context.span_id: span.name for span in capture.spans if span.context and span.parent is None}
        calls = self.calls_of(capture)
        assert len(askers) == len(calls) == count
        assert all(self.said(call) == ANSWER for call in calls)
        assert all(call.parent and askers[call.parent.span_id] == f"ask {self.asked(call)}" for call in calls)


class ConcurrencyContract(Subject, CallConcurrencyContract):
    """No call of a model is taken for another, on threads, in streams and across a fork either."""

    async def test_hundreds_of_concurrent_calls_each_have_their_own_parent(self, capture: Capture) -> None:
        half = Half(asynchronous=True)
        streaming = next(iter(self.streams.values()))

        async def ask(client: Any, number: int) -> None:
            with capture.tracer().start_as_current_span(f"ask {number}"):
                if number % 2:
                    await half.settle(self.call(client, self.question(str(number))))
                else:
                    stream = await half.settle(streaming.open(client, self.question(str(number))))
                    async for _ in half.each(stream):
                        pass

        async with self.talking(half, timeout=60) as (_, client):
            with self.instrumenting(capture):
                await asyncio.gather(*(ask(client, number) for number in range(MANY)))
        self.check_parents(capture, MANY)

    async def test_many_threads_each_have_their_own_parent(self, capture: Capture) -> None:
        half = Half(asynchronous=False)
        ready = threading.Barrier(THREADS)

        def ask(client: Any, number: int) -> None:
            ready.wait()
            with capture.tracer().start_as_current_span(f"ask {number}"):
                self.call(client, self.question(str(number)))

        async with self.talking(half, timeout=60) as (_, client):
            with self.instrumenting(capture):
                threads = [threading.Thread(target=ask, args=(client, number)) for number in range(THREADS)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
        self.check_parents(capture, THREADS)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
    async def test_a_fork_in_the_middle_of_a_stream_records_on_both_sides(self, instrumented: Capture) -> None:
        half = Half(asynchronous=False)
        streaming = next(iter(self.streams.values()))
        async with self.talking(half) as (server, client):
            stream = streaming.open(client, self.question("parent"))
            chunks = await half.take(stream, 2)

            def in_child() -> list[Any]:
                own = self.open_client(half, server.url)
                self.call(own, self.question("child"))
                return [[asked(span), said(span)] for span in instrumented.spans]

            assert forked(in_child) == [["child", ANSWER]]
            chunks += [chunk async for chunk in half.each(stream)]
        assert "".join(map(streaming.text_of, chunks)) == said(instrumented.span) == ANSWER


def forked(work: Callable[[], Any]) -> Any:
    """Return what `work` returns in a forked child."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns that threads do not survive a fork; that is what is being tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            os.write(writing, json.dumps(work()).encode())
        except BaseException:
            os.write(writing, json.dumps(traceback.format_exc()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return json.loads(told)
