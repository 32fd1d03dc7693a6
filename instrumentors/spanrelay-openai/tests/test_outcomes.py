"""What happened is what is recorded, whatever the provider calls it: streams under any type, failures within a 200."""

from __future__ import annotations

import contextlib
import gc
import gzip
import importlib
import inspect
import json
import socket
import weakref
from collections.abc import Callable, Generator, Iterator
from typing import Any

import openai
import pydantic
import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import StatusCode

import spanrelay
from spanrelay import execution_intercept, stream_intercept, use
from spanrelay.records import SpanRecord
from spanrelay.semconv import names
from spanrelay.telemetry.metrics import CallMetrics
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.capture import Capture, at_work, said
from spanrelay_testkit.exchange import Answer, raw, reply, sse
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

    async def asked(half: Half, answer: Answer | list[Answer], ask: Ask) -> Any:
        kind: Any = openai.AsyncOpenAI if half.asynchronous else openai.OpenAI
        http: Any = openai.DefaultAsyncHttpxClient if half.asynchronous else openai.DefaultHttpxClient
        with ModelServer(answer if isinstance(answer, list) else [answer]) as server:
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
    assert (capture.span.attributes or {})["gen_ai.response.finish_reasons"] == ("stop",)
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
    assert outcome(capture) == ("error", "busy", "error")


@HALVES
@pytest.mark.parametrize("policy", [False, True], ids=["recorded", "rewritten"])
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
        with spanrelay.use(hide):
            assert await asking(half, answer, read_first) == "the [hidden]"
        assert said(capture.span) == "the [hidden]"
    else:
        assert await asking(half, answer, read_first) == "the secret"
        assert said(capture.span) == "the secret"


ASKED_BY_THE_BODY: dict[str, tuple[str, Ask]] = {
    "parse of responses": (
        "responses",
        lambda client: client.responses.with_raw_response.parse(model="m1", input="hi", extra_body={"stream": True}),
    ),
    "parse of chat": (
        "chat",
        lambda client: chat(client.with_raw_response, extra_body={"stream": True}),
    ),
    "a stream of raw bytes": (
        "responses",
        lambda client: responses(client.with_raw_response, stream=True),
    ),
}


@HALVES
@pytest.mark.parametrize("name", ASKED_BY_THE_BODY)
async def test_stream_intercepts_stand_in_a_stream_that_the_sdk_reads_to_its_end(
    half: Half, name: str, asking: Any, capture: Capture
) -> None:
    api, ask = ASKED_BY_THE_BODY[name]

    async def read(client: Any) -> str:
        answer = await half.settle(ask(client))
        http = answer.http_response
        told = await half.settle(http.aread() if half.asynchronous else http.read())
        assert http.elapsed.total_seconds() > 0
        assert http.headers["content-type"] == EVENT_STREAM
        return told.decode()

    with spanrelay.use(hide):
        told = await asking(half, raw(STREAMS[api][1], EVENT_STREAM), read)
    assert "[hidden]" in told
    assert "secret" not in told
    assert said(capture.span) == "the [hidden]"


@HALVES
async def test_an_intercept_refuses_a_stream_that_the_sdk_reads_to_its_end(
    half: Half, asking: Any, capture: Capture
) -> None:
    @spanrelay.stream_intercept
    def refuse(call: Any, event: Any) -> Any:
        raise PermissionError("not this")

    api, ask = ASKED_BY_THE_BODY["parse of responses"]
    with spanrelay.use(refuse), pytest.raises(PermissionError, match="not this"):
        await asking(half, raw(STREAMS[api][1], EVENT_STREAM), lambda client: half.settle(ask(client)))
    assert "secret" not in said(capture.span)


async def test_stream_intercepts_stand_in_what_a_transport_of_the_applications_has_made(capture: Capture) -> None:
    """It is compressed, and was never read from a connection."""
    http: Any = importlib.import_module(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])
    body = gzip.compress(STREAMS["chat"][1])
    headers = {"content-type": EVENT_STREAM, "content-encoding": "gzip"}
    transport = http.MockTransport(lambda _: http.Response(200, headers=headers, content=body))
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    try:
        client = openai.OpenAI(api_key="none", http_client=openai.DefaultHttpxClient(transport=transport))
        with client, spanrelay.use(hide):
            assert await reading(SYNC, chat)(client) == "the [hidden]"
    finally:
        instrumentor.uninstrument()


