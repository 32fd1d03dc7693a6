"""Responses over a WebSocket are calls like those over HTTP: one span each, and held by policy."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import openai
import pytest
from opentelemetry.trace import StatusCode
from websockets.exceptions import ConnectionClosed

import spanrelay
from spanrelay import GuardrailRejected, execution_intercept, guardrail, request_intercept, stream_intercept, use
from spanrelay.errors import MiddlewareError
from spanrelay.instrumentation import websockets
from spanrelay.plugins.plugin import Context
from spanrelay.plugins.policy import PolicyConfig, PolicyPlugin
from spanrelay.plugins.policy.names import Judge
from spanrelay.plugins.policy.settings import Names, Tools
from spanrelay.semconv import names
from spanrelay_openai import OpenAIInstrumentor, dialogues
from spanrelay_testkit.capture import Capture, asked
from spanrelay_testkit.socket_server import SocketServer

SECRET = "secret-1"
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "get_weather", "arguments": "{}"}

# The SDK's sync client opens a connection in a way that websockets warns of since 17.1.
pytestmark = pytest.mark.filterwarnings(r"ignore:connect\(\) must be used:DeprecationWarning")


def response(number: int, output: list[Any], status: str = "completed") -> dict[str, Any]:
    usage = {
        "input_tokens": 10 * number, "output_tokens": 3, "total_tokens": 10 * number + 3,
        "input_tokens_details": {"cached_tokens": 4}, "output_tokens_details": {"reasoning_tokens": 1},
    }  # fmt: skip
    return {
        "id": f"resp_{number}", "object": "response", "created_at": 1_700_000_000, "status": status,
        "model": "gpt-5-2025-08-07", "output": output, "usage": usage, "tools": [], "parallel_tool_calls": True,
        "tool_choice": "auto",
    }  # fmt: skip


def message(text: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}


class Provider:
    """Answers each response in turn: a tool call where a tool is offered and no result has come, else a text."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, event: dict[str, Any]) -> Iterator[dict[str, Any] | None]:
        if event["type"] != "response.create":
            return
        self.number += 1
        lane = {"stream_id": event["stream_id"]} if "stream_id" in event else {}
        items = event["input"] if isinstance(event["input"], list) else []
        wants = bool(event.get("tools")) and not any(item.get("type") == "function_call_output" for item in items)
        item = CALL if wants else message("It is 4 degrees.")
        yield {"type": "response.created", "sequence_number": 0, "response": response(self.number, []), **lane}
        if event["input"] == "break":
            yield None
        if event["input"] == "fail":
            yield {"type": "error", "status": 400, "error": {"code": "bad", "message": "no such thing"}, **lane}
            return
        for index, word in enumerate(["It is ", "4 degrees."]):
            if not wants:
                yield {
                    "type": "response.output_text.delta", "sequence_number": index + 1, "item_id": "msg_1",
                    "output_index": 0, "content_index": 0, "delta": word, "logprobs": [], **lane,
                }  # fmt: skip
        yield {"type": "response.output_item.done", "sequence_number": 8, "output_index": 0, "item": item, **lane}
        yield {"type": "response.completed", "sequence_number": 9, "response": response(self.number, [item]), **lane}


@pytest.fixture
def server() -> Iterator[SocketServer]:
    with SocketServer(Provider()) as running:
        yield running


@pytest.fixture
def instrumented(capture: Capture) -> Iterator[Capture]:
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    yield capture
    instrumentor.uninstrument()


def client_of(server: SocketServer, kind: Any = openai.OpenAI) -> Any:
    return kind(api_key="none", base_url="http://127.0.0.1:9/v1", websocket_base_url=server.url)


def until_over(events: Iterable[Any]) -> list[Any]:
    seen: list[Any] = []
    for event in events:
        seen.append(event)
        if event.type in ("response.completed", "error"):
            return seen
    return seen


def create(connection: Any, text: str = "weather?", **more: Any) -> list[Any]:
    connection.response.create(**{"model": "gpt-5", "input": text, **more})
    return until_over(connection)


def models(**lists: Any) -> Any:
    return guardrail(name="models", kinds=["llm"])(Judge("model", Names(**lists)).model_refusal)


TOOL = {"type": "function", "name": "get_weather", "parameters": {"type": "object"}, "strict": None}


