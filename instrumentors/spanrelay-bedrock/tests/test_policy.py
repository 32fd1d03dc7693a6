"""Policy holds at Bedrock, for every operation that asks a model, and what it rewrites arrives as it was meant."""

from __future__ import annotations

import base64
import contextlib
import io
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import spanrelay
from spanrelay import GuardrailRejected, execution_intercept, guardrail, request_intercept, use
from spanrelay.errors import MiddlewareError
from spanrelay.plugins.plugin import Context
from spanrelay.plugins.policy import PolicyConfig, PolicyPlugin
from spanrelay.plugins.policy.names import Judge
from spanrelay.plugins.policy.settings import Names, Parameters, Tools
from spanrelay.semconv import names
from spanrelay_bedrock import BedrockInstrumentor
from spanrelay_testkit.capture import Capture, at_work, said
from spanrelay_testkit.contract.outcomes import failure_of
from spanrelay_testkit.exchange import reply, tool_call
from spanrelay_testkit.half import Half
from spanrelay_testkit.model_server import ModelServer

from .clients import MODEL, Events, nova, open_client, said_in, text_of

QUESTION: Any = [{"role": "user", "content": [{"text": "hi"}]}]
SYNC = Half(asynchronous=False)
halves = pytest.mark.parametrize("half", [SYNC, Half(asynchronous=True)], ids=["sync", "async"])


def tool(name: str) -> dict[str, Any]:
    return {"toolSpec": {"name": name, "inputSchema": {"json": {"type": "object"}}}}


@pytest.fixture
def instrumented(capture: Capture) -> Iterator[Capture]:
    with at_work(capture, BedrockInstrumentor):
        yield capture


@contextmanager
def file_of(**config: Any) -> Iterator[None]:
    """Have a configuration of the plugin `policy` in force."""
    context = Context(PolicyConfig(**config), "policy")
    PolicyPlugin().register(context)
    try:
        yield
    finally:
        context.close()


Way = Callable[[Half, Any, str, dict[str, Any]], Awaitable[str]]
"""`(half, client, model, rest of the request) ->` what the model said."""


async def converse(half: Half, client: Any, model: str, rest: dict[str, Any]) -> str:
    return said_in(await half.settle(client.converse(modelId=model, messages=QUESTION, **rest)))


async def converse_stream(half: Half, client: Any, model: str, rest: dict[str, Any]) -> str:
    answer = await half.settle(client.converse_stream(modelId=model, messages=QUESTION, **rest))
    return "".join([text_of(event) async for event in half.each(Events(answer["stream"]))])


def body_of(rest: dict[str, Any]) -> str:
    return json.dumps({**json.loads(nova(QUESTION)), **rest})


async def invoke(half: Half, client: Any, model: str, rest: dict[str, Any]) -> str:
    answer = await half.settle(client.invoke_model(modelId=model, body=body_of(rest)))
    return said_in(json.loads(await half.settle(answer["body"].read())))


async def invoke_stream(half: Half, client: Any, model: str, rest: dict[str, Any]) -> str:
    answer = await half.settle(client.invoke_model_with_response_stream(modelId=model, body=body_of(rest)))
    return "".join([text_of(event) async for event in half.each(Events(answer["body"]))])


WAYS: dict[str, Way] = {
    "converse": converse,
    "converse stream": converse_stream,
    "invoke": invoke,
    "invoke stream": invoke_stream,
}
each_way = pytest.mark.parametrize("way", list(WAYS.values()), ids=list(WAYS))


@halves
@each_way
async def test_a_file_refuses_a_model_and_a_tool_and_sets_a_parameter(
    half: Half, way: Way, instrumented: Capture
) -> None:
    offered = {"toolConfig": {"tools": [tool("tide"), tool("rm")]}}
    config = {
        "models": Names(deny=["secret-*"]),
        "tools": Tools(deny=["rm"], offered="remove"),
        "parameters": {"*": Parameters(temperature=0.25)},
    }
    with ModelServer() as server, file_of(**config):
        client = open_client(half, server.url)
        with pytest.raises(GuardrailRejected, match="'secret-1' is denied"):
            await way(half, client, "secret-1", {})
        assert await way(half, client, MODEL, offered)
        await half.close(client)
    [sent] = server.requests
    assert sent.get("toolConfig") == {"tools": [tool("tide")]}
    assert sent.get("inferenceConfig") == {"temperature": 0.25}
    assert sent.get("messages") == QUESTION
    assert "model" not in sent.body and "stream" not in sent.body