# --- who answers -------------------------------------------------------------------------------------------


@HALVES
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_nvidias_endpoints_are_one_span_a_call_with_nvidia_as_the_provider(
    half: Half, stream: bool, capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo
    # Every name is this machine's, so that the host can be asked without a network.
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *more, **options: resolve("127.0.0.1", *more, **options))
    model = "nvidia/llama-3.3-nemotron-super-49b-v1.5"
    kind: Any = openai.AsyncOpenAI if half.asynchronous else openai.OpenAI
    with at_work(capture, OpenAIInstrumentor), ModelServer([reply("Blue.")]) as server:
        url = server.url.replace("127.0.0.1", "integrate.api.nvidia.com")
        async with half.entered(kind(base_url=url, api_key="none", max_retries=0)) as client:
            ask = client.chat.completions.create(model=model, messages=QUESTION, stream=stream)
            answer = await half.settle(ask)
            if stream:
                assert [event async for event in half.each(answer)]
        assert [request.model for request in server.requests] == [model]
    attributes = capture.span.attributes or {}
    assert (attributes[names.PROVIDER], attributes[names.REQUEST_MODEL]) == ("nvidia", model)
    assert attributes["server.address"] == "integrate.api.nvidia.com"
    assert said(capture.span) == "Blue."


# --- failures within a 200 ---------------------------------------------------------------------------------


def outcome(capture: Capture) -> tuple[Any, ...]:
    """What the span, the record behind it and the metric say of how a call ended: they agree, or the test fails."""
    span, record = capture.span, capture.record(capture.span)
    attributes = span.attributes or {}
    failed = span.status.status_code is StatusCode.ERROR
    assert failed == (names.ERROR_TYPE in attributes) == (record.error is not None)
    if record.error is not None:
        assert attributes[names.ERROR_TYPE] == record.error.type == measured(record)[names.ERROR_TYPE]
        assert span.status.description == record.error.message
        assert attributes[names.HTTP_STATUS_CODE] == record.error.status_code == 200
    encode_spans([span])
    return attributes.get(names.ERROR_TYPE), span.status.description, attributes.get(names.INCOMPLETE)


def measured(record: SpanRecord) -> dict[str, Any]:
    """The attributes of the duration that is measured of a call."""
    reader = InMemoryMetricReader()
    CallMetrics(MeterProvider([reader], shutdown_on_exit=False)).record(record)
    data: Any = reader.get_metrics_data()
    [metric] = [
        metric
        for of_resource in data.resource_metrics
        for of_scope in of_resource.scope_metrics
        for metric in of_scope.metrics
        if metric.name == names.OPERATION_DURATION
    ]
    [point] = metric.data.data_points
    return dict(point.attributes)


def reply_of(ask: Ask) -> Ask:
    async def whole(client: Any) -> Any:
        answer = ask(client)
        return await answer if inspect.isawaitable(answer) else answer

    return whole


BUSY = {"message": "busy", "type": "overloaded", "code": 429}
FAILED = {"code": "server_error", "message": "the model failed"}
BROKEN_BODIES: dict[str, tuple[Ask, Any, str, str]] = {
    "an error body": (chat, {"error": {"message": "busy", "code": 429}}, "error", "busy"),
    "an error body to completions": (completions, {"error": BUSY}, "overloaded", "busy"),
    "a text as the error": (chat, {"error": "busy"}, "error", "busy"),
    "a flat error": (chat, {"object": "error", **BUSY}, "overloaded", "busy"),
    "a failed response": (responses, ended("failed", error=FAILED)["response"], "server_error", "the model failed"),
    "a failed response that does not say why": (
        responses,
        ended("failed")["response"],
        "failed",
        "the response failed",
    ),
    "an error body to responses": (responses, {"error": BUSY}, "overloaded", "busy"),
    "a choice that failed": (
        chat,
        {**WHOLE, "choices": [{**WHOLE["choices"][0], "finish_reason": "error", "error": BUSY}]},
        "overloaded",
        "busy",
    ),
}


@pytest.mark.parametrize("case", BROKEN_BODIES)
@HALVES
async def test_a_failure_that_a_200_holds_is_the_calls(half: Half, case: str, asking: Any, capture: Capture) -> None:
    ask, body, kind, message = BROKEN_BODIES[case]
    await asking(half, raw(json.dumps(body).encode()), reply_of(ask))
    assert outcome(capture) == (kind, message, None)


