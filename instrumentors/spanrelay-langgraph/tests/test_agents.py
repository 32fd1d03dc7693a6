"""Graphs that are agents: which they are, what policy does to them, and what nobody pays who reads nothing."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph import prebuilt
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from spanrelay import (
    GuardrailRejected,
    current_scope,
    execution_intercept,
    guardrail,
    request_intercept,
    run_tool,
    stream_intercept,
    use,
)
from spanrelay.records import AgentInfo
from spanrelay_langgraph import LangGraphInstrumentor
from spanrelay_testkit.capture import Capture, captured

from .graphs import Model, Numbers, chain, get_weather, named, tree

ASKED: Any = {"messages": [("user", "Weather?")]}


def react(name: str | None = "weather", rounds: int = 1, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LangGraph calls its own maker of agents deprecated
        return prebuilt.create_react_agent(Model(rounds=rounds), [get_weather], name=name, **options)


def first(state: Numbers) -> Any:
    return {"numbers": [1]}


RUNS: dict[str, Callable[[Any, Any], Any]] = {
    "sync": lambda graph, given: graph.invoke(given),
    "async": lambda graph, given: asyncio.run(graph.ainvoke(given)),
}
EACH_WAY = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)


@pytest.mark.proves("langgraph", "one trace")
@EACH_WAY
def test_an_agent_with_tools_is_one_trace(run: Any, instrumented: Capture) -> None:
    answer = run(react(rounds=2), ASKED)
    assert answer["messages"][-1].content == "Done."
    nodes = ["agent", "tools", "agent", "tools", "agent"]
    assert tree(instrumented) == [("invoke_agent weather", nodes)]
    attributes = named(instrumented, "invoke_agent weather").attributes or {}
    assert attributes["gen_ai.agent.name"] == "weather"
    assert (attributes["input.value"], attributes["output.value"]) == ("Weather?", "Done.")


def below(agent: Any) -> Any:
    graph: Any = StateGraph(dict)

    def asks(state: Any) -> Any:
        return agent.invoke(ASKED)

    graph.add_node("asks", asks)
    graph.add_edge(START, "asks")
    return graph.compile(name="outer")


def test_an_agent_below_a_node_is_an_agent(instrumented: Capture) -> None:
    below(react(rounds=0)).invoke({})
    assert tree(instrumented) == [("invoke_agent outer", [("asks", [("invoke_agent weather", ["agent"])])])]


def test_a_copy_of_an_agent_is_an_agent(instrumented: Capture) -> None:
    below(react(rounds=0).with_config({"tags": ["copied"]})).invoke({})
    assert named(instrumented, "invoke_agent weather")


def test_a_graph_that_somebody_marks_is_an_agent(instrumented: Capture) -> None:
    graph = chain(first, name="inner")
    graph.__spanrelay_agent__ = AgentInfo(None, version="7")

    def node(state: Numbers) -> Any:
        return graph.invoke({"numbers": []})

    chain(node, name="outer").invoke({"numbers": []})
    attributes = named(instrumented, "invoke_agent inner").attributes or {}
    assert (attributes["gen_ai.agent.name"], attributes["gen_ai.agent.version"]) == ("inner", "7")


@pytest.mark.proves("langgraph", "sessions")
def test_a_thread_is_one_conversation_over_many_runs(instrumented: Capture) -> None:
    agent = react(rounds=0, checkpointer=InMemorySaver())
    for _ in range(2):
        agent.invoke(ASKED, {"configurable": {"thread_id": "t"}})
    assert {(span.attributes or {})["gen_ai.conversation.id"] for span in instrumented.spans} == {"t"}
    assert len({span.context.trace_id for span in instrumented.spans}) == 2


# --- policy ---


@pytest.mark.proves("langgraph", "policy")
@EACH_WAY
def test_a_guardrail_refuses_an_agent(run: Any, instrumented: Capture, policy: Any) -> None:
    @guardrail(kinds=["agent"])
    def not_today(call: Any) -> str | None:
        [message] = call.request.input["messages"]
        return None if message[1] != "Weather?" else "no weather today"

    policy(not_today)
    with pytest.raises(GuardrailRejected, match="no weather today"):
        run(react(), ASKED)
    assert tree(instrumented) == [("invoke_agent weather", ["run_guardrail not_today"])]
    attributes = named(instrumented, "invoke_agent weather").attributes or {}
    assert attributes["input.value"] == "Weather?"
    assert "output.value" not in attributes


@pytest.mark.proves("langgraph", "policy")
@EACH_WAY
def test_a_request_intercept_changes_what_an_agent_is_given(run: Any, instrumented: Capture, policy: Any) -> None:
    @request_intercept(kinds=["agent"])
    def politely(call: Any) -> None:
        call.request.input["messages"][0]["content"] += " Please."

    policy(politely)
    answer = run(react(rounds=0), {"messages": [HumanMessage("Weather?")]})
    assert answer["messages"][0].content == "Weather? Please."
    assert (named(instrumented, "invoke_agent weather").attributes or {})["input.value"] == "Weather? Please."


@EACH_WAY
@pytest.mark.parametrize("buffered", [False, True], ids=["passing", "buffered"])
def test_an_execution_intercept_sees_what_an_agent_gives(
    buffered: bool, run: Any, instrumented: Capture, policy: Any
) -> None:
    seen: list[Any] = []

    @execution_intercept(kinds=["agent"], buffered=buffered)
    def watches(call: Any) -> Any:
        response = yield call
        seen.append([message["content"] for message in response.record.content["messages"]])
        return response

    policy(watches)
    run(react(rounds=0), ASKED)
    assert seen == [["Weather?", "Done."]]
    assert tree(instrumented) == [("invoke_agent weather", ["agent"])]


@EACH_WAY
def test_an_execution_intercept_runs_an_agent_again(run: Any, instrumented: Capture, policy: Any) -> None:
    @execution_intercept(kinds=["agent"], buffered=True)
    def again(call: Any) -> Any:
        yield call
        return (yield call)

    policy(again)
    assert run(chain(first, name="g"), {"numbers": []}) == {"numbers": [1]}
    assert tree(instrumented) == [("invoke_agent g", ["first", "first"])]


MODES: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "values": ({"stream_mode": "values"}, [{"numbers": [9]}]),
    "updates": ({"stream_mode": "updates"}, [{"g": {"numbers": [9]}}]),
    "several": (
        {"stream_mode": ["values", "custom", "updates"]},
        [("values", {"numbers": [9]}), ("updates", {"g": {"numbers": [9]}})],
    ),
    "with graphs below": ({"stream_mode": ["values"], "subgraphs": True}, [((), "values", {"numbers": [9]})]),
    "with graphs below, one": ({"stream_mode": "values", "subgraphs": True}, [((), {"numbers": [9]})]),
    "v2": (
        {"stream_mode": "values", "version": "v2"},
        [{"type": "values", "ns": (), "data": {"numbers": [9]}, "interrupts": ()}],
    ),
}


@pytest.mark.parametrize(("options", "chunks"), MODES.values(), ids=MODES)
def test_policy_that_answers_for_a_graph_answers_in_the_modes_that_were_asked_for(
    options: Any, chunks: Any, instrumented: Capture, policy: Any
) -> None:
    @execution_intercept(kinds=["agent"])
    def cached(call: Any) -> Any:
        return {"numbers": [9]}
        yield

    policy(cached)
    assert list(chain(first, name="g").stream({"numbers": []}, **options)) == chunks
    attributes = instrumented.span.attributes or {}
    assert (attributes["spanrelay.answered_by"], attributes["output.value"]) == ("cached", '{"numbers":[9]}')


@EACH_WAY
def test_policy_that_answers_with_a_text_answers_as_the_agent(run: Any, instrumented: Capture, policy: Any) -> None:
    @execution_intercept(kinds=["agent"])
    def cached(call: Any) -> Any:
        return "It rains."
        yield

    policy(cached)
    [message] = run(react(), ASKED)["messages"]
    assert isinstance(message, AIMessage)
    assert message.content == "It rains."
    assert (instrumented.span.attributes or {})["output.value"] == "It rains."


def test_a_stream_intercept_sees_each_chunk_of_an_agent(instrumented: Capture, policy: Any) -> None:
    @stream_intercept(kinds=["agent"])
    def only_first(call: Any, chunk: Any) -> Any:
        return chunk if "first" in chunk else None

    policy(only_first)

    def second(state: Numbers) -> Any:
        return {"numbers": [2]}

    chunks = chain(first, second, name="g").stream({"numbers": []}, stream_mode="updates")
    assert list(chunks) == [{"first": {"numbers": [1]}}]


def test_policy_for_models_and_tools_is_not_asked_about_graphs_and_nodes(instrumented: Capture, policy: Any) -> None:
    asked: list[Any] = []

    @guardrail
    def watches(call: Any) -> None:
        asked.append(call.kind)

    policy(watches)
    inner = chain(first, name="inner")
    chain(lambda_named("node", lambda state: inner.invoke(state)), name="outer").invoke({"numbers": []})
    assert asked == []


def lambda_named(name: str, function: Any) -> Any:
    function.__name__ = name
    return function


# --- nobody reads ---


@EACH_WAY
def test_what_is_not_sampled_runs_under_policy_and_leaves_no_span(run: Any) -> None:
    asked: list[Any] = []

    @guardrail(kinds=["agent"])
    def watches(call: Any) -> None:
        asked.append(call.request.name)

    def node(state: Numbers) -> Any:
        inner = current_scope()
        assert inner is not None and inner.name == "node" and inner.session_id == "t"
        return {"numbers": [run_tool("t", lambda: 1)]}

    with captured(sampler=ALWAYS_OFF) as capture, use(watches):
        instrumentor = LangGraphInstrumentor()
        instrumentor.instrument(tracer_provider=capture.provider)
        graph = chain(node, name="g").with_config({"configurable": {"thread_id": "t"}})
        assert run(graph, {"numbers": []}) == {"numbers": [1]}
        instrumentor.uninstrument()
        assert capture.spans == ()
    assert asked == ["g"]


def test_nothing_is_recorded_where_instrumentation_is_suppressed(instrumented: Capture) -> None:
    token = otel_context.attach(otel_context.set_value("suppress_instrumentation", True))
    try:
        assert chain(first).invoke({"numbers": []}) == {"numbers": [1]}
    finally:
        otel_context.detach(token)
    assert instrumented.spans == ()


@EACH_WAY
def test_a_tool_runs_in_the_scope_of_its_node(run: Any, instrumented: Capture) -> None:
    from langchain_core.tools import tool

    seen: list[Any] = []

    @tool
    def get_weather(city: str) -> str:
        """Say what the weather of a city is."""
        seen.append(current_scope())
        return "Rain."

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LangGraph calls its own maker of agents deprecated
        agent = prebuilt.create_react_agent(Model(rounds=2), [get_weather], name="weather")
    run(agent, ASKED)
    assert [(each.name, each.parent.name) for each in seen] == [("tools", "weather")] * 2


def test_the_events_of_a_run_are_the_same_run(instrumented: Capture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LangGraph calls this way of streaming a beta
        stream = react(rounds=1).stream_events(ASKED, version="v3")
        assert stream.output["messages"][-1].content == "Done."
    assert tree(instrumented) == [("invoke_agent weather", ["agent", "tools", "agent"])]
