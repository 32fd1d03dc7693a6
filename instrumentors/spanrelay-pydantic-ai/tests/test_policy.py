"""Policy in runs: around tools, around model calls, and around runs as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from spanrelay import GuardrailRejected, MiddlewareError, execution_intercept, guardrail, request_intercept, scope, use
from spanrelay.records import AgentRequest, AgentResult, ToolResult
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_pydantic_ai import PydanticAIInstrumentor
from spanrelay_testkit.capture import Capture, captured
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.outline import named, tree

from .ways import QUESTION, RUN, Way, awaited, each_way, some_ways, weather_model, weatherman

given: list[str] = []


def get_weather(city: str) -> str:
    """The weather of a city."""
    given.append(city)
    return f"sunny in {city}"


@pytest.fixture(autouse=True)
def nothing_given() -> None:
    given.clear()


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(weather_model) as running:
        yield running


# --- tools ---


@each_way
def test_a_refused_tool_ends_the_run_with_the_refusal_itself(
    instrumented: Capture, server: ModelServer, run: Way
) -> None:
    @guardrail(kinds=["tool"])
    def never(call: Any) -> str:
        return f"not {call.request.name}"

    with use(never), pytest.raises(GuardrailRejected, match="not get_weather"):
        run(server, weatherman(get_weather), QUESTION)
    assert given == []
    assert tree(instrumented) == [*RUN[:3], "    run_guardrail never"]
    for name in ("execute_tool get_weather", "invoke_agent weatherman"):
        assert named(instrumented, name).status.description == "guardrail 'never' refused the call: not get_weather"


@each_way
def test_a_refusal_that_answers_is_told_to_the_model(instrumented: Capture, server: ModelServer, run: Way) -> None:
    @guardrail(kinds=["tool"], answers=True)
    def never(call: Any) -> str:
        return "not today"

    told = "guardrail 'never' refused the call: not today"
    with use(never):
        assert run(server, weatherman(get_weather), QUESTION).output == f"I was told: {told}"
    assert given == []
    assert named(instrumented, "execute_tool get_weather").status.description == told


@each_way
def test_rewritten_arguments_reach_the_tool(instrumented: Capture, server: ModelServer, run: Way) -> None:
    @request_intercept(kinds=["tool"])
    def elsewhere(call: Any) -> Any:
        return replace(call.request, arguments={"city": call.request.arguments["city"].replace("Rome", "Oslo")})

    with use(elsewhere):
        assert run(server, weatherman(get_weather), QUESTION).output == "I was told: sunny in Oslo"
    assert given == ["Oslo"]
    tool = named(instrumented, "execute_tool get_weather").attributes or {}
    assert tool["gen_ai.tool.call.arguments"] == '{"city":"Oslo"}'


@dataclass
class Place:
    city: str
    near: list[str]


@some_ways
def test_rewritten_arguments_keep_their_types(instrumented: Capture, run: Way) -> None:
    places: list[Place] = []

    def get_weather(city: Place) -> str:
        places.append(city)
        return "sunny"

    def script(request: Any) -> Any:
        from spanrelay_testkit.exchange import reply, tool_call

        if len(request.body["messages"]) > 2:
            return reply("Done.")
        return reply(tool_calls=[tool_call("get_weather", {"city": "Rome", "near": ["Ostia"]})])

    @request_intercept(kinds=["tool"])
    def elsewhere(call: Any) -> Any:
        call.request.arguments["city"]["city"] = "Oslo"
        return call.request

    with use(elsewhere), ModelServer(script) as server:
        run(server, weatherman(get_weather), QUESTION)
    assert places == [Place("Oslo", ["Ostia"])]


@each_way
def test_an_answer_of_policy_stands_for_the_tool(instrumented: Capture, server: ModelServer, run: Way) -> None:
    @execution_intercept(kinds=["tool"])
    def known(call: Any) -> Any:
        return ToolResult("foggy")
        yield

    with use(known):
        assert run(server, weatherman(get_weather), QUESTION).output == "I was told: foggy"
    assert given == []


@some_ways
def test_what_a_tool_gave_may_be_changed(instrumented: Capture, server: ModelServer, run: Way) -> None:
    @execution_intercept(kinds=["tool"])
    def louder(call: Any) -> Any:
        response = yield call
        return ToolResult(response.record.content.upper())

    with use(louder):
        assert run(server, weatherman(get_weather), QUESTION).output == "I was told: SUNNY IN ROME"
    tool = named(instrumented, "execute_tool get_weather").attributes or {}
    assert tool["gen_ai.tool.call.result"] == "SUNNY IN ROME"


@some_ways
def test_a_tool_may_be_called_again(instrumented: Capture, server: ModelServer, run: Way) -> None:
    def get_weather(city: str) -> str:
        given.append(city)
        if len(given) == 1:
            raise TimeoutError
        return "sunny"

    @execution_intercept(kinds=["tool"])
    def once_more(call: Any) -> Any:
        try:
            return (yield call)
        except TimeoutError:
            return (yield call)

    with use(once_more):
        assert run(server, weatherman(get_weather), QUESTION).output == "I was told: sunny"
    assert given == ["Rome", "Rome"]
    assert tree(instrumented) == RUN


# --- model calls ---


@each_way
def test_policy_for_models_runs_once_on_what_is_sent(instrumented: Capture, server: ModelServer, run: Way) -> None:
    seen: list[Any] = []

    @request_intercept(kinds=["llm"])
    def cooler(call: Any) -> Any:
        seen.append(call.wire)
        call.request.parameters["temperature"] = 0.25
        return call.request

    with use(cooler):
        run(server, weatherman(get_weather), QUESTION)
    assert [request.body["temperature"] for request in server.requests] == [0.25, 0.25]
    assert len(seen) == 2
    assert all("messages" in wire or "input" in wire for wire in seen)


@each_way
def test_a_refused_model_call_sends_nothing(instrumented: Capture, server: ModelServer, run: Way) -> None:
    @guardrail(kinds=["llm"])
    def never(call: Any) -> str:
        return "no models"

    with use(never), pytest.raises(GuardrailRejected, match="no models"):
        run(server, weatherman(get_weather), QUESTION)
    assert server.requests == []
    assert tree(instrumented) == [*RUN[:2], "    run_guardrail never"]
    assert not named(instrumented, "chat gpt-5").status.is_unset


# --- runs ---


@each_way
def test_a_refused_agent_asks_no_model(instrumented: Capture, server: ModelServer, run: Way) -> None:
    @guardrail(kinds=["agent"])
    def never(call: Any) -> str:
        return f"not {call.request.name}, about {call.request.input}"

    with use(never), pytest.raises(GuardrailRejected, match=f"not weatherman, about {QUESTION[:-1]}"):
        run(server, weatherman(get_weather), QUESTION)
    assert server.requests == []
    assert tree(instrumented) == ["invoke_agent weatherman", "  run_guardrail never"]


@each_way
def test_what_an_agent_is_asked_may_be_changed(instrumented: Capture, server: ModelServer, run: Way) -> None:
    @request_intercept(kinds=["agent"])
    def other(call: Any) -> Any:
        return AgentRequest(call.request.name, "And in Oslo?")

    with use(other):
        run(server, weatherman(get_weather), QUESTION)
    assert "And in Oslo?" in str(server.requests[0].body)
    assert QUESTION not in str(server.requests[0].body)
    assert (named(instrumented, "invoke_agent weatherman").attributes or {})["input.value"] == "And in Oslo?"


@each_way
def test_an_answer_of_policy_stands_for_the_run(instrumented: Capture, server: ModelServer, run: Way) -> None:
    @execution_intercept(kinds=["agent"])
    def known(call: Any) -> Any:
        return AgentResult("It rains.")
        yield

    with use(known):
        assert run(server, weatherman(get_weather), QUESTION).output == "It rains."
    assert server.requests == []
    assert (named(instrumented, "invoke_agent weatherman").attributes or {})["output.value"] == "It rains."


@some_ways
def test_what_a_run_ends_with_may_be_changed(instrumented: Capture, server: ModelServer, run: Way) -> None:
    @execution_intercept(kinds=["agent"])
    def louder(call: Any) -> Any:
        response = yield call
        return AgentResult(response.record.content.upper())

    with use(louder):
        result = run(server, weatherman(get_weather), QUESTION)
    assert result.output == "I WAS TOLD: SUNNY IN ROME"
    assert len(result.all_messages()) == 4


def test_a_run_happens_once(instrumented: Capture, server: ModelServer) -> None:
    @execution_intercept(kinds=["agent"])
    def twice(call: Any) -> Any:
        yield call
        return (yield call)

    with use(twice), pytest.raises(MiddlewareError, match="happens once"):
        awaited(server, weatherman(get_weather), QUESTION)


@pytest.mark.parametrize("kind", ["agent", "llm", "tool"])
@some_ways
def test_policy_holds_where_nothing_is_recorded(server: ModelServer, run: Way, kind: Any) -> None:
    @guardrail(kinds=[kind])
    def never(call: Any) -> str:
        return "not today"

    with captured(sampler=ALWAYS_OFF) as spans:
        instrumentors = (OpenAIInstrumentor(), PydanticAIInstrumentor())
        for instrumentor in instrumentors:
            instrumentor.instrument(tracer_provider=spans.provider)
        try:
            with use(never), pytest.raises(GuardrailRejected, match="not today"):
                run(server, weatherman(get_weather), QUESTION)
            assert run(server, weatherman(), QUESTION).output == "I was told: sunny in Rome"
        finally:
            for instrumentor in instrumentors:
                instrumentor.uninstrument()
        assert spans.spans == ()


@some_ways
def test_policy_of_a_scope_holds_for_what_runs_in_it(instrumented: Capture, server: ModelServer, run: Way) -> None:
    @guardrail(kinds=["tool"])
    def never(call: Any) -> str:
        return "not here"

    with scope("strict", "chain") as strict:
        strict.use(never)
        with pytest.raises(GuardrailRejected, match="not here"):
            run(server, weatherman(get_weather), QUESTION)
    assert run(server, weatherman(get_weather), QUESTION).output == "I was told: sunny in Rome"