HEL = chunk({"content": "Hel"})
BROKEN_STREAMS: dict[str, tuple[Ask, bytes, str, str]] = {
    "an error": (chat, frames(HEL, {"error": BUSY}), "openai.APIError", "busy"),
    "an error beside choices": (
        chat,
        frames(HEL, chunk({"content": ""}, "error", error={"code": 502, "message": "gone"})),
        "openai.APIError",
        "gone",
    ),
    "an error first": (chat, frames({"error": BUSY}, HEL), "openai.APIError", "busy"),
    "an error that ends the connection": (chat, frames(HEL, {"error": BUSY}, done=False), "openai.APIError", "busy"),
    "a flat error": (chat, frames(HEL, {"object": "error", "message": "boom", "code": 500}), "error", "boom"),
    "a flat error of completions": (
        completions,
        frames(completion("Hel"), {"object": "error", "message": "boom", "type": "Broken"}),
        "Broken",
        "boom",
    ),
    "a flat error of responses": (
        responses,
        frames(delta("Hel"), {"type": "error", "code": "broken", "message": "boom", "sequence_number": 3}, done=False),
        "broken",
        "boom",
    ),
    "a failed response": (
        responses,
        frames(delta("Hel"), ended("failed", error=FAILED), done=False),
        "server_error",
        "the model failed",
    ),
    "an error body": (chat, json.dumps({"error": BUSY}).encode(), "overloaded", "busy"),
    "broken JSON": (
        chat,
        frames(HEL, done=False) + b'data: {"id": broken\n\n',
        "json.decoder.JSONDecodeError",
        "Expecting value: line 1 column 8 (char 7)",
    ),
}


@pytest.mark.parametrize("case", BROKEN_STREAMS)
@HALVES
async def test_a_failure_in_a_stream_is_the_calls_by_the_exception_that_the_caller_got(
    half: Half, case: str, asking: Any, capture: Capture
) -> None:
    ask, events, kind, message = BROKEN_STREAMS[case]
    try:
        await asking(half, raw(events, EVENT_STREAM), reading(half, ask))
    except Exception as error:
        assert f"{type(error).__module__}.{type(error).__qualname__}" == kind
    told, description, incomplete = outcome(capture)
    assert (told, description) == (kind, message)
    assert incomplete == (None if case == "a failed response" else "error")


class Wanted(pydantic.BaseModel):
    a: int


@pytest.mark.parametrize(
    ("text", "finish", "kind"),
    [
        ('{"a":', "length", "openai.LengthFinishReasonError"),
        ('{"a":', "content_filter", "openai.ContentFilterFinishReasonError"),
        ('{"a": "x"}', "stop", "pydantic_core._pydantic_core.ValidationError"),
    ],
)
@HALVES
async def test_what_a_helper_of_the_sdk_raises_of_a_stream_is_on_the_span(
    half: Half, text: str, finish: str, kind: str, asking: Any, capture: Capture
) -> None:
    async def read(client: Any) -> None:
        manager = client.chat.completions.stream(model="m1", messages=QUESTION, response_format=Wanted)
        async with half.entered(manager) as stream:
            await half.read_on(stream)

    with pytest.raises(Exception) as raised:
        await asking(half, raw(frames(chunk({"content": text}), chunk({}, finish)), EVENT_STREAM), read)
    assert outcome(capture) == (kind, str(raised.value), None)


@HALVES
async def test_what_the_application_raises_while_it_reads_is_no_failure_of_the_call(
    half: Half, asking: Any, capture: Capture
) -> None:
    async def read(client: Any) -> None:
        stream = await half.settle(chat(client, stream=True))
        async with half.entered(stream):
            await half.take(stream, 1)
            response = stream.response
            raise LookupError(f"not that: {response}")

    with pytest.raises(LookupError):
        await asking(half, raw(frames(HEL, HEL, chunk({}, "stop")), EVENT_STREAM), read)
    assert outcome(capture) == (None, None, "closed")


