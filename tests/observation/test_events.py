"""Events and their subscribers: everything once, in order, to those who were there, and never in the way."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from spanrelay import ConfigurationError, _guard, flush, mark, run_tool, scope, subscribe, subscriber, tracing, use
from spanrelay.observation import mailbox
from spanrelay.observation.declarations import sanitizer
from spanrelay.observation.events import Event, MarkEvent, ScopeEvent, mark_events, timestamp, uuid_of
from spanrelay.observation.mailbox import Mailbox
from spanrelay.observation.observers import Field, observers
from spanrelay.pipeline.managed import run_model, stream_model
from spanrelay.records import Mark, SpanRecord
from spanrelay.telemetry.front import put_in_front
from spanrelay.telemetry.processor import RelaySpanProcessor
from spanrelay_testkit.capture import Capture, captured

KEYS = [
    "kind",
    "atof_version",
    "uuid",
    "parent_uuid",
    "timestamp",
    "name",
    "data",
    "data_schema",
    "metadata",
    "category",
    "category_profile",
    "propagation_root_uuid",
]


MAIL = "jane@example.com"


class Heard:
    """A subscriber that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def short(self) -> list[str]:
        """What happened to what, in order."""
        assert flush(10)
        return [f"{event.to_dict().get('scope_category', 'mark')} {event.name}" for event in self.events]


@pytest.fixture(autouse=True)
def nothing_stays_registered() -> Iterator[None]:
    yield
    assert observers.entries == ()


@pytest.fixture
def heard(capture: Capture) -> Iterator[Heard]:
    subscriber = Heard()
    with subscribe(subscriber, name="heard"):
        yield subscriber


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that another thread makes true."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.001)


def test_starts_marks_and_ends_are_told_in_the_order_in_which_they_happen(heard: Heard) -> None:
    with scope("outer"):
        mark("first")
        with scope("inner", kind="chain"):
            mark("second")
        run_tool("t", lambda: None)
    assert heard.short() == [
        "start invoke_agent outer",
        "mark first",
        "start inner",
        "mark second",
        "end inner",
        "start execute_tool t",
        "end execute_tool t",
        "end invoke_agent outer",
    ]


def test_every_event_has_the_fields_of_atof_and_no_others(heard: Heard) -> None:
    with scope("outer"):
        mark("m", {"a": 1})
    assert flush(10)
    start, marked, end = (event.to_dict() for event in heard.events)
    assert sorted(marked) == sorted(KEYS)
    assert sorted(start) == sorted(end) == sorted([*KEYS, "scope_category", "attributes"])
    assert {event["atof_version"] for event in (start, marked, end)} == {"0.1"}


def test_uuids_tie_events_together(heard: Heard) -> None:
    with scope("outer"):
        mark("m")
        run_tool("t", lambda: None)
    assert flush(10)
    start, marked, tool_start, tool_end, end = heard.events
    assert start.uuid == end.uuid == marked.parent_uuid == tool_start.parent_uuid == tool_end.parent_uuid
    assert tool_start.uuid == tool_end.uuid
    assert start.parent_uuid is None
    assert len({start.uuid, marked.uuid, tool_start.uuid}) == 3
    assert len({event.to_dict()["propagation_root_uuid"] for event in heard.events}) == 1
    assert all(uuid.UUID(event.uuid).version == 5 for event in heard.events)


def test_a_uuid_is_the_same_wherever_it_is_made() -> None:
    assert uuid_of(1, 2) == uuid_of(1, 2) == "e01909b2-fa73-5c00-bbda-f092fb92addb"


def test_a_time_has_nanoseconds_and_a_zone() -> None:
    assert timestamp(1_700_000_000_000_000_001) == "2023-11-14T22:13:20.000000001+00:00"


def test_times_are_those_of_the_span(capture: Capture, heard: Heard) -> None:
    with scope("outer"):
        mark("m")
    assert flush(10)
    span = capture.span
    assert span.start_time is not None
    assert span.end_time is not None
    assert [event.timestamp for event in heard.events] == [
        timestamp(span.start_time),
        timestamp(span.events[0].timestamp),
        timestamp(span.end_time),
    ]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}\+00:00", heard.events[0].timestamp)


