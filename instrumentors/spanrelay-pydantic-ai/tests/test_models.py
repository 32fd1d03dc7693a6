"""Models that send nothing through a patched SDK, and models that only pass requests on: one span for each request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.context import get_current
from pydantic_ai import (
    Agent,
    BinaryContent,
    ImageUrl,
    InstrumentationSettings,
    ModelAPIError,
    ModelResponse,
    TextPart,
    ToolCallPart,
)
from pydantic_ai.direct import model_request
from pydantic_ai.messages import ModelRequest, PartEndEvent, PartStartEvent
from pydantic_ai.models import CompletedStreamedResponse, Model
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.models.instrumented import InstrumentedModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel, OpenAIResponsesModelSettings
from pydantic_ai.models.test import TestModel
from pydantic_ai.models.wrapper import WrapperModel

from spanrelay import (
    GuardrailRejected,
    MiddlewareError,
    Settings,
    activate,
    execution_intercept,
    guardrail,
    request_intercept,
    stream_intercept,
    use,
)
from spanrelay.instrumentation import foreign
from spanrelay.records import Message, Text
from spanrelay.records import ModelResponse as Answer
from spanrelay_testkit.capture import Capture, asked, said
from spanrelay_testkit.exchange import error, raw, reply
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.outline import named, traces, tree

from .ways import QUESTION, at_work, weather_model, weatherman

LOCAL = ["invoke_agent weatherman", "  chat local", "  execute_tool get_weather", "  chat local"]
TOLD: list[Any] = []


def speak(messages: list[Any], info: AgentInfo) -> ModelResponse:
    TOLD.append((messages, info))
    parts = messages[-1].parts
    if any(part.part_kind == "tool-return" for part in parts):
        return ModelResponse([TextPart(f"I was told: {parts[-1].content}")])
    return ModelResponse([ToolCallPart("get_weather", {"city": "Rome"}, "call_1")])


async def speak_slowly(messages: list[Any], info: AgentInfo) -> AsyncIterator[Any]:
    for part in speak(messages, info).parts:
        if isinstance(part, ToolCallPart):
            yield {0: DeltaToolCall(part.tool_name, part.args_as_json_str(), tool_call_id=part.tool_call_id)}
        else:
            for word in part.content.split():
                yield f"{word} "


local = FunctionModel(speak, stream_function=speak_slowly, model_name="local")


@pytest.fixture(autouse=True)
def nothing_told() -> None:
    TOLD.clear()


def whole(agent: Any, given: Any = QUESTION, **options: Any) -> Any:
    """`await agent.run(...)`."""
    return asyncio.run(agent.run(given, **options)).output


def read(agent: Any, given: Any = QUESTION, **options: Any) -> Any:
    """`agent.run_stream(...)`."""

    async def go() -> Any:
        async with agent.run_stream(given, **options) as result:
            return "".join([text async for text in result.stream_text(delta=True, debounce_by=None)]).strip()

    return asyncio.run(go())


both = pytest.mark.parametrize("run", [whole, read])


@both
def test_a_model_of_the_applications_own_is_one_span(instrumented: Capture, run: Callable[..., Any]) -> None:
    assert run(weatherman(model=local)) == "I was told: sunny in Rome"
    assert tree(instrumented) == LOCAL
    assert traces(instrumented) == 1
    first, second = instrumented.of("LLM")
    assert asked(first) == f"Tell the weather.{QUESTION}" or asked(first) == QUESTION
    assert said(second).strip() == "I was told: sunny in Rome"
    attributes = first.attributes or {}
    assert attributes["gen_ai.provider.name"] == "function"
    assert "get_weather" in str(attributes["gen_ai.output.messages"])
    assert [tool["name"] for tool in json.loads(str(attributes["gen_ai.tool.definitions"]))] == ["get_weather"]
    if run is read:
        assert (second.attributes or {})["gen_ai.response.time_to_first_chunk"]


@both
def test_policy_runs_once_at_such_a_model(instrumented: Capture, run: Callable[..., Any]) -> None:
    seen: list[str] = []

    @request_intercept(kinds=["llm"])
    def cooler(call: Any) -> Any:
        seen.append(call.request.model)
        call.request.parameters["temperature"] = 0.25
        call.request.messages[-1].parts[0] = replace(call.request.messages[-1].parts[0])
        return call.request

    with use(cooler):
        run(weatherman(model=local, model_settings={"temperature": 1.0, "max_tokens": 7}))
    assert seen == ["local", "local"]
    assert [info.model_settings for _, info in TOLD] == [{"temperature": 0.25, "max_tokens": 7}] * 2
    assert [span.attributes["gen_ai.request.temperature"] for span in instrumented.of("LLM")] == [0.25, 0.25]


@both
def test_a_refusal_asks_no_such_model(instrumented: Capture, run: Callable[..., Any]) -> None:
    @guardrail(kinds=["llm"])
    def never(call: Any) -> str:
        return "no models"

    with use(never), pytest.raises(GuardrailRejected, match="no models"):
        run(weatherman(model=local))
    assert TOLD == []


@both
def test_what_such_a_model_is_told_may_be_changed(instrumented: Capture, run: Callable[..., Any]) -> None:
    @request_intercept(kinds=["llm"])
    def otherwise(call: Any) -> Any:
        for message in call.request.messages:
            message.parts = [
                Text(part.text.replace("Rome", "Oslo").replace("Tell", "Sing")) if isinstance(part, Text) else part
                for part in message.parts
            ]
        return call.request

    history = [ModelRequest.user_text_prompt("Before Rome."), ModelResponse([TextPart("Before.")])]
    with use(otherwise):
        run(weatherman(model=local), message_history=history)
    messages, info = TOLD[0]
    assert [part.content for message in messages for part in message.parts] == [
        "Before Oslo.",
        "Before.",
        QUESTION.replace("Rome", "Oslo"),
    ]
    assert messages[1] is history[1], "what policy left alone is the very object"
    assert info.instructions == "Sing the weather."
    assert len(TOLD[1][0]) == 5


@both
def test_policy_may_take_tools_from_a_request_and_put_none_there(
    instrumented: Capture, run: Callable[..., Any]
) -> None:
    @request_intercept(kinds=["llm"])
    def fewer(call: Any) -> Any:
        call.request.tools = []
        return call.request

    @request_intercept(kinds=["llm"])
    def more(call: Any) -> Any:
        call.wire["tools"].append({"type": "function", "function": {"name": "other"}})
        return call.wire

    with use(fewer):
        run(weatherman(model=local))
    assert TOLD[0][1].function_tools == []
    with use(more), pytest.raises(MiddlewareError, match="nothing could run them"):
        run(weatherman(model=local))


@both
def test_a_setting_that_policy_takes_away_is_gone(instrumented: Capture, run: Callable[..., Any]) -> None:
    @request_intercept(kinds=["llm"])
    def plain(call: Any) -> Any:
        del call.request.parameters["temperature"]
        return call.request

    with use(plain):
        run(weatherman(model=local, model_settings={"temperature": 1.0, "max_tokens": 7}))
    assert [info.model_settings for _, info in TOLD] == [{"max_tokens": 7}] * 2


def test_a_setting_of_the_model_itself_is_not_left_in_silence(instrumented: Capture) -> None:
    @request_intercept(kinds=["llm"])
    def plain(call: Any) -> Any:
        del call.request.parameters["temperature"]
        return call.request

    stubborn = FunctionModel(speak, model_name="local", settings={"temperature": 1.0})
    with use(plain), pytest.raises(MiddlewareError, match="cannot take 'temperature' from a call of 'local'"):
        whole(weatherman(model=stubborn))
    assert TOLD == []


def test_what_policy_tells_a_model_is_recorded_and_sent_again(instrumented: Capture) -> None:
    @request_intercept(kinds=["llm"])
    def firmer(call: Any) -> Any:
        call.wire["messages"][0]["content"] = "Sing the weather."
        return call.wire

    @execution_intercept(kinds=["llm"])
    def twice(call: Any) -> Any:
        yield call
        return (yield call)

    with use(firmer), use(twice):
        whole(weatherman(model=local))
    assert [info.instructions for _, info in TOLD] == ["Sing the weather."] * 4
    recorded = [asked(span) for span in instrumented.spans if span.name == "chat local"]
    assert ["Sing the weather." in each for each in recorded] == [True, True]


def test_another_model_is_not_policys_to_choose(instrumented: Capture) -> None:
    @request_intercept(kinds=["llm"])
    def other(call: Any) -> Any:
        call.request.model = "other"
        return call.request

    with use(other), pytest.raises(MiddlewareError, match="cannot change 'model' of a call of 'local'"):
        whole(weatherman(model=local))


@both
def test_an_answer_of_policy_stands_for_such_a_model(instrumented: Capture, run: Callable[..., Any]) -> None:
    @execution_intercept(kinds=["llm"])
    def known(call: Any) -> Any:
        return Answer(messages=[Message("assistant", [Text("It rains.")])])
        yield

    with use(known):
        assert run(weatherman(model=local)) == "It rains."
    assert TOLD == []
    assert said(named(instrumented, "chat local")) == "It rains."


@both
def test_a_whole_answer_may_be_judged_and_changed(instrumented: Capture, run: Callable[..., Any]) -> None:
    @execution_intercept(kinds=["llm"], buffered=True)
    def louder(call: Any) -> Any:
        response = yield call
        record = response.record
        for part in record.messages[0].parts:
            if isinstance(part, Text):
                part.text = part.text.upper()
        return record

    with use(louder):
        assert run(weatherman(model=local)).strip() == "I WAS TOLD: SUNNY IN ROME"
    assert tree(instrumented) == LOCAL
    assert said(instrumented.of("LLM")[1]).strip() == "I WAS TOLD: SUNNY IN ROME"


@both
def test_a_whole_answer_that_is_judged_and_left_is_the_models(instrumented: Capture, run: Callable[..., Any]) -> None:
    seen: list[Any] = []

    @execution_intercept(kinds=["llm"], buffered=True)
    def judge(call: Any) -> Any:
        response = yield call
        seen.append(response.record.messages[0].finish_reason)
        return response

    with use(judge):
        assert run(weatherman(model=local)) == "I was told: sunny in Rome"
    assert len(seen) == 2


def test_stream_intercepts_stand_in_the_stream_of_such_a_model(instrumented: Capture) -> None:
    @stream_intercept
    def louder(call: Any, event: Any) -> Any:
        for choice in event["choices"]:
            if choice["delta"].get("content"):
                choice["delta"]["content"] = choice["delta"]["content"].upper()
        return event

    with use(louder):
        assert read(weatherman(model=local)) == "I WAS TOLD: SUNNY IN ROME"
    assert tree(instrumented) == LOCAL
    assert said(instrumented.of("LLM")[1]).strip() == "I WAS TOLD: SUNNY IN ROME"


@both
def test_a_model_that_raises_fails_its_span_with_the_very_error(instrumented: Capture, run: Callable[..., Any]) -> None:
    mine = ValueError("mine")

    def broken(messages: Any, info: Any) -> Any:
        raise mine

    async def breaking(messages: Any, info: Any) -> Any:
        raise mine
        yield

    model = FunctionModel(broken, stream_function=breaking, model_name="local")
    with pytest.raises(ValueError) as raised:
        run(weatherman(model=model))
    assert raised.value is mine
    assert named(instrumented, "chat local").status.description == "mine"


class Kept(FunctionModel):
    """Is asked by itself: its own method calls that of the class it derives from."""

    async def request(self, *args: Any, **kwargs: Any) -> Any:
        return await super().request(*args, **kwargs)


class Renamed(OpenAIChatModel):
    """Sends through a patched client, from a method of the application's own."""

    async def request(self, messages: Any, settings: Any, parameters: Any) -> Any:
        return await super().request(messages, settings, parameters)