def test_each_response_is_a_span_with_what_was_asked_said_and_used(server: SocketServer, instrumented: Capture) -> None:
    with spanrelay.scope("agent"), client_of(server).responses.connect() as connection:
        first = create(connection, tools=[TOOL], instructions="Be brief.")
        result = {"type": "function_call_output", "call_id": "call_1", "output": "4 degrees"}
        second = create(connection, [result], tools=[TOOL], previous_response_id="resp_1")
    assert first[-1].response.output[0].name == "get_weather"
    assert second[-1].response.output[0].content[0].text == "It is 4 degrees."
    agent = next(span for span in instrumented.spans if span.name.endswith("agent"))
    calls = [span for span in instrumented.spans if span.name == "chat gpt-5"]
    assert [span.parent.span_id for span in calls] == [agent.context.span_id] * 2
    assert [span.attributes[names.RESPONSE_ID] for span in calls] == ["resp_1", "resp_2"]
    assert [span.attributes["gen_ai.usage.input_tokens"] for span in calls] == [10, 20]
    assert [span.attributes["server.port"] for span in calls] == [int(server.url.rpartition(":")[2].split("/")[0])] * 2
    assert asked(calls[0]) == "weather?"
    assert "get_weather" in calls[0].attributes[names.OUTPUT_MESSAGES]
    assert "It is 4 degrees." in calls[1].attributes[names.OUTPUT_MESSAGES]


async def test_async_connections_are_recorded_alike(server: SocketServer, instrumented: Capture) -> None:
    async with client_of(server, openai.AsyncOpenAI).responses.connect() as connection:
        await connection.response.create(model="gpt-5", input="weather?")
        async for event in connection:
            if event.type == "response.completed":
                break
    assert event.response.output_text == "It is 4 degrees."
    assert "It is 4 degrees." in (instrumented.span.attributes or {})[names.OUTPUT_MESSAGES]
    assert instrumented.span.status.status_code is StatusCode.UNSET


def test_lanes_of_one_connection_are_told_apart(server: SocketServer, instrumented: Capture) -> None:
    with client_of(server).responses.connect() as connection:
        connection.response.create(model="gpt-5", input="one", stream_id="a")
        connection.response.create(model="gpt-5", input="two", stream_id="b")
        until_over(connection)
        until_over(connection)
    assert {asked(span): span.attributes[names.RESPONSE_ID] for span in instrumented.spans} == {
        "one": "resp_1",
        "two": "resp_2",
    }


def test_what_the_client_sends_and_gets_is_what_it_is_without_us(server: SocketServer, capture: Capture) -> None:
    def told() -> tuple[list[Any], list[Any]]:
        begun = len(server.messages)
        with client_of(server).responses.connect() as connection:
            seen = [event.to_dict() for event in create(connection, stream_id="a", metadata={"k": "v"})]
        return server.messages[begun:], [{k: v for k, v in event.items() if k != "response"} for event in seen]

    bare = told()
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    try:
        assert told() == bare
    finally:
        instrumentor.uninstrument()
    assert len(capture.spans) == 1


def test_a_denied_model_or_tool_is_never_sent(server: SocketServer, instrumented: Capture) -> None:
    with client_of(server).responses.connect() as connection:
        with use(models(deny=["secret-*"])), pytest.raises(GuardrailRejected, match="'secret-1' is denied"):
            connection.response.create(model=SECRET, input="hi")
        with use(models(deny=["secret-*"])), pytest.raises(GuardrailRejected, match="'secret-1' is denied"):
            connection.send_raw(json.dumps({"type": "response.create", "model": SECRET, "input": "hi"}))
        context = Context(PolicyConfig(tools=Tools(deny=["get_*"], offered="remove")), "policy")
        PolicyPlugin().register(context)
        try:
            create(connection, tools=[TOOL], stream_id="a")
        finally:
            context.close()
    [sent] = server.events
    assert "tools" not in sent or sent["tools"] == []
    assert (sent["type"], sent["stream_id"]) == ("response.create", "a")


async def test_a_denied_model_is_never_sent_async(server: SocketServer, instrumented: Capture) -> None:
    async with client_of(server, openai.AsyncOpenAI).responses.connect() as connection:
        with use(models(deny=["secret-*"])), pytest.raises(GuardrailRejected, match="'secret-1' is denied"):
            await connection.response.create(model=SECRET, input="hi")
    assert server.messages == []


def test_what_was_queued_before_the_connection_stood_is_judged_when_it_is_sent(
    server: SocketServer, instrumented: Capture
) -> None:
    manager = client_of(server).responses.connect()
    manager.send({"type": "response.create", "model": SECRET, "input": "hi"})
    with use(models(deny=["secret-*"])):
        try:
            with manager:
                pass
        except GuardrailRejected:
            pass
    assert server.messages == []