def answer(wire: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": "hello you"}
    return {
        "id": "r1",
        "model": "m-2",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }


HELLO = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def test_a_model_call_tells_model_request_response_and_usage(heard: Heard) -> None:
    run_model(answer, HELLO)
    assert flush(10)
    start, end = heard.events
    assert isinstance(start, ScopeEvent)
    assert (start.category, start.model_name, start.output) == ("llm", "m", None)
    assert end.model_name == "m-2"
    assert end.input["messages"][0]["parts"] == [{"type": "text", "content": "hello"}]
    assert end.output["messages"][0]["parts"] == [{"type": "text", "content": "hello you"}]
    assert end.annotated_response["usage"] == {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    assert end.annotated_request == end.input
    assert end.attributes == []
    assert end.metadata == {"otel.status_code": "OK"}


def test_a_streamed_call_says_so(heard: Heard) -> None:
    events = [{"id": "r", "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]}]
    assert len(list(stream_model(lambda wire: iter(events), {**HELLO, "stream": True}))) == 1
    assert flush(10)
    assert heard.events[-1].attributes == ["streaming"]


def test_a_tool_call_tells_arguments_result_and_call_id(heard: Heard) -> None:
    run_tool("t", lambda x: {"y": x}, {"x": 1}, call_id="c1")
    assert flush(10)
    end = heard.events[-1]
    assert (end.category, end.tool_call_id, end.input, end.output) == ("tool", "c1", {"x": 1}, {"y": 1})


def test_a_failure_tells_its_type_and_message(heard: Heard) -> None:
    with pytest.raises(KeyError), scope("w", session="s", user="u", metadata={"team": "a"}):
        raise KeyError("x")
    assert flush(10)
    assert heard.events[0].metadata == {"session.id": "s", "user.id": "u", "team": "a"} or heard.events[0].metadata == {
        "session.id": "s",
        "user.id": "u",
    }
    assert heard.events[-1].metadata == {
        "session.id": "s",
        "user.id": "u",
        "team": "a",
        "otel.status_code": "ERROR",
        "otel.status_description": "'x'",
        "error.type": "KeyError",
    }


def test_each_subscriber_has_events_of_its_own(capture: Capture) -> None:
    one, other = Heard(), Heard()
    with subscribe(one, name="one"), subscribe(other, name="other"):
        with scope("w", metadata={"a": 1}):
            pass
        assert flush(10)
    one.events[-1].metadata.clear()
    changed = one.events[-1].to_dict()
    changed.clear()
    assert other.events[-1].metadata["a"] == one.events[-1].to_dict()["metadata"]["a"] == 1
    assert one.events[-1].to_dict() == json.loads(one.events[-1].to_json())
    assert "\n" not in one.events[-1].to_json()


def test_a_mark_is_told_while_its_span_is_open_and_only_once(capture: Capture, heard: Heard) -> None:
    with scope("w"):
        mark("m")
        assert heard.short() == ["start invoke_agent w", "mark m"]
        mark("m")
    assert heard.short() == ["start invoke_agent w", "mark m", "mark m", "end invoke_agent w"]
    assert isinstance(heard.events[1], MarkEvent)
    assert heard.events[1].uuid != heard.events[2].uuid


def test_events_that_others_add_to_a_span_are_told_at_its_end_with_their_own_time(
    capture: Capture, heard: Heard
) -> None:
    with capture.tracer().start_as_current_span("theirs") as span:
        mark("ours", {"n": 1})
        span.add_event("later", {"n": 3}, timestamp=2_000_000_000)
        span.add_event("earlier", {"n": 2}, timestamp=1_000_000_000)
        span.add_event("earlier", timestamp=1_000_000_000)
    assert heard.short() == ["start theirs", "mark ours", "mark earlier", "mark earlier", "mark later", "end theirs"]
    assert heard.events[4].timestamp == timestamp(2_000_000_000)
    assert heard.events[1].data == {"n": 1}
    assert len({event.uuid for event in heard.events}) == 5


def test_a_mark_that_was_told_is_left_out_and_another_at_that_time_is_not() -> None:
    record = SpanRecord(1, 2, marks=[Mark("told", 5), Mark("other", 5), Mark("late", 6)])
    assert [event["name"] for event in mark_events(record, (5,))] == ["other", "late"]


def test_who_is_told_is_settled_when_it_happens(capture: Capture) -> None:
    early, late = Heard(), Heard()
    handle = subscribe(early, name="early")
    with scope("w"):
        handle.remove()
        with subscribe(late, name="late"):
            mark("m")
    assert early.short() == ["start invoke_agent w"]
    assert late.short() == ["mark m"]


def test_a_scopes_subscriber_is_told_of_the_scope_and_what_is_below_until_it_ends(capture: Capture) -> None:
    own = Heard()
    with scope("outer"):
        with scope("inner") as inner:
            subscribe(own, scope=inner)
            run_tool("inside", lambda: None)
        run_tool("beside", lambda: None)
    assert own.short() == ["start execute_tool inside", "end execute_tool inside", "end invoke_agent inner"]


def test_siblings_on_threads_are_never_told_of_each_other(capture: Capture) -> None:
    together = threading.Barrier(8)
    heard = [Heard() for _ in range(8)]

    def work(number: int) -> None:
        with scope(f"w{number}") as own:
            subscribe(heard[number], scope=own)
            together.wait(10)
            for _ in range(5):
                run_tool(f"t{number}", lambda: None)
                mark(f"m{number}")
                capture.tracer().start_span(f"f{number}").end()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert flush(10)
    for number, one in enumerate(heard):
        assert len(one.events) == 5 * 5 + 1
        assert {event.name[-1] for event in one.events} == {str(number)}


def test_siblings_in_tasks_are_never_told_of_each_other(capture: Capture) -> None:
    heard = [Heard() for _ in range(8)]

    async def work(number: int) -> None:
        async with scope(f"w{number}") as own:
            subscribe(heard[number], scope=own)
            await asyncio.sleep(0)
            mark(f"m{number}")

    async def go() -> None:
        await asyncio.gather(*[work(number) for number in range(8)])

    asyncio.run(go())
    for number, one in enumerate(heard):
        assert one.short() == [f"mark m{number}", f"end invoke_agent w{number}"]


def test_a_subscriber_can_be_limited_to_kinds(capture: Capture) -> None:
    tools = Heard()
    with use(subscriber(name="tools", kinds=["tool"])(tools)), scope("w"):
        run_tool("t", lambda: None)
        mark("m")
    assert tools.short() == ["start execute_tool t", "end execute_tool t"]


def test_two_subscribers_of_one_name_are_refused() -> None:
    with subscribe(Heard(), name="same"), pytest.raises(ConfigurationError, match="'same' is already registered"):
        subscribe(Heard(), name="same")


def test_a_coroutine_function_is_awaited_event_by_event(capture: Capture) -> None:
    seen: list[str] = []
    loops: set[int] = set()

    async def listen(event: Event) -> None:
        seen.append(f"before {event.name}")
        await asyncio.sleep(0)
        seen.append(f"after {event.name}")
        loops.add(id(asyncio.get_running_loop()))

    with subscribe(listen), scope("w"):
        mark("m")
        assert flush(10)
    assert seen[:4] == ["before invoke_agent w", "after invoke_agent w", "before m", "after m"]
    assert flush(10)
    assert len(loops) == 1


@pytest.mark.swallows
def test_a_subscriber_that_raises_is_told_of_the_rest_and_logged_once(
    capture: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    heard = Heard()

    def fails(event: Event) -> None:
        heard(event)
        raise RuntimeError("no")

    with caplog.at_level(logging.WARNING), subscribe(fails, name="fails"), scope("w"):
        mark("m")
    assert len(heard.short()) == 3
    assert _guard.losses.take() == {"failures of the subscriber 'fails'": 3}
    assert caplog.text.count("subscriber 'fails' failed") == 1


@pytest.mark.swallows
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit])
@pytest.mark.parametrize("later", [False, True])
def test_a_subscriber_that_raises_what_would_end_a_program_is_told_of_the_rest(
    capture: Capture, caplog: pytest.LogCaptureFixture, kind: type[BaseException], later: bool
) -> None:
    heard = Heard()

    def fails(event: Event) -> None:
        heard(event)
        raise kind("no")

    async def fails_later(event: Event) -> None:
        fails(event)

    with caplog.at_level(logging.WARNING), subscribe(fails_later if later else fails, name="fails"), scope("w"):
        mark("m")
    assert len(heard.short()) == 3
    assert _guard.losses.take() == {"failures of the subscriber 'fails'": 3}
    assert caplog.text.count("subscriber 'fails' failed") == 1


@pytest.mark.swallows
def test_what_sanitizers_hide_stands_nowhere_in_our_log(capture: Capture, caplog: pytest.LogCaptureFixture) -> None:
    @sanitizer(fields=["error"])
    def hides(field: Field) -> Any:
        return {**field.value, "message": field.value["message"].replace(MAIL, "[email]")}

    def fails(event: Event) -> None:
        try:
            raise ValueError(f"first {MAIL}")
        except ValueError as error:
            raise RuntimeError(f"no {MAIL}") from error

    with caplog.at_level(logging.WARNING), use(hides), subscribe(fails, name="fails"):
        with scope("w"):
            pass
        assert flush(10)
        _guard.swallow("being tested", KeyError(MAIL))
    assert "ValueError: first [email]" in caplog.text
    assert "RuntimeError: no [email]" in caplog.text
    assert "KeyError: '[email]'" in caplog.text
    assert MAIL not in caplog.text
    assert _guard.losses.take()


def test_a_mark_may_say_when_it_happened(capture: Capture) -> None:
    heard = Heard()
    with subscribe(heard), scope("w") as here:
        here.mark("early", time=1_790_000_000_000_000_000)
        mark("early", time=1_790_000_000_000_000_000)
    assert len(heard.short()) == 4
    (span,) = capture.spans
    assert [event.timestamp for event in span.events] == [1_790_000_000_000_000_000] * 2
    told = [event.to_dict() for event in heard.events[1:3]]
    assert {event["timestamp"] for event in told} == {timestamp(1_790_000_000_000_000_000)}
    assert len({event["uuid"] for event in told}) == 2


@pytest.mark.parametrize("when", [1.5, True, -1, "now"])
def test_a_time_that_is_no_nanoseconds_is_refused(capture: Capture, when: Any) -> None:
    with scope("w") as here:
        for make in (mark, here.mark):
            with pytest.raises(TypeError, match=r"must be whole nanoseconds since the epoch, as time.time_ns\(\)"):
                make("m", time=when)


@pytest.mark.swallows
def test_a_subscriber_that_hangs_stops_nobody_and_loses_the_oldest(capture: Capture) -> None:
    go_on, heard = threading.Event(), Heard()
    seen: list[int] = []

    class Numbered:
        def __init__(self, number: int) -> None:
            self.number = number
            self.weight = 1

        def events(self) -> list[int]:
            return [self.number]

    def hangs(number: int) -> None:
        go_on.wait(20)
        seen.append(number)

    slow = Mailbox("slow", hangs, limit=3)
    with subscribe(heard, name="heard"):
        slow.put(Numbered(0))
        until(lambda: slow._queue.empty())
        for number in range(1, 8):
            slow.put(Numbered(number))
        with scope("w"):
            pass
        until(lambda: len(heard.events) == 2)
        assert not flush(0.01)
        go_on.set()
        assert slow.flush(10)
    assert seen == [0, 5, 6, 7]
    assert _guard.losses.take() == {"events that the subscriber 'slow' was too slow for": 4}


def test_flush_inside_a_subscriber_or_a_sanitizer_returns_at_once(capture: Capture) -> None:
    answers: list[bool] = []

    @sanitizer(fields=["result"])
    def flushes(field: Field) -> Any:
        answers.append(flush())
        return field.value

    with use(flushes), subscribe(lambda event: answers.append(flush()), name="s"):
        run_tool("t", lambda: "done")
        assert flush(10)
    assert answers == [False, False, False]


def test_what_a_subscriber_does_is_not_told(capture: Capture) -> None:
    heard = Heard()

    def works(event: Event) -> None:
        heard(event)
        with scope("more"):
            mark("m")

    with subscribe(works, name="works"), scope("w"):
        pass
    assert heard.short() == ["start invoke_agent w", "end invoke_agent w"]


def test_events_are_sanitized_as_records_are(capture: Capture) -> None:
    def hide(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("secret", "[hidden]")
        if isinstance(value, dict):
            return {key: hide(item) for key, item in value.items()}
        return [hide(item) for item in value] if isinstance(value, list) else value

    heard = Heard()
    with subscribe(heard, name="heard"), use(sanitizer(name="hide")(lambda field: hide(field.value))):
        with pytest.raises(ValueError, match="secret"), scope("secret", session="secret", metadata={"a": "secret"}):
            mark("secret", {"a": "secret"})
            run_tool("secret", lambda x: x, {"x": "secret"})
            run_model(lambda wire: answer(wire), {**HELLO, "user": "secret"})
            theirs = capture.tracer().start_span("secret", attributes={"input.value": "secret"})
            theirs.add_event("secret", {"a": "secret"})
            theirs.end()
            raise ValueError("secret")
        assert flush(10)
    told = "".join(event.to_json() for event in heard.events)
    assert len(heard.events) == 10
    assert "secret" not in told
    assert told.count("[hidden]") > 10


@pytest.mark.swallows
def test_a_broken_sanitizer_costs_the_field_and_not_the_event(capture: Capture) -> None:
    heard = Heard()

    @sanitizer(fields=["result", "name"])
    def broken(field: Field) -> Any:
        raise RuntimeError

    with subscribe(heard, name="heard"), use(broken):
        run_tool("secret", lambda x: "secret", {"x": 1})
        assert flush(10)
    assert [event.name for event in heard.events] == ["tool", "execute_tool"]
    assert heard.events[-1].output is None
    assert "secret" not in "".join(event.to_json() for event in heard.events)


def test_provider_keys_are_masked_in_events(heard: Heard) -> None:
    key = "sk-" + "a1B2" * 8
    with scope("w"):
        mark("m", {"key": key})
    run_tool("t", lambda key: key, {"key": key})
    assert flush(10)
    assert key not in "".join(event.to_json() for event in heard.events)
    assert heard.events[1].data == {"key": "[masked key]"}


def test_without_content_messages_arguments_and_results_are_not_told() -> None:
    heard = Heard()
    provider = TracerProvider(shutdown_on_exit=False)
    put_in_front(RelaySpanProcessor(told_content=False), provider)
    tracing.adopt(provider)
    try:
        with subscribe(heard, name="heard"):
            run_tool("t", lambda x: "secret", {"x": "secret"}, tracing=tracing.Tracing("spanrelay_t", None, provider))
            assert flush(10)
    finally:
        tracing.abandon(provider)
    assert len(heard.events) == 2
    assert "secret" not in "".join(event.to_json() for event in heard.events)


def test_of_what_is_not_sampled_nobody_is_told() -> None:
    heard = Heard()
    with captured(sampler=ALWAYS_OFF), subscribe(heard, name="heard"):
        with scope("w"):
            mark("m")
            assert run_tool("t", lambda: "done") == "done"
        assert flush(10)
    assert heard.events == []


def test_nothing_is_read_on_the_thread_of_the_call(capture: Capture) -> None:
    readers: set[str] = set()

    @sanitizer(fields=["mark", "result"])
    def note(field: Field) -> Any:
        readers.add(threading.current_thread().name)
        return field.value

    with use(note), subscribe(Heard(), name="heard"):
        with scope("w"):
            mark("m")
            run_tool("t", lambda: "done")
        assert flush(10)
    assert readers == {"spanrelay-heard"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_tells_its_own_events_and_not_its_parents(capture: Capture) -> None:
    read, write = os.pipe()
    go_on = threading.Event()
    parent = os.getpid()

    def tell(event: Event) -> None:
        if os.getpid() == parent:
            go_on.wait(20)
        os.write(write, f"{os.getpid() == parent} {event.name}\n".encode())

    with subscribe(tell, name="tell"):
        with scope("before", kind="chain"):
            pass
        child = os.fork()
        if child == 0:
            with scope("after", kind="chain"):
                pass
            os._exit(0 if flush(10) else 1)
        assert os.waitpid(child, 0)[1] == 0
        go_on.set()
        assert flush(10)
    os.close(write)
    with os.fdopen(read) as lines:
        assert sorted(lines.read().splitlines()) == ["False after", "False after", "True before", "True before"]


def test_a_subscribers_thread_ends_when_nothing_comes_and_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "IDLE_SECONDS", 0.01)
    seen: list[int] = []

    class Once:
        weight = 1

        def events(self) -> list[int]:
            return [1]

    box = Mailbox("box", seen.append)
    for _ in range(2):
        box.put(Once())
        assert box.flush(10)
        until(lambda: box._thread is None)
    assert seen == [1, 1]


def test_the_processor_flushes_subscribers(capture: Capture) -> None:
    go_on, heard = threading.Event(), Heard()

    def slow(event: Event) -> None:
        go_on.wait(20)
        heard(event)

    with subscribe(slow, name="slow"):
        with scope("w"):
            pass
        assert not capture.relay.force_flush(10)
        go_on.set()
        assert capture.provider.force_flush(10_000)
    assert len(heard.events) == 2
