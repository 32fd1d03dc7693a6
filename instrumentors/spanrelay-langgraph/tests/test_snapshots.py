"""Whole spans: everything that a run and its nodes say, in both dialects, with content and without."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph import prebuilt
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, RetryPolicy, Send, interrupt
from opentelemetry.sdk.trace import ReadableSpan

from spanrelay_langgraph import LangGraphInstrumentor, __version__
from spanrelay_testkit.capture import Capture, captured

from .graphs import Model, Numbers, chain, get_weather

README = Path(__file__).parents[1] / "README.md"
CONTENT = ("input.", "output.")


@pytest.fixture(params=["genai", "openinference"])
def dialect(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=[True, False], ids=["content", "no content"])
def content(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture
def spans(dialect: str, content: bool) -> Iterator[Capture]:
    with captured(dialect=dialect, content=content) as capture:
        instrumentor = LangGraphInstrumentor()
        instrumentor.instrument(tracer_provider=capture.provider)
        yield capture
        instrumentor.uninstrument()


def whole(span: ReadableSpan) -> dict[str, Any]:
    """Everything that a span says but its times."""
    scope = span.instrumentation_scope
    assert scope is not None and span.start_time is not None and span.end_time is not None
    assert span.start_time <= span.end_time
    return {
        "name": span.name,
        "kind": span.kind.name,
        "status": (span.status.status_code.name, span.status.description),
        "ids": (span.context.trace_id, span.context.span_id, span.parent and span.parent.span_id),
        "scope": (scope.name, scope.version, scope.schema_url),
        "events": [
            (event.name, {**(event.attributes or {})} if event.name != "exception" else {}) for event in span.events
        ],
        "links": list(span.links),
        "attributes": dict(span.attributes or {}),
    }


def expected(
    name: str, ids: tuple[int, int, int | None], attributes: dict[str, Any], status: Any = ("UNSET", None)
) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "INTERNAL",
        "status": status,
        "ids": ids,
        "scope": ("spanrelay_langgraph", __version__, "https://opentelemetry.io/schemas/1.41.0"),
        "events": [("exception", {})] if status[0] == "ERROR" else [],
        "links": [],
        "attributes": attributes,
    }


def run_attributes(dialect: str, content: bool, said: dict[str, str]) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": "invoke_agent",
        "agent.name": "weather",
        "gen_ai.conversation.id": "t",
        "openinference.span.kind": "AGENT",
        "session.id": "t",
    }
    if dialect == "genai":
        attributes["gen_ai.agent.name"] = "weather"
    if dialect == "openinference":
        del attributes["gen_ai.conversation.id"]
    if content:
        for key, value in said.items():
            attributes |= {f"{key}.value": value, f"{key}.mime_type": "text/plain"}
    return attributes


def node_attributes(dialect: str, name: str, step: int, trigger: str, **more: Any) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "gen_ai.conversation.id": "t",
        "openinference.span.kind": "CHAIN",
        "session.id": "t",
        "langgraph.node": name,
        "langgraph.step": step,
        "langgraph.triggers": trigger,
        **{f"langgraph.{key}": value for key, value in more.items()},
    }
    if dialect == "openinference":
        del attributes["gen_ai.conversation.id"]
    return attributes


DEFINED = (
    '"name":"get_weather","description":"Say what the weather of a city is.",'
    '"parameters":{"properties":{"city":{"type":"string"}},"required":["city"],"type":"object"}'
)
TOLD: dict[str, dict[str, str]] = {
    "genai": {
        "gen_ai.system_instructions": '[{"type":"text","content":"Be brief."}]',
        "gen_ai.tool.definitions": f'[{{"type":"function",{DEFINED}}}]',
    },
    "openinference": {
        "llm.input_messages.0.message.content": "Be brief.",
        "llm.input_messages.0.message.role": "system",
        "llm.tools.0.tool.json_schema": f'{{"type":"function","function":{{{DEFINED}}}}}',
    },
}
"""What an agent is told, on its span."""


def test_the_spans_of_an_agent_are_these(spans: Capture, dialect: str, content: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LangGraph calls its own maker of agents deprecated
        agent = prebuilt.create_react_agent(Model(), [get_weather], prompt="Be brief.", name="weather")
    agent.invoke({"messages": [("user", "Weather?")]}, {"configurable": {"thread_id": "t"}})
    said = {"input": "Weather?", "output": "Done."}
    told = TOLD[dialect] if content else {}
    assert [whole(span) for span in spans.spans] == [
        expected("agent", (1, 2, 1), node_attributes(dialect, "agent", 1, "branch:to:agent")),
        expected("tools", (1, 3, 1), node_attributes(dialect, "tools", 2, "__pregel_push", index=0)),
        expected("agent", (1, 4, 1), node_attributes(dialect, "agent", 3, "branch:to:agent")),
        expected("invoke_agent weather", (1, 1, None), run_attributes(dialect, content, said) | told),
    ]


def test_the_spans_of_a_run_that_fails_are_these(spans: Capture, dialect: str, content: bool) -> None:
    def broken(state: Any) -> Any:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        chain(broken, name="weather").invoke({"numbers": [1]}, {"configurable": {"thread_id": "t"}})
    failed = ("ERROR", "wrong")
    node = node_attributes(dialect, "broken", 1, "branch:to:broken") | {"error.type": "ValueError"}
    run = run_attributes(dialect, content, {"input": '{"numbers":[1]}'})
    run |= {"error.type": "ValueError", "spanrelay.incomplete": "error"}
    if content:
        run["input.mime_type"] = "application/json"
    assert [whole(span) for span in spans.spans] == [
        expected("broken", (1, 2, 1), node, failed),
        expected("invoke_agent weather", (1, 1, None), run, failed),
    ]


# --- the tables in the README ---

ROW = re.compile(r"^\| `(?P<attribute>[a-z][\w.]+)` \| (?P<genai>\w* ?)\| (?P<openinference>\w* ?)\|", re.MULTILINE)
EVENT = re.compile(r"^\| `(?P<event>langgraph\.\w+)` \| (?P<attributes>[^|]+) \|$", re.MULTILINE)


def documented(dialect: str) -> dict[str, str]:
    """The attributes that the README names for a dialect: `yes` or `content` each."""
    rows = list(ROW.finditer(README.read_text()))
    assert len({row["attribute"] for row in rows}) == len(rows), "an attribute has two rows"
    return {row["attribute"]: row[dialect].strip() for row in rows if row[dialect].strip()}


def everything_that_happens() -> None:
    """One run of each kind, with every mark that a graph can have but the drain."""
    thread: Any = {"configurable": {"thread_id": "t"}}
    tries: list[int] = []

    def starts(state: Any) -> Any:
        return Command(goto=Send("flaky", {}))

    def flaky(state: Any) -> Any:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("no answer")
        return {"numbers": [interrupt("How many?")]}

    graph: Any = StateGraph(Numbers)
    graph.add_node("starts", starts)
    graph.add_node("flaky", flaky, retry_policy=RetryPolicy(initial_interval=0.0, jitter=False))
    graph.add_edge(START, "starts")
    compiled = graph.compile(name="g", checkpointer=InMemorySaver())
    compiled.invoke({"numbers": [1]}, thread)
    compiled.invoke(Command(resume=7), thread)

    def broken(state: Any) -> Any:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        chain(broken).invoke({"numbers": []})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        agent = prebuilt.create_react_agent(Model(rounds=0), [get_weather], prompt="Be brief.")
    agent.invoke({"messages": [("user", "Weather?")]})


def test_the_readme_names_exactly_the_attributes_of_the_spans(spans: Capture, dialect: str, content: bool) -> None:
    everything_that_happens()
    found = {re.sub(r"\.\d+(?=\.)", ".N", name) for span in spans.spans for name in span.attributes or {}}
    assert found == {name for name, when in documented(dialect).items() if content or when == "yes"}


def test_the_readme_names_exactly_the_marks(spans: Capture, dialect: str, content: bool) -> None:
    everything_that_happens()
    found: dict[str, set[str]] = {}
    for event in [event for span in spans.spans for event in span.events if event.name != "exception"]:
        found.setdefault(event.name, set()).update(event.attributes or {})
    told = {
        row["event"]: set(re.findall(r"`([\w.]+)`", row["attributes"])) for row in EVENT.finditer(README.read_text())
    }
    del told["langgraph.drain"]
    del told["langgraph.handoff"]  # a handoff to another graph has a test of its own
    assert found.pop("langgraph.handoff") == {"langgraph.goto"}
    if not content:
        told["langgraph.interrupt"] = {"langgraph.interrupt.ids"}
        told["langgraph.resume"] = set()
    assert found == told
