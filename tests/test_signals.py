"""What a signal handler of the application raises while our code runs reaches the application, and is not ours."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
import threading
from asyncio.selector_events import BaseSelectorEventLoop
from collections.abc import Callable, Iterator
from contextvars import copy_context
from types import FrameType
from typing import Any

import pytest
from opentelemetry import context as otel_context

from spanrelay import _guard, _json, execution_intercept, guardrail, run_tool, sanitizer, tracing, use
from spanrelay._guard import broke_in, guarded, losses, swallow
from spanrelay.pipeline.loops import OwnLoop, own_loop
from spanrelay.tracing import default_tracing, describe_error
from spanrelay_testkit.capture import Capture

OURS = os.path.dirname(_guard.__file__)  # whole: an environment may well stand in a folder called spanrelay

pytestmark = [
    pytest.mark.swallows,
    pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="this system has no alarms"),
]


class Alarm(Exception):
    """The application's own."""


KINDS = [TimeoutError, MemoryError, RecursionError, ValueError, Alarm]


@pytest.fixture(autouse=True)
def handlers_restored() -> Iterator[None]:
    before = signal.getsignal(signal.SIGALRM)
    yield
    signal.signal(signal.SIGALRM, before)


def plain_handler(error: BaseException) -> Any:
    def handler(number: int, frame: FrameType | None) -> None:
        raise error

    return handler


def handler_of_any_arguments(error: BaseException) -> Any:
    def handler(*given: Any) -> None:
        raise error

    return handler


