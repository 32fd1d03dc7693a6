"""The rows of graphs: an agent of LangGraph with five rounds of tools, and what one more node costs.

The model answers from memory, so that what is measured is LangGraph and what is added to it.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph import prebuilt
from langgraph.graph import END, START, StateGraph
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
from opentelemetry.sdk.trace import TracerProvider

import spanrelay
from benchmarks import workload
from benchmarks.floor import ATTRIBUTES, encoding_provider
from benchmarks.measure import Cost, Effort, Figure, Way, differences, interleave, median
from benchmarks.results import Result, against_floor
from spanrelay_langchain import LangChainInstrumentor
from spanrelay_langgraph import LangGraphInstrumentor

ROUNDS = 5
_NODES = 10


class Scripted(BaseChatModel):
    """Asks for a tool in each of `ROUNDS` rounds, and then answers."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        """Offer nothing: the script knows what it asks for."""
        return self

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        done = sum(isinstance(message, ToolMessage) for message in messages)
        calls = [{"name": "forecast", "args": {"city": "Bergen"}, "id": f"call_{done}"}]
        message = AIMessage(workload.text(200)) if done == ROUNDS else AIMessage("", tool_calls=calls)
        return ChatResult(generations=[ChatGeneration(message=message)])


@tool
def forecast(city: str) -> str:
    """Say what the weather of a city will be."""
    return workload.text(120)


def agent() -> Any:
    """Return an agent as LangGraph makes it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LangGraph calls its own maker of agents deprecated
        return prebuilt.create_react_agent(Scripted(), [forecast], name="weather")


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
    runtime = spanrelay.activate(settings, tracer_provider=provider)
    assert runtime is not None
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
        runtime.shutdown()


def _added(row: str, ours: list[Cost], bare: list[Cost]) -> Result:
    """Return what `ours` adds to `bare`, in percent of `bare`, by wall time."""
    added, least = median([cost.wall for cost in differences(ours, bare)]), median([cost.wall for cost in bare])
    percent = Figure(100 * added.value / least.value, 100 * added.error / least.value)
    return Result(row, f"wall, on {least.value / 1e3:.1f} ms", "%", percent.value, percent.error, limit=20.0)


def _agent(row: str, call: Callable[[Any, Any], object], effort: Effort) -> list[Result]:
    provider, _ = encoding_provider()
    given = {"messages": [("user", workload.text(300))]}
    with recording(provider, LangGraphInstrumentor, LangChainInstrumentor) as (off, on):
        run = agent()
        bare, ours = interleave(
            (Way(lambda: call(run, given), off), Way(lambda: call(run, given), on, provider.force_flush)), effort
        )
    return [_added(row, ours, bare)]


def agent_sync(effort: Effort) -> list[Result]:
    """An agent with five rounds of tools."""
    return _agent("LangGraph agent", lambda run, given: run.invoke(given), effort)


def agent_async(effort: Effort) -> list[Result]:
    """The same, async."""
    loop = asyncio.new_event_loop()
    try:
        return _agent("LangGraph agent, async", lambda run, given: loop.run_until_complete(run.ainvoke(given)), effort)
    finally:
        loop.close()


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
