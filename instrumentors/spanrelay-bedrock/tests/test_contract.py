"""The contract, for every way of asking a model that a client of Bedrock has."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar

import pytest

from spanrelay.semconv import names
from spanrelay_bedrock import BedrockInstrumentor
from spanrelay_testkit.capture import Capture, captured
from spanrelay_testkit.contract import InstrumentorContract
from spanrelay_testkit.contract.caching import CacheContract
from spanrelay_testkit.contract.checks import check_same_error
from spanrelay_testkit.contract.outcomes import failure_of
from spanrelay_testkit.contract.subject import ANSWER
from spanrelay_testkit.exchange import Answer, reply
from spanrelay_testkit.half import Form, Half, Outcome, StreamForm
from spanrelay_testkit.model_server import ModelServer

from .clients import MODEL, Events, nova, open_client, said_in, text_of


async def converse(half: Half, client: Any, messages: Any) -> Outcome:
    answer = await half.settle(client.converse(modelId=MODEL, messages=messages))
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    return Outcome(said_in(answer), (type(answer),))


async def converse_stream(half: Half, client: Any, messages: Any) -> Outcome:
    answer = await half.settle(client.converse_stream(modelId=MODEL, messages=messages))
    return await joined(half, answer["stream"])


async def invoke(half: Half, client: Any, messages: Any) -> Outcome:
    answer = await half.settle(client.invoke_model(modelId=MODEL, body=nova(messages)))
    body = answer["body"]
    data = await half.settle(body.read())
    assert not await half.settle(body.read())
    return Outcome(said_in(json.loads(data)), (type(answer), type(body)))


async def invoke_in_parts(half: Half, client: Any, messages: Any) -> Outcome:
    answer = await half.settle(client.invoke_model(modelId=MODEL, body=nova(messages).decode()))
    body, pieces = answer["body"], list[bytes]()
    pieces.append(await half.settle(body.read(7)))
    pieces += [piece async for piece in half.each(aiter(body) if half.asynchronous else iter(body))]
    return Outcome(said_in(json.loads(b"".join(pieces))), (type(body),))


async def invoke_stream(half: Half, client: Any, messages: Any) -> Outcome:
    answer = await half.settle(client.invoke_model_with_response_stream(modelId=MODEL, body=nova(messages)))
    return await joined(half, answer["body"])


async def joined(half: Half, stream: Any) -> Outcome:
    events = [event async for event in half.each(aiter(stream) if half.asynchronous else iter(stream))]
    return Outcome("".join(map(text_of, events)), (type(stream), *{type(event) for event in events}))


def opening(half_aware: Callable[[Any, Any], Any], key: str) -> Callable[[Any, Any], Any]:
    """Return what opens a stream of either colour as `Events`."""

    def open_(client: Any, messages: Any) -> Any:
        answer = half_aware(client, messages)
        if isinstance(answer, dict):
            return Events(answer[key])

        async def opened() -> Events:
            return Events((await answer)[key])

        return opened()

    return open_


def ask_converse_stream(client: Any, messages: Any) -> Any:
    return client.converse_stream(modelId=MODEL, messages=messages)


def ask_invoke_stream(client: Any, messages: Any) -> Any:
    return client.invoke_model_with_response_stream(modelId=MODEL, body=nova(messages))


# What botocore and aiobotocore do about a stream that is dropped, cut or cancelled, with us or without.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore:Unclosed connection:ResourceWarning")
class TestBedrock(InstrumentorContract, CacheContract):
    instrumentor = BedrockInstrumentor
    forms: ClassVar[dict[str, Form]] = {
        "converse": converse,
        "converse stream": converse_stream,
        "invoke": invoke,
        "invoke in parts": invoke_in_parts,
        "invoke stream": invoke_stream,
    }
    streams: ClassVar[dict[str, StreamForm]] = {
        "converse": StreamForm(opening(ask_converse_stream, "stream"), text_of),
        "invoke": StreamForm(opening(ask_invoke_stream, "body"), text_of),
    }

    def open_client(self, half: Half, url: str, **options: Any) -> Any:
        return open_client(half, url, **options)

    @contextlib.asynccontextmanager
    async def talking(self, half: Half, *answers: Answer, **options: Any) -> AsyncGenerator[tuple[ModelServer, Any]]:
        # botocore asks for answers that are not compressed, and reads no others
        plain = [replace(answer, gzip=False) for answer in answers]
        async with super().talking(half, *plain, **options) as talk:
            yield talk

    def question(self, text: str) -> list[Any]:
        return [{"role": "user", "content": [{"text": text}]}]

    def call(self, client: Any, messages: Any, **options: Any) -> Any:
        return client.converse(modelId=MODEL, messages=messages, **options)

    def bound_call(self, client: Any) -> Callable[[Any], Any]:
        ask = client.converse
        return lambda messages: ask(modelId=MODEL, messages=messages)

    def embed(self, client: Any, texts: Sequence[str]) -> Any:
        raise NotImplementedError

    async def test_embeddings_are_one_span_of_their_own_kind(self, half: Half, instrumented: Capture) -> None:
        pytest.skip("Bedrock has no API of its own for embeddings, only bodies of models'")

    async def test_a_request_that_is_no_inference_makes_no_span(self, half: Half, instrumented: Capture) -> None:
        async with self.talking(half) as (server, client):
            await failure_of(half, lambda: client.list_async_invokes())
        assert [request.path for request in server.requests] == ["/async-invoke"]
        assert instrumented.spans == ()

    async def test_a_generator_of_messages_reaches_the_provider_whole(self, half: Half, instrumented: Capture) -> None:
        # botocore takes lists alone: what it says of a generator is what the caller gets
        async with self.talking(half) as (server, client):
            ours = await failure_of(half, lambda: self.call(client, (each for each in self.question("one"))))
            BedrockInstrumentor().uninstrument()
            bare = await failure_of(half, lambda: self.call(client, (each for each in self.question("one"))))
        assert type(ours) is type(bare)
        assert server.requests == []
        assert (instrumented.span.attributes or {})[names.ERROR_TYPE] == "botocore.exceptions.ParamValidationError"

    async def test_what_is_sent_is_that_of_the_bare_sdk(
        self, half: Half, form: Form, capture: Capture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # The signature is of the time, and of all else that is sent.
        noon = datetime(2026, 1, 1, 12)
        monkeypatch.setattr("botocore.auth.get_current_datetime", lambda *_, **__: noon, raising=False)
        await super().test_what_is_sent_is_that_of_the_bare_sdk(half, form, capture)

    async def test_the_real_call_runs_under_its_span(self, half: Half, instrumented: Capture) -> None:
        async with self.talking(half) as (_, client):
            real = await client.real() if half.asynchronous else client
            real.meta.events.register("before-send", lambda **_: instrumented.tracer().start_span("http").end())
            await half.settle(self.call(client, self.question("hi")))
        inner, outer = instrumented.spans
        assert inner.parent is not None and outer.context is not None
        assert inner.parent.span_id == outer.context.span_id

    async def test_without_content_nothing_said_is_on_the_span(self, half: Half, form: Form) -> None:
        with captured(content=False) as capture, self.instrumenting(capture):
            async with self.talking(half, reply(ANSWER, reasoning="secretly")) as (_, client):
                await form(half, client, self.question("which colour?"))
            everything = capture.span.to_json()
            assert not any(text in everything for text in ("colour", "answer", "secretly"))
            assert (capture.span.attributes or {})[names.INPUT_TOKENS[0]]  # an answer has no id here


async def test_parameters_that_are_none_are_refused_by_the_client_whatever_policy_says(
    capture: Capture,
) -> None:
    from spanrelay.pipeline.middleware import guardrail, use

    half = Half(asynchronous=False)
    with ModelServer() as server:
        client = open_client(half, server.url)
        bare = await failure_of(half, lambda: client.converse(modelId=MODEL, messages="hi"))
        BedrockInstrumentor().instrument(tracer_provider=capture.provider)
        try:
            with use(guardrail(name="no")(lambda call: "not today")):
                ours = await failure_of(half, lambda: client.converse(modelId=MODEL, messages="hi"))
        finally:
            BedrockInstrumentor().uninstrument()
    check_same_error(ours, bare)
    assert capture.spans
