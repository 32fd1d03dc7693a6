"""Runs of graphs: one span for each, whichever way they are run, with every part of it where it belongs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Send
from opentelemetry.trace import get_current_span
from pydantic import BaseModel

from spanrelay import current_scope, scope
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.half import left_early

from .graphs import BOTH_COLOURS, Numbers, chain, named, tree


def first(state: Numbers) -> Any:
    return {"numbers": [1]}


def second(state: Numbers) -> Any:
    return {"numbers": [2]}


async def afirst(state: Numbers) -> Any:
    await asyncio.sleep(0)
    return {"numbers": [1]}


def everything(stream: Any) -> None:
    for _ in stream:
        pass


async def aeverything(stream: Any) -> None:
    async for _ in stream:
        pass


GIVEN: Any = {"numbers": [0]}
WAYS: dict[str, Callable[[Any], Any]] = {
    "invoke": lambda graph: graph.invoke(GIVEN),
    "invoke, updates": lambda graph: graph.invoke(GIVEN, stream_mode="updates"),
    "invoke, v2": lambda graph: graph.invoke(GIVEN, version="v2"),
    "stream": lambda graph: everything(graph.stream(GIVEN)),
    "stream, several modes": lambda graph: everything(graph.stream(GIVEN, stream_mode=["values", "messages", "tasks"])),
    "stream, custom": lambda graph: everything(graph.stream(GIVEN, stream_mode="custom")),
    "stream, by name": lambda graph: everything(graph.stream(input=GIVEN, config={}, stream_mode="debug")),
    "batch": lambda graph: graph.batch([GIVEN]),
    "ainvoke": lambda graph: asyncio.run(graph.ainvoke(GIVEN)),
    "astream": lambda graph: asyncio.run(aeverything(graph.astream(GIVEN, stream_mode="values"))),
    "astream, several modes": lambda graph: asyncio.run(aeverything(graph.astream(GIVEN, stream_mode=["messages"]))),
    "astream_events": lambda graph: asyncio.run(aeverything(graph.astream_events(GIVEN, version="v2"))),
    "abatch": lambda graph: asyncio.run(graph.abatch([GIVEN])),
}


@pytest.mark.proves("langgraph", "one trace", "streaming")
@pytest.mark.parametrize("run", WAYS.values(), ids=WAYS)
def test_a_run_is_one_trace_with_its_input_and_its_output(run: Callable[[Any], Any], instrumented: Capture) -> None:
    run(chain(first, second, name="counter"))
    assert tree(instrumented) == [("invoke_agent counter", ["first", "second"])]
    attributes = named(instrumented, "invoke_agent counter").attributes or {}
    assert json.loads(str(attributes["input.value"])) == GIVEN
    assert json.loads(str(attributes["output.value"])) == {"numbers": [0, 1, 2]}


def test_what_a_graph_gives_is_what_it_gives_without_us(instrumented: Capture) -> None:
    graph = chain(first, second)
    modes: Any = ["values", "updates", "messages", "custom", "debug", "checkpoints", "tasks"]
    chunks = list(graph.stream(GIVEN, stream_mode=["values", "updates"]))
    assert chunks[0] == ("values", {"numbers": [0]})
    assert chunks[-1] == ("values", {"numbers": [0, 1, 2]})
    assert {mode for mode, _ in graph.stream(GIVEN, stream_mode=modes)} == {"values", "updates", "debug", "tasks"}


def test_a_wrong_argument_fails_where_it_is_given(instrumented: Capture) -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'input'"):
        chain(first).stream()
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'input'"):
        chain(first).astream()
    assert instrumented.spans == ()


def test_a_run_that_nobody_begins_has_no_span(instrumented: Capture) -> None:
    graph = chain(first)
    graph.stream(GIVEN)
    graph.astream(GIVEN)
    assert instrumented.spans == ()


def test_the_scope_of_a_run_is_current_only_while_the_graph_works(instrumented: Capture) -> None:
    inside: list[Any] = []

    def node(state: Numbers) -> Any:
        inside.append(current_scope())
        return {"numbers": [1]}

    with scope("app", "chain") as outer:
        for _ in chain(node, name="g").stream(GIVEN, stream_mode="values"):
            assert current_scope() is outer
            assert get_current_span() is outer.span
        assert current_scope() is outer
    assert [each.name for each in inside] == ["node"]
    assert inside[0].parent.name == "g"
    assert tree(instrumented) == [("app", [("invoke_agent g", ["node"])])]


def test_a_stream_belongs_where_it_was_asked_for(instrumented: Capture) -> None:
    with scope("asks", "chain"):
        stream = chain(first, name="g").stream(GIVEN)
    with scope("reads", "chain"):
        everything(stream)
    assert named(instrumented, "invoke_agent g").parent == named(instrumented, "asks").context


def test_a_graph_below_a_node_is_a_chain_of_the_same_run(instrumented: Capture) -> None:
    inner = chain(first, name="inner")

    def calls(state: Numbers) -> Any:
        return {"numbers": inner.invoke({"numbers": []})["numbers"]}

    outer: Any = StateGraph(Numbers)
    outer.add_node("as_node", chain(second, name="as_node"))
    outer.add_node("calls", calls)
    outer.add_edge(START, "as_node")
    outer.add_edge("as_node", "calls")
    outer.compile(name="outer").invoke(GIVEN)
    below = [("as_node", [("as_node", ["second"])]), ("calls", [("inner", ["first"])])]
    assert tree(instrumented) == [("invoke_agent outer", below)]
    kinds = [(span.attributes or {})["openinference.span.kind"] for span in instrumented.spans]
    assert sorted(kinds) == ["AGENT"] + ["CHAIN"] * 6


@pytest.mark.proves("langgraph", "sub-agents")
def test_a_graph_below_a_tool_is_an_agent_of_its_own(instrumented: Capture) -> None:
    from spanrelay import run_tool

    inner = chain(first, name="inner")

    def node(state: Numbers) -> Any:
        return {"numbers": run_tool("ask", lambda: inner.invoke({"numbers": []}))["numbers"]}

    chain(node, name="outer").invoke(GIVEN)
    below = [("execute_tool ask", [("invoke_agent inner", ["first"])])]
    assert tree(instrumented) == [("invoke_agent outer", [("node", below)])]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_fan_out_has_a_span_for_each_part(asynchronous: bool, instrumented: Capture) -> None:
    seen: dict[int, Any] = {}

    def part(state: Any) -> Any:
        seen[state["n"]] = current_scope()
        return {"numbers": [state["n"]]}

    graph: Any = StateGraph(Numbers)
    graph.add_node("part", part)
    graph.add_conditional_edges(START, lambda state: [Send("part", {"n": n}) for n in range(5)], ["part"])
    graph.add_edge("part", END)
    compiled = graph.compile(name="spread")
    asyncio.run(compiled.ainvoke(GIVEN)) if asynchronous else compiled.invoke(GIVEN)
    assert tree(instrumented) == [("invoke_agent spread", ["part"] * 5)]
    parts = [(span.attributes or {})["langgraph.index"] for span in instrumented.spans if span.name == "part"]
    assert sorted(parts) == list(range(5))
    assert len({id(each) for each in seen.values()}) == 5


@BOTH_COLOURS
def test_tasks_of_the_functional_api_are_below_what_calls_them(asynchronous: bool, instrumented: Capture) -> None:
    @task
    def double(number: int) -> int:
        scope_ = current_scope()
        assert scope_ is not None and scope_.name == "double"
        return number * 2

    @task
    async def adouble(number: int) -> int:
        await asyncio.sleep(0)
        return number * 2

    @entrypoint()
    def workflow(number: int) -> int:
        futures = [double(number), double(number + 1)]
        return sum(future.result() for future in futures)

    @entrypoint()
    async def aworkflow(number: int) -> int:
        return sum(await asyncio.gather(adouble(number), adouble(number + 1)))

    given = asyncio.run(aworkflow.ainvoke(1)) if asynchronous else workflow.invoke(1)
    assert given == 6
    name, work = ("aworkflow", "adouble") if asynchronous else ("workflow", "double")
    assert tree(instrumented) == [(f"invoke_agent {name}", [(name, [work, work])])]
    attributes = named(instrumented, f"invoke_agent {name}").attributes or {}
    assert (attributes["input.value"], attributes["output.value"]) == ("1", "6")
    assert {(span.attributes or {}).get("langgraph.index") for span in instrumented.spans if span.name == work} == {
        0,
        1,
    }


def test_a_thread_is_the_conversation_of_everything_below(instrumented: Capture) -> None:
    chain(first).invoke(GIVEN, {"configurable": {"thread_id": 42}})
    chain(first).with_config({"configurable": {"thread_id": "kept"}}).invoke(GIVEN)
    with scope("app", session="outer"):
        chain(first).invoke(GIVEN)
    sessions = [(span.attributes or {})["gen_ai.conversation.id"] for span in instrumented.spans]
    assert sessions == ["42", "42", "kept", "kept", "outer", "outer", "outer"]


def test_a_node_says_what_langgraph_knows_of_it(instrumented: Capture) -> None:
    chain(first, second).invoke(GIVEN)
    known = {k: v for k, v in (named(instrumented, "second").attributes or {}).items() if k.startswith("langgraph.")}
    assert known == {
        "langgraph.node": "second",
        "langgraph.step": 2,
        "langgraph.triggers": "branch:to:second",
    }


class Model(BaseModel):
    messages: Annotated[list[Any], add_messages] = []


def answer(state: Any) -> Any:
    return {"messages": [AIMessage("Blue.")]}


QUESTIONS: dict[str, tuple[Any, Any]] = {
    "a message": ({"messages": [HumanMessage("Sky?")]}, MessagesState),
    "a pair": ({"messages": [("system", "Be brief."), ("user", "Sky?")]}, MessagesState),
    "a mapping": ({"messages": [{"role": "user", "content": "Sky?"}]}, MessagesState),
    "one message alone": ({"messages": HumanMessage("Sky?")}, MessagesState),
    "a text": ({"messages": ["Sky?"]}, MessagesState),
    "a model": (Model(messages=[HumanMessage("Sky?"), AIMessage("Let me think.")]), Model),
}


@pytest.mark.parametrize(("given", "state"), QUESTIONS.values(), ids=QUESTIONS)
def test_a_conversation_is_recorded_as_its_last_messages(given: Any, state: Any, instrumented: Capture) -> None:
    chain(answer, state=state, name="talk").invoke(given)
    attributes = named(instrumented, "invoke_agent talk").attributes or {}
    assert (attributes["input.value"], attributes["output.value"]) == ("Sky?", "Blue.")


def test_what_cannot_be_json_is_recorded_as_its_nearest_form(instrumented: Capture) -> None:
    class Odd:
        def __repr__(self) -> str:
            return "<odd>"

    def node(state: Numbers) -> Any:
        return {"numbers": [Odd()]}

    chain(node, name="g").invoke({"numbers": [Odd()]})
    attributes = named(instrumented, "invoke_agent g").attributes or {}
    assert attributes["output.value"] == '{"numbers":["<odd>","<odd>"]}'


def test_a_run_says_the_metadata_and_tags_that_it_was_given_and_its_parts_inherit_them(instrumented: Capture) -> None:
    graph: Any = chain(first)
    graph.invoke(GIVEN, {"metadata": {"session_id": "S2", "case": "c-17", "langgraph_node": "x"}, "tags": ["t1"]})
    for span in instrumented.spans:
        told = span.attributes or {}
        assert (told["session.id"], told["metadata"]) == ("S2", '{"case":"c-17","tags":["t1"]}')


def test_a_thread_is_the_conversation_whatever_the_metadata_says(instrumented: Capture) -> None:
    config: Any = {"configurable": {"thread_id": "t-1"}, "metadata": {"session_id": "S2"}}
    chain(first).invoke(GIVEN, config)
    assert {(span.attributes or {})["session.id"] for span in instrumented.spans} == {"t-1"}


def test_a_run_after_an_async_generator_was_left_early_is_not_beneath_its_scope(instrumented: Capture) -> None:
    async def serve() -> None:
        await left_early()
        await chain(afirst, second, name="counter").ainvoke(GIVEN)

    asyncio.run(serve())
    run = named(instrumented, "invoke_agent counter")
    assert run.parent is None and "session.id" not in (run.attributes or {})
