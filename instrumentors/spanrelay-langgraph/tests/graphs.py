"""Graphs and a model in memory for the tests: small, deterministic, and real LangGraph throughout."""

from __future__ import annotations

import operator
import sys
from typing import Annotated, Any

import pytest
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from opentelemetry.sdk.trace import ReadableSpan
from typing_extensions import TypedDict

from spanrelay_testkit.capture import Capture

BOTH_COLOURS = pytest.mark.parametrize(
    "asynchronous",
    [
        False,
        pytest.param(
            True,
            marks=pytest.mark.skipif(
                sys.version_info < (3, 11), reason="LangGraph's interrupts and tasks need Python 3.11 in async code"
            ),
        ),
    ],
    ids=["sync", "async"],
)
"""Tests of what only Python 3.11 and newer can do in async code."""


class Model(BaseChatModel):
    """Asks for the weather as often as it is told, and then says that it is done."""

    rounds: int = 1

    @property
    def _llm_type(self) -> str:
        return "in memory"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        answered = sum(isinstance(message, ToolMessage) for message in messages)
        asks = [{"name": "get_weather", "args": {"city": "Oslo"}, "id": f"call_{answered}"}]
        message = AIMessage("Done.") if answered >= self.rounds else AIMessage("", tool_calls=asks)
        return ChatResult(generations=[ChatGeneration(message=message)])


@tool
def get_weather(city: str) -> str:
    """Say what the weather of a city is."""
    return f"Rain in {city}."


class Numbers(TypedDict):
    numbers: Annotated[list[int], operator.add]


def chain(*steps: Any, state: Any = Numbers, **compiled: Any) -> Any:
    """A graph of one node after the other, each called as its function is."""
    graph: Any = StateGraph(state)
    before = START
    for step in steps:
        graph.add_node(step.__name__, step)
        graph.add_edge(before, step.__name__)
        before = step.__name__
    graph.add_edge(before, END)
    return graph.compile(**compiled)


def tree(capture: Capture) -> Any:
    """The spans as names within names, children in the order in which they began; fails on more than one trace."""
    assert len({span.context.trace_id for span in capture.spans}) == 1
    below: dict[int | None, list[ReadableSpan]] = {}
    for span in sorted(capture.spans, key=lambda span: span.context.span_id):
        below.setdefault(span.parent.span_id if span.parent is not None else None, []).append(span)

    def names(parent: int | None) -> Any:
        return [
            (span.name, names(span.context.span_id)) if span.context.span_id in below else span.name
            for span in below[parent]
        ]

    return names(None)


def named(capture: Capture, name: str) -> ReadableSpan:
    """The one span of a name."""
    [span] = [span for span in capture.spans if span.name == name]
    return span


def marks(span: ReadableSpan) -> list[tuple[str, dict[str, Any]]]:
    """What is marked on a span."""
    return [(event.name, dict(event.attributes or {})) for event in span.events]