class Replaying(Model[Any]):
    """Answers a stream with one that replays what has been there before."""

    model_name = "local"
    system = "mine"

    async def request(self, *args: Any, **kwargs: Any) -> ModelResponse:
        return ModelResponse([TextPart("As before.")])

    @asynccontextmanager
    async def request_stream(self, messages: Any, settings: Any, parameters: Any, *rest: Any) -> Any:
        part = TextPart("As before.")
        events: list[Any] = [PartStartEvent(index=0, part=part), PartEndEvent(index=0, part=part)]
        yield CompletedStreamedResponse(
            ModelResponse([part]), model_request_parameters=parameters, replay_events=events
        )


@both
def test_an_answer_that_is_replayed_is_whole(instrumented: Capture, run: Callable[..., Any]) -> None:
    assert run(Agent(Replaying(), name="parrot")) == "As before."
    assert said(named(instrumented, "chat local")) == "As before."
    assert "spanrelay.incomplete" not in (named(instrumented, "chat local").attributes or {})


class Quiet(WrapperModel):
    """Only passes requests on."""


@pytest.mark.parametrize("made", [lambda: Kept(speak, model_name="local"), lambda: Quiet(local)])
def test_a_request_that_passes_through_several_methods_is_one_span(
    instrumented: Capture, made: Callable[[], Any]
) -> None:
    seen: list[Any] = []

    @guardrail(kinds=["llm"])
    def count(call: Any) -> None:
        seen.append(call)

    with use(count):
        whole(weatherman(model=made()))
    assert [line for line in tree(instrumented) if "guardrail" not in line] == LOCAL
    assert len(seen) == 2


