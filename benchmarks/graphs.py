"""The rows of graphs: an agent of LangGraph with five rounds of tools, and what one more node costs."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from langgraph.graph import END, START, StateGraph
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
from opentelemetry.sdk.trace import TracerProvider

import spanrelay
from benchmarks import agents
from benchmarks.floor import ATTRIBUTES, encoding_provider
from benchmarks.measure import Cost, Effort, Way, differences, interleave
from benchmarks.results import Result, against_floor
from spanrelay_langchain import LangChainInstrumentor
from spanrelay_langgraph import LangGraphInstrumentor

_NODES = 10
AGENTS = (LangGraphInstrumentor, LangChainInstrumentor)
"""What records an agent whole: its run and its nodes, its models and its tools."""


def nodes(count: int, work: Callable[[Any], Any]) -> Any:
    """Return a graph of `count` nodes in a row, each of which does `work`."""
    graph: Any = StateGraph(dict)
    before = START
    for index in range(count):
        graph.add_node(f"node-{index}", work)
        graph.add_edge(before, f"node-{index}")
        before = f"node-{index}"
    graph.add_edge(before, END)
    return graph.compile(name="row")


@contextmanager
def recording(
    provider: TracerProvider, *kinds: type[BaseInstrumentor]
) -> Generator[tuple[Callable[[], None], Callable[[], None]]]:
    """Record with content on, by `kinds`; yields what takes the instrumentation out and puts it back."""
    settings = spanrelay.Settings(
        trajectories="off", trajectory_directory="never-written", content="spans", metrics=False, quiet=True
    )
    runtime = spanrelay.activate(settings, tracer_provider=provider, instrument=False)
    assert runtime is not None
    try:
        with instrumented(provider, *kinds) as switch:
            yield switch
    finally:
        runtime.shutdown()


@contextmanager
def instrumented(
    provider: TracerProvider, *kinds: type[BaseInstrumentor]
) -> Generator[tuple[Callable[[], None], Callable[[], None]]]:
    """Yields what takes the instrumentation out and puts it back."""
    instrumentors = [kind() for kind in kinds]

    def off() -> None:
        for instrumentor in instrumentors:
            if instrumentor.is_instrumented_by_opentelemetry:
                instrumentor.uninstrument()

    def on() -> None:
        for instrumentor in instrumentors:
            if not instrumentor.is_instrumented_by_opentelemetry:
                instrumentor.instrument(tracer_provider=provider)

    try:
        yield off, on
    finally:
        off()


def _agent(row: str, effort: Effort) -> list[Result]:
    provider, _ = encoding_provider()
    title, awaited = agents.ROWS[row]
    with recording(provider, *AGENTS) as (off, on), agents.runs(awaited=awaited) as run:
        return agents.measure(title, (Way(run, off), Way(run, on, provider.force_flush)), effort, limit=20.0)


def agent_sync(effort: Effort) -> list[Result]:
    """An agent with five rounds of tools: its run and nodes, its models and its tools."""
    return _agent("agent", effort)


def agent_async(effort: Effort) -> list[Result]:
    """The same, async."""
    return _agent("agent-async", effort)


def node(effort: Effort) -> list[Result]:
    """What one more node costs: a graph of eleven against one of one; the floor is a span within each node."""
    provider, _ = encoding_provider()
    floors, _ = encoding_provider()
    tracer = floors.get_tracer("floor", "1.0")

    def nothing(state: Any) -> Any:
        return {}

    def span(state: Any) -> Any:
        with tracer.start_as_current_span("node", attributes=ATTRIBUTES):
            return {}

    with recording(provider, LangGraphInstrumentor) as (off, on):
        graphs = [nodes(count, work) for work in (nothing, span) for count in (1, 1 + _NODES)]
        calls = [lambda run=run: run.invoke({}) for run in graphs]
        costs = interleave(
            [
                *(Way(call, off) for call in calls[:2]),
                *(Way(call, on, provider.force_flush) for call in calls[:2]),
                *(Way(call, off, floors.force_flush) for call in calls[2:]),
            ],
            effort,
        )
    bare, ours, least = (_each(costs[at], costs[at + 1]) for at in (0, 2, 4))
    return against_floor("LangGraph node", ours, bare, least, 1.5)


def _each(short: list[Cost], long: list[Cost]) -> list[Cost]:
    return [Cost(more.wall / _NODES, more.thread / _NODES, more.cpu / _NODES) for more in differences(long, short)]
