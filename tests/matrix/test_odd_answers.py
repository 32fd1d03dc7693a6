"""Stream intercepts and answers that are not what was asked for: none slips through, and none is mistaken."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from spanrelay import MiddlewareError, stream_intercept, use
from spanrelay.codecs import openai_chat
from spanrelay.codecs.chat_dialects import capped_chat
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.capture import Capture, said
from spanrelay_testkit.exchange import Answer, Request, raw, sse
from spanrelay_testkit.half import Half
from spanrelay_testkit.model_server import ModelServer

CHUNK = {"id": "c", "choices": [{"index": 0, "delta": {"content": "a secret"}, "finish_reason": None}]}
WHOLE = {"id": "c", "choices": [{"index": 0, "message": {"role": "assistant", "content": "a secret"}}]}
HELLO: Any = [{"role": "user", "content": "hello"}]


@stream_intercept(hold_back=6)
def hush(call: Any, text: str) -> str:
    return text.replace("secret", "***")


@pytest.fixture(params=["sync", "async"])
def half(request: pytest.FixtureRequest) -> Half:
    return Half(asynchronous=request.param == "async")


@pytest.fixture
def instrumented(capture: Capture) -> Iterator[Capture]:
    OpenAIInstrumentor().instrument(tracer_provider=capture.provider)
    yield capture
    OpenAIInstrumentor().uninstrument()


async def heard(half: Half, answer: Answer) -> str:
    """Ask for a stream, and return the text that comes."""

    def script(request: Request) -> Answer:
        return answer

    with ModelServer(script) as server:
        kind: Any = openai.AsyncOpenAI if half.asynchronous else openai.OpenAI
        client = kind(base_url=server.url, api_key="none", max_retries=0)
        try:
            stream = await half.settle(client.chat.completions.create(model="m", messages=HELLO, stream=True))
            chunks = [chunk async for chunk in half.each(stream)]
        finally:
            await half.close(client)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


@pytest.mark.parametrize("kind", ["text/event-stream", "text/plain", "application/octet-stream", ""])
async def test_events_are_intercepted_whatever_the_provider_calls_them(
    half: Half, kind: str, instrumented: Capture
) -> None:
    with use(hush):
        assert await heard(half, raw(sse(CHUNK) + sse("[DONE]"), kind)) == "a ***"
    assert said(instrumented.span) == "a ***"


async def test_a_whole_answer_in_place_of_a_stream_is_recorded_as_one(half: Half, instrumented: Capture) -> None:
    assert await heard(half, raw(json.dumps(WHOLE).encode())) == ""
    assert said(instrumented.span) == "a secret"


async def test_a_whole_answer_in_place_of_a_stream_is_refused_where_an_intercept_has_to_see_it(
    half: Half, instrumented: Capture
) -> None:
    with use(hush), pytest.raises(MiddlewareError, match="answered a request for a stream with one JSON body"):
        await heard(half, raw(json.dumps(WHOLE).encode()))
    await asyncio.sleep(0)  # the connection is given back


@pytest.mark.swallows
async def test_a_stream_that_an_intercept_cannot_work_on_is_refused(
    half: Half, instrumented: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(openai_chat, "stream_texts")
    monkeypatch.delitem(vars(capped_chat), "stream_texts", raising=False)  # which it keeps once it was asked for
    with use(hush), pytest.raises(MiddlewareError, match="'hush' works on text"):
        await heard(half, raw(sse(CHUNK) + sse("[DONE]"), "text/event-stream"))
    await asyncio.sleep(0)  # the connection is given back
