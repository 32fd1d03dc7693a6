"""What nobody should send, or answer: the application sees what the bare SDK shows, and one span ends.

Each call is made twice, without and with us; a failure is compared by type, text and the SDK's line that raised.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import openai
import pytest
from openai._models import FinalRequestOptions
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

import spanrelay
from spanrelay._guard import losses
from spanrelay.cli import main
from spanrelay.config import Settings
from spanrelay.pipeline.middleware import execution_intercept, guardrail, request_intercept, stream_intercept, use
from spanrelay.records import Message, ModelRequest, ModelResponse, Text
from spanrelay.semconv import names
from spanrelay.tracing import recording
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.capture import Capture, asked, captured, said
from spanrelay_testkit.exchange import Answer, Request, raw, reply, tool_call
from spanrelay_testkit.half import Half, context_untouched
from spanrelay_testkit.model_server import ModelServer

Ask = Callable[[Any], Any]
"""Makes a call with a client."""

MODEL = "gpt-5"
QUESTION: Any = [{"role": "user", "content": "hi"}]
EVENT_STREAM = "text/event-stream"
BIG = 50_000_000

APIS: dict[str, Ask] = {
    "chat": lambda client: client.chat.completions.create(model=MODEL, messages=QUESTION),
    "responses": lambda client: client.responses.create(model=MODEL, input="hi"),
    "completions": lambda client: client.completions.create(model=MODEL, prompt="hi"),
    "embeddings": lambda client: client.embeddings.create(model="text-embedding-3-small", input="hi"),
}
STREAMS: dict[str, Ask] = {
    "chat": lambda client: client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True),
    "responses": lambda client: client.responses.create(model=MODEL, input="hi", stream=True),
    "completions": lambda client: client.completions.create(model=MODEL, prompt="hi", stream=True),
}


SYNC, ASYNC = Half(asynchronous=False), Half(asynchronous=True)
HALVES = pytest.mark.parametrize("half", [SYNC, ASYNC], ids=["sync", "async"])
# Each API once, and each half with several: reading is the same for both, sending is the same for all APIs.
WHOLE = pytest.mark.parametrize(
    ("half", "ask"),
    [(SYNC, APIS["chat"]), (ASYNC, APIS["responses"]), (SYNC, APIS["embeddings"]), (ASYNC, APIS["completions"])],
    ids=["sync chat", "async responses", "sync embeddings", "async completions"],
)
STREAMED = pytest.mark.parametrize(
    ("half", "ask"),
    [(SYNC, STREAMS["responses"]), (ASYNC, STREAMS["chat"]), (SYNC, STREAMS["completions"])],
    ids=["sync responses", "async chat", "sync completions"],
)


# --- the same call without us and with us ---


async def seen(half: Half, ask: Callable[[], Any]) -> list[Any]:
    """Everything the application sees of a call: answer or chunks as plain data, and what was raised."""
    told: list[Any] = []
    try:
        with context_untouched():
            answer = await half.settle(ask())
        told.append(type(answer))
        if isinstance(answer, openai.Stream | openai.AsyncStream):
            async for chunk in half.each(answer):
                told.append(plain(chunk))
        else:
            told.append(plain(answer))
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        told += [type(error), str(error), type(error.__cause__), at.filename, at.lineno]
    return told


def plain(answer: Any) -> str:
    """An answer as text, in which NaN equals NaN."""
    return repr(answer.model_dump(warnings=False) if hasattr(answer, "model_dump") else answer)


async def seen_twice(half: Half, answer: Answer, ask: Ask, provider: TracerProvider) -> tuple[list[Any], list[Request]]:
    """What the application sees without us, which is what it sees with us; and the requests, equal too."""
    kind: Any = openai.AsyncOpenAI if half.asynchronous else openai.OpenAI
    # Without verification no certificates are loaded, which would take most of a test's time.
    http: Any = openai.DefaultAsyncHttpxClient if half.asynchronous else openai.DefaultHttpxClient
    instrumentor = OpenAIInstrumentor()
    # Two servers, as each counts its answers' ids.
    with ModelServer([answer]) as first, ModelServer([answer]) as second:
        client = kind(base_url=first.url, api_key="none", max_retries=0, http_client=http(verify=False))
        bare = await seen(half, lambda: ask(client))
        instrumentor.instrument(tracer_provider=provider)
        try:
            ours = await seen(half, lambda: ask(client.with_options(base_url=second.url)))
        finally:
            instrumentor.uninstrument()
            await half.close(client)
    assert ours == bare
    assert [request.raw for request in first.requests] == [request.raw for request in second.requests]
    return bare, second.requests


def check_span(span: ReadableSpan, told: Sequence[Any]) -> None:
    """The span tells of the failure that the application saw, unless it saw it in the middle of a stream."""
    attributes = span.attributes or {}
    errors = [kind for kind in told if isinstance(kind, type) and issubclass(kind, Exception)]
    if errors and not issubclass(told[0], openai.Stream | openai.AsyncStream):
        assert span.status.status_code is StatusCode.ERROR
        assert str(attributes[names.ERROR_TYPE]).endswith(errors[0].__qualname__)
    assert asked(span) == "hi"
    encode_spans([span])  # complains, which fails the test, of attributes that OTLP cannot carry


# --- whole answers ---

ODD = '{"id": "1", "object": "o", "model": "m", %s}'
BODIES: dict[str, Answer] = {
    "empty": raw(b""),
    "blank": raw(b" \n"),
    "cut JSON": raw(b'{"id": "1", "choices": [{"index": 0'),
    "HTML": raw(b"<html><body>Hello</body></html>", "text/html"),
    "HTML that calls itself JSON": raw(b"<html><body>Hello</body></html>"),
    "JSON that calls itself text": raw(b'{"id": "1", "choices": []}', "text/plain"),
    "null": raw(b"null"),
    "a list": raw(b"[1, 2]"),
    "a number": raw(b"7"),
    "a text": raw(b'"hi"'),
    "an empty object": raw(b"{}"),
    "NaN and Infinity": raw((ODD % '"usage": {"prompt_tokens": NaN, "total_tokens": -Infinity}').encode()),
    "fields of other types": raw(
        (ODD % '"choices": {"a": 1}, "output": "x", "data": 3, "usage": "many", "status": []').encode()
    ),
    "items of other types": raw((ODD % '"choices": [null, 3], "output": [null, [1]], "data": ["x"]').encode()),
    "messages of other types": raw(
        (
            ODD % '"choices": [{"index": "x", "message": [], "text": 4}, {"message": {"content": [1], "tool_calls": '
            '[{"function": "f"}, null]}}], "output": [{"type": "message", "content": 3}, {"type": "function_call"}], '
            '"data": [{"embedding": {"a": 1}}]'
        ).encode()
    ),
    "tokens of a size that no integer of 64 bits has": raw(
        (ODD % f'"usage": {{"prompt_tokens": {10**40}, "input_tokens": {10**40}, "total_tokens": 1.5}}').encode()
    ),
    "not UTF-8": raw(b'{"id": "\xff\xfe", "model": "m"}'),
    "with a byte order mark": raw(b'\xef\xbb\xbf{"id": "1", "model": "m"}'),
    "very deep": raw(b'{"a":' * 5_000 + b"1" + b"}" * 5_000),
    "cut by the connection": reply("one two three", cut_after=60),
    "a stream where a whole answer was asked for": raw(b'data: {"id": "1"}\n\n', EVENT_STREAM),
}


@pytest.mark.parametrize("answer", BODIES.values(), ids=BODIES)
@WHOLE
async def test_an_odd_answer_is_the_sdks_business(half: Half, ask: Ask, answer: Answer, capture: Capture) -> None:
    told, _ = await seen_twice(half, answer, ask, capture.provider)
    check_span(capture.span, told)


@HALVES
async def test_lone_surrogates_in_an_answer_reach_the_application_as_they_are(half: Half, capture: Capture) -> None:
    answer = reply("blue \ud83d sky", tool_calls=[tool_call("look", at="\udc00")])
    [_, text], _ = await seen_twice(half, answer, APIS["chat"], capture.provider)
    assert "blue \\ud83d sky" in text
    assert said(capture.span) == "blue \ufffd sky"


@HALVES
@pytest.mark.parametrize(
    "arguments", ["", "{", "look there", '{"a": NaN, "b": -Infinity}', "[1, 2]", "7", '"text"', '{"a": "\\ud800"}']
)
@pytest.mark.parametrize("ask", [*APIS.values()][:2], ids=["chat", "responses"])
async def test_arguments_of_a_tool_that_are_no_object_are_recorded_as_they_came(
    half: Half, ask: Ask, arguments: str, capture: Capture
) -> None:
    await seen_twice(half, reply(tool_calls=[tool_call("look", arguments)]), ask, capture.provider)
    [message] = json.loads(str((capture.span.attributes or {})[names.OUTPUT_MESSAGES]))
    [part] = message["parts"]
    assert (part["type"], part["name"]) == ("tool_call", "look")
    told = part["arguments"]
    assert told == arguments or told == json.loads(arguments)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
async def test_an_answer_of_fifty_megabytes_arrives_whole(streamed: bool, capture: Capture) -> None:
    half, piece = Half(asynchronous=False), "blue " * 200_000
    text = piece * (BIG // len(piece))
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    answer = raw(json.dumps({"id": "1", "object": "chat.completion", "model": MODEL, "choices": [choice]}).encode())
    if streamed:
        chunk = {"id": "1", "model": MODEL, "choices": [{"index": 0, "delta": {"content": piece}}]}
        answer = raw(b"data: %b\n\n" % json.dumps(chunk).encode() * (len(text) // len(piece)), EVENT_STREAM)
    told, _ = await seen_twice(half, answer, (STREAMS if streamed else APIS)["chat"], capture.provider)
    assert sum(chunk.count("blue") for chunk in told[1:]) == len(text) // 5
    assert said(capture.span) == text


# --- streams ---


def chunk(text: str) -> bytes:
    """An event of every API at once, as each of them ignores what it does not know."""
    event = {
        "id": "1",
        "model": "m",
        "type": "response.output_text.delta",
        "item_id": "msg_1",
        "output_index": 0,
        "content_index": 0,
        "sequence_number": 1,
        "delta": text,
        "choices": [{"index": 0, "text": text, "delta": {"content": text}}],
    }
    return b"data: " + json.dumps(event).encode() + b"\n\n"


END = b"data: [DONE]\n\n"
EVENTS: dict[str, bytes] = {
    "no event": b"",
    "only a comment": b": ping\n\n",
    "only the end": END,
    "no end": chunk("blue"),
    "broken JSON": chunk("blue") + b'data: {"id": "1", "cho\n\n' + chunk("sky") + END,
    "broken JSON first": b"data: {\n\n" + chunk("sky") + END,
    "cut in the middle of an event": chunk("blue") + chunk("sky")[:30],
    "cut behind the end of its line": chunk("blue") + chunk("sky")[:-1],
    "null": chunk("blue") + b"data: null\n\n" + chunk("sky") + END,
    "a number": chunk("blue") + b"data: 7\n\n" + chunk("sky") + END,
    "a list": chunk("blue") + b"data: [1]\n\n" + chunk("sky") + END,
    "an event without data": chunk("blue") + b"event: nothing\n\n" + chunk("sky") + END,
    "an event of two lines": chunk("blue") + b'data: {"id": "1",\ndata: "choices": []}\n\n' + END,
    "fields of other types": b'data: {"id": 7, "type": 3, "choices": {"a": 1}, "response": 4, "usage": []}\n\n' + END,
    "items of other types": b'data: {"choices": [null, 3, {"delta": 4, "text": []}], "type": "x"}\n\n' + END,
    "events of other types": b'data: {"type": "response.output_text.delta", "delta": 4, "output_index": "a"}\n\n'
    b'data: {"type": "response.output_item.added", "item": 3}\n\ndata: {"type": "response.completed"}\n\n' + END,
    "NaN": chunk("blue") + b'data: {"id": "1", "choices": [], "usage": {"prompt_tokens": NaN}}\n\n' + END,
    "a lone surrogate": chunk("blue \ud83d") + END,
    "not UTF-8": b'data: {"id": "\xff", "choices": []}\n\n' + END,
    "carriage returns": (chunk("blue") + chunk("sky") + END).replace(b"\n", b"\r\n"),
    "events after the end": chunk("blue") + END + chunk("sky"),
    "a huge index": b'data: {"choices": [{"index": 1000000000000, "delta": {"content": "x"}}]}\n\n' + END,
    "very deep": b"data: " + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"\n\n" + END,
}


@pytest.mark.parametrize("events", EVENTS.values(), ids=EVENTS)
@STREAMED
async def test_odd_events_of_a_stream_are_the_sdks_business(
    half: Half, ask: Ask, events: bytes, capture: Capture
) -> None:
    told, _ = await seen_twice(half, raw(events, EVENT_STREAM), ask, capture.provider)
    check_span(capture.span, told)


@HALVES
@pytest.mark.parametrize("events", ["broken JSON", "cut in the middle of an event"])
async def test_what_came_before_a_broken_event_is_on_the_span(half: Half, events: str, capture: Capture) -> None:
    await seen_twice(half, raw(EVENTS[events], EVENT_STREAM), STREAMS["chat"], capture.provider)
    assert said(capture.span).startswith("blue")


@pytest.mark.parametrize("body", ["empty", "cut JSON", "HTML", "HTML that calls itself JSON", "an empty object"])
@STREAMED
async def test_a_body_that_is_no_stream_where_one_was_asked_for(
    half: Half, ask: Ask, body: str, capture: Capture
) -> None:
    told, _ = await seen_twice(half, BODIES[body], ask, capture.provider)
    check_span(capture.span, told)


# --- requests ---


def cycle() -> dict[str, Any]:
    message: dict[str, Any] = {"role": "user", "content": "hi"}
    message["metadata"] = {"message": message}
    return message


class Stubborn(Mapping[str, Any]):
    """A message that cannot be read."""

    def __getitem__(self, key: str) -> Any:
        raise LookupError("this message cannot be read")

    def __iter__(self) -> Iterator[str]:
        raise LookupError("this message cannot be read")

    def __len__(self) -> int:
        return 1


class Unspeakable:
    """An object that has no text."""

    def __repr__(self) -> str:
        raise LookupError("this object has no text")


REQUESTS: dict[str, Ask] = {
    "a message that holds itself": lambda client: client.chat.completions.create(model=MODEL, messages=[cycle()]),
    "a body that holds itself": lambda client: client.post(
        "/chat/completions", body={"model": MODEL, "messages": [cycle()]}, cast_to=object
    ),
    "a message that cannot be read": lambda client: client.post(
        "/chat/completions", body={"model": MODEL, "messages": [Stubborn()]}, cast_to=object
    ),
    "an object that has no text": lambda client: client.post(
        "/chat/completions", body={"model": MODEL, "messages": [Unspeakable()]}, cast_to=object
    ),
    "NaN": lambda client: client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=float("nan")),
    "Infinity": lambda client: client.chat.completions.create(model=MODEL, messages=QUESTION, top_p=float("inf")),
    "a lone surrogate": lambda client: client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "hi \ud83d"}]
    ),
    "a model that is no text": lambda client: client.chat.completions.create(model=7, messages=QUESTION),
    "no messages": lambda client: client.chat.completions.create(model=MODEL, messages=[]),
    "messages that are null": lambda client: client.chat.completions.create(model=MODEL, messages=None),
    "messages that are a number": lambda client: client.post(
        "/chat/completions", body={"model": MODEL, "messages": 7, "tools": 8, "stop": {}}, cast_to=object
    ),
    "messages of other types": lambda client: client.post(
        "/chat/completions",
        body={"messages": [None, 7, [], {"role": 3, "content": [None, {"type": 4}], "tool_calls": [7]}], "tools": [1]},
        cast_to=object,
    ),
    "input of other types": lambda client: client.post(
        "/responses", body={"input": [None, 7, {"type": 3}, {"type": "message"}], "tools": {"a": 1}}, cast_to=object
    ),
    "a set": lambda client: client.post("/chat/completions", body={"messages": {1, 2}}, cast_to=object),
    "bytes": lambda client: client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": b"\xff"}]
    ),
    "keys that are no text": lambda client: client.post(
        "/chat/completions", body={"messages": [{3: 4, None: 5}]}, cast_to=object
    ),
    "an integer of forty digits": lambda client: client.chat.completions.create(
        model=MODEL, messages=QUESTION, seed=10**40
    ),
}


class Undecided:
    """An object that is neither true nor false."""

    def __bool__(self) -> bool:
        raise LookupError("this object is neither true nor false")


class Pairs:
    """What `dict()` takes and is no mapping."""

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter([("model", MODEL), ("messages", QUESTION)])

    def keys(self) -> list[str]:
        return ["model", "messages"]

    def __getitem__(self, key: str) -> Any:
        return {"model": MODEL, "messages": QUESTION}[key]


def chatting(**options: Any) -> Ask:
    """A call of the Chat API with one odd argument."""
    return lambda client: client.chat.completions.create(**{"model": MODEL, "messages": QUESTION, **options})


ODD_VALUES: dict[str, Any] = {
    "a text": "abc",
    "a number": 7,
    "a list of pairs": [("model", MODEL)],
    "an empty list": [],
    "a false value": False,
    "an undecided object": Undecided(),
    "a mapping that cannot be read": Stubborn(),
    "pairs": Pairs(),
    "bytes": b"{}",
    "omit": openai.omit,
    "not given": openai.NOT_GIVEN,
}
ODD_ARGUMENTS: dict[str, Ask] = {
    **{
        f"{argument}: {name}": chatting(**{argument: value})
        for argument in ("extra_body", "extra_query", "extra_headers", "model", "stream", "timeout")
        for name, value in ODD_VALUES.items()
    },
    **{
        f"body: {name}": lambda client, value=value: client.post("/chat/completions", body=value, cast_to=object)
        for name, value in ODD_VALUES.items()
    },
    **{
        f"path: {name}": lambda client, value=value: client.post(value, body={"model": MODEL}, cast_to=object)
        for name, value in {**ODD_VALUES, "no URL": "http://[", "a blank": " ", "nothing": ""}.items()
    },
    **{
        f"member {member}: {name}": lambda client, member=member, value=value: client.post(
            "/chat/completions", body={"model": MODEL, "messages": QUESTION, member: value}, cast_to=object
        )
        for member in ("stream", "model")
        for name, value in ODD_VALUES.items()
    },
    "an extra body that removes the model": chatting(extra_body={"model": openai.omit}),
    "content and body": lambda client: client.post("/chat/completions", body={}, content=b"{}", cast_to=object),
    "no retries": lambda client: client.with_options(max_retries=0).post("/chat/completions", cast_to=object),
}


# Of what the SDK makes of odd values; with an odd timeout the standard library leaves a socket to the collector.
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore:Pydantic", "ignore:.*socket:pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("ask", ODD_ARGUMENTS.values(), ids=ODD_ARGUMENTS)
@HALVES
async def test_an_odd_argument_is_the_sdks_business(half: Half, ask: Ask, capture: Capture) -> None:
    await seen_twice(half, reply("Blue."), ask, capture.provider)


PLAINLY = FinalRequestOptions.construct(method="post", url="/chat/completions", json_data={"model": MODEL})
WRONG_CALLS: dict[str, Ask] = {
    "nothing": lambda client: client.request(),
    "no options": lambda client: client.request(object),
    "no type": lambda client: client.request(options=PLAINLY),
    "an argument too many": lambda client: client.request(object, PLAINLY, 1, 2),
    "an argument that there is not": lambda client: client.request(object, PLAINLY, foo=1),
    "an argument twice": lambda client: client.request(object, PLAINLY, options=PLAINLY),
    "no instance": lambda client: getattr(type(client), "request")(),  # noqa: B009 - no type has such a call
}


@pytest.mark.parametrize("ask", WRONG_CALLS.values(), ids=WRONG_CALLS)
@HALVES
async def test_a_wrong_call_of_the_method_that_is_wrapped_is_refused_in_the_words_of_the_sdk(
    half: Half, ask: Ask, capture: Capture
) -> None:
    client: Any = (openai.AsyncOpenAI if half.asynchronous else openai.OpenAI)(api_key="none")
    with pytest.raises(TypeError) as bare:
        await half.settle(ask(client))
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    try:
        with pytest.raises(TypeError) as ours:
            await half.settle(ask(client))
    finally:
        instrumentor.uninstrument()
        await half.close(client)
    assert str(ours.value) == str(bare.value)


@pytest.mark.parametrize("options", [None, 7, {"url": "/chat/completions"}], ids=["none", "a number", "a dict"])
@HALVES
async def test_what_is_no_options_is_for_the_sdk_to_refuse(half: Half, options: Any, capture: Capture) -> None:
    told, _ = await seen_twice(half, reply("Blue."), lambda client: client.request(object, options), capture.provider)
    assert told[0] is AttributeError


@HALVES
@pytest.mark.parametrize("ask", REQUESTS.values(), ids=REQUESTS)
async def test_an_odd_request_is_the_sdks_business(half: Half, ask: Ask, capture: Capture) -> None:
    told, _ = await seen_twice(half, reply("Blue."), ask, capture.provider)
    failed = any(isinstance(kind, type) and issubclass(kind, Exception) for kind in told)
    assert capture.span.status.status_code is (StatusCode.ERROR if failed else StatusCode.UNSET)
    json.loads(str((capture.span.attributes or {}).get(names.INPUT_MESSAGES, "[]")))


@pytest.mark.parametrize("ask", REQUESTS.values(), ids=REQUESTS)
async def test_an_odd_request_stays_as_it_is_under_policy_that_only_reads_it(ask: Ask, capture: Capture) -> None:
    with use(request_intercept(name="look")(lambda call: repr(call.request) and None)):
        await seen_twice(SYNC, reply("Blue."), ask, capture.provider)
    assert len(capture.spans) == 1


ODD_PARTS: dict[str, Ask] = {
    "headers and a body": chatting(extra_headers=[("a", 1)], extra_body=[("a", 1)]),
    "a header that is no text": chatting(extra_headers={"x": object()}),
    "a message of a class": chatting(messages=[Unspeakable()]),
    "messages by a generator of odd ones": lambda client: chatting(messages=(each for each in [{1, 2}]))(client),
    "tools of a class": chatting(tools=[object()]),
    "tools by a generator": lambda client: chatting(tools=(each for each in [{"type": object()}]))(client),
    "a model of a class": chatting(model=object()),
    "metadata that is a set": chatting(metadata={"a": {1}}),
    "an input of a class": lambda client: client.responses.create(model=MODEL, input=[object()]),
    "an input of embeddings": lambda client: client.embeddings.create(model=MODEL, input=[{1}]),
    "a prompt of completions": lambda client: client.completions.create(model=MODEL, prompt={1}),
}


def changing(call: Any) -> ModelRequest:
    """Change the request as a file's parameters do."""
    return dataclasses.replace(call.request, parameters={**call.request.parameters, "seed": 7})


