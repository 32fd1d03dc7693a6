"""Policy in runs: around tools, around model calls, around runs as a whole, and the application's own guardrails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import agents
import pytest
from agents import Agent, GuardrailFunctionOutput, ToolGuardrailFunctionOutput, function_tool

from spanrelay import GuardrailRejected, MiddlewareError, execution_intercept, guardrail, request_intercept, use
from spanrelay.records import AgentResult, ToolResult
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.outline import named, tree

from .ways import QUESTION, Way, awaited, each_way, streamed, weather_model

given: list[str] = []


@function_tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    given.append(city)
    return f"sunny in {city}"


def weatherman(**options: Any) -> Agent[Any]:
    return Agent("weatherman", model="gpt-5", **{"tools": [get_weather], **options})


@pytest.fixture(autouse=True)
def nothing_given() -> None:
    given.clear()


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer(weather_model) as running:
        yield running


@each_way
def test_a_refused_tool_ends_the_run_with_the_refusal_itself(
    instrumented: Capture, server: ModelServer, run: Way
) -> None:
    @guardrail(kinds=["tool"])
    def never(call: Any) -> str:
        return f"not {call.request.name}"

    with use(never), pytest.raises(GuardrailRejected, match="not get_weather"):
        run(server, weatherman(), QUESTION)
    assert given == []
    assert tree(instrumented) == [
        "invoke_agent weatherman",
        "  chat gpt-5",
        "  execute_tool get_weather",
        "    run_guardrail never",
    ]
    for name in ("execute_tool get_weather", "invoke_agent weatherman"):
        assert named(instrumented, name).status.description == "guardrail 'never' refused the call: not get_weather"


@each_way
def test_a_refusal_that_answers_is_told_to_the_model(instrumented: Capture, server: ModelServer, run: Way) -> None:
    @guardrail(kinds=["tool"], answers=True)
    def never(call: Any) -> str:
        return "not today"

    with use(never):
        result = run(server, weatherman(), QUESTION)
    assert result.final_output == "I was told: guardrail 'never' refused the call: not today"
    assert given == []
    told = "guardrail 'never' refused the call: not today"
    assert named(instrumented, "execute_tool get_weather").status.description == told


@each_way
def test_rewritten_arguments_reach_the_tool(instrumented: Capture, server: ModelServer, run: Way) -> None:
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
    attributes = dict(named(instrumented, "execute_tool get_weather").attributes or {})
    assert attributes["gen_ai.tool.call.arguments"] == '{"city":"Oslo"}'


@each_way
def test_policy_may_answer_for_a_tool_and_change_what_it_gives(
    instrumented: Capture, server: ModelServer, run: Way
) -> None:
    @execution_intercept(kinds=["tool"])
    def answers(call: Any) -> Any:
        return ToolResult("from memory")
        yield

    @execution_intercept(kinds=["tool"])
    def shouts(call: Any) -> Any:
        response = yield call
        return response.native.output.upper()

    with use(answers):
        assert run(server, weatherman(), QUESTION).final_output == "I was told: from memory"
    assert given == []
    with use(shouts):
        assert run(server, weatherman(), QUESTION).final_output == "I was told: SUNNY IN ROME"


@each_way
def test_policy_rewrites_and_refuses_model_calls_on_the_wire(
    instrumented: Capture, server: ModelServer, run: Way
) -> None:
    @request_intercept(kinds=["llm"])
    def cooler(call: Any) -> Any:
        call.request.parameters["temperature"] = 0.25
        return call.request

    @guardrail(kinds=["llm"])
    def silence(call: Any) -> str:
        return "silence"

    with use(cooler):
        run(server, weatherman(), QUESTION)
    assert [request.body.get("temperature") for request in server.requests[-2:]] == [0.25, 0.25]
    sent = len(server.requests)
    with use(silence), pytest.raises(GuardrailRejected, match="silence"):
        run(server, weatherman(), QUESTION)
    assert len(server.requests) == sent


@each_way
def test_policy_refuses_and_changes_whole_runs(instrumented: Capture, server: ModelServer, run: Way) -> None:
    @guardrail(kinds=["agent"])
    def closed(call: Any) -> str:
        return f"{call.request.name} may not be asked {call.request.input!r}"

    @request_intercept(kinds=["agent"])
    def greet(call: Any) -> Any:
        return replace(call.request, input="Hello?")

    with use(closed), pytest.raises(GuardrailRejected, match="weatherman may not be asked 'How is the weather"):
        run(server, weatherman(), QUESTION)
    with use(greet):
        assert run(server, weatherman(tools=[]), QUESTION).final_output == "Hello."
    assert server.requests[-1].last_user_text == "Hello?"


@each_way
def test_policy_answers_for_whole_runs(instrumented: Capture, server: ModelServer, run: Way) -> None:
    @execution_intercept(kinds=["agent"])
    def canned(call: Any) -> Any:
        return AgentResult("Ask tomorrow.")
        yield

    @execution_intercept(kinds=["agent"])
    def signs(call: Any) -> Any:
        response = yield call
        return f"{response.record.content} Yours, policy"

    sent = len(server.requests)
    with use(canned):
        assert run(server, weatherman(), QUESTION).final_output == "Ask tomorrow."
    assert len(server.requests) == sent
    with use(signs):
        assert run(server, weatherman(tools=[]), "Hello?").final_output == "Hello. Yours, policy"
    assert (named_all(instrumented, "invoke_agent weatherman"))[0]["output.value"] == "Ask tomorrow."


def named_all(capture: Capture, name: str) -> list[dict[str, Any]]:
    return [dict(span.attributes or {}) for span in capture.spans if span.name == name]


def test_a_broken_policy_ends_the_run_with_what_is_wrong(instrumented: Capture, server: ModelServer) -> None:
    @request_intercept(kinds=["tool"])
    def broken(call: Any) -> Any:
        return "not a request"

    for run in (awaited, streamed):
        with use(broken), pytest.raises(MiddlewareError, match="must be a ToolRequest"):
            run(server, weatherman(), QUESTION)


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

    guarded = function_tool(get_weather_of, name_override="get_weather")
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


def get_weather_of(city: str) -> str:
    return f"sunny in {city}"


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
