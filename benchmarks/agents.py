"""An agent of LangGraph with five rounds of tools, the same for us and for every peer.

The model answers from memory, so that what is measured is LangGraph and what is added to it. Imports no
instrumentation: the environment of a peer holds only its own.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph import prebuilt

from benchmarks import workload
from benchmarks.measure import Cost, Effort, Figure, Way, differences, interleave, median
from benchmarks.results import Result

ROUNDS = 5
CONTENT = 300 + ROUNDS * 120 + 200
"""Bytes of content of a run, each text once; what is recorded has most of it several times."""

ROWS: dict[str, tuple[str, bool]] = {
    "agent": ("LangGraph agent", False),
    "agent-async": ("LangGraph agent, async", True),
}
"""The rows, their titles, and whether the agent is awaited."""

PACKAGES = ("langchain", "langchain_core", "langgraph")


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


@contextmanager
def runs(*, awaited: bool) -> Generator[Callable[[], object]]:
    """Yield what runs the agent once."""
    made, given = agent(), {"messages": [("user", workload.text(300))]}
    if not awaited:
        yield lambda: made.invoke(given)
        return
    loop = asyncio.new_event_loop()
    try:
        yield lambda: loop.run_until_complete(made.ainvoke(given))
    finally:
        loop.close()


def measure(row: str, ways: Sequence[Way], effort: Effort, limit: float | None = None) -> list[Result]:
    """Measure what the recorded way adds to the bare one, in percent of it, by wall time."""
    bare, recorded = interleave(ways, effort)
    added, least = wall(differences(recorded, bare)), wall(bare)
    percent = Figure(100 * added.value / least.value, 100 * added.error / least.value)
    return [Result(row, f"wall, on {least.value / 1e3:.1f} ms", "%", percent.value, percent.error, limit=limit)]


def wall(costs: Sequence[Cost]) -> Figure:
    """Return the median wall time."""
    return median([cost.wall for cost in costs])
