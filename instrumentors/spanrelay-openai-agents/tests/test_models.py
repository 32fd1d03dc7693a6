"""Models that are no clients of a patched SDK: one span for each call, and policy around it, once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import openai
import pytest
from agents import (
    Agent,
    Model,
    ModelResponse,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    OpenAIResponsesWSModel,
    Usage,
    function_tool,
)
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseTextDeltaEvent,
)

from spanrelay import (
    GuardrailRejected,
    MiddlewareError,
    execution_intercept,
    guardrail,
    request_intercept,
    stream_intercept,
    use,
)
from spanrelay.records import Message, Text
from spanrelay.records import ModelResponse as Record
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_openai_agents.models import is_left_to_client
from spanrelay_testkit.capture import Capture, asked, said
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.outline import tree

from .ways import QUESTION, Way, awaited, each_way, streamed, weather_model


class Fake(Model):
    """A model in memory: asks for the weather where it can and knows none, and says what it was asked with."""

    model = "acme/fake-1"

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def _answer(self, system: Any, given: Any, settings: ModelSettings, tools: Any, handoffs: Any) -> list[Any]:
        offered = [tool.name for tool in tools] + [handoff.tool_name for handoff in handoffs]
        self.asked.append({"system": system, "temperature": settings.temperature, "offered": offered})
        if offered and not any(item.get("type") == "function_call_output" for item in given):
            return [ResponseFunctionToolCall(arguments="{}", call_id="call_1", name=offered[0], type="function_call")]
        text = ResponseOutputText(annotations=[], text="It is sunny.", type="output_text")
        return [ResponseOutputMessage(id="msg_1", content=[text], role="assistant", status="completed", type="message")]

    async def get_response(
        self, system_instructions: Any, input: Any, model_settings: Any, tools: Any, *args: Any, **more: Any
    ) -> ModelResponse:
        output = self._answer(system_instructions, input, model_settings, tools, more["handoffs"])
        return ModelResponse(output=output, usage=Usage(1, 7, output_tokens=3, total_tokens=10), response_id="r_1")

    async def stream_response(self, *args: Any, **_: Any) -> AsyncIterator[Any]:
        output = self._answer(args[0], args[1], args[2], args[3], args[5])
        where = {"content_index": 0, "item_id": "msg_1", "logprobs": [], "output_index": 0}
        for number, word in enumerate(("It is ", "sunny.")):
            if output[0].type == "message":
                yield ResponseTextDeltaEvent(
                    delta=word, sequence_number=number, type="response.output_text.delta", **where
                )
        response = Response(
            id="r_1",
            created_at=0,
            model="fake-1",
            object="response",
            output=output,
            parallel_tool_calls=True,
            tool_choice="auto",
            tools=[],
        )
        yield ResponseCompletedEvent(response=response, sequence_number=9, type="response.completed")


@function_tool
def get_weather() -> str:
    """The weather."""
    return "sunny"


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer(weather_model) as running:
        yield running


def agent(model: Any, *tools: Any) -> Agent[Any]:
    return Agent("weatherman", instructions="Tell the weather.", model=model, tools=list(tools))


@each_way
def test_each_call_of_a_model_of_ones_own_is_a_span(instrumented: Capture, server: ModelServer, run: Way) -> None:
    assert run(server, agent(Fake(), get_weather), QUESTION).final_output == "It is sunny."
    assert tree(instrumented) == [
        "invoke_agent weatherman",
        "  chat acme/fake-1",
        "  execute_tool get_weather",
        "  chat acme/fake-1",
    ]
    first, second = instrumented.of("LLM")
    assert (asked(first), said(second)) == (QUESTION, "It is sunny.")
    attributes = dict(first.attributes or {})
    assert attributes["gen_ai.provider.name"] == "acme"
    assert '"name":"get_weather"' in str(attributes["gen_ai.tool.definitions"])
    assert "Tell the weather." in str(attributes["gen_ai.system_instructions"])


def test_what_such_a_model_used_is_counted(instrumented: Capture, server: ModelServer) -> None:
    awaited(server, agent(Fake()), QUESTION)
    attributes = dict(instrumented.of("LLM")[0].attributes or {})
    assert (attributes["gen_ai.usage.input_tokens"], attributes["gen_ai.usage.output_tokens"]) == (7, 3)


@each_way
def test_policy_changes_what_such_a_model_is_asked(instrumented: Capture, server: ModelServer, run: Way) -> None:
    @request_intercept(kinds=["llm"])
    def other(call: Any) -> Any:
        call.request.parameters["temperature"] = 0.25
        return replace(call.request, system=[Text("Be brief.")], tools=[])

    fake = Fake()
    with use(other):
        run(server, agent(fake, get_weather), QUESTION)
    assert fake.asked == [{"system": "Be brief.", "temperature": 0.25, "offered": []}]


@each_way
def test_policy_refuses_and_answers_for_such_a_model(instrumented: Capture, server: ModelServer, run: Way) -> None:
    @guardrail(kinds=["llm"])
    def never(call: Any) -> str:
        return f"no {call.request.model}"

    @execution_intercept(kinds=["llm"])
    def canned(call: Any) -> Any:
        return Record(messages=[Message("assistant", [Text("From memory.")])])
        yield

    fake = Fake()
    with use(never), pytest.raises(GuardrailRejected, match="no acme/fake-1"):
        run(server, agent(fake), QUESTION)
    with use(canned):
        assert run(server, agent(fake), QUESTION).final_output == "From memory."
    assert fake.asked == []


@each_way
def test_the_model_itself_is_not_policys_to_change(instrumented: Capture, server: ModelServer, run: Way) -> None:
    @request_intercept(kinds=["llm"])
    def other(call: Any) -> Any:
        return replace(call.request, model="another")

    with use(other), pytest.raises(MiddlewareError, match="'model'"):
        run(server, agent(Fake()), QUESTION)


def test_stream_intercepts_see_the_events_of_such_a_model(instrumented: Capture, server: ModelServer) -> None:
    seen: list[Any] = []

    @stream_intercept(kinds=["llm"])
    def look(call: Any, event: Any) -> Any:
        seen.append(event["type"])
        return event

    with use(look):
        assert streamed(server, agent(Fake()), QUESTION).final_output == "It is sunny."
    assert seen == ["response.output_text.delta", "response.output_text.delta", "response.completed"]


class Through(Fake):
    """A model of the application's that sends through a client of the SDK's all the same."""

    def __init__(self, server: ModelServer) -> None:
        super().__init__()
        self._url = server.url

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        async with openai.AsyncOpenAI(base_url=self._url, api_key="none") as client:
            return await OpenAIResponsesModel("gpt-5", client).get_response(*args, **kwargs)


def test_a_client_beneath_fills_the_span_and_policy_judges_the_model_that_is_asked_too(
    instrumented: Capture, server: ModelServer
) -> None:
    seen: list[str] = []

    @guardrail(kinds=["llm"])
    def look(call: Any) -> None:
        seen.append(call.request.model)

    with use(look):
        awaited(server, agent(Through(server)), QUESTION)
    assert seen == ["acme/fake-1", "gpt-5"]
    [call] = instrumented.of("LLM")
    assert (call.attributes or {})["gen_ai.request.model"] == "gpt-5"
    assert (call.attributes or {})["gen_ai.provider.name"] == "openai"


@each_way
def test_where_the_openai_sdk_is_not_instrumented_the_span_is_made_here(
    instrumented: Capture, server: ModelServer, run: Way
) -> None:
    OpenAIInstrumentor().uninstrument()
    run(server, agent("gpt-5"), QUESTION)
    assert tree(instrumented) == ["invoke_agent weatherman", "  chat gpt-5"]
    assert said(instrumented.of("LLM")[0]) == "Hello."
    OpenAIInstrumentor().instrument(tracer_provider=instrumented.provider)


def test_what_a_model_sends_over_a_websocket_is_seen_at_the_model(instrumented: Capture) -> None:
    client = openai.AsyncOpenAI(base_url="http://127.0.0.1:1", api_key="none")
    assert is_left_to_client(OpenAIResponsesModel("gpt-5", client))
    assert is_left_to_client(OpenAIChatCompletionsModel("gpt-5", client))
    assert not is_left_to_client(OpenAIResponsesWSModel("gpt-5", client))
    assert not is_left_to_client(Fake())
