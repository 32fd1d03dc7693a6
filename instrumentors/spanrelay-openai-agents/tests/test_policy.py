"""Policy in runs: around tools, around model calls, around runs as a whole, and the application's own guardrails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import agents
import pytest
from agents import Agent, GuardrailFunctionOutput, ToolGuardrailFunctionOutput, function_tool

from spanrelay import GuardrailRejected, execution_intercept, request_intercept, use
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_openai_agents import OpenAIAgentsInstrumentor
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.contract.agents import AgentPolicyContract, get_weather
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.outline import named, tree
from spanrelay_testkit.policy import in_force

from .ways import QUESTION, Way, awaited, each_way, streamed, synchronous, weather_model


def weatherman(**options: Any) -> Agent[Any]:
    return Agent("weatherman", model="gpt-5", **{"tools": [function_tool(get_weather)], **options})


class TestPolicy(AgentPolicyContract):
    instrumentors = (OpenAIInstrumentor, OpenAIAgentsInstrumentor)
    ways = (synchronous, awaited, streamed)
    model = weather_model

    def weatherman(self, get_weather: Any) -> Any:
        return weatherman(tools=[function_tool(get_weather)])

    def output_of(self, result: Any) -> Any:
        return result.final_output


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer(weather_model) as running:
        yield running


@each_way
def test_the_context_of_a_tool_says_what_policy_made_of_its_arguments(
    instrumented: Capture, server: ModelServer, run: Way
) -> None:
    @request_intercept(kinds=["tool"])
    def elsewhere(call: Any) -> Any:
        return replace(call.request, arguments={"city": "Oslo"})

    seen: list[str] = []

    @function_tool(name_override="get_weather")
    def weather(context: agents.tool_context.ToolContext[Any], city: str) -> str:
        seen.append(context.tool_arguments)
        return f"sunny in {city}"

    with use(elsewhere):
        result = run(server, weatherman(tools=[weather]), QUESTION)
    assert result.final_output == "I was told: sunny in Oslo"
    assert seen == ['{"city":"Oslo"}']


@each_way
def test_policy_has_what_the_sdk_has_and_may_return_it(instrumented: Capture, server: ModelServer, run: Way) -> None:
    @execution_intercept(kinds=["tool"])
    def shouts(call: Any) -> Any:
        response = yield call
        return response.native.output.upper()

    @execution_intercept(kinds=["agent"])
    def signs(call: Any) -> Any:
        response = yield call
        return f"{response.record.content} Yours, policy"

    with use(shouts), use(signs):
        assert run(server, weatherman(), QUESTION).final_output == "I was told: SUNNY IN ROME Yours, policy"


@each_way
def test_guardrails_of_the_application_are_spans_with_a_verdict(
    instrumented: Capture, server: ModelServer, run: Way
) -> None:
    @agents.input_guardrail
    async def polite(context: Any, agent: Any, given: Any) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(output_info="fine", tripwire_triggered=False)

    @agents.output_guardrail
    async def secret(context: Any, agent: Any, output: Any) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(output_info={"found": "Rome"}, tripwire_triggered=True)

    @agents.tool_input_guardrail
    def any_city(data: Any) -> ToolGuardrailFunctionOutput:
        return ToolGuardrailFunctionOutput.allow()

    @agents.tool_output_guardrail
    def no_sun(data: Any) -> ToolGuardrailFunctionOutput:
        return ToolGuardrailFunctionOutput.reject_content("clouds")

    guarded = function_tool(get_weather, name_override="get_weather")
    guarded.tool_input_guardrails, guarded.tool_output_guardrails = [any_city], [no_sun]
    agent = weatherman(tools=[guarded], input_guardrails=[polite], output_guardrails=[secret])
    with pytest.raises(agents.OutputGuardrailTripwireTriggered):
        run(server, agent, QUESTION)
    told = {span.name: dict(span.attributes or {}) for span in instrumented.of("GUARDRAIL")}
    verdicts = {
        attributes["openai_agents.guardrail.on"]: (
            attributes["gen_ai.guardrail.component.name"],
            attributes["gen_ai.guardrail.verdict.type"],
            attributes.get("gen_ai.guardrail.verdict.reason"),
        )
        for attributes in told.values()
    }
    assert verdicts == {
        "input": ("polite", "allow", "fine"),
        "output": ("secret", "deny", '{"found":"Rome"}'),
        "tool_input": ("any_city", "allow", None),
        "tool_output": ("no_sun", "deny", "clouds"),
    }
    assert {span.parent is not None for span in instrumented.of("GUARDRAIL")} == {True}
    run_span = named(instrumented, "invoke_agent weatherman")
    assert run_span.status.description == "Guardrail OutputGuardrail triggered tripwire"


@each_way
def test_a_model_that_judges_in_a_guardrail_is_called_beneath_it(
    instrumented: Capture, server: ModelServer, run: Way
) -> None:
    judge = Agent("judge", model="gpt-5-mini")

    @agents.input_guardrail(run_in_parallel=False)
    async def polite(context: Any, agent: Any, said: Any) -> GuardrailFunctionOutput:
        verdict = await agents.Runner.run(judge, said)
        return GuardrailFunctionOutput(output_info=verdict.final_output, tripwire_triggered=False)

    run(server, weatherman(input_guardrails=[polite]), QUESTION)
    assert tree(instrumented) == [
        "invoke_agent weatherman",
        "  run_guardrail polite",
        "    invoke_agent judge",
        "      chat gpt-5-mini",
        "  chat gpt-5",
        "  execute_tool get_weather",
        "  chat gpt-5",
    ]


@pytest.fixture
def denied(tmp_path: Path) -> Iterator[None]:
    """A file that denies the tool is in force."""
    with in_force(tmp_path, '[plugins.policy]\ntools.deny = ["get_*"]\n'):
        yield


@each_way
def test_what_people_or_a_guardrail_answer_in_the_place_of_a_denied_tool_is_sent(
    instrumented: Capture, server: ModelServer, run: Way, denied: None
) -> None:
    @agents.tool_input_guardrail
    def never(data: Any) -> Any:
        return ToolGuardrailFunctionOutput.reject_content("not today")

    guarded = function_tool(get_weather)
    guarded.tool_input_guardrails = [never]
    assert run(server, weatherman(tools=[guarded]), QUESTION).final_output == "I was told: not today"
    careful = weatherman(tools=[function_tool(get_weather, needs_approval=True)])
    waiting = run(server, careful, QUESTION)
    state = waiting.to_state()
    state.reject(waiting.interruptions[0])
    assert "not approved" in run(server, careful, state).final_output


@each_way
def test_a_denied_tool_is_refused_whoever_has_approved_it(
    instrumented: Capture, server: ModelServer, run: Way, denied: None
) -> None:
    careful = weatherman(tools=[function_tool(get_weather, needs_approval=True)])
    waiting = run(server, careful, QUESTION)
    state = waiting.to_state()
    state.approve(waiting.interruptions[0])
    with pytest.raises(GuardrailRejected, match="'get_weather' is denied"):
        run(server, careful, state)
