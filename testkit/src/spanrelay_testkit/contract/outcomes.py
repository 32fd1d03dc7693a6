# ruff: noqa: D102 - the name of a test is its sentence
"""The caller sees what the bare SDK shows: answers, errors and what is sent."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Generator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from spanrelay.semconv import names
from spanrelay_testkit.capture import Capture, asked
from spanrelay_testkit.contract.checks import check_same_error
from spanrelay_testkit.contract.subject import ANSWER, CallSubject, Subject
from spanrelay_testkit.exchange import Answer, error, reply
from spanrelay_testkit.half import Form, Half, StreamForm, context_untouched


class CallOutcomeContract(CallSubject):
    """Nothing of ours changes what the caller gets, nor where it belongs."""

    async def test_the_outcome_is_that_of_the_bare_sdk(self, half: Half, form: Form, capture: Capture) -> None:
        async with self.talking(half) as (_, client):
            bare = await form(half, client, self.question("hi"))
            with self.instrumenting(capture):
                ours = await form(half, client, self.question("hi"))
        assert ours == bare
        assert ours.text == ANSWER
        assert len(self.calls_of(capture)) == 1

    async def test_the_span_is_a_child_of_the_callers_span(self, half: Half, instrumented: Capture) -> None:
        async with self.talking(half) as (_, client):
            with instrumented.tracer().start_as_current_span("work") as work:
                await half.settle(self.call(client, self.question("hi")))
        parent = self.call_of(instrumented).parent
        assert parent is not None
        assert parent.span_id == work.get_span_context().span_id

    async def test_the_real_call_runs_under_its_span(self, half: Half, instrumented: Capture) -> None:
        async with self.talking(half) as (_, client), self.under_transport(client, instrumented):
            await half.settle(self.call(client, self.question("hi")))
        [inner] = [span for span in instrumented.spans if span.name == "http"]
        outer = self.call_of(instrumented)
        assert inner.parent is not None and outer.context is not None
        assert inner.parent.span_id == outer.context.span_id


class OutcomeContract(Subject, CallOutcomeContract):
    """Nothing of ours changes what the caller of a model gets or sends."""

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


@contextlib.contextmanager
def deaf_address() -> Generator[str]:
    """A URL where connections are refused: the port is taken, and nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/v1"


async def failure_of(half: Half, ask: Callable[[], Any]) -> BaseException:
    """Return the exception that a call raises; the context is as it was."""
    with context_untouched(), pytest.raises(Exception) as caught:
        await half.settle(ask())
    return caught.value


def check_failed(span: ReadableSpan, error: BaseException) -> None:
    """The span says which exception the caller got."""
    kind = type(error)
    assert span.status.status_code is StatusCode.ERROR
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    assert (span.attributes or {})[names.ERROR_TYPE] == f"{module}{kind.__qualname__}"
    assert asked(span) == "hi"
