# ruff: noqa: D102 - the name of a test is its sentence
"""The contract that every instrumentor's tests inherit: nothing of ours changes a call, and nothing is lost.

A subclass named `Test…` supplies the hooks; the tests know no SDK. The provider is always the real model server.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import json
import os
import socket
import sys
import threading
import traceback
import warnings
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import pytest
from opentelemetry.context import attach, detach, set_value
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode

from spanrelay import errors
from spanrelay.instrumentation.instrumentor import Instrumentor
from spanrelay.pipeline.middleware import execution_intercept, guardrail, request_intercept, use
from spanrelay.records import Message, ModelResponse, Text
from spanrelay.semconv import names
from spanrelay_testkit.capture import Capture, asked, captured, said
from spanrelay_testkit.exchange import Answer, Request, error, reply
from spanrelay_testkit.half import Form, Half, Outcome, StreamForm, context_untouched
from spanrelay_testkit.model_server import ModelServer

ANSWER = '{"answer": "blue like the sea"}'
"""What the model says in most tests; it fits the structured outputs of the `parse` forms."""
OTHER = '{"answer": "green"}'
MANY = 500
THREADS = 64

Fixture = Iterator[Any]


class InstrumentorContract:
    """Derive as `Test…`, supply the hooks, and every test runs for sync and async."""

    instrumentor: ClassVar[type[Instrumentor]]
    forms: ClassVar[Mapping[str, Form]]
    """Every way of asking for one answer, by name."""
    streams: ClassVar[Mapping[str, StreamForm]]
    """Every kind of stream that is handed out as an iterator with `close()`, by name."""
    cancelled_by: ClassVar[tuple[type[BaseException], ...]] = (asyncio.CancelledError,)

    # --- hooks ---

    def open_client(self, half: Half, url: str, **options: Any) -> Any:
        """Return a client; `options` may hold `timeout` (seconds) and `max_retries` (0 unless given)."""
        raise NotImplementedError

    def question(self, text: str) -> list[Any]:
        """Return the messages that ask `text`."""
        raise NotImplementedError

    def call(self, client: Any, messages: Any, **options: Any) -> Any:
        """Ask for a whole answer; `options` are arguments of the SDK's method."""
        raise NotImplementedError

    def bound_call(self, client: Any) -> Callable[[Any], Any]:
        """Return `messages -> answer` over a bound method that is looked up now."""
        raise NotImplementedError

    def embed(self, client: Any, texts: Sequence[str]) -> Any:
        """Ask for embeddings."""
        raise NotImplementedError

    def list_models(self, client: Any) -> Any:
        """Make a request that is no inference."""
        raise NotImplementedError

    # --- what the tests stand on ---

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test for both halves, and for each form or stream where it asks for one."""
        if "half" in metafunc.fixturenames:
            metafunc.parametrize("half", [Half(asynchronous=False), Half(asynchronous=True)], ids=["sync", "async"])
        if "form" in metafunc.fixturenames:
            metafunc.parametrize("form", list(self.forms.values()), ids=list(self.forms))
        if "streaming" in metafunc.fixturenames:
            metafunc.parametrize("streaming", list(self.streams.values()), ids=list(self.streams))

    @pytest.fixture
    def instrumented(self, capture: Capture) -> Iterator[Capture]:
        """The spans of the test's calls, with the SDK instrumented."""
        with self.instrumenting(capture):
            yield capture

    @contextlib.contextmanager
    def instrumenting(self, capture: Capture) -> Generator[Capture]:
        """Instrument the SDK for `capture`."""
        instrumentor = self.instrumentor()
        instrumentor.instrument(tracer_provider=capture.provider)
        try:
            yield capture
        finally:
            if instrumentor.is_instrumented_by_opentelemetry:
                instrumentor.uninstrument()

    @contextlib.asynccontextmanager
    async def talking(self, half: Half, *answers: Answer, **options: Any) -> AsyncGenerator[tuple[ModelServer, Any]]:
        """A server that gives `answers`, or always `ANSWER`, and a client of it."""
        script: Any = list(answers) if answers else _always
        with ModelServer(script) as server:
            client = self.open_client(half, server.url, **options)
            try:
                yield server, client
            finally:
                await half.close(client)

    # --- in force, and out of force ---

    async def test_instrumenting_twice_records_each_call_once(self, half: Half, instrumented: Capture) -> None:
        self.instrumentor().instrument(tracer_provider=instrumented.provider)
        async with self.talking(half) as (_, client):
            await half.settle(self.call(client, self.question("hi")))
        assert said(instrumented.span) == ANSWER

    def test_uninstrumenting_puts_every_patch_point_back(self, capture: Capture) -> None:
        with self.instrumenting(capture):
            pass
        before = self.patch_points()
        with self.instrumenting(capture):
            assert all(now is not then for now, then in zip(self.patch_points(), before, strict=True))
        assert all(now is then for now, then in zip(self.patch_points(), before, strict=True))

    def patch_points(self) -> list[Any]:
        """What stands at each patch point now."""
        return [vars(owner_of(patch))[patch.attribute.rpartition(".")[2]] for patch in table_of(self.instrumentor())]

    async def test_a_bound_method_kept_from_before_stops_recording(self, half: Half, capture: Capture) -> None:
        async with self.talking(half) as (_, client):
            with self.instrumenting(capture):
                ask = self.bound_call(client)
                await half.settle(ask(self.question("hi")))
            assert len(capture.spans) == 1
            await half.settle(ask(self.question("hi")))
        assert len(capture.spans) == 1

    async def test_instrumenting_again_records_again_and_once(self, half: Half, capture: Capture) -> None:
        async with self.talking(half) as (_, client):
            with self.instrumenting(capture):
                ask = self.bound_call(client)
            with self.instrumenting(capture):
                await half.settle(ask(self.question("hi")))
                assert len(capture.spans) == 1
                await half.settle(self.call(client, self.question("hi")))
        assert len(capture.spans) == 2

    async def test_a_wrapper_of_somebody_else_on_top_does_not_make_two_spans_of_one_call(
        self, half: Half, capture: Capture
    ) -> None:
        with self.instrumenting(capture):
            undo = wrap_on_top(self.instrumentor())
        try:
            with self.instrumenting(capture):
                async with self.talking(half) as (_, client):
                    await half.settle(self.call(client, self.question("hi")))
        finally:
            undo()
        assert len(capture.spans) == 1

    async def test_a_client_from_before_is_recorded(self, half: Half, capture: Capture) -> None:
        async with self.talking(half) as (_, client):
            with self.instrumenting(capture):
                await half.settle(self.call(client, self.question("hi")))
        assert len(capture.spans) == 1

    # --- the caller sees what the bare SDK shows ---

    async def test_the_outcome_is_that_of_the_bare_sdk(self, half: Half, form: Form, capture: Capture) -> None:
        async with self.talking(half) as (_, client):
            bare = await form(half, client, self.question("hi"))
            with self.instrumenting(capture):
                ours = await form(half, client, self.question("hi"))
        assert ours == bare
        assert ours.text == ANSWER
        assert len(capture.spans) == 1

    async def test_what_is_sent_is_that_of_the_bare_sdk(self, half: Half, form: Form, capture: Capture) -> None:
        async with self.talking(half) as (server, client):
            await form(half, client, self.question("hi"))
            await form(half, client, self.question("hi"))
            with self.instrumenting(capture):
                await form(half, client, self.question("hi"))
        first, second, ours = server.requests
        assert (ours.method, ours.path, ours.query, ours.raw) == (first.method, first.path, first.query, first.raw)
        assert list(ours.headers) == list(first.headers)
        # What differs between two bare calls (an idempotency key) may differ from ours too.
        same = [name for name in first.headers if first.headers[name] == second.headers[name]]
        assert {name: ours.headers[name] for name in same} == {name: first.headers[name] for name in same}

    @pytest.mark.parametrize(
        "answer",
        [error(429), error(500, "<html><body>Bad gateway</body></html>"), error(404, b""), error(400, b'{"a')],
        ids=["429", "500 with an HTML body", "404 without a body", "400 with a broken body"],
    )
    async def test_a_refusal_of_the_provider_is_the_sdks_own_error(
        self, half: Half, answer: Answer, capture: Capture
    ) -> None:
        async with self.talking(half, answer, answer) as (_, client):
            bare = await failure_of(half, lambda: self.call(client, self.question("hi")))
            with self.instrumenting(capture):
                ours = await failure_of(half, lambda: self.call(client, self.question("hi")))
        check_same_error(ours, bare)
        check_failed(capture.span, ours)

    async def test_a_refused_stream_is_the_sdks_own_error(
        self, half: Half, streaming: StreamForm, capture: Capture
    ) -> None:
        async with self.talking(half, error(429), error(429)) as (_, client):
            bare = await failure_of(half, lambda: streaming.open(client, self.question("hi")))
            with self.instrumenting(capture):
                ours = await failure_of(half, lambda: streaming.open(client, self.question("hi")))
        check_same_error(ours, bare)
        check_failed(capture.span, ours)

    async def test_a_refused_connection_is_the_sdks_own_error(self, half: Half, capture: Capture) -> None:
        with deaf_address() as url:
            client = self.open_client(half, url)
            bare = await failure_of(half, lambda: self.call(client, self.question("hi")))
            with self.instrumenting(capture):
                ours = await failure_of(half, lambda: self.call(client, self.question("hi")))
            await half.close(client)
        check_same_error(ours, bare)
        check_failed(capture.span, ours)

    async def test_a_timeout_is_the_sdks_own_error(self, half: Half, capture: Capture) -> None:
        held = threading.Event()
        async with self.talking(half, *[reply(ANSWER, hold=held)] * 2, timeout=0.1) as (_, client):
            bare = await failure_of(half, lambda: self.call(client, self.question("hi")))
            with self.instrumenting(capture):
                ours = await failure_of(half, lambda: self.call(client, self.question("hi")))
            held.set()
        check_same_error(ours, bare)
        check_failed(capture.span, ours)

    async def test_a_generator_of_messages_reaches_the_provider_whole(self, half: Half, instrumented: Capture) -> None:
        async with self.talking(half) as (server, client):
            await half.settle(self.call(client, (message for message in self.question("one"))))
        [request] = server.requests
        assert request.last_user_text == "one"
        assert asked(instrumented.span) == "one"

    async def test_the_span_is_a_child_of_the_callers_span(self, half: Half, instrumented: Capture) -> None:
        async with self.talking(half) as (_, client):
            with instrumented.tracer().start_as_current_span("work") as work:
                await half.settle(self.call(client, self.question("hi")))
        parent = instrumented.spans[0].parent
        assert parent is not None
        assert parent.span_id == work.get_span_context().span_id

    async def test_the_real_call_runs_under_its_span(self, half: Half, instrumented: Capture) -> None:
        async with self.talking(half) as (_, client), under_transport(client, instrumented):
            await half.settle(self.call(client, self.question("hi")))
        inner, outer = instrumented.spans
        assert inner.parent is not None and outer.context is not None
        assert inner.parent.span_id == outer.context.span_id

    # --- what is recorded ---

    async def test_every_way_of_asking_is_one_span_with_question_and_answer(
        self, half: Half, form: Form, instrumented: Capture
    ) -> None:
        async with self.talking(half) as (_, client):
            await form(half, client, self.question("which colour?"))
        span = instrumented.span
        assert (asked(span), said(span)) == ("which colour?", ANSWER)
        assert span.status.status_code is StatusCode.UNSET
        assert names.INCOMPLETE not in (span.attributes or {})

    async def test_a_compressed_answer_is_read(self, half: Half, form: Form, instrumented: Capture) -> None:
        async with self.talking(half, reply(ANSWER, gzip=True)) as (_, client):
            outcome = await form(half, client, self.question("hi"))
        assert outcome.text == said(instrumented.span) == ANSWER
        assert names.INCOMPLETE not in (instrumented.span.attributes or {})

    async def test_retries_inside_the_client_are_one_span(self, half: Half, instrumented: Capture) -> None:
        busy = error(503, headers={"retry-after-ms": "1"})
        async with self.talking(half, busy, busy, reply(ANSWER), max_retries=2) as (server, client):
            await half.settle(self.call(client, self.question("hi")))
        assert len(server.requests) == 3
        assert said(instrumented.span) == ANSWER
        assert instrumented.span.status.status_code is StatusCode.UNSET

    async def test_embeddings_are_one_span_of_their_own_kind(self, half: Half, instrumented: Capture) -> None:
        async with self.talking(half) as (_, client):
            await half.settle(self.embed(client, ["a", "b"]))
        assert (instrumented.span.attributes or {})[names.OI_KIND] == "EMBEDDING"

    async def test_a_request_that_is_no_inference_makes_no_span(self, half: Half, instrumented: Capture) -> None:
        async with self.talking(half) as (_, client):
            await half.settle(self.list_models(client))
        assert instrumented.spans == ()

    async def test_spans_carry_the_instrumentors_name_and_version(self, half: Half, instrumented: Capture) -> None:
        async with self.talking(half) as (_, client):
            await half.settle(self.call(client, self.question("hi")))
        scope = instrumented.span.instrumentation_scope
        assert scope is not None
        assert (scope.name, scope.version) == (self.instrumentor.name, self.instrumentor.version)

    async def test_without_content_nothing_said_is_on_the_span(self, half: Half, form: Form) -> None:
        with captured(content=False) as capture, self.instrumenting(capture):
            async with self.talking(half, reply(ANSWER, reasoning="secretly")) as (_, client):
                await form(half, client, self.question("which colour?"))
            everything = capture.span.to_json()
            assert not any(text in everything for text in ("colour", "answer", "secretly"))
            assert (capture.span.attributes or {})[names.RESPONSE_ID]

    async def test_a_provider_that_is_not_adopted_gets_whole_spans_too(self, half: Half, form: Form) -> None:
        with captured(adopted=False) as capture, self.instrumenting(capture):
            async with self.talking(half) as (_, client):
                await form(half, client, self.question("which colour?"))
            assert (asked(capture.span), said(capture.span)) == ("which colour?", ANSWER)

    @pytest.mark.swallows
    async def test_a_span_processor_that_fails_hurts_nobody(self, half: Half, capture: Capture) -> None:
        capture.provider.add_span_processor(Broken())
        with self.instrumenting(capture):
            async with self.talking(half) as (_, client):
                await half.settle(self.call(client, self.question("hi")))
        assert said(capture.span) == ANSWER

    @pytest.mark.swallows
    async def test_a_sampler_that_fails_hurts_nobody(self, half: Half) -> None:
        with captured(sampler=BrokenSampler()) as capture, self.instrumenting(capture):
            async with self.talking(half) as (server, client):
                await half.settle(self.call(client, self.question("hi")))
            assert len(server.requests) == 1

    # --- streams end once, and keep what had arrived ---

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
        assert ours[0] == bare[0]
        assert (type(ours[1]), str(ours[1])) == (type(bare[1]), str(bare[1]))
        assert said(capture.span) == "one two"
        assert capture.span.status.status_code is StatusCode.ERROR
        assert "overloaded" in (capture.span.status.description or "")

    async def text_and_error(self, half: Half, streaming: StreamForm, client: Any) -> tuple[str, BaseException | None]:
        """Return what a stream says and what it raises."""
        text = ""
        try:
            async for chunk in half.each(await half.settle(streaming.open(client, self.question("hi")))):
                text += streaming.text_of(chunk)
        except Exception as raised:
            return text, raised
        return text, None

    @contextlib.asynccontextmanager
    async def held_stream(self, half: Half, streaming: StreamForm, capture: Capture) -> AsyncGenerator[Any]:
        """A stream of which some text has been read; the provider waits before the rest."""
        held = threading.Event()
        async with self.talking(half, reply(ANSWER, hold=held, hold_after=streaming.cut)) as (_, client):
            holder = [await half.settle(streaming.open(client, self.question("hi")))]
            text = ""
            while not text:
                text = streaming.text_of(await half.following(holder[0]))
            assert capture.spans == ()
            yield holder.pop()
            held.set()

    # --- policy ---

    async def test_a_refused_call_never_reaches_the_provider(
        self, half: Half, form: Form, instrumented: Capture
    ) -> None:
        async with self.talking(half) as (server, client):
            with use(guardrail(name="no")(lambda call: "not today")), pytest.raises(errors.GuardrailRejected):
                await form(half, client, self.question("hi"))
        assert server.requests == []
        judged, refused = instrumented.spans
        assert (judged.attributes or {})[names.OI_KIND] == "GUARDRAIL"
        assert refused.status.status_code is StatusCode.ERROR
        assert asked(refused) == "hi"

    async def test_a_rewritten_request_arrives_and_the_applications_own_objects_stay(
        self, half: Half, form: Form, instrumented: Capture
    ) -> None:
        messages = self.question("my secret")
        before = copy.deepcopy(messages)
        async with self.talking(half) as (server, client):
            with use(request_intercept(name="redact")(redact)):
                outcome = await form(half, client, messages)
        assert outcome.text == ANSWER
        assert server.requests[0].last_user_text == "my ***"
        assert messages == before
        assert asked(instrumented.span) == "my ***"

    async def test_a_short_circuit_answers_in_the_form_that_was_asked_for(
        self, half: Half, form: Form, capture: Capture
    ) -> None:
        async with self.talking(half) as (server, client):
            bare = await form(half, client, self.question("hi"))
            with self.instrumenting(capture), use(execution_intercept(name="cache")(answer_from_cache)):
                ours = await form(half, client, self.question("hi"))
        assert ours == Outcome(OTHER, bare.types)
        assert len(server.requests) == 1
        assert said(capture.span) == OTHER
        assert names.INCOMPLETE not in (capture.span.attributes or {})

    async def test_a_buffered_policy_changes_every_form_of_answer(
        self, half: Half, form: Form, capture: Capture
    ) -> None:
        async with self.talking(half) as (_, client):
            bare = await form(half, client, self.question("hi"))
            policy = execution_intercept(name="other", buffered=True)(say_other)
            with self.instrumenting(capture), use(policy):
                ours = await form(half, client, self.question("hi"))
        assert ours == Outcome(OTHER, bare.types)
        assert said(capture.span) == OTHER

    async def test_a_buffered_policy_that_changes_nothing_replays_the_answer(
        self, half: Half, form: Form, capture: Capture
    ) -> None:
        seen: list[str] = []
        async with self.talking(half) as (_, client):
            bare = await form(half, client, self.question("hi"))
            policy = execution_intercept(name="look", buffered=True)(noting(seen))
            with self.instrumenting(capture), use(policy):
                ours = await form(half, client, self.question("hi"))
        assert ours == bare
        assert seen == [said(capture.span)] == [ANSWER]
        assert names.INCOMPLETE not in (capture.span.attributes or {})

    async def test_a_policy_sees_the_whole_answer_of_every_form(
        self, half: Half, form: Form, instrumented: Capture
    ) -> None:
        seen: list[str] = []
        async with self.talking(half) as (_, client):
            with use(execution_intercept(name="look")(noting(seen))):
                await form(half, client, self.question("hi"))
        assert seen == [said(instrumented.span)] == [ANSWER]

    async def test_a_policy_sees_the_whole_answer_of_a_compressed_stream(
        self, half: Half, streaming: StreamForm, instrumented: Capture
    ) -> None:
        seen: list[str] = []
        async with self.talking(half, reply(ANSWER, gzip=True)) as (_, client):
            with use(execution_intercept(name="look")(noting(seen))):
                stream = await half.settle(streaming.open(client, self.question("hi")))
                assert "".join([streaming.text_of(chunk) async for chunk in half.each(stream)]) == ANSWER
        assert seen == [ANSWER]
        check_stream(instrumented.span, None)

    @pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
    async def test_what_policy_raises_at_the_end_of_a_stream_comes_from_its_last_step(
        self, half: Half, streaming: StreamForm, compressed: bool, instrumented: Capture
    ) -> None:
        mine, text = LookupError("mine"), ""
        async with self.talking(half, reply(ANSWER, gzip=compressed)) as (_, client):
            with use(execution_intercept(name="veto")(raising_after(mine))):
                stream = await half.settle(streaming.open(client, self.question("hi")))
                with pytest.raises(LookupError) as caught:
                    async for chunk in half.each(stream):
                        text += streaming.text_of(chunk)
        assert caught.value is mine
        assert text == said(instrumented.span) == ANSWER
        assert instrumented.span.status.status_code is StatusCode.ERROR

    async def test_a_policy_that_awaits_at_the_end_of_a_stream_is_waited_for(
        self, half: Half, streaming: StreamForm, instrumented: Capture
    ) -> None:
        done: list[str] = []
        async with self.talking(half) as (_, client):
            with use(execution_intercept(name="slow")(awaiting(done))):
                stream = await half.settle(streaming.open(client, self.question("hi")))
                async for _ in half.each(stream):
                    pass
        assert done == [ANSWER]
        check_stream(instrumented.span, None)

    async def test_a_policy_sees_why_a_stream_is_partial(
        self, half: Half, streaming: StreamForm, instrumented: Capture
    ) -> None:
        seen: list[Any] = []

        @execution_intercept(name="look")
        def look(call: Any) -> Any:
            response = yield call
            seen.append((response.incomplete, response.record.text))

        with use(look):
            async with self.held_stream(half, streaming, instrumented) as stream:
                await half.close(stream)
        assert seen == [("closed", said(instrumented.span))]

    async def test_a_policy_may_send_a_failed_call_again(self, half: Half, form: Form, instrumented: Capture) -> None:
        async with self.talking(half, error(500), reply(ANSWER)) as (server, client):
            with use(execution_intercept(name="retry")(retry_once)):
                outcome = await form(half, client, self.question("hi"))
        assert outcome.text == said(instrumented.span) == ANSWER
        assert len(server.requests) == 2
        assert instrumented.span.status.status_code is StatusCode.UNSET

    async def test_two_branches_sent_together_are_read_apart(self, half: Half, instrumented: Capture) -> None:
        seen: list[str] = []
        async with self.talking(half) as (server, client):
            with use(execution_intercept(name="race")(racing(seen))):
                await half.settle(self.call(client, self.question("hi")))
        assert len(server.requests) == 2
        assert seen == [ANSWER, ANSWER]
        assert said(instrumented.span) == ANSWER

    async def test_policy_holds_when_a_call_is_not_sampled(self, half: Half, form: Form) -> None:
        with captured(sampler=ALWAYS_OFF) as capture, self.instrumenting(capture):
            async with self.talking(half) as (server, client):
                with use(request_intercept(name="redact")(redact)):
                    assert (await form(half, client, self.question("my secret"))).text == ANSWER
                with use(guardrail(name="no")(lambda call: "no")), pytest.raises(errors.GuardrailRejected):
                    await form(half, client, self.question("hi"))
            assert server.requests[0].last_user_text == "my ***"
            assert len(server.requests) == 1
            assert capture.spans == ()

    @pytest.mark.parametrize("key", ["opentelemetry", "plain"])
    async def test_policy_holds_when_recording_is_suppressed(
        self, half: Half, form: Form, key: str, instrumented: Capture
    ) -> None:
        async with self.talking(half) as (server, client):
            with suppressed(key), use(request_intercept(name="redact")(redact)):
                assert (await form(half, client, self.question("my secret"))).text == ANSWER
        assert server.requests[0].last_user_text == "my ***"
        assert instrumented.spans == ()

    # --- many at once ---

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
        check_parents(capture, MANY)

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
        check_parents(capture, THREADS)

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


