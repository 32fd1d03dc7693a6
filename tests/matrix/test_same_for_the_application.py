"""Nothing changes for the application: same bytes to the provider, same answer or same exception, whatever stands
around the call and does nothing, and however the answer is broken, cut or left."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import zlib
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai._base_client import AsyncAPIClient, SyncAPIClient

from spanrelay import MiddlewareError, _guard, execution_intercept, guardrail, request_intercept, stream_intercept, use
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.capture import Capture, captured
from spanrelay_testkit.exchange import Answer, Raw, Request, error, raw, reply, tool_call
from spanrelay_testkit.half import Half
from spanrelay_testkit.model_server import ModelServer

SYNC, ASYNC = Half(asynchronous=False), Half(asynchronous=True)


# --- what may stand around a call and change nothing ---


@request_intercept
def leaves_the_request(call: Any) -> None:
    return None


@guardrail
def lets_pass(call: Any) -> None:
    return None


@execution_intercept
def sends(call: Any) -> Generator[Any, Any, Any]:
    return (yield call)


@stream_intercept
def shows_each_event(call: Any, event: Any) -> Any:
    return event


@execution_intercept(buffered=True)
def sends_and_drains(call: Any) -> Generator[Any, Any, Any]:
    return (yield call)


AROUND: dict[str, tuple[Any, ...]] = {
    "recorded": (),
    "judged": (leaves_the_request, lets_pass, sends),
    "intercepted": (shows_each_event,),
    "buffered": (sends_and_drains,),
}


# --- the clients: one that SpanRelay stands in front of, and one that it does not ---


class Bare(openai.OpenAI):
    request: Any = SyncAPIClient.request  # of before instrumentation
    _process_response: Any = SyncAPIClient._process_response


class AsyncBare(openai.AsyncOpenAI):
    request: Any = AsyncAPIClient.request
    _process_response: Any = AsyncAPIClient._process_response


class World:
    """One server that answers as it is told, and the four clients of it."""

    def __init__(self) -> None:
        self.answer: Answer = reply("hello")
        self.server = ModelServer(self._script)
        self.loop = asyncio.new_event_loop()
        self._clients: dict[tuple[bool, bool], Any] = {}

    def _script(self, request: Request) -> Answer:
        return self.answer

    def client(self, half: Half, *, bare: bool) -> Any:
        kinds: Any = (AsyncBare, openai.AsyncOpenAI) if half.asynchronous else (Bare, openai.OpenAI)
        key = half.asynchronous, bare
        if key not in self._clients:
            # A connection of its own for each call: what one leaves half read cannot reach the next.
            options: dict[str, Any] = {"max_retries": 0, "default_headers": {"connection": "close"}}
            self._clients[key] = kinds[0 if bare else 1](base_url=self.server.url, api_key="none", **options)
        return self._clients[key]

    def close(self) -> None:
        for (asynchronous, _), client in self._clients.items():
            client.close() if not asynchronous else self.loop.run_until_complete(client.close())
        self.loop.close()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World()
    with made.server:
        yield made
        made.close()


@pytest.fixture(scope="module")
def instrumented() -> Iterator[Capture]:
    with captured() as capture:
        OpenAIInstrumentor().instrument(tracer_provider=capture.provider)
        yield capture
        OpenAIInstrumentor().uninstrument()


# --- what is asked, how it is read, and what came of it ---


class Enough(Exception):
    """The application's own exception, in the middle of a stream."""


@dataclass(frozen=True)
class Asking:
    """One request and what its consumer does with the answer."""

    api: str = "chat"
    form: str = "stream"
    """`whole`, `stream`, or `lines`: the text of a streaming response, line by line."""
    end: str = "read"
    """`read` to the end, or `break`, `throw` or `close` after `after` chunks."""
    after: int = 1
    arguments: tuple[tuple[str, Any], ...] = ()

    def ask(self, client: Any, *, raw_form: bool = False) -> Any:
        resource: Any = client.chat.completions if self.api == "chat" else client.responses
        given: dict[str, Any] = {"model": "gpt-5", **dict(self.arguments)}
        given |= {"messages": [{"role": "user", "content": "hi"}]} if self.api == "chat" else {"input": "hi"}
        given |= {"stream": True} if self.form != "whole" else {}
        return (resource.with_streaming_response if raw_form else resource).create(**given)


@dataclass
class Got:
    """What the application saw: what came, then the exception that ended it, and what the provider was sent."""

    seen: list[str]
    error: tuple[type, str] | None
    sent: list[tuple[str, bytes]]


async def _read(half: Half, asking: Asking, client: Any, seen: list[str]) -> None:
    if asking.form == "lines":
        async with half.entered(asking.ask(client, raw_form=True)) as response:
            await _consume(half, asking, response.iter_lines(), seen)
        return
    answer = await half.settle(asking.ask(client))
    if asking.form == "whole":
        seen.append(repr(answer))
    else:
        await _consume(half, asking, answer, seen)
        if asking.end in ("break", "close"):
            await half.close(answer)


