"""Stream intercepts: each chunk passes them before its consumer sees it, however the bytes were cut."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import Context

from spanrelay import (
    GuardrailRejected,
    MiddlewareError,
    astream_model,
    execution_intercept,
    run_model,
    stream_intercept,
    stream_model,
    use,
)
from spanrelay.codecs import openai_chat, openai_responses, sse
from spanrelay.pipeline.rewriting import Rewriter
from spanrelay_testkit.capture import Capture, said

WIRE = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
EMAIL = re.compile(r"[\w.]+@[\w.]+\w")


def chunk(text: str | None = None, finish: str | None = None, index: int = 0) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    return {"id": "c", "model": "m", "choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


class Provider:
    """Streams chunks, and knows whether it was closed."""

    def __init__(self, *events: Any) -> None:
        self.events = events
        self.given: list[Any] = []
        self.read = 0
        self.closed = False

    def __call__(self, wire: dict[str, Any]) -> Iterator[Any]:
        self.given.append(wire)
        try:
            for event in self.events:
                self.read += 1
                yield event
        finally:
            self.closed = True

    async def later(self, wire: dict[str, Any]) -> AsyncIterator[Any]:
        for event in self(wire):
            yield event


@pytest.fixture(params=["sync", "async"])
def read(request: pytest.FixtureRequest) -> Callable[..., list[Any]]:
    """Reads a managed stream of `provider` to its end, in either colour."""

    def read_sync(provider: Provider, codec: str = "openai_chat") -> list[Any]:
        return list(stream_model(provider, WIRE, codec=codec))

    def read_async(provider: Provider, codec: str = "openai_chat") -> list[Any]:
        async def go() -> list[Any]:
            return [event async for event in await astream_model(provider.later, WIRE, codec=codec)]

        return asyncio.run(go())

    return read_sync if request.param == "sync" else read_async


def shown(events: list[Any]) -> str:
    return "".join(c["delta"].get("content") or "" for event in events for c in event["choices"])


def test_an_event_may_be_changed_and_dropped(capture: Capture, read: Any) -> None:
    @stream_intercept
    def louder(call: Any, event: Any) -> Any:
        if event["choices"][0]["delta"].get("content") == "um ":
            return None
        delta = event["choices"][0]["delta"]
        if "content" in delta:
            delta["content"] = delta["content"].upper()
        return event

    with use(louder):
        events = read(Provider(chunk("hel"), chunk("um "), chunk("lo"), chunk(finish="stop")))
    assert shown(events) == "HELLO"
    assert len(events) == 3
    assert said(capture.span) == "HELLO"


def test_what_is_left_alone_is_the_very_object(capture: Capture, read: Any) -> None:
    @stream_intercept
    def watch(call: Any, event: Any) -> Any:
        return event

    provider = Provider(chunk("hello"), chunk(finish="stop"))
    with use(watch):
        assert all(seen is sent for seen, sent in zip(read(provider), provider.events, strict=True))


@pytest.mark.parametrize("hold_back", [None, 3])
@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration])
def test_an_intercept_that_raises_the_end_of_an_iteration_ends_no_stream_as_a_whole_one(
    capture: Capture, read: Any, kind: type[Exception], hold_back: int | None
) -> None:
    @stream_intercept(hold_back=hold_back)
    def takes_the_next(call: Any, event: Any) -> Any:
        raise kind

    with use(takes_the_next), pytest.raises(MiddlewareError, match=f"'takes_the_next' raised {kind.__name__}"):
        read(Provider(chunk("hello"), chunk(finish="stop")))
    assert not capture.span.status.is_ok


def test_a_refusal_closes_the_providers_stream_and_the_span_says_so(capture: Capture, read: Any) -> None:
    @stream_intercept
    def no_secrets(call: Any, event: Any) -> Any:
        if "secret" in (event["choices"][0]["delta"].get("content") or ""):
            raise GuardrailRejected("a secret", "no_secrets")
        return event

    provider = Provider(chunk("fine "), chunk("secret"), chunk("more"))
    with use(no_secrets), pytest.raises(GuardrailRejected):
        read(provider)
    assert provider.closed
    assert provider.read == 2
    assert said(capture.span) == "fine "
    assert capture.span.status.description == "guardrail 'no_secrets' refused the call: a secret"


@stream_intercept(hold_back=40)
def mask_emails(call: Any, text: str) -> str:
    return EMAIL.sub("[email]", text)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, 100])
def test_a_pattern_is_found_wherever_chunks_are_cut(capture: Capture, read: Any, size: int) -> None:
    text = "Write to bob@example.com or to alice.b@mail.example.org, not to nobody. " * 3
    pieces = [chunk(text[at : at + size]) for at in range(0, len(text), size)]
    with use(mask_emails):
        events = read(Provider(*pieces, chunk(finish="stop")))
    assert shown(events) == EMAIL.sub("[email]", text)
    assert events[-1]["choices"][0]["finish_reason"] == "stop"
    assert said(capture.span) == shown(events)


def test_text_that_is_held_comes_before_the_end_of_its_choice(capture: Capture, read: Any) -> None:
    with use(mask_emails):
        events = read(Provider(chunk("a@b.cc"), chunk(finish="stop")))
    assert [event["choices"][0]["finish_reason"] for event in events] == [None, None, "stop"]
    assert shown(events) == "[email]"


def test_choices_do_not_mix(capture: Capture, read: Any) -> None:
    pieces = [chunk("a@b", index=0), chunk("x@y", index=1), chunk(".cc", index=0), chunk(".zz!", index=1)]
    with use(mask_emails):
        events = read(Provider(*pieces, chunk(finish="stop"), chunk(finish="stop", index=1)))
    texts = ["", ""]
    for event in events:
        for choice in event["choices"]:
            texts[choice["index"]] += choice["delta"].get("content") or ""
    assert texts == ["[email]", "[email]!"]


@pytest.mark.parametrize("size", [1, 3, 100])
def test_texts_in_content_parts_are_texts_like_others(capture: Capture, read: Any, size: int) -> None:
    def part(kind: str, text: str) -> Any:
        inner = {"type": "text", "text": text}
        return {"type": "thinking", "thinking": [inner]} if kind == "thinking" else inner

    def parts(kind: str, text: str) -> list[Any]:
        return [[part(kind, text[at : at + size])] for at in range(0, len(text), size)]

    thought, *answers = "He is bob@example.com, I think.", "I wrote to bob@exam", "ple.com."
    contents: list[Any] = [*parts("thinking", thought), *parts("text", answers[0]), answers[1]]
    pieces: list[Any] = [chunk(content) for content in contents]
    with use(mask_emails):
        events = read(Provider(*pieces, chunk(finish="stop")))
    assert "bob" not in json.dumps(events)
    [message] = json.loads((capture.span.attributes or {})["gen_ai.output.messages"])  # pyright: ignore[reportArgumentType] -- an attribute may be a number as well
    assert message["parts"] == [
        {"type": "reasoning", "content": "He is [email], I think."},
        {"type": "text", "content": "I wrote to [email]."},
    ]


def test_two_texts_of_one_event_that_are_one_text_are_not_said_twice(capture: Capture, read: Any) -> None:
    two: Any = [{"type": "text", "text": "a@"}, {"type": "text", "text": "b.cc"}]
    with use(mask_emails):
        read(Provider(chunk(two)))
    assert said(capture.span) == "[email]"


def test_text_is_not_lost_where_the_stream_just_stops(capture: Capture, read: Any) -> None:
    with use(mask_emails):
        assert shown(read(Provider(chunk("to a@b.cc")))) == "to [email]"


def test_events_of_the_responses_api_say_the_same_in_parts_and_whole(capture: Capture) -> None:
    body = {
        "id": "r",
        "status": "completed",
        "output": [
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "To a@b.cc."}]}
        ],
    }
    with use(mask_emails):
        provider = Provider(*openai_responses.stream_events(body))
        events = list(stream_model(provider, {"model": "m", "input": "x", "stream": True}, codec="openai_responses"))
    assert not any("a@b.cc" in str(event) for event in events)
    assert "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta") == "To [email]."
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "To [email]."
    assert said(capture.span) == "To [email]."


def test_intercepts_stand_one_behind_the_other(capture: Capture, read: Any) -> None:
    @stream_intercept(priority=1)
    def first(call: Any, event: Any) -> Any:
        event["choices"][0]["delta"]["content"] = "a@b.cc"
        return event

    with use(first), use(mask_emails):
        assert shown(read(Provider(chunk("hello")))) == "[email]"


def test_an_execution_intercept_that_buffers_sees_what_they_left(capture: Capture, read: Any) -> None:
    seen: list[str] = []

    @execution_intercept(buffered=True)
    def judge(call: Any) -> Any:
        response = yield call
        seen.append(response.record.text)
        return response

    with use(judge), use(mask_emails):
        events = read(Provider(chunk("a@b"), chunk(".cc"), chunk(finish="stop")))
    assert seen == ["[email]"] == [shown(events)]


def test_a_whole_answer_is_no_stream(capture: Capture) -> None:
    with use(mask_emails):
        answer = run_model(lambda wire: {"choices": []}, {"model": "m", "messages": []})
    assert answer == {"choices": []}


def test_returning_something_that_is_no_text_refuses(capture: Capture, read: Any) -> None:
    @stream_intercept(hold_back=0)
    def confused(call: Any, text: str) -> Any:
        return 7

    with use(confused), pytest.raises(MiddlewareError, match="'confused' must return the text, not 'int'"):
        read(Provider(chunk("x")))


def test_it_does_not_run_for_calls_it_makes_itself(capture: Capture) -> None:
    inner: list[str] = []

    @stream_intercept
    def asks(call: Any, event: Any) -> Any:
        if not inner:
            inner.append("once")
            inner.append(shown(list(stream_model(Provider(chunk("inner")), WIRE))))
        return event

    with use(asks):
        assert shown(list(stream_model(Provider(chunk("outer")), WIRE))) == "outer"
    assert inner == ["once", "inner"]


FRAMES = b"".join(
    [
        b": a comment\n\n",
        sse.frame(chunk("Mail bob@")),
        sse.frame(chunk("example.com")).replace(b"\n", b"\r\n"),
        sse.frame(chunk(" now")),
        sse.frame(chunk(finish="stop")),
        sse.frame({"id": "c", "choices": [], "usage": {"total_tokens": 3}}),
        sse.DONE,
    ]
)


class Fake:
    """What a rewriter asks of a call."""

    kind = "llm"
    codec = openai_chat


@given(st.lists(st.integers(min_value=0, max_value=len(FRAMES))))
def test_frames_are_rewritten_wherever_the_bytes_are_cut(cuts: list[int]) -> None:
    edges = sorted({0, len(FRAMES), *cuts})
    rewriter = Rewriter(Fake(), [mask_emails], Context(), frames=True)  # pyright: ignore[reportArgumentType]
    out: list[bytes] = []
    for start, stop in pairwise(edges):
        out += rewriter.feed(FRAMES[start:stop])
    out += rewriter.finish()
    data = b"".join(out)
    assert shown(list(sse.events(data))) == "Mail [email] now"
    assert data.endswith(sse.DONE)
    assert data.startswith(b": a comment\n\n")


def test_frames_that_nobody_changes_pass_byte_by_byte() -> None:
    @stream_intercept
    def watch(call: Any, event: Any) -> Any:
        return event

    rewriter = Rewriter(Fake(), [watch], Context(), frames=True)  # pyright: ignore[reportArgumentType]
    assert b"".join([*rewriter.feed(FRAMES), *rewriter.finish()]) == FRAMES


# --- bytes that are no event, or an odd one ---


def rewritten(entry: Any, *pieces: bytes) -> bytes:
    """What a stream of `pieces` is to its consumer."""
    rewriter = Rewriter(ModelCallStub(), [entry], Context(), frames=True)
    return b"".join([out for piece in pieces for out in rewriter.feed(piece)] + rewriter.finish())


class ModelCallStub:
    kind, codec = "llm", openai_chat


@stream_intercept
def shows(call: Any, event: Any) -> Any:
    return event


@stream_intercept(hold_back=40)
def holds(call: Any, text: str) -> str:
    return text


@pytest.mark.parametrize("entry", [shows, holds], ids=["event", "text"])
@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xfe\x00",
        b'data: {"id": "\xc3',
        b"data: {\xff}\n\n",
        b": comment",
        b"event: ping\n\n",
        b"retry: 5\r\r",
        b"data: not json\n\n",
        b"data: [DONE]",
    ],
)
def test_bytes_that_are_no_event_are_passed_on_as_they_are(entry: Any, data: bytes) -> None:
    assert rewritten(entry, data) == data
    assert rewritten(entry, *(data[at : at + 1] for at in range(len(data)))) == data


def test_the_readable_beginning_of_an_event_goes_no_further(capture: Capture) -> None:
    good = sse.frame(chunk("all"))
    assert rewritten(shows, good, sse.frame(chunk("secret"))[:-20]) == good


def test_what_is_held_comes_before_an_end_marker_without_its_blank(capture: Capture) -> None:
    out = rewritten(holds, sse.frame(chunk("held")), b"data:[DONE]\n\n")
    assert shown(list(sse.events(out))) == "held"
    assert out.endswith(b"data:[DONE]\n\n")


def test_what_is_held_is_not_run_together_with_a_last_event_that_lacks_its_blank_line(capture: Capture) -> None:
    last = sse.frame(chunk()).rstrip()
    out = rewritten(holds, sse.frame(chunk("held")), last)
    assert shown(list(sse.events(out))) == "held"
    assert last + b"\n\n" in out


@pytest.mark.parametrize("levels", [300, 900])
def test_an_event_may_be_as_deep_as_its_reader_takes(levels: int) -> None:
    deep = b'data: {"choices": [], "x": ' + b"[" * levels + b"]" * levels + b"}\n\n"
    assert rewritten(shows, deep) == deep


def test_a_number_that_is_none_is_left_alone() -> None:
    frame = b'data: {"choices": [], "x": NaN}\n\n'
    assert rewritten(shows, frame) == frame


@pytest.mark.parametrize("entry", [shows, holds], ids=["event", "text"])
def test_what_came_before_a_failure_is_shown_before_it(entry: Any, capture: Capture, read: Any) -> None:
    class Breaks(Provider):
        def __call__(self, wire: dict[str, Any]) -> Iterator[Any]:
            yield from super().__call__(wire)
            raise ConnectionError("cut")

    seen: list[str] = []

    @stream_intercept(name="last", priority=900)
    def notes(call: Any, event: Any) -> Any:
        seen.append(shown([event]))
        return event

    with use(entry), use(notes), pytest.raises(ConnectionError, match="cut"):
        read(Breaks(chunk("all of "), chunk("it")))
    assert "".join(seen) == "all of it"
