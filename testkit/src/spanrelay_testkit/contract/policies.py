# ruff: noqa: D102 - the name of a test is its sentence
"""Policy holds for every form of call and answer."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.context import attach, detach, set_value
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode

from spanrelay import errors
from spanrelay.pipeline.middleware import execution_intercept, guardrail, request_intercept, use
from spanrelay.records import Message, ModelResponse, Text
from spanrelay.semconv import names
from spanrelay_testkit.capture import Capture, captured, said
from spanrelay_testkit.contract.checks import check_stream
from spanrelay_testkit.contract.subject import ANSWER, CallSubject, Subject
from spanrelay_testkit.exchange import error, reply
from spanrelay_testkit.half import Form, Half, Outcome, StreamForm

OTHER = '{"answer": "green"}'


class CallPolicyContract(CallSubject):
    """What policy decides is what happens, whatever is called."""

    def redact(self, call: Any) -> None:
        """Put `***` for `secret` in what is asked."""
        raise NotImplementedError

    def answer_from_cache(self, call: Any) -> Any:
        """Answer `OTHER` without sending anything, as an execution intercept does."""
        raise NotImplementedError

    def text_in(self, response: Any) -> str:
        """Return the answer that policy is shown."""
        raise NotImplementedError

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
        assert self.asked(refused) == "hi"

    async def test_a_rewritten_request_arrives_and_the_applications_own_objects_stay(
        self, half: Half, form: Form, instrumented: Capture
    ) -> None:
        messages = self.question("my secret")
        before = copy.deepcopy(messages)
        async with self.talking(half) as (server, client):
            with use(request_intercept(name="redact")(self.redact)):
                outcome = await form(half, client, messages)
        assert outcome.text == ANSWER
        assert server.requests[0].last_user_text == "my ***"
        assert messages == before
        assert self.asked(self.call_of(instrumented)) == "my ***"

    async def test_a_short_circuit_answers_in_the_form_that_was_asked_for(
        self, half: Half, form: Form, capture: Capture
    ) -> None:
        async with self.talking(half) as (server, client):
            bare = await form(half, client, self.question("hi"))
            with self.instrumenting(capture), use(execution_intercept(name="cache")(self.answer_from_cache)):
                ours = await form(half, client, self.question("hi"))
        assert ours == Outcome(OTHER, bare.types)
        assert len(server.requests) == 1
        span = self.call_of(capture)
        assert self.said(span) == OTHER
        assert names.INCOMPLETE not in (span.attributes or {})

    async def test_a_policy_sees_the_whole_answer_of_every_form(
        self, half: Half, form: Form, instrumented: Capture
    ) -> None:
        seen: list[str] = []
        async with self.talking(half) as (_, client):
            with use(execution_intercept(name="look")(noting(seen, self.text_in))):
                await form(half, client, self.question("hi"))
        assert seen == [self.said(self.call_of(instrumented))] * self.judged == [ANSWER] * self.judged

    async def test_two_branches_sent_together_are_read_apart(self, half: Half, instrumented: Capture) -> None:
        seen: list[str] = []
        async with self.talking(half) as (server, client):
            with use(execution_intercept(name="race")(racing(seen, self.text_in))):
                await half.settle(self.call(client, self.question("hi")))
        assert len(server.requests) == 2
        assert seen == [ANSWER, ANSWER]
        assert self.said(self.call_of(instrumented)) == ANSWER

    async def test_policy_holds_when_a_call_is_not_sampled(self, half: Half, form: Form) -> None:
        with captured(sampler=ALWAYS_OFF) as capture, self.instrumenting(capture):
            async with self.talking(half) as (server, client):
                with use(request_intercept(name="redact")(self.redact)):
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
            with suppressed(key), use(request_intercept(name="redact")(self.redact)):
                assert (await form(half, client, self.question("my secret"))).text == ANSWER
        assert server.requests[0].last_user_text == "my ***"
        assert self.calls_of(instrumented) == []


class PolicyContract(Subject, CallPolicyContract):
    """What policy decides is what happens, for every form of a model's answer."""

    def redact(self, call: Any) -> None:
        """Put `***` for `secret` in the request's messages."""
        for message in call.request.messages:
            message.parts = [
                Text(part.text.replace("secret", "***")) if isinstance(part, Text) else part for part in message.parts
            ]

    def answer_from_cache(self, call: Any) -> Any:
        """Answer `OTHER` without sending anything."""
        return ModelResponse(messages=[Message("assistant", [Text(OTHER)], finish_reason="stop")])
        yield call  # a generator function, as execution intercepts must be

    def text_in(self, response: Any) -> str:
        """Return the text."""
        return response.record.text

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
            policy = execution_intercept(name="look", buffered=True)(noting(seen, self.text_in))
            with self.instrumenting(capture), use(policy):
                ours = await form(half, client, self.question("hi"))
        assert ours == bare
        assert seen == [said(capture.span)] == [ANSWER]
        assert names.INCOMPLETE not in (capture.span.attributes or {})

    async def test_a_policy_sees_the_whole_answer_of_a_compressed_stream(
        self, half: Half, streaming: StreamForm, instrumented: Capture
    ) -> None:
        seen: list[str] = []
        async with self.talking(half, reply(ANSWER, gzip=True)) as (_, client):
            with use(execution_intercept(name="look")(noting(seen, self.text_in))):
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


def say_other(call: Any) -> Any:
    """Send the call on, and answer `OTHER` instead of what came."""
    response = yield call
    [message] = response.record.messages
    return replace(response.record, messages=[replace(message, parts=[Text(OTHER)])])


def noting(seen: list[str], text_in: Callable[[Any], str]) -> Callable[[Any], Any]:
    """Send the call on and note the text that came."""

    def look(call: Any) -> Any:
        response = yield call
        seen.append(text_in(response))

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


def racing(seen: list[str], text_in: Callable[[Any], str]) -> Callable[[Any], Any]:
    """Send two copies together and answer with the second."""

    def race(call: Any) -> Any:
        responses = yield [call.branch(), call.branch()]
        seen.extend(map(text_in, responses))
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
