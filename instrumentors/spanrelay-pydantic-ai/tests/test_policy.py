"""Policy in runs: around tools, around model calls, and around runs as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults, Tool, ToolDenied

from spanrelay import GuardrailRejected, MiddlewareError, execution_intercept, request_intercept, use
from spanrelay.records import AgentResult
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_pydantic_ai import PydanticAIInstrumentor
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.contract.agents import AgentPolicyContract
from spanrelay_testkit.exchange import reply, tool_call
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.outline import tree
from spanrelay_testkit.policy import in_force

from .ways import QUESTION, RUN, WAYS, Way, awaited, get_weather, some_ways, weather_model, weatherman


class TestPolicy(AgentPolicyContract):
    instrumentors = (OpenAIInstrumentor, PydanticAIInstrumentor)
    ways = WAYS
    model = weather_model

    def weatherman(self, get_weather: Any) -> Any:
        return weatherman(get_weather)

    def output_of(self, result: Any) -> Any:
        return result.output


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(weather_model) as running:
        yield running


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


@some_ways
def test_a_tool_may_be_called_again(instrumented: Capture, server: ModelServer, run: Way) -> None:
    given: list[str] = []

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


@pytest.fixture
def denied(tmp_path: Path) -> Iterator[None]:
    """A file that denies the tool is in force."""
    with in_force(tmp_path, '[plugins.policy]\ntools.deny = ["get_*"]\n'):
        yield


@some_ways
@pytest.mark.parametrize("answer", [True, False, ToolDenied("not today")])
def test_what_people_answer_in_the_place_of_a_denied_tool_is_sent(
    instrumented: Capture, server: ModelServer, run: Way, denied: None, answer: Any
) -> None:
    agent = weatherman(Tool(get_weather, requires_approval=True), output_type=[str, DeferredToolRequests])
    waiting = run(server, agent, QUESTION)
    results = DeferredToolResults(approvals={"call_get_weather": answer})

    def go_on() -> str:
        return run(server, agent, None, message_history=waiting.all_messages(), deferred_tool_results=results).output

    if answer is True:
        with pytest.raises(GuardrailRejected, match="'get_weather' is denied"):
            go_on()
    else:
        assert go_on().startswith("I was told: ")


class Told(BaseModel):
    """What a run ends with."""

    text: str


@some_ways
def test_a_conversation_goes_on_in_which_a_denied_tool_was_skipped(
    instrumented: Capture, run: Way, denied: None
) -> None:
    calls = [tool_call("final_result", text="hot"), tool_call("get_weather", city="Rome")]
    agent: Any = Agent(tools=[get_weather], output_type=Told, end_strategy="early")
    with ModelServer(lambda request: reply(tool_calls=calls)) as server:
        first = run(server, agent, QUESTION)
        assert run(server, agent, "And now?", message_history=first.all_messages()).output == Told(text="hot")
