"""Whatever happens to a run, its caller goes on where it was: the same span is current, and nothing is kept."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph import prebuilt
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphRecursionError
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import StreamWriter, interrupt
from opentelemetry.context import get_current
from opentelemetry.trace import get_current_span

from spanrelay import current_scope, scope
from spanrelay.pipeline import stream
from spanrelay.tracing import handed_over
from spanrelay_langgraph import LangGraphInstrumentor
from spanrelay_langgraph.runs import GraphRun
from spanrelay_langgraph.scopes import NodeScope, RunScope
from spanrelay_testkit.capture import captured

from .graphs import BOTH_COLOURS, Numbers, chain

GIVEN: Any = {"numbers": []}
THREAD: Any = {"configurable": {"thread_id": "t"}}


def one(state: Numbers) -> Any:
    return {"numbers": [1]}


def two(state: Numbers) -> Any:
    return {"numbers": [2]}


def broken(state: Numbers) -> Any:
    raise ValueError("wrong")


async def waits(state: Numbers) -> Any:
    await asyncio.Event().wait()


def steps(*nodes: Any) -> Any:
    return chain(*(nodes or (one, two)), name="g").stream(GIVEN, stream_mode="updates")


def asteps(*nodes: Any) -> Any:
    return chain(*(nodes or (one, two)), name="g").astream(GIVEN, stream_mode="updates")


def beside(**nodes: Any) -> Any:
    graph: Any = StateGraph(Numbers)
    for name, node in nodes.items():
        graph.add_node(name, node)
        graph.add_edge(START, name)
    return graph.compile(name="g")


def endless() -> Any:
    graph: Any = StateGraph(Numbers)
    graph.add_node("one", one)
    graph.add_edge(START, "one")
    graph.add_edge("one", "one")
    return graph.compile(name="g")


def nested(state: Numbers) -> Any:
    """A node that leaves the stream of a graph below it in the middle."""
    return next(steps())["one"]


async def anested(state: Numbers) -> Any:
    inner = asteps()
    first = await anext(inner)
    await inner.aclose()
    return first["one"]


def passes(state: Numbers, *, writer: StreamWriter) -> Any:
    """A node that passes on what a graph below it streams."""
    for chunk in steps():
        writer(chunk)
    return {"numbers": []}


async def apasses(state: Numbers, *, writer: StreamWriter) -> Any:
    async for chunk in asteps():
        writer(chunk)
    return {"numbers": []}


@tool
def odd() -> Any:
    """Give what JSON has no form for."""
    return object()


def tools() -> Any:
    """A graph that runs a tool whose result is no JSON."""
    graph: Any = StateGraph(MessagesState)
    graph.add_node("tools", prebuilt.ToolNode([odd]))
    graph.add_edge(START, "tools")
    graph.add_edge("tools", END)
    return graph.compile(name="g")


ASKED: Any = {"messages": [AIMessage("", tool_calls=[{"name": "odd", "args": {}, "id": "o"}])]}


def asks(state: Numbers) -> Any:
    return {"numbers": [interrupt("How many?")]}


# --- what happens in sync code ---


def raises() -> None:
    with pytest.raises(ValueError, match="wrong"):
        chain(broken, name="g").invoke(GIVEN)


def raises_beside_others() -> None:
    with pytest.raises(ValueError, match="wrong"):
        beside(one=one, broken=broken, two=two).invoke(GIVEN)


def is_closed_early() -> None:
    running = steps()
    next(running)
    running.close()


def is_left() -> None:
    for _ in steps():
        break


def is_thrown_into() -> None:
    running = steps()
    next(running)
    with pytest.raises(LookupError):
        running.throw(LookupError())


def is_never_started() -> None:
    steps()
    steps().close()


def is_a_stream_of_a_stream() -> None:
    chain(nested, name="outer").invoke(GIVEN)


def is_closed_while_one_below_runs() -> None:
    running = chain(passes, name="outer").stream(GIVEN, stream_mode="custom")
    next(running)
    running.close()


def never_ends() -> None:
    with pytest.raises(GraphRecursionError):
        endless().invoke(GIVEN, {"recursion_limit": 3})


def gives_no_json() -> None:
    assert tools().invoke(ASKED)["messages"][-1].status == "success"


def is_interrupted() -> None:
    chain(asks, name="g", checkpointer=InMemorySaver()).invoke(GIVEN, THREAD)


SYNC: list[Callable[[], None]] = [
    raises,
    raises_beside_others,
    is_closed_early,
    is_left,
    is_thrown_into,
    is_never_started,
    is_a_stream_of_a_stream,
    is_closed_while_one_below_runs,
    never_ends,
    gives_no_json,
    is_interrupted,
]

# --- and in async code ---


async def araises() -> None:
    with pytest.raises(ValueError, match="wrong"):
        await chain(broken, name="g").ainvoke(GIVEN)


async def araises_beside_others() -> None:
    with pytest.raises(ValueError, match="wrong"):
        await beside(waits=waits, broken=broken, one=one).ainvoke(GIVEN)


async def ais_closed_early() -> None:
    running = asteps()
    await anext(running)
    await running.aclose()


async def ais_left() -> None:
    async for _ in asteps():
        break


async def ais_thrown_into() -> None:
    running = asteps()
    await anext(running)
    with pytest.raises(LookupError):
        await running.athrow(LookupError())


async def ais_never_started() -> None:
    asteps()
    await asteps().aclose()


async def ais_a_stream_of_a_stream() -> None:
    await chain(anested, name="outer").ainvoke(GIVEN)


async def ais_closed_while_one_below_runs() -> None:
    running = chain(apasses, name="outer").astream(GIVEN, stream_mode="custom")
    await anext(running)
    await running.aclose()


async def anever_ends() -> None:
    with pytest.raises(GraphRecursionError):
        await endless().ainvoke(GIVEN, {"recursion_limit": 3})


async def agives_no_json() -> None:
    assert (await tools().ainvoke(ASKED))["messages"][-1].status == "success"


async def ais_interrupted() -> None:
    await chain(asks, name="g", checkpointer=InMemorySaver()).ainvoke(GIVEN, THREAD)


async def is_cancelled() -> None:
    begun = asyncio.Event()

    async def node(state: Numbers) -> Any:
        begun.set()
        await asyncio.Event().wait()

    running = asyncio.ensure_future(chain(node, name="g").ainvoke(GIVEN))
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def is_cancelled_between_two_chunks() -> None:
    got = asyncio.Event()

    async def reads() -> None:
        async for _ in asteps():
            got.set()
            await asyncio.Event().wait()

    reading = asyncio.ensure_future(reads())
    await got.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def times_out() -> None:
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(chain(waits, name="g").ainvoke(GIVEN), 0.05)


async def takes_too_long_for_a_step() -> None:
    graph = beside(waits=waits, one=one)
    graph.step_timeout = 0.05
    with pytest.raises(asyncio.TimeoutError):
        await graph.ainvoke(GIVEN)


async def is_one_of_many() -> None:
    graph = beside(one=one, two=two)
    await asyncio.gather(*(graph.ainvoke(GIVEN) for _ in range(100)))


ASYNC: list[Any] = [
    araises,
    araises_beside_others,
    ais_closed_early,
    ais_left,
    ais_thrown_into,
    ais_never_started,
    ais_a_stream_of_a_stream,
    pytest.param(
        ais_closed_while_one_below_runs,
        marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="a graph below another needs Python 3.11 in async"),
    ),
    anever_ends,
    agives_no_json,
    is_cancelled,
    is_cancelled_between_two_chunks,
    times_out,
    takes_too_long_for_a_step,
    is_one_of_many,
]


@contextlib.contextmanager
def nothing_is_kept() -> Iterator[None]:
    """Instrument LangGraph for the block; when it is over every span has ended and nothing holds any of it."""
    with captured() as capture:
        instrumentor = LangGraphInstrumentor()
        instrumentor.instrument(tracer_provider=capture.provider)
        yield
        gc.collect()
        assert capture.ledger.open == []
        instrumentor.uninstrument()
        assert handed_over == {}
        assert list(stream._passing) == []
        assert capture.spans != ()
        capture.clear()
    gc.collect()
    assert [found for found in gc.get_objects() if isinstance(found, (NodeScope, RunScope, GraphRun))] == []


@contextlib.contextmanager
def the_caller_goes_on() -> Iterator[None]:
    """The block leaves current what it found."""
    with scope("app", "chain") as outer:
        before = get_current()
        yield
        assert get_current() == before
        assert current_scope() is outer
        assert get_current_span() is outer.span


@pytest.mark.parametrize("happens", SYNC, ids=lambda happens: happens.__name__.replace("_", " "))
def test_the_caller_goes_on_where_it_was_when_a_run(happens: Callable[[], None]) -> None:
    with nothing_is_kept(), the_caller_goes_on():
        happens()


@pytest.mark.parametrize("happens", ASYNC, ids=lambda happens: happens.__name__.replace("_", " "))
def test_the_caller_goes_on_where_it_was_when_an_async_run(happens: Callable[[], Awaitable[None]]) -> None:
    async def go() -> None:
        with the_caller_goes_on():
            await happens()

    with nothing_is_kept():
        asyncio.run(go())


@BOTH_COLOURS
def test_the_caller_goes_on_where_it_was_when_a_run_is_interrupted(asynchronous: bool) -> None:
    async def go() -> None:
        with the_caller_goes_on():
            await ais_interrupted()

    with nothing_is_kept():
        if asynchronous:
            asyncio.run(go())
        else:
            with the_caller_goes_on():
                is_interrupted()


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_stream_that_nobody_starts_is_no_run(asynchronous: bool) -> None:
    async def unread() -> AsyncIterator[Any]:
        return asteps()

    with captured() as capture:
        instrumentor = LangGraphInstrumentor()
        instrumentor.instrument(tracer_provider=capture.provider)
        made = asyncio.run(unread()) if asynchronous else steps()
        del made
        gc.collect()
        instrumentor.uninstrument()
        assert capture.spans == () and capture.ledger.started == {}
