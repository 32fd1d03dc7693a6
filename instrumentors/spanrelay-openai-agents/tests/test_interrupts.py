"""Runs that wait for approval: marks and no errors, and a resumed run goes on in the same conversation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from agents import Agent, RunState, function_tool

from spanrelay import MiddlewareError, request_intercept, use
from spanrelay.records import AgentRequest
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.outline import marks, traces, tree

from .ways import QUESTION, Way, at_work, each_way, weather_model

WAITS = {
    "openai_agents.approval.tools": ("get_weather",),
    "openai_agents.approval.call_ids": ("call_get_weather",),
}


@function_tool(needs_approval=True)
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


weatherman: Agent[Any] = Agent("weatherman", model="gpt-5", tools=[get_weather])
triage: Agent[Any] = Agent("triage", model="gpt-5", handoffs=[weatherman])


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer(weather_model) as running:
        yield running


def spans_of(capture: Capture, name: str) -> list[Any]:
    return [span for span in capture.spans if span.name == name]


@pytest.mark.proves("openai-agents", "interrupts")
@each_way
@pytest.mark.parametrize("approved", [True, False])
def test_an_interrupt_and_its_resumption_are_marks(
    instrumented: Capture, server: ModelServer, run: Way, approved: bool, remembering: Any
) -> None:
    session = remembering("chat-1")
    waiting = run(server, weatherman, QUESTION, session=session)
    [asked] = waiting.interruptions
    state = waiting.to_state()
    state.approve(asked) if approved else state.reject(asked)
    resumed = run(server, weatherman, state, session=session)
    assert ("sunny" in resumed.final_output) is approved
    assert tree(instrumented) == [
        "invoke_agent weatherman",
        "  chat gpt-5",
        "invoke_agent weatherman",
        *(["  execute_tool get_weather"] if approved else []),
        "  chat gpt-5",
    ]
    first, second = spans_of(instrumented, "invoke_agent weatherman")
    assert marks(first) == {"openai_agents.interrupt": WAITS}
    assert marks(second) == {"openai_agents.resume": {**WAITS, "openai_agents.approval.approved": (approved,)}}
    assert first.status.is_unset and second.status.is_unset
    assert traces(instrumented) == 2, "one for each turn"
    assert {(span.attributes or {}).get("gen_ai.conversation.id") for span in instrumented.spans} == {"chat-1"}


@each_way
def test_a_state_that_was_stored_goes_on_with_the_agent_that_waited(
    instrumented: Capture, server: ModelServer, run: Way
) -> None:
    waiting = run(server, triage, QUESTION)
    stored = waiting.to_state().to_string()

    async def restore() -> Any:
        return await RunState.from_string(triage, stored)

    state = at_work(server, restore)
    state.approve(state.get_interruptions()[0])
    instrumented.clear()
    assert run(server, triage, state).final_output == "I was told: sunny in Rome"
    assert tree(instrumented) == ["invoke_agent weatherman", "  execute_tool get_weather", "  chat gpt-5"]


@each_way
def test_the_input_of_a_resumed_run_is_not_policys_to_change(
    instrumented: Capture, server: ModelServer, run: Way
) -> None:
    @request_intercept(kinds=["agent"])
    def other(call: Any) -> Any:
        return AgentRequest(call.request.name, "something else")

    state = run(server, weatherman, QUESTION).to_state()
    state.approve(state.get_interruptions()[0])
    with use(other), pytest.raises(MiddlewareError, match="resumed run"):
        run(server, weatherman, state)


@each_way
def test_an_agent_as_a_tool_that_waits_is_marked_where_it_waits(
    instrumented: Capture, server: ModelServer, run: Way
) -> None:
    boss = Agent("boss", model="gpt-5", tools=[weatherman.as_tool("ask_weatherman", "Asks.")])
    waiting = run(server, boss, QUESTION)
    assert len(waiting.interruptions) == 1
    [inner] = spans_of(instrumented, "invoke_agent weatherman")
    assert marks(inner) == {"openai_agents.interrupt": WAITS}
    state = waiting.to_state()
    state.approve(waiting.interruptions[0])
    assert run(server, boss, state).final_output == "I was told: I was told: sunny in Rome"
    assert traces(instrumented) == 2
