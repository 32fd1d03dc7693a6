"""LangChain's models of Bedrock: one call of theirs is one span, and policy judges what goes over the wire."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from spanrelay import GuardrailRejected, guardrail, request_intercept, use
from spanrelay.semconv import names
from spanrelay_bedrock import BedrockInstrumentor
from spanrelay_testkit.capture import Capture, asked, at_work, said
from spanrelay_testkit.exchange import Request, raw, reply, tool_call
from spanrelay_testkit.model_server import ModelServer

from .clients import MODEL

langchain_aws = pytest.importorskip("langchain_aws")
ways = pytest.importorskip("spanrelay_langchain")

# What botocore does about the connections of a client that nobody closes, as LangChain's is.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

CLAUDE = "anthropic.claude-3-haiku-20240307-v1:0"


@pytest.fixture
def instrumented(capture: Capture) -> Iterator[Capture]:
    with at_work(capture, BedrockInstrumentor, ways.LangChainInstrumentor):
        yield capture


def model_at(server: ModelServer, **options: Any) -> Any:
    return langchain_aws.ChatBedrockConverse(
        model=MODEL,
        region_name="us-east-1",
        aws_access_key_id="none",
        aws_secret_access_key="none",
        endpoint_url=server.address,
        **options,
    )


@pytest.mark.parametrize("way", ["invoke", "stream", "ainvoke", "astream"])
async def test_a_call_of_a_model_is_one_span(way: str, instrumented: Capture) -> None:
    with ModelServer([reply("Hello there", tool_calls=[tool_call("tide", at="Oslo")])]) as server:
        model = model_at(server)
        if way == "invoke":
            model.invoke("hi")
        elif way == "stream":
            list(model.stream("hi"))
        elif way == "ainvoke":
            await model.ainvoke("hi")
        else:
            [chunk async for chunk in model.astream("hi")]
    span = instrumented.span
    attributes = dict(span.attributes or {})
    assert (asked(span), said(span)) == ("hi", "Hello there")
    assert attributes[names.PROVIDER] == "aws.bedrock"
    assert attributes[names.REQUEST_MODEL] == MODEL
    assert attributes["gen_ai.usage.output_tokens"] > 0
    assert "tide" in attributes[names.OUTPUT_MESSAGES]


@pytest.mark.parametrize("way", ["invoke", "stream"])
def test_policy_runs_once_on_what_is_sent(way: str, instrumented: Capture) -> None:
    judged: list[Any] = []

    @request_intercept(name="redact")
    def redact(call: Any) -> None:
        judged.append(call.codec.__name__)
        call.request.messages[0].parts[0].text = "my ***"

    with ModelServer() as server, use(redact):
        model = model_at(server)
        list(model.stream("my secret")) if way == "stream" else model.invoke("my secret")
    assert judged == ["spanrelay.codecs.bedrock_converse"]
    assert server.requests[0].last_user_text == asked(instrumented.span) == "my ***"


def test_a_refused_call_is_not_sent(instrumented: Capture) -> None:
    with ModelServer() as server, use(guardrail(name="no")(lambda call: "no")), pytest.raises(GuardrailRejected):
        model_at(server).invoke("hi")
    assert server.requests == []


def test_a_model_that_is_asked_by_its_own_body_is_one_span_too(instrumented: Capture) -> None:
    body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-3-haiku",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 3, "output_tokens": 1},
    }

    def answer(request: Request) -> Any:
        return raw(json.dumps(body).encode())

    with ModelServer(answer) as server:
        model = langchain_aws.ChatBedrock(
            model=CLAUDE,
            region_name="us-east-1",
            aws_access_key_id="none",
            aws_secret_access_key="none",
            endpoint_url=server.address,
        )
        assert model.invoke("hi").content == "Hello"
    assert [request.path for request in server.requests] == [f"/model/{CLAUDE}/invoke"]
    assert said(instrumented.span) == "Hello"
    assert (instrumented.span.attributes or {})["gen_ai.usage.input_tokens"] == 3