@halves
@each_way
async def test_a_model_that_policy_puts_there_is_the_one_that_is_asked(
    half: Half, way: Way, instrumented: Capture
) -> None:
    @request_intercept(name="smaller")
    def smaller(call: Any) -> None:
        call.request.model = "amazon.nova-micro-v1:0"

    with ModelServer() as server, use(smaller):
        client = open_client(half, server.url)
        assert await way(half, client, MODEL, {})
        await half.close(client)
    assert [request.model for request in server.requests] == ["amazon.nova-micro-v1:0"]
    assert (instrumented.span.attributes or {})[names.REQUEST_MODEL] == "amazon.nova-micro-v1:0"


@pytest.mark.parametrize(
    "model",
    [
        "anthropic.claude-3-opus-20240229-v1:0",
        "us.anthropic.claude-3-opus-20240229-v1:0",
        "global.anthropic.claude-3-opus-20240229-v1:0",
        "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-3-opus-20240229-v1:0",
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-3-opus-20240229-v1:0",
    ],
)
def test_a_model_is_known_by_whatever_names_it(model: str, instrumented: Capture) -> None:
    judged = Judge("model", Names(deny=["anthropic.claude-3-opus*"])).model_refusal
    allowed = Judge("model", Names(allow=["anthropic.claude-3-opus*"])).model_refusal
    with ModelServer() as server:
        client = open_client(SYNC, server.url)
        with use(guardrail(name="models")(judged)), pytest.raises(GuardrailRejected, match="is denied"):
            client.converse(modelId=model, messages=QUESTION)
        with use(guardrail(name="models")(allowed)):
            client.converse(modelId=model, messages=QUESTION)
    assert [request.model for request in server.requests] == [model]


def test_bytes_arrive_as_bytes_when_policy_has_changed_a_text(instrumented: Capture) -> None:
    picture, letter = b"\x89PNG\x00\xff", b"plain text"
    message = {
        "role": "user",
        "content": [
            {"text": "my secret"},
            {"image": {"format": "png", "source": {"bytes": picture}}},
            {"document": {"format": "txt", "name": "letter", "source": {"bytes": letter}}},
        ],
    }
    seen: list[Any] = []

    @request_intercept(name="redact")
    def redact(call: Any) -> None:
        seen.extend(part.data for part in call.request.messages[0].parts[1:])
        call.request.messages[0].parts[0].text = "my ***"

    with ModelServer() as server, use(redact):
        open_client(SYNC, server.url).converse(modelId=MODEL, messages=[message])
    text, image, document = server.requests[0].body["messages"][0]["content"]
    assert text == {"text": "my ***"}
    assert base64.b64decode(image["image"]["source"]["bytes"]) == picture
    assert base64.b64decode(document["document"]["source"]["bytes"]) == letter
    assert [base64.b64decode(data) for data in seen] == [picture, letter]
    assert message["content"][0] == {"text": "my secret"}


def test_a_body_in_a_file_is_judged_and_sent(instrumented: Capture) -> None:
    body = body_of({"toolConfig": {"tools": [tool("rm")]}}).encode()
    with ModelServer() as server:
        client = open_client(SYNC, server.url)
        with (
            file_of(tools=Tools(deny=["rm"], offered="refuse")),
            pytest.raises(GuardrailRejected, match="'rm' is denied"),
        ):
            client.invoke_model(modelId=MODEL, body=io.BytesIO(body))
        client.invoke_model(modelId=MODEL, body=io.BytesIO(body))
    assert server.requests[0].raw == body


@pytest.mark.parametrize(
    "body", [b"no JSON", b'{"messages": [], "messages": []}', b"[]"], ids=["no JSON", "a member twice", "a list"]
)
def test_a_body_that_nobody_can_read_is_refused_while_policy_is_in_force(body: bytes, instrumented: Capture) -> None:
    with ModelServer() as server:
        client = open_client(SYNC, server.url)
        with use(guardrail(name="yes")(lambda call: None)), pytest.raises(MiddlewareError, match="cannot check"):
            client.invoke_model(modelId=MODEL, body=body)
        assert server.requests == []
        with contextlib.suppress(client.exceptions.ClientError):  # this server reads some of them
            client.invoke_model(modelId=MODEL, body=body)
    assert server.requests[0].raw == body


