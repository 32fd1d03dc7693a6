"""What steers a graph: interrupts, resumes, handoffs and retries are marks, and none of them is an error."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, RetryPolicy, Send, interrupt
from opentelemetry.sdk.trace import ReadableSpan

from spanrelay.tracing import recording
from spanrelay_testkit.capture import Capture

from .graphs import BOTH_COLOURS, Numbers, chain, marks, named, tree

THREAD: Any = {"configurable": {"thread_id": "t"}}


def asks(state: Numbers) -> Any:
    return {"numbers": [interrupt("How many?")]}


def after(state: Numbers) -> Any:
    return {"numbers": [100]}


def errors(capture: Capture) -> list[str]:
    return [span.name for span in capture.spans if span.status.status_code.name == "ERROR"]


def session(span: ReadableSpan) -> Any:
    return (span.attributes or {})["gen_ai.conversation.id"]


@pytest.mark.proves("langgraph", "interrupts")
@pytest.mark.parametrize("mode", ["values", "updates", "messages", ["values", "custom"]], ids=str)
@BOTH_COLOURS
def test_an_interrupt_marks_the_node_and_the_run_and_a_resume_goes_on(
    asynchronous: bool, mode: Any, instrumented: Capture
) -> None:
    graph = chain(asks, after, name="g", checkpointer=InMemorySaver())

    async def steps(given: Any) -> None:
        if not asynchronous:
            list(graph.stream(given, THREAD, stream_mode=mode))
            return
        async for _ in graph.astream(given, THREAD, stream_mode=mode):
            pass

    asyncio.run(steps({"numbers": [1]}))
    [interrupted] = [one.id for one in graph.get_state(THREAD).interrupts]
    asyncio.run(steps(Command(resume=7)))
    first, stopped, again, then, resumed = instrumented.spans
    expected = {"langgraph.interrupt.ids": (interrupted,), "langgraph.interrupt.values": '["How many?"]'}
    assert [span.name for span in (first, again, then)] == ["asks", "asks", "after"]
    assert marks(first) == marks(stopped) == [("langgraph.interrupt", expected)]
    assert marks(resumed) == [("langgraph.resume", {"langgraph.resume.value": "7"})]
    assert marks(again) == marks(then) == []
    assert errors(instrumented) == []
    assert {session(span) for span in instrumented.spans} == {"t"}
    assert "spanrelay.incomplete" not in (stopped.attributes or {})
    assert (resumed.attributes or {})["input.value"] == "7"


def test_what_people_say_to_each_other_is_marked_only_with_content(
    instrumented: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "content", False)
    graph = chain(asks, checkpointer=InMemorySaver(), name="g")
    graph.invoke({"numbers": [1]}, THREAD)
    graph.invoke(Command(resume=7), THREAD)
    told = [attributes for span in instrumented.spans for _, attributes in marks(span)]
    assert [sorted(attributes) for attributes in told] == [["langgraph.interrupt.ids"]] * 2 + [[]]


def test_an_interrupt_in_a_graph_below_marks_every_level(instrumented: Capture) -> None:
    outer: Any = StateGraph(Numbers)
    outer.add_node("below", chain(asks, name="below"))
    outer.add_edge(START, "below")
    graph = outer.compile(name="outer", checkpointer=InMemorySaver())
    graph.invoke({"numbers": [1]}, THREAD)
    assert [(span.name, [name for name, _ in marks(span)]) for span in instrumented.spans] == [
        ("asks", ["langgraph.interrupt"]),
        ("below", ["langgraph.interrupt"]),
        ("below", ["langgraph.interrupt"]),
        ("invoke_agent outer", ["langgraph.interrupt"]),
    ]
    assert errors(instrumented) == []
    assert [(span.attributes or {}).get("spanrelay.incomplete") for span in instrumented.spans] == [None] * 4
    instrumented.clear()
    assert graph.invoke(Command(resume=7), THREAD)["numbers"] == [1, 1, 7]
    assert tree(instrumented) == [("invoke_agent outer", [("below", [("below", ["asks"])])])]


@pytest.mark.parametrize("mode", ["values", "updates", "messages"])
def test_a_stop_before_a_node_marks_the_run_and_going_on_needs_no_answer(mode: Any, instrumented: Capture) -> None:
    graph = chain(after, name="g", checkpointer=InMemorySaver(), interrupt_before=["after"])
    list(graph.stream({"numbers": [1]}, THREAD, stream_mode=mode))
    assert marks(instrumented.span) == [("langgraph.interrupt", {"langgraph.interrupt.ids": ()})]
    list(graph.stream(None, THREAD, stream_mode=mode))
    assert [span.name for span in instrumented.spans] == ["invoke_agent g", "after", "invoke_agent g"]
    assert errors(instrumented) == []


def graph_of(**nodes: Any) -> Any:
    graph: Any = StateGraph(Numbers)
    for name, node in nodes.items():
        graph.add_node(name, node)
    graph.add_edge(START, next(iter(nodes)))
    return graph


@pytest.mark.parametrize(
    ("goto", "targets"),
    [("bob", ("bob",)), (["bob", Send("carol", {"numbers": []})], ("bob", "carol"))],
    ids=["a name", "several"],
)
def test_a_command_that_hands_over_is_a_mark(goto: Any, targets: Any, instrumented: Capture) -> None:
    graph = graph_of(alice=lambda state: Command(goto=goto, update={"numbers": [1]}), bob=after, carol=after)
    graph.compile(name="team").invoke({"numbers": []})
    assert marks(named(instrumented, "alice")) == [("langgraph.handoff", {"langgraph.goto": targets})]
    assert [marks(span) for span in instrumented.spans if span.name != "alice"] == [[]] * (len(targets) + 1)


def test_a_handoff_to_the_graph_above_is_marked_where_it_is_made_and_where_it_is_taken(instrumented: Capture) -> None:
    def alice(state: Numbers) -> Any:
        return Command(goto="bob", graph=Command.PARENT)

    outer = graph_of(team=chain(alice, name="team"), bob=after)
    outer.compile(name="outer").invoke({"numbers": []})
    assert tree(instrumented) == [("invoke_agent outer", [("team", [("team", ["alice"])]), "bob"])]
    given = {"langgraph.goto": ("bob",), "langgraph.goto.graph": "team"}
    assert marks(named(instrumented, "alice")) == [("langgraph.handoff", given)]
    graph, node = [span for span in instrumented.spans if span.name == "team"]
    assert marks(graph) == []
    assert [(name, taken["langgraph.goto"]) for name, taken in marks(node)] == [("langgraph.handoff", ("bob",))]
    assert errors(instrumented) == []


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_retries_are_one_span_that_counts_them(asynchronous: bool, instrumented: Capture) -> None:
    tries: list[int] = []

    def flaky(state: Numbers) -> Any:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError("no answer")
        return {"numbers": [len(tries)]}

    graph: Any = StateGraph(Numbers)
    graph.add_node("flaky", flaky, retry_policy=RetryPolicy(initial_interval=0.0, jitter=False))
    graph.add_edge(START, "flaky")
    graph.add_edge("flaky", END)
    compiled = graph.compile(name="g")
    asyncio.run(compiled.ainvoke({"numbers": []})) if asynchronous else compiled.invoke({"numbers": []})
    span = named(instrumented, "flaky")
    assert (span.attributes or {})["langgraph.attempts"] == 3
    assert marks(span) == [
        ("langgraph.retry", {"langgraph.attempt": attempt, "error.type": "ConnectionError"}) for attempt in (2, 3)
    ]
    assert errors(instrumented) == []


def test_a_node_whose_retries_are_used_up_has_failed(instrumented: Capture) -> None:
    def broken(state: Numbers) -> Any:
        raise ConnectionError("no answer")

    graph: Any = StateGraph(Numbers)
    policy = RetryPolicy(initial_interval=0.0, jitter=False, max_attempts=2)
    graph.add_node("broken", broken, retry_policy=policy)
    graph.add_edge(START, "broken")
    with pytest.raises(ConnectionError):
        graph.compile(name="g").invoke({"numbers": []})
    assert (named(instrumented, "broken").attributes or {})["langgraph.attempts"] == 2
    assert errors(instrumented) == ["broken", "invoke_agent g"]
