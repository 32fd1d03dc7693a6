"""Whole spans: every attribute of a run, its agents, a tool, a guardrail and a block, in both dialects.

Ids are counted, and nothing is left open. The model calls in between are the OpenAI instrumentor's to show.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import agents
from agents import Agent, GuardrailFunctionOutput, SQLiteSession, function_tool
from opentelemetry.sdk.trace import ReadableSpan

from spanrelay_openai import OpenAIInstrumentor
from spanrelay_openai_agents import OpenAIAgentsInstrumentor, __version__
from spanrelay_testkit.capture import Capture, at_work
from spanrelay_testkit.contract.snapshots import SnapshotContract, Told
from spanrelay_testkit.model_server import ModelServer

from .ways import QUESTION, awaited, streamed, synchronous, weather_model


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


HANDOFF = {
    "openai_agents.handoff.call_id": "call_over",
    "openai_agents.handoff.from": "triage",
    "openai_agents.handoff.to": "weatherman",
}
WAITS = {
    "openai_agents.approval.call_ids": ("call_get_weather",),
    "openai_agents.approval.tools": ("get_weather",),
}
SPANS = (
    Told("invoke_agent triage", (1, 1, None), {"openai_agents.handoff": HANDOFF, "openai_agents.interrupt": WAITS}),
    Told("run_guardrail polite", (1, 2, 1), {}),
    Told("invoke_agent weatherman", (1, 4, 1), {}),
    Told(
        "invoke_agent weatherman",
        (2, 6, None),
        {"openai_agents.resume": {**WAITS, "openai_agents.approval.approved": (True,)}},
    ),
    Told("execute_tool get_weather", (2, 7, 6), {}),
    Told("look up", (2, 8, 7), {}),
)
"""Spans 3, 5 and 9 are the model calls."""

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


class TestSnapshots(SnapshotContract):
    scope = ("spanrelay_openai_agents", __version__)
    ways = (awaited, synchronous, streamed)
    spans = SPANS
    attributes = ATTRIBUTES
    content = CONTENT
    readme = Path(__file__).parents[1] / "README.md"

    def is_shown(self, span: ReadableSpan) -> bool:
        return not span.name.startswith("chat")

    def record(self, run: Any, capture: Capture, request: Any) -> None:
        """A run that hands over, waits for approval and is resumed."""
        with (
            at_work(capture, OpenAIInstrumentor, OpenAIAgentsInstrumentor),
            ModelServer(weather_model) as server,
            closing(SQLiteSession("chat-1")) as session,
        ):
            state = run(server, triage, QUESTION, session=session).to_state()
            state.approve(state.get_interruptions()[0])
            run(server, triage, state, session=session)