# --- policy, processors and checks that the tests share ---


class Broken(SpanProcessor):
    """A span processor of somebody else that fails at everything."""

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """Fail."""
        raise ZeroDivisionError("on_start")

    def on_end(self, span: ReadableSpan) -> None:
        """Fail."""
        raise ZeroDivisionError("on_end")


class BrokenSampler(type(ALWAYS_OFF)):
    """A sampler of somebody else that fails."""

    def __init__(self) -> None:
        super().__init__(ALWAYS_OFF._decision)

    def should_sample(self, *args: Any, **kwargs: Any) -> Any:
        """Fail."""
        raise ZeroDivisionError("should_sample")


def redact(call: Any) -> None:
    """Replace `secret` in the request's messages."""
    for message in call.request.messages:
        message.parts = [
            Text(part.text.replace("secret", "***")) if isinstance(part, Text) else part for part in message.parts
        ]


def answer_from_cache(call: Any) -> Any:
    """Answer `OTHER` without sending anything."""
    return ModelResponse(messages=[Message("assistant", [Text(OTHER)], finish_reason="stop")])
    yield call  # a generator function, as execution intercepts must be


def say_other(call: Any) -> Any:
    """Send the call on, and answer `OTHER` instead of what came."""
    response = yield call
    [message] = response.record.messages
    return replace(response.record, messages=[replace(message, parts=[Text(OTHER)])])