@pytest.mark.parametrize(
    "rest",
    [
        {"tools": [{"name": "rm"}], "toolConfig": {"tools": [tool("tide")]}},
        {"tools": [{"name": "rm"}]},
        {"toolConfig": {"tools": [tool("rm")]}, "anthropic_version": "bedrock-2023-05-31"},
    ],
    ids=["two forms", "tools of others in Nova's", "Nova's tools in Anthropic's"],
)
def test_a_body_that_offers_tools_where_its_form_has_none_is_refused(
    rest: dict[str, Any], instrumented: Capture
) -> None:
    with ModelServer() as server, file_of(tools=Tools(deny=["rm"])), pytest.raises(MiddlewareError, match="its body"):
        open_client(SYNC, server.url).invoke_model(modelId=MODEL, body=body_of(rest))
    assert server.requests == []


@pytest.mark.parametrize(
    "body",
    [
        {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": [], "tools": [{"name": "rm"}]},
        {"messages": [], "tools": [{"type": "function", "function": {"name": "rm"}}]},
        {"message": "hi", "tools": [{"name": "rm", "parameter_definitions": {}}]},
        {"prompt": "hi", "tools": [{"name": "rm"}]},
    ],
    ids=["Anthropic", "Mistral, Jamba, OpenAI", "Cohere", "who knows"],
)
def test_a_tool_is_refused_in_the_body_of_every_maker(body: dict[str, Any], instrumented: Capture) -> None:
    denied = Tools(deny=["rm"], offered="refuse")
    with ModelServer() as server, file_of(tools=denied), pytest.raises(GuardrailRejected, match="'rm' is denied"):
        open_client(SYNC, server.url).invoke_model(modelId=MODEL, body=json.dumps(body))
    assert server.requests == []


@halves
@each_way
async def test_a_call_that_an_answer_asks_for_can_be_refused(half: Half, way: Way, instrumented: Capture) -> None:
    @execution_intercept(name="no rm", buffered=True)
    def no_rm(call: Any) -> Any:
        response = yield call
        if any(asked.name == "rm" for asked in response.record.tool_calls):
            raise GuardrailRejected("the model asks for 'rm'", "no rm")

    with ModelServer([reply("so", tool_calls=[tool_call("rm", path="/")])]) as server, use(no_rm):
        client = open_client(half, server.url)
        with pytest.raises(GuardrailRejected, match="asks for 'rm'"):
            await way(half, client, MODEL, {})
        await half.close(client)
    assert "rm" in str((instrumented.span.attributes or {})[names.OUTPUT_MESSAGES])


@halves
@pytest.mark.parametrize("way", [converse_stream, invoke_stream], ids=["converse", "invoke"])
async def test_a_stream_intercept_changes_what_the_application_reads(
    half: Half, way: Way, instrumented: Capture
) -> None:
    @spanrelay.stream_intercept(name="mask", hold_back=6)
    def mask(call: Any, text: str) -> str:
        return text.replace("secret", "***")

    with ModelServer([reply("a secret word")]) as server, use(mask):
        client = open_client(half, server.url)
        assert await way(half, client, MODEL, {}) == "a *** word"
        await half.close(client)
    assert said(instrumented.span) == "a *** word"


def test_an_answer_of_policy_has_what_botocore_gives(instrumented: Capture) -> None:
    @execution_intercept(name="cache")
    def cached(call: Any) -> Any:
        return {"output": {"message": {"role": "assistant", "content": [{"text": "kept"}]}}, "stopReason": "end_turn"}
        yield call

    with ModelServer() as server, use(cached):
        answer = open_client(SYNC, server.url).converse(modelId=MODEL, messages=QUESTION)
    assert server.requests == []
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert (answer["stopReason"], said_in(answer)) == ("end_turn", "kept")


@pytest.mark.parametrize(
    ("operation", "params"),
    [
        ("invoke_inline_agent", {"foundationModel": "secret-1", "instruction": "x" * 40, "sessionId": "s-1"}),
        (
            "rerank",
            {
                "queries": [{"type": "TEXT", "textQuery": {"text": "hi"}}],
                "sources": [
                    {
                        "type": "INLINE",
                        "inlineDocumentSource": {"type": "TEXT", "textDocument": {"text": "hello"}},
                    }
                ],
                "rerankingConfiguration": {
                    "type": "BEDROCK_RERANKING_MODEL",
                    "bedrockRerankingConfiguration": {
                        "modelConfiguration": {"modelArn": "arn:aws:bedrock:us-east-1::foundation-model/secret-1"}
                    },
                },
            },
        ),
    ],
)
def test_an_operation_of_agents_is_judged_by_the_model_that_it_names(
    operation: str, params: dict[str, Any], instrumented: Capture
) -> None:
    judged = Judge("model", Names(deny=["secret-*"])).model_refusal
    with ModelServer() as server:
        client = open_client(SYNC, server.url, "bedrock-agent-runtime")
        if not hasattr(client, operation):
            pytest.skip("this botocore does not know the operation")
        with use(guardrail(name="models")(judged)), pytest.raises(GuardrailRejected, match="is denied"):
            getattr(client, operation)(**params)
    assert server.requests == []


PLACES: dict[str, Any] = {
    "jobName": "j",
    "roleArn": "arn:aws:iam::123456789012:role/r",
    "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": "s3://bucket/out"}},
}


