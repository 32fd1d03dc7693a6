"""Calls that the application owns: models by function, tools and agents by decorator, with values of any type."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
from opentelemetry.trace import StatusCode
from pydantic import BaseModel

from spanrelay import (
    ConfigurationError,
    GuardrailRejected,
    MiddlewareError,
    agent,
    arun_model,
    arun_tool,
    astream_model,
    current_scope,
    execution_intercept,
    guardrail,
    request_intercept,
    run_model,
    run_tool,
    stream_model,
    tool,
    use,
)
from spanrelay.pipeline.trial import take_report
from spanrelay.records import AgentResult, Message, ModelRequest, ModelResponse, Text, ToolResult
from spanrelay_testkit.capture import Capture, asked, said

WIRE = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "x_unknown": [1]}
BODY = {
    "id": "c1",
    "model": "m-1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}


class Sent:
    """A provider of the application's own that keeps what it was sent."""

    def __init__(self, answer: Any = BODY) -> None:
        self.wires: list[Any] = []
        self._answer = answer

    def __call__(self, wire: dict[str, Any]) -> Any:
        self.wires.append(wire)
        return self._answer

    async def later(self, wire: dict[str, Any]) -> Any:
        await asyncio.sleep(0)
        return self(wire)


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Makes a managed model call with a `Sent`, in either colour."""
    if request.param == "sync":
        return lambda sent, wire=WIRE, **options: run_model(sent, wire, **options)
    return lambda sent, wire=WIRE, **options: asyncio.run(arun_model(sent.later, wire, **options))


class Unmade:
    """A lazy object, whose making fails whatever it is asked."""

    def __getattribute__(self, name: str) -> Any:
        raise OSError("there is no such row")


# --- results that cannot be looked at ---


@pytest.mark.parametrize("decorate", [tool, agent], ids=["tool", "agent"])
@pytest.mark.parametrize("policed", [False, True], ids=["bare", "policed"])
def test_a_result_that_fails_when_it_is_looked_at_passes_unchanged(
    capture: Capture, decorate: Any, policed: bool
) -> None:
    given = Unmade()
    handles = [use(execution_intercept(passing)), use(guardrail(lambda call: None))] if policed else []

    @decorate
    def find() -> Unmade:
        return given

    @decorate
    async def find_later() -> Unmade:
        return given

    @decorate
    def find_each() -> Iterator[Unmade]:
        yield given

    assert find() is given
    assert asyncio.run(find_later()) is given
    if not policed:
        assert next(iter(find_each())) is given
    recorded = [span.attributes or {} for span in capture.of(decorate.__name__.upper())]
    key = "gen_ai.tool.call.result" if decorate is tool else "output.value"
    assert {str(each[key]) for each in recorded if key in each} <= {"<Unmade>", '["<Unmade>"]', '{"x":"<Unmade>"}'}
    assert "<Unmade>" in str(recorded[0])
    for handle in handles:
        handle.remove()


def passing(call: Any) -> Any:
    yield call


def test_an_argument_and_an_answer_that_fail_when_they_are_looked_at_pass_unchanged(capture: Capture) -> None:
    given = Unmade()
    assert run_tool("t", lambda given: given, given) is given
    assert run_model(lambda wire: given, WIRE) is given
    assert list(stream_model(lambda wire: iter([given]), WIRE)) == [given]
    assert asyncio.run(arun_model(Sent(given).later, WIRE)) is given
    assert len(capture.spans) == 4


# --- what policy says that it should not ---


@pytest.mark.parametrize("body", [{}, {"choices": None}, {"choices": {}}, {"choices": [1]}, {"answer": "hi"}])
@pytest.mark.parametrize("ask", [run_model, lambda sent, wire: list(stream_model(sent, wire))], ids=["whole", "stream"])
def test_json_that_is_no_answer_of_the_api_is_refused_by_the_name_of_its_intercept(
    capture: Capture, ask: Any, body: dict[str, Any]
) -> None:
    def hollow(call: Any) -> Any:
        return body
        yield

    handle = use(execution_intercept(hollow))
    with pytest.raises(MiddlewareError, match=r"execution intercept 'hollow': .* with a list of objects as 'choices'"):
        ask(Sent(), WIRE)
    handle.remove()
    assert (capture.span.attributes or {})["error.type"] == "spanrelay.errors.MiddlewareError"


@pytest.mark.parametrize(
    ("codec", "body", "told"),
    [
        ("openai_chat", {"choices": [{"message": None}]}, r"choices\[0\] has no object as 'message'"),
        ("openai_chat", {"choices": [{"message": {}}, {}]}, r"choices\[1\] has no object as 'message'"),
        ("openai_chat", {"choices": [{"message": {"tool_calls": [None]}}]}, "has a tool call that is not an object"),
        ("openai_chat", {"choices": [{"message": {"tool_calls": [{"function": None}]}}]}, "has a tool call"),
        ("openai_responses", {"output": [{"type": "message", "content": None}]}, "has no list of objects as 'content'"),
        ("openai_responses", {"output": [{"type": "message", "content": [None]}]}, "has no list of objects"),
        (
            "openai_responses",
            {"output": [{"type": "message", "content": [{"type": "output_text", "text": None}]}]},
            "has a part without a string",
        ),
        ("openai_completions", {"choices": [{"text": None}]}, "has no string as 'text'"),
        ("openai_embeddings", {"data": [{"embedding": None}]}, "has no list or string as 'embedding'"),
    ],
)
def test_an_item_of_an_answer_that_no_sdk_can_read_is_refused_by_the_name_of_its_intercept(
    capture: Capture, codec: str, body: dict[str, Any], told: str
) -> None:
    @execution_intercept
    def hollow(call: Any) -> Any:
        return body
        yield

    with use(hollow), pytest.raises(MiddlewareError, match=f"execution intercept 'hollow': .*{told}"):
        run_model(Sent(), {"model": "m"}, codec=codec)


@pytest.mark.parametrize(
    ("codec", "body"),
    [
        ("openai_chat", {"choices": []}),
        ("openai_chat", {"error": None, "choices": [{"message": {}}]}),
        ("openai_chat", {"choices": [{"message": {"tool_calls": [{"type": "custom", "custom": {"name": "f"}}]}}]}),
        ("openai_responses", {"output": [{}, {"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}]}),
        ("openai_completions", {"choices": [{"text": ""}]}),
        ("openai_embeddings", {"data": [{"embedding": "zczMPQ=="}]}),
    ],
)
def test_what_every_sdk_can_read_is_an_answer(capture: Capture, codec: str, body: dict[str, Any]) -> None:
    @execution_intercept
    def brief(call: Any) -> Any:
        return body
        yield

    with use(brief):
        assert run_model(Sent(), {"model": "m"}, codec=codec) == body


class Undecided(str):
    """A text that is neither true nor false, nor to be shown."""

    __slots__ = ()

    def __bool__(self) -> bool:
        raise OSError("undecided")

    __str__ = __format__ = isascii = encode = cast("Any", __bool__)


@pytest.mark.parametrize("mode", ["enforce", "observe"])
def test_a_reason_is_a_plain_text_whatever_class_it_is_of(capture: Capture, mode: Any) -> None:
    handle = use(guardrail(lambda call: Undecided("not today"), name="g", mode=mode))
    if mode == "observe":
        assert run_tool("t", lambda: 1) == 1
        assert take_report() is not None
    else:
        with pytest.raises(GuardrailRejected, match="guardrail 'g' refused the call: not today") as refused:
            run_tool("t", lambda: 1)
        assert type(refused.value.reason) is str
    handle.remove()
    assert capture.of("GUARDRAIL")[0].attributes


def test_an_intercept_that_refuses_with_such_a_text_refuses_plainly(capture: Capture) -> None:
    def refuse(call: Any) -> Any:
        raise GuardrailRejected(Undecided("not today"), "mine")
        yield

    handle = use(execution_intercept(refuse))
    with pytest.raises(GuardrailRejected, match="guardrail 'mine' refused the call: not today"):
        run_tool("t", lambda: 1)
    handle.remove()
    assert "not today" in (capture.span.status.description or "")


# --- models ---


def test_a_model_call_is_sent_as_it_is_and_recorded(capture: Capture, call: Any) -> None:
    sent = Sent()
    assert call(sent, provider="mine") is BODY
    assert sent.wires == [WIRE]
    attributes = capture.span.attributes or {}
    assert (asked(capture.span), said(capture.span)) == ("hi", "hello")
    assert attributes["gen_ai.provider.name"] == "mine"
    assert attributes["gen_ai.usage.input_tokens"] == 3


def test_a_guardrail_refuses_and_nothing_is_sent(capture: Capture, call: Any) -> None:
    @guardrail
    def never(call: Any) -> str:
        return "no"

    sent = Sent()
    with use(never), pytest.raises(GuardrailRejected):
        call(sent)
    assert sent.wires == []


def test_an_edited_request_keeps_what_no_record_knows(capture: Capture, call: Any) -> None:
    @request_intercept
    def other_model(call: Any) -> Any:
        return replace(call.request, model="m-2")

    sent = Sent()
    with use(other_model):
        call(sent)
    assert sent.wires == [{**WIRE, "model": "m-2"}]
    assert WIRE["model"] == "m"
    assert capture.span.name == "chat m-2"


@pytest.mark.parametrize("broken", [{"messages": None}, {"messages": ["hi"]}, {"parameters": None}])
def test_a_request_that_nobody_can_write_is_not_sent_and_its_span_ends(
    capture: Capture, call: Any, broken: Any
) -> None:
    @request_intercept
    def careless(call: Any) -> Any:
        return replace(call.request, **broken)

    sent = Sent()
    with use(careless), pytest.raises((TypeError, AttributeError)):
        call(sent)
    assert sent.wires == []
    assert (capture.span.name, capture.span.status.status_code) == ("chat m", StatusCode.ERROR)


def test_an_answer_without_a_request_is_the_providers_json(capture: Capture, call: Any) -> None:
    @execution_intercept
    def cached(call: Any) -> Any:
        return ModelResponse(messages=[Message("assistant", [Text("from memory")])])
        yield

    sent = Sent()
    with use(cached):
        answer = call(sent)
    assert answer["choices"][0]["message"]["content"] == "from memory"
    assert sent.wires == []
    assert capture.record(capture.span).answered_by == "cached"


def test_each_response_keeps_what_came_for_it(capture: Capture, call: Any) -> None:
    answers = iter(["first", "second"])

    class Changing(Sent):
        def __call__(self, wire: dict[str, Any]) -> Any:
            message = {"role": "assistant", "content": next(answers)}
            return {"choices": [{"index": 0, "message": message}]}

    @execution_intercept
    def twice(call: Any) -> Any:
        first = yield call
        second = yield call
        assert (first.record.text, second.record.text) == ("first", "second")
        return first

    with use(twice):
        assert call(Changing())["choices"][0]["message"]["content"] == "first"
    assert said(capture.span) == "first"


def test_a_request_may_be_a_record(capture: Capture, call: Any) -> None:
    sent = Sent()
    call(sent, ModelRequest("m", [Message("user", [Text("hi")])]))
    assert sent.wires == [{"model": "m", "messages": [{"role": "user", "content": "hi"}]}]


def test_an_object_of_an_sdk_passes_and_its_json_is_recorded(capture: Capture, call: Any) -> None:
    class Answer(BaseModel):
        choices: list[Any]

    answer = Answer(choices=BODY["choices"])  # pyright: ignore[reportArgumentType] - plain JSON
    assert call(Sent(answer)) is answer
    assert said(capture.span) == "hello"


def test_a_codec_that_does_not_exist_is_named_with_those_that_do(call: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"no codec 'chat_gpt'; use one of .*openai_chat"):
        call(Sent(), codec="chat_gpt")


def test_an_abandoned_managed_stream_closes_its_source(capture: Capture) -> None:
    closed: list[bool] = []

    def events(wire: Any) -> Iterator[Any]:
        try:
            yield {"choices": [{"index": 0, "delta": {"content": "he"}}]}
            yield {"choices": [{"index": 0, "delta": {"content": "y"}}]}
        finally:
            closed.append(True)

    stream: Any = stream_model(events, {**WIRE, "stream": True})
    next(stream)
    stream.close()
    assert closed == [True]
    assert said(capture.span) == "he"
    assert capture.record(capture.span).incomplete == "closed"


# --- values ---


@dataclass
class Place:
    city: str
    days: int = 1


class Weather(BaseModel):
    city: str
    sky: str


def forecast(place: Place) -> Weather:
    """The weather of a place.

    More than one line.
    """
    return Weather(city=place.city, sky="sunny")


def test_typed_values_pass_as_the_very_objects(capture: Capture) -> None:
    place = Place("Oslo")
    seen: list[Place] = []

    def keep(place: Place) -> Place:
        seen.append(place)
        return place

    assert run_tool("keep", keep, {"place": place}) is place
    assert seen[0] is place
    attributes = capture.span.attributes or {}
    assert json.loads(str(attributes["gen_ai.tool.call.arguments"])) == {"place": {"city": "Oslo", "days": 1}}


def test_a_changed_argument_is_built_in_its_type(capture: Capture) -> None:
    @request_intercept
    def elsewhere(call: Any) -> None:
        call.request.arguments["place"]["city"] = "Bergen"

    place = Place("Oslo", 3)
    with use(elsewhere):
        assert run_tool("forecast", forecast, {"place": place}) == Weather(city="Bergen", sky="sunny")
    assert place == Place("Oslo", 3)


def test_what_policy_makes_of_a_type_must_fit_it(capture: Capture) -> None:
    @request_intercept
    def nonsense(call: Any) -> None:
        call.request.arguments["place"] = {"planet": "Mars"}

    with use(nonsense), pytest.raises(MiddlewareError, match="what policy returned is not a valid 'Place'"):
        run_tool("forecast", forecast, {"place": Place("Oslo")})


def test_an_answer_of_policy_comes_in_the_annotated_type(capture: Capture) -> None:
    @execution_intercept
    def known(call: Any) -> Any:
        return ToolResult({"city": "Oslo", "sky": "grey"})
        yield

    with use(known):
        answer = run_tool("forecast", forecast, {"place": Place("Oslo")})
    assert answer == {"city": "Oslo", "sky": "grey"} or answer == Weather(city="Oslo", sky="grey")


def test_what_was_given_is_kept_as_it_was_at_the_call(capture: Capture) -> None:
    given = {"items": [3, 1, 2]}

    def sort(items: list[int]) -> list[int]:
        items.sort()
        return items

    result = run_tool("sort", sort, given)
    result.append(99)
    attributes = capture.span.attributes or {}
    assert attributes["gen_ai.tool.call.arguments"] == '{"items":[3,1,2]}'
    assert attributes["gen_ai.tool.call.result"] == "[1,2,3]"


def test_a_coroutine_function_is_sent_to_its_own_door() -> None:
    async def later() -> int:
        return 1

    with pytest.raises(TypeError, match=r"'later' is a coroutine function; run it with `await spanrelay.arun_tool"):
        run_tool("later", later)


# --- refusals that answer ---


@guardrail(answers=True)
def polite(call: Any) -> str:
    return "not today"


def test_a_tool_may_answer_with_the_refusal(capture: Capture) -> None:
    called: list[int] = []
    with use(polite):
        answer = run_tool("t", lambda: called.append(1), call_id="c1")
    assert answer == "guardrail 'polite' refused the call: not today"
    assert called == []
    record = capture.record(capture.spans[1])
    assert record.result == ToolResult(answer, is_error=True)
    assert record.error is not None


def test_a_model_call_is_refused_whatever_the_guardrail_says(capture: Capture) -> None:
    with use(polite), pytest.raises(GuardrailRejected):
        run_model(Sent(), WIRE)


# --- decorators ---


@tool
def add(a: int, b: int = 2, *more: int, **named: int) -> int:
    """Add numbers.

    All of them.
    """
    return a + b + sum(more) + sum(named.values())


def test_a_decorated_tool_is_a_tool_call(capture: Capture) -> None:
    assert add(1) == 3
    assert add(1, 2, 3, x=4) == 10
    first, second = capture.spans
    assert first.name == "execute_tool add"
    assert (first.attributes or {})["gen_ai.tool.call.arguments"] == '{"a":1}'
    assert json.loads(str((second.attributes or {})["gen_ai.tool.call.arguments"])) == {
        "a": 1,
        "b": 2,
        "more": [3],
        "x": 4,
    }
    assert (first.attributes or {})["gen_ai.tool.description"] == "Add numbers."


def test_a_decorated_tool_gets_what_policy_left(capture: Capture) -> None:
    @request_intercept
    def one_more(call: Any) -> None:
        call.request.arguments["a"] += 1

    with use(one_more):
        assert add(1, 2, 3, x=4) == 11


class Forecast:
    def __call__(self, city: str) -> str:
        return f"sunny in {city}"


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (functools.partial(functools.partial(Forecast.__call__, Forecast()), "Oslo"), "__call__"),
        (Forecast(), "Forecast"),
    ],
)
@pytest.mark.parametrize("decorate", [tool, agent])
def test_what_is_callable_and_has_no_name_goes_by_its_function_or_class(
    capture: Capture, decorate: Any, function: Any, name: str
) -> None:
    @guardrail(kinds=["tool", "agent"])
    def refuse(call: Any) -> str:
        return f"no {call.record.name}"

    with use(refuse), pytest.raises(GuardrailRejected, match=name):
        decorate(function)(*(() if name == "__call__" else ("Oslo",)))
    assert decorate(function)(*(() if name == "__call__" else ("Oslo",))) == "sunny in Oslo"


def test_a_method_is_recorded_without_itself(capture: Capture) -> None:
    class Calculator:
        factor = 3

        @tool(name="times")
        def multiply(self, x: int) -> int:
            return x * self.factor

    assert Calculator().multiply(2) == 6
    assert capture.span.name == "execute_tool times"
    assert (capture.span.attributes or {})["gen_ai.tool.call.arguments"] == '{"x":2}'


async def test_a_decorated_coroutine_function_is_one(capture: Capture) -> None:
    @tool
    async def later(x: int) -> int:
        await asyncio.sleep(0)
        return x

    assert await later(4) == 4
    assert (capture.span.attributes or {})["gen_ai.tool.call.result"] == "4"


def test_a_decorated_generator_streams_and_ends_its_span_with_the_last_value(capture: Capture) -> None:
    @tool
    def words(text: str) -> Iterator[str]:
        yield from text.split()

    stream = words("one two")
    assert next(stream) == "one"
    assert capture.spans == ()
    assert list(stream) == ["two"]
    assert (capture.span.attributes or {})["gen_ai.tool.call.result"] in ("onetwo", '"onetwo"')


async def test_a_decorated_async_generator_ends_its_span_when_it_is_left(capture: Capture) -> None:
    @tool
    async def words(text: str) -> AsyncIterator[str]:
        for word in text.split():
            yield word

    stream: Any = words("one two")
    assert await anext(stream) == "one"
    await stream.aclose()
    assert capture.record(capture.span).incomplete == "closed"


def test_a_run_of_an_agent_is_a_scope_for_what_it_calls(capture: Capture) -> None:
    @agent(name="researcher", session="s-1", metadata={"team": "a"})
    def research(topic: str) -> str:
        inner = current_scope()
        assert inner is not None and inner.name == "researcher"
        return f"{topic}: {add(1)}"

    assert research("tides") == "tides: 3"
    tool_span, agent_span = capture.spans
    assert agent_span.name == "invoke_agent researcher"
    assert tool_span.parent is not None and agent_span.context is not None
    assert tool_span.parent.span_id == agent_span.context.span_id
    assert (tool_span.attributes or {})["gen_ai.conversation.id"] == "s-1"
    record = capture.record(agent_span)
    assert (record.input, record.output) == ({"topic": "tides"}, "tides: 3")
    assert current_scope() is None


def test_a_guardrail_stands_around_runs_of_agents_where_it_asks_for_them(capture: Capture) -> None:
    @guardrail(kinds=["agent"])
    def no_gossip(call: Any) -> str | None:
        return "gossip" if "gossip" in call.request.input["topic"] else None

    @guardrail(name="other")
    def models_and_tools(call: Any) -> str:
        return "no"

    @agent
    def research(topic: str) -> str:
        return topic

    with use(no_gossip), use(models_and_tools):
        assert research("tides") == "tides"
        with pytest.raises(GuardrailRejected, match="gossip"):
            research("gossip")
    assert current_scope() is None


async def test_an_execution_intercept_stands_around_runs_of_agents(capture: Capture) -> None:
    @execution_intercept(kinds=["agent"])
    def shorten(call: Any) -> Any:
        response = yield call
        return AgentResult(response.record.content[:3])

    @agent
    async def research(topic: str) -> str:
        return topic * 10

    with use(shorten):
        assert await research("tides") == "tid"


def test_an_agents_exception_leaves_as_the_same_object(capture: Capture) -> None:
    failure = LookupError("nothing found")

    @agent
    def research() -> None:
        raise failure

    with pytest.raises(LookupError) as raised:
        research()
    assert raised.value is failure
    assert capture.span.status.description == "nothing found"


async def test_a_streaming_agent_is_a_scope_only_while_it_works(capture: Capture) -> None:
    @agent
    async def talk() -> AsyncIterator[str]:
        inner = current_scope()
        assert inner is not None
        yield inner.name
        yield "!"

    said_so: list[str] = []
    async for word in talk():
        assert current_scope() is None
        said_so.append(word)
    assert said_so == ["talk", "!"]
    assert capture.record(capture.span).output == "talk!"


async def test_tools_run_by_name_may_be_async_generators(capture: Capture) -> None:
    async def words() -> AsyncIterator[str]:
        yield "a"
        yield "b"

    stream = await arun_tool("words", words)
    assert [word async for word in stream] == ["a", "b"]
    assert capture.record(capture.span).result == ToolResult("ab")


# --- mistakes in how they are called ---


async def each(wire: dict[str, Any]) -> AsyncIterator[Any]:
    yield wire


def test_a_tool_without_a_name_or_a_function_is_refused(capture: Capture) -> None:
    with pytest.raises(
        TypeError, match="a tool's name must be a string, not <built-in function print>; the name is the fir"
    ):
        run_tool(print, "t")  # pyright: ignore[reportArgumentType] - the mistake
    with pytest.raises(TypeError, match=r"tool 't' needs a function, not \{'a': 1\}: run_tool\(name, function, arg"):
        run_tool("t", {"a": 1})  # pyright: ignore[reportArgumentType] - the mistake
    with pytest.raises(TypeError, match="a tool's name must be a string"):
        asyncio.run(arun_tool(each, "t"))  # pyright: ignore[reportArgumentType] - the mistake
    assert capture.spans == ()


def test_a_request_that_is_none_is_refused(capture: Capture) -> None:
    sent = Sent()
    wrong: Any = "hi"
    for make in (run_model, stream_model):
        with pytest.raises(TypeError, match=r"must be the provider's JSON as a dict, or a ModelRequest, not .* 'str'"):
            make(sent, wrong)
    for amake in (arun_model, astream_model):
        with pytest.raises(TypeError, match=r"must be the provider's JSON as a dict, or a ModelRequest, not .* 'str'"):
            asyncio.run(amake(sent.later, wrong))
    assert (sent.wires, capture.spans) == ([], ())


def test_a_model_call_needs_a_function_of_its_colour(capture: Capture) -> None:
    wrong: Any = WIRE
    for make in (run_model, stream_model):
        with pytest.raises(TypeError, match="needs the function that sends the request, not a 'dict'"):
            make(wrong, Sent())  # pyright: ignore[reportArgumentType] - the mistake
        for later in (Sent().later, each):
            with pytest.raises(
                TypeError, match=rf"is a coroutine function; call it with `await spanrelay.a{make.__name__}"
            ):
                make(later, WIRE)
    assert capture.spans == ()


class Answer(BaseModel):
    id: str = "c1"


@pytest.mark.parametrize("answer", [BODY, "text", Answer(), None])
def test_what_is_no_stream_is_refused_and_its_span_says_so(capture: Capture, answer: Any) -> None:
    told = (
        f"a streamed model call needs an.* iterator of the provider's events, .* returned a '{type(answer).__name__}'"
    )
    with pytest.raises(TypeError, match=told):
        stream_model(Sent(answer), WIRE)
    with pytest.raises(TypeError, match=told):
        asyncio.run(astream_model(Sent(answer).later, WIRE))
    assert [(span.attributes or {})["error.type"] for span in capture.spans] == ["TypeError", "TypeError"]


async def test_a_list_of_events_is_a_stream_and_so_is_an_async_generator(capture: Capture) -> None:
    assert list(stream_model(Sent([{"a": 1}]), WIRE)) == [{"a": 1}]
    assert [event async for event in await astream_model(each, WIRE)] == [WIRE]
    with pytest.raises(TypeError, match=r"needs an async iterator of the provider's events, .* returned a 'list'"):
        await astream_model(Sent([{"a": 1}]).later, WIRE)
    assert len(capture.spans) == 3


# --- what middleware answers with ---


def test_an_answer_in_the_providers_json_is_recorded_without_the_tokens_of_another(
    capture: Capture, call: Callable[..., Any]
) -> None:
    said = {"role": "assistant", "content": "by heart"}
    answer = {"choices": [{"index": 0, "message": said, "finish_reason": "stop"}], "usage": {"prompt_tokens": 9}}
    seen: list[Any] = []

    @execution_intercept(priority=1)
    def around(call: Any) -> Iterator[Any]:
        response = yield call
        seen.append(response.record.messages[0].text)

    @execution_intercept
    def by_heart(call: Any) -> Any:
        return answer
        yield

    with use(around), use(by_heart):
        assert call(Sent()) == answer
    assert seen == ["by heart"]
    attributes = capture.span.attributes or {}
    assert "by heart" in str(attributes["gen_ai.output.messages"])
    assert "gen_ai.usage.input_tokens" not in attributes