def changing_json(call: Any) -> None:
    """Change the provider's JSON in place."""
    call.wire["user"] = "ann"


def sending_another(call: Any) -> Any:
    """Send a copy, changed."""
    yield call.with_request(changing(call))


POLICIES: dict[str, Any] = {
    "reads": request_intercept(name="reads")(lambda call: repr(call.request) and None),
    "refuses": guardrail(name="refuses")(lambda call: "no"),
    "breaks": guardrail(name="breaks")(lambda call: 7),
    "changes": request_intercept(name="changes")(changing),
    "changes the JSON": request_intercept(name="changes")(changing_json),
    "sends another": execution_intercept(name="sends another")(sending_another),
    "reads events": stream_intercept(name="reads events")(lambda call, event: event),
}


# As above.
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore:Pydantic", "ignore:.*socket:pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("half", [SYNC, ASYNC], ids=["sync", "async"])
async def test_what_the_sdk_refuses_to_send_it_refuses_under_any_policy(
    half: Half, policy: Any, capture: Capture
) -> None:
    odd = {**REQUESTS, **ODD_ARGUMENTS, **ODD_PARTS}
    kind: Any = openai.AsyncOpenAI if half.asynchronous else openai.OpenAI
    http: Any = openai.DefaultAsyncHttpxClient if half.asynchronous else openai.DefaultHttpxClient
    refused, wrong = 0, {}
    with ModelServer(lambda _: reply("Blue.")) as server:
        client = kind(base_url=server.url, api_key="none", max_retries=0, http_client=http(verify=False))
        for name, ask in odd.items():
            sent = len(server.requests)
            bare = await seen(half, lambda ask=ask: ask(client))
            # What the connection says, of an odd timeout or of another protocol, is known only by sending.
            if len(server.requests) > sent or not issubclass(bare[0], Exception) or name.startswith("timeout"):
                continue
            if issubclass(bare[0], openai.APIConnectionError):
                continue
            refused += 1
            with instrumented(capture), use(policy):
                ours = await seen(half, lambda ask=ask: ask(client))
            if ours != bare or len(server.requests) > sent:
                wrong[name] = ours[:2], bare[:2]
        await half.close(client)
    assert not wrong
    assert refused > 30