async def _consume(half: Half, asking: Asking, stream: Any, seen: list[str]) -> None:
    if asking.end != "read" and asking.after == 0:
        return
    async for chunk in half.each(stream):
        seen.append(repr(chunk))
        if asking.end == "throw" and len(seen) == asking.after:
            raise Enough("seen enough")
        if asking.end in ("break", "close") and len(seen) == asking.after:
            return


async def _let_go() -> None:
    """Collect and close the generators that a stream leaves behind where it fails, and not in the midst of another.

    The SDK's do not close those that they read, so the loop does it when they are collected.
    """
    gc.collect(0)  # nothing older is of this call
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0)


def got(world: World, half: Half, asking: Asking, *, bare: bool) -> Got:
    seen: list[str] = []
    before = len(world.server.requests)
    failure: tuple[type, str] | None = None
    world.server._counts.clear()  # each answer has the same id
    gc.disable()
    try:
        world.loop.run_until_complete(_read(half, asking, world.client(half, bare=bare), seen))
    except Exception as error:
        failure = type(error), str(error)
    finally:
        world.loop.run_until_complete(_let_go())
        gc.enable()
    return Got(seen, failure, [(request.path, request.raw) for request in world.server.requests[before:]])


def check(world: World, half: Half, asking: Asking, answer: Answer) -> None:
    """Ask bare and in every way around, and compare."""
    world.answer = answer
    expected = got(world, half, asking, bare=True)
    for name, entries in AROUND.items():
        with ExitStack() as stack:
            for entry in entries:
                stack.enter_context(use(entry))
            found = got(world, half, asking, bare=False)
        if name == "buffered" and answer.cut_after is not None and found.error in BROKEN_OFF:
            # Drained first: of what the provider breaks off nothing is shown, and the error is the provider's.
            assert (found.seen, found.sent) == ([], expected.sent)
        elif name == "intercepted" and asking.form == "lines" and len(found.seen) < len(expected.seen):
            # The beginning of an event is text that no intercept has seen: its lines are not shown. And a line that
            # ends in CR is known to be over by what comes next, which a broken connection does not bring.
            assert answer.cut_after is not None or "data:" in expected.seen[len(found.seen)]
            assert Got(expected.seen[: len(found.seen)], expected.error, expected.sent) == found
        elif (
            name == "intercepted" and asking.form != "whole" and found.error is not None and is_unreadable(found.error)
        ):
            assert found.sent == expected.sent  # policy that has to see the text cannot, and refuses
        else:
            assert found == expected, name
    lost = _guard.losses.take()
    assert not lost.keys() - ILLEGIBLE, lost


def is_unreadable(told: tuple[type[BaseException], str]) -> bool:
    """Whether a stream was refused because it came as one JSON body, in which an intercept has no place."""
    return told[0] is MiddlewareError and "answered a request for a stream with one JSON body" in told[1]


CUT = [
    "peer closed connection without sending complete message body (incomplete chunked read)",
    "Server disconnected without sending a response.",
]
BROKEN_OFF = [
    (openai.APIConnectionError, "Connection error."),
    *((httpx2.RemoteProtocolError, told) for told in CUT),
]
ILLEGIBLE = {"failures while decompressing a stream", "failures while decoding a response"}
"""What cannot be recorded: an answer that is not in the encoding that it says it is in."""


# --- streams of any bytes, cut anywhere ---

