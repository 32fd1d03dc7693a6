"""Whole spans: every attribute of a run, its agents, a tool, a guardrail and a block, in both dialects.

Ids are counted, and nothing is left open. The model calls in between are the OpenAI instrumentor's to show.
"""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path
from typing import Any

import agents
import pytest
from agents import Agent, GuardrailFunctionOutput, SQLiteSession, function_tool
from opentelemetry.sdk.trace import ReadableSpan

from spanrelay_openai import OpenAIInstrumentor
from spanrelay_openai_agents import OpenAIAgentsInstrumentor, __version__
from spanrelay_testkit.capture import captured
from spanrelay_testkit.model_server import ModelServer

from .ways import QUESTION, Way, awaited, each_way, weather_model

README = Path(__file__).parents[1] / "README.md"


@agents.input_guardrail(run_in_parallel=False)
async def polite(context: Any, agent: Any, given: Any) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(output_info={"polite": True}, tripwire_triggered=False)


@function_tool(needs_approval=True)
def get_weather(city: str) -> str:
    """The weather of a city."""
    with agents.custom_span("look up", {"city": city}):
        return f"sunny in {city}"


weatherman = Agent("weatherman", model="gpt-5", tools=[get_weather], handoff_description="Knows the weather.")
triage = Agent("triage", model="gpt-5", handoffs=[weatherman], input_guardrails=[polite])


def spans_of(run: Way, dialect: str, *, content: bool) -> list[dict[str, Any]]:
    """Return the whole spans of a run that hands over, waits for approval and is resumed, but for model calls."""
    with captured(dialect=dialect, content=content) as spans, ModelServer(weather_model) as server:
        instrumentors = (OpenAIInstrumentor(), OpenAIAgentsInstrumentor())
        for instrumentor in instrumentors:
            instrumentor.instrument(tracer_provider=spans.provider)
        try:
            with closing(SQLiteSession("chat-1")) as session:
                state = run(server, triage, QUESTION, session=session).to_state()
                state.approve(state.get_interruptions()[0])
                run(server, triage, state, session=session)
        finally:
            for instrumentor in instrumentors:
                instrumentor.uninstrument()
        ordered = sorted(spans.spans, key=lambda span: span.context.span_id if span.context else 0)
        return [whole(span) for span in ordered if not span.name.startswith("chat")]


def whole(span: ReadableSpan) -> dict[str, Any]:
    """Everything a span says."""
    context, scope = span.get_span_context(), span.instrumentation_scope
    assert context is not None and scope is not None and span.start_time is not None and span.end_time is not None
    assert span.start_time < span.end_time
    assert (scope.name, scope.version) == ("spanrelay_openai_agents", __version__)
    assert (span.kind.name, list(span.links)) == ("INTERNAL", [])
    assert span.status.is_unset
    return {
        "name": span.name,
        "ids": (context.trace_id, context.span_id, span.parent and span.parent.span_id),
        "events": {event.name: dict(event.attributes or {}) for event in span.events},
        "attributes": dict(span.attributes or {}),
    }


HANDOFF = {
    "openai_agents.handoff.call_id": "call_over",
    "openai_agents.handoff.from": "triage",
    "openai_agents.handoff.to": "weatherman",
}
WAITS = {
    "openai_agents.approval.call_ids": ("call_get_weather",),
    "openai_agents.approval.tools": ("get_weather",),
}
SPANS: list[tuple[str, tuple[int, int, int | None], dict[str, Any]]] = [
    (
        "invoke_agent triage",
        (1, 1, None),
        {"openai_agents.handoff": HANDOFF, "openai_agents.interrupt": WAITS},
    ),
    ("run_guardrail polite", (1, 2, 1), {}),
    ("invoke_agent weatherman", (1, 4, 1), {}),
    (
        "invoke_agent weatherman",
        (2, 6, None),
        {"openai_agents.resume": {**WAITS, "openai_agents.approval.approved": (True,)}},
    ),
    ("execute_tool get_weather", (2, 7, 6), {}),
    ("look up", (2, 8, 7), {}),
]
"""Name, ids of trace, span and parent, and marks of each span. Spans 3, 5 and 9 are the model calls."""

