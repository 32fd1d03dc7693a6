"""Runs that wait for somebody: marks and no errors, and a resumed run goes on in the same conversation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic_ai import (
    Agent,
    ApprovalRequired,
    CallDeferred,
    DeferredToolRequests,
    DeferredToolResults,
    ExternalToolset,
    RunContext,
    Tool,
    ToolDefinition,
    ToolDenied,
)

from spanrelay import MiddlewareError, request_intercept, use
from spanrelay.records import AgentRequest
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.outline import marks, traces, tree

from .ways import (
    QUESTION,
    RUN,
    Way,
    awaited,
    conversations,
    each_way,
    get_weather,
    some_ways,
    weather_model,
    weatherman,
)

ASKS: dict[str, Any] = {"output_type": [str, DeferredToolRequests]}
CALL = "call_get_weather"


def waits(kind: str) -> dict[str, Any]:
    return {
        "pydantic_ai.deferred.tools": ("get_weather",),
        "pydantic_ai.deferred.call_ids": (CALL,),
        "pydantic_ai.deferred.kinds": (kind,),
    }


def goes_on(approved: bool) -> dict[str, Any]:
    return {"pydantic_ai.deferred.call_ids": (CALL,), "pydantic_ai.deferred.approved": (approved,)}


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer(weather_model) as running:
        yield running


def runs_of(capture: Capture) -> list[Any]:
    return [span for span in capture.spans if span.name == "invoke_agent weatherman"]


def careful(ctx: RunContext[Any], city: str) -> str:
    """The weather of a city."""
    if not ctx.tool_call_approved:
        raise ApprovalRequired
    return f"sunny in {city}"


DECLARED = Tool(get_weather, requires_approval=True)
RAISING = Tool(careful, name="get_weather")


@pytest.mark.proves("pydantic-ai", "interrupts")
@each_way
@pytest.mark.parametrize("answer", [True, ToolDenied("Not today.")])
@pytest.mark.parametrize("tool", [DECLARED, RAISING], ids=["declared", "raising"])
def test_a_run_that_waits_for_approval_has_not_failed_and_goes_on(
    instrumented: Capture, server: ModelServer, run: Way, answer: Any, tool: Any
) -> None:
    agent = weatherman(tool, **ASKS)
    waiting = run(server, agent, QUESTION)
    assert [call.tool_call_id for call in waiting.output.approvals] == [CALL]
    asked = tree(instrumented)
    assert asked == (RUN[:2] if tool is DECLARED else RUN[:3])
    instrumented_so_far = len(instrumented.spans)
    results = DeferredToolResults(approvals={CALL: answer})
    resumed = run(server, agent, None, message_history=waiting.all_messages(), deferred_tool_results=results)
    approved = answer is True
    assert resumed.output == f"I was told: {'sunny in Rome' if approved else 'Not today.'}"
    rest = [RUN[0], *([RUN[2]] if approved else []), RUN[3]]
    assert tree(instrumented)[instrumented_so_far:] == rest
    first, second = runs_of(instrumented)
    assert marks(first) == {"pydantic_ai.interrupt": waits("approval")}
    assert marks(second) == {"pydantic_ai.resume": goes_on(approved)}
    assert all(span.status.is_unset for span in instrumented.spans)
    assert traces(instrumented) == 2, "one for each turn"
    assert len(conversations(instrumented)) == 1
    assert None not in conversations(instrumented)


def later(city: str) -> str:
    """The weather of a city."""
    raise CallDeferred


EXTERNAL: Any = ExternalToolset(
    [
        ToolDefinition(
            name="get_weather", parameters_json_schema={"type": "object", "properties": {"city": {"type": "string"}}}
        )
    ]
)


@some_ways
@pytest.mark.parametrize("raising", [True, False])
def test_a_run_that_waits_for_a_result_from_elsewhere_goes_on_with_it(
    instrumented: Capture, server: ModelServer, run: Way, raising: bool
) -> None:
    agent: Any = (
        weatherman(Tool(later, name="get_weather"), **ASKS)
        if raising
        else Agent(name="weatherman", toolsets=[EXTERNAL], **ASKS)
    )
    waiting = run(server, agent, QUESTION)
    assert [call.tool_call_id for call in waiting.output.calls] == [CALL]
    results = DeferredToolResults(calls={CALL: "cloudy"})
    resumed = run(server, agent, None, message_history=waiting.all_messages(), deferred_tool_results=results)
    assert resumed.output == "I was told: cloudy"
    first, second = runs_of(instrumented)
    assert marks(first) == {"pydantic_ai.interrupt": waits("external")}
    assert marks(second) == {"pydantic_ai.resume": goes_on(True)}
    assert all(span.status.is_unset for span in instrumented.spans)


def test_the_input_of_a_resumed_run_is_not_policys_to_change(instrumented: Capture, server: ModelServer) -> None:
    @request_intercept(kinds=["agent"])
    def other(call: Any) -> Any:
        return AgentRequest(call.request.name, "something else")

    agent = weatherman(DECLARED, **ASKS)
    waiting = awaited(server, agent, QUESTION)
    results = DeferredToolResults(approvals={CALL: True})
    with use(other), pytest.raises(MiddlewareError, match="resumed run"):
        awaited(server, agent, None, message_history=waiting.all_messages(), deferred_tool_results=results)