CHUNK = {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": "höllo €"}, "finish_reason": None}]}
MARKED = {"id": "c", "choices": [{"index": 0, "delta": {"content": "data: [DONE]"}, "finish_reason": None}]}
DELTA = {"type": "response.output_text.delta", "delta": "hé", "item_id": "i", "output_index": 0, "content_index": 0}
FAILED = {"error": {"message": "overloaded", "type": "server_error", "param": None, "code": None}}


def deep(levels: int) -> str:
    return '{"id": "c", "choices": [], "x": ' + "[" * levels + "]" * levels + "}"


def plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


FRAMES: list[list[bytes]] = [
    [f"data: {plain(CHUNK)}".encode()],
    [f"data:{plain(CHUNK)}".encode()],
    [f"data: {plain(MARKED)}".encode()],
    [f"event: {DELTA['type']}".encode(), f"data: {plain(DELTA)}".encode()],
    [b": a comment"],
    [b"event: ping"],
    [b"id: 7", f"data: {plain(CHUNK)}".encode()],
    [b"retry: 10"],
    [b"data: {", b'data: "id": "c", "choices": []', b"data: }"],
    [f"data: {plain(CHUNK)}".encode(), f"data: {plain(CHUNK)}".encode()],
    [f"data: {plain(FAILED)}".encode()],
    [b"event: error", f"data: {plain(FAILED)}".encode()],
    [b"data: [DONE]"],
    [b"data:[DONE]"],
    [b"data: not json"],
    [b"data: {"],
    [b"data: [1, 2]"],
    [b"data: 7"],
    [b"data"],
    [b'data: {"id": "c", "choices": [], "x": NaN}'],
    [b'data: {"id": "c", "choices": [], "x": 123456789012345678901234567890}'],
    [b'data: {"id": "c", "choices": [], "x": "\\ud800"}'],
    [b'data: {"id": "\x00"}'],
    [b"\x00"],
    [b"\xef\xbb\xbf" + f"data: {plain(CHUNK)}".encode()],
    [b"\xff\xfe\x00"],
    [b'data: {"id": "\xff"}'],
    [f"data: {deep(300)}".encode()],
    [f"data: {deep(700)}".encode()],
    [b""],
]
line_ends = st.sampled_from([b"\n", b"\r\n", b"\r"])


@st.composite
def streams(draw: st.DrawFn) -> Raw:
    lines: list[bytes] = []
    for frame in draw(st.lists(st.sampled_from(FRAMES), max_size=6)):
        lines += [*frame, b""]
    content = b"".join(line + draw(line_ends) for line in lines)
    content = content[: len(content) - draw(st.sampled_from([0, 0, 0, 1, 2, 3, 20, 80]))]
    kind = draw(st.sampled_from(["text/event-stream"] * 4 + ["text/plain", "application/json", ""]))
    return delivered(draw, content, kind)


def delivered(draw: st.DrawFn, content: bytes, kind: str) -> Raw:
    encoding = draw(st.sampled_from(["", "", "", "gzip", "deflate", "br", "broken"]))
    headers: dict[str, str] = {}
    if encoding:
        headers = {"content-encoding": encoding if encoding != "broken" else "gzip"}
        content = {"gzip": gzip.compress, "deflate": zlib.compress}.get(encoding, bytes)(content)
    cuts = draw(st.lists(st.integers(0, max(len(content), 1)), max_size=8))
    cut_after = draw(st.sampled_from([None, None, None, 0, 1, 3]))
    return raw(content, kind, headers=headers, cuts=cuts, cut_after=cut_after)


replies = st.sampled_from(
    [
        reply("Hello, it is a fine day."),
        reply(tool_calls=[tool_call("get_weather", city="Oslo")]),
        reply("half a", in_stream_error=FAILED["error"]),
        reply("gone", cut_after=2),
        reply("packed", gzip=True),
        reply(""),
        error(429),
        error(400, "plain words"),
        error(500, "<html>"),
        raw(b""),
        raw(b"{", "application/json"),
        raw(b"null"),
        raw(b"[]"),
        raw(b"\xff\xfe", "application/json"),
        raw(plain(CHUNK).encode(), "text/plain"),
        raw(b"data: {}\n\n", "application/octet-stream"),
    ]
)
arguments = st.lists(
    st.sampled_from(
        [
            ("temperature", 0.5),
            ("extra_body", {"x": [1, {"y": None}]}),
            ("extra_headers", {"x-mine": "1"}),
            ("extra_query", {"a": "1"}),
            ("metadata", {"k": "ü€"}),
            ("user", "\u2028"),
            ("timeout", 5),
        ]
    ),
    max_size=3,
    unique_by=lambda pair: pair[0],
).map(tuple)
askings = st.builds(
    Asking,
    api=st.sampled_from(["chat", "responses"]),
    form=st.sampled_from(["stream", "stream", "lines", "whole"]),
    end=st.sampled_from(["read", "read", "break", "throw", "close"]),
    after=st.integers(0, 3),
    arguments=arguments,
)
bounded = settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.swallows
@bounded
@given(asking=askings, answer=st.one_of(streams(), replies), half=st.sampled_from([SYNC, ASYNC]))
def test_nothing_changes_for_the_application(
    world: World, instrumented: Capture, asking: Asking, answer: Answer, half: Half
) -> None:
    check(world, half, asking, answer)


# --- each odd frame alone, and between two good ones ---

ALONE = [pytest.param(frame, id=ascii(frame[-1][:40])) for frame in FRAMES]


@pytest.mark.parametrize("half", [SYNC, ASYNC], ids=["sync", "async"])
@pytest.mark.parametrize("frame", ALONE)
def test_an_odd_frame_is_what_it_is_bare(world: World, instrumented: Capture, frame: list[bytes], half: Half) -> None:
    good = f"data: {plain(CHUNK)}\n\n".encode()
    odd = b"\n".join(frame)
    check(world, half, Asking(), raw(good + odd + b"\n\n" + good + b"data: [DONE]\n\n", "text/event-stream"))
    check(world, half, Asking(), raw(odd, "text/event-stream"))
    check(world, half, Asking(), raw(good + odd[: len(odd) // 2], "text/event-stream"))
