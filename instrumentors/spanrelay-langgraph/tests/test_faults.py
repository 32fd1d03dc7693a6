"""Runs that end otherwise than well: the error is the application's own, and nothing stays open or current."""

from __future__ import annotations

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langgraph.errors import GraphRecursionError, InvalidUpdateError
from langgraph.graph import END, START, StateGraph
from opentelemetry.context import get_current
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import get_current_span

from spanrelay import current_scope, scope
from spanrelay_langgraph import LangGraphInstrumentor
from spanrelay_testkit.capture import Capture, captured

from .graphs import Numbers, chain, named, tree


def one(state: Numbers) -> Any:
    return {"numbers": [1]}


def two(state: Numbers) -> Any:
    return {"numbers": [2]}


def outcome(span: ReadableSpan) -> tuple[Any, Any]:
    attributes = span.attributes or {}
    return attributes.get("error.type"), attributes.get("spanrelay.incomplete")


def outcomes(capture: Capture) -> dict[str, tuple[Any, Any]]:
    return {span.name: outcome(span) for span in capture.spans}


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_what_a_node_raises_reaches_the_caller_and_is_on_both_spans(asynchronous: bool, instrumented: Capture) -> None:
    raised = ValueError("wrong")

    def broken(state: Numbers) -> Any:
        raise raised

    graph = chain(broken, name="g")
    with pytest.raises(ValueError, match="wrong") as caught:
        asyncio.run(graph.ainvoke({"numbers": []})) if asynchronous else graph.invoke({"numbers": []})
    assert caught.value is raised
    assert outcomes(instrumented) == {"broken": ("ValueError", None), "invoke_agent g": ("ValueError", "error")}


def spread(**nodes: Any) -> Any:
    graph: Any = StateGraph(Numbers)
    for name, node in nodes.items():
        graph.add_node(name, node)
        graph.add_edge(START, name)
        graph.add_edge(name, END)
    return graph.compile(name="spread")


async def test_a_node_that_raises_while_its_siblings_run_leaves_none_of_them_open(instrumented: Capture) -> None:
    begun = asyncio.Event()

    async def waits(state: Numbers) -> Any:
        begun.set()
        await asyncio.Event().wait()

    async def breaks(state: Numbers) -> Any:
        await begun.wait()
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        await spread(waits=waits, breaks=breaks).ainvoke({"numbers": []})
    assert outcomes(instrumented) == {
        "breaks": ("ValueError", None),
        "waits": ("asyncio.exceptions.CancelledError", "cancelled"),
        "invoke_agent spread": ("ValueError", "error"),
    }


def test_a_node_that_raises_in_a_thread_lets_its_siblings_end(instrumented: Capture) -> None:
    begun, over = threading.Event(), threading.Event()

    def waits(state: Numbers) -> Any:
        begun.set()
        assert over.wait(30)
        return {"numbers": [1]}

    def breaks(state: Numbers) -> Any:
        assert begun.wait(30)
        threading.Timer(0.01, over.set).start()
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        spread(waits=waits, breaks=breaks).invoke({"numbers": []})
    assert {name: error for name, (error, _) in outcomes(instrumented).items()} == {
        "breaks": "ValueError",
        "waits": None,
        "invoke_agent spread": "ValueError",
    }


async def test_a_cancelled_run_is_cancelled_and_so_is_its_node(instrumented: Capture) -> None:
    begun = asyncio.Event()

    async def waits(state: Numbers) -> Any:
        begun.set()
        await asyncio.Event().wait()

    running = asyncio.ensure_future(chain(waits, name="g").ainvoke({"numbers": []}))
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert {name: incomplete for name, (_, incomplete) in outcomes(instrumented).items()} == {
        "waits": "cancelled",
        "invoke_agent g": "cancelled",
    }


async def test_a_run_that_takes_too_long_for_its_caller_is_cancelled(instrumented: Capture) -> None:
    async def waits(state: Numbers) -> Any:
        await asyncio.Event().wait()

    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(chain(waits, name="g").ainvoke({"numbers": []}), 0.05)
    assert outcomes(instrumented)["invoke_agent g"][1] == "cancelled"