@contextmanager
def instrumented(capture: Capture) -> Iterator[None]:
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    try:
        yield
    finally:
        instrumentor.uninstrument()


@pytest.mark.parametrize("name", ["a key that is asked for", "Azure", "Azure with a token that is asked for"])
def test_a_refused_call_needs_no_key(name: str, capture: Capture) -> None:
    asked_for: list[str] = []

    def key() -> str:
        asked_for.append(name)
        return "none"

    azure = partial(openai.AzureOpenAI, azure_endpoint="http://127.0.0.1:9", api_version="v")
    clients: dict[str, Callable[[], Any]] = {
        "a key that is asked for": lambda: openai.OpenAI(api_key=key),
        "Azure": lambda: azure(api_key="none"),
        "Azure with a token that is asked for": lambda: azure(azure_ad_token_provider=key),
    }
    with instrumented(capture), use(POLICIES["refuses"]), pytest.raises(spanrelay.GuardrailRejected):
        APIS["chat"](clients[name]())
    assert not asked_for


@HALVES
async def test_a_request_that_policy_replaces_without_reading_it_is_judged_and_sent(
    half: Half, capture: Capture
) -> None:
    judged: list[str] = []
    other = ModelRequest("gpt-5-mini", messages=[Message("user", [Text("something else")])])
    kind: Any = openai.AsyncOpenAI if half.asynchronous else openai.OpenAI
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    replace = request_intercept(name="replace")(lambda call: other)
    judge = guardrail(name="judge")(lambda call: judged.append(call.request.model))
    with ModelServer() as server, use(replace), use(judge):
        client = kind(base_url=server.url, api_key="none", max_retries=0)
        await half.settle(APIS["chat"](client))
        await half.close(client)
    instrumentor.uninstrument()
    assert judged == ["gpt-5-mini"]
    assert (server.requests[0].model, server.requests[0].last_user_text) == ("gpt-5-mini", "something else")


