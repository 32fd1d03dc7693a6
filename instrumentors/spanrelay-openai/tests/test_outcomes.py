"""What happened is what is recorded, whatever the provider calls it: streams under any type, failures within a 200."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from opentelemetry.trace import StatusCode

import spanrelay
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.capture import Capture, said
from spanrelay_testkit.exchange import Answer, raw, sse
from spanrelay_testkit.half import Half
from spanrelay_testkit.model_server import ModelServer

EVENT_STREAM = "text/event-stream"
JSON_TYPES = ["application/json", "application/json; charset=utf-8", "application/stream+json", "application/x-ndjson"]
ODD_TYPES = [*JSON_TYPES, "text/plain", ""]
QUESTION: Any = [{"role": "user", "content": "hi"}]
SYNC, ASYNC = Half(asynchronous=False), Half(asynchronous=True)
HALVES = pytest.mark.parametrize("half", [SYNC, ASYNC], ids=["sync", "async"])

Ask = Callable[..., Any]


def chat(client: Any, **options: Any) -> Any:
    return client.chat.completions.create(model="m1", messages=QUESTION, **options)


def responses(client: Any, **options: Any) -> Any:
    return client.responses.create(model="m1", input="hi", **options)


def completions(client: Any, **options: Any) -> Any:
    return client.completions.create(model="m1", prompt="hi", **options)


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m1", "choices": [choice], **more}


def completion(text: str, finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "text": text, "finish_reason": finish}
    return {"id": "c1", "object": "text_completion", "created": 1, "model": "m1", "choices": [choice]}


def frames(*events: Any, done: bool = True) -> bytes:
    return b"".join(map(sse, events)) + (sse("[DONE]") if done else b"")


def delta(text: str) -> dict[str, Any]:
    place = {"item_id": "i1", "output_index": 0, "content_index": 0, "sequence_number": 1, "logprobs": []}
    return {"type": "response.output_text.delta", **place, "delta": text}


def ended(status: str, **fields: Any) -> dict[str, Any]:
    """The last event of a stream of the Responses API."""
    body = {"id": "r1", "object": "response", "created_at": 1, "model": "m1", "status": status, "tools": []}
    body |= {"tool_choice": "auto", "parallel_tool_calls": True, "error": None, "output": [], **fields}
    return {"type": f"response.{status}", "sequence_number": 2, "response": body}


TOLD = chunk({"content": "the secret"})
STREAMS: dict[str, tuple[Ask, bytes]] = {
    "chat": (chat, frames(TOLD, chunk({}, "stop"))),
    "completions": (completions, frames(completion("the secret"), completion("", "stop"))),
    "responses": (responses, frames(delta("the secret"), ended("completed"), done=False)),
}


WAYS = pytest.mark.parametrize(
    ("half", "api"),
    [(SYNC, "chat"), (ASYNC, "chat"), (ASYNC, "responses"), (SYNC, "completions")],
    ids=["sync chat", "async chat", "async responses", "sync completions"],
)


@pytest.fixture
def asking(capture: Capture) -> Iterator[Any]:
    """Asks the SDK, instrumented, against a server with one answer: `await asking(half, answer, ask)`."""
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)

    async def asked(half: Half, answer: Answer, ask: Ask) -> Any:
        kind: Any = openai.AsyncOpenAI if half.asynchronous else openai.OpenAI
        http: Any = openai.DefaultAsyncHttpxClient if half.asynchronous else openai.DefaultHttpxClient
        with ModelServer([answer]) as server:
            client = kind(base_url=server.url, api_key="none", max_retries=0, http_client=http(verify=False))
            try:
                return await ask(client)
            finally:
                await half.close(client)

    yield asked
    instrumentor.uninstrument()


def reading(half: Half, ask: Ask, **options: Any) -> Ask:
    """Ask for a stream and return the text of its chunks."""

    async def read(client: Any) -> str:
        stream = await half.settle(ask(client, stream=True, **options))
        return "".join([text_of(event) async for event in half.each(stream)])

    return read


def text_of(event: Any) -> str:
    if getattr(event, "choices", None):
        choice = event.choices[0]
        return choice.text if event.object == "text_completion" else choice.delta.content or ""
    told = getattr(event, "delta", None)
    return told if isinstance(told, str) else ""


@spanrelay.stream_intercept(hold_back=10)
def hide(call: Any, text: str) -> str:
    return text.replace("secret", "[hidden]")


# --- streams under any type --------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", ODD_TYPES)
@WAYS
async def test_a_stream_is_recorded_whatever_type_it_is_given(
    half: Half, content_type: str, api: str, asking: Any, capture: Capture
) -> None:
    ask, events = STREAMS[api]
    assert await asking(half, raw(events, content_type), reading(half, ask)) == "the secret"
    assert said(capture.span) == "the secret"
    assert (capture.span.attributes or {})["gen_ai.response.finish_reasons"] == ["stop"]
    assert "spanrelay.incomplete" not in (capture.span.attributes or {})


@pytest.mark.parametrize("content_type", ODD_TYPES)
@WAYS
async def test_stream_intercepts_stand_in_a_stream_whatever_type_it_is_given(
    half: Half, content_type: str, api: str, asking: Any, capture: Capture
) -> None:
    ask, events = STREAMS[api]
    with spanrelay.use(hide):
        assert await asking(half, raw(events, content_type), reading(half, ask)) == "the [hidden]"
    assert said(capture.span) == "the [hidden]"


WHOLE = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "m1",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "the secret"}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}


@pytest.mark.parametrize("content_type", [EVENT_STREAM, "application/json"])
@HALVES
async def test_a_whole_answer_to_a_request_for_a_stream_is_recorded(
    half: Half, content_type: str, asking: Any, capture: Capture
) -> None:
    assert await asking(half, raw(json.dumps(WHOLE).encode(), content_type), reading(half, chat)) == ""
    assert said(capture.span) == "the secret"
    assert (capture.span.attributes or {})["gen_ai.usage.output_tokens"] == 2


@pytest.mark.parametrize("content_type", [EVENT_STREAM, "application/json"])
@pytest.mark.parametrize("indent", [None, 2])
@HALVES
async def test_a_whole_answer_to_a_request_for_a_stream_is_refused_where_stream_intercepts_cannot_judge_it(
    half: Half, indent: int | None, content_type: str, asking: Any, capture: Capture
) -> None:
    body = json.dumps(WHOLE, indent=indent).replace("\n", "\n\n").encode()

    async def read(client: Any) -> str:
        answer = await half.settle(chat(client.with_raw_response, stream=True))
        return str(
            await half.settle(answer.http_response.aread() if half.asynchronous else answer.http_response.read())
        )

    with spanrelay.use(hide), pytest.raises(spanrelay.MiddlewareError, match="one JSON body"):
        await asking(half, raw(body, content_type), read)
    assert "secret" not in said(capture.span)
    assert capture.span.status.status_code is StatusCode.ERROR


@HALVES
async def test_an_error_body_to_a_request_for_a_stream_passes_stream_intercepts_and_is_recorded(
    half: Half, asking: Any, capture: Capture
) -> None:
    body = json.dumps({"error": {"message": "busy", "code": 429}}).encode()
    with spanrelay.use(hide):
        assert await asking(half, raw(body), reading(half, chat)) == ""
    assert "error.type" in (capture.span.attributes or {})


@HALVES
@pytest.mark.parametrize("policy", [False, True], ids=["recorded", "refused"])
async def test_a_stream_that_a_hook_of_the_application_has_read(
    half: Half, policy: bool, asking: Any, capture: Capture
) -> None:
    async def read_first(client: Any) -> str:
        async def aread(response: Any) -> None:
            await response.aread()

        client._client.event_hooks = {"response": [aread if half.asynchronous else lambda response: response.read()]}
        return await reading(half, chat)(client)

    answer = raw(STREAMS["chat"][1], EVENT_STREAM)
    if policy:
        with spanrelay.use(hide), pytest.raises(spanrelay.MiddlewareError, match="has been read"):
            await asking(half, answer, read_first)
        assert capture.span.status.status_code is StatusCode.ERROR
    else:
        assert await asking(half, answer, read_first) == "the secret"
        assert said(capture.span) == "the secret"