async def test_a_step_that_takes_too_long_is_an_error_of_the_run(instrumented: Capture) -> None:
    async def waits(state: Numbers) -> Any:
        await asyncio.Event().wait()

    graph = spread(waits=waits, two=two)
    graph.step_timeout = 0.05
    with pytest.raises(asyncio.TimeoutError):
        await graph.ainvoke({"numbers": []})
    found = outcomes(instrumented)
    assert found["waits"][1] == "cancelled"
    assert found["invoke_agent spread"][0] in ("TimeoutError", "asyncio.exceptions.TimeoutError")


def test_a_stream_closed_early_is_closed(instrumented: Capture) -> None:
    with scope("app", "chain") as outer:
        stream = chain(one, two, name="g").stream({"numbers": []}, stream_mode="updates")
        next(stream)
        stream.close()
        assert current_scope() is outer
        assert get_current_span() is outer.span
    assert tree(instrumented) == [("app", [("invoke_agent g", ["one"])])]
    assert outcome(named(instrumented, "invoke_agent g")) == (None, "closed")


async def test_an_async_stream_closed_early_is_closed(instrumented: Capture) -> None:
    stream = chain(one, two, name="g").astream({"numbers": []}, stream_mode="updates")
    async for _ in stream:
        break
    await stream.aclose()
    assert outcome(named(instrumented, "invoke_agent g")) == (None, "closed")


def test_a_stream_that_is_dropped_ends_its_run(instrumented: Capture) -> None:
    stream = chain(one, two, name="g").stream({"numbers": []}, stream_mode="updates")
    next(stream)
    del stream
    gc.collect()
    assert outcome(named(instrumented, "invoke_agent g")) == (None, "closed")


async def test_an_async_stream_that_is_dropped_ends_its_run(instrumented: Capture) -> None:
    stream = chain(one, two, name="g").astream({"numbers": []}, stream_mode="updates")
    async for _ in stream:
        break
    del stream
    gc.collect()
    while instrumented.ledger.open:
        await asyncio.sleep(0)
    assert outcome(named(instrumented, "invoke_agent g")) == (None, "closed")


def test_what_is_thrown_into_a_stream_closes_it(instrumented: Capture) -> None:
    stream = chain(one, two, name="g").stream({"numbers": []}, stream_mode="updates")
    next(stream)
    with pytest.raises(LookupError):
        stream.throw(LookupError())
    assert outcome(named(instrumented, "invoke_agent g")) == (None, "closed")


def test_a_stream_of_a_stream_closed_early_closes_both(instrumented: Capture) -> None:
    inner = chain(one, two, name="inner")

    def node(state: Numbers) -> Any:
        return next(inner.stream({"numbers": []}, stream_mode="updates"))["one"]

    chain(node, name="outer").invoke({"numbers": []})
    assert tree(instrumented) == [("invoke_agent outer", [("node", [("inner", ["one"])])])]
    assert outcome(named(instrumented, "inner")) == (None, "closed")
    assert outcome(named(instrumented, "invoke_agent outer")) == (None, None)


def test_a_graph_that_never_ends_is_an_error_of_the_run_alone(instrumented: Capture) -> None:
    graph: Any = StateGraph(Numbers)
    graph.add_node("one", one)
    graph.add_edge(START, "one")
    graph.add_edge("one", "one")
    with pytest.raises(GraphRecursionError):
        graph.compile(name="g").invoke({"numbers": []}, {"recursion_limit": 3})
    assert [outcome(span)[0] for span in instrumented.spans] == [None] * 3 + ["langgraph.errors.GraphRecursionError"]


def test_an_answer_that_is_none_is_an_error_of_the_node(instrumented: Capture) -> None:
    def odd(state: Numbers) -> Any:
        return 1

    with pytest.raises(InvalidUpdateError):
        chain(odd, name="g").invoke({"numbers": []})
    assert outcomes(instrumented)["odd"][0] == "langgraph.errors.InvalidUpdateError"


async def test_a_thousand_runs_at_once_have_the_right_parents(instrumented: Capture) -> None:
    seen: dict[int, tuple[Any, Any]] = {}

    async def node(state: Numbers) -> Any:
        [number] = state["numbers"]
        await asyncio.sleep(0)
        inner = current_scope()
        assert inner is not None and inner.span is get_current_span()
        seen[number] = (inner.session_id, inner.parent and inner.parent.session_id)
        return {"numbers": [number]}

    graph = chain(node, name="g")

    async def go(number: int) -> None:
        await graph.ainvoke({"numbers": [number]}, {"configurable": {"thread_id": number}})
        assert current_scope() is None

    await asyncio.gather(*[go(number) for number in range(1000)])
    assert seen == {number: (str(number), str(number)) for number in range(1000)}
    sessions = {span.context.span_id: span for span in instrumented.spans if span.parent is None}
    nodes = [span for span in instrumented.spans if span.parent is not None]
    assert (len(sessions), len(nodes)) == (1000, 1000)
    for span in nodes:
        above = sessions[span.parent.span_id]
        assert above.context.trace_id == span.context.trace_id
        assert (above.attributes or {})["session.id"] == (span.attributes or {})["session.id"]