@HALVES
async def test_an_iterator_that_the_sdk_refuses_is_not_read_by_us(half: Half, capture: Capture) -> None:
    iterators: list[Iterator[Any]] = []

    def ask(client: Any) -> Any:
        iterators.append(iter(QUESTION))
        return client.post("/chat/completions", body={"model": MODEL, "messages": iterators[-1]}, cast_to=object)

    told, requests = await seen_twice(half, reply("Blue."), ask, capture.provider)
    assert told[0] is TypeError
    assert requests == []
    assert [list(iterator) for iterator in iterators] == [QUESTION, QUESTION]
    assert capture.span.status.status_code is StatusCode.ERROR


@HALVES
async def test_an_image_in_base64_goes_out_byte_by_byte_and_is_on_the_span(half: Half, capture: Capture) -> None:
    data = base64.b64encode(bytes(range(256)) * 4_000).decode()
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    messages: Any = [{"role": "user", "content": [{"type": "text", "text": "hi"}, image]}]

    def ask(client: Any) -> Any:
        return client.chat.completions.create(model=MODEL, messages=messages)

    _, requests = await seen_twice(half, reply("Blue."), ask, capture.provider)
    assert requests[0].body["messages"] == messages
    [message] = json.loads(str((capture.span.attributes or {})[names.INPUT_MESSAGES]))
    assert message["parts"][1] == {"type": "blob", "modality": "image", "content": data, "mime_type": "image/png"}