def test_policy_rewrites_a_request(server: SocketServer, instrumented: Capture) -> None:
    @request_intercept
    def cheaper(call: Any) -> None:
        call.request.model = "gpt-5-mini"

    with client_of(server).responses.connect() as connection, use(cheaper):
        create(connection)
    assert [event["model"] for event in server.events] == ["gpt-5-mini"]
    assert instrumented.span.name == "chat gpt-5-mini"


def test_an_execution_intercept_hears_when_the_answer_is_over(server: SocketServer, instrumented: Capture) -> None:
    heard: list[str] = []

    @execution_intercept
    def around(call: Any) -> Any:
        heard.append("before")
        yield call
        heard.append("after")

    with client_of(server).responses.connect() as connection, use(around):
        connection.response.create(model="gpt-5", input="hi")
        assert heard == ["before"]
        until_over(connection)
        assert heard == ["before", "after"]


def test_what_cannot_be_judged_is_refused_under_policy_and_sent_without(
    server: SocketServer, instrumented: Capture
) -> None:
    doubled = f'{{"type": "response.cancel", "type": "response.create", "model": "{SECRET}", "input": "hi"}}'

    @stream_intercept
    def quiet(call: Any, event: Any) -> Any:
        return event

    with client_of(server).responses.connect() as connection:
        with use(models(deny=["other"])), pytest.raises(MiddlewareError, match="cannot check"):
            connection.send_raw(doubled)
        with use(quiet), pytest.raises(MiddlewareError, match="ask over HTTP"):
            connection.response.create(model="gpt-5", input="hi")
        connection.send_raw(doubled)
        until_over(connection)
    assert server.messages == [doubled]


def test_an_answer_that_fails_or_breaks_off_ends_its_span(server: SocketServer, instrumented: Capture) -> None:
    with client_of(server).responses.connect() as connection:
        assert create(connection, "fail")[-1].type == "error"
        with pytest.raises(ConnectionClosed):
            create(connection, "break")
    failed, broken = instrumented.spans
    assert failed.status.status_code is StatusCode.ERROR
    assert "no such thing" in (failed.status.description or "")
    assert broken.status.status_code is StatusCode.ERROR


def test_a_connection_that_is_closed_ends_what_was_being_answered(server: SocketServer, instrumented: Capture) -> None:
    with client_of(server).responses.connect() as connection:
        connection.response.create(model="gpt-5", input="hi")
        assert connection.recv().type == "response.created"
    assert instrumented.span.name == "chat gpt-5"