def test_runs_on_threads_do_not_see_each_other(instrumented: Capture) -> None:
    graph = chain(one, two, name="g")
    together = threading.Barrier(8)

    def go(number: int) -> None:
        together.wait(30)
        before = get_current()
        graph.invoke({"numbers": []}, {"configurable": {"thread_id": number}})
        assert get_current() == before

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(go, range(8)))
    traces: dict[int, set[Any]] = {}
    for span in instrumented.spans:
        traces.setdefault(span.context.trace_id, set()).add((span.attributes or {})["session.id"])
    assert sorted(map(sorted, traces.values())) == [[str(number)] for number in range(8)]


def test_a_graph_without_us_is_as_it_was(capture: Capture) -> None:
    from langgraph.pregel.main import Pregel

    stream = vars(Pregel)["stream"]
    instrumentor = LangGraphInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    instrumentor.uninstrument()
    assert vars(Pregel)["stream"] is stream
    chain(one).invoke({"numbers": []})
    assert capture.spans == ()


def test_every_patch_point_is_there(instrumented: Capture) -> None:
    from importlib import import_module

    patches = LangGraphInstrumentor()._patches
    assert patches is not None and patches._table is not None
    for patch in patches._table:
        owner: Any = import_module(patch.module)
        *path, name = patch.attribute.split(".")
        for part in path:
            owner = getattr(owner, part)
        assert hasattr(vars(owner)[name], "_self_wrapper"), patch


def test_a_provider_that_is_not_ours_gets_the_same_spans() -> None:
    with captured(adopted=False) as capture:
        instrumentor = LangGraphInstrumentor()
        instrumentor.instrument(tracer_provider=capture.provider)
        chain(one, two, name="g").invoke({"numbers": [0]})
        instrumentor.uninstrument()
        assert tree(capture) == [("invoke_agent g", ["one", "two"])]
        assert (named(capture, "invoke_agent g").attributes or {})["output.value"] == '{"numbers":[0,1,2]}'


def test_nothing_of_a_run_is_kept_when_its_spans_are_gone() -> None:
    from spanrelay_langgraph.runs import GraphRun
    from spanrelay_langgraph.scopes import NodeScope, RunScope

    def kept() -> list[Any]:
        gc.collect()
        return [found for found in gc.get_objects() if isinstance(found, (NodeScope, RunScope, GraphRun))]

    # What an exception of an earlier test holds is that test's.
    earlier = kept()
    with captured() as capture:
        instrumentor = LangGraphInstrumentor()
        instrumentor.instrument(tracer_provider=capture.provider)
        graph = chain(one, two, name="g")
        graph.invoke({"numbers": []})
        asyncio.run(graph.ainvoke({"numbers": []}))
        stream = graph.stream({"numbers": []})
        next(stream)
        stream.close()
        instrumentor.uninstrument()
        assert len(capture.spans) == 8
        capture.clear()
        del stream
    assert [found for found in kept() if not any(found is each for each in earlier)] == []


async def test_a_node_that_takes_too_long_for_its_policy_has_failed(instrumented: Capture) -> None:
    from langgraph.errors import NodeTimeoutError

    seen: list[Any] = []

    async def waits(state: Numbers) -> Any:
        seen.append(current_scope())
        await asyncio.Event().wait()

    graph: Any = StateGraph(Numbers)
    graph.add_node("waits", waits, timeout=0.05)
    graph.add_edge(START, "waits")
    with pytest.raises(NodeTimeoutError):
        await graph.compile(name="g").ainvoke({"numbers": []})
    assert [each.name for each in seen] == ["waits"]
    failed = "langgraph.errors.NodeTimeoutError"
    assert outcomes(instrumented) == {"waits": (failed, None), "invoke_agent g": (failed, "error")}