# --- processors and exporters of somebody else ---


class BrokenAtStart(SpanProcessor):
    def on_start(self, span: Any, parent_context: Any = None) -> None:
        raise ZeroDivisionError("on_start")


class BrokenAtEnd(SpanProcessor):
    def on_end(self, span: ReadableSpan) -> None:
        raise ZeroDivisionError("on_end")


class BrokenExporter(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        raise ZeroDivisionError("export")


async def ended_beside(half: Half, ask: Ask, broken: SpanProcessor) -> list[str]:
    """Make a call with a provider that we do not stand in front of; returns the spans that ended."""
    spans, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    provider.add_span_processor(broken)
    await seen_twice(half, reply("Blue."), ask, provider)
    return [span.name for span in spans.get_finished_spans()]


@HALVES
@pytest.mark.swallows
@pytest.mark.parametrize("ask", [APIS["chat"], STREAMS["chat"]], ids=["whole", "stream"])
async def test_a_processor_that_fails_when_a_span_ends_does_not_reach_the_application(half: Half, ask: Ask) -> None:
    assert await ended_beside(half, ask, BrokenAtEnd()) == ["chat gpt-5"]
    assert losses.take() == {"failures while ending a span": 1}


@HALVES
@pytest.mark.swallows
@pytest.mark.parametrize("ask", [APIS["chat"], STREAMS["chat"]], ids=["whole", "stream"])
async def test_a_processor_that_fails_when_a_span_starts_costs_the_span(half: Half, ask: Ask) -> None:
    assert await ended_beside(half, ask, BrokenAtStart()) == []
    assert losses.take() == {"failures while starting a span": 1}


@HALVES
@pytest.mark.parametrize("ask", [APIS["chat"], STREAMS["chat"]], ids=["whole", "stream"])
async def test_an_exporter_that_fails_is_opentelemetrys_business(
    half: Half, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    assert await ended_beside(half, ask, SimpleSpanProcessor(BrokenExporter())) == ["chat gpt-5"]
    assert [record.name.partition(".")[0] for record in caplog.records if record.levelname == "ERROR"] == [
        "opentelemetry"
    ]


# --- the way of all of it to the end ---

CALLS: list[tuple[Ask, Answer]] = [
    *[(ask, answer) for ask in [APIS["chat"], APIS["responses"], APIS["completions"]] for answer in BODIES.values()],
    *[(ask, raw(events, EVENT_STREAM)) for ask in STREAMS.values() for events in EVENTS.values()],
    *[(ask, reply("Blue.")) for ask in REQUESTS.values()],
]


async def seen_of_all() -> list[list[Any]]:
    """What the application sees of each of the calls."""
    answers: list[Answer] = []
    told: list[list[Any]] = []
    with ModelServer(lambda request: answers[-1]) as server:
        client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
        for ask, answer in CALLS:
            answers.append(answer)
            told.append(await seen(SYNC, partial(ask, client)))
        client.close()
    return told


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `activate()` settles for the process is put back."""
    for name in ("content", "dialect", "unrecorded"):
        monkeypatch.setattr(recording, name, getattr(recording, name))


@pytest.mark.usefixtures("settled")
async def test_every_one_of_these_calls_leaves_a_trajectory_that_validates(tmp_path: Path) -> None:
    provider, instrumentor = TracerProvider(shutdown_on_exit=False), OpenAIInstrumentor()
    runtime = spanrelay.activate(
        Settings(trajectory_directory=tmp_path, quiet=True), tracer_provider=provider, instrument=False
    )
    assert runtime is not None
    instrumentor.instrument(tracer_provider=provider)
    await seen_of_all()
    instrumentor.uninstrument()
    runtime.shutdown()
    written = [str(path) for path in tmp_path.glob("*.json")]
    assert len(written) == len(CALLS)
    assert main(["validate", *written]) == 0


@pytest.mark.parametrize("dialect", ["genai", "openinference"])
@pytest.mark.parametrize("content", [False, True], ids=["without content", "with content"])
async def test_the_spans_of_all_of_these_calls_can_be_exported(dialect: str, content: bool) -> None:
    with captured(dialect=dialect, content=content) as capture:
        instrumentor = OpenAIInstrumentor()
        instrumentor.instrument(tracer_provider=capture.provider)
        await seen_of_all()
        instrumentor.uninstrument()
        [resource] = encode_spans(capture.spans).resource_spans
        [scope] = resource.scope_spans
        assert len(scope.spans) == len(CALLS)
        assert all(len(span.attributes) > 5 for span in scope.spans)


@pytest.mark.parametrize("buffered", [False, True], ids=["passing", "buffered"])
async def test_policy_that_only_reads_what_came_changes_nothing_of_it(buffered: bool, capture: Capture) -> None:
    read: list[ModelResponse] = []

    @execution_intercept(name="look", buffered=buffered)
    def look(call: Any) -> Any:
        response = yield call
        read.append(response.record)

    bare, instrumentor = await seen_of_all(), OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    with use(look):
        ours = await seen_of_all()
    instrumentor.uninstrument()
    for told_bare, told_ours in zip(bare, ours, strict=True):
        assert told_ours == told_bare
    assert len(capture.spans) == len(CALLS)
    assert len(read) > len(CALLS) / 2


# --- what tests put in the place of an answer --------------------------------------------------------------


@pytest.mark.parametrize("ask", [*APIS.values(), *STREAMS.values()])
def test_a_stand_in_for_the_http_answer_is_no_matter_of_ours(
    capture: Capture, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, ask: Ask
) -> None:
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    try:
        with openai.OpenAI(api_key="none", max_retries=0) as client:
            monkeypatch.setattr(client._client, "send", lambda *args, **kwargs: MagicMock())
            ask(client)
    finally:
        instrumentor.uninstrument()
    [span] = capture.spans
    assert span.status.is_unset
    assert not caplog.messages
    assert not losses.take()