GENAI: list[dict[str, Any]] = [
    {
        "agent.name": "triage",
        "gen_ai.agent.name": "triage",
        "gen_ai.conversation.id": "chat-1",
        "gen_ai.operation.name": "invoke_agent",
        "input.mime_type": "text/plain",
        "input.value": "How is the weather in Rome?",
        "openinference.span.kind": "AGENT",
        "session.id": "chat-1",
    },
    {
        "gen_ai.conversation.id": "chat-1",
        "gen_ai.guardrail.action.type": "allow",
        "gen_ai.guardrail.component.name": "polite",
        "gen_ai.guardrail.verdict.reason": '{"polite":true}',
        "gen_ai.guardrail.verdict.type": "allow",
        "gen_ai.operation.name": "run_guardrail",
        "openai_agents.guardrail.on": "input",
        "openinference.span.kind": "GUARDRAIL",
        "session.id": "chat-1",
    },
    {
        "agent.name": "weatherman",
        "gen_ai.agent.description": "Knows the weather.",
        "gen_ai.agent.name": "weatherman",
        "gen_ai.conversation.id": "chat-1",
        "gen_ai.operation.name": "invoke_agent",
        "openinference.span.kind": "AGENT",
        "session.id": "chat-1",
    },
    {
        "agent.name": "weatherman",
        "gen_ai.agent.description": "Knows the weather.",
        "gen_ai.agent.name": "weatherman",
        "gen_ai.conversation.id": "chat-1",
        "gen_ai.operation.name": "invoke_agent",
        "openinference.span.kind": "AGENT",
        "output.mime_type": "text/plain",
        "output.value": "I was told: sunny in Rome",
        "session.id": "chat-1",
    },
    {
        "gen_ai.conversation.id": "chat-1",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.call.arguments": '{"city":"Rome"}',
        "gen_ai.tool.call.id": "call_get_weather",
        "gen_ai.tool.call.result": "sunny in Rome",
        "gen_ai.tool.description": "The weather of a city.",
        "gen_ai.tool.name": "get_weather",
        "gen_ai.tool.type": "function",
        "openinference.span.kind": "TOOL",
        "session.id": "chat-1",
        "tool.id": "call_get_weather",
        "tool.name": "get_weather",
    },
    {
        "gen_ai.conversation.id": "chat-1",
        "input.mime_type": "application/json",
        "input.value": '{"city":"Rome"}',
        "openinference.span.kind": "CHAIN",
        "session.id": "chat-1",
    },
]
OPENINFERENCE: list[dict[str, Any]] = [
    {
        "agent.name": "triage",
        "gen_ai.operation.name": "invoke_agent",
        "input.mime_type": "text/plain",
        "input.value": "How is the weather in Rome?",
        "openinference.span.kind": "AGENT",
        "session.id": "chat-1",
    },
    {
        "gen_ai.guardrail.action.type": "allow",
        "gen_ai.guardrail.component.name": "polite",
        "gen_ai.guardrail.verdict.reason": '{"polite":true}',
        "gen_ai.guardrail.verdict.type": "allow",
        "gen_ai.operation.name": "run_guardrail",
        "openai_agents.guardrail.on": "input",
        "openinference.span.kind": "GUARDRAIL",
        "session.id": "chat-1",
    },
    {
        "agent.name": "weatherman",
        "gen_ai.agent.description": "Knows the weather.",
        "gen_ai.operation.name": "invoke_agent",
        "openinference.span.kind": "AGENT",
        "session.id": "chat-1",
    },
    {
        "agent.name": "weatherman",
        "gen_ai.agent.description": "Knows the weather.",
        "gen_ai.operation.name": "invoke_agent",
        "openinference.span.kind": "AGENT",
        "output.mime_type": "text/plain",
        "output.value": "I was told: sunny in Rome",
        "session.id": "chat-1",
    },
    {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.type": "function",
        "input.mime_type": "application/json",
        "input.value": '{"city":"Rome"}',
        "openinference.span.kind": "TOOL",
        "output.mime_type": "text/plain",
        "output.value": "sunny in Rome",
        "session.id": "chat-1",
        "tool.description": "The weather of a city.",
        "tool.id": "call_get_weather",
        "tool.name": "get_weather",
    },
    {
        "input.mime_type": "application/json",
        "input.value": '{"city":"Rome"}',
        "openinference.span.kind": "CHAIN",
        "session.id": "chat-1",
    },
]
ATTRIBUTES = {"genai": GENAI, "openinference": OPENINFERENCE}
CONTENT = ("input.", "output.", "gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "gen_ai.guardrail.verdict.rea")
"""What the attributes begin with that carry what was said."""


def expected(dialect: str, *, content: bool) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "ids": ids,
            "events": events,
            "attributes": {key: value for key, value in attributes.items() if content or not key.startswith(CONTENT)},
        }
        for (name, ids, events), attributes in zip(SPANS, ATTRIBUTES[dialect], strict=True)
    ]


@each_way
@pytest.mark.parametrize("dialect", ATTRIBUTES)
def test_whole_spans(run: Way, dialect: str) -> None:
    assert spans_of(run, dialect, content=True) == expected(dialect, content=True)


@pytest.mark.parametrize("dialect", ATTRIBUTES)
def test_without_content_nothing_of_what_was_said_is_left(dialect: str) -> None:
    assert spans_of(awaited, dialect, content=False) == expected(dialect, content=False)


# --- the tables in the README ---

ROW = re.compile(r"^\| `(?P<attribute>[a-z][\w.]+)` \| (?P<genai>\w* ?)\| (?P<openinference>\w* ?)\|", re.MULTILINE)
ALWAYS_TOLD = {"error.type", "spanrelay.incomplete"}
"""Attributes of what fails, which no span here has."""


@pytest.mark.parametrize("dialect", ATTRIBUTES)
def test_the_readme_names_exactly_the_attributes_of_the_spans_and_which_of_them_are_content(dialect: str) -> None:
    rows = list(ROW.finditer(README.read_text()))
    assert len({row["attribute"] for row in rows}) == len(rows), "an attribute has two rows"
    told = {row["attribute"]: row[dialect].strip() for row in rows if row[dialect].strip()}
    seen = {
        key: "content" if key.startswith(CONTENT) else "yes" for spans in ATTRIBUTES[dialect] for key in spans
    } | dict.fromkeys(ALWAYS_TOLD, "yes")
    assert told == seen


def test_the_readme_names_every_mark() -> None:
    text = README.read_text()
    for _, _, events in SPANS:
        for name, attributes in events.items():
            assert f"`{name}`" in text
            assert all(f"`{key}`" in text for key in attributes)
