"""Rules that break: each is refused in its own words, in every way of asking, and nothing is sent that need not be."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry.trace import StatusCode
from tests.matrix.cells import Cell
from tests.matrix.rules import known_or_small
from tests.matrix.ways import WAYS, Way
from tests.matrix.work import World, working

from spanrelay import (
    ConfigurationError,
    MiddlewareError,
    execution_intercept,
    guardrail,
    request_intercept,
    run_tool,
    stream_intercept,
    use,
)
from spanrelay.pipeline.middleware import Middleware
from spanrelay.semconv import names
from spanrelay_testkit.capture import Capture

on_one_loop = pytest.mark.asyncio(loop_scope="module")
ASKING = [way for way in WAYS if way.ask is not None]
ANSWER = "You said: hello"


def way_name(way: Way) -> str:
    return f"{way.door} {way.name}"


@dataclass(frozen=True)
class Fault:
    """A broken rule, what the caller gets of it, and how often the request goes out all the same."""

    name: str
    rule: Middleware
    error: type[Exception]
    told: str
    sent: int = 0
    streams: bool = False
    """Whether it breaks only where the answer is handed on piece by piece."""

    def __str__(self) -> str:
        return self.name


async def for_ever() -> None:
    await asyncio.Event().wait()


async def deaf_to_cancelling() -> None:
    for _ in range(3):
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0.5)


@guardrail
def raising_guardrail(call: Any) -> None:
    raise LookupError("no such rule")


@guardrail
def yes_man(call: Any) -> Any:
    return True


@guardrail(timeout=0.02)
async def slow_guardrail(call: Any) -> None:
    await for_ever()


@guardrail(timeout=0.02)
async def stubborn_guardrail(call: Any) -> None:
    await deaf_to_cancelling()


@guardrail(timeout=5)
async def impatient_guardrail(call: Any) -> None:
    raise TimeoutError("the rules' server is slow")


@request_intercept
def raising_request(call: Any) -> None:
    raise LookupError("no such rule")


@request_intercept
def confused_request(call: Any) -> Any:
    return 7


@request_intercept(timeout=0.02)
async def slow_request(call: Any) -> None:
    await for_ever()


@request_intercept(kinds=["llm"])
def unserializable_request(call: Any) -> None:
    call.wire["x_unknown"] = object()


@request_intercept(kinds=["llm"])
def half_a_request(call: Any) -> Any:
    return {"model": "gpt-5"}


@request_intercept(kinds=["llm"])
def deleting_request(call: Any) -> None:
    for key in ("messages", "input", "prompt"):
        call.wire.pop(key, None)


@execution_intercept(kinds=["llm"])
def half_a_sending(call: Any) -> Iterator[Any]:
    call.wire = {"model": "gpt-5"}
    return (yield call)


@execution_intercept
def raising_before(call: Any) -> Iterator[Any]:
    raise LookupError("no such rule")
    yield call


@execution_intercept
def raising_after(call: Any) -> Iterator[Any]:
    yield call
    raise LookupError("no such rule")


@execution_intercept
def silent(call: Any) -> Iterator[Any]:
    return
    yield call


@execution_intercept
def babbling(call: Any) -> Iterator[Any]:
    yield 42


@execution_intercept
def sending_none(call: Any) -> Iterator[Any]:
    yield []


@execution_intercept
def answering_seven(call: Any) -> Iterator[Any]:
    return 7
    yield call


@execution_intercept(timeout=0.02)
def waiting_for_ever(call: Any) -> Iterator[Any]:
    yield for_ever()
    return (yield call)


@execution_intercept
def sending_again(call: Any) -> Iterator[Any]:
    yield call
    return (yield call)


@execution_intercept
def replacing_late(call: Any) -> Iterator[Any]:
    response = yield call
    return response.record


@stream_intercept
def raising_stream(call: Any, event: Any) -> Any:
    raise LookupError("no such rule")


@stream_intercept(hold_back=3)
def confused_stream(call: Any, text: str) -> Any:
    return 7


OWN = (LookupError, "no such rule")
FAULTS = [
    Fault(
        "guardrail raises",
        raising_guardrail,
        MiddlewareError,
        "guardrail 'raising_guardrail' raised LookupError, so the call is refused: no such rule",
    ),
    Fault("guardrail returns no reason", yes_man, MiddlewareError, "must return None or the reason"),
    Fault("guardrail blocks", slow_guardrail, MiddlewareError, "did not answer within 0.02 s"),
    Fault("guardrail blocks and cannot be cancelled", stubborn_guardrail, MiddlewareError, "did not answer within"),
    Fault("guardrail raises TimeoutError of its own", impatient_guardrail, MiddlewareError, "raised TimeoutError"),
    Fault(
        "request intercept raises",
        raising_request,
        MiddlewareError,
        "request intercept 'raising_request' raised LookupError, so the call is refused: no such rule",
    ),
    Fault("request intercept returns half a request", half_a_request, MiddlewareError, "left a request without"),
    Fault("request intercept deletes half of it", deleting_request, MiddlewareError, "'deleting_request': policy left"),
    Fault("execution intercept sends half a request", half_a_sending, MiddlewareError, "left a request without"),
    Fault("request intercept returns no request", confused_request, MiddlewareError, "must be a ModelRequest"),
    Fault("request intercept blocks", slow_request, MiddlewareError, "did not answer within 0.02 s"),
    Fault("request intercept leaves no JSON", unserializable_request, TypeError, "serializable"),
    Fault("execution intercept raises before sending", raising_before, *OWN),
    Fault("execution intercept raises after sending", raising_after, *OWN, sent=1),
    Fault("execution intercept never yields", silent, MiddlewareError, "neither sent the call nor returned"),
    Fault("execution intercept yields nonsense", babbling, MiddlewareError, "must yield the call"),
    Fault("execution intercept yields no calls", sending_none, MiddlewareError, "may yield a list of calls"),
    Fault("execution intercept returns no answer", answering_seven, MiddlewareError, "must be a ModelResponse"),
    Fault("execution intercept blocks", waiting_for_ever, MiddlewareError, "did not answer within 0.02 s"),
    Fault("yields twice after a chunk", sending_again, MiddlewareError, "cannot be sent again", 1, streams=True),
    Fault("replaces what was shown", replacing_late, MiddlewareError, "cannot be changed", 1, streams=True),
    Fault("stream intercept raises", raising_stream, *OWN, sent=1, streams=True),
    Fault("stream intercept returns no text", confused_stream, MiddlewareError, "must return the text", 1, True),
]


@on_one_loop
@pytest.mark.parametrize("way", ASKING, ids=way_name)
@pytest.mark.parametrize("fault", FAULTS, ids=str)
async def test_what_breaks_refuses(fault: Fault, way: Way, world: World, tmp_path: Path) -> None:
    before = otel_context.get_current()
    pieces = "streaming response" in way.name  # its body is handed on as it comes, events or not
    async with working(Cell("sanitizer", way, "global"), world, tmp_path / "t") as work:
        with use(fault.rule):
            if fault.streams and not (way.streams or (pieces and fault.rule.family == "execution")):
                assert await work.ask("hello") == ANSWER
            else:
                with pytest.raises(fault.error, match=fault.told) as raised:
                    await work.ask("hello")
                assert work.questions == ["hello"] * fault.sent
                work.settle()
                check_failed(work.spans, raised.value)
        assert await work.ask("again") == "You said: again"
    assert otel_context.get_current() is before


def check_failed(spans: list[Any], error: BaseException) -> None:
    """The span of the call says what the caller got."""
    calls = [span for span in spans if (span.attributes or {})[names.OI_KIND] == "LLM"]
    assert [(call.status.status_code, call.status.description) for call in calls] == [(StatusCode.ERROR, str(error))]


# --- generators that are left ---


@on_one_loop
@pytest.mark.parametrize("way", [way for way in ASKING if way.streams], ids=way_name)
async def test_a_generator_comes_to_its_end_when_its_stream_is_left(way: Way, world: World, tmp_path: Path) -> None:
    ended: list[str] = []

    @execution_intercept
    def waits_for_the_end(call: Any) -> Iterator[Any]:
        try:
            yield call
        finally:
            ended.append("over")

    class Enough(Exception):
        """The consumer has seen enough."""

    class Impatient(list[str]):
        def append(self, piece: str) -> None:
            raise Enough

    async with working(Cell("sanitizer", way, "global"), world, tmp_path / "t") as work:
        with use(waits_for_the_end), pytest.raises(Enough):
            assert way.ask is not None
            await way.ask(world.clients, "hello", Impatient())
        for _ in range(3):
            gc.collect()
            await asyncio.sleep(0.01)
        assert ended == ["over"]
        assert len(work.capture.spans) == 1


@on_one_loop
@pytest.mark.parametrize("way", [way for way in ASKING if way.streams], ids=way_name)
async def test_a_generator_that_never_gives_up_is_stopped_once_its_stream_was_shown(
    way: Way, world: World, tmp_path: Path
) -> None:
    ended: list[str] = []

    @execution_intercept
    def until_it_works(call: Any) -> Iterator[Any]:
        try:
            yield call
            while True:
                with suppress(Exception):
                    yield asyncio.sleep(0)
                    return (yield call)
        finally:
            ended.append("over")

    @execution_intercept(name="around", priority=1)
    def around(call: Any) -> Iterator[Any]:
        try:
            return (yield call)
        finally:
            ended.append("around")

    async with working(Cell("sanitizer", way, "global"), world, tmp_path / "t") as work:
        with use(until_it_works), use(around), pytest.raises(MiddlewareError, match="cannot be sent again"):
            await work.ask("hello")
        assert work.questions == ["hello"]
    assert work.heard == [ANSWER]
    assert ended == ["over", "around"]


@on_one_loop
@pytest.mark.parametrize("way", [way for way in ASKING if way.streams], ids=way_name)
async def test_a_stream_that_breaks_after_a_chunk_was_shown_falls_back_on_nothing(
    way: Way, world: World, tmp_path: Path
) -> None:
    async with working(Cell("sanitizer", way, "global"), world, tmp_path / "t") as work:
        with pytest.raises(Exception) as bare:
            await work.ask("cut")
        with use(known_or_small), pytest.raises(type(bare.value)) as raised:
            await work.ask("cut")
        assert str(raised.value) == str(bare.value)
        assert [request.model for request in work.received] == ["gpt-5"] * 2
        assert work.heard[0] == work.heard[1]


# --- registering and removing ---


def test_registering_the_same_twice_is_refused_and_the_first_stays(capture: Capture) -> None:
    called: list[int] = []
    with use(raising_guardrail), pytest.raises(ConfigurationError, match="'raising_guardrail' is already registered"):
        try:
            use(raising_guardrail)
        finally:
            with pytest.raises(MiddlewareError):
                run_tool("t", lambda: called.append(1))
    assert called == []


@on_one_loop
@pytest.mark.parametrize("way", ASKING, ids=way_name)
async def test_what_is_removed_during_a_call_holds_until_its_end(way: Way, world: World, tmp_path: Path) -> None:
    seen: list[str] = []

    @request_intercept(priority=1)
    def removes(call: Any) -> None:
        for handle in handles:
            handle.remove()

    @guardrail
    def judges(call: Any) -> None:
        seen.append("judged")

    @execution_intercept
    def stands_around(call: Any) -> Iterator[Any]:
        response = yield call
        seen.append(response.record.text)

    handles = [use(removes), use(judges), use(stands_around)]
    async with working(Cell("sanitizer", way, "global"), world, tmp_path / "t") as work:
        assert await work.ask("hello") == ANSWER
        assert await work.ask("again") == "You said: again"
    assert seen == ["judged", ANSWER]


# --- async rules under sync calls ---


def on_the_callers_loop(loop: asyncio.AbstractEventLoop, timeout: float) -> Middleware:
    @guardrail(timeout=timeout)
    async def needs_the_caller(call: Any) -> None:
        async def work() -> str:
            return "done"

        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(), loop))

    return needs_the_caller


@on_one_loop
@pytest.mark.parametrize("way", ASKING, ids=way_name)
async def test_a_rule_that_needs_the_callers_loop_never_blocks_it_for_ever(
    way: Way, world: World, tmp_path: Path
) -> None:
    blocks = "async" not in way.name
    async with working(Cell("sanitizer", way, "global"), world, tmp_path / "t") as work:
        with use(on_the_callers_loop(asyncio.get_running_loop(), 0.05 if blocks else 10)):
            if blocks:
                with pytest.raises(MiddlewareError, match="did not answer within"):
                    await work.ask("hello")
            else:
                assert await work.ask("hello") == ANSWER
        assert work.questions == ([] if blocks else ["hello"])


@on_one_loop
@pytest.mark.parametrize("way", [way for way in ASKING if "async" not in way.name], ids=way_name)
async def test_a_future_of_the_callers_loop_is_refused_in_a_sync_call(way: Way, world: World, tmp_path: Path) -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @execution_intercept
    def waits(call: Any) -> Iterator[Any]:
        yield future
        return (yield call)

    async with working(Cell("sanitizer", way, "global"), world, tmp_path / "t") as work:
        with use(waits), pytest.raises(RuntimeError, match="different loop"):
            await work.ask("hello")
        assert work.questions == []
    future.cancel()