def handler_that_throws_its_arguments_away(error: BaseException) -> Any:
    def handler(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise error

    return handler


def handler_that_registers_another_first(error: BaseException) -> Any:
    def handler(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        raise error

    return handler


def handler_that_calls_on(error: BaseException) -> Any:
    def handler(number: int, frame: FrameType | None) -> None:
        give_up()

    def give_up() -> None:
        raise error

    return handler


class Clock:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def strike(self, number: int, frame: FrameType | None) -> None:
        raise self.error

    def __call__(self, *given: Any) -> None:
        del given
        raise self.error


def partial_handler(error: BaseException) -> Any:
    def handler(error: BaseException, number: int, frame: FrameType | None) -> None:
        raise error

    return functools.partial(handler, error)


HANDLERS: list[Callable[[BaseException], Any]] = [
    plain_handler,
    handler_of_any_arguments,
    handler_that_throws_its_arguments_away,
    handler_that_registers_another_first,
    handler_that_calls_on,
    lambda error: Clock(error).strike,
    Clock,
    partial_handler,
]


def alarm(error: BaseException, make: Callable[[BaseException], Any] = plain_handler) -> None:
    signal.signal(signal.SIGALRM, make(error))


def struck() -> None:
    signal.raise_signal(signal.SIGALRM)


def in_guarded() -> None:
    with guarded("reading a record"):
        struck()


def beneath_guarded() -> None:
    with guarded("reading a record"):
        sorted([1, 2], key=lambda _: struck())


def where_an_error_is_counted() -> None:
    try:
        struck()
    except Exception as error:
        swallow("reading a record", error)


class Odd:
    def __repr__(self) -> str:
        struck()
        return "odd"

    def __str__(self) -> str:
        struck()
        return "odd"


class OddError(Exception):
    def __str__(self) -> str:
        struck()
        return "odd"


def in_writing_json() -> None:
    _json.dumps({"a": [Odd()]})


def in_writing_odd_json() -> None:
    _json.dumps({"a": 1 << 70, "b": Odd()})


def in_describing_an_error() -> None:
    describe_error(OddError())


PLACES = [
    in_guarded,
    beneath_guarded,
    where_an_error_is_counted,
    in_writing_json,
    in_writing_odd_json,
    in_describing_an_error,
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", PLACES)
def test_what_a_handler_raises_passes(place: Callable[[], None], kind: type[Exception]) -> None:
    error = kind("time is up")
    alarm(error)
    with pytest.raises(kind) as raised:
        place()
    assert raised.value is error
    assert losses.take() == {}


@pytest.mark.parametrize("make", HANDLERS)
def test_a_handler_of_any_kind_is_known(make: Callable[[BaseException], Any]) -> None:
    error = Alarm("time is up")
    alarm(error, make)
    with pytest.raises(Alarm) as raised:
        in_guarded()
    assert raised.value is error


def test_what_a_trace_function_raises_passes() -> None:
    """A debugger that is quit, for instance."""
    before = sys.gettrace()

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        raise Alarm("quit")

    def traced() -> None:
        with guarded("reading a record"):
            sys.settrace(trace)
            in_writing_json()

    try:
        with pytest.raises(Alarm, match="quit"):
            traced()
    finally:
        sys.settrace(before)


def fails(*given: Any) -> None:
    raise TimeoutError("the reader's own")


@pytest.mark.parametrize("given", [(), (1,), (signal.SIGALRM, None), (sys._getframe(), 1)])
def test_what_our_code_called_itself_is_swallowed_and_counted(given: tuple[Any, ...]) -> None:
    alarm(Alarm())
    with guarded("reading a record"):
        fails(*given)
    assert losses.take() == {"failures while reading a record": 1}


def test_an_error_of_before_is_no_interruption_of_now() -> None:
    alarm(Alarm("time is up"))
    with pytest.raises(Alarm):
        struck()
    try:
        struck()
    except Alarm:
        with guarded("reading a record"):
            fails()
    assert losses.take() == {"failures while reading a record": 1}


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Capture]:
    """Spans are recorded, and what an interruption leaves open is nobody's fault."""
    capture = Capture()
    own, before = default_tracing(), default_tracing()._provider
    own.use(capture.provider)
    tracing.adopt(capture.provider)
    yield capture
    own.use(before)
    tracing.abandon(capture.provider)
    tracing.handed_over.clear()
    _guard.losses.take()


def test_a_handler_that_strikes_while_a_sanitizer_runs_is_heard(recorded: Capture) -> None:
    alarm(Alarm("time is up"))

    @sanitizer
    def interrupted(field: Any) -> Any:
        struck()
        return field.value

    with use(interrupted), pytest.raises(Alarm):
        recorded.relay.force_flush()
        run_tool("t", lambda value: value, {"value": 1})
        _ = [dict(span.attributes or {}) for span in recorded.spans]


def struck_at_call(count: int, work: Callable[[], Any]) -> bool:
    """Do `work`, struck by the alarm as the function call number `count` in our code begins; False without one.

    Python looks for signals there. Not between any two lines: a trace function may strike where a lock is held that
    no signal could leave behind.
    """
    left = count

    def calls(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal left
        if frame.f_code.co_filename.startswith(OURS):
            left -= 1
            if left == 0:
                sys.settrace(None)
                struck()

    before = sys.gettrace()
    try:
        sys.settrace(calls)
        work()
    finally:
        sys.settrace(before)
    return left <= 0


def test_wherever_a_handler_strikes_in_a_call_it_is_heard_once(
    recorded: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    struck_at = 0
    ignored: list[Any] = []

    @guardrail
    def lets_pass(call: Any) -> None:
        return None

    @execution_intercept
    def sends(call: Any) -> Any:
        return (yield call)

    def work() -> None:
        assert run_tool("t", lambda value: value, {"value": 1}) == 1

    before, hook = otel_context.get_current(), sys.unraisablehook
    sys.unraisablehook = ignored.append
    try:
        with use(lets_pass), use(sends):
            work()  # what is made once is made
            for count in range(1, 5000):
                error = Alarm(f"at call {count}")
                alarm(error)
                try:
                    within = struck_at_call(count, work)
                except Alarm as raised:
                    assert raised is error
                    assert otel_context.get_current() is before
                    struck_at += 1
                else:
                    if not within:
                        break
                    # The SDK catches and logs what strikes while its processor exports in the application's thread.
                    logged = [each for each in caplog.records if each.exc_info and each.exc_info[1] is error]
                    assert ignored or [each.name for each in logged] == ["opentelemetry.sdk.trace.export"], (
                        f"nobody heard of the alarm {error}"
                    )
                    ignored.clear()
    finally:
        sys.unraisablehook = hook
    assert struck_at > 20
    assert [key for key in losses.take() if key.startswith("failures while")] == []


def test_alarms_at_any_moment_are_never_taken_for_our_own_failures(recorded: Capture) -> None:
    raised, heard = [0], 0
    armed = False

    def handler(number: int, frame: FrameType | None) -> None:
        if armed:
            raised[0] += 1
            raise Alarm("time is up")

    # What strikes in a finalizer Python ignores; what strikes in `detach` or around an exporter OpenTelemetry logs.
    hook = sys.unraisablehook
    sys.unraisablehook = lambda unraisable: None
    signal.signal(signal.SIGALRM, handler)
    try:
        for turn in range(300):
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, 1e-6 + 2e-6 * (turn % 100))
                # In a context of its own: one that strikes around OpenTelemetry's `detach` leaves recording suppressed.
                copy_context().run(run_tool, "t", lambda value: value, {"value": turn})
                armed = False
            except Alarm:
                armed = False
                heard += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        armed = False
        sys.unraisablehook = hook
    assert 0 <= heard <= raised[0]
    assert [key for key in losses.take() if key.startswith("failures while")] == []


def test_policy_is_not_awaited_for_a_call_that_a_signal_ends_as_the_waiting_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judged: list[Any] = []

    @guardrail
    async def judge(call: Any) -> None:
        judged.append(call.request.arguments)

    def struck(loop: OwnLoop, awaitable: Any) -> None:
        start(loop, awaitable)
        signal.raise_signal(signal.SIGALRM)

    start = OwnLoop.start
    signal.signal(signal.SIGALRM, plain_handler(Alarm()))
    with use(judge):
        monkeypatch.setattr(OwnLoop, "start", struck)
        with pytest.raises(Alarm):
            run_tool("t", lambda value: value, {"value": 1})
        monkeypatch.undo()
        assert run_tool("t", lambda value: value, {"value": 2}) == 2
    assert judged == [{"value": 2}]


@pytest.mark.parametrize("moment", [1, 2])
def test_what_a_handler_raises_as_policy_begins_to_be_awaited_ends_the_call(
    moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    wakes: list[int] = []

    @guardrail(timeout=60)
    async def wait(call: Any) -> None:
        await asyncio.sleep(60)

    def struck(loop: Any) -> None:
        wake(loop)
        if threading.current_thread() is threading.main_thread():
            wakes.append(1)
            if len(wakes) == moment:
                signal.raise_signal(signal.SIGALRM)

    own_loop()
    wake = BaseSelectorEventLoop._write_to_self
    signal.signal(signal.SIGALRM, plain_handler(Alarm()))
    with use(wait), pytest.raises(Alarm):
        monkeypatch.setattr(BaseSelectorEventLoop, "_write_to_self", struck)
        run_tool("t", lambda: None)


class Unasked:
    """An object of the application that refuses to say what it is, as a lazy one does whose making fails."""

    @property
    def __class__(self) -> type:  # pyright: ignore[reportIncompatibleMethodOverride] - as lazy objects do
        raise RuntimeError("asked for its class")


def test_a_failure_beside_an_object_that_does_not_say_what_it_is_is_no_other_failure() -> None:
    def fail(given: object) -> None:
        raise LookupError("ours")

    try:
        fail(Unasked())
    except LookupError as error:
        assert not broke_in(error)
