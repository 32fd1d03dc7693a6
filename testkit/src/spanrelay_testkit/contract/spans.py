# ruff: noqa: D102 - the name of a test is its sentence
"""What is recorded of a call: one span, with what was asked and answered."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode

from spanrelay.semconv import names
from spanrelay_testkit.capture import Capture, captured, said
from spanrelay_testkit.contract.subject import ANSWER, CallSubject, Subject
from spanrelay_testkit.exchange import error, reply
from spanrelay_testkit.half import Form, Half


class CallSpanContract(CallSubject):
    """A call is one span, and nothing of it is lost."""

    async def test_every_way_of_asking_is_one_span_with_question_and_answer(
        self, half: Half, form: Form, instrumented: Capture
    ) -> None:
        async with self.talking(half) as (_, client):
            await form(half, client, self.question("which colour?"))
        span = self.call_of(instrumented)
        assert (self.asked(span), self.said(span)) == ("which colour?", ANSWER)
        assert span.status.status_code is StatusCode.UNSET
        assert names.INCOMPLETE not in (span.attributes or {})

    async def test_spans_carry_the_instrumentors_name_and_version(self, half: Half, instrumented: Capture) -> None:
        async with self.talking(half) as (_, client):
            await half.settle(self.call(client, self.question("hi")))
        scope = self.call_of(instrumented).instrumentation_scope
        assert scope is not None
        assert (scope.name, scope.version) == (self.instrumentor.name, self.instrumentor.version)

    async def test_without_content_nothing_said_is_on_the_span(self, half: Half, form: Form) -> None:
        with captured(content=False) as capture, self.instrumenting(capture):
            async with self.talking(half, *self.secretive) as (_, client):
                await form(half, client, self.question("which colour?"))
            everything = "".join(span.to_json() for span in capture.spans)
            assert not any(text in everything for text in ("colour", "answer", "secretly"))
            assert (self.call_of(capture).attributes or {})[self.always_told]

    async def test_a_provider_that_is_not_adopted_gets_whole_spans_too(self, half: Half, form: Form) -> None:
        with captured(adopted=False) as capture, self.instrumenting(capture):
            async with self.talking(half) as (_, client):
                await form(half, client, self.question("which colour?"))
            span = self.call_of(capture)
            assert (self.asked(span), self.said(span)) == ("which colour?", ANSWER)

    @pytest.mark.swallows
    async def test_a_span_processor_that_fails_hurts_nobody(self, half: Half, capture: Capture) -> None:
        capture.provider.add_span_processor(Broken())
        with self.instrumenting(capture):
            async with self.talking(half) as (_, client):
                await half.settle(self.call(client, self.question("hi")))
        assert self.said(self.call_of(capture)) == ANSWER

    @pytest.mark.swallows
    async def test_a_sampler_that_fails_hurts_nobody(self, half: Half) -> None:
        with captured(sampler=BrokenSampler()) as capture, self.instrumenting(capture):
            async with self.talking(half) as (server, client):
                await half.settle(self.call(client, self.question("hi")))
            assert len(server.requests) == 1


class SpanContract(Subject, CallSpanContract):
    """A call of a model is one span however it was sent."""

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
