"""Every recorded exchange with OpenAI goes through the real SDK once more: caller and provider see nothing of us.

The span says what the exchange's neutral ground truth says, read from attributes as a collector gets them.
"""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import openai
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode
from tests.shared_data import exchanges, needs_shared

from spanrelay._json import loads_or_text
from spanrelay.semconv import names
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.exchange import DEPLOYMENT, Answer, Request, raw
from spanrelay_testkit.half import Half
from spanrelay_testkit.model_server import ModelServer

Exchange = dict[str, Any]

CASES: list[Exchange] = [*exchanges("openai_*.jsonl"), *exchanges("azure_openai_*.jsonl")]
CREATE: dict[str, Callable[[Any], Callable[..., Any]]] = {
    "chat_completions": lambda client: client.chat.completions.create,
    "responses": lambda client: client.responses.create,
    "completions": lambda client: client.completions.create,
    "embeddings": lambda client: client.embeddings.create,
    "images": lambda client: client.images.generate,
}
USAGE = {
    "input_tokens": names.INPUT_TOKENS[0],
    "output_tokens": names.OUTPUT_TOKENS[0],
    "cached_input_tokens": names.CACHE_READ_TOKENS[0],
    "cache_creation_input_tokens": names.CACHE_WRITE_TOKENS[0],
    "reasoning_tokens": names.REASONING_TOKENS[0],
    "total_tokens": names.TOTAL_TOKENS[0],
}

pytestmark = needs_shared


def identity(exchange: Exchange) -> str:
    return exchange["id"]


def half_of(exchange: Exchange) -> Half:
    """Async for every third exchange."""
    return Half(asynchronous=CASES.index(exchange) % 3 == 0)


def answer_of(exchange: Exchange) -> Answer:
    """What the provider answered, streams event by event."""
    response = exchange["response"]
    body = response["body"]
    content = body.encode() if isinstance(body, str) else json.dumps(body, ensure_ascii=False).encode()
    return raw(content, response["headers"]["content-type"], response["status"])


def client_of(exchange: Exchange, server: ModelServer) -> Any:
    """A client that asks for the recorded path."""
    colour = "Async" if half_of(exchange).asynchronous else ""
    url = urlsplit(exchange["request"]["path"])
    if not exchange["provider"].startswith("azure"):
        return getattr(openai, f"{colour}OpenAI")(base_url=server.url, api_key="none", max_retries=0)
    deployment = DEPLOYMENT.search(url.path)
    place: dict[str, Any] = {"base_url": f"{server.address}/openai/v1"}
    if deployment is not None:
        place = {"azure_endpoint": server.address, "azure_deployment": deployment.group(1)}
    version = parse_qs(url.query).get("api-version", ["preview"])[0]
    return getattr(openai, f"{colour}AzureOpenAI")(api_version=version, api_key="none", max_retries=0, **place)


async def ask(exchange: Exchange, client: Any) -> list[Any]:
    """Make the recorded call; returns what the SDK handed out: an answer, a stream and its chunks, or its error."""
    half, create = half_of(exchange), CREATE[exchange["api"]](client)
    known = inspect.signature(create).parameters
    body = exchange["request"]["body"]
    arguments = {name: value for name, value in body.items() if name in known}
    rest = {name: value for name, value in body.items() if name not in known}
    try:
        answer = await half.settle(create(**arguments, extra_body=rest or None))
        if not body.get("stream"):
            return [plain(answer)]
        return [type(answer), *[plain(chunk) async for chunk in half.each(answer)]]
    except openai.APIError as error:
        return [type(error), str(error), error.body, getattr(error, "status_code", None)]


def plain(answer: Any) -> tuple[type, Any]:
    return type(answer), answer.model_dump(warnings=False)


@contextlib.asynccontextmanager
async def replaying(exchange: Exchange) -> AsyncGenerator[tuple[ModelServer, Any]]:
    """A provider that answers as it did, and a client of it."""
    with ModelServer(lambda request: answer_of(exchange)) as server:
        client = client_of(exchange, server)
        yield server, client
        await half_of(exchange).close(client)


@contextlib.contextmanager
def instrumented(capture: Capture) -> Generator[None]:
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    try:
        yield
    finally:
        instrumentor.uninstrument()