@HALVES
async def test_what_another_stream_raises_is_no_failure_of_the_one_around_it(
    half: Half, asking: Any, capture: Capture
) -> None:
    async def read(client: Any) -> None:
        async with half.entered(await half.settle(chat(client, stream=True))) as outer:
            await half.take(outer, 1)
            with ModelServer([raw(frames({"error": BUSY}), EVENT_STREAM)]) as other:
                await reading(half, chat)(client.with_options(base_url=other.url))

    with pytest.raises(openai.APIError):
        await asking(half, raw(frames(HEL, HEL, chunk({}, "stop")), EVENT_STREAM), read)
    inner, outer = capture.spans
    assert inner.status.status_code is StatusCode.ERROR
    assert outer.status.status_code is StatusCode.UNSET
    assert (outer.attributes or {})[names.INCOMPLETE] == "closed"


# --- answers that the connection cut ----------------------------------------------------------------------


ENDINGS: dict[str, tuple[Ask, bytes, str | None]] = {
    "no finish reason": (chat, frames(HEL, done=False), "cut"),
    "no finish reason of completions": (completions, frames(completion("Hel"), done=False), "cut"),
    "no last event": (responses, frames(delta("Hel"), done=False), "cut"),
    "one choice of two": (
        chat,
        frames(
            HEL,
            {**HEL, "choices": [{"index": 1, "delta": {"content": "x"}, "finish_reason": None}]},
            chunk({}, "stop"),
            done=False,
        ),
        "cut",
    ),
    "no event": (chat, b"", "cut"),
    "only the end": (chat, frames(), None),
    "a finish reason without the end": (chat, frames(HEL, chunk({}, "stop"), done=False), None),
    "a finish reason of completions": (completions, frames(completion("Hel", "length"), done=False), None),
    "the end without a finish reason": (chat, frames(HEL), None),
    "completed": (responses, frames(delta("Hel"), ended("completed"), done=False), None),
    "incomplete": (responses, frames(delta("Hel"), ended("incomplete"), done=False), None),
}


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("case", ENDINGS)
@HALVES
async def test_a_stream_says_whether_the_answer_came_to_its_end(
    half: Half, case: str, compressed: bool, asking: Any, capture: Capture
) -> None:
    ask, events, incomplete = ENDINGS[case]
    await asking(half, raw(events, EVENT_STREAM, gzip=compressed), reading(half, ask))
    assert outcome(capture) == (None, None, incomplete)


@HALVES
async def test_policy_on_a_whole_answer_is_told_that_it_was_cut_and_may_ask_again(
    half: Half, asking: Any, capture: Capture
) -> None:
    told: list[str | None] = []

    @spanrelay.execution_intercept(buffered=True)
    def again(call: Any) -> Any:
        response = yield call
        told.append(response.incomplete)
        if response.incomplete:
            response = yield call
            told.append(response.incomplete)
        return response

    answers = [raw(frames(HEL, done=False), EVENT_STREAM), raw(frames(HEL, chunk({}, "stop")), EVENT_STREAM)]
    with spanrelay.use(again):
        assert await asking(half, answers, reading(half, chat)) == "Hel"
    assert told == ["cut", None]
    assert outcome(capture) == (None, None, None)


# --- what is left of a failure when the application has let go of it ----------------------------------------


def around(call: Any) -> Generator[Any, Any, Any]:
    return (yield call)


TAKEN: dict[str, Any] = {
    "intercept": execution_intercept(around),
    "buffered": execution_intercept(around, buffered=True),
    "stream intercept": stream_intercept(name="as it is")(lambda call, event: event),
}
LET_GO = {
    "broken JSON": BROKEN_STREAMS["broken JSON"][1],
    "an error in an event": frames(HEL, {"error": BUSY}),
}


@pytest.mark.parametrize("policy", [None, *TAKEN], ids=["recorded", *TAKEN])
@pytest.mark.parametrize("case", [*LET_GO, "a cut connection"])
@HALVES
async def test_a_failure_in_a_stream_is_freed_when_the_application_lets_go_of_it(
    half: Half, case: str, policy: str | None, asking: Any, capture: Capture
) -> None:
    known: list[weakref.ref[Exception]] = []

    async def read(client: Any) -> None:
        try:
            stream = await half.settle(chat(client, stream=True))
            [event async for event in half.each(stream)]
        except Exception as error:
            known.append(weakref.ref(error))

    cut = case == "a cut connection"
    answer = reply("one two three", cut_after=2) if cut else raw(LET_GO[case], EVENT_STREAM)
    gc.collect()
    gc.disable()
    try:
        with contextlib.nullcontext() if policy is None else use(TAKEN[policy]):
            await asking(half, answer, read)
        assert [each() for each in known] == [None]
    finally:
        gc.enable()
