"""Realtime sessions: a span each, around one for every response, and held by policy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import openai
import pytest
from opentelemetry.trace import StatusCode
from websockets.exceptions import ConnectionClosed

from spanrelay import GuardrailRejected, guardrail, request_intercept, use
from spanrelay.errors import MiddlewareError
from spanrelay.plugins.plugin import Context
from spanrelay.plugins.policy import PolicyConfig, PolicyPlugin
from spanrelay.plugins.policy.limits import Limits
from spanrelay.plugins.policy.names import Judge
from spanrelay.plugins.policy.settings import Names, Tools
from spanrelay.semconv import names
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.capture import Capture, asked, said
from spanrelay_testkit.conformance.trajectories import documents_of
from spanrelay_testkit.socket_server import SocketServer

MODEL = "gpt-realtime"
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "get_weather", "arguments": "{}"}
TOOL: Any = {"type": "function", "name": "get_weather", "parameters": {"type": "object"}}
RESULT: Any = {"type": "function_call_output", "call_id": "call_1", "output": "4 degrees"}

# The SDK's sync client opens a connection in a way that websockets warns of since 17.1.
pytestmark = pytest.mark.filterwarnings(r"ignore:connect\(\) must be used:DeprecationWarning")


def response(number: int, output: list[Any], status: str = "completed", **more: Any) -> dict[str, Any]:
    usage = {
        "total_tokens": 33, "input_tokens": 30, "output_tokens": 3,
        "input_token_details": {"text_tokens": 10, "audio_tokens": 20, "cached_tokens": 4},
        "output_token_details": {"text_tokens": 1, "audio_tokens": 2},
    }  # fmt: skip
    return {
        "object": "realtime.response", "id": f"resp_{number}", "status": status, "status_details": None,
        "output": output, "conversation_id": "conv_1", "usage": usage, "metadata": None, **more,
    }  # fmt: skip


def spoken(number: int, text: str) -> dict[str, Any]:
    content = [{"type": "output_audio", "transcript": text}]
    return {"id": f"item_{number}", "type": "message", "status": "completed", "role": "assistant", "content": content}


class Provider:
    """Calls a tool where one is offered and has no result yet, else says something; answers a buffer by itself."""

    def __init__(self) -> None:
        self.number = 0
        self.tools: Any = []
        self.has_result = False

    def __call__(self, event: dict[str, Any]) -> Iterator[dict[str, Any] | None]:
        kind = event["type"]
        if kind == "session.update":
            self.tools = event["session"].get("tools", self.tools)
            yield {"type": "session.updated", "session": {"type": "realtime", "model": MODEL, **event["session"]}}
        elif kind == "conversation.item.create":
            self.has_result |= event["item"]["type"] == "function_call_output"
            yield {"type": "conversation.item.added", "item": {"id": f"item_c{self.number}", **event["item"]}}
        elif kind == "input_audio_buffer.append":
            heard = [{"type": "input_audio", "transcript": None}]
            item = {"id": "item_a", "type": "message", "role": "user", "content": heard}
            yield {"type": "conversation.item.added", "item": item}
            said = {"item_id": "item_a", "content_index": 0, "transcript": "Is it cold?"}
            yield {"type": "conversation.item.input_audio_transcription.completed", **said}
            yield from self.answer({})
        elif kind == "response.create":
            yield from self.answer(event.get("response", {}))

    def answer(self, asked: dict[str, Any]) -> Iterator[dict[str, Any] | None]:
        self.number += 1
        marks = {"metadata": asked.get("metadata")}
        key = {"response_id": f"resp_{self.number}"}
        instructions = asked.get("instructions")
        if instructions == "fail":
            yield {"type": "error", "error": {"type": "invalid_request_error", "message": "no such thing"}}
            return
        yield {"type": "response.created", "response": response(self.number, [], "in_progress", usage=None, **marks)}
        if instructions == "break":
            yield None
        if instructions == "interrupt":
            why = {"type": "cancelled", "reason": "turn_detected"}
            done = response(self.number, [spoken(self.number, "It")], "cancelled", **marks)
            yield {"type": "response.done", "response": {**done, "status_details": why}}
            return
        calls = bool(self.tools) and not self.has_result
        item = CALL if calls else spoken(self.number, "It is 4 degrees.")
        place = {**key, "output_index": 0, "item_id": item["id"]}
        yield {"type": "response.output_item.added", **place, "item": {**item, "content": []} if not calls else item}
        for word in () if calls else ("It is ", "4 degrees."):
            yield {"type": "response.output_audio.delta", **place, "content_index": 0, "delta": "AAAA"}
            yield {"type": "response.output_audio_transcript.delta", **place, "content_index": 0, "delta": word}
        yield {"type": "response.output_item.done", **place, "item": item}
        yield {"type": "response.done", "response": response(self.number, [item], **marks)}


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
        if event.type in ("response.done", "error"):
            return seen
    return seen


def say(connection: Any, text: str) -> None:
    content = [{"type": "input_text", "text": text}]
    connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})


def create(connection: Any, **response: Any) -> list[Any]:
    connection.response.create(**({"response": response} if response else {}))
    return until_over(connection)


def calls(capture: Capture) -> list[Any]:
    return [span for span in capture.spans if span.name == f"chat {MODEL}"]


def session_of(capture: Capture) -> Any:
    [session] = [span for span in capture.spans if span not in calls(capture) and "realtime" in span.name]
    return session


@pytest.fixture
def policy() -> Iterator[Any]:
    contexts: list[Context] = []

    def put(**config: Any) -> None:
        contexts.append(Context(PolicyConfig(**config), "policy"))
        PolicyPlugin().register(contexts[-1])

    yield put
    for context in contexts:
        context.close()


def test_a_session_is_a_span_around_one_for_each_response(server: SocketServer, instrumented: Capture) -> None:
    with client_of(server).realtime.connect(model=MODEL) as connection:
        connection.session.update(session={"type": "realtime", "instructions": "Be brief.", "tools": [TOOL]})
        say(connection, "weather?")
        create(connection)
        connection.conversation.item.create(item=RESULT)
        create(connection)
        say(connection, "sure?")
        create(connection)
    session = session_of(instrumented)
    spans = calls(instrumented)
    assert [span.parent.span_id for span in spans] == [session.context.span_id] * 3
    assert [span.attributes[names.RESPONSE_ID] for span in spans] == ["resp_1", "resp_2", "resp_3"]
    assert {span.attributes["gen_ai.conversation.id"] for span in spans} == {"conv_1"}
    first = spans[0].attributes
    assert (first["gen_ai.usage.input_tokens"], first["gen_ai.usage.output_tokens"]) == (30, 3)
    assert asked(spans[0]) == "weather?"
    assert "get_weather" in first[names.OUTPUT_MESSAGES]
    assert "Be brief." in first["gen_ai.system_instructions"]
    assert said(spans[1]) == "It is 4 degrees."
    roles = [message["role"] for message in json.loads(spans[2].attributes[names.INPUT_MESSAGES])]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]
    assert "AAAA" not in str([span.attributes for span in instrumented.spans])


def test_sound_and_cached_tokens_are_counted_apart(server: SocketServer, instrumented: Capture) -> None:
    with client_of(server).realtime.connect(model=MODEL) as connection:
        create(connection)
    usage = {key: value for key, value in calls(instrumented)[0].attributes.items() if "usage" in key}
    assert {4, 20, 2} <= {*usage.values()}


async def test_async_sessions_are_recorded_alike(server: SocketServer, instrumented: Capture) -> None:
    async with client_of(server, openai.AsyncOpenAI).realtime.connect(model=MODEL) as connection:
        await connection.input_audio_buffer.append(audio="AAAA")
        async for event in connection:
            if event.type == "response.done":
                break
        await connection.response.create()
        async for event in connection:
            if event.type == "response.done":
                break
    assert [said(span) for span in calls(instrumented)] == ["It is 4 degrees."] * 2
    assert {span.status.status_code for span in calls(instrumented)} == {StatusCode.UNSET}


def test_the_beta_is_recorded_alike(server: SocketServer, instrumented: Capture) -> None:
    with client_of(server).beta.realtime.connect(model=MODEL) as connection:
        create(connection)
    assert said(calls(instrumented)[0]) == "It is 4 degrees."


def test_a_response_that_the_server_begins_is_a_call(server: SocketServer, instrumented: Capture) -> None:
    with client_of(server).realtime.connect(model=MODEL) as connection:
        connection.input_audio_buffer.append(audio="AAAA")
        until_over(connection)
    [span] = calls(instrumented)
    assert (asked(span), said(span)) == ("Is it cold?", "It is 4 degrees.")


def test_what_the_client_sends_and_gets_is_what_it_is_without_us(server: SocketServer, capture: Capture) -> None:
    def told() -> tuple[list[Any], list[Any]]:
        begun = len(server.messages)
        with client_of(server).realtime.connect(model=MODEL) as connection:
            connection.send({"type": "something.new", "of": 1})
            say(connection, "hi")
            seen = [event.type for event in create(connection, metadata={"k": "v"})]
            connection.input_audio_buffer.append(audio="AAAA")
            seen += [event.type for event in until_over(connection)]
        return server.messages[begun:], seen

    bare = told()
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    try:
        with use(models(deny=["other"])):
            assert told() == bare
    finally:
        instrumentor.uninstrument()
    assert len(calls(capture)) == 2


def models(**lists: Any) -> Any:
    return guardrail(name="models", kinds=["llm"])(Judge("model", Names(**lists)).model_refusal)


def test_a_denied_model_is_not_named_to_a_session(server: SocketServer, instrumented: Capture) -> None:
    with client_of(server).realtime.connect(model=MODEL) as connection, use(models(deny=["secret-*"])):
        with pytest.raises(GuardrailRejected, match="'secret-1' is denied"):
            connection.session.update(session={"type": "realtime", "model": "secret-1"})
        heard = {"input": {"transcription": {"model": "secret-2"}}}
        with pytest.raises(GuardrailRejected, match="'secret-2' is denied"):
            connection.session.update(session={"type": "realtime", "audio": heard})
        create(connection)
    assert [event["type"] for event in server.events] == ["response.create"]


def test_a_denied_tool_is_not_offered(server: SocketServer, instrumented: Capture, policy: Any) -> None:
    policy(tools=Tools(deny=["get_*"], offered="remove"))
    with client_of(server).realtime.connect(model=MODEL) as connection:
        connection.session.update(session={"type": "realtime", "tools": [TOOL]})
        create(connection, tools=[TOOL], instructions="Be brief.")
    update, asked_for = server.events
    assert update["session"]["tools"] == []
    assert asked_for["response"] == {"tools": [], "instructions": "Be brief."}


def test_offering_a_denied_tool_is_refused(server: SocketServer, instrumented: Capture, policy: Any) -> None:
    policy(tools=Tools(deny=["get_*"], offered="refuse"))
    with client_of(server).realtime.connect(model=MODEL) as connection:
        with pytest.raises(GuardrailRejected, match="get_weather"):
            connection.session.update(session={"type": "realtime", "tools": [TOOL]})
        with pytest.raises(GuardrailRejected, match="get_weather"):
            connection.response.create(response={"tools": [TOOL]})
    assert server.messages == []


def test_the_result_of_a_denied_tool_is_not_sent(server: SocketServer, instrumented: Capture, policy: Any) -> None:
    with client_of(server).realtime.connect(model=MODEL) as connection:
        connection.session.update(session={"type": "realtime", "tools": [TOOL]})
        say(connection, "weather?")
        create(connection)
        policy(tools=Tools(deny=["get_*"]))
        with pytest.raises(GuardrailRejected, match="get_weather"):
            connection.conversation.item.create(item=RESULT)
    assert "function_call_output" not in str(server.messages)


def test_each_response_counts_and_nothing_else_does(server: SocketServer, instrumented: Capture, policy: Any) -> None:
    policy(process=Limits(max_calls=2))
    with client_of(server).realtime.connect(model=MODEL) as connection:
        for _ in range(2):
            say(connection, "weather?")
            create(connection)
        with pytest.raises(GuardrailRejected):
            connection.response.create()


def test_a_response_that_the_server_begins_is_stopped_where_it_is_refused(
    server: SocketServer, instrumented: Capture
) -> None:
    with client_of(server).realtime.connect(model=MODEL) as connection:
        with use(models(deny=["gpt-*"])):
            connection.input_audio_buffer.append(audio="AAAA")
            with pytest.raises(GuardrailRejected, match="is denied"):
                until_over(connection)
        seen = create(connection)
    assert {getattr(event, "response_id", "resp_2") for event in seen} == {"resp_2"}
    assert server.events[1] == {"type": "response.cancel", "response_id": "resp_1"}


async def test_a_response_that_the_server_begins_is_stopped_async(server: SocketServer, instrumented: Capture) -> None:
    async with client_of(server, openai.AsyncOpenAI).realtime.connect(model=MODEL) as connection:
        with use(models(deny=["gpt-*"])):
            await connection.input_audio_buffer.append(audio="AAAA")
            with pytest.raises(GuardrailRejected, match="is denied"):
                async for _ in connection:
                    pass
        await connection.response.create()
        async for event in connection:
            if event.type == "response.done":
                break
    assert event.response.id == "resp_2"


def test_policy_rewrites_what_is_said_and_refuses_to_where_it_cannot(
    server: SocketServer, instrumented: Capture
) -> None:
    @request_intercept
    def masked(call: Any) -> None:
        for message in call.request.messages:
            for part in message.parts:
                part.text = part.text.replace("secret", "***")

    with client_of(server).realtime.connect(model=MODEL) as connection:
        with use(masked):
            say(connection, "a secret")
            create(connection)
        say(connection, "a secret")
        with use(masked), pytest.raises(MiddlewareError, match="cannot change"):
            connection.response.create()
    assert server.events[0]["item"]["content"] == [{"type": "input_text", "text": "a ***"}]
    assert [event["type"] for event in server.events].count("response.create") == 1


def test_a_response_that_fails_or_breaks_off_ends_its_span(server: SocketServer, instrumented: Capture) -> None:
    with client_of(server).realtime.connect(model=MODEL) as connection:
        assert create(connection, instructions="fail")[-1].type == "error"
        create(connection, instructions="interrupt")
        with pytest.raises(ConnectionClosed):
            create(connection, instructions="break")
    failed, interrupted, broken = calls(instrumented)
    assert "no such thing" in (failed.status.description or "")
    assert (interrupted.status.status_code, said(interrupted)) == (StatusCode.UNSET, "It")
    assert {failed.status.status_code, broken.status.status_code} == {StatusCode.ERROR}
    session = session_of(instrumented)
    assert session.status.status_code is StatusCode.ERROR


def test_a_session_comes_out_as_turns(server: SocketServer, instrumented: Capture) -> None:
    with client_of(server).realtime.connect(model=MODEL) as connection:
        for text in ("weather?", "sure?"):
            say(connection, text)
            create(connection)
    [document] = documents_of(instrumented.spans)
    steps: Any = document["steps"]
    assert [(step["source"], step["message"]) for step in steps] == [
        ("user", "weather?"),
        ("agent", "It is 4 degrees."),
        ("user", "sure?"),
        ("agent", "It is 4 degrees."),
    ]