def noting(seen: list[str]) -> Callable[[Any], Any]:
    """Send the call on and note the text that came."""

    def look(call: Any) -> Any:
        response = yield call
        seen.append(response.record.text)

    return look


def awaiting(done: list[str]) -> Callable[[Any], Any]:
    """Send the call on, wait longer than SDKs wait for the rest of a stream, and note the text."""

    def slow(call: Any) -> Any:
        response = yield call
        yield asyncio.sleep(0.15)
        done.append(response.record.text)

    return slow


def raising_after(error: Exception) -> Callable[[Any], Any]:
    """Send the call on, then raise `error`."""

    def veto(call: Any) -> Any:
        yield call
        raise error

    return veto


def retry_once(call: Any) -> Any:
    """Send a failed call once more."""
    try:
        return (yield call)
    except Exception:
        return (yield call)


def racing(seen: list[str]) -> Callable[[Any], Any]:
    """Send two copies together and answer with the second."""

    def race(call: Any) -> Any:
        responses = yield [call.branch(), call.branch()]
        seen.extend(response.record.text for response in responses)
        return responses[1]

    return race


@contextlib.contextmanager
def suppressed(key: str) -> Generator[None]:
    """Suppress instrumentation by OpenTelemetry's own helper, or by the plain key that others use."""
    if key == "opentelemetry":
        with suppress_instrumentation():
            yield
        return
    token = attach(set_value("suppress_instrumentation", True))
    try:
        yield
    finally:
        detach(token)