@pytest.mark.parametrize("exchange", CASES, ids=identity)
async def test_caller_and_provider_see_nothing_of_us_and_the_span_says_what_was_said(
    exchange: Exchange, capture: Capture
) -> None:
    async with replaying(exchange) as (server, client):
        told_bare = await ask(exchange, client)
        with instrumented(capture):
            assert await ask(exchange, client) == told_bare
    check_requests(exchange, *server.requests)
    if exchange["api"] == "images":
        assert capture.span.name == f"generate_content {exchange['request']['body']['model']}"
    else:
        check_span(capture.span, exchange)


def check_requests(exchange: Exchange, bare: Request, ours: Request) -> None:
    """Both are the same, byte by byte, and ask what was asked when the exchange was recorded."""
    assert ours.raw == bare.raw
    assert (ours.path, ours.query) == (bare.path, bare.query)
    assert list(ours.headers) == list(bare.headers)
    assert bare.path == urlsplit(exchange["request"]["path"]).path
    assert bare.body.items() >= exchange["request"]["body"].items()


def check_span(span: ReadableSpan, exchange: Exchange) -> None:
    """The span says what the ground truth says."""
    truth, attributes = exchange["truth"], dict(span.attributes or {})
    assert attributes[names.PROVIDER] == ("azure.ai.openai" if "azure" in exchange["provider"] else "openai")
    assert attributes[names.REQUEST_MODEL] == exchange["request"]["body"]["model"]
    assert attributes.get(names.REQUEST_STREAM, False) is truth["streamed"]
    assert attributes.get(names.RESPONSE_MODEL) == truth["response_model"]
    assert attributes.get(names.RESPONSE_ID) == truth["response_id"]
    assert {field: attributes.get(name) for field, name in USAGE.items()} == {field: truth[field] for field in USAGE}
    assert list(attributes.get(names.FINISH_REASONS, ())) == finish_reasons(exchange)
    assert names.INCOMPLETE not in attributes
    check_messages(attributes, truth)
    check_error(span.status.status_code, attributes, truth)


def finish_reasons(exchange: Exchange) -> list[str]:
    """The ground truth's in OpenTelemetry's words; the Responses API has a status instead."""
    truth = exchange["truth"]
    if exchange["api"] != "responses":
        return list(truth["finish_reasons"])
    if truth.get("status") != "completed":
        return []
    return ["tool_calls" if truth["tool_calls"] else "stop"]


def check_messages(attributes: Mapping[str, Any], truth: Mapping[str, Any]) -> None:
    messages = json.loads(attributes.get(names.OUTPUT_MESSAGES, "[]"))
    for message, choice in zip(messages, truth["choices"] or [truth], strict=False):
        assert joined(message, "text", "content") == choice["text"]
        # The ground truth runs paragraphs of a summary together.
        assert joined(message, "reasoning", "content").replace("\n", "") == choice["reasoning_text"].replace("\n", "")
        assert joined(message, "refusal", "refusal") == (choice["refusal"] or "")
        assert tool_calls(message) == [
            (call["id"], call["name"], loads_or_text(call["arguments_raw"])) for call in choice["tool_calls"]
        ]
    said = [choice for choice in truth["choices"] or [truth] if choice["text"] or choice["tool_calls"]]
    assert len(messages) >= len(said)


def joined(message: Mapping[str, Any], kind: str, key: str) -> str:
    return "".join(part[key] for part in message["parts"] if part["type"] == kind)


def tool_calls(message: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    return [(part["id"], part["name"], part["arguments"]) for part in message["parts"] if part["type"] == "tool_call"]


def check_error(status: StatusCode, attributes: Mapping[str, Any], truth: Mapping[str, Any]) -> None:
    error = truth["error"]
    if error is None:
        assert status is StatusCode.UNSET
        assert names.ERROR_TYPE not in attributes
        return
    assert status is StatusCode.ERROR
    assert attributes[names.HTTP_STATUS_CODE] == error["http_status"]
    assert attributes.get(names.ERROR_CODE) == error["code"]
    assert attributes[names.ERROR_TYPE].startswith("openai.")
