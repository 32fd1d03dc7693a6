"""What only this SDK does: a call ends with the method that asked; a policy file governs models, tools, parameters."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from mistralai.client import Mistral, errors
from mistralai.client.models import AssistantMessage
from opentelemetry.trace import StatusCode

from spanrelay.errors import GuardrailRejected, MiddlewareError
from spanrelay.semconv import names
from spanrelay_mistral import MistralInstrumentor
from spanrelay_testkit.capture import Capture, at_work, said
from spanrelay_testkit.exchange import Answer, error, raw, reply
from spanrelay_testkit.half import Half
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.policy import in_force

QUESTION: Any = [{"role": "user", "content": "hi"}]
TOOL: Any = {"type": "function", "function": {"name": "delete_all", "parameters": {"type": "object", "properties": {}}}}
HALVES = pytest.mark.parametrize("half", [Half(asynchronous=False), Half(asynchronous=True)], ids=["sync", "async"])


@pytest.fixture
def instrumented(capture: Capture, caplog: pytest.LogCaptureFixture) -> Iterator[Capture]:
    with at_work(capture, MistralInstrumentor, log=caplog):
        yield capture


FILE = """
[plugins.policy]
models.deny = ["secret-*"]
tools.deny = ["delete_*"]
tools.offered = "refuse"
[plugins.policy.parameters."*"]
temperature = 0.25
"""


@pytest.fixture
def governed(tmp_path: Path) -> Iterator[None]:
    """`FILE` in force."""
    with in_force(tmp_path, FILE):
        yield


@contextlib.asynccontextmanager
async def talking(half: Half, script: Any) -> AsyncGenerator[tuple[ModelServer, Mistral]]:
    with ModelServer(script) as server:
        async with half.entered(Mistral(api_key="none", server_url=server.url.removesuffix("/v1"))) as client:
            yield server, client


async def ask(half: Half, client: Mistral, resource: str = "chat", method: str = "complete", **options: Any) -> Any:
    name = f"{method}_async" if half.asynchronous else method
    answer = await half.settle(getattr(getattr(client, resource), name)(**{"messages": QUESTION, **options}))
    if method == "stream":
        async with half.entered(answer) as stream:
            return [event async for event in half.each(stream)]
    return answer


@HALVES
@pytest.mark.parametrize(
    ("answer", "raised"),
    [
        (error(422), errors.HTTPValidationError),
        (error(500), errors.SDKError),
        (raw(b'{"choices": 1}'), errors.ResponseValidationError),
        (raw(b"<html>", "text/html"), errors.SDKError),
    ],
    ids=["422", "500", "JSON of another shape", "HTML"],
)
async def test_the_span_says_which_exception_the_application_got(
    half: Half, answer: Answer, raised: type[Exception], instrumented: Capture
) -> None:
    async with talking(half, [answer]) as (_, client):
        with pytest.raises(Exception) as caught:
            await ask(half, client, model="m")
    kind = type(caught.value)
    assert kind is raised
    span = instrumented.span
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})[names.ERROR_TYPE] == f"{kind.__module__}.{kind.__qualname__}"


@HALVES
async def test_an_agents_completion_is_a_chat_without_a_model_of_its_own(half: Half, instrumented: Capture) -> None:
    async with talking(half, [reply("done")]) as (server, client):
        await ask(half, client, "agents", agent_id="ag-1")
        [request] = server.requests
    assert request.body["agent_id"] == "ag-1"
    assert instrumented.span.name == "chat"
    assert said(instrumented.span) == "done"


@HALVES
@pytest.mark.parametrize("method", ["complete", "stream"])
async def test_a_file_refuses_a_model_and_a_tool_and_sets_a_parameter(
    half: Half, method: str, instrumented: Capture, governed: None
) -> None:
    async with talking(half, lambda request: reply("ok")) as (server, client):
        with pytest.raises(GuardrailRejected):
            await ask(half, client, method=method, model="secret-1")
        with pytest.raises(GuardrailRejected):
            await ask(half, client, method=method, model="m", tools=[TOOL])
        assert server.requests == []
        await ask(half, client, method=method, model="m")
        [request] = server.requests
    assert request.body["temperature"] == 0.25


@HALVES
async def test_a_message_of_the_sdks_own_type_is_read_from_what_it_became(half: Half, instrumented: Capture) -> None:
    history = [*QUESTION, AssistantMessage(content="earlier"), {"role": "user", "content": "and now?"}]
    async with talking(half, [reply("later")]) as (_, client):
        await ask(half, client, model="m", messages=history)
    told = (instrumented.span.attributes or {})[names.INPUT_MESSAGES]
    assert "earlier" in str(told)
    assert "and now?" in str(told)


def given(client: Any, half: Half, resource: str, method: str) -> Any:
    for name in resource.split("."):
        client = getattr(client, name)
    return getattr(client, f"{method}_async" if half.asynchronous else method)


@HALVES
async def test_the_model_in_a_form_is_judged_and_the_form_sent_as_it_is(
    half: Half, instrumented: Capture, governed: None
) -> None:
    told: Any = {"file_name": "a.wav", "content": b"RIFF" * 9}
    answer = {"model": "m", "text": "hello", "segments": [], "language": "en"}
    answer["usage"] = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    async with talking(half, lambda request: raw(json.dumps(answer).encode())) as (server, client):
        ask_it = given(client, half, "audio.transcriptions", "complete")
        with pytest.raises(GuardrailRejected):
            await half.settle(ask_it(model="secret-1", file=told))
        assert server.requests == []
        found = await half.settle(ask_it(model="m", file=told))
        [request] = server.requests
    assert found.text == "hello"
    assert b"RIFF" * 9 in request.raw
    attributes = instrumented.spans[-1].attributes or {}
    assert (attributes[names.REQUEST_MODEL], attributes[names.INPUT_TOKENS[0]]) == ("m", 3)


JUDGE: Any = {
    "name": "j",
    "description": "d",
    "model_name": "secret-1",
    "instructions": "i",
    "tools": [],
    "output": {"type": "CLASSIFICATION", "options": [{"value": "good", "description": "good"}]},
}


@HALVES
@pytest.mark.parametrize(
    ("resource", "method", "asked"),
    [
        ("audio.transcriptions", "complete", {"model": "secret-1", "file_url": "https://example.com/a.wav"}),
        ("beta.agents", "update", {"agent_id": "a", "model": "secret-1"}),
        ("beta.agents", "update", {"agent_id": "a", "tools": [TOOL]}),
        ("batch.jobs", "create", {"endpoint": "/v1/chat/completions", "model": "m", "body": {"model": "secret-1"}}),
        ("batch.jobs", "create", {"endpoint": "/v1/chat/completions", "model": "m", "body": {"tools": [TOOL]}}),
        ("chat", "complete", {"model": "m", "guardrails": [{"moderation_llm_v1": {"model_name": "secret-1"}}]}),
        ("audio.sessions", "create", {"llm": {"model": "secret-1"}}),
        ("audio.agents", "create", {"name": "a", "configuration": {"tts": {"model": "secret-1"}}}),
        ("audio.agents", "create", {"name": "a", "configuration": {"tools": [TOOL]}}),
        ("beta.observability.datasets.records", "judge", {"dataset_record_id": "d", "judge_definition": JUDGE}),
    ],
    ids=[
        *("form", "agent", "agent's tool", "batch", "tool of a batch", "guardrail", "voices", "voice of an agent"),
        *("tool of an agent that speaks", "judge"),
    ],
)
async def test_what_is_denied_is_not_sent_wherever_a_request_names_it(
    resource: str, method: str, asked: dict[str, Any], half: Half, instrumented: Capture, governed: None
) -> None:
    async with talking(half, lambda request: reply("ok")) as (server, client):
        if "body" in asked:
            asked = {**asked, "requests": [{"custom_id": "1", "body": {"messages": QUESTION, **asked["body"]}}]}
            del asked["body"]
        options = {"messages": QUESTION, **asked} if resource == "chat" else asked
        with pytest.raises(GuardrailRejected, match="denied by"):
            await half.settle(given(client, half, resource, method)(**options))
        assert server.requests == []


@HALVES
async def test_what_policy_sets_is_set_in_each_request_of_a_batch(
    half: Half, instrumented: Capture, tmp_path: Path
) -> None:
    with in_force(tmp_path, '[plugins.policy.parameters."m"]\nmax_tokens = 10\nseed = 7\n'):
        async with talking(half, lambda request: error(404)) as (server, client):
            bodies = [{"messages": QUESTION, "max_tokens": 900}, {"messages": QUESTION, "model": "other"}]
            asked: Any = [{"custom_id": str(number), "body": body} for number, body in enumerate(bodies)]
            create = given(client, half, "batch.jobs", "create")
            with pytest.raises(errors.SDKError):  # this server keeps no batches
                await half.settle(create(endpoint="/v1/chat/completions", model="m", requests=asked))
            [request] = server.requests
    sent = [each["body"] for each in request.body["requests"]]
    assert sent == [{"messages": QUESTION, "max_tokens": 10, "random_seed": 7}, bodies[1]]


@HALVES
async def test_a_model_that_the_query_names_is_judged_too(half: Half, instrumented: Capture, governed: None) -> None:
    with ModelServer(lambda request: reply("ok")) as server:
        kind = httpx.AsyncClient if half.asynchronous else httpx.Client
        async with half.entered(kind(params={"model": "secret-1"})) as http:
            own: Any = {"async_client" if half.asynchronous else "client": http}
            client = Mistral(api_key="none", server_url=server.address, **own)
            with pytest.raises(GuardrailRejected, match="'secret-1' is denied"):
                await ask(half, client, model="m")
    assert server.requests == []


LINE = b'{"body": {"model": "secret-1"}}\n'


@HALVES
@pytest.mark.parametrize(
    ("content", "error"),
    [
        (LINE, GuardrailRejected),
        (b'{"body": {"tools": [{"type": "function", "function": {"name": "delete_all"}}]}}', GuardrailRejected),
        (b"{", MiddlewareError),
    ],
    ids=["model", "tool", "what is not JSON"],
)
async def test_the_file_of_a_batch_is_judged_where_it_is_uploaded(
    content: bytes, error: type[Exception], half: Half, instrumented: Capture, governed: None
) -> None:
    async with talking(half, lambda request: reply("ok")) as (server, client):
        upload: Any = given(client, half, "files", "upload")
        with pytest.raises(error):
            await half.settle(upload(file={"file_name": "b.jsonl", "content": content}, purpose="batch"))
        assert server.requests == []
        for purpose, sent in (("batch", LINE.replace(b"secret", b"open")), ("ocr", content)):
            with pytest.raises(errors.SDKError):  # this server keeps no files
                await half.settle(upload(file={"file_name": "b.jsonl", "content": sent}, purpose=purpose))
            assert sent in server.requests[-1].raw


ENTRIES = [
    {"type": "function.call", "tool_call_id": "c-1", "name": "delete_all", "arguments": '{"of": 1}', "object": "entry"},
    {"type": "message.output", "content": "Done.", "role": "assistant", "object": "entry", "model": "m"},
]
USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
CONVERSATION = {
    "object": "conversation.response",
    "conversation_id": "conv-1",
    "outputs": ENTRIES,
    "usage": USAGE,
}
EVENTS = [
    {"type": "conversation.response.started", "conversation_id": "conv-1"},
    {
        "type": "function.call.delta",
        "id": "e-1",
        "output_index": 0,
        "name": "delete_all",
        "tool_call_id": "c-1",
        "arguments": '{"of"',
    },
    {
        "type": "function.call.delta",
        "id": "e-1",
        "output_index": 0,
        "name": "delete_all",
        "tool_call_id": "c-1",
        "arguments": ": 1}",
    },
    {"type": "message.output.delta", "id": "e-2", "output_index": 1, "role": "assistant", "content": "Do"},
    {"type": "message.output.delta", "id": "e-2", "output_index": 1, "role": "assistant", "content": "ne."},
    {"type": "conversation.response.done", "usage": USAGE},
]


def conversation(request: Any) -> Answer:
    if request.get("stream"):
        frames = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in EVENTS)
        return raw(frames.encode(), "text/event-stream")
    return raw(json.dumps(CONVERSATION).encode())


async def say(half: Half, client: Any, method: str, *, stream: bool = False, **options: Any) -> Any:
    answer = await half.settle(
        given(client, half, "beta.conversations", f"{method}_stream" if stream else method)(**options)
    )
    if stream:
        async with half.entered(answer) as events:
            return [event async for event in half.each(events)]
    return answer


STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@HALVES
@STREAMED
async def test_each_request_in_a_conversation_is_a_call_that_policy_judges(
    half: Half, stream: bool, instrumented: Capture, governed: None
) -> None:
    async with talking(half, conversation) as (server, client):
        for refused in (
            {"model": "secret-1"},
            {"model": "m", "tools": [TOOL]},
            {"model": "m", "tools": [{"type": "connector", "connector_id": "delete_things"}]},
            {
                "model": "m",
                "tools": [
                    {"type": "connector", "connector_id": "things", "tool_configuration": {"include": ["delete_all"]}}
                ],
            },
        ):
            with pytest.raises(GuardrailRejected):
                await say(half, client, "start", stream=stream, inputs="hi", **refused)
        assert server.requests == []
        await say(half, client, "start", stream=stream, model="m", inputs="hi")
        result: Any = [{"type": "function.result", "tool_call_id": "c-1", "result": "gone"}]
        allowed: Any = [{"tool_call_id": "c-1", "confirmation": "allow"}]
        for refused in ({"inputs": result}, {"inputs": "go", "tool_confirmations": allowed}):
            with pytest.raises(GuardrailRejected, match="delete_all"):
                await say(half, client, "append", stream=stream, conversation_id="conv-1", **refused)
        await say(half, client, "append", stream=stream, conversation_id="conv-1", inputs="and?")
        await say(half, client, "restart", stream=stream, conversation_id="conv-1", from_entry_id="e", inputs="or?")
    assert [request.body["completion_args"]["temperature"] for request in server.requests] == [0.25] * 3
    spans = [span for span in instrumented.spans if names.OUTPUT_MESSAGES in (span.attributes or {})]
    assert len(spans) == 3
    for span in spans:
        attributes = span.attributes or {}
        assert said(span) == "Done."
        assert '"id":"c-1","name":"delete_all","arguments":{"of":1}' in str(attributes[names.OUTPUT_MESSAGES])
        assert (attributes[names.INPUT_TOKENS[0]], attributes[names.OUTPUT_TOKENS[0]]) == (7, 2)


@HALVES
@pytest.mark.parametrize("resource", ["chat", "fim"])
async def test_what_policy_sets_has_the_keys_that_mistral_knows(
    half: Half, resource: str, instrumented: Capture, tmp_path: Path
) -> None:
    said_by_us: Any = {"prompt": "def f("} if resource == "fim" else {"messages": QUESTION}
    answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "usage": USAGE}
    answer["choices"] = [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "x):"}}]
    with in_force(tmp_path, '[plugins.policy.parameters."*"]\nmax_tokens = 10\nseed = 7\n'):
        async with talking(half, lambda request: raw(json.dumps(answer).encode())) as (server, client):
            await half.settle(given(client, half, resource, "complete")(model="m", **said_by_us))
            [request] = server.requests
    assert {key: request.body[key] for key in ("max_tokens", "random_seed")} == {"max_tokens": 10, "random_seed": 7}
    assert not {"max_completion_tokens", "seed"} & set(request.body)
    assert said(instrumented.span) == "x):"
