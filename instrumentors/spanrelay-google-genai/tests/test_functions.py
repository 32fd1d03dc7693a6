"""Functions that the SDK calls by itself: each round is a model call, each function a call of a tool, under policy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from spanrelay import GuardrailRejected, MiddlewareError, execution_intercept, guardrail, request_intercept, scope, use
from spanrelay.records import ToolResult
from spanrelay_google_genai import GoogleGenAIInstrumentor
from spanrelay_testkit.capture import Capture, at_work
from spanrelay_testkit.conformance.trajectories import complaints_of, documents_of
from spanrelay_testkit.exchange import Answer, Request
from spanrelay_testkit.model_server import ModelServer, reply, tool_call
from spanrelay_testkit.outline import tree

from .ways import WAYS, whole

pytestmark = [
    pytest.mark.parametrize("ask", WAYS, ids=lambda way: way.__name__),
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
]
MODEL_CALL, TOOL_CALL = "generate_content gemini-3-flash", "execute_tool get_weather"


def asks_for_the_weather(request: Request) -> Answer:
    """Asks for the weather in two cities at once, and then says what it was told."""
    told = [
        part["functionResponse"]["response"] for part in request.body["contents"][-1]["parts"] if "text" not in part
    ]
    if told:
        return reply(json.dumps(told))
    return reply(tool_calls=[tool_call("get_weather", city="Rome"), tool_call("get_weather", city="Oslo")])


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(asks_for_the_weather) as running:
        yield running


@pytest.fixture
def instrumented(capture: Capture) -> Iterator[Capture]:
    with at_work(capture, GoogleGenAIInstrumentor):
        yield capture


class Weather:
    """What is known of the weather, and who asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    @property
    def tools(self) -> list[Any]:
        def get_weather(city: str) -> str:
            """The weather of a city."""
            self.asked.append(city)
            if city == "Bergen":
                raise LookupError("no forecast")
            return f"sunny in {city}"

        return [get_weather]


@pytest.fixture
def weather() -> Weather:
    return Weather()


def test_each_round_is_a_span_and_so_is_each_function(
    ask: Any, server: ModelServer, weather: Weather, instrumented: Capture
) -> None:
    told = ask(server.address, "How is it?", tools=weather.tools)
    assert json.loads(told) == [{"result": "sunny in Rome"}, {"result": "sunny in Oslo"}]
    assert sorted(span.name for span in instrumented.spans) == [TOOL_CALL, TOOL_CALL, MODEL_CALL, MODEL_CALL]
    given = [
        (span.attributes or {})["gen_ai.tool.call.arguments"] for span in instrumented.spans if span.name == TOOL_CALL
    ]
    assert given == ['{"city":"Rome"}', '{"city":"Oslo"}']


def test_parallel_calls_of_one_function_that_have_no_ids_each_get_their_result(
    ask: Any, server: ModelServer, weather: Weather, instrumented: Capture
) -> None:
    with scope("weatherman", "agent", session="s-1"):
        ask(server.address, "How is it?", tools=weather.tools)
    assert tree(instrumented)[0] == "invoke_agent weatherman"
    [document] = documents_of(instrumented.spans)
    assert list(complaints_of([document])) == []
    [step] = [step for step in document["steps"] if step.get("tool_calls")]
    cities = {call["tool_call_id"]: call["arguments"]["city"] for call in step["tool_calls"]}
    results = {cities[each["source_call_id"]]: each["content"] for each in step["observation"]["results"]}
    assert results == {"Rome": "sunny in Rome", "Oslo": "sunny in Oslo"}
    assert len(document["steps"]) == 3


def test_a_function_that_fails_is_told_of_as_the_model_is(
    ask: Any, server: ModelServer, weather: Weather, instrumented: Capture
) -> None:
    @request_intercept(kinds=["tool"])
    def elsewhere(call: Any) -> Any:
        return replace(call.request, arguments={"city": "Bergen"})

    with use(elsewhere):
        told = json.loads(ask(server.address, "How is it?", tools=weather.tools))
    assert weather.asked == ["Bergen", "Bergen"]
    assert all("no forecast" in each["error"] for each in told)
    tool = next(span for span in instrumented.spans if span.name == TOOL_CALL)
    assert (tool.attributes or {})["error.type"] == "LookupError"
    assert tool.status.description == "no forecast"


def test_a_refused_function_ends_the_run_with_the_refusal_itself(
    ask: Any, server: ModelServer, weather: Weather, instrumented: Capture
) -> None:
    @guardrail(kinds=["tool"])
    def never(call: Any) -> str:
        return f"not {call.request.name}"

    with use(never), pytest.raises(GuardrailRejected, match="not get_weather"):
        ask(server.address, "How is it?", tools=weather.tools)
    assert weather.asked == []
    assert len(server.requests) == 1
    assert [span.name for span in instrumented.spans].count(TOOL_CALL) == 1  # the second is not even tried


def test_a_refusal_that_answers_is_told_to_the_model(
    ask: Any, server: ModelServer, weather: Weather, instrumented: Capture
) -> None:
    @guardrail(kinds=["tool"], answers=True)
    def never(call: Any) -> str:
        return "not today"

    with use(never):
        told = json.loads(ask(server.address, "How is it?", tools=weather.tools))
    assert told == [{"result": "guardrail 'never' refused the call: not today"}] * 2
    assert weather.asked == []


def test_policy_answers_in_the_place_of_a_function_and_changes_what_it_gave(
    ask: Any, server: ModelServer, weather: Weather, instrumented: Capture
) -> None:
    @execution_intercept(kinds=["tool"])
    def known(call: Any) -> Any:
        if call.request.arguments["city"] == "Rome":
            return ToolResult("foggy")
        response = yield call
        return ToolResult(response.record.content.upper())

    with use(known):
        told = json.loads(ask(server.address, "How is it?", tools=weather.tools))
    assert told == [{"result": "foggy"}, {"result": "SUNNY IN OSLO"}]
    assert weather.asked == ["Oslo"]


def test_policy_that_breaks_its_word_ends_the_run(
    ask: Any, server: ModelServer, weather: Weather, instrumented: Capture
) -> None:
    @request_intercept(kinds=["tool"])
    def broken(call: Any) -> Any:
        return "not a request"

    with use(broken), pytest.raises(MiddlewareError, match="must be a ToolRequest"):
        ask(server.address, "How is it?", tools=weather.tools)
    assert weather.asked == []


def test_the_run_is_the_bare_sdks(ask: Any, server: ModelServer, weather: Weather, capture: Capture) -> None:
    bare = ask(server.address, "How is it?", tools=weather.tools)
    first, server.requests[:] = [request.raw for request in server.requests], []
    with at_work(capture, GoogleGenAIInstrumentor):
        assert ask(server.address, "How is it?", tools=weather.tools) == bare
    assert [request.raw for request in server.requests] == first
    assert ask is not whole or len(first) == 2
