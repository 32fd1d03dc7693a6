"""Scopes: where work belongs, across tasks, threads and errors."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from spanrelay import (
    agent,
    current_scope,
    guardrail,
    mark,
    run_model,
    run_tool,
    scope,
    scoped,
    start_model,
    start_scope,
    start_tool,
    subscribe,
)
from spanrelay.errors import MiddlewareError
from spanrelay.propagation import trace_headers
from spanrelay.semconv.names import OI_KIND_OF_KIND
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.half import left_early


@pytest.mark.parametrize("kind", [kind for kind in OI_KIND_OF_KIND if kind is not None])
def test_every_kind_of_scope_opens_a_span_of_its_kind(capture: Capture, kind: str) -> None:
    with scope("work", kind=kind):  # pyright: ignore[reportArgumentType] - the table's own kinds
        pass
    assert (capture.span.attributes or {})["openinference.span.kind"] == OI_KIND_OF_KIND[kind]


def test_an_unknown_kind_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match="kind='robot' is not a kind of scope; use one of agent, chain"):
        scope("work", kind="robot")  # pyright: ignore[reportArgumentType] - the mistake


def test_scopes_nest_and_hand_down_what_they_know(capture: Capture) -> None:
    with scope("outer", session="s", user="u", metadata={"a": 1, "b": 1}) as outer:
        with scope("inner", kind="chain", metadata={"b": 2}) as inner:
            assert current_scope() is inner
            assert (inner.session_id, inner.user_id, inner.metadata) == ("s", "u", {"a": 1, "b": 2})
        assert current_scope() is outer
    assert current_scope() is None
    inner_span, outer_span = capture.spans
    assert inner_span.parent is not None
    assert inner_span.parent.span_id == outer_span.context.span_id


def test_async_with_is_the_same(capture: Capture) -> None:
    async def go() -> None:
        async with scope("outer") as entered:
            await asyncio.sleep(0)
            assert current_scope() is entered

    asyncio.run(go())
    assert capture.span.name == "invoke_agent outer"


def test_a_decorated_function_is_a_scope_for_each_call(capture: Capture) -> None:
    @scope("worker", kind="chain")
    def work(depth: int) -> int:
        return depth if depth == 0 else work(depth - 1)

    assert work(2) == 0
    assert [span.name for span in capture.spans] == ["worker"] * 3


def test_a_decorated_coroutine_function_overlaps_without_mixing(capture: Capture) -> None:
    seen: set[int] = set()

    @scope("worker", kind="chain")
    async def work() -> None:
        inner = current_scope()
        await asyncio.sleep(0)
        assert current_scope() is inner
        seen.add(id(inner))

    async def go() -> None:
        await asyncio.gather(*[work() for _ in range(20)])

    asyncio.run(go())
    assert len(capture.spans) == 20


def test_a_generator_works_in_its_scope_and_its_consumer_does_not(capture: Capture) -> None:
    @scope("counting", "chain")
    def values() -> Any:
        got = yield current_scope()
        yield (got, current_scope())

    steps = values()
    first = next(steps)
    assert first.name == "counting"
    assert current_scope() is None
    assert steps.send("sent") == ("sent", first)
    assert list(steps) == []
    assert capture.span.name == "counting"


async def test_an_async_generator_works_in_its_scope_and_its_consumer_does_not(capture: Capture) -> None:
    @scoped("counting")
    async def values() -> Any:
        got = yield current_scope()
        yield (got, current_scope())

    steps = values()
    first = await anext(steps)
    assert first.name == "counting"
    assert current_scope() is None
    assert await steps.asend("sent") == ("sent", first)
    await steps.aclose()
    assert capture.span.name == "counting"
    assert capture.span.status.status_code.name == "UNSET"


def test_what_is_thrown_into_a_generator_arrives_in_its_scope(capture: Capture) -> None:
    @scoped()
    def values() -> Any:
        try:
            yield 1
        except LookupError:
            yield current_scope()

    steps = values()
    next(steps)
    assert steps.throw(LookupError()).name == "values"
    with pytest.raises(ZeroDivisionError):
        steps.throw(ZeroDivisionError("unhandled"))
    assert capture.span.status.status_code.name == "ERROR"


def test_one_scope_object_may_be_entered_by_several_tasks_at_once(capture: Capture) -> None:
    shared = scope("shared", "chain")

    async def work(first: asyncio.Event, second: asyncio.Event) -> None:
        with shared as entered:
            first.set()
            await second.wait()
            assert current_scope() is entered
        assert current_scope() is None

    async def both() -> None:
        a, b = asyncio.Event(), asyncio.Event()
        await asyncio.gather(work(a, b), work(b, a))

    asyncio.run(both())
    assert len(capture.spans) == 2


def test_a_scope_is_called_what_it_was_named() -> None:
    with scope("helper") as helper:
        assert helper.name == "helper"


def test_numbers_may_name_sessions_and_users(capture: Capture) -> None:
    numbers: Any = {"session": 123, "user": 7}
    with scope("ticket", **numbers) as ticket:
        assert (ticket.session_id, ticket.user_id) == ("123", "7")


@pytest.mark.parametrize("wrong", [{"agent": "me"}, {"metadata": ["x"]}])
def test_a_wrong_argument_is_named(wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"{next(iter(wrong))}=.* must be a"):
        scope("me", **wrong)


def test_registrations_end_with_the_scope_even_for_tasks_that_outlive_it(capture: Capture) -> None:
    @guardrail
    def never(call: Any) -> str:
        return "no"

    async def go() -> Any:
        over = asyncio.Event()

        async def outliving() -> Any:
            await over.wait()
            return run_tool("t", lambda: 1)

        with scope("short") as short:
            short.use(never)
            task = asyncio.ensure_future(outliving())
            await asyncio.sleep(0)
        over.set()
        return await task

    assert asyncio.run(go()) == 1


def test_an_error_ends_the_scope_with_its_type(capture: Capture) -> None:
    before = otel_context.get_current()
    with pytest.raises(KeyError), scope("work"):
        raise KeyError("x")
    assert otel_context.get_current() == before
    assert capture.span.status.status_code.name == "ERROR"
    assert (capture.span.attributes or {})["error.type"] == "KeyError"


def test_marks_are_events_of_the_scope(capture: Capture) -> None:
    with scope("work"):
        mark("halfway", {"percent": 50})
    [event] = capture.span.events
    assert (event.name, dict(event.attributes or {})) == ("halfway", {"percent": 50})


def fail(self: object) -> Any:
    raise OSError("there is no such row")


class Broken(Mapping[str, Any]):
    """Raises whatever it is asked, its class too."""

    def __getattribute__(self, name: str) -> Any:
        raise OSError("there is no such row")

    __getitem__ = __iter__ = __len__ = __repr__ = __hash__ = cast("Any", fail)


class Shy(str):
    __slots__ = ()
    isascii = encode = __str__ = __repr__ = cast("Any", fail)


def nested(levels: int) -> Any:
    value: Any = "bottom"
    for _ in range(levels):
        value = {"in": value}
    return value


def cycle() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize("watched", [False, True], ids=["unwatched", "watched"])
@pytest.mark.parametrize(
    ("value", "told"),
    [
        (Broken(), "<Broken>"),
        (cycle(), ("<cycle>",)),
        (nested(5), nested(5)),
        (nested(100_000), None),
        (Shy("shy"), "shy"),
        (1 << 70, str(1 << 70)),
        ((1, 2.5, None), (1, 2.5, None)),
        (b"\xff", b"\xff"),
    ],
    ids=["broken", "cycle", "nested", "too deep", "subclass of str", "large", "tuple", "bytes"],
)
def test_a_mark_of_anything_is_recorded_and_never_raises(
    capture: Capture, value: Any, told: Any, watched: bool
) -> None:
    handle = subscribe(lambda event: None) if watched else None
    with scope("work") as work:
        work.mark("inside", {"value": value, "percent": 50})
        mark(value, value)
    if handle is not None:
        handle.remove()
    one, other = capture.span.events
    attributes = dict(one.attributes or {})
    assert attributes["percent"] == 50
    assert told is None or attributes["value"] == told
    assert other.name and dict(other.attributes or {})
    [sent] = encode_spans([capture.span]).resource_spans[0].scope_spans[0].spans  # what cannot be sent is left out
    assert [len(event.attributes) for event in sent.events] == [2, 1]


def test_a_tool_scope_records_arguments_and_result(capture: Capture) -> None:
    with scope("lookup", kind="tool", arguments={"id": 1}, call_id="c1") as tool:
        tool.set_result({"found": True})
    attributes = capture.span.attributes or {}
    assert attributes["gen_ai.tool.call.arguments"] == '{"id":1}'
    assert attributes["gen_ai.tool.call.result"] == '{"found":true}'


def test_siblings_in_threads_do_not_see_each_other(capture: Capture) -> None:
    together = threading.Barrier(8)

    def work(number: int) -> None:
        with scope(f"w{number}", session=f"s{number}"):
            together.wait(10)
            run_tool("t", lambda: number)
            inner = current_scope()
            assert inner is not None
            assert inner.session_id == f"s{number}"

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    sessions = {span.name: (span.attributes or {})["session.id"] for span in capture.of("AGENT")}
    assert sessions == {f"invoke_agent w{n}": f"s{n}" for n in range(8)}
    parents = {span.context.span_id: (span.attributes or {})["session.id"] for span in capture.of("AGENT")}
    for tool in capture.of("TOOL"):
        assert tool.parent is not None
        assert parents[tool.parent.span_id] == (tool.attributes or {})["session.id"]


def test_a_scope_in_an_async_generator_that_is_left_early_is_not_around_what_comes_after(
    capture: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    async def serve() -> None:
        await left_early()
        assert current_scope() is None
        with scope("request-2") as second:
            assert (second.parent, second.session_id) == (None, None)
            with scope("inner") as inner:
                assert inner.parent is second

    asyncio.run(serve())
    first, second, inner = (
        next(span for span in capture.spans if span.name == f"invoke_agent {name}")
        for name in ("request-1", "request-2", "inner")
    )
    assert second.parent is None and first.context is not None and second.context is not None
    assert first.context.trace_id != second.context.trace_id
    assert inner.parent is not None and inner.parent.span_id == second.context.span_id
    assert not caplog.records


@scoped()
def pieces() -> Iterator[int]:
    yield 1


@scoped()
async def pieces_async() -> AsyncIterator[int]:
    yield 1


@agent
def helper() -> int:
    return 1


async def answer_async() -> None:
    async for _ in pieces_async():
        pass


MESSAGES = [{"role": "user", "content": "hi"}]
AFTERWARDS: dict[str, Callable[[], Any]] = {
    "a model": lambda: run_model(lambda request: {"model": "m"}, {"model": "m", "messages": MESSAGES}),
    "a tool": lambda: run_tool("search", lambda: 1, {}),
    "an agent": helper,
    "a generator": lambda: list(pieces()),
    "an async generator": answer_async,
    "a started model": lambda: start_model({"model": "m", "messages": MESSAGES}).end({"model": "m"}),
    "a started tool": lambda: start_tool("search").end(1),
    "a started scope": lambda: start_scope("helper").end(),
}


@pytest.mark.parametrize("name", AFTERWARDS)
def test_what_is_recorded_after_an_async_generator_was_left_early_is_beneath_what_is_really_around(
    capture: Capture, name: str
) -> None:
    async def serve() -> None:
        with scope("program") as around:
            await left_early()
            assert current_scope() is around
            doing = AFTERWARDS[name]()
            if asyncio.iscoroutine(doing):
                await doing
            assert trace_headers() == trace_headers(around.within(Context()))
            with capture.provider.get_tracer("app").start_as_current_span("of the application"):
                run_tool("beneath", lambda: 1, {})

    asyncio.run(serve())
    spans = {span.name: span for span in capture.spans}
    program, theirs, beneath = (
        spans.pop(each) for each in ("invoke_agent program", "of the application", "execute_tool beneath")
    )
    assert spans.pop("invoke_agent request-1").parent.span_id == program.context.span_id
    (after,) = spans.values()
    assert after.parent is not None and after.parent.span_id == program.context.span_id
    assert "session.id" not in (after.attributes or {})
    # A span of the application that is current around it stays so.
    assert beneath.parent is not None and beneath.parent.span_id == theirs.context.span_id
    assert "session.id" not in (beneath.attributes or {}) and "session.id" not in (theirs.attributes or {})


def test_nothing_can_be_registered_for_a_scope_that_has_ended(capture: Capture) -> None:
    @guardrail
    def nothing(call: Any) -> None:
        return None

    with scope("short") as short:
        short.use(nothing)
    with pytest.raises(MiddlewareError, match="scope 'short' has ended"):
        short.use(nothing)