def test_policy_judges_what_is_sent_too_where_the_application_has_overridden_the_sending(instrumented: Capture) -> None:
    seen: list[Any] = []

    @guardrail(kinds=["llm"])
    def count(call: Any) -> None:
        seen.append(call.wire)

    with use(count), ModelServer(weather_model) as server:
        at_work(server, lambda model: weatherman().run(QUESTION, model=model), Renamed)
    assert len(seen) == 4  # each of two requests, as the framework says it and as it is sent
    assert [line for line in tree(instrumented) if "chat" in line] == ["  chat gpt-5"] * 2


@pytest.mark.parametrize("stream", [False, True])
def test_each_request_that_a_fallback_sends_is_one_span_and_passes_policy_once(
    instrumented: Capture, stream: bool
) -> None:
    seen: list[Any] = []

    @request_intercept(kinds=["llm"])
    def count(call: Any) -> None:
        seen.append(call.wire["model"])

    async def go(model: Any) -> Any:
        agent = Agent(FallbackModel(model, OpenAIChatModel("gpt-5-mini", provider=model._provider)), name="greeter")
        if not stream:
            return (await agent.run(QUESTION)).output
        async with agent.run_stream(QUESTION) as result:
            return await result.get_output()

    with use(count), ModelServer([error(503), reply("Hello.")]) as server:
        assert at_work(server, go) == "Hello."
    assert seen == ["gpt-5", "gpt-5-mini"]
    assert tree(instrumented) == ["invoke_agent greeter", "  chat gpt-5", "  chat gpt-5-mini"]
    assert not named(instrumented, "chat gpt-5").status.is_unset
    assert named(instrumented, "chat gpt-5-mini").status.is_unset