@contextlib.contextmanager
def deaf_address() -> Generator[str]:
    """A URL where connections are refused: the port is taken, and nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/v1"


@contextlib.asynccontextmanager
async def under_transport(client: Any, capture: Capture) -> AsyncGenerator[None]:
    """Open a span of the application's in the HTTP client's own hook, where the real call is being made."""
    hooks = client._client.event_hooks
    asynchronous = asyncio.iscoroutinefunction(client._client.send)

    def note(request: Any) -> None:
        capture.tracer().start_span("http").end()

    async def anote(request: Any) -> None:
        note(request)

    client._client.event_hooks = {**hooks, "request": [anote if asynchronous else note]}
    yield


def owner_of(patch: Any) -> Any:
    """The class or module that a patch point stands in."""
    owner: Any = sys.modules[patch.module]
    for name in patch.attribute.split(".")[:-1]:
        owner = getattr(owner, name)
    return owner


def table_of(instrumentor: Instrumentor) -> list[Any]:
    """The patches in force, but for those of modules that not every version of the SDK has."""
    patches = instrumentor._patches
    assert patches is not None and patches._table
    return [patch for patch in patches._table if not patch.newer]


def wrap_on_top(instrumentor: Instrumentor) -> Callable[[], None]:
    """Wrap the first patch point as another instrumentation would; returns what takes everything off again."""
    import wrapt

    undo: list[Callable[[], None]] = []
    for patch in table_of(instrumentor):
        owner, name = owner_of(patch), patch.attribute.rpartition(".")[2]
        present = vars(owner)[name]
        original = getattr(present, "__wrapped__", present)
        setattr(owner, name, wrapt.FunctionWrapper(present, _pass_on))
        undo.append(partial(setattr, owner, name, original))

    def take_off() -> None:
        for step in undo:
            step()

    return take_off


def _always(request: Request) -> Answer:
    return reply(ANSWER)


def _pass_on(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return wrapped(*args, **kwargs)


async def failure_of(half: Half, ask: Callable[[], Any]) -> BaseException:
    """Return the exception that a call raises; the context is as it was."""
    with context_untouched(), pytest.raises(Exception) as caught:
        await half.settle(ask())
    return caught.value


def check_same_error(ours: BaseException, bare: BaseException) -> None:
    """Same type, text and cause, raised at the same line of the SDK."""
    assert (type(ours), str(ours), ours.args) == (type(bare), str(bare), bare.args)
    assert type(ours.__cause__) is type(bare.__cause__)
    [ours_at], [bare_at] = (
        traceback.extract_tb(ours.__traceback__)[-1:],
        traceback.extract_tb(bare.__traceback__)[-1:],
    )
    assert (ours_at.filename, ours_at.lineno) == (bare_at.filename, bare_at.lineno)


def check_failed(span: ReadableSpan, error: BaseException) -> None:
    """The span says which exception the caller got."""
    kind = type(error)
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})[names.ERROR_TYPE] == f"{kind.__module__}.{kind.__qualname__}"
    assert asked(span) == "hi"


def check_stream(span: ReadableSpan, *incomplete: str | None) -> None:
    """The span holds the text so far, and says why there is no more."""
    told = (span.attributes or {}).get(names.INCOMPLETE)
    assert told in incomplete
    text = said(span)
    assert text
    assert text == ANSWER if told is None else ANSWER.startswith(text) and text != ANSWER


def check_parents(capture: Capture, count: int) -> None:
    """Each model call is the child of the span that asked its number."""
    askers = {span.context.span_id: span.name for span in capture.spans if span.context and span.parent is None}
    calls = capture.of("LLM")
    assert len(askers) == len(calls) == count
    assert all(said(call) == ANSWER for call in calls)
    assert all(call.parent and askers[call.parent.span_id] == f"ask {asked(call)}" for call in calls)


async def settle_garbage() -> None:
    """Collect garbage, and let the event loop finish what it closes."""
    for _ in range(3):
        gc.collect()
        await asyncio.sleep(0.01)


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