def test_what_is_heard_before_the_sending_returns_is_of_its_answer(
    server: SocketServer, instrumented: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    over = threading.Event()

    @execution_intercept
    def around(call: Any) -> Any:
        yield call
        heard.append("after")

    with client_of(server).responses.connect() as connection, use(around):

        def listen() -> None:
            heard.extend(event.type for event in until_over(connection))
            over.set()

        wire = connection._connection.__wrapped__
        real = wire.send

        def slow(message: Any) -> None:
            real(message)
            assert over.wait(30)  # all of the answer is there before the sending returns

        monkeypatch.setattr(wire, "send", slow)
        threading.Thread(target=listen, daemon=True).start()
        connection.response.create(model="gpt-5", input="hi")
    assert heard[0] == "response.created"
    assert heard[-1] == "after"
    assert "It is 4 degrees." in str((instrumented.span.attributes or {})[names.OUTPUT_MESSAGES])


def test_what_could_not_be_sent_awaits_no_answer(
    server: SocketServer, instrumented: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with client_of(server).responses.connect() as connection:
        wire = connection._connection.__wrapped__
        real, broken = wire.send, OSError("no way")

        def fail(message: Any) -> None:
            raise broken

        monkeypatch.setattr(wire, "send", fail)
        with pytest.raises(OSError, match="no way") as raised:
            connection.response.create(model="gpt-5", input="one")
        assert raised.value is broken
        monkeypatch.setattr(wire, "send", real)
        create(connection, "two")
    assert [asked(span) for span in instrumented.spans] == ["one", "two"]
    assert [span.status.status_code for span in instrumented.spans] == [StatusCode.ERROR, StatusCode.UNSET]


def test_what_waits_for_a_whole_answer_is_refused_before_anything_is_sent(
    server: SocketServer, instrumented: Capture
) -> None:
    @execution_intercept(buffered=True)
    def whole(call: Any) -> Any:
        return (yield call)

    with client_of(server).responses.connect() as connection:
        with use(whole), pytest.raises(MiddlewareError, match="ask over HTTP"):
            connection.response.create(model="gpt-5", input="one")
        assert server.messages == []
        create(connection, "two")
    assert [span.status.status_code for span in instrumented.spans] == [StatusCode.ERROR, StatusCode.UNSET]


def test_the_answer_to_a_call_that_failed_after_its_sending_is_not_taken_for_the_next(
    server: SocketServer, instrumented: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = websockets._Boundary.send

    def sent_and_interrupted(boundary: Any, call: Any) -> None:
        real(boundary, call)
        raise KeyboardInterrupt  # as a signal's handler does, wherever the program is

    with client_of(server).responses.connect() as connection:
        monkeypatch.setattr(websockets._Boundary, "send", sent_and_interrupted)
        with pytest.raises(KeyboardInterrupt):
            connection.response.create(model="gpt-5", input="one")
        monkeypatch.setattr(websockets._Boundary, "send", real)
        connection.response.create(model="gpt-5", input="two")
        until_over(connection)
        until_over(connection)
    ids = {asked(span): (span.attributes or {}).get(names.RESPONSE_ID) for span in instrumented.spans}
    assert ids["two"] == "resp_2"


async def test_two_tasks_may_send_and_listen_at_the_same_time(server: SocketServer, instrumented: Capture) -> None:
    async with client_of(server, openai.AsyncOpenAI).responses.connect() as connection:

        async def listen() -> int:
            over = 0
            async for event in connection:
                over += event.type == "response.completed"
                if over == 3:
                    break
            return over

        listening = asyncio.create_task(listen())
        for text in ("one", "two", "three"):
            await connection.response.create(model="gpt-5", input=text)
        assert await listening == 3
    assert [asked(span) for span in instrumented.spans] == ["one", "two", "three"]


def test_a_lane_that_is_no_text_harms_nobody(server: SocketServer, instrumented: Capture) -> None:
    with client_of(server).responses.connect() as connection:
        assert create(connection, stream_id=["a"])[-1].type == "response.completed"
    assert "It is 4 degrees." in (instrumented.span.attributes or {})[names.OUTPUT_MESSAGES]


class Steered:
    """Holds back the end of a response until it is steered or injected, and answers a steer by one of its own."""

    def __call__(self, event: dict[str, Any]) -> Iterator[dict[str, Any]]:
        kind, said = event["type"], event["input"]
        if kind == "response.create":
            yield {"type": "response.created", "sequence_number": 0, "response": response(1, [])}
            if event.get("tools"):
                yield {"type": "response.output_item.done", "sequence_number": 1, "output_index": 0, "item": CALL}
        elif kind == "response.inject":
            yield {"type": "response.inject.created", "sequence_number": 2, "response_id": event["response_id"]}
            yield {"type": "response.completed", "sequence_number": 3, "response": response(1, [message("one")])}
        elif said == "no":
            steer = {"previous_response_id": "resp_1", "input": said}
            error = {"type": "invalid_request_error", "code": "response_not_active", "message": "too late"}
            yield {"type": "response.steer.failed", "sequence_number": 2, "steer": steer, "error": error}
        else:
            steer = {"id": "steer_1", "previous_response_id": "resp_1"}
            yield {"type": "response.steer.accepted", "sequence_number": 2, "steer": steer}
            ended = {**response(1, [message("one")], "incomplete"), "incomplete_details": {"reason": "steered"}}
            yield {"type": "response.incomplete", "sequence_number": 3, "response": ended}
            if said == "later":
                why = {"reason": "waiting_for_required_input", "required_input": []}
                yield {"type": "response.steer.pending", "sequence_number": 4, "steer": steer, **why}
                return
            yield {"type": "response.created", "sequence_number": 5, "response": response(2, [])}
            yield {"type": "response.completed", "sequence_number": 6, "response": response(2, [message("two")])}


@pytest.fixture
def steered() -> Iterator[SocketServer]:
    with SocketServer(Steered()) as running:
        yield running


def until(connection: Any, kind: str) -> Any:
    return next(event for event in connection if event.type == kind)


def begun(connection: Any, **more: Any) -> Any:
    connection.response.create(model="gpt-5", input="weather?", **more)
    until(connection, "response.output_item.done" if more else "response.created")
    return connection


def test_what_steers_a_response_is_a_call_that_the_next_one_answers(
    steered: SocketServer, instrumented: Capture
) -> None:
    with client_of(steered).responses.connect() as connection:
        begun(connection).response.steer(input="in Oslo", previous_response_id="resp_1")
        assert until(connection, "response.completed").response.id == "resp_2"
    spans = instrumented.spans
    assert [asked(span) for span in spans] == ["weather?", "in Oslo"]
    assert [span.name for span in spans] == ["chat gpt-5"] * 2
    assert [span.attributes[names.RESPONSE_ID] for span in spans] == ["resp_1", "resp_2"]
    assert [span.attributes["gen_ai.usage.input_tokens"] for span in spans] == [10, 20]
    assert steered.events[1] == {"type": "response.steer", "input": "in Oslo", "previous_response_id": "resp_1"}


@pytest.mark.parametrize(("said", "end"), [("no", "response.steer.failed"), ("later", "response.steer.pending")])
def test_a_steer_without_a_response_of_its_own_ends_by_what_is_told_of_it(
    steered: SocketServer, instrumented: Capture, said: str, end: str
) -> None:
    with client_of(steered).responses.connect() as connection:
        begun(connection).response.steer(input=said, previous_response_id="resp_1")
        until(connection, end)
        [steer] = [span for span in instrumented.spans if asked(span) == said]
    failed = said == "no"
    assert (steer.status.status_code is StatusCode.ERROR) is failed
    assert steer.attributes.get("gen_ai.response.finish_reasons") == (
        None if failed else ("waiting_for_required_input",)
    )


def test_several_steers_of_one_response_are_answered_by_the_same(steered: SocketServer, instrumented: Capture) -> None:
    speech = dialogues.ResponsesSpeech(dialogues.Address(None, None))
    first, second, other = (
        {"type": "response.steer", "input": said, "previous_response_id": target}
        for said, target in (("a", "resp_1"), ("b", "resp_1"), ("c", "resp_2"))
    )
    created = {"type": "response.created", "response": {"id": "resp_9"}}
    assert speech.joins(created, first, second)
    assert not speech.joins(created, second, other)
    assert not speech.joins({"type": "response.completed"}, first, second)


def test_policy_judges_what_is_added_to_a_response(steered: SocketServer, instrumented: Capture) -> None:
    @guardrail(kinds=["llm"])
    def no_oslo(call: Any) -> str | None:
        return "not there" if "Oslo" in str(call.request.messages) else None

    @request_intercept
    def shout(call: Any) -> None:
        call.wire["input"] = "now"

    @request_intercept
    def cheaper(call: Any) -> None:
        call.request.model = "gpt-5-mini"

    with client_of(steered).responses.connect() as connection:
        steer = begun(connection).response.steer
        with use(no_oslo), pytest.raises(GuardrailRejected, match="not there"):
            steer(input="in Oslo", previous_response_id="resp_1")
        with use(cheaper), pytest.raises(MiddlewareError, match="only the input"):
            steer(input="in Rome", previous_response_id="resp_1")
        with use(shout):
            steer(input="in Rome", previous_response_id="resp_1")
        until(connection, "response.completed")
    assert [event["input"] for event in steered.events] == ["weather?", "now"]


def test_the_result_of_a_refused_tool_is_not_injected_into_the_response_that_asked_for_it(
    steered: SocketServer, instrumented: Capture
) -> None:
    context = Context(PolicyConfig(tools=Tools(deny=["get_*"])), "policy")
    PolicyPlugin().register(context)
    result = [{"type": "function_call_output", "call_id": "call_1", "output": "4 degrees"}]
    try:
        with client_of(steered).beta.responses.connect() as connection:
            inject = begun(connection, tools=[TOOL]).response.inject
            with pytest.raises(GuardrailRejected, match="result of a refused tool"):
                inject(input=result, response_id="resp_1")
            context.close()
            inject(input=result, response_id="resp_1")
            until(connection, "response.completed")
    finally:
        context.close()
    assert [event["type"] for event in steered.events] == ["response.create", "response.inject"]
    assert steered.events[1]["input"] == result


async def test_who_is_cancelled_while_policy_waits_is_given_the_message_when_it_asks_again(
    server: SocketServer, instrumented: Capture
) -> None:
    waits, goes_on = asyncio.Event(), asyncio.Event()

    @execution_intercept
    def around(call: Any) -> Any:
        yield call
        waits.set()
        yield goes_on.wait()

    async with client_of(server, openai.AsyncOpenAI).responses.connect() as connection:
        with use(around):
            await connection.response.create(model="gpt-5", input="hi")

        async def end() -> Any:
            return [event async for event in connection if event.type == "response.completed"]

        first = asyncio.create_task(end())
        await waits.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        goes_on.set()
        assert (await connection.recv()).type == "response.completed"
    assert instrumented.span.attributes[names.RESPONSE_ID] == "resp_1"