@both
def test_so_is_one_whose_models_send_nothing_through_a_patched_client(
    instrumented: Capture, run: Callable[..., Any]
) -> None:
    def broken(messages: Any, info: Any) -> Any:
        raise ModelAPIError("first", "broken")

    async def breaking(messages: Any, info: Any) -> Any:
        raise ModelAPIError("first", "broken")
        yield

    seen: list[Any] = []

    @request_intercept(kinds=["llm"])
    def count(call: Any) -> None:
        seen.append(call.wire["model"])

    first = FunctionModel(broken, stream_function=breaking, model_name="first")
    with use(count):
        run(weatherman(model=FallbackModel(first, local)))
    assert seen == ["first", "local", "first", "local"]
    assert [line for line in tree(instrumented) if "chat" in line] == ["  chat first", "  chat local"] * 2


@pytest.mark.swallows
def test_a_model_whose_server_cannot_be_read_is_asked(instrumented: Capture, caplog: Any) -> None:
    class Somewhere(FunctionModel):
        @property
        def base_url(self) -> str:
            return "http://somewhere:{port}"

    whole(weatherman(model=Somewhere(speak, model_name="local")))
    assert tree(instrumented) == LOCAL
    caplog.clear()


def test_a_model_that_is_asked_without_an_agent_is_one_span(instrumented: Capture) -> None:
    async def go() -> Any:
        return await model_request(TestModel(), [ModelRequest.user_text_prompt("Hello?")])

    assert asyncio.run(go()).parts[0].content == "success (no tool calls)"
    assert tree(instrumented) == ["chat test"]
    assert said(instrumented.span) == "success (no tool calls)"