def test_a_batch_is_judged_by_its_model_and_the_keeping_of_models_is_nobodys_call(instrumented: Capture) -> None:
    judged = Judge("model", Names(deny=["secret-*"])).model_refusal
    with ModelServer() as server, use(guardrail(name="models")(judged)):
        client = open_client(SYNC, server.url, "bedrock")
        source = {"s3InputDataConfig": {"s3Uri": "s3://bucket/in"}}
        with pytest.raises(GuardrailRejected, match="is denied"):
            client.create_model_invocation_job(modelId="secret-1", inputDataConfig=source, **PLACES)
        assert server.requests == []
        with pytest.raises(client.exceptions.ClientError):  # this server keeps none
            client.get_foundation_model(modelIdentifier="secret-1")
    assert len(server.requests) == 1


def test_a_model_that_a_body_names_beside_its_id_is_judged_too(instrumented: Capture) -> None:
    judged = Judge("model", Names(deny=["secret-*"])).model_refusal
    with ModelServer() as server, use(guardrail(name="models")(judged)):
        client = open_client(SYNC, server.url)
        with pytest.raises(GuardrailRejected, match="'secret-1' is denied"):
            client.invoke_model(modelId="openai.x", body=b'{"model": "secret-1", "messages": []}')
    assert server.requests == []


def test_the_keeping_of_sessions_is_nobodys_call(instrumented: Capture) -> None:
    with ModelServer() as server, use(guardrail(name="no")(lambda call: "no")):
        client = open_client(SYNC, server.url, "bedrock-agent-runtime")
        with pytest.raises(client.exceptions.ClientError):  # this server keeps none
            client.get_agent_memory(agentId="A", agentAliasId="B", memoryId="s-1", memoryType="SESSION_SUMMARY")
    assert len(server.requests) == 1
    assert instrumented.spans == ()


async def test_a_policy_may_not_turn_a_call_into_a_stream(instrumented: Capture) -> None:
    @request_intercept(name="stream")
    def stream(call: Any) -> None:
        call.request.stream = True

    with ModelServer() as server, use(stream):
        client = open_client(SYNC, server.url)
        error = await failure_of(SYNC, lambda: client.converse(modelId=MODEL, messages=QUESTION))
    assert isinstance(error, MiddlewareError)
    assert server.requests == []


@halves
@pytest.mark.parametrize("way", [converse, converse_stream])
async def test_tools_and_parameters_in_fields_of_the_models_own_are_judged(
    half: Half, way: Way, instrumented: Capture
) -> None:
    own = {"tools": [{"type": "computer_20250124", "name": "computer"}], "max_tokens": 9000, "top_k": 3}
    rest = {"inferenceConfig": {"maxTokens": 64}, "additionalModelRequestFields": own}
    with ModelServer() as server:
        client = open_client(half, server.url)
        with file_of(tools=Tools(deny=["computer"])), pytest.raises(GuardrailRejected, match="'computer' is denied"):
            await way(half, client, MODEL, rest)
        with file_of(tools=Tools(deny=["computer"], offered="remove"), parameters={"*": Parameters(max_tokens=64)}):
            assert await way(half, client, MODEL, rest)
        with file_of(models=Names(deny=["secret-*"])), pytest.raises(GuardrailRejected, match="'secret-1' is denied"):
            await way(half, client, MODEL, {"additionalModelRequestFields": {"fallbacks": ["secret-1"]}})
        await half.close(client)
    [sent] = server.requests
    assert sent.get("inferenceConfig") == {"maxTokens": 64}
    assert sent.get("additionalModelRequestFields") == {"top_k": 3}