def test_what_a_user_shows_is_recorded(instrumented: Capture) -> None:
    given = [
        "What is this?",
        ImageUrl("https://example.com/a.png"),
        BinaryContent(b"sound", media_type="audio/wav"),
        BinaryContent(b"text", media_type="application/pdf"),
    ]
    whole(weatherman(model=local), given)
    [message] = json.loads(str((instrumented.of("LLM")[0].attributes or {})["gen_ai.input.messages"]))[-1:]
    kinds = [(part["type"], part.get("modality")) for part in message["parts"]]
    assert kinds == [("text", None), ("uri", "image"), ("blob", "audio"), ("blob", "document")]


def test_asking_after_a_job_in_the_background_sends_nothing_that_policy_has_to_judge(
    instrumented: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    @guardrail(kinds=["llm"])
    def count(call: Any) -> None:
        seen.append(call.wire)

    monkeypatch.setattr("pydantic_ai.models.openai._responses_model._OPENAI_BACKGROUND_POLL_INTERVAL", 0.0)
    with use(count), ModelServer([raw(json.dumps(job("queued")).encode())]) as server:
        server.keep_response(job("completed"))
        agent = Agent(name="patient", model_settings=OpenAIResponsesModelSettings(openai_background=True))
        result = at_work(server, lambda model: agent.run(QUESTION, model=model), OpenAIResponsesModel)
        methods = [request.method for request in server.requests]
    assert result.output == "At last."
    assert methods == ["POST", "GET"]
    assert [wire["background"] for wire in seen] == [True]
    assert said(instrumented.of("LLM")[-1]) == "At last."


def job(status: str) -> dict[str, Any]:
    """A response in the background: what it says it says when it is done."""
    content = [{"type": "output_text", "text": "At last.", "annotations": []}]
    message = {"id": "m", "type": "message", "role": "assistant", "status": "completed", "content": content}
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "gpt-5",
        "status": status,
        "background": True,
        "output": [message] if status == "completed" else [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }


# --- the framework's own instrumentation ---


@pytest.fixture
def native() -> Iterator[None]:
    yield
    Agent.instrument_all(False)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("how", ["every agent", "the model"])
@both
def test_the_frameworks_own_spans_are_no_second_ones(
    native: None, how: str, keep: bool, run: Callable[..., Any], caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    monkeypatch.setattr(foreign, "_told", set())
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from spanrelay_pydantic_ai import PydanticAIInstrumentor

    before, spans, provider = get_current(), InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    chosen = Settings(trajectories="off", metrics=False, quiet=True, foreign_spans="keep" if keep else "stand_down")
    runtime = activate(chosen, tracer_provider=provider, instrument=False)
    instrumentor = PydanticAIInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    settings = InstrumentationSettings(tracer_provider=provider)
    model: Any = local
    if how == "every agent":
        Agent.instrument_all(settings)
    else:
        model = InstrumentedModel(local, settings)
    try:
        assert run(weatherman(model=model)) == "I was told: sunny in Rome"
    finally:
        instrumentor.uninstrument()
        runtime.shutdown()
    assert get_current() == before
    names = sorted(span.name for span in spans.get_finished_spans())
    assert names.count("chat local") == 2, "a model call is never recorded twice"
    if not keep:
        assert names == sorted(line.strip() for line in LOCAL)
        assert "'pydantic-ai' and SpanRelay both record calls" in caplog.text
